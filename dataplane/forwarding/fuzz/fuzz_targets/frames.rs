//! Frames into the whole pipeline of a node with an underlay, a tenant, a tunnel of each family and a bridge domain.
//!
//! The first byte chooses the port, and whether the IPv4 checksums are made right, without which nearly every input would
//! end at the first one.
#![no_main]

use std::cell::RefCell;
use std::net::IpAddr;
use std::time::Duration;

use forwarding::{
    Attachment, BridgeConfig, BridgePort, Buffer, Control, Mac, Packet, Path, PortConfig, PortId, Reason,
    Verdict, Vni, VniConfig, VrfId, WeightedPath, Worker,
};
use libfuzzer_sys::fuzz_target;

fn mac(last: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, last])
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Two ports and all that can be behind them; the control side stays alive with the worker.
fn node() -> (Control, Worker) {
    let mut control = Control::new().unwrap();
    let red = control.vrf_add("red").unwrap();
    let port = |name: &str, vrf, last| PortConfig {
        name: name.to_owned(),
        attachment: Attachment::Routed(vrf),
        mac: mac(last),
        mtu: 1500,
    };
    let up = control.port_add(port("up", VrfId::DEFAULT, 1)).unwrap();
    let tenant = control.port_add(port("red", red, 2)).unwrap();
    control.vtep_addresses_set(&[ip("192.0.2.1"), ip("2001:db8:ffff::1")]).unwrap();
    control.session_begin();
    for (vni, own, peer) in [(100, "192.0.2.1", "192.0.2.2"), (200, "2001:db8:ffff::1", "2001:db8:ffff::2")] {
        let id = Vni::new(vni).unwrap();
        control.vni_set(id, VniConfig { vrf: red, vtep: ip(own), udp_port: 0, router_mac: mac(3) }).unwrap();
        let path = Path::Vxlan { vni: id, vtep: ip(peer), router_mac: Some(mac(4)) };
        control.group_set(vni, &[WeightedPath { weight: 1, path }]).unwrap();
    }
    let paths = [
        Path::Adjacent { port: up, gateway: ip("203.0.113.1") },
        Path::Adjacent { port: tenant, gateway: ip("10.1.0.9") },
        Path::Local,
    ];
    for (group, path) in (1..).zip(paths) {
        control.group_set(group, &[WeightedPath { weight: 1, path }]).unwrap();
    }
    control.neighbor_set(up, ip("203.0.113.1"), mac(5)).unwrap();
    control.neighbor_set(tenant, ip("10.1.0.9"), mac(6)).unwrap();
    control.route4(VrfId::DEFAULT, 0, 0, 1).unwrap();
    control.route6(VrfId::DEFAULT, 0, 0, 1).unwrap();
    control.route4(VrfId::DEFAULT, 0xc000_0201, 32, 3).unwrap();
    control.route4(red, 0, 1, 100).unwrap();
    control.route4(red, 0x8000_0000, 1, 2).unwrap();
    control.route6(red, 0, 1, 2).unwrap();
    control.route6(red, 1 << 127, 1, 200).unwrap();
    let domain = Vni::new(110).unwrap();
    let config = BridgeConfig {
        vrf: Some(red),
        vtep: ip("192.0.2.1"),
        udp_port: 0,
        mac: mac(7),
        gateways: vec!["10.9.0.1/24".parse().unwrap(), "2001:db8:9::1/64".parse().unwrap()],
        mtu: 1450,
        mac_limit: 64,
        aging: Duration::from_secs(300),
        learn_from_vteps: true,
    };
    control.bridge_set(domain, config).unwrap();
    for (name, last) in [("a", 8), ("b", 9)] {
        let attachment = Attachment::Bridged(BridgePort::new(domain));
        control
            .port_add(PortConfig { name: name.to_owned(), attachment, mac: mac(last), mtu: 1450 })
            .unwrap();
    }
    control.flood_set(domain, &[ip("192.0.2.2"), ip("192.0.2.3")]).unwrap();
    control.mac_set(domain, mac(0x61), ip("192.0.2.2"), false).unwrap();
    let worker = control.worker();
    (control, worker)
}

fn right_checksum(frame: &mut [u8], at: usize) {
    let Some(header) = frame.get_mut(at..at + 20) else { return };
    header[10..12].fill(0);
    let sum: u32 = header.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    header[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

thread_local! {
    static NODE: RefCell<(Control, Worker)> = RefCell::new(node());
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, frame)) = data.split_first() else { return };
    let mut frame = frame.to_vec();
    if choice & 4 != 0 {
        right_checksum(&mut frame, 14);
        // Behind Ethernet, IPv4, UDP, VXLAN and Ethernet.
        right_checksum(&mut frame, 64);
    }
    NODE.with_borrow_mut(|(control, worker)| {
        let ports: Vec<PortId> = control.ports().map(|(port, _)| port).collect();
        let port = ports[usize::from(choice & 3) % ports.len()];
        let mut packets = [Buffer::with_headroom(&frame, usize::from(choice >> 3) * 4)];
        let mut verdicts = [Verdict::Drop(Reason::TxFull)];
        worker.process(port, &mut packets, &mut verdicts);
        let [packet] = packets;
        let same = packet.data() == frame;
        match verdicts[0] {
            Verdict::Transmit(_) => assert!(packet.data().len() >= 14),
            Verdict::Replicate => {
                worker.replicate(
                    port,
                    &packet,
                    |packet| Some(packet.clone()),
                    |copy, verdict| match verdict {
                        Verdict::Transmit(_) | Verdict::HandOver(_) => assert!(copy.data().len() >= 14),
                        Verdict::Drop(_) | Verdict::Replicate => panic!("a copy that goes nowhere"),
                    },
                );
                assert!(same);
            }
            Verdict::HandOver(_) | Verdict::Drop(_) => assert!(same),
        }
        worker.quiescent();
        control.upkeep(Duration::ZERO);
        control.take_learned();
        let _ = control.explain_frame(port, &frame);
    });
});
