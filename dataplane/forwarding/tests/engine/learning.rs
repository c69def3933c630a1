//! Who is learned where, moves, ages, and is asked before.

use std::time::Duration;

use forwarding::{Learned, Mac, MacKind, Reason, Verdict};

use crate::bridge_lab::{AGING, BROADCAST, BridgeLab, GATEWAY, arp, garp, tunnelled, vni};
use crate::frames::{Ip, frame};
use crate::lab::{ip, mac};

const HOST: u8 = 0x51;

fn place(lab: &BridgeLab, last: u8) -> Option<MacKind> {
    lab.control.macs(vni(110)).find(|entry| entry.mac == mac(last)).map(|entry| entry.kind)
}

fn unicast(from: u8, to: u8) -> Vec<u8> {
    frame(mac(to), mac(from), &Ip::new("192.171.24.50", "192.171.24.51"))
}

#[test]
fn a_host_is_learned_with_its_address() {
    let mut lab = BridgeLab::new();
    lab.send_and_learn(lab.a, &garp(mac(HOST), "192.171.24.11"));
    let (address, a) = (ip("192.171.24.11"), lab.a);
    let expected = [
        Learned::Mac { vni: vni(110), mac: mac(HOST), port: Some(a) },
        Learned::Host { vni: vni(110), address, mac: mac(HOST), gone: false },
    ];
    assert_eq!(lab.learned(), expected);
    assert_eq!(lab.control.learned().collect::<Vec<_>>(), expected);
    // What is known already is news to nobody.
    lab.pass(Duration::from_secs(1));
    lab.send_and_learn(lab.a, &garp(mac(HOST), "192.171.24.11"));
    assert!(lab.learned().is_empty());
    assert_eq!(lab.control.bridge_counters(vni(110)).unwrap().learned, 1);
}

/// Both ways, and every place is in force with the frame after the first.
#[test]
fn a_mac_moves_and_comes_back() {
    let mut lab = BridgeLab::with_hosts();
    let a = lab.a;
    lab.remote(110, HOST, "192.0.2.2");
    let gone = [
        Learned::Host { vni: vni(110), address: ip("192.171.24.11"), mac: mac(HOST), gone: true },
        Learned::Mac { vni: vni(110), mac: mac(HOST), port: None },
    ];
    assert_eq!(lab.learned(), gone);
    assert_eq!(lab.send(lab.b, &unicast(0x52, HOST)).0, Verdict::Transmit(lab.up));

    // The same sighting is not reported twice within a moment.
    lab.pass(Duration::from_secs(1));
    lab.send_and_learn(lab.a, &unicast(HOST, 0x52));
    assert_eq!(lab.learned(), [Learned::Mac { vni: vni(110), mac: mac(HOST), port: Some(a) }]);
    assert_eq!(lab.send(lab.b, &unicast(0x52, HOST)).0, Verdict::Transmit(lab.a));
    // The control plane takes back what it said before: too late to matter.
    lab.control.mac_remove(vni(110), mac(HOST));
    assert_eq!(place(&lab, HOST), Some(MacKind::Local(a)));

    let b = lab.b;
    lab.pass(Duration::from_secs(1));
    lab.send_and_learn(lab.b, &unicast(HOST, 0x52));
    assert_eq!(place(&lab, HOST), Some(MacKind::Local(b)));
    assert_eq!(lab.control.bridge_counters(vni(110)).unwrap().moved, 2);
}

#[test]
fn a_sticky_mac_stays_where_it_is() {
    let mut lab = BridgeLab::new();
    lab.control.mac_set(vni(110), mac(HOST), ip("192.0.2.2"), true).unwrap();
    lab.send_and_learn(lab.a, &unicast(HOST, 0x52));
    assert_eq!(place(&lab, HOST), Some(MacKind::Remote { vtep: ip("192.0.2.2"), sticky: true }));
    assert_eq!(lab.control.bridge_counters(vni(110)).unwrap().refused, 1);
    lab.control.mac_remove(vni(110), mac(HOST));
    assert_eq!(place(&lab, HOST), None);
}

#[test]
fn nobody_is_believed_who_lies() {
    let mut lab = BridgeLab::new();
    let liar = mac(0x66);
    let lies = [
        // Speaks for another MAC, in ARP and for another subnet.
        arp(BROADCAST, liar, 1, (mac(0x67), "192.171.24.11"), (Mac::default(), "192.171.24.12")),
        garp(liar, "10.0.0.1"),
        garp(liar, "192.171.24.1"),
        garp(liar, "255.255.255.255"),
        garp(liar, "127.0.0.1"),
    ];
    for lie in lies {
        lab.send_and_learn(lab.a, &lie);
    }
    let learned = lab.learned();
    assert_eq!(learned, [Learned::Mac { vni: vni(110), mac: liar, port: Some(lab.a) }]);
    // The gateway's own MAC, and nobody's.
    lab.send_and_learn(lab.a, &unicast_from(GATEWAY));
    lab.send_and_learn(lab.a, &unicast_from(Mac::default()));
    lab.send_and_learn(lab.a, &unicast_from(BROADCAST));
    assert!(lab.learned().is_empty());
    assert!(lab.control.mac_set(vni(110), GATEWAY, ip("192.0.2.2"), false).is_err());
}

fn unicast_from(source: Mac) -> Vec<u8> {
    frame(mac(0x52), source, &Ip::new("192.171.24.50", "192.171.24.51"))
}

#[test]
fn silent_hosts_are_asked_and_kept_if_they_answer() {
    let mut lab = BridgeLab::with_hosts();
    let mut answered = 0;
    for _ in 0..40 {
        for probe in lab.pass(Duration::from_secs(15)) {
            if probe.port != lab.a {
                continue;
            }
            let me = (mac(HOST), "192.171.24.11");
            let question = arp(mac(HOST), GATEWAY, 1, (GATEWAY, "192.171.24.1"), (Mac::default(), me.1));
            assert_eq!(probe.frame, question);
            let answer = arp(GATEWAY, mac(HOST), 2, me, (GATEWAY, "192.171.24.1"));
            assert_eq!(lab.send_and_learn(lab.a, &answer).0, Verdict::HandOver(Reason::Arp));
            answered += 1;
        }
    }
    assert!((3..=5).contains(&answered), "asked {answered} times in ten minutes");
    let a = lab.a;
    assert_eq!(place(&lab, HOST), Some(MacKind::Local(a)));
    // The others have not answered.
    assert_eq!(place(&lab, 0x52), None);
    let gone: Vec<_> = lab.learned();
    assert!(gone.contains(&Learned::Mac { vni: vni(110), mac: mac(0x52), port: None }), "{gone:?}");
}

#[test]
fn a_mac_that_sends_stays_and_one_that_does_not_goes() {
    let mut lab = BridgeLab::new();
    lab.send_and_learn(lab.a, &unicast(HOST, 0x60));
    lab.send_and_learn(lab.a, &unicast(0x54, 0x60));
    for _ in 0..10 {
        lab.pass(AGING / 3);
        lab.send(lab.a, &unicast(HOST, 0x60));
    }
    let a = lab.a;
    assert_eq!((place(&lab, HOST), place(&lab, 0x54)), (Some(MacKind::Local(a)), None));
    assert!(lab.control.macs(vni(110)).all(|entry| entry.idle <= AGING / 2));
    lab.control.port_flush(a);
    assert_eq!(place(&lab, HOST), None);
}

#[test]
fn a_port_fills_its_own_limit_only() {
    let mut lab = BridgeLab::new();
    let storm = |number: u32| {
        let bytes = number.to_be_bytes();
        frame(
            mac(0x52),
            Mac::new([2, 9, bytes[0], bytes[1], bytes[2], bytes[3]]),
            &Ip::new("10.0.0.1", "10.0.0.2"),
        )
    };
    for number in 0..100_000 {
        lab.send(lab.a, &storm(number));
        if number % 64 == 0 {
            lab.now += Duration::from_millis(1);
            lab.worker.tick(lab.now);
            lab.upkeep();
        }
    }
    // The domain's limit is lower than the port's here.
    assert_eq!(lab.control.macs(vni(110)).count(), 1000);
    assert!(lab.control.bridge_counters(vni(110)).unwrap().limited > 50_000);
    // Another domain does not notice.
    let c = lab.c;
    lab.send_and_learn(c, &garp(mac(0x53), "192.171.25.11"));
    assert_eq!(lab.control.macs(vni(120)).count(), 1);
}

#[test]
fn one_port_of_a_domain_leaves_the_others_their_share() {
    let mut lab = BridgeLab::new();
    let (a, b) = (lab.a, lab.b);
    let mut config = lab.control.port(a).unwrap().clone();
    let limits = forwarding::BridgePort { mac_limit: 10, ..forwarding::BridgePort::new(vni(110)) };
    config.attachment = forwarding::Attachment::Bridged(limits);
    lab.control.port_set(a, config).unwrap();
    for last in 0..50 {
        lab.send_and_learn(a, &unicast(0x80 + last, 0x52));
    }
    for last in 0..50 {
        lab.send_and_learn(b, &unicast(0xc0 + last, 0x52));
    }
    let on = |port| lab.control.macs(vni(110)).filter(|entry| entry.kind == MacKind::Local(port)).count();
    assert_eq!((on(a), on(b)), (10, 50));
}

#[test]
fn static_vteps_are_learned_from_where_asked_for() {
    let mut lab = BridgeLab::with_hosts();
    let from = |vtep: &str| tunnelled(vtep, 110, 0, &unicast(0x61, HOST));
    lab.send_and_learn(lab.up, &from("192.0.2.2"));
    assert_eq!(place(&lab, 0x61), None);
    let config = forwarding::BridgeConfig {
        learn_from_vteps: true,
        ..lab.control.bridges().next().unwrap().1.clone()
    };
    lab.control.bridge_set(vni(110), config).unwrap();
    lab.send_and_learn(lab.up, &from("192.0.2.2"));
    assert_eq!(place(&lab, 0x61), Some(MacKind::Heard(ip("192.0.2.2"))));
    assert_eq!(lab.send(lab.a, &unicast(HOST, 0x61)).0, Verdict::Transmit(lab.up));
    lab.pass(Duration::from_secs(1));
    lab.send_and_learn(lab.up, &from("192.0.2.3"));
    assert_eq!(place(&lab, 0x61), Some(MacKind::Heard(ip("192.0.2.3"))));
    // The control plane knows better, and a port best.
    lab.remote(110, 0x61, "192.0.2.2");
    lab.pass(Duration::from_secs(1));
    lab.send_and_learn(lab.up, &from("192.0.2.3"));
    assert_eq!(place(&lab, 0x61), Some(MacKind::Remote { vtep: ip("192.0.2.2"), sticky: false }));
    lab.control.mac_remove(vni(110), mac(0x61));
    lab.pass(Duration::from_secs(1));
    lab.send_and_learn(lab.up, &from("192.0.2.3"));
    lab.pass(AGING + Duration::from_secs(60));
    assert_eq!(place(&lab, 0x61), None, "it ages like any other");
}

#[test]
fn a_new_session_sweeps_what_it_does_not_state() {
    let mut lab = BridgeLab::with_hosts();
    lab.remote(110, 0x61, "192.0.2.2");
    lab.remote(110, 0x62, "192.0.2.2");
    lab.control.session_begin();
    assert_eq!(
        lab.send(lab.a, &unicast(HOST, 0x61)).0,
        Verdict::Transmit(lab.up),
        "nothing is lost meanwhile"
    );
    lab.remote(110, 0x61, "192.0.2.2");
    lab.control.flood_set(vni(110), &[ip("192.0.2.2")]).unwrap();
    let swept = lab.control.session_sweep();
    assert_eq!(swept.macs, 1);
    assert!(place(&lab, 0x61).is_some() && place(&lab, 0x62).is_none() && place(&lab, HOST).is_some());
    assert_eq!(lab.control.flood_list(vni(110)).collect::<Vec<_>>(), [ip("192.0.2.2")]);
    assert_eq!(lab.control.flood_list(vni(120)).count(), 0);
}

/// A service address that failed over to another host: the kernel's word is newer than ours.
#[test]
fn an_address_that_another_host_has_is_no_longer_ours() {
    let mut lab = BridgeLab::with_hosts();
    let (svi, address) = (lab.svi110, ip("192.171.24.11"));
    lab.control.neighbor_set(svi, address, mac(HOST)).unwrap();
    assert!(lab.learned().is_empty());
    lab.control.neighbor_set(svi, address, mac(0x61)).unwrap();
    assert_eq!(lab.learned(), [Learned::Host { vni: vni(110), address, mac: mac(HOST), gone: true }]);
    lab.pass(Duration::from_secs(1));
    lab.send_and_learn(lab.a, &garp(mac(HOST), "192.171.24.11"));
    assert_eq!(lab.learned(), [Learned::Host { vni: vni(110), address, mac: mac(HOST), gone: false }]);
}
