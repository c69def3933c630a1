use std::process::ExitCode;

use dataplane_api::v1::ResolveMacRequest;
use serde::Serialize;

use super::{Session, explanation::Explained};
use crate::{cli::Format, error::Error, output, text};

#[derive(Debug, Serialize)]
struct Explanation {
    vni: u32,
    mac: String,
    #[serde(flatten)]
    explained: Explained,
}

impl Explanation {
    fn words(&self) -> String {
        let mut words = format!("{} in L2VNI {}\n", self.mac, self.vni);
        self.explained.write(&mut words);
        words
    }
}

/// Explains what becomes of a frame for `mac`. A drop exits with 1.
pub(super) async fn get(session: &Session, mac: [u8; 6], vni: u32) -> Result<ExitCode, Error> {
    let request = ResolveMacRequest { vni: session.known_l2vni(Some(vni)).await?, mac: mac.to_vec().into() };
    let reply = session.inspect().resolve_mac(request).await?.into_inner();
    let explained = Explained::new(reply.steps, reply.outcome, reply.reason, reply.port, &reply.headers);
    let explanation = Explanation { vni, mac: text::mac(&mac), explained };
    match session.format {
        Format::Json => output::print_json(&explanation)?,
        Format::Table => output::print_text(&explanation.words())?,
    }
    Ok(explanation.explained.exit_code())
}
