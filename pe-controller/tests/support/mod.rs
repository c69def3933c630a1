//! A real FRR in a network namespace and a pathspace of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use pe_controller::frr::Settings;

/// An FRR that ends with the value.
#[derive(Debug)]
pub(crate) struct TestFrr {
    pub(crate) name: String,
    pub(crate) directory: tempfile::TempDir,
}

/// Whether FRR can be run here; says why not.
pub(crate) fn available() -> bool {
    let reason = if !nix::unistd::geteuid().is_root() {
        "needs root"
    } else if !Path::new("/usr/lib/frr/frr-reload.py").exists() {
        "FRR or its frr-reload.py is not installed"
    } else {
        return true;
    };
    eprintln!("skipped: {reason}");
    false
}

impl TestFrr {
    /// Starts zebra, bgpd, bfdd and staticd.
    pub(crate) fn start(test: &str) -> Self {
        let name = format!("pec-{test}-{}", std::process::id());
        let frr = Self { name, directory: tempfile::tempdir().unwrap() };
        // FRR's user reads its configuration here.
        fs::set_permissions(frr.directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        ok(Command::new("ip").args(["netns", "add", &frr.name]));
        frr.ip(&["link", "set", "lo", "up"]);
        fs::create_dir_all(frr.sockets()).unwrap();
        ok(Command::new("chown").arg("frr:frr").arg("/run/frr").arg(frr.sockets()));
        for daemon in ["zebra", "bgpd", "bfdd", "staticd"] {
            frr.start_daemon(daemon);
        }
        frr
    }

    pub(crate) fn start_daemon(&self, daemon: &str) {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(format!("/usr/lib/frr/{daemon}"));
        command.args(["-d", "-N", &self.name, "--vty_port", "0", "-f", "/dev/null"]);
        if daemon == "zebra" {
            command.args(["-M", "dplane_fpm_nl"]);
        }
        ok(&mut command);
        let socket = self.sockets().join(format!("{daemon}.vty"));
        wait_for("a daemon's socket", || socket.exists());
    }

    pub(crate) fn kill_daemon(&self, daemon: &str) {
        let file = self.sockets().join(format!("{daemon}.pid"));
        let Ok(text) = fs::read_to_string(&file) else { return };
        let pid = nix::unistd::Pid::from_raw(text.trim().parse().unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        wait_for("a daemon's end", || nix::sys::signal::kill(pid, None).is_err());
    }

    fn sockets(&self) -> PathBuf {
        Path::new("/run/frr").join(&self.name)
    }

    pub(crate) fn ip(&self, arguments: &[&str]) {
        ok(Command::new("ip").args(["-n", &self.name]).args(arguments));
    }

    #[allow(dead_code, reason = "not every test file that includes this module drives FRR itself")]
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            pathspace: Some(self.name.clone()),
            config_dir: self.directory.path().to_owned(),
            reload: "/usr/lib/frr/frr-reload.py".into(),
            bindir: "/usr/bin".into(),
            rundir: "/run/frr".into(),
            vty_sockets: "/run/frr".into(),
            prefix: Vec::new(),
            group: "frr".to_owned(),
        }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.directory.path().join("frr.conf")
    }

    /// Its release, as its packages say it.
    pub(crate) fn version(&self) -> String {
        let output = ok(Command::new("/usr/lib/frr/zebra").arg("--version"));
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().nth(2).unwrap().to_owned()
    }

    pub(crate) fn vtysh(&self, command: &str) -> String {
        let output = ok(Command::new("vtysh").args(["-N", &self.name, "-c", command]));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What frr-reload.py would still change: nothing when it is right.
    pub(crate) fn pending_changes(&self) -> String {
        let output = ok(Command::new("/usr/lib/frr/frr-reload.py")
            .args(["--test", "--log-level", "error", "--pathspace", &self.name])
            .arg(self.config()));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for TestFrr {
    fn drop(&mut self) {
        for daemon in ["staticd", "bfdd", "bgpd", "zebra"] {
            self.kill_daemon(daemon);
        }
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
        let _ = fs::remove_dir_all(self.sockets());
    }
}

pub(crate) fn ok(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

/// Waits until `condition` holds, generously.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(60), "no {what} within 60 s");
        std::thread::sleep(Duration::from_millis(50));
    }
}
