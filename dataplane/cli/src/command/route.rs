use std::{fmt::Write as _, net::IpAddr, process::ExitCode};

use dataplane_api::v1::{ResolveReply, ResolveRequest};
use serde::Serialize;

use super::Session;
use crate::{cli::Format, decode, error::Error, output, text};

/// What decides among equal-cost paths.
pub(super) struct Flow {
    pub(super) source: Option<IpAddr>,
    pub(super) protocol: u8,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
}

#[derive(Debug, Serialize)]
struct Explanation {
    vrf: String,
    address: IpAddr,
    prefix: String,
    steps: Vec<String>,
    outcome: String,
    reason: String,
    port: String,
    /// Hexadecimal.
    headers: String,
    decoded: Vec<String>,
}

impl Explanation {
    fn new(vrf: String, address: IpAddr, reply: ResolveReply) -> Self {
        Self {
            vrf,
            address,
            prefix: reply.prefix,
            steps: reply.steps,
            outcome: reply.outcome,
            reason: reply.reason,
            port: reply.port,
            headers: text::hex(&reply.headers, ""),
            decoded: decode::headers(&reply.headers),
        }
    }

    fn words(&self) -> String {
        let mut words = format!("{} in VRF {}\n", self.address, self.vrf);
        for (number, step) in self.steps.iter().enumerate() {
            _ = writeln!(words, "{:>3}. {step}", number + 1);
        }
        _ = match self.outcome.as_str() {
            "transmit" => writeln!(words, "transmit by {} with", self.port),
            outcome => writeln!(words, "{outcome}: {}", self.reason),
        };
        for line in &self.decoded {
            _ = writeln!(words, "     {line}");
        }
        if !self.headers.is_empty() {
            _ = writeln!(words, "     = {}", self.headers);
        }
        words
    }
}

/// Explains the resolution of `address`. A drop exits with 1: the address cannot be reached.
pub(super) async fn get(
    session: &Session,
    address: IpAddr,
    vrf: String,
    flow: Flow,
) -> Result<ExitCode, Error> {
    session.known_vrf(&vrf).await?;
    let request = ResolveRequest {
        vrf: vrf.clone(),
        address: text::octets(address).into(),
        source: flow.source.map(text::octets).unwrap_or_default().into(),
        protocol: flow.protocol.into(),
        source_port: flow.source_port.into(),
        destination_port: flow.destination_port.into(),
    };
    let explanation = Explanation::new(vrf, address, session.inspect().resolve(request).await?.into_inner());
    match session.format {
        Format::Json => output::print_json(&explanation)?,
        Format::Table => output::print_text(&explanation.words())?,
    }
    Ok(if explanation.outcome == "drop" { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_says_why() {
        let reply = ResolveReply {
            steps: vec!["VRF red: no route".into()],
            outcome: "drop".into(),
            reason: "no-route".into(),
            ..ResolveReply::default()
        };
        let address = "10.9.9.9".parse().expect("an address");
        let explanation = Explanation::new("red".into(), address, reply);
        assert_eq!(explanation.words(), "10.9.9.9 in VRF red\n  1. VRF red: no route\ndrop: no-route\n");
    }
}
