//! Frames that stand for many packets: they fit where these do, and leave whole, to be cut behind the engine.

use forwarding::{Buffer, Offload, Packet, PortId, Reason, Segments, Verdict, VirtioHeader, Worker};

use crate::bridge_lab::{BridgeLab, inside};
use crate::frames::{Ip, frame};
use crate::lab::{Lab, OWN_V4, OWN_V6, PEER_V4, PEER_V6, Port, mac};

/// UDP datagrams of `size` bytes of payload in one frame, as a host's kernel hands them over.
fn large(bytes: &[u8], size: u16) -> Buffer {
    let l4: u16 = if bytes[12..14] == [8, 0] { 34 } else { 54 };
    let mut header = VirtioHeader([1, 5, 0, 0, 0, 0, 0, 0, 0, 0]);
    header.0[4..6].copy_from_slice(&size.to_ne_bytes());
    header.0[6..8].copy_from_slice(&l4.to_ne_bytes());
    header.0[8..10].copy_from_slice(&6_u16.to_ne_bytes());
    let offload = header.read(bytes).unwrap();
    assert!(offload.is_some_and(Offload::is_large));
    Buffer::new(bytes).with_offload(offload)
}

fn send(worker: &mut Worker, port: PortId, packet: Buffer) -> (Verdict, Buffer) {
    let mut packets = [packet];
    let mut verdicts = [Verdict::Drop(Reason::TxFull)];
    worker.process(port, &mut packets, &mut verdicts);
    worker.quiescent();
    let [packet] = packets;
    (verdicts[0], packet)
}

/// All that a frame is cut into.
fn cut(packet: &Buffer) -> Vec<Vec<u8>> {
    let segments = Segments::new(packet.data(), packet.offload().unwrap()).unwrap();
    let write = |index| {
        let mut out = vec![0; segments.length(index)];
        segments.write(index, &mut out);
        out
    };
    (0..segments.count()).map(write).collect()
}

/// The last size that fits, and the first that does not: by a wire, by a tunnel, over both families.
#[test]
fn routed_when_the_packets_fit() {
    let mut lab = Lab::new();
    let (up0, up1, red0) = (lab.ports[0].clone(), lab.ports[1].clone(), lab.ports[2].clone());
    for (port, source, destination, way, most) in [
        (&up0, "198.51.100.7", "10.101.0.9", &up1, 1400 - 28),
        (&up1, "2001:db8:7::7", "2001:db8:100::9", &up0, 1500 - 48),
        (&red0, "10.1.0.9", "10.2.0.1", &up1, 1400 - 50 - 28),
        (&red0, "2001:db8:1::9", "2001:db8:2::1", &up1, 1400 - 50 - 48),
    ] {
        let ip = Ip { payload: 20_000, ..Ip::new(source, destination) };
        let bytes = frame(port.mac, mac(0x77), &ip);
        let (verdict, out) = send(&mut lab.worker, port.id, large(&bytes, most));
        assert_eq!(verdict, Verdict::Transmit(way.id), "{destination}");
        let pieces = cut(&out);
        assert_eq!(pieces.len(), 20_000_usize.div_ceil(most.into()));
        assert_eq!(pieces[0].len(), usize::from(way.mtu) + 14, "as long as may be: {destination}");
        assert!(pieces.iter().all(|piece| piece[..12] == out.data()[..12]));
        let (verdict, out) = send(&mut lab.worker, port.id, large(&bytes, most + 1));
        assert_eq!(verdict, Verdict::HandOver(Reason::TooBig), "{destination}");
        assert_eq!(out.data(), &bytes[..], "as received");
        // Without the word of the host that they are many it is one that is too big.
        let (verdict, _) = send(&mut lab.worker, port.id, Buffer::new(&bytes));
        assert_eq!(verdict, Verdict::HandOver(Reason::TooBig));
    }
}

#[test]
fn bridged_when_the_packets_fit() {
    let mut lab = BridgeLab::with_hosts();
    lab.remote(110, 0x61, "192.0.2.2");
    let ip = Ip { payload: 30_000, ..Ip::new("192.171.24.11", "192.171.24.99") };
    let most = 1450 - 28;
    for (destination, way) in [(0x52, lab.b), (0x61, lab.up)] {
        let bytes = frame(mac(destination), mac(0x51), &ip);
        let (verdict, out) = send(&mut lab.worker, lab.a, large(&bytes, most));
        assert_eq!(verdict, Verdict::Transmit(way));
        if way == lab.b {
            assert_eq!(out.data(), &bytes[..]);
        } else {
            // One flow: every packet has the same outer ports.
            let pieces = cut(&out);
            assert_eq!(pieces[0].len(), 1514);
            for piece in &pieces {
                let (.., number, inner) = inside(piece);
                assert_eq!((number, &inner[..14]), (110, &bytes[..14]));
                assert_eq!(piece[34..36], out.data()[34..36]);
            }
        }
        let (verdict, _) = send(&mut lab.worker, lab.a, large(&bytes, most + 1));
        assert_eq!(verdict, Verdict::Drop(Reason::BridgeTooBig));
    }
}

/// What is cut before it is flooded counts as so many.
#[test]
fn floods_are_metered_by_packets() {
    let mut lab = BridgeLab::with_hosts();
    // A tenth of a second's worth at once, of 10 000.
    assert!(lab.worker.may_flood_more(lab.a, 900));
    assert!(!lab.worker.may_flood_more(lab.a, 200));
    assert!(lab.worker.may_flood_more(lab.a, 90), "those that were refused took nothing");
    assert!(lab.worker.may_flood_more(lab.b, 900), "each port for itself");
    assert!(lab.worker.may_flood_more(lab.up, 1_000_000), "nothing limits what comes by a tunnel");
}

/// Many datagrams in one frame would be taken for one if they were VXLAN that ends here; who receives them asks first.
#[test]
fn vxlan_to_us_is_known_before_it_is_taken_in() {
    let lab = Lab::new();
    let (up0, red0) = (lab.ports[0].clone(), lab.ports[2].clone());
    let is_vxlan = |port: &Port, to, destination: &str, udp_port, protocol| {
        let source = if destination.contains(':') { PEER_V6 } else { PEER_V4 };
        let ip = Ip { ports: (5000, udp_port), protocol, ..Ip::new(source, destination) };
        lab.worker.is_vxlan_to_us(port.id, &frame(to, mac(0x77), &ip))
    };
    for (own, udp_port) in [(OWN_V4, 4789), (OWN_V6, 4790)] {
        assert!(is_vxlan(&up0, up0.mac, own, udp_port, 17));
        assert!(!is_vxlan(&up0, up0.mac, own, 4791, 17), "to no VNI's port");
        assert!(!is_vxlan(&up0, up0.mac, own, udp_port, 6), "TCP");
        assert!(!is_vxlan(&up0, mac(0x78), own, udp_port, 17), "to another station");
        assert!(!is_vxlan(&red0, red0.mac, own, udp_port, 17), "in another VRF");
    }
    assert!(!is_vxlan(&up0, up0.mac, "192.0.2.9", 4789, 17), "to another address");
}
