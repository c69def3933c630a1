//! Namespaces and veths around a PE, and the PE that the kernel is.
//!
//! ```text
//!  host (eth0) ---- (access) PE (under) ---- (eth0) fabric
//! ```
//!
//! Not every kernel has VRF devices (Debian's has, that of the machine in BENCHMARKS.md has not). So the kernel's VRF is a
//! network namespace with the VRF's bridge, VXLAN device and routes; the VXLAN device's tunnels stay in the namespace of the
//! underlay, where it was made. What is looked up for a packet is the same: a route, a neighbour and a bridge's FDB in the VRF,
//! a route and a neighbour in the underlay; only the rule that leads from a VRF device to its table is saved.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail, ensure};
use dataplane::host::Netns;

use super::frames::{
    ACCESS_MAC, FABRIC_MAC, HOST, HOST_MAC, REMOTE_HOST_MAC, REMOTE_ROUTER_MAC, Service, UNDER_MAC,
};
use crate::traffic::{L2VNI, OUR_ROUTER_MAC, OUR_VTEP, VNI, remote_vtep};

/// The kernel's default of most interfaces, and room for VXLAN's headers on top of it, bytes.
pub(crate) const MTU: u32 = 1500;
pub(crate) const UNDER_MTU: u32 = 1600;
/// The PE's address towards the host, and in the fabric, and that of the fabric's end.
pub(crate) const ACCESS: &str = "198.18.0.254";
pub(crate) const UNDER: &str = "192.0.2.1";
pub(crate) const FABRIC: &str = "192.0.2.2";

/// Every namespace of every lab.
const NAMESPACES: [&str; 7] = ["host", "pe", "vrf", "fabric", "far", "router", "ports"];

/// Who is at the end of the host's veth and the fabric's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pe {
    /// The kernel.
    Kernel(Service),
    /// Nobody yet: for the engine, both veths are in one namespace.
    Engine,
    /// One veth leads straight from the host to the fabric: what generator and sink cost by themselves.
    Nobody,
}

/// The namespaces; gone when dropped.
#[derive(Debug)]
pub(crate) struct Lab(());

impl Lab {
    /// Makes them, after removing what an earlier run has left.
    ///
    /// # Errors
    /// Without root, `ip` or the kernel's devices.
    pub(crate) fn new(pe: Pe) -> anyhow::Result<Self> {
        remove();
        let lab = Self(());
        for name in NAMESPACES.into_iter().filter(|name| *name != "ports") {
            run("ip", &["netns", "add", &full(name)])?;
            // The kernel's own chatter would be counted.
            set(name, "net/ipv6/conf/all/disable_ipv6", "1")?;
            set(name, "net/ipv6/conf/default/disable_ipv6", "1")?;
            ip(name, "link set lo up")?;
        }
        let (host, fabric) = (full("host"), full("fabric"));
        let (host_mac, fabric_mac) = (mac(HOST_MAC), mac(FABRIC_MAC));
        if pe == Pe::Nobody {
            ip("host", &format!("link add eth0 address {host_mac} type veth peer name eth0 netns {fabric}"))?;
        } else {
            let access = if matches!(pe, Pe::Kernel(_)) { "vrf" } else { "pe" };
            ip(
                access,
                &format!(
                    "link add access address {} type veth peer name eth0 netns {host} address {host_mac}\n\
                 link set access up",
                    mac(ACCESS_MAC)
                ),
            )?;
            ip(
                "pe",
                &format!(
                    "link add under mtu {UNDER_MTU} address {} type veth peer name eth0 netns {fabric} address {fabric_mac} mtu {UNDER_MTU}\n\
                 link set under up",
                    mac(UNDER_MAC)
                ),
            )?;
        }
        for name in ["host", "fabric"] {
            ip(name, "link set eth0 up")?;
        }
        if let Pe::Kernel(service) = pe {
            underlay("pe", "under", &format!("{UNDER}/24"), &OUR_VTEP.to_string())?;
            ip(
                "pe",
                &format!(
                    "neigh replace {FABRIC} lladdr {fabric_mac} dev under nud permanent\n\
                 route add {}/24 via {FABRIC}",
                    remote_vtep(0)
                ),
            )?;
            overlay(service)?;
        }
        Ok(lab)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        remove();
    }
}

/// Forwarding on, an interface's address, and the VTEP's.
fn underlay(name: &str, interface: &str, address: &str, vtep: &str) -> anyhow::Result<()> {
    set(name, "net/ipv4/ip_forward", "1")?;
    ip(name, &format!("addr add {address} dev {interface}\naddr add {vtep}/32 dev lo"))
}

/// The VRF of the kernel's PE: a bridge with the VXLAN device; routed or with the host in it.
fn overlay(service: Service) -> anyhow::Result<()> {
    let remote = remote_vtep(0);
    set("vrf", "net/ipv4/ip_forward", "1")?;
    match service {
        Service::L3 => {
            tunnel("pe", "vrf", VNI, &OUR_VTEP.to_string(), &mac(OUR_ROUTER_MAC))?;
            ip(
                "vrf",
                &format!(
                    "addr add {ACCESS}/24 dev access\n\
                 neigh replace {HOST} lladdr {} dev access nud permanent\n\
                 route add 10.2.0.0/16 via {remote} dev bridge onlink\n\
                 neigh replace {remote} lladdr {} dev bridge nud permanent",
                    mac(HOST_MAC),
                    mac(REMOTE_ROUTER_MAC)
                ),
            )?;
            bridge("vrf", &fdb(REMOTE_ROUTER_MAC, &remote.to_string()))
        }
        Service::L2 => {
            tunnel("pe", "vrf", L2VNI, &OUR_VTEP.to_string(), &mac(OUR_ROUTER_MAC))?;
            ip("vrf", "link set access master bridge")?;
            bridge(
                "vrf",
                &format!(
                    "{}\nfdb add {} dev access master static",
                    fdb(REMOTE_HOST_MAC, &remote.to_string()),
                    mac(HOST_MAC)
                ),
            )
        }
    }
}

/// A VXLAN device whose tunnels are those of `outside`, and its bridge, in `inside`. Without outer UDP checksums (RFC 7348: they
/// should be zero), which is less work and what the engine does.
fn tunnel(outside: &str, inside: &str, vni: u32, local: &str, router_mac: &str) -> anyhow::Result<()> {
    ip(
        outside,
        &format!(
            "link add vxlan type vxlan id {vni} local {local} dstport 4789 noudpcsum nolearning\n\
         link set vxlan netns {}",
            full(inside)
        ),
    )?;
    ip(
        inside,
        &format!(
            "link add bridge address {router_mac} mtu {MTU} type bridge\n\
         link set vxlan mtu {MTU} master bridge up\n\
         link set bridge up"
        ),
    )
}

/// What EVPN would install for a MAC behind a VTEP.
fn fdb(address: [u8; 6], vtep: &str) -> String {
    let address = mac(address);
    format!("fdb add {address} dev vxlan dst {vtep} self\nfdb add {address} dev vxlan master static")
}

/// Makes the fabric's end a PE of the kernel too, with a network `far` behind it: the other end of connections. `router` is
/// our router MAC, `ours` the MAC of our interface in the fabric.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn far_end(ours: [u8; 6], router: [u8; 6]) -> anyhow::Result<()> {
    underlay("fabric", "eth0", &format!("{FABRIC}/24"), &remote_vtep(0).to_string())?;
    ip(
        "fabric",
        &format!(
            "neigh replace {UNDER} lladdr {} dev eth0 nud permanent\nroute add {OUR_VTEP}/32 via {UNDER}",
            mac(ours)
        ),
    )?;
    set("far", "net/ipv4/ip_forward", "1")?;
    tunnel("fabric", "far", VNI, &remote_vtep(0).to_string(), &mac(REMOTE_ROUTER_MAC))?;
    ip(
        "far",
        &format!(
            "addr add 10.2.0.1/32 dev lo\n\
         route add 198.18.0.0/24 via {OUR_VTEP} dev bridge onlink src 10.2.0.1\n\
         neigh replace {OUR_VTEP} lladdr {} dev bridge nud permanent",
            mac(router)
        ),
    )?;
    bridge("far", &fdb(router, &OUR_VTEP.to_string()))
}

/// Gives the host what it needs to reach the far end: with a `tap` it has its address already, else on its veth.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn host_session(tap: bool) -> anyhow::Result<()> {
    let interface = if tap { "eth1" } else { "eth0" };
    ip(
        "host",
        &format!(
            "addr replace {HOST}/24 dev {interface}\n\
         neigh replace {ACCESS} lladdr {} dev {interface} nud permanent\n\
         route add 10.2.0.0/16 via {ACCESS}",
            mac(ACCESS_MAC)
        ),
    )
}

/// The full name of a namespace.
pub(crate) fn full(name: &str) -> String {
    format!("pb-kern-{name}")
}

/// Where it is bound.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(full(name))
}

/// The namespace itself.
///
/// # Errors
/// When there is none.
pub(crate) fn netns(name: &str) -> anyhow::Result<Netns> {
    Ok(Netns::open(&path(name))?)
}

/// Runs lines of `ip` in a namespace.
///
/// # Errors
/// When one fails.
pub(crate) fn ip(name: &str, lines: &str) -> anyhow::Result<()> {
    batch("ip", name, lines)
}

fn bridge(name: &str, lines: &str) -> anyhow::Result<()> {
    batch("bridge", name, lines)
}

fn batch(program: &str, name: &str, lines: &str) -> anyhow::Result<()> {
    let mut child = Command::new(program)
        .args(["-n", &full(name), "-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    child.stdin.take().context("piped above")?.write_all(format!("{lines}\n").as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{program} in {name}: {lines}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Has the far end of the underlay's veth cut large segments itself, without which packet sockets see them whole: as the README
/// says of a veth's peer.
pub(crate) fn cut_segments() -> anyhow::Result<()> {
    run("ip", &["netns", "exec", &full("fabric"), "ethtool", "-K", "eth0", "tso", "off"])
}

fn set(name: &str, setting: &str, value: &str) -> anyhow::Result<()> {
    let file = Path::new("/proc/sys").join(setting);
    // The files are those of the thread's namespace.
    netns(name)?.run(|| fs::write(&file, value))?.with_context(|| format!("cannot set {setting} in {name}"))
}

fn remove() {
    for name in NAMESPACES {
        // Usually not there.
        let _ = Command::new("ip").args(["netns", "del", &full(name)]).stderr(Stdio::null()).status();
    }
}

fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}
