//! A node with two underlay ports, two tenants with the same subnets, and a tunnel of each family.

use std::net::IpAddr;

use forwarding::{
    Attachment, Buffer, Control, Mac, Packet, Path, PortConfig, PortId, Reason, Verdict, Vni, VniConfig,
    VrfId, WeightedPath, Worker,
};
use ipnet::IpNet;

pub(crate) const OWN_V4: &str = "192.0.2.1";
pub(crate) const OWN_V6: &str = "2001:db8:ffff::1";
pub(crate) const PEER_V4: &str = "192.0.2.2";
pub(crate) const PEER_V6: &str = "2001:db8:ffff::2";

pub(crate) fn mac(last: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, last])
}

/// A tenant's or the underlay's port.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) id: PortId,
    pub(crate) vrf: VrfId,
    pub(crate) mac: Mac,
    pub(crate) mtu: u16,
}

#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    pub(crate) vrf: VrfId,
    pub(crate) vni: u32,
    pub(crate) own: IpAddr,
    pub(crate) peer: IpAddr,
    pub(crate) udp_port: u16,
    pub(crate) router_mac: Mac,
    pub(crate) remote_router_mac: Mac,
}

#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) vrf: VrfId,
    pub(crate) prefix: IpNet,
    pub(crate) path: Path,
}

pub(crate) struct Lab {
    pub(crate) control: Control,
    pub(crate) worker: Worker,
    pub(crate) ports: Vec<Port>,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) routes: Vec<Route>,
    pub(crate) neighbors: Vec<(PortId, IpAddr, Mac)>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let mut control = Control::new().unwrap();
        let red = control.vrf_add("red").unwrap();
        let blue = control.vrf_add("blue").unwrap();
        let mut ports = Vec::new();
        for (name, vrf, mtu) in [
            ("up0", VrfId::DEFAULT, 1500),
            ("up1", VrfId::DEFAULT, 1400),
            ("red0", red, 9000),
            ("blue0", blue, 1500),
        ] {
            let mac = mac(0x10 + u8::try_from(ports.len()).unwrap());
            let id = control
                .port_add(PortConfig { name: name.to_owned(), attachment: Attachment::Routed(vrf), mac, mtu })
                .unwrap();
            ports.push(Port { id, vrf, mac, mtu });
        }
        control.vtep_addresses_set(&[ip(OWN_V4), ip(OWN_V6)]).unwrap();
        let tenant = |vrf, vni, own: &str, peer: &str, udp_port, last| Tenant {
            vrf,
            vni,
            own: ip(own),
            peer: ip(peer),
            udp_port,
            router_mac: mac(last),
            remote_router_mac: mac(last + 1),
        };
        let tenants = vec![
            tenant(red, 100, OWN_V4, PEER_V4, 4789, 0x20),
            tenant(blue, 200, OWN_V6, PEER_V6, 4790, 0x30),
        ];
        for tenant in &tenants {
            let config = VniConfig {
                vrf: tenant.vrf,
                vtep: tenant.own,
                udp_port: tenant.udp_port,
                router_mac: tenant.router_mac,
            };
            control.vni_set(Vni::new(tenant.vni).unwrap(), config).unwrap();
        }

        let (up0, up1, red0, blue0) = (ports[0].id, ports[1].id, ports[2].id, ports[3].id);
        let route = |vrf, prefix: &str, path| Route { vrf, prefix: prefix.parse().unwrap(), path };
        let adjacent = |port, gateway: &str| Path::Adjacent { port, gateway: ip(gateway) };
        let mut routes = vec![
            route(VrfId::DEFAULT, "10.100.0.0/24", adjacent(up0, "203.0.113.1")),
            route(VrfId::DEFAULT, "192.0.2.2/32", adjacent(up1, "203.0.113.5")),
            route(VrfId::DEFAULT, "192.0.2.1/32", Path::Local),
            // An IPv4 route by an IPv6 gateway.
            route(VrfId::DEFAULT, "10.101.0.0/24", adjacent(up1, "fe80::5")),
            route(VrfId::DEFAULT, "10.102.0.0/24", adjacent(up1, "203.0.113.99")),
            route(VrfId::DEFAULT, "2001:db8:ffff::2/128", adjacent(up0, "fe80::1")),
            route(VrfId::DEFAULT, "2001:db8:ffff::1/128", Path::Local),
            route(VrfId::DEFAULT, "2001:db8:100::/48", adjacent(up0, "fe80::1")),
        ];
        for (tenant, port) in tenants.iter().zip([red0, blue0]) {
            let vxlan = |router_mac| Path::Vxlan {
                vni: Vni::new(tenant.vni).unwrap(),
                vtep: tenant.peer,
                router_mac,
            };
            let remote = vxlan(Some(tenant.remote_router_mac));
            for (prefix, path) in [
                ("10.1.0.0/24", Path::Connected { port }),
                ("10.1.0.1/32", Path::Local),
                ("10.2.0.0/16", remote),
                ("10.2.7.0/24", Path::Drop),
                ("10.3.0.0/16", vxlan(None)),
                ("2001:db8:1::/64", Path::Connected { port }),
                ("2001:db8:1::1/128", Path::Local),
                ("2001:db8:2::/48", remote),
            ] {
                routes.push(route(tenant.vrf, prefix, path));
            }
        }
        let neighbors = vec![
            (up0, ip("203.0.113.1"), mac(0x41)),
            (up0, ip("fe80::1"), mac(0x41)),
            (up1, ip("203.0.113.5"), mac(0x42)),
            (up1, ip("fe80::5"), mac(0x43)),
            (red0, ip("10.1.0.9"), mac(0x51)),
            (red0, ip("2001:db8:1::9"), mac(0x51)),
            (blue0, ip("10.1.0.9"), mac(0x52)),
            (blue0, ip("2001:db8:1::9"), mac(0x52)),
        ];
        let worker = control.worker();
        let mut lab = Self { control, worker, ports, tenants, routes, neighbors };
        lab.state();
        lab
    }

    /// States everything in a session.
    pub(crate) fn state(&mut self) {
        self.control.session_begin();
        for (group, route) in (1..).zip(&self.routes) {
            self.control.group_set(group, &[WeightedPath { weight: 0, path: route.path }]).unwrap();
            set_route(&mut self.control, route.vrf, route.prefix, group);
        }
        for &(port, address, mac) in &self.neighbors {
            self.control.neighbor_set(port, address, mac).unwrap();
        }
    }

    /// One frame by itself.
    pub(crate) fn send(&mut self, port: PortId, frame: &[u8]) -> (Verdict, Vec<u8>) {
        let mut packets = [Buffer::new(frame)];
        let mut verdicts = [Verdict::Drop(Reason::TxFull)];
        self.worker.process(port, &mut packets, &mut verdicts);
        self.worker.quiescent();
        (verdicts[0], packets[0].data().to_vec())
    }
}

pub(crate) fn set_route(control: &mut Control, vrf: VrfId, prefix: IpNet, group: u32) {
    let length = prefix.prefix_len().into();
    match prefix.network() {
        IpAddr::V4(address) => control.route4(vrf, address.to_bits(), length, group),
        IpAddr::V6(address) => control.route6(vrf, address.to_bits(), length, group),
    }
    .unwrap();
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
