//! Hosts that leave checksums and segmentation to their devices: what they send arrives as it was, in large frames where
//! these may go and in packets of the MTU elsewhere. Takes root.

use dataplane_api::v1;
use nix::sys::socket::{setsockopt, sockopt};

use super::{Domain, HOSTS, OWN_VTEP};
use crate::rig::is_root;

/// A transfer's length, bytes.
const LENGTH: usize = 4_000_000;
/// A frame of the domain's MTU, bytes.
const FRAME: u64 = 1464;

/// The average frame's bytes of what was counted from one time to another.
fn average(before: (u64, u64), after: (u64, u64)) -> u64 {
    (after.1 - before.1) / (after.0 - before.0).max(1)
}

fn received(port: &v1::PortCounters) -> (u64, u64) {
    (port.rx_packets, port.rx_bytes)
}

fn sent(port: &v1::PortCounters) -> (u64, u64) {
    (port.tx_packets, port.tx_bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_goes_in_large_frames() {
    if !is_root() {
        return;
    }
    let domain = Domain::start(300).await;
    let rig = &domain.rig;
    let bytes = u64::try_from(LENGTH).unwrap();
    for (from, to) in [(0, 1), (0, 2), (2, 0)] {
        for target in [HOSTS[to].1, HOSTS[to].2] {
            assert!(rig.pings(HOSTS[from].0, target, ""));
            let (one, under) = (rig.port("pe-e-1").await, rig.port("under").await);
            let two = rig.port("pe-e-2").await;
            let at_one = rig.received("one", "eth0");
            let at_two = rig.received("two", "eth0");
            let at_vtep = rig.received("vtep", "eth0");
            rig.transfer(HOSTS[from].0, HOSTS[to].0, target, LENGTH);
            let of = format!("{} to {target}", HOSTS[from].0);
            if from == 0 {
                // The host's own frames are large.
                let now = rig.port_when("pe-e-1", |port| port.rx_bytes - one.rx_bytes > bytes).await;
                assert!(average(received(&one), received(&now)) > 2 * FRAME, "{of}: {one:?} {now:?}");
                assert_eq!(now.drops, one.drops, "{of}");
            }
            match (from, to) {
                // They go to the other as they are.
                (0, 1) => {
                    assert!(average(at_two, rig.received("two", "eth0")) > 2 * FRAME, "{of}");
                    // And count as what they stand for.
                    let now = rig.port_when("pe-e-2", |port| port.tx_bytes - two.tx_bytes > bytes).await;
                    assert!(average(sent(&two), sent(&now)) <= FRAME, "{of}: {two:?} {now:?}");
                }
                // And on the wire as what they stand for, in a tunnel.
                (0, 2) => {
                    let now = rig.port_when("under", |port| port.tx_bytes - under.tx_bytes > bytes).await;
                    assert!(average(sent(&under), sent(&now)) <= FRAME + 50, "{of}: {under:?} {now:?}");
                    assert!(average(at_vtep, rig.received("vtep", "eth0")) <= FRAME + 50, "{of}");
                    assert!(now.tx_packets - under.tx_packets >= bytes / 1398, "{of}: {under:?} {now:?}");
                }
                // What comes from there is put together; how much of it depends on how it comes.
                _ => assert!(average(at_one, rig.received("one", "eth0")) > FRAME, "{of}"),
            }
        }
    }
}

/// A kernel does not understand a large frame in a tunnel: it gets what that stands for, a TAP or not.
#[tokio::test(flavor = "multi_thread")]
async fn tunnels_end_behind_a_tap_too() {
    if !is_root() {
        return;
    }
    let domain = Domain::start_over_tap().await;
    let rig = &domain.rig;
    let bytes = u64::try_from(LENGTH).unwrap();
    for target in [HOSTS[2].1, HOSTS[2].2] {
        assert!(rig.pings("one", target, ""));
        let (one, under) = (rig.port("pe-e-1").await, rig.port("under").await);
        let at_vtep = rig.received("vtep", "eth0");
        rig.transfer("one", "far", target, LENGTH);
        let now = rig.port_when("pe-e-1", |port| port.rx_bytes - one.rx_bytes > bytes).await;
        assert!(average(received(&one), received(&now)) > 2 * FRAME, "{target}: {one:?} {now:?}");
        assert!(average(at_vtep, rig.received("vtep", "eth0")) <= FRAME + 50, "{target}");
        let now = rig.port_when("under", |port| port.tx_bytes - under.tx_bytes > bytes).await;
        assert!(average(sent(&under), sent(&now)) <= FRAME + 50, "{target}: {under:?} {now:?}");
        assert_eq!(now.drops, under.drops, "{target}");
    }
}

/// UDP in large frames, to one and to all.
#[tokio::test(flavor = "multi_thread")]
async fn datagrams_arrive_one_by_one() {
    if !is_root() {
        return;
    }
    let domain = Domain::start(300).await;
    let rig = &domain.rig;
    for host in [1, 2] {
        assert!(rig.pings("one", HOSTS[host].1, ""));
    }
    let sender = rig.udp("one", 0);
    sender.set_broadcast(true).unwrap();
    setsockopt(&sender, sockopt::UdpGsoSegment, &1000).unwrap();
    let receivers = [rig.udp("two", 5000), rig.udp("far", 5000)];
    let wanted: Vec<Vec<u8>> =
        (0..6_u8).map(|number| vec![number; if number == 5 { 300 } else { 1000 }]).collect();
    let take = |host: usize| {
        let mut buffer = [0; 2000];
        for datagram in &wanted {
            let (length, from) = receivers[host].recv_from(&mut buffer).unwrap();
            assert_eq!(from.ip().to_string(), HOSTS[0].1);
            assert_eq!(&buffer[..length], &datagram[..], "host {host}");
        }
    };
    for host in [1, 2] {
        assert_eq!(sender.send_to(&wanted.concat(), (HOSTS[host].1, 5000)).unwrap(), 5300);
        take(host - 1);
    }
    let before = domain.counters().await;
    sender.send_to(&wanted.concat(), ("10.1.0.255", 5000)).unwrap();
    take(0);
    take(1);
    assert!(domain.counters().await.flooded > before.flooded);
    let port = rig.port("pe-e-1").await;
    assert!(port.drops.iter().all(|reason| reason.packets == 0), "{port:?}");
}

/// What cannot be cut or taken in is dropped by a name, and the port goes on.
#[tokio::test(flavor = "multi_thread")]
async fn frames_that_cannot_be_taken_are_named() {
    if !is_root() {
        return;
    }
    let domain = Domain::start_over_tap().await;
    let rig = &domain.rig;
    assert!(rig.pings("one", HOSTS[1].1, ""));
    let dropped = |port: &v1::PortCounters, name: &str| {
        port.drops.iter().find(|reason| reason.reason == name).map_or(0, |reason| reason.packets)
    };
    let datagrams = |from: &str, length: usize, to: &str, udp_port: u16| {
        let sender = rig.udp(from, 0);
        setsockopt(&sender, sockopt::UdpGsoSegment, &1000).unwrap();
        assert_eq!(sender.send_to(&vec![8; length], (to, udp_port)).unwrap(), length);
    };

    // Of VXLAN to us only the first would be taken in.
    let before = rig.port("under").await;
    datagrams("vtep", 5300, OWN_VTEP, 4789);
    let now = rig.port_when("under", |port| dropped(port, "bad-offload") == 1).await;
    assert!(
        now.rx_packets > before.rx_packets && now.rx_bytes - before.rx_bytes > 5300,
        "{before:?} {now:?}"
    );

    // Longer than we asked for.
    rig.run("one", "ip link set eth0 gso_max_size 65536");
    let before = rig.port("pe-e-1").await;
    datagrams("one", 65_400, HOSTS[1].1, 5000);
    let now = rig.port_when("pe-e-1", |port| dropped(port, "giant") == 1).await;
    assert!(now.rx_packets > before.rx_packets, "{before:?} {now:?}");
    assert_eq!(dropped(&now, "bad-offload"), 0);
    assert!(rig.pings("one", HOSTS[1].1, "") && rig.pings("one", HOSTS[2].1, ""));
}
