//! The world a lab runs in: namespaces of this kernel where it has VRF devices, user-mode Linux where it has not.
//!
//! Either way the first process in it is this program ([`crate::init`]) with a process tree, mounts and `/run` of its own, so
//! that whatever happens to a lab, nothing of it stays behind.

use std::fs::{self, File};
use std::io::IsTerminal as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::cli::{Action, FrrVersion, Request};
use crate::{Error, Result};

/// Always names the newest lab's folder.
pub const NEWEST: &str = "/tmp/openpe-lab";

/// Enough for two dataplanes without hugepages, five PEs' and spines' FRR and four tenants'. Taken as it is touched.
const UML_MEMORY: &str = "mem=4G";

/// Runs `action` in a fresh world and passes on its exit code.
///
/// # Errors
/// When the world could not be made, or did not end in time.
pub fn enter(frr: FrrVersion, minutes: u64, action: Action) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::unexpected("the lab makes network namespaces and devices: run it as root"));
    }
    if let Some(root) = frr.root()
        && !root.join("usr/lib/frr/zebra").exists()
    {
        let hint = "make it by tests/scripts/frr-chroot.sh";
        return Err(Error::unexpected(format!("there is no FRR in {}: {hint}", root.display())));
    }
    let exe = std::env::current_exe().map_err(Error::system("cannot find my own program"))?;
    let binaries = exe.parent().map(Path::to_path_buf).unwrap_or_default();
    for name in ["pe-dataplane", "frr-bridge", "pe-controller", "pectl"] {
        if !binaries.join(name).exists() {
            return Err(Error::unexpected(format!(
                "{} has no {name}: `make build` first",
                binaries.display()
            )));
        }
    }

    let native = has_vrf();
    let dir = tempfile::Builder::new()
        .prefix("openpe-lab-")
        .tempdir()
        .map_err(Error::system("cannot make a folder for the lab"))?
        .keep();
    // FRR's daemons write their logs there as their own user.
    std::os::unix::fs::chown(&dir, Some(0), Some(0)).map_err(Error::file("cannot own", &dir))?;
    fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .map_err(Error::file("cannot open up", &dir))?;
    let keep = matches!(action, Action::Demo { keep: true, .. });
    let shell = matches!(action, Action::Demo { shell: true, .. });
    let request = Request { action, frr, binaries, uml: !native };
    let path = dir.join("request.json");
    let text =
        serde_json::to_string_pretty(&request).map_err(|error| Error::unexpected(error.to_string()))?;
    fs::write(&path, text).map_err(Error::file("cannot write", &path))?;
    let _ = fs::remove_file(NEWEST);
    symlink(&dir, NEWEST).map_err(Error::file("cannot link", NEWEST))?;

    eprintln!("e2e: logs in {}", dir.display());
    let mut child = if native {
        eprintln!("e2e: this kernel has VRF devices; the lab runs on it");
        start_native(&exe, &dir, shell)?
    } else {
        eprintln!("e2e: this kernel has no VRF devices; booting user-mode Linux");
        start_uml(&exe, &dir, shell)?
    };
    wait(&mut child, (!keep).then_some(Duration::from_secs(minutes * 60)))?;

    let path = dir.join("status");
    let status = fs::read_to_string(&path).map_err(|_| {
        let seen = tail(&dir.join("console.log"), 12);
        Error::unexpected(format!("the lab's world ended without a result; its console said last:\n{seen}"))
    })?;
    let (code, reason) = status.split_once('\n').unwrap_or((&status, ""));
    let code = code.parse().unwrap_or(1);
    if !reason.trim().is_empty() {
        eprintln!("e2e: {}", reason.trim());
    }
    if code == 0 && !keep {
        let _ = fs::remove_dir_all(&dir);
        let _ = fs::remove_file(NEWEST);
    } else if code != 0 {
        eprintln!("e2e: failed; logs are in {}", dir.display());
    }
    Ok(ExitCode::from(code))
}

/// Tries to make a VRF device in a network namespace of its own.
fn has_vrf() -> bool {
    Command::new("unshare")
        .args(["--net", "ip", "link", "add", "vrf-probe", "type", "vrf", "table", "10"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A process tree and mounts of its own, which end with this process however it ends.
fn separate() -> Command {
    let mut command = Command::new("setpriv");
    command.args([
        "--pdeathsig",
        "KILL",
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    command
}

fn start_native(exe: &Path, dir: &Path, shell: bool) -> Result<Child> {
    let mut command = separate();
    command.arg("--net").arg(exe).arg("init").arg(dir);
    if !shell {
        command.stdin(Stdio::null());
    }
    command.spawn().map_err(Error::system("cannot start setpriv and unshare (Debian's util-linux)"))
}

/// The console goes to a file. What the lab itself has to say comes by a serial line that ends in our own standard output.
fn start_uml(exe: &Path, dir: &Path, shell: bool) -> Result<Child> {
    link_modules()?;
    let console = dir.join("console.log");
    let console = File::create(&console).map_err(Error::file("cannot write", &console))?;
    let null = File::open("/dev/null").map_err(Error::file("cannot open", "/dev/null"))?;
    let input: OwnedFd = if shell && std::io::stdin().is_terminal() {
        nix::unistd::dup(std::io::stdin()).map_err(Error::system("cannot duplicate standard input"))?
    } else {
        null.try_clone().map_err(Error::system("cannot duplicate a descriptor"))?.into()
    };
    let output =
        nix::unistd::dup(std::io::stdout()).map_err(Error::system("cannot duplicate standard output"))?;
    for fd in [&input, &output] {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))
            .map_err(Error::system("cannot pass on a descriptor"))?;
    }
    let memory = ["/dev/shm", "/tmp"].into_iter().find(|path| Path::new(path).is_dir()).unwrap_or("/tmp");
    // The shell is the first process there: user-mode Linux relies on signals that a first process does not get.
    separate()
        .args(["sh", "-c", "linux.uml \"$@\"; exit $?", "linux.uml"])
        .args([
            "rootfstype=hostfs",
            "rootflags=/",
            "rw",
            UML_MEMORY,
            "con0=fd:0,fd:1",
            "con=null",
            "ssl=null",
        ])
        .arg(format!("ssl0=fd:{},fd:{}", input.as_raw_fd(), output.as_raw_fd()))
        .args([
            // Said here, because its own defaults would end up among the arguments of the first process.
            "root=98:0",
            "console=tty0",
            "quiet",
            "panic=-1",
        ])
        .arg(format!("uml_dir={}", dir.join("uml").display()))
        .arg(format!("init={}", exe.display()))
        .arg("--")
        .arg("init")
        .arg(dir)
        .env("TMPDIR", memory)
        .stdin(null)
        .stdout(console.try_clone().map_err(Error::system("cannot duplicate a descriptor"))?)
        .stderr(console)
        .spawn()
        .map_err(Error::system("cannot start setpriv and unshare (Debian's util-linux)"))
}

/// User-mode Linux looks for its modules where every kernel does, on the host's own file system.
fn link_modules() -> Result<()> {
    let all = Path::new("/usr/lib/uml/modules");
    let newest = fs::read_dir(all)
        .map_err(Error::file("cannot read", all))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .max()
        .ok_or_else(|| Error::unexpected(format!("{} is empty", all.display())))?;
    let link = PathBuf::from("/lib/modules").join(newest.file_name().unwrap_or_default());
    if !link.exists() {
        fs::create_dir_all("/lib/modules").map_err(Error::file("cannot make", "/lib/modules"))?;
        let _ = fs::remove_file(&link);
        symlink(&newest, &link).map_err(Error::file("cannot link", &link))?;
    }
    Ok(())
}

/// Waits for the world's end, and brings it about after `limit`.
fn wait(child: &mut Child, limit: Option<Duration>) -> Result<()> {
    let start = Instant::now();
    loop {
        if child.try_wait().map_err(Error::system("cannot wait for the lab"))?.is_some() {
            return Ok(());
        }
        if let Some(limit) = limit
            && start.elapsed() > limit
        {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::unexpected(format!(
                "the lab did not end within {} s and was killed",
                limit.as_secs()
            )));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
