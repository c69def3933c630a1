//! Neighbour upkeep: traffic that the dataplane forwards is invisible to the kernel, so its neighbours would age. Each is
//! "used" once per round when it has become stale, which makes the kernel ask; one that does not answer goes.

use std::hash::BuildHasher;
use std::net::IpAddr;

use netlink_packet_route::neighbour::{NeighbourFlags, NeighbourState};
use rtnetlink::Handle;
use tokio::sync::mpsc;

/// Seconds of a round.
pub const ROUND: u64 = 30;

/// Whether the neighbour's turn is in second `second`: spread evenly over a round, always at the same place.
#[must_use]
pub fn is_due(ifindex: u32, address: IpAddr, second: u64) -> bool {
    // A fixed seed: the place must be the same at every look.
    let hash = foldhash::fast::FixedState::default().hash_one((ifindex, address));
    hash % ROUND == second % ROUND
}

/// Uses what comes in, until the sender is dropped.
pub async fn run(handle: Handle, mut neighbors: mpsc::Receiver<Vec<(u32, IpAddr)>>) {
    while let Some(neighbors) = neighbors.recv().await {
        for (ifindex, address) in neighbors {
            let request = handle
                .neighbours()
                .add(ifindex, address)
                .state(NeighbourState::None)
                .flags(NeighbourFlags::Use)
                .replace();
            if let Err(error) = request.execute().await {
                tracing::debug!(ifindex, %address, %error, "cannot probe a neighbour");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_has_a_turn_in_every_round_and_not_all_the_same() {
        let mut by_second = vec![0; 30];
        for host in 1..=255u8 {
            let address = IpAddr::from([10, 0, 0, host]);
            let turns: Vec<u64> = (600..600 + ROUND).filter(|&second| is_due(7, address, second)).collect();
            assert_eq!(turns.len(), 1, "{address}");
            assert!(is_due(7, address, turns[0] + ROUND));
            by_second[usize::try_from(turns[0] - 600).expect("small")] += 1;
        }
        assert!(by_second.iter().all(|&count| count < 40), "{by_second:?}");
    }
}
