//! Open vSwitch, where the world's kernel has its datapath.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use super::super::netns;
use crate::wait::until;
use crate::{Error, Result};

/// Where its sockets are. Not the usual place, which all nodes of the lab would share: each removes from a database what it finds
/// of its own and does not want.
const DIR: &str = "/run/openvswitch-n2";

/// Where ovsdb-server listens.
pub const SOCKET: &str = "/run/openvswitch-n2/db.sock";

/// Its daemons, in a network namespace.
#[derive(Debug)]
pub struct Ovs {
    daemons: Vec<(&'static str, Child)>,
}

/// Whether it can be started here: it is installed, and the kernel has its module.
pub fn is_there() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        Path::new("/usr/sbin/ovs-vswitchd").exists()
            && Command::new("/sbin/modprobe")
                .arg("openvswitch")
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
    })
}

/// Runs `ovs-vsctl`, giving up after ten seconds.
///
/// # Errors
/// With what it said.
pub fn control(netns: &str, args: &[&str]) -> Result<()> {
    let db = format!("--db=unix:{SOCKET}");
    let all = [&["--timeout=10", &db][..], args].concat();
    netns::run(netns, "ovs-vsctl", &all).map(|_| ())
}

impl Ovs {
    /// Starts both daemons in the namespace `name`, with an empty database.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn start(name: &str, logs: &Path) -> Result<Self> {
        std::fs::create_dir_all(DIR).map_err(Error::file("cannot make", DIR))?;
        let database = format!("{DIR}/conf.db");
        netns::run(name, "ovsdb-tool", &["create", &database, "/usr/share/openvswitch/vswitch.ovsschema"])?;
        let remote = format!("unix:{SOCKET}");
        let start = |program: &'static str, args: &[&str]| -> Result<(&'static str, Child)> {
            let log = logs.join(format!("{name}-{program}.log"));
            let file = std::fs::File::create(&log).map_err(Error::file("cannot write", &log))?;
            let mut command = Command::new(format!("/usr/sbin/{program}"));
            command
                .args(args)
                .env("OVS_RUNDIR", DIR)
                .stdin(Stdio::null())
                .stdout(file.try_clone().map_err(Error::file("cannot duplicate", &log))?)
                .stderr(file);
            let child = netns::within(name, || {
                command.spawn().map_err(Error::system(format!("cannot start {program}")))
            })?;
            Ok((program, child))
        };
        let server = start("ovsdb-server", &[&database, &format!("--remote=p{remote}")])?;
        until(Duration::from_secs(30), "ovsdb-server to listen", || {
            Path::new(SOCKET).exists().then_some(()).ok_or_else(|| Error::unexpected("it does not"))
        })?;
        let switch = start("ovs-vswitchd", &[&remote])?;
        control(name, &["--no-wait", "init"])?;
        Ok(Self { daemons: vec![server, switch] })
    }

    /// Names of daemons that have ended by themselves.
    pub fn ended(&mut self) -> Vec<String> {
        self.daemons
            .iter_mut()
            .filter_map(|(name, child)| {
                child.try_wait().is_ok_and(|status| status.is_some()).then(|| (*name).to_owned())
            })
            .collect()
    }
}
