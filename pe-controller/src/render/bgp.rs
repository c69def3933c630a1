use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::session;
use super::text::Text;
use super::{CONNECT_SECONDS, MAXIMUM_PATHS, bfd_profile};
use crate::model::{AfType, GracefulRestartSpec};
use crate::resolve::{Pe, Session};
use crate::validate::{Family, Neighbor, Peer, Underlay};

/// FRR's most neighbours on listen ranges; its default is 100.
const LISTEN_LIMIT: u32 = 65535;

/// What every BGP instance of ours begins with.
pub(super) fn instance(text: &mut Text, router_id: Ipv4Addr) {
    text.line(format_args!("bgp router-id {router_id}"));
    text.line("no bgp ebgp-requires-policy");
    text.line("no bgp default ipv4-unicast");
    // Leaves of different ASNs lead to the same places: without this only one of them would be used.
    text.line("bgp bestpath as-path multipath-relax");
    text.line("no bgp network import-check");
}

/// Equal-cost paths of a unicast family.
pub(super) fn maximum_paths(text: &mut Text) {
    text.line(format_args!("maximum-paths {MAXIMUM_PATHS}"));
    text.line(format_args!("maximum-paths ibgp {MAXIMUM_PATHS}"));
}

/// The BGP instance of the default VRF: the fabric, and the host's session without encapsulation.
pub(super) fn underlay(text: &mut Text, pe: &Pe, underlay: &Underlay, router_id: Ipv4Addr) {
    let sessions: Vec<(&Neighbor, Vec<Family>)> =
        underlay.neighbors.iter().map(|neighbor| (neighbor, families(neighbor, pe))).collect();
    let passthrough = pe.passthrough.as_ref().map(|passthrough| &passthrough.session);
    text.block(format_args!("router bgp {}", underlay.asn), "exit", |text| {
        instance(text, router_id);
        if let Some(id) = underlay.cluster_id {
            text.line(format_args!("bgp cluster-id {id}"));
        }
        if let Some(restart) = &underlay.graceful_restart {
            graceful_restart(text, restart);
        }
        for (peer, families) in &sessions {
            neighbor(text, peer, families);
        }
        if let Some(session) = passthrough {
            for host in session::hosts(session) {
                session::neighbor(text, host, session);
            }
        }
        if sessions.iter().any(|(neighbor, _)| matches!(neighbor.peer, Peer::Range(_))) {
            text.line(format_args!("bgp listen limit {LISTEN_LIMIT}"));
        }
        for (af, name) in [(AfType::Ipv4Unicast, "ipv4 unicast"), (AfType::Ipv6Unicast, "ipv6 unicast")] {
            let vtep = match af {
                AfType::Ipv4Unicast => pe.vtep4.map(IpAddr::V4),
                _ => pe.vtep6.map(IpAddr::V6),
            };
            let host = passthrough.and_then(|session| Some((session, host(session, af)?)));
            if vtep.is_none() && host.is_none() && active(&sessions, af).next().is_none() {
                continue;
            }
            text.separator();
            text.block(format_args!("address-family {name}"), "exit-address-family", |text| {
                for address in vtep.into_iter().chain(host.map(|(_, host)| host)) {
                    text.line(format_args!("network {}", IpNet::from(address)));
                }
                for (neighbor, family) in active(&sessions, af) {
                    activate(text, neighbor, family);
                    if neighbor.internal {
                        text.line(format_args!("neighbor {} next-hop-self force", neighbor.peer));
                    }
                }
                if let Some((session, host)) = host {
                    session::activate(text, host, session::is_internal(session, underlay.asn));
                }
                maximum_paths(text);
            });
        }
        let evpn: Vec<_> = active(&sessions, AfType::Evpn).collect();
        let has_vtep = pe.vtep4.is_some() || pe.vtep6.is_some();
        if has_vtep || !evpn.is_empty() {
            text.separator();
            text.block("address-family l2vpn evpn", "exit-address-family", |text| {
                for (neighbor, family) in evpn {
                    activate(text, neighbor, family);
                }
                if has_vtep {
                    text.line("advertise-all-vni");
                }
            });
        }
    });
    text.separator();
}

/// The host's end of the link in one family. In the default VRF each session carries the family it runs over.
fn host(session: &Session, af: AfType) -> Option<IpAddr> {
    session::hosts(session).find(|host| host.is_ipv4() == (af == AfType::Ipv4Unicast))
}

fn graceful_restart(text: &mut Text, restart: &GracefulRestartSpec) {
    // FRR's defaults are left out: setting them again with a reload resets sessions (FRR issue 22953).
    if restart.stale_path_time_seconds.value() != GracefulRestartSpec::STALE_PATH_TIME {
        text.line(format_args!("bgp graceful-restart stalepath-time {}", restart.stale_path_time_seconds));
    }
    if restart.restart_time_seconds.value() != GracefulRestartSpec::RESTART_TIME {
        text.line(format_args!("bgp graceful-restart restart-time {}", restart.restart_time_seconds));
    }
    text.line("bgp graceful-restart");
    text.line("bgp graceful-restart preserve-fw-state");
}

fn neighbor(text: &mut Text, neighbor: &Neighbor, families: &[Family]) {
    let peer = &neighbor.peer;
    match peer {
        Peer::Address(_) => text.line(format_args!("neighbor {peer} remote-as {}", neighbor.remote)),
        Peer::Interface(_) => {
            text.line(format_args!("neighbor {peer} interface remote-as {}", neighbor.remote));
        }
        Peer::Range(_) => {
            text.line(format_args!("neighbor {peer} peer-group"));
            text.line(format_args!("neighbor {peer} remote-as {}", neighbor.remote));
        }
    }
    if neighbor.bfd.is_some() {
        text.line(format_args!("neighbor {peer} bfd"));
        if let Some(profile) = bfd_profile(neighbor) {
            text.line(format_args!("neighbor {peer} bfd profile {profile}"));
        }
    }
    if let Some(password) = &neighbor.password {
        text.line(format_args!("neighbor {peer} password {}", password.reveal()));
    }
    // FRR takes multihop for eBGP by address only, and does not show a single hop, its default.
    let multihop = neighbor.multihop.filter(|_| !neighbor.internal && !matches!(peer, Peer::Interface(_)));
    if let Some(ttl) = multihop.filter(|ttl| *ttl > 1) {
        // FRR 8.4 shows 255 with its number and newer ones without: 254 is the same in all of them.
        text.line(format_args!("neighbor {peer} ebgp-multihop {}", ttl.min(254)));
    }
    let active = |af| families.iter().any(|family| family.af == af);
    if active(AfType::Ipv6Unicast)
        && !neighbor.internal
        && multihop.is_none()
        && matches!(peer, Peer::Address(_))
    {
        text.line(format_args!("neighbor {peer} disable-connected-check"));
    }
    // On an interface FRR does this by itself.
    let over_ipv6 = matches!(peer, Peer::Address(IpAddr::V6(_)) | Peer::Range(IpNet::V6(_)));
    if over_ipv6 && active(AfType::Ipv4Unicast) {
        text.line(format_args!("neighbor {peer} capability extended-nexthop"));
    }
    if let Some(port) = neighbor.port {
        text.line(format_args!("neighbor {peer} port {port}"));
    }
    if let Some((keepalive, hold)) = neighbor.timers {
        text.line(format_args!("neighbor {peer} timers {keepalive} {hold}"));
    }
    if !matches!(peer, Peer::Range(_)) || neighbor.connect_time.is_some() {
        let seconds = neighbor.connect_time.unwrap_or(CONNECT_SECONDS);
        text.line(format_args!("neighbor {peer} timers connect {seconds}"));
    }
    if let Peer::Range(range) = peer {
        text.line(format_args!("bgp listen range {range} peer-group {range}"));
    }
}

fn active<'a>(
    sessions: &'a [(&'a Neighbor, Vec<Family>)],
    af: AfType,
) -> impl Iterator<Item = (&'a Neighbor, Family)> {
    sessions.iter().flat_map(move |(neighbor, families)| {
        families.iter().filter(move |family| family.af == af).map(move |family| (*neighbor, *family))
    })
}

fn activate(text: &mut Text, neighbor: &Neighbor, family: Family) {
    let peer = &neighbor.peer;
    text.line(format_args!("neighbor {peer} activate"));
    if family.reflector_client {
        text.line(format_args!("neighbor {peer} route-reflector-client"));
    }
    if !neighbor.internal {
        // All nodes share one ASN: routes of the others come back with it in their path.
        text.line(format_args!("neighbor {peer} allowas-in"));
    }
}

/// The address families of a session: those asked for, else those that the node's objects need. A VTEP pool counts as a
/// need for EVPN, so that the first VNI does not reset the session.
fn families(neighbor: &Neighbor, pe: &Pe) -> Vec<Family> {
    if !neighbor.families.is_empty() {
        return neighbor.families.clone();
    }
    let overlay = pe.vtep4.is_some() || pe.vtep6.is_some();
    let passthrough =
        |af| pe.passthrough.as_ref().is_some_and(|passthrough| host(&passthrough.session, af).is_some());
    let over_ipv6 = matches!(neighbor.peer, Peer::Address(IpAddr::V6(_)) | Peer::Range(IpNet::V6(_)));
    let ipv4 = !over_ipv6 || overlay || passthrough(AfType::Ipv4Unicast);
    let ipv6 = over_ipv6 || pe.vtep6.is_some() || passthrough(AfType::Ipv6Unicast);
    [(AfType::Ipv4Unicast, ipv4), (AfType::Ipv6Unicast, ipv6), (AfType::Evpn, overlay)]
        .into_iter()
        .filter(|(_, wanted)| *wanted)
        .map(|(af, _)| Family { af, reflector_client: false })
        .collect()
}
