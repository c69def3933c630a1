//! What the end-to-end tests stand on: network namespaces, real FRR daemons, the real frr-bridge, and a stand-in for
//! pe-dataplane that records what it is told.

pub(crate) mod standin;

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs a command that must succeed and returns what it printed.
pub(crate) fn sh(command: &str) -> String {
    let output = Command::new("bash").args(["-ec", command]).output().expect("bash");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command}: {}\n{stdout}{stderr}", output.status);
    stdout.into_owned()
}

/// Waits until `check` gives a value.
pub(crate) fn eventually<T>(what: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match check() {
            Ok(value) => return value,
            Err(state) if Instant::now() > deadline => panic!("{what} did not come about; now: {state}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// A network namespace, removed at the end.
pub(crate) struct Namespace {
    pub(crate) name: String,
}

impl Namespace {
    pub(crate) fn new(purpose: &str) -> Self {
        let name = format!("frrb-{purpose}-{}", std::process::id());
        sh(&format!("ip netns add {name}"));
        Self { name }
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Runs a shell command inside.
    pub(crate) fn sh(&self, command: &str) -> String {
        sh(&format!("exec ip netns exec {} bash -ec '{command}'", self.name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// A process that ends with the test.
pub(crate) struct Process(Child);

impl Process {
    /// Ends it as an operator would.
    pub(crate) fn stop(mut self) {
        sh(&format!("kill {}", self.0.id()));
        let _ = self.0.wait();
    }

    /// Ends it without a chance to say good-bye.
    pub(crate) fn kill(mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The real frr-bridge.
pub(crate) fn bridge(namespace: &Namespace, socket: &Path) -> Process {
    let child = Command::new(env!("CARGO_BIN_EXE_frr-bridge"))
        .arg("--dataplane")
        .arg(socket)
        .arg("--router-netns")
        .arg(namespace.path())
        .args(["--restart-hold", "5", "--log", "info,frr_bridge=debug"])
        .stdin(Stdio::null())
        .spawn()
        .expect("frr-bridge");
    Process(child)
}

/// Root directory of another FRR than this machine's, as tests/scripts/frr-chroot.sh makes them.
fn frr_root() -> Option<String> {
    std::env::var("FRR_BRIDGE_TEST_FRR_ROOT").ok().filter(|root| !root.is_empty())
}

/// A shell command that runs `program` of the FRR under test.
fn of_frr(program: &str) -> String {
    match frr_root() {
        // The mounts are seen by this process only, and end with it.
        Some(root) => format!(
            "exec unshare -m --propagation private bash -ec \"for i in proc sys dev run; do \
             mount --rbind /\\$i {root}/\\$i; done; exec chroot {root} {program}\""
        ),
        None => format!("exec {program}"),
    }
}

/// A stock FRR daemon in a namespace, with a path space of its own.
pub(crate) fn frr(namespace: &Namespace, daemon: &str, configuration: &str, arguments: &[&str]) -> Process {
    let name = &namespace.name;
    let directory = PathBuf::from("/run/frr").join(name);
    std::fs::create_dir_all(&directory).expect("directory");
    if daemon != "zebra" {
        // A daemon that finds no zebra waits ten seconds before it looks again.
        let socket = directory.join("zserv.api");
        eventually("zebra's socket", || UnixStream::connect(&socket).map_err(|error| error.to_string()));
    }
    let file = directory.join(format!("{daemon}.conf"));
    std::fs::write(&file, configuration).expect("configuration");
    // Its user has another number there.
    sh(&of_frr(&format!("chown -R frr:frr {}", directory.display())));
    let command = of_frr(&format!(
        "/usr/lib/frr/{daemon} -N {name} -f {} --log stdout {}",
        file.display(),
        arguments.join(" ")
    ));
    let child = Command::new("ip")
        .args(["netns", "exec", name, "bash", "-ec", &command])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("FRR");
    // Then it has read its configuration, and answers.
    let socket = directory.join(format!("{daemon}.vty"));
    eventually("the daemon's socket", || UnixStream::connect(&socket).map_err(|error| error.to_string()));
    Process(child)
}

/// vtysh of that path space.
pub(crate) fn vtysh(namespace: &Namespace, commands: &[&str]) {
    let arguments: String = commands.iter().map(|command| format!(" -c '{command}'")).collect();
    sh(&of_frr(&format!("vtysh -N {}{arguments} >/dev/null 2>&1", namespace.name)));
}

/// What vtysh of that path space shows.
pub(crate) fn show(namespace: &Namespace, command: &str) -> String {
    sh(&of_frr(&format!("vtysh -N {} -c '{command}' 2>/dev/null", namespace.name)))
}
