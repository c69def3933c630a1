//! Workers at work while everything changes: each packet leaves by the old state or by the new one, never by a mixture.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use forwarding::{
    Buffer, Packet, Path, PortId, Reason, Verdict, Vni, VniConfig, VrfId, WeightedPath, Worker,
};

use crate::frames::{Ip, frame};
use crate::lab::{Lab, ip, mac, set_route};

/// Changes, and packets sent by each worker meanwhile, at least.
const ROUNDS: u32 = 100_000;
const PACKETS: u64 = 100_000;

/// Inner source, inner destination and outer destination that belong together, by the router MAC's last byte.
fn is_whole(out: &[u8]) -> bool {
    let (vtep, theirs, ours) = (out[33], out[55], out[61]);
    matches!((vtep, theirs), (2, 0x21) | (7, 0x27)) && matches!(ours, 0x20 | 0x2f)
}

fn work(worker: &mut Worker, frames: &[Vec<u8>], port: PortId, stop: &AtomicBool, sent: &AtomicU64) {
    let _stop = StopOnDrop(stop);
    while !stop.load(Ordering::Relaxed) {
        let mut packets: Vec<Buffer> = frames.iter().map(|frame| Buffer::new(frame)).collect();
        let mut verdicts = vec![Verdict::Drop(Reason::TxFull); packets.len()];
        worker.process(port, &mut packets, &mut verdicts);
        worker.quiescent();
        for (packet, verdict) in packets.iter().zip(&verdicts) {
            let out = packet.data();
            match verdict {
                Verdict::Transmit(port) => {
                    sent.fetch_add(1, Ordering::Relaxed);
                    assert!(is_whole(out), "{out:02x?}");
                    let neighbor = (port.0, out[5], out[11]);
                    assert!(matches!(neighbor, (0, 0x41, 0x10) | (1, 0x42, 0x11)), "{neighbor:02x?}");
                }
                Verdict::HandOver(Reason::UnresolvedVni | Reason::UnresolvedVtep) => {}
                verdict => panic!("{verdict:?}"),
            }
        }
    }
}

/// Whoever fails ends the others too.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn packets_never_see_a_mixture() {
    let mut lab = Lab::new();
    let red = lab.tenants[0].vrf;
    let vni = Vni::new(100).unwrap();
    let config = *lab.control.vnis().find(|(id, _)| *id == vni).unwrap().1;
    let spine = |port: usize, gateway: &str| WeightedPath {
        weight: 1,
        path: Path::Adjacent { port: lab.ports[port].id, gateway: ip(gateway) },
    };
    let spines = [spine(0, "203.0.113.1"), spine(1, "203.0.113.5")];
    let remote = |vtep: &str, last| WeightedPath {
        weight: 1,
        path: Path::Vxlan { vni, vtep: ip(vtep), router_mac: Some(mac(last)) },
    };
    let remotes = [remote("192.0.2.2", 0x21), remote("192.0.2.7", 0x27)];
    lab.control.group_set(900, &spines).unwrap();
    lab.control.group_set(901, &remotes).unwrap();
    set_route(&mut lab.control, VrfId::DEFAULT, "192.0.2.0/24".parse().unwrap(), 900);
    set_route(&mut lab.control, VrfId::DEFAULT, "192.0.2.2/32".parse().unwrap(), 0);
    set_route(&mut lab.control, red, "10.2.0.0/16".parse().unwrap(), 901);

    let (port, own) = (lab.ports[2].id, lab.ports[2].mac);
    let frames: Vec<Vec<u8>> = (0..32)
        .map(|flow| {
            frame(own, mac(0x77), &Ip { ports: (2000 + flow, 80), ..Ip::new("10.1.0.9", "10.2.0.1") })
        })
        .collect();
    let stop = AtomicBool::new(false);
    let mut workers = [lab.control.worker(), lab.control.worker()];
    // The lab's own would hold everything back.
    lab.worker.offline();
    let sent = [AtomicU64::new(0), AtomicU64::new(0)];
    std::thread::scope(|scope| {
        for (worker, sent) in workers.iter_mut().zip(&sent) {
            scope.spawn(|| work(worker, &frames, port, &stop, sent));
        }
        let _stop = StopOnDrop(&stop);
        let enough = || sent.iter().all(|sent| sent.load(Ordering::Relaxed) >= PACKETS);
        for round in (0..).take_while(|&round| !stop.load(Ordering::Relaxed) && (round < ROUNDS || !enough()))
        {
            let control = &mut lab.control;
            match round % 6 {
                0 => control.group_set(900, &spines[..1]).unwrap(),
                1 => control.group_set(901, &remotes).unwrap(),
                2 => control.group_set(900, &spines).unwrap(),
                3 => control.group_set(901, &remotes[1..]).unwrap(),
                4 => {
                    let router_mac = mac(if round % 12 == 4 { 0x2f } else { 0x20 });
                    control.vni_set(vni, VniConfig { router_mac, ..config }).unwrap();
                }
                _ => {
                    // Another group for the same route, so that slots are given back and used again.
                    control.group_set(1000 + round, &remotes).unwrap();
                    set_route(control, red, "10.2.0.0/16".parse().unwrap(), 1000 + round);
                    set_route(control, red, "10.2.0.0/16".parse().unwrap(), 901);
                    control.group_remove(1000 + round);
                    control.reclaim();
                }
            }
        }
    });
    let counters = lab.control.port_counters(port).unwrap();
    let ended: u64 = counters.reasons().map(|(_, count)| count).sum();
    assert_eq!(counters.rx_packets, counters.forwarded + ended);
}
