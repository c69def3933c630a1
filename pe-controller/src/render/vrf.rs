use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::CONNECT_SECONDS;
use super::bgp::{instance, maximum_paths};
use super::text::Text;
use crate::model::Asn;
use crate::resolve::{Session, Vni};
use crate::validate::RemoteAs;

/// zebra's part: which VNI carries the VRF.
pub(super) fn device(text: &mut Text, vni: &Vni) {
    text.block(format_args!("vrf {}", vni.vrf), "exit-vrf", |text| {
        text.line(format_args!("vni {}", vni.vni));
    });
    text.separator();
}

/// bgpd's part: the VRF's instance, its session with the host, and EVPN. Without a session it has the underlay's ASN.
pub(super) fn bgp(text: &mut Text, vni: &Vni, underlay_asn: Asn, router_id: Ipv4Addr) {
    let session = vni.session.as_ref();
    let asn = session.map_or(underlay_asn, |session| session.asn);
    let hosts: Vec<IpAddr> =
        session.iter().flat_map(|session| session.links()).map(|link| link.host.addr()).collect();
    text.block(format_args!("router bgp {asn} vrf {}", vni.vrf), "exit", |text| {
        instance(text, router_id);
        if let Some(session) = session {
            for host in &hosts {
                neighbor(text, *host, session);
            }
        }
        for (name, is_family) in families() {
            text.separator();
            text.block(format_args!("address-family {name}"), "exit-address-family", |text| {
                for host in hosts.iter().filter(|host| is_family(host)) {
                    text.line(format_args!("network {}", IpNet::from(*host)));
                }
                if let Some(session) = session {
                    for host in &hosts {
                        activate(text, *host, session);
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

type IsFamily = fn(&IpAddr) -> bool;

fn families() -> [(&'static str, IsFamily); 2] {
    [("ipv4 unicast", IpAddr::is_ipv4), ("ipv6 unicast", IpAddr::is_ipv6)]
}

fn neighbor(text: &mut Text, host: IpAddr, session: &Session) {
    text.line(format_args!("neighbor {host} remote-as {}", session.remote));
    text.line(format_args!("neighbor {host} timers connect {CONNECT_SECONDS}"));
}

/// Both families run over each session, so that one session is enough for a dual-stack host.
fn activate(text: &mut Text, host: IpAddr, session: &Session) {
    text.line(format_args!("neighbor {host} activate"));
    if session.remote == RemoteAs::Internal {
        text.line(format_args!("neighbor {host} next-hop-self force"));
    }
    text.line(format_args!("neighbor {host} route-map allowall in"));
    text.line(format_args!("neighbor {host} route-map allowall out"));
}
