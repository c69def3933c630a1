//! What the dataplane has learned on its ports: checked once where it enters, and written to the kernel.

use std::net::IpAddr;

use dataplane_api::v1;
use tokio::sync::mpsc;

use crate::error::Error;
use crate::netlink::{Mac, Refusal, Write, WriteSocket};
use crate::topology::PortId;

/// One message of the dataplane's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// The dataplane process that ports are of.
    pub instance: u64,
    /// VNI and MAC: the port it is behind, or that it is gone.
    pub macs: Vec<((u32, Mac), Option<PortId>)>,
    /// VNI and address: the MAC it has, or that it is gone.
    pub neighbors: Vec<((u32, IpAddr), Option<Mac>)>,
    /// With this message everything has been said once.
    pub complete: bool,
}

impl Learned {
    /// Takes what makes sense, and counts the rest.
    #[must_use]
    pub fn from_api(update: v1::LearnedUpdate) -> (Self, usize) {
        let all = update.macs.len() + update.neighbors.len();
        let macs = update.macs.iter().filter_map(|entry| {
            let mac = Mac::from_slice(&entry.mac).filter(|mac| mac.0[0] & 1 == 0)?;
            Some(((entry.vni, mac), (!entry.gone).then_some(entry.port)))
        });
        let neighbors = update.neighbors.iter().filter_map(|entry| {
            let address = address(&entry.address)?;
            let mac = if entry.gone { None } else { Some(Mac::from_slice(&entry.mac)?) };
            Some(((entry.vni, address), mac))
        });
        let learned = Self {
            instance: update.instance,
            macs: macs.collect(),
            neighbors: neighbors.collect(),
            complete: update.complete,
        };
        let odd = all - learned.macs.len() - learned.neighbors.len();
        (learned, odd)
    }
}

/// Of a host: neither the unspecified address nor a group.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let address = <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()?;
    (!address.is_unspecified() && !address.is_multicast()).then_some(address)
}

/// Carries out what comes in, until the sender is dropped, and reports what the kernel refuses. Blocks: it wants a thread of
/// its own, in the router's namespace.
pub fn write(mut writes: mpsc::Receiver<Vec<Write>>, refusals: &mpsc::UnboundedSender<Vec<Refusal>>) {
    let mut socket: Option<WriteSocket> = None;
    while let Some(writes) = writes.blocking_recv() {
        let outcome = carry_out(&mut socket, &writes);
        let refused = outcome.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot write what has been learned; trying again");
            socket = None;
            // What is not known to be written is written again.
            let set = writes.iter().filter(|write| write.is_set());
            set.map(|&write| Refusal { write, errno: libc::EAGAIN }).collect()
        });
        if !refused.is_empty() && refusals.send(refused).is_err() {
            return;
        }
    }
}

fn carry_out(socket: &mut Option<WriteSocket>, writes: &[Write]) -> Result<Vec<Refusal>, Error> {
    let open = match socket {
        Some(open) => open,
        None => socket.insert(WriteSocket::open()?),
    };
    open.carry_out(writes)
        .map_err(|source| Error::Netlink { doing: "write MACs and neighbours that were learned", source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_out_and_counts_what_makes_no_sense() {
        let mac = |mac: &[u8], gone| v1::LearnedMac { vni: 110, mac: mac.to_vec().into(), port: 3, gone };
        let neighbor = |address: &[u8], mac: &[u8], gone| v1::LearnedNeighbor {
            vni: 110,
            address: address.to_vec().into(),
            mac: mac.to_vec().into(),
            gone,
        };
        let host = [2, 0, 0, 0, 0, 1];
        let (learned, odd) = Learned::from_api(v1::LearnedUpdate {
            macs: vec![mac(&host, false), mac(&host, true), mac(&[1, 0, 0, 0, 0, 1], false), mac(&[], false)],
            neighbors: vec![
                neighbor(&[10, 0, 0, 1], &host, false),
                neighbor(&[10, 0, 0, 1], &[], true),
                neighbor(&[10, 0, 0, 1], &[], false),
                neighbor(&[10, 0, 0], &host, false),
                neighbor(&[224, 0, 0, 1], &host, false),
            ],
            complete: true,
            instance: 9,
        });
        let (at, address) = ((110, Mac(host)), (110, IpAddr::from([10, 0, 0, 1])));
        assert_eq!(learned.macs, [(at, Some(3)), (at, None)]);
        assert_eq!(learned.neighbors, [(address, Some(Mac(host))), (address, None)]);
        assert_eq!((learned.instance, learned.complete, odd), (9, true, 5));
    }
}
