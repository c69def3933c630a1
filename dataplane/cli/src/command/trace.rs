use std::{fmt::Write as _, process::ExitCode};

use dataplane_api::v1::{TraceEntry, TraceRequest};
use serde::Serialize;

use super::{Session, explanation};
use crate::{cli::Format, error::Error, output, text};

const SECONDS_PER_DAY: u64 = 86_400;
/// Bytes of a frame on one line.
const HEX_LINE: usize = 16;

#[derive(Debug, Serialize)]
struct Packet {
    /// Unix time.
    nanoseconds: u64,
    port: String,
    length: u32,
    /// Hexadecimal; the first 256 bytes.
    frame: String,
    steps: Vec<String>,
    outcome: String,
    reason: String,
    ports: Vec<String>,
    /// Packets before this one that matched and are not shown.
    lost: u64,
}

impl Packet {
    fn new(entry: TraceEntry) -> Self {
        Self {
            nanoseconds: entry.nanoseconds,
            port: entry.port,
            length: entry.length,
            frame: text::hex(&entry.frame, ""),
            steps: entry.steps,
            outcome: entry.outcome,
            reason: entry.reason,
            ports: entry.ports,
            lost: entry.lost,
        }
    }

    fn words(&self, hex: bool) -> String {
        let mut words = format!("{} {}, {} bytes\n", clock(self.nanoseconds), self.port, self.length);
        explanation::steps(&mut words, &self.steps);
        _ = match (self.ports.as_slice(), self.reason.as_str()) {
            ([], "") => writeln!(words, "{}", self.outcome),
            ([], reason) => writeln!(words, "{}: {reason}", self.outcome),
            (ports, _) => writeln!(words, "{} by {}", self.outcome, ports.join(", ")),
        };
        if hex {
            let digits = self.frame.as_bytes().chunks(HEX_LINE * 2);
            for (line, digits) in digits.enumerate() {
                let bytes: Vec<_> = digits.chunks(2).map(String::from_utf8_lossy).collect();
                _ = writeln!(words, "     {:04x}  {}", line * HEX_LINE, bytes.join(" "));
            }
        }
        words
    }
}

/// The time of day in UTC, down to microseconds.
fn clock(nanoseconds: u64) -> String {
    let (seconds, rest) = (nanoseconds / 1_000_000_000 % SECONDS_PER_DAY, nanoseconds % 1_000_000_000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{:06}Z", rest / 1000)
}

fn lost(count: u64) -> String {
    format!("{count} more matched and are not shown: too many at once\n")
}

/// Prints packets as they are caught: in JSON one object a line. Exits with 1 when nothing matched.
pub(super) async fn run(session: &Session, request: TraceRequest, hex: bool) -> Result<ExitCode, Error> {
    let seconds = request.seconds;
    let mut entries = session.inspect().trace(request).await?.into_inner();
    let mut any = false;
    while let Some(entry) = entries.message().await? {
        // The end may have nothing but this to say.
        let is_packet = entry.length > 0;
        let packet = Packet::new(entry);
        match session.format {
            Format::Json => output::print_text(&(serde_json::to_string(&packet)? + "\n"))?,
            Format::Table => {
                let mut words = if packet.lost > 0 { lost(packet.lost) } else { String::new() };
                if is_packet {
                    words += &packet.words(hex);
                }
                let between = if any { "\n" } else { "" };
                output::print_text(&format!("{between}{words}"))?;
            }
        }
        any = true;
    }
    if !any {
        eprintln!("pectl: nothing matched in {seconds} s");
        return Ok(ExitCode::from(1));
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_reads_as_its_way() {
        let packet = Packet::new(TraceEntry {
            nanoseconds: 86_400_000_000_000 + 3_723_000_004_000,
            port: "pe-e-110".into(),
            frame: (0..20).collect::<Vec<u8>>().into(),
            length: 60,
            steps: vec!["received".into(), "flood".into()],
            outcome: "replicate".into(),
            ports: vec!["a".into(), "under".into()],
            ..TraceEntry::default()
        });
        assert_eq!(
            packet.words(true),
            "01:02:03.000004Z pe-e-110, 60 bytes\n  1. received\n  2. flood\nreplicate by a, under\n     \
             0000  00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f\n     0010  10 11 12 13\n"
        );
    }

    #[test]
    fn a_drop_says_why() {
        let entry = TraceEntry { outcome: "drop".into(), reason: "no-route".into(), ..Default::default() };
        assert!(Packet::new(entry).words(false).ends_with("\ndrop: no-route\n"));
    }
}
