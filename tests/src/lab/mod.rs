//! The lab: two nodes of ours, a kernel PE, two spines and the hosts behind the PEs. See [`plan`] for addresses, [`l2`] for bridge
//! domains.

pub mod config;
pub mod daemon;
pub mod dataplane;
pub mod frr;
pub mod kernel_pe;
pub mod l2;
pub mod netns;
pub mod node;
pub mod plan;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use daemon::Daemon;
pub use dataplane::{Counters, Dataplane};
pub use frr::Frr;
pub use l2::attach::Keeper;
pub use l2::ovs::Ovs;
pub use node::Node;

use self::l2::L2VNIS;
use self::plan::{
    GREEN, Host, KERNEL_PE, SPINES, VRFS, Vrf, downlink, link_spine, link_spine_v6, pe_netns, spine_netns,
    uplink,
};
use crate::cli::{FrrVersion, Request};
use crate::traffic::who;
use crate::wait::until;
use crate::{Error, Result};

/// BGP sessions by name, each with the time of its establishment, seconds since 1970.
pub type Sessions = BTreeMap<String, i64>;

/// Everything that runs.
#[derive(Debug)]
pub struct Lab {
    /// `n1` and `n2`.
    pub nodes: [Node; 2],
    /// The kernel PE's FRR.
    pub kernel_pe: Frr,
    /// The spines' FRRs, by number less one.
    pub spines: Vec<Frr>,
    /// FRRs of the hosts behind our nodes.
    pub hosts: Vec<(Host, Frr)>,
    /// Attaches stations to their nodes.
    pub keeper: Keeper,
    /// On n2, where the kernel has it.
    pub ovs: Option<Ovs>,
    /// What our nodes run.
    pub frr: FrrVersion,
    /// Sessions as they stood when everything had come up: each with the time of its establishment.
    pub sessions: Sessions,
    /// Where logs go.
    pub logs: PathBuf,
}

impl Lab {
    /// Builds the lab from nothing, telling `say` what it is about to do. Returns when all processes run; BGP comes up by itself.
    ///
    /// # Errors
    /// With the first thing that fails.
    pub fn start(dir: &Path, request: &Request, mut say: impl FnMut(&str)) -> Result<Self> {
        let logs = dir.join("logs");
        fs::create_dir_all(&logs).map_err(Error::file("cannot make", &logs))?;
        say("network namespaces and links");
        wire()?;
        // Earlier releases neither have nor pass on an IPv6 VTEP.
        let root = (request.frr == FrrVersion::V10_7).then(|| request.frr.root()).flatten();
        let mut spines = Vec::new();
        for spine in SPINES {
            say(&format!("{}: FRR (AS {})", spine_netns(spine), plan::spine_asn(spine)));
            let name = spine_netns(spine);
            let mut frr = Frr::new(&name, &name, root.as_deref(), &logs)
                .with("zebra", &[])
                .with("bgpd", &[])
                .with("bfdd", &[]);
            frr.start()?;
            frr.load(&config::spine(spine, &[1, 2, KERNEL_PE]))?;
            spines.push(frr);
        }
        say("kpe: FRR, the Linux kernel forwards");
        kernel_pe::devices(KERNEL_PE, &VRFS)?;
        l2::stations::behind_kernel(&L2VNIS, plan::vtep(KERNEL_PE).into())?;
        let kernel_pe = kernel_pe::start(KERNEL_PE, &VRFS, root.as_deref(), &logs)?;
        let keeper = Keeper::start();
        let ovs = if l2::ovs::is_there() {
            say("n2: Open vSwitch");
            Some(Ovs::start(&pe_netns(2), &logs)?)
        } else {
            None
        };
        let mut nodes = Vec::new();
        for pe in [1, 2] {
            say(&format!("n{pe}: pe-dataplane, FRR {}, frr-bridge, pe-controller", request.frr.name()));
            l2::stations::behind_node(pe, &L2VNIS)?;
            nodes.push(Node::start(pe, &VRFS, request, &logs)?);
            for l2vni in L2VNIS {
                for station in l2vni.all_stations().into_iter().filter(|station| station.pe == pe) {
                    keeper.keep(station, l2vni.attachment(pe));
                }
            }
        }
        let mut hosts = Vec::new();
        for vrf in VRFS {
            for pe in [1, 2] {
                let host = Host { pe, vrf };
                say(&format!("{}: FRR as the host's BGP speaker", host.name()));
                hosts.push((host, start_host(host, &logs)?));
            }
            for host in plan::hosts(vrf) {
                who::serve(host)?;
            }
        }
        let nodes: [Node; 2] =
            nodes.try_into().map_err(|_| Error::unexpected("there are two nodes in the lab"))?;
        let frr = request.frr;
        Ok(Self { nodes, kernel_pe, spines, hosts, keeper, ovs, frr, sessions: Sessions::new(), logs })
    }

    /// A node by number.
    pub fn node(&self, pe: u8) -> &Node {
        &self.nodes[usize::from(pe - 1)]
    }

    /// The same, to stop and start its processes.
    pub fn node_mut(&mut self, pe: u8) -> &mut Node {
        &mut self.nodes[usize::from(pe - 1)]
    }

    /// The FRR of a host.
    ///
    /// # Errors
    /// When that host has none.
    pub fn host(&self, wanted: Host) -> Result<&Frr> {
        self.hosts
            .iter()
            .find(|(host, _)| *host == wanted)
            .map(|(_, frr)| frr)
            .ok_or_else(|| Error::unexpected(format!("{} has no FRR", wanted.name())))
    }

    /// Waits for a condition of the lab like [`crate::wait::until`], but not once a process has ended that should run.
    ///
    /// # Errors
    /// The timeout, or naming the processes that ended.
    pub fn until<T>(
        &mut self,
        limit: Duration,
        what: impl Into<String>,
        mut look: impl FnMut(&Self) -> Result<T>,
    ) -> Result<T> {
        let mut ended = Ok(());
        let found = until(limit, what, || {
            ended = self.alive();
            if ended.is_err() { Ok(None) } else { look(self).map(Some) }
        })?;
        ended?;
        found.ok_or_else(|| Error::unexpected("a process of the lab ended"))
    }

    /// All processes that should run do.
    ///
    /// # Errors
    /// Naming those that ended.
    pub fn alive(&mut self) -> Result<()> {
        let mut ended: Vec<String> = self.nodes.iter_mut().flat_map(Node::ended).collect();
        ended.extend(self.kernel_pe.ended());
        ended.extend(self.ovs.iter_mut().flat_map(Ovs::ended));
        ended.extend(self.spines.iter_mut().flat_map(Frr::ended));
        ended.extend(self.hosts.iter_mut().flat_map(|(_, frr)| frr.ended()));
        if ended.is_empty() { Ok(()) } else { Err(Error::unexpected(ended.join("; "))) }
    }
}

/// Namespaces, and veth links from every PE to every spine.
fn wire() -> Result<()> {
    let mut names: Vec<String> = SPINES.map(spine_netns).into();
    for pe in [1, 2, KERNEL_PE] {
        names.push(pe_netns(pe));
        if pe != KERNEL_PE {
            names.push(node::router_netns(pe));
        }
        for vrf in [VRFS.as_slice(), &[GREEN]].concat() {
            names.push(Host { pe, vrf }.name());
        }
    }
    netns::create(&names)?;
    for spine in SPINES {
        let name = spine_netns(spine);
        for sysctl in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            netns::sysctl(&name, sysctl, "1")?;
        }
        let mut text = String::new();
        for pe in [1, 2, KERNEL_PE] {
            let down = downlink(pe);
            text += &format!(
                "link add {down} type veth peer name {up} netns {netns}\n\
                 addr add {address}/24 dev {down}\naddr add {address_v6}/64 dev {down}\nlink set {down} up\n",
                up = uplink(spine),
                netns = pe_netns(pe),
                address = link_spine(pe, spine),
                address_v6 = link_spine_v6(pe, spine),
            );
        }
        netns::ip_batch(Some(&name), &text)?;
        for pe in [1, 2] {
            // A dataplane that reads raw frames from a veth would otherwise see checksums that nobody has completed yet.
            netns::run(&name, "ethtool", &["-K", &downlink(pe), "tx", "off"])?;
        }
    }
    for spine in SPINES {
        netns::ip_batch(Some(&pe_netns(KERNEL_PE)), &node::uplink_up(KERNEL_PE, spine))?;
    }
    Ok(())
}

/// Addresses of a host behind a node of ours, and its BGP speaker.
///
/// # Errors
/// When something does not come up.
pub fn start_host(host: Host, logs: &Path) -> Result<Frr> {
    let name = host.name();
    netns::ip_batch(
        Some(&name),
        &format!(
            "addr add {}/24 dev lo\naddr add {}/64 dev lo\naddr add {}/32 dev lo\naddr add {}/128 dev lo\n",
            host.v4(),
            host.v6(),
            host.own_v4(),
            host.own_v6()
        ),
    )?;
    let mut frr = Frr::new(&name, &name, None, logs).with("zebra", &[]).with("bgpd", &[]);
    frr.start()?;
    frr.load(&config::host(host))?;
    Ok(frr)
}

/// The tenants of the standing lab and the third one.
pub fn all_vrfs() -> [Vrf; 3] {
    [VRFS[0], VRFS[1], GREEN]
}
