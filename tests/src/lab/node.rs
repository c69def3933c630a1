//! A node of ours: pe-dataplane, FRR, frr-bridge and pe-controller over three network namespaces.

use std::fs;
use std::path::{Path, PathBuf};

use super::daemon::Daemon;
use super::dataplane::Dataplane;
use super::l2::{self, L2VNIS, L2Vni};
use super::plan::{SPINES, Vrf, link_pe, link_pe_v6, pe_netns, uplink};
use super::{Frr, config, netns};
use crate::cli::Request;
use crate::wait::{LONG, until};
use crate::{Error, Result};

/// A node, started.
#[derive(Debug)]
pub struct Node {
    /// Its number.
    pub pe: u8,
    /// The engine.
    pub dataplane: Daemon,
    /// Its FRR.
    pub frr: Frr,
    /// FRR to dataplane.
    pub bridge: Daemon,
    /// YAML to both.
    pub controller: Daemon,
    dir: PathBuf,
    pectl: PathBuf,
}

impl Node {
    /// Gives the node's links their addresses, writes its YAML and starts everything, in the order a service manager would.
    ///
    /// # Errors
    /// When anything does not come up.
    pub fn start(pe: u8, vrfs: &[Vrf], request: &Request, logs: &Path) -> Result<Self> {
        let host = pe_netns(pe);
        for spine in SPINES {
            netns::ip_batch(Some(&host), &uplink_up(pe, spine))?;
        }
        let dir = PathBuf::from("/run/openpe").join(&host);
        let configs = dir.join("config/configs");
        fs::create_dir_all(&configs).map_err(Error::file("cannot make", &configs))?;
        // frr.conf is read by FRR's own user.
        let socket = dir.join("dataplane.sock").display().to_string();
        let router = router_netns(pe);
        let daemon = |program: &str, args: Vec<String>| {
            Daemon::new(format!("{host}-{program}"), &host, request.binaries.join(program), args, logs)
        };
        let path = |name: &str| netns::path(name).display().to_string();
        let dataplane = daemon(
            "pe-dataplane",
            words(&[
                ("--socket", &socket),
                ("--router-netns", &path(&router)),
                ("--ports-netns", &path(&format!("{host}-dp"))),
            ]),
        );
        let bridge =
            daemon("frr-bridge", words(&[("--dataplane", &socket), ("--router-netns", &path(&router))]));
        let mut args = vec!["static".to_owned()];
        let config_dir = dir.join("config").display().to_string();
        let frr_config = dir.join("frr.conf").display().to_string();
        let status = dir.join("controller-status.json").display().to_string();
        args.extend(words(&[
            ("--config-dir", &config_dir),
            ("--dataplane", &socket),
            ("--frr-pathspace", &router),
            ("--frr-config", &frr_config),
            ("--status-file", &status),
        ]));
        if let Some(root) = request.frr.root() {
            args.extend(words(&[("--frr-prefix", &format!("chroot {}", root.display()))]));
        }
        let controller = daemon("pe-controller", args);
        let frr = Frr::new(&router, &router, request.frr.root().as_deref(), logs)
            .with("zebra", &["-M", "dplane_fpm_nl"])
            .with("bgpd", &[])
            .with("bfdd", &[])
            .with("staticd", &[]);
        let mut node =
            Self { pe, dataplane, frr, bridge, controller, dir, pectl: request.binaries.join("pectl") };
        node.write_config("node-config.yaml", &config::node(pe))?;
        node.write_config("configs/openpe_underlay.yaml", &config::underlay(pe))?;
        for vrf in vrfs {
            node.write_config(&format!("configs/openpe_{}.yaml", vrf.name), &config::l3vni(pe, *vrf))?;
        }
        for l2vni in L2VNIS {
            node.write_l2vni(l2vni, &l2::config::l2vni(pe, l2vni))?;
        }
        node.dataplane.start()?;
        node.frr.start()?;
        node.bridge.start()?;
        node.controller.start()?;
        Ok(node)
    }

    /// Writes a file of its configuration folder, whole at once, as an operator's tool does.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_config(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.join("config").join(name);
        let temporary = self.dir.join("new.yaml");
        fs::write(&temporary, text).map_err(Error::file("cannot write", &temporary))?;
        fs::rename(&temporary, &path).map_err(Error::file("cannot write", &path))
    }

    /// Writes an L2VNI's file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_l2vni(&self, l2vni: L2Vni, text: &str) -> Result<()> {
        self.write_config(&l2vni_file(l2vni), text)
    }

    /// Removes an L2VNI's file.
    ///
    /// # Errors
    /// When there is none.
    pub fn remove_l2vni(&self, l2vni: L2Vni) -> Result<()> {
        self.remove_config(&l2vni_file(l2vni))
    }

    /// Removes a file of its configuration folder.
    ///
    /// # Errors
    /// When there is none.
    pub fn remove_config(&self, name: &str) -> Result<()> {
        let path = self.dir.join("config").join(name);
        fs::remove_file(&path).map_err(Error::file("cannot remove", &path))
    }

    /// What pe-controller says of each object, as it wrote it.
    ///
    /// # Errors
    /// When there is no such file yet, or it is not JSON.
    pub fn controller_status(&self) -> Result<serde_json::Value> {
        let path = self.dir.join("controller-status.json");
        let text = fs::read_to_string(&path).map_err(Error::file("cannot read", &path))?;
        serde_json::from_str(&text).map_err(|error| Error::unexpected(format!("{}: {error}", path.display())))
    }

    /// The folder of our programs.
    pub fn binaries(&self) -> &Path {
        self.pectl.parent().unwrap_or_else(|| Path::new("/"))
    }

    /// The dataplane's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("dataplane.sock")
    }

    /// A client of its dataplane; waits until it listens.
    ///
    /// # Errors
    /// When it does not within [`LONG`].
    pub fn client(&self) -> Result<Dataplane> {
        until(LONG, format!("{} to answer", self.dataplane.name()), || Dataplane::connect(&self.socket()))
    }

    /// What `pectl ARGS` prints.
    ///
    /// # Errors
    /// When it reports failure.
    pub fn pectl(&self, args: &[&str]) -> Result<String> {
        let socket = self.socket().display().to_string();
        let mut all = vec!["--socket", &socket];
        all.extend(args);
        netns::run(&pe_netns(self.pe), &self.pectl.display().to_string(), &all)
    }

    /// The daemons that have ended by themselves.
    pub fn ended(&mut self) -> Vec<String> {
        let mut ended: Vec<String> = [&mut self.dataplane, &mut self.bridge, &mut self.controller]
            .into_iter()
            .filter_map(Daemon::ended)
            .collect();
        ended.extend(self.frr.ended());
        ended
    }
}

fn l2vni_file(l2vni: L2Vni) -> String {
    format!("configs/openpe_{}.yaml", l2vni.name)
}

/// Lines that give a PE's link to a spine its addresses.
pub fn uplink_up(pe: u8, spine: u8) -> String {
    format!(
        "addr add {}/24 dev {nic}\naddr add {}/64 dev {nic}\nlink set {nic} up\n",
        link_pe(pe, spine),
        link_pe_v6(pe, spine),
        nic = uplink(spine)
    )
}

/// The namespace FRR and the shadow devices of a node are in.
pub fn router_netns(pe: u8) -> String {
    format!("{}-pe", pe_netns(pe))
}

fn words(pairs: &[(&str, &str)]) -> Vec<String> {
    pairs.iter().flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()]).collect()
}
