use std::{fmt::Write as _, process::ExitCode};

use serde::Serialize;

use crate::{decode, text};

/// What would become of a packet, and why.
#[derive(Debug, Serialize)]
pub(super) struct Explained {
    steps: Vec<String>,
    outcome: String,
    reason: String,
    port: String,
    /// Hexadecimal.
    headers: String,
    decoded: Vec<String>,
}

impl Explained {
    /// From the parts of an answer.
    pub(super) fn new(
        steps: Vec<String>,
        outcome: String,
        reason: String,
        port: String,
        headers: &[u8],
    ) -> Self {
        let decoded = decode::headers(headers);
        Self { steps, outcome, reason, port, headers: text::hex(headers, ""), decoded }
    }

    /// Numbered steps, the outcome, and the headers layer by layer.
    pub(super) fn write(&self, words: &mut String) {
        steps(words, &self.steps);
        let with = if self.headers.is_empty() { "" } else { " with" };
        _ = match self.outcome.as_str() {
            "transmit" => writeln!(words, "transmit by {}{with}", self.port),
            outcome if self.reason.is_empty() => writeln!(words, "{outcome}"),
            outcome => writeln!(words, "{outcome}: {}", self.reason),
        };
        for line in &self.decoded {
            _ = writeln!(words, "     {line}");
        }
        if !self.headers.is_empty() {
            _ = writeln!(words, "     = {}", self.headers);
        }
    }

    /// A drop exits with 1: it cannot be reached.
    pub(super) fn exit_code(&self) -> ExitCode {
        if self.outcome == "drop" { ExitCode::from(1) } else { ExitCode::SUCCESS }
    }
}

/// One numbered line a step.
pub(super) fn steps(words: &mut String, steps: &[String]) {
    for (number, step) in steps.iter().enumerate() {
        _ = writeln!(words, "{:>3}. {step}", number + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(outcome: &str, port: &str, headers: &[u8]) -> String {
        let explained =
            Explained::new(vec!["one".into()], outcome.into(), String::new(), port.into(), headers);
        let mut words = String::new();
        explained.write(&mut words);
        words
    }

    #[test]
    fn an_outcome_may_need_no_reason_and_no_headers() {
        assert_eq!(words("flood", "", &[]), "  1. one\nflood\n");
        assert_eq!(words("transmit", "pe-e-110", &[]), "  1. one\ntransmit by pe-e-110\n");
        assert!(words("transmit", "under", &[0; 14]).contains("transmit by under with\n     Ethernet"));
    }
}
