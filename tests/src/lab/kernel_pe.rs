//! The independent other end: stock FRR with the Linux kernel as its dataplane.

use std::net::IpAddr;
use std::path::Path;

use super::plan::{Host, Vrf, pe_netns, vtep, vtep_v6};
use super::{Frr, config, netns};
use crate::Result;

/// Makes the VRFs, their VXLANs and the hosts behind a kernel PE. Underlay links exist already.
///
/// # Errors
/// When a device cannot be made.
pub fn devices(pe: u8, vrfs: &[Vrf]) -> Result<()> {
    let name = pe_netns(pe);
    for sysctl in [
        "net/ipv4/ip_forward",
        "net/ipv6/conf/all/forwarding",
        // What a station announces by itself is a neighbour, as OpenPERouter has it.
        "net/ipv4/conf/all/arp_accept",
        "net/ipv4/conf/default/arp_accept",
        "net/ipv6/conf/all/accept_untracked_na",
        "net/ipv6/conf/default/accept_untracked_na",
    ] {
        netns::sysctl(&name, sysctl, "1")?;
    }
    // A lookup that misses in a VRF must not go on in the main table.
    let text = format!(
        "addr add {}/32 dev lo\naddr add {}/128 dev lo\n\
         rule add l3mdev unreachable pref 2000\n-6 rule add l3mdev unreachable pref 2000\n",
        vtep(pe),
        vtep_v6(pe)
    );
    netns::ip_batch(Some(&name), &text)?;
    tenants(pe, vrfs, vtep(pe).into())
}

/// Makes VRFs on it, each with its VXLAN between VTEPs of the family of `local`, and the hosts behind them.
///
/// # Errors
/// When a device cannot be made.
pub fn tenants(pe: u8, vrfs: &[Vrf], local: IpAddr) -> Result<()> {
    let name = pe_netns(pe);
    let (mtu, checksum) = if local.is_ipv4() { (1450, "") } else { (1430, "udp6zerocsumrx udp6zerocsumtx") };
    let mut text = String::new();
    for vrf in vrfs {
        let host = Host { pe, vrf: *vrf };
        let (vrf, vni, table) = (vrf.name, vrf.vni, 1000 + vrf.vni);
        let mac = format!("aa:bb:cc:00:{:02x}:{pe:02x}", vni / 100);
        text += &format!(
            "link add {vrf} type vrf table {table}\nlink set {vrf} up\n\
             link add br{vni} type bridge\nlink set br{vni} addrgenmode none address {mac} master {vrf} up\n\
             link add vx{vni} type vxlan id {vni} local {local} dstport 4789 nolearning {checksum}\n\
             link set vx{vni} mtu {mtu} master br{vni} addrgenmode none\nlink set br{vni} mtu {mtu}\n\
             link set vx{vni} type bridge_slave neigh_suppress on learning off\nlink set vx{vni} up\n\
             link add to-{vrf} type veth peer name eth0 netns {netns}\nlink set to-{vrf} mtu {mtu} master {vrf} up\n\
             addr add 10.{pe}.0.254/24 dev to-{vrf}\naddr add fd00:10:{pe}::fe/64 dev to-{vrf}\n",
            netns = host.name(),
        );
    }
    netns::ip_batch(Some(&name), &text)?;
    for vrf in vrfs {
        let host = Host { pe, vrf: *vrf };
        let text = format!(
            "addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0\nlink set eth0 mtu {mtu} up\n\
             route add default via 10.{pe}.0.254\nroute add default via fd00:10:{pe}::fe\n",
            v4 = host.v4(),
            v6 = host.v6(),
        );
        netns::ip_batch(Some(&host.name()), &text)?;
    }
    Ok(())
}

/// Starts its FRR: the host's, or the one whose file system is at `root`.
///
/// # Errors
/// When a daemon does not come up or refuses the configuration.
pub fn start(pe: u8, vrfs: &[Vrf], root: Option<&Path>, logs: &Path) -> Result<Frr> {
    let name = pe_netns(pe);
    let mut frr = Frr::new(&name, &name, root, logs).with("zebra", &[]).with("bgpd", &[]).with("bfdd", &[]);
    frr.start()?;
    frr.load(&config::kernel_pe(pe, vrfs))?;
    Ok(frr)
}
