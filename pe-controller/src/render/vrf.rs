use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::bgp::{instance, maximum_paths};
use super::session::{activate, hosts, is_internal, neighbor};
use super::text::Text;
use crate::model::Asn;
use crate::resolve::{Pe, Vni};

/// zebra's part: which VNI carries the VRF.
pub(super) fn device(text: &mut Text, vni: &Vni) {
    text.block(format_args!("vrf {}", vni.vrf), "exit-vrf", |text| {
        text.line(format_args!("vni {}", vni.vni));
    });
    text.separator();
}

/// bgpd's part: the VRF's instance, its session with the host, and EVPN. Without a session it has the underlay's ASN.
pub(super) fn bgp(text: &mut Text, pe: &Pe, vni: &Vni, underlay_asn: Asn, router_id: Ipv4Addr) {
    let session = vni.session.as_ref();
    let asn = session.map_or(underlay_asn, |session| session.asn);
    let networks = networks(pe, vni);
    text.block(format_args!("router bgp {asn} vrf {}", vni.vrf), "exit", |text| {
        instance(text, router_id);
        if let Some(session) = session {
            for host in hosts(session) {
                neighbor(text, host, session);
            }
        }
        for (name, is_family) in families() {
            text.separator();
            text.block(format_args!("address-family {name}"), "exit-address-family", |text| {
                for network in networks.iter().filter(|network| is_family(&network.addr())) {
                    text.line(format_args!("network {network}"));
                }
                // Both families run over each session, so that one session is enough for a dual-stack host.
                if let Some(session) = session {
                    for host in hosts(session) {
                        activate(text, host, is_internal(session, asn));
                    }
                }
                maximum_paths(text);
            });
        }
        text.separator();
        text.block("address-family l2vpn evpn", "exit-address-family", |text| {
            text.line("advertise ipv4 unicast");
            text.line("advertise ipv6 unicast");
            for target in &vni.import_rts {
                text.line(format_args!("route-target import {target}"));
            }
            for target in &vni.export_rts {
                text.line(format_args!("route-target export {target}"));
            }
        });
    });
    text.separator();
}

/// What the VRF originates: the host's ends of the link, and the subnets of the L2VNIs it routes for.
fn networks(pe: &Pe, vni: &Vni) -> BTreeSet<IpNet> {
    let links = vni.session.iter().flat_map(hosts).map(IpNet::from);
    let bridges = pe.bridges.iter().filter(|bridge| bridge.vrf.as_ref() == Some(&vni.vrf));
    links.chain(bridges.flat_map(|bridge| bridge.gateways.iter().map(IpNet::trunc))).collect()
}

type IsFamily = fn(&IpAddr) -> bool;

fn families() -> [(&'static str, IsFamily); 2] {
    [("ipv4 unicast", IpAddr::is_ipv4), ("ipv6 unicast", IpAddr::is_ipv6)]
}
