use std::{net::IpAddr, process::ExitCode};

use dataplane_api::v1::{ResolveReply, ResolveRequest};
use serde::Serialize;

use super::{Session, explanation::Explained};
use crate::{cli::Format, error::Error, output, text};

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
    #[serde(flatten)]
    explained: Explained,
}

impl Explanation {
    fn new(vrf: String, address: IpAddr, reply: ResolveReply) -> Self {
        Self {
            vrf,
            address,
            prefix: reply.prefix,
            explained: Explained::new(reply.steps, reply.outcome, reply.reason, reply.port, &reply.headers),
        }
    }

    fn words(&self) -> String {
        let mut words = format!("{} in VRF {}\n", self.address, self.vrf);
        self.explained.write(&mut words);
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
    Ok(explanation.explained.exit_code())
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
