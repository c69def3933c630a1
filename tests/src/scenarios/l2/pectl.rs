//! The operator's look at bridge domains.

use serde_json::Value;

use super::settled;
use crate::lab::Lab;
use crate::lab::l2::FRONT;
use crate::lab::plan::vtep;
use crate::traffic::packet::text;
use crate::traffic::ping;
use crate::wait::{LONG, until};
use crate::{Error, Result};

/// pectl shows bridges, MACs, flood lists and suppression for people and as JSON, explains a MAC, and traces a packet.
pub(in super::super) fn shown(lab: &mut Lab) -> Result<()> {
    settled(FRONT)?;
    let node = lab.node(1);
    let (near, far) = (FRONT.station(1, 1), FRONT.station(2, 1));
    let mac = text(far.mac());
    let commands: [(&[&str], Vec<String>); 5] = [
        (&["bridges"], vec!["110".into(), "red".into()]),
        (&["macs", "--vni", "110"], vec![mac.clone(), text(near.mac()), vtep(2).to_string()]),
        (&["flood"], vec![vtep(2).to_string(), vtep(3).to_string()]),
        (&["suppression"], vec![far.v4().to_string(), far.v6().to_string(), FRONT.gateway_v4().to_string()]),
        (&["mac", "get", &mac, "--vni", "110"], vec![vtep(2).to_string(), "110".into()]),
    ];
    for (command, wanted) in commands {
        until(LONG, format!("`pectl {}` to show {wanted:?}", command.join(" ")), || {
            let json = node.pectl(&[&["--output", "json"][..], command].concat())?;
            serde_json::from_str::<Value>(&json).map_err(|error| {
                Error::unexpected(format!("`pectl {command:?}` is not JSON: {error}: {json}"))
            })?;
            let plain = node.pectl(command)?;
            for text in [&json, &plain] {
                if let Some(missing) = wanted.iter().find(|word| !text.contains(*word)) {
                    return Err(Error::unexpected(format!("{missing} is missing in: {text}")));
                }
            }
            Ok(())
        })?;
    }
    traced(lab)
}

/// A trace catches an echo request that a station sends, and says where it went.
fn traced(lab: &Lab) -> Result<()> {
    let (near, far) = (FRONT.station(1, 1), FRONT.station(2, 1));
    let text = std::thread::scope(|scope| {
        let tracer = scope.spawn(|| {
            lab.node(1).pectl(&["--output", "json", "trace", "port pe-e-110 and icmp", "--count", "1"])
        });
        // Until the tracer has caught one.
        while !tracer.is_finished() {
            ping(&near.name(), far.v4().into(), Some(near.v4().into()))?;
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        tracer.join().unwrap_or_else(|_| Err(Error::unexpected("the tracer panicked")))
    })?;
    for wanted in ["pe-e-110", "110", &vtep(2).to_string()] {
        if !text.contains(wanted) {
            return Err(Error::unexpected(format!("{wanted} is missing in the trace: {text}")));
        }
    }
    Ok(())
}
