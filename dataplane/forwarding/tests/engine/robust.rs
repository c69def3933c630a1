//! Frames that nobody should send.

use forwarding::{Buffer, Packet, PortId, Reason, Verdict, Worker};
use proptest::prelude::*;

use crate::frames::{Ip, Outer, ethernet, frame, vxlan};
use crate::lab::{Lab, OWN_V4, PEER_V4, mac};

fn unchanged_unless_sent(
    worker: &mut Worker,
    port: PortId,
    bytes: &[u8],
    headroom: usize,
) -> Result<Verdict, TestCaseError> {
    let mut packets = [Buffer::with_headroom(bytes, headroom)];
    let mut verdicts = [Verdict::Drop(Reason::TxFull)];
    worker.process(port, &mut packets, &mut verdicts);
    if !matches!(verdicts[0], Verdict::Transmit(_)) {
        prop_assert_eq!(packets[0].data(), bytes);
    }
    Ok(verdicts[0])
}

fn good_vxlan(lab: &Lab) -> Vec<u8> {
    let outer = Outer {
        ip: Ip { ports: (50000, 4789), ..Ip::new(PEER_V4, OWN_V4) },
        vni: 100,
        flags: 8,
        inner_destination: mac(0x20),
        inner_source: mac(0x21),
        inner_padding: 0,
    };
    vxlan(lab.ports[0].mac, mac(0x77), &outer, &Ip::new("10.2.0.1", "10.1.0.9"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..1600), port in 0..5_u16) {
        let mut lab = Lab::new();
        unchanged_unless_sent(&mut lab.worker, PortId(port), &bytes, 128)?;
    }

    /// Almost right: to our MAC, with an IP version, one byte of a good frame changed and cut anywhere.
    #[test]
    fn damaged_frames_do_no_harm(at: prop::sample::Index, byte: u8, cut: prop::sample::Index, port in 0..4_usize) {
        let mut lab = Lab::new();
        let own = lab.ports[port].mac;
        for mut bytes in [
            good_vxlan(&lab),
            frame(own, mac(0x77), &Ip::new("10.1.0.9", "10.2.0.1")),
            frame(own, mac(0x77), &Ip::new("2001:db8:1::9", "2001:db8:2::1")),
        ] {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            unchanged_unless_sent(&mut lab.worker, lab.ports[port].id, &bytes, 128)?;
            let cut = cut.index(bytes.len());
            unchanged_unless_sent(&mut lab.worker, lab.ports[port].id, &bytes[..cut], 128)?;
        }
    }
}

#[test]
fn every_length_of_a_good_frame() {
    let mut lab = Lab::new();
    let bytes = good_vxlan(&lab);
    for length in 0..bytes.len() {
        let verdict = unchanged_unless_sent(&mut lab.worker, lab.ports[0].id, &bytes[..length], 128).unwrap();
        assert!(
            matches!(verdict, Verdict::Drop(Reason::Runt | Reason::MalformedIp)),
            "{length}: {verdict:?}"
        );
    }
    let verdict = unchanged_unless_sent(&mut lab.worker, lab.ports[0].id, &bytes, 128).unwrap();
    assert_eq!(verdict, Verdict::Transmit(lab.ports[2].id));
}

#[test]
fn without_headroom_nothing_is_changed() {
    let mut lab = Lab::new();
    let bytes = frame(lab.ports[2].mac, mac(0x77), &Ip::new("10.1.0.9", "10.2.0.1"));
    let red = lab.ports[2].id;
    let verdict =
        |lab: &mut Lab, headroom| unchanged_unless_sent(&mut lab.worker, red, &bytes, headroom).unwrap();
    assert_eq!(verdict(&mut lab, 49), Verdict::Drop(Reason::NoHeadroom));
    assert_eq!(verdict(&mut lab, 50), Verdict::Transmit(lab.ports[1].id));
}

#[test]
fn other_protocols_have_names() {
    let mut lab = Lab::new();
    let own = lab.ports[0].mac;
    let group = forwarding::Mac::new([1, 0x80, 0xc2, 0, 0, 0x14]);
    let broadcast = forwarding::Mac::new([0xff; 6]);
    let cases = [
        (own, 0x0806, vec![0; 46], Reason::Arp),
        (broadcast, 0x0806, vec![0; 46], Reason::Arp),
        (own, 0x8100, vec![0; 46], Reason::Vlan),
        (group, 100, [vec![0xfe, 0xfe, 3], vec![0; 97]].concat(), Reason::IsIs),
        (own, 0x88cc, vec![0; 46], Reason::NotIp),
        (group, 0x88cc, vec![0; 46], Reason::Multicast),
    ];
    for (destination, ethertype, payload, reason) in cases {
        let bytes = ethernet(destination, mac(0x77), ethertype, &payload);
        assert_eq!(lab.send(lab.ports[0].id, &bytes), (Verdict::HandOver(reason), bytes.clone()));
    }
}

#[test]
fn neighbour_discovery_and_options_are_handed_over() {
    let mut lab = Lab::new();
    let own = lab.ports[2].mac;
    let red = lab.ports[2].id;
    // The first of the eight bytes behind the IP header is the ICMPv6 type.
    let solicitation = |destination| Ip {
        protocol: 58,
        ports: (135 << 8, 0),
        ttl: 255,
        ..Ip::new("2001:db8:1::9", destination)
    };
    for destination in ["ff02::1:ff00:1", "2001:db8:1::1", "fe80::1"] {
        let bytes = frame(own, mac(0x77), &solicitation(destination));
        assert_eq!(lab.send(red, &bytes).0, Verdict::HandOver(Reason::Nd), "{destination}");
    }
    let hop_by_hop = Ip { protocol: 0, ..Ip::new("2001:db8:1::9", "2001:db8:2::1") };
    assert_eq!(lab.send(red, &frame(own, mac(0x77), &hop_by_hop)).0, Verdict::HandOver(Reason::Options));
    // Router alert, in a header of 24 bytes.
    let mut header = vec![0x46, 0, 0, 24, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 9, 10, 2, 0, 1, 0x94, 4, 0, 0];
    let sum: u32 = header.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    let checksum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    let bytes = ethernet(own, mac(0x77), 0x0800, &header);
    assert_eq!(lab.send(red, &bytes), (Verdict::HandOver(Reason::Options), bytes.clone()));
}
