//! Configuration texts: FRR of spines, kernel PE and hosts, and our nodes' YAML.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::l2::ovs;
use super::plan::{
    HOST_ASN, Host, KERNEL_PE, KERNEL_PE_ASN, NODE_ASN, PASSTHROUGH_PE, SPINES, Vrf, link_pe, link_spine,
    passthrough_prefix, session_host, session_pe, spine_asn, spine_netns, uplink, vtep, vtep_v6,
};

/// What is common to every `router bgp` of the lab's own FRRs.
const BGP: &str = " no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n no bgp network import-check\n bgp bestpath as-path multipath-relax\n";

/// A spine: passes everything between the PEs and leaves EVPN next hops alone.
pub fn spine(spine: u8, pes: &[u8]) -> String {
    let mut text = format!("hostname {}\n", spine_netns(spine));
    if bfd(spine) {
        text += &bfd_profile();
    }
    let _ = write!(text, "router bgp {}\n bgp router-id 10.255.0.{spine}\n{BGP}", spine_asn(spine));
    for &pe in pes {
        let peer = link_pe(pe, spine);
        let asn = if pe == KERNEL_PE { KERNEL_PE_ASN } else { NODE_ASN };
        let _ = writeln!(text, " neighbor {peer} remote-as {asn}\n neighbor {peer} timers connect 2");
        let _ = writeln!(text, " neighbor {peer} timers 3 15\n neighbor {peer} advertisement-interval 0");
        if bfd(spine) {
            let _ = writeln!(text, " neighbor {peer} bfd\n neighbor {peer} bfd profile lab");
        }
    }
    for (family, keep) in [("ipv4 unicast", false), ("ipv6 unicast", false), ("l2vpn evpn", true)] {
        let _ = writeln!(text, " address-family {family}");
        for &pe in pes {
            let peer = link_pe(pe, spine);
            let _ = writeln!(text, "  neighbor {peer} activate");
            if keep {
                let _ = writeln!(text, "  neighbor {peer} attribute-unchanged next-hop");
            }
        }
        let _ = writeln!(text, " exit-address-family");
    }
    text
}

/// Whether sessions with this spine are watched by BFD: with the second one.
pub fn bfd(spine: u8) -> bool {
    spine == 2
}

/// Missed BFD packets, of 300 ms each, that end a session.
///
/// FRR's default of three asks that every process of the lab runs within 900 ms, which one shared CPU cannot promise. Six seconds
/// are still well below the hold time of 15: what BFD takes down, BGP alone would not have yet.
const BFD_MULTIPLIER: u8 = 20;

/// The profile that the lab's own FRRs give their sessions.
fn bfd_profile() -> String {
    format!("bfd\n profile lab\n  detect-multiplier {BFD_MULTIPLIER}\n exit\nexit\n")
}

/// A PE whose dataplane is the Linux kernel.
pub fn kernel_pe(pe: u8, vrfs: &[Vrf]) -> String {
    let router_id = vtep(pe);
    let mut text = String::from("hostname kpe\n") + &bfd_profile();
    let _ = write!(text, "router bgp {KERNEL_PE_ASN}\n bgp router-id {router_id}\n{BGP}");
    for spine in SPINES {
        let peer = link_spine(pe, spine);
        let _ = writeln!(
            text,
            " neighbor {peer} remote-as {}\n neighbor {peer} timers connect 2",
            spine_asn(spine)
        );
        let _ = writeln!(text, " neighbor {peer} timers 3 15\n neighbor {peer} advertisement-interval 0");
        if bfd(spine) {
            let _ = writeln!(text, " neighbor {peer} bfd\n neighbor {peer} bfd profile lab");
        }
    }
    let networks = [("ipv4", format!("{router_id}/32")), ("ipv6", format!("{}/128", vtep_v6(pe)))];
    for (family, network) in networks {
        let _ = writeln!(text, " address-family {family} unicast\n  network {network}");
        for spine in SPINES {
            let _ = writeln!(text, "  neighbor {} activate", link_spine(pe, spine));
        }
        let _ = writeln!(text, " exit-address-family");
    }
    let _ = writeln!(text, " address-family l2vpn evpn");
    for spine in SPINES {
        let _ = writeln!(text, "  neighbor {} activate", link_spine(pe, spine));
    }
    let _ = writeln!(text, "  advertise-all-vni\n exit-address-family\nexit");
    for vrf in vrfs {
        text += &kernel_vrf(pe, *vrf);
    }
    text
}

/// A VRF of such a PE.
pub fn kernel_vrf(pe: u8, vrf: Vrf) -> String {
    let (name, router_id) = (vrf.name, vtep(pe));
    let mut text = format!(
        "vrf {name}\n vni {}\nexit-vrf\nrouter bgp {KERNEL_PE_ASN} vrf {name}\n bgp router-id {router_id}\n{BGP}",
        vrf.vni
    );
    for family in ["ipv4", "ipv6"] {
        let _ = writeln!(
            text,
            " address-family {family} unicast\n  redistribute connected\n exit-address-family"
        );
    }
    text + " address-family l2vpn evpn\n  advertise ipv4 unicast\n  advertise ipv6 unicast\n exit-address-family\nexit\n"
}

/// A host behind a node of ours: announces its prefixes to the node over the host session.
///
/// Hosts of all nodes share an AS, so each accepts its own in a path.
pub fn host(host: Host) -> String {
    let mut text = format!("hostname {}\nrouter bgp {HOST_ASN}\n", host.name());
    let _ = write!(text, " bgp router-id {}\n{BGP}", session_host(host)[0]);
    for peer in session_pe(host.vrf) {
        let _ = writeln!(text, " neighbor {peer} remote-as {NODE_ASN}\n neighbor {peer} timers connect 2");
        let _ = writeln!(text, " neighbor {peer} timers 3 15\n neighbor {peer} advertisement-interval 0");
    }
    for peer in session_pe(host.vrf) {
        let (family, prefix, own) = match peer {
            IpAddr::V4(_) => ("ipv4", format!("10.{}.0.0/24", host.pe), format!("{}/32", host.own_v4())),
            IpAddr::V6(_) => ("ipv6", format!("fd00:10:{}::/64", host.pe), format!("{}/128", host.own_v6())),
        };
        let _ = writeln!(text, " address-family {family} unicast\n  network {prefix}\n  network {own}");
        let _ =
            writeln!(text, "  neighbor {peer} activate\n  neighbor {peer} allowas-in\n exit-address-family");
    }
    text
}

/// The host's BGP speaker of a node of ours, on the session in the default VRF.
pub fn passthrough_host(pe: u8) -> String {
    let mut text =
        format!("hostname n{pe}-pt\nrouter bgp {HOST_ASN}\n bgp router-id 10.{}.0.1\n{BGP}", 200 + pe);
    for peer in PASSTHROUGH_PE {
        let _ = writeln!(text, " neighbor {peer} remote-as {NODE_ASN}\n neighbor {peer} timers connect 2");
        let _ = writeln!(text, " neighbor {peer} timers 3 15\n neighbor {peer} advertisement-interval 0");
    }
    let [v4, v6] = passthrough_prefix(pe);
    for (family, peer, prefix) in [("ipv4", PASSTHROUGH_PE[0], v4), ("ipv6", PASSTHROUGH_PE[1], v6)] {
        let _ = writeln!(
            text,
            " address-family {family} unicast\n  network {prefix}\n  neighbor {peer} activate\n  \
             neighbor {peer} allowas-in\n exit-address-family"
        );
    }
    text
}

/// The passthrough of a node of ours, its host's end in a namespace of its own.
pub fn passthrough(netns: &str) -> String {
    format!(
        "bgppassthrough:\n  hostSession:\n    asn: {NODE_ASN}\n    hostASN: {HOST_ASN}\n    netns: /run/netns/{netns}\n    \
         localCIDR: {{ipv4: 192.169.20.0/24, ipv6: \"2001:db8:20::/64\"}}\n"
    )
}

/// `node-config.yaml` of a node of ours.
pub fn node(pe: u8) -> String {
    format!("nodeIndex:\n  index: {pe}\nnodeName: n{pe}\nlogLevel: info\novsSocketPath: {}\n", ovs::SOCKET)
}

/// The Underlay of a node of ours: two spines, one of them with BFD.
pub fn underlay(pe: u8) -> String {
    let mut text = format!("underlays:\n- asn: {NODE_ASN}\n  routerIDCIDR: 10.0.0.0/24\n");
    text.push_str("  tunnelEndpoint:\n    cidrs: [100.65.0.0/24, \"fd00:64::/120\"]\n  interfaces:\n");
    for spine in SPINES {
        let _ = writeln!(
            text,
            "  - type: NetworkDevice\n    networkDevice: {{interfaceName: {}}}",
            uplink(spine)
        );
    }
    text.push_str("  neighbors:\n");
    for spine in SPINES {
        let _ = writeln!(text, "  - asn: {}\n    address: {}", spine_asn(spine), link_spine(pe, spine));
        text.push_str("    holdTimeSeconds: 15\n    keepaliveTimeSeconds: 3\n    connectTimeSeconds: 2\n");
        if bfd(spine) {
            let _ = writeln!(text, "    bfd: {{detectMultiplier: {BFD_MULTIPLIER}}}");
        }
    }
    text
}

/// An L3VNI of a node of ours, its host's end in the tenant's namespace.
pub fn l3vni(pe: u8, vrf: Vrf) -> String {
    let host = Host { pe, vrf };
    format!(
        "l3vnis:\n- name: {name}\n  vrf: {name}\n  vni: {vni}\n  hostSession:\n    asn: {NODE_ASN}\n    hostASN: {HOST_ASN}\n    \
         netns: /run/netns/{netns}\n    localCIDR: {{ipv4: 192.169.{session}.0/24, ipv6: \"2001:db8:{session:x}::/64\"}}\n",
        name = vrf.name,
        vni = vrf.vni,
        netns = host.name(),
        session = vrf.session,
    )
}

#[cfg(test)]
mod tests {
    use super::super::plan::{BLUE, RED};
    use super::*;

    #[test]
    fn a_session_subnet_in_yaml_holds_the_addresses_of_the_plan() {
        for vrf in [RED, BLUE] {
            let yaml = l3vni(1, vrf);
            let host = Host { pe: 1, vrf };
            let [IpAddr::V4(v4), IpAddr::V6(v6)] = session_host(host) else {
                unreachable!("one of each family")
            };
            let [a, b, c, _] = v4.octets();
            assert!(yaml.contains(&format!("{a}.{b}.{c}.0/24")), "{yaml}");
            let subnet = v6.to_string();
            let subnet = subnet.trim_end_matches(|c: char| c != ':');
            assert!(yaml.contains(&format!("{subnet}/64")), "{subnet} in {yaml}");
        }
    }
}
