//! Bridge domains: one routed over IPv4 tunnels, one plain over IPv6 tunnels, each with ports and remote VTEPs.

use std::net::IpAddr;
use std::time::Duration;

use forwarding::{
    Attachment, BridgeConfig, BridgePort, Buffer, Control, Learned, Mac, Packet, Path, PortConfig, PortId,
    Probe, Verdict, Vni, VrfId, WeightedPath, Worker,
};

use crate::frames::ethernet;
use crate::lab::{ip, mac, set_route};

pub(crate) const OWN: &str = "192.0.2.1";
pub(crate) const OWN6: &str = "2001:db8:ffff::1";
pub(crate) const AGING: Duration = Duration::from_secs(300);

pub(crate) fn vni(value: u32) -> Vni {
    Vni::new(value).unwrap()
}

pub(crate) struct BridgeLab {
    pub(crate) control: Control,
    pub(crate) worker: Worker,
    pub(crate) red: VrfId,
    /// The underlay's.
    pub(crate) up: PortId,
    /// A routed port of red.
    pub(crate) routed: PortId,
    /// Two ports of VNI 110, one of 120, one of 130.
    pub(crate) a: PortId,
    pub(crate) b: PortId,
    pub(crate) c: PortId,
    pub(crate) d: PortId,
    pub(crate) svi110: PortId,
    pub(crate) svi120: PortId,
    pub(crate) now: Duration,
}

/// The gateway's MAC in VNI 110.
pub(crate) const GATEWAY: Mac = Mac::new([0, 0xf3, 0, 0, 0, 0x6f]);
pub(crate) const UP: Mac = Mac::new([2, 0, 0, 0, 0, 0x10]);
/// The spine.
pub(crate) const SPINE: Mac = Mac::new([2, 0, 0, 0, 0, 0x41]);
pub(crate) const ROUTED: Mac = Mac::new([2, 0, 0, 0, 0, 0x11]);

pub(crate) fn config(vrf: Option<VrfId>, own: &str, last: u8, gateways: &[&str]) -> BridgeConfig {
    BridgeConfig {
        vrf,
        vtep: ip(own),
        udp_port: 0,
        mac: Mac::new([0, 0xf3, 0, 0, 0, last]),
        gateways: gateways.iter().map(|gateway| gateway.parse().unwrap()).collect(),
        mtu: 1450,
        mac_limit: 1000,
        aging: AGING,
        learn_from_vteps: false,
    }
}

impl BridgeLab {
    pub(crate) fn new() -> Self {
        let mut control = Control::new().unwrap();
        let red = control.vrf_add("red").unwrap();
        control.vtep_addresses_set(&[ip(OWN), ip(OWN6)]).unwrap();
        let gateways = ["192.171.24.1/24", "fd00:10:245:1::1/64"];
        let svi110 = control.bridge_set(vni(110), config(Some(red), OWN, 0x6f, &gateways)).unwrap();
        let svi120 =
            control.bridge_set(vni(120), config(Some(red), OWN, 0x79, &["192.171.25.1/24"])).unwrap();
        control.bridge_set(vni(130), config(None, OWN6, 0x83, &[])).unwrap();
        let mut add = |name: &str, attachment, mac, mtu| {
            control.port_add(PortConfig { name: name.to_owned(), attachment, mac, mtu }).unwrap()
        };
        let routed = |vrf| Attachment::Routed(vrf);
        let bridged = |number| Attachment::Bridged(BridgePort::new(vni(number)));
        let up = add("up", routed(VrfId::DEFAULT), UP, 1500);
        let routed = add("routed", routed(red), ROUTED, 9000);
        let a = add("a", bridged(110), mac(0x21), 1450);
        let b = add("b", bridged(110), mac(0x22), 1450);
        let c = add("c", bridged(120), mac(0x23), 1450);
        let d = add("d", bridged(130), mac(0x24), 1450);
        control.session_begin();
        let path = |path| WeightedPath { weight: 0, path };
        let spine = path(Path::Adjacent { port: up, gateway: ip("203.0.113.1") });
        control.group_set(1, &[spine]).unwrap();
        control.neighbor_set(up, ip("203.0.113.1"), SPINE).unwrap();
        set_route(&mut control, VrfId::DEFAULT, "192.0.2.0/24".parse().unwrap(), 1);
        set_route(&mut control, VrfId::DEFAULT, "2001:db8:ffff::/64".parse().unwrap(), 1);
        for (group, svi, prefix) in [
            (2, svi110, "192.171.24.0/24"),
            (3, svi110, "fd00:10:245:1::/64"),
            (4, svi120, "192.171.25.0/24"),
        ] {
            control.group_set(group, &[path(Path::Connected { port: svi })]).unwrap();
            set_route(&mut control, red, prefix.parse().unwrap(), group);
        }
        control.group_set(5, &[path(Path::Local)]).unwrap();
        for own in ["192.171.24.1/32", "fd00:10:245:1::1/128", "192.171.25.1/32"] {
            set_route(&mut control, red, own.parse().unwrap(), 5);
        }
        control.flood_set(vni(110), &[ip("192.0.2.2"), ip("192.0.2.3")]).unwrap();
        control.flood_set(vni(120), &[ip("192.0.2.2")]).unwrap();
        control.flood_set(vni(130), &[ip("2001:db8:ffff::2")]).unwrap();
        let worker = control.worker();
        Self { control, worker, red, up, routed, a, b, c, d, svi110, svi120, now: Duration::ZERO }
    }

    /// One frame by itself; what becomes of it and of its copies.
    pub(crate) fn send(&mut self, port: PortId, frame: &[u8]) -> (Verdict, Vec<(Verdict, Vec<u8>)>) {
        let mut packets = [Buffer::new(frame)];
        let mut verdicts = [Verdict::Replicate];
        self.worker.process(port, &mut packets, &mut verdicts);
        let [packet] = packets;
        let mut out = Vec::new();
        match verdicts[0] {
            Verdict::Replicate => {
                assert_eq!(packet.data(), frame, "as received");
                let send = |copy: Buffer, verdict| out.push((verdict, copy.data().to_vec()));
                self.worker.replicate(port, &packet, |packet| Some(packet.clone()), send);
                assert_eq!(packet.data(), frame, "as received");
            }
            Verdict::Transmit(_) => out.push((verdicts[0], packet.data().to_vec())),
            _ => assert_eq!(packet.data(), frame, "as received"),
        }
        self.worker.quiescent();
        (verdicts[0], out)
    }

    /// The same, and the control side takes in what was seen.
    pub(crate) fn send_and_learn(
        &mut self,
        port: PortId,
        frame: &[u8],
    ) -> (Verdict, Vec<(Verdict, Vec<u8>)>) {
        let sent = self.send(port, frame);
        self.upkeep();
        sent
    }

    pub(crate) fn upkeep(&mut self) -> Vec<Probe> {
        self.control.upkeep(self.now)
    }

    /// Time goes by, in steps in which upkeep is done; all probes of it.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<Probe> {
        let end = self.now + time;
        let mut probes = Vec::new();
        while self.now < end {
            self.now = (self.now + Duration::from_secs(5)).min(end);
            self.worker.tick(self.now);
            probes.extend(self.upkeep());
        }
        probes
    }

    pub(crate) fn learned(&mut self) -> Vec<Learned> {
        self.control.take_learned()
    }

    /// Hosts that have spoken: on a .11, on b .12 of VNI 110, on c .11 of VNI 120.
    pub(crate) fn with_hosts() -> Self {
        let mut lab = Self::new();
        for (port, host, address) in
            [(lab.a, 0x51, "192.171.24.11"), (lab.b, 0x52, "192.171.24.12"), (lab.c, 0x53, "192.171.25.11")]
        {
            lab.send_and_learn(port, &garp(mac(host), address));
        }
        lab.learned();
        lab
    }

    pub(crate) fn remote(&mut self, number: u32, last: u8, vtep: &str) {
        self.control.mac_set(vni(number), mac(last), ip(vtep), false).unwrap();
    }
}

pub(crate) const BROADCAST: Mac = Mac::new([0xff; 6]);

/// ARP between these, `operation` 1 or 2.
pub(crate) fn arp(
    destination: Mac,
    source: Mac,
    operation: u8,
    (sender_mac, sender): (Mac, &str),
    (target_mac, target): (Mac, &str),
) -> Vec<u8> {
    let v4 = |text: &str| match ip(text) {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => panic!("{text} is not IPv4"),
    };
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, operation];
    packet.extend(sender_mac.octets());
    packet.extend(v4(sender));
    packet.extend(target_mac.octets());
    packet.extend(v4(target));
    let mut frame = ethernet(destination, source, 0x806, &packet);
    frame.resize(60, 0);
    frame
}

/// "Who has `target`?"
pub(crate) fn who_has(mac: Mac, sender: &str, target: &str) -> Vec<u8> {
    arp(BROADCAST, mac, 1, (mac, sender), (Mac::default(), target))
}

/// A gratuitous request.
pub(crate) fn garp(mac: Mac, address: &str) -> Vec<u8> {
    who_has(mac, address, address)
}

/// VXLAN from `source` to us around a frame.
pub(crate) fn tunnelled(source: &str, number: u32, tos: u8, inner: &[u8]) -> Vec<u8> {
    let own = if ip(source).is_ipv4() { OWN } else { OWN6 };
    let outer = crate::frames::Ip {
        protocol: 17,
        tos,
        ports: (50_000, 4789),
        payload: inner.len() + 8,
        df: true,
        ..crate::frames::Ip::new(source, own)
    };
    let mut packet = outer.bytes();
    let vxlan = packet.len() - inner.len() - 8;
    packet[vxlan..vxlan + 8].copy_from_slice(&(8 << 56 | u64::from(number) << 8).to_be_bytes());
    packet[vxlan + 8..].copy_from_slice(inner);
    ethernet(UP, SPINE, crate::frames::ethertype(ip(own)), &packet)
}

/// What is in a VXLAN packet of ours: the VTEP it goes to, its type of service, the VNI and the frame.
pub(crate) fn inside(frame: &[u8]) -> (IpAddr, u8, u32, Vec<u8>) {
    assert_eq!(frame[..6], SPINE.octets());
    assert_eq!(frame[6..12], UP.octets());
    let (vtep, tos, udp): (IpAddr, u8, usize) = if frame[12..14] == [8, 0] {
        let ip: [u8; 4] = frame[30..34].try_into().unwrap();
        let mut sum: u32 =
            frame[14..34].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        sum = (sum & 0xffff) + (sum >> 16);
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "outer checksum");
        assert_eq!(frame[20] & 0x40, 0x40, "DF");
        assert_eq!(usize::from(u16::from_be_bytes([frame[16], frame[17]])), frame.len() - 14);
        (ip.into(), frame[15], 34)
    } else {
        let ip: [u8; 16] = frame[38..54].try_into().unwrap();
        assert_eq!(usize::from(u16::from_be_bytes([frame[18], frame[19]])), frame.len() - 54);
        (ip.into(), frame[14] << 4 | frame[15] >> 4, 54)
    };
    assert_eq!(frame[udp + 2..udp + 4], 4789_u16.to_be_bytes());
    assert_eq!(usize::from(u16::from_be_bytes([frame[udp + 4], frame[udp + 5]])), frame.len() - udp);
    assert_eq!(frame[udp + 6..udp + 8], [0, 0], "no UDP checksum");
    let number = u32::from_be_bytes(frame[udp + 12..udp + 16].try_into().unwrap()) >> 8;
    (vtep, tos, number, frame[udp + 16..].to_vec())
}
