//! Instances of FRR, each with a pathspace of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::netns;
use crate::wait::until;
use crate::{Error, Result};

/// One FRR: its daemons run in a network namespace, under a pathspace of the instance's name.
#[derive(Debug)]
pub struct Frr {
    name: String,
    netns: String,
    root: Option<PathBuf>,
    daemons: Vec<Daemon>,
    logs: PathBuf,
}

#[derive(Debug)]
struct Daemon {
    name: &'static str,
    args: &'static [&'static str],
    child: Option<Child>,
}

impl Frr {
    /// An instance of the host's FRR, or of the one whose file system is at `root`. Nothing is started yet.
    pub fn new(name: &str, netns: &str, root: Option<&Path>, logs: &Path) -> Self {
        Self {
            name: name.into(),
            netns: netns.into(),
            root: root.map(Path::to_path_buf),
            daemons: Vec::new(),
            logs: logs.into(),
        }
    }

    /// The pathspace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It is the machine's own: Debian 12's, 8.4.4.
    pub const fn is_the_machines(&self) -> bool {
        self.root.is_none()
    }

    /// Adds a daemon; zebra has to be the first.
    pub fn with(mut self, name: &'static str, args: &'static [&'static str]) -> Self {
        self.daemons.push(Daemon { name, args, child: None });
        // From release 10 on VRFs, prefix lists and static routes are mgmtd's, which zebra has to precede.
        let mgmtd = "usr/lib/frr/mgmtd";
        if name == "zebra" && self.root.as_ref().is_some_and(|root| root.join(mgmtd).exists()) {
            self.daemons.push(Daemon { name: "mgmtd", args: &[], child: None });
        }
        self
    }

    /// Starts all daemons, each with an empty configuration, and waits for their sockets.
    ///
    /// # Errors
    /// When one cannot be started or does not open its socket.
    pub fn start(&mut self) -> Result<()> {
        self.prepare()?;
        for index in 0..self.daemons.len() {
            self.start_daemon(index)?;
        }
        Ok(())
    }

    /// Sockets and configuration live in `/run/frr/NAME`, owned by this FRR's own user.
    fn prepare(&self) -> Result<()> {
        let run = self.run_dir();
        fs::create_dir_all(&run).map_err(Error::file("cannot make", &run))?;
        let empty = run.join("empty.conf");
        fs::write(&empty, "").map_err(Error::file("cannot write", &empty))?;
        let root = self.root.as_deref().unwrap_or_else(|| Path::new("/"));
        let (user, group) = frr_user(root)?;
        for path in [Path::new("/run/frr"), &run, &empty] {
            std::os::unix::fs::chown(path, Some(user), Some(group))
                .map_err(Error::file("cannot own", path))?;
        }
        // Of another FRR's user, possibly, beside ours.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions("/run/frr", open).map_err(Error::file("cannot open up", "/run/frr"))?;
        let settings = root.join("etc/frr").join(&self.name);
        if self.root.is_some() {
            fs::create_dir_all(&settings).map_err(Error::file("cannot make", &settings))?;
        }
        Ok(())
    }

    fn run_dir(&self) -> PathBuf {
        Path::new("/run/frr").join(&self.name)
    }

    fn start_daemon(&mut self, index: usize) -> Result<()> {
        let run = self.run_dir();
        let daemon = &mut self.daemons[index];
        let log = self.logs.join(format!("{}-{}.log", self.name, daemon.name));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(Error::file("cannot write", &log))?;
        let socket = run.join(format!("{}.vty", daemon.name));
        let _ = fs::remove_file(&socket);
        let mut command = match &self.root {
            None => Command::new(format!("/usr/lib/frr/{}", daemon.name)),
            Some(root) => {
                let mut command = Command::new("chroot");
                command.arg(root).arg(format!("/usr/lib/frr/{}", daemon.name));
                command
            }
        };
        command.args(["-N", &self.name, "--log", "stdout"]).args(daemon.args);
        // mgmtd, and since it exists staticd, take no file of their own.
        if !(daemon.name == "mgmtd" || daemon.name == "staticd" && self.root.is_some()) {
            command.arg("-f").arg(run.join("empty.conf"));
        }
        command.stdin(Stdio::null());
        command.stdout(file.try_clone().map_err(Error::file("cannot duplicate", &log))?).stderr(file);
        let child = netns::within(&self.netns, || {
            command.spawn().map_err(Error::system(format!("cannot start {} of {}", daemon.name, self.name)))
        })?;
        daemon.child = Some(child);
        until(Duration::from_secs(30), format!("{} to open {}", daemon.name, socket.display()), || {
            socket.exists().then_some(()).ok_or_else(|| Error::unexpected(format!("see {}", log.display())))
        })
    }

    /// Kills one daemon, without notice.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill(&mut self, name: &str) -> Result<()> {
        let daemon = self.daemons.iter_mut().find(|daemon| daemon.name == name);
        let mut child = daemon
            .and_then(|daemon| daemon.child.take())
            .ok_or_else(|| Error::unexpected(format!("{} has no {name} running", self.name)))?;
        child.kill().map_err(Error::system(format!("cannot kill {name}")))?;
        child.wait().map_err(Error::system(format!("cannot wait for {name}")))?;
        Ok(())
    }

    /// Starts one daemon again.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart(&mut self, name: &str) -> Result<()> {
        let index = self
            .daemons
            .iter()
            .position(|daemon| daemon.name == name)
            .ok_or_else(|| Error::unexpected(format!("{} has no {name}", self.name)))?;
        self.start_daemon(index)
    }

    /// Names of daemons that have ended by themselves.
    pub fn ended(&mut self) -> Vec<String> {
        let name = self.name.clone();
        let gone = |daemon: &mut Daemon| {
            daemon.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_some()))
        };
        self.daemons
            .iter_mut()
            .filter_map(|daemon| gone(daemon).then(|| format!("{name}/{}", daemon.name)))
            .collect()
    }

    /// Loads a configuration through vtysh.
    ///
    /// # Errors
    /// With what vtysh says about it.
    pub fn load(&self, text: &str) -> Result<()> {
        let path = self.run_dir().join("lab.conf");
        fs::write(&path, text).map_err(Error::file("cannot write", &path))?;
        let output = self
            .vtysh_command()
            .arg("-f")
            .arg(&path)
            .output()
            .map_err(Error::system("cannot start vtysh"))?;
        netns::checked(&format!("vtysh -N {} -f {}", self.name, path.display()), &output).map(|_| ())
    }

    /// Runs commands in vtysh; what it printed.
    ///
    /// # Errors
    /// When vtysh reports failure.
    pub fn vtysh(&self, commands: &[&str]) -> Result<String> {
        let mut command = self.vtysh_command();
        for line in commands {
            command.args(["-c", line]);
        }
        let output = command.output().map_err(Error::system("cannot start vtysh"))?;
        netns::checked(&format!("vtysh -N {} {commands:?}", self.name), &output)
    }

    /// Runs one `show ... json` command.
    ///
    /// # Errors
    /// When vtysh reports failure or prints something else.
    pub fn json(&self, command: &str) -> Result<serde_json::Value> {
        let text = self.vtysh(&[command])?;
        serde_json::from_str(&text).map_err(|error| {
            Error::unexpected(format!("{}: `{command}` is not JSON: {error}: {text}", self.name))
        })
    }

    fn vtysh_command(&self) -> Command {
        let mut command = match &self.root {
            None => Command::new("vtysh"),
            Some(root) => {
                let mut command = Command::new("chroot");
                command.arg(root).arg("vtysh");
                command
            }
        };
        command.args(["-N", &self.name]).stdin(Stdio::null());
        command
    }
}

/// User and group `frr` of the file system at `root`.
fn frr_user(root: &Path) -> Result<(u32, u32)> {
    let path = root.join("etc/passwd");
    let text = fs::read_to_string(&path).map_err(Error::file("cannot read", &path))?;
    text.lines()
        .filter_map(|line| line.strip_prefix("frr:"))
        .find_map(|rest| {
            let mut fields = rest.split(':').skip(1);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        })
        .ok_or_else(|| Error::unexpected(format!("{} has no user frr; is FRR installed?", path.display())))
}
