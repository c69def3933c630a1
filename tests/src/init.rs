//! The first process of a lab's world: makes it habitable, runs the request, keeps its exit code and ends the world.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::cli::{Action, Request, read_request};
use crate::{Error, Result};

/// What a lab needs beyond the modules that are built in everywhere.
const MODULES: &[&str] = &["ipv6", "bridge", "vxlan", "vrf", "veth", "tun"];

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/frr";

/// Runs as process 1, and returns only where the world ends with it.
///
/// # Errors
/// When a mount fails or the request cannot be started.
pub fn run(dir: &Path) -> Result<ExitCode> {
    let request = read_request(dir)?;
    let code = serve(dir, &request);
    let (number, reason) = match &code {
        Ok(code) => (*code, String::new()),
        Err(error) => (1, error.to_string()),
    };
    let path = dir.join("status");
    let mut file = File::create(&path).map_err(Error::file("cannot write", &path))?;
    writeln!(file, "{number}\n{reason}").map_err(Error::file("cannot write", &path))?;
    file.sync_all().map_err(Error::file("cannot write", &path))?;
    if request.uml {
        nix::unistd::sync();
        match nix::sys::reboot::reboot(nix::sys::reboot::RebootMode::RB_POWER_OFF) {
            Ok(never) => match never {},
            Err(error) => return Err(Error::system("cannot power off")(error)),
        }
    }
    code.map(ExitCode::from)
}

fn serve(dir: &Path, request: &Request) -> Result<u8> {
    if request.uml {
        mount_on("proc", "/proc", "proc")?;
        mount_on("sysfs", "/sys", "sysfs")?;
        mount_on("devtmpfs", "/dev", "devtmpfs")?;
    }
    mount_on("tmpfs", "/run", "tmpfs")?;
    mount_on("tmpfs", "/var/log", "tmpfs")?;
    for path in ["/run/netns", "/run/frr", "/run/lock", "/run/openpe", "/run/user"] {
        fs::create_dir_all(path).map_err(Error::file("cannot make", path))?;
    }
    if request.uml {
        for path in ["/dev/pts", "/dev/shm", "/dev/net"] {
            fs::create_dir_all(path).map_err(Error::file("cannot make", path))?;
        }
        mount_on("devpts", "/dev/pts", "devpts")?;
        mount_on("tmpfs", "/dev/shm", "tmpfs")?;
        modprobe()?;
        fs::write("/proc/sys/kernel/hostname", "lab").map_err(Error::file("cannot write", "hostname"))?;
        // One CPU has one queue for the packets of all links of the lab: a storm on one must not overflow it for the others.
        let backlog = "/proc/sys/net/core/netdev_max_backlog";
        fs::write(backlog, "20000").map_err(Error::file("cannot write", backlog))?;
    }
    if let Some(root) = request.frr.root() {
        for name in ["proc", "sys", "dev", "run"] {
            let (source, target) = (Path::new("/").join(name), root.join(name));
            mount(Some(&source), &target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
                .map_err(Error::system(format!(
                    "cannot bind {} to {}",
                    source.display(),
                    target.display()
                )))?;
        }
    }
    let exe = std::env::current_exe().map_err(Error::system("cannot find my own program"))?;
    let mut command = Command::new(exe);
    command.arg("inside").arg(dir).env("PATH", PATH).env("HOME", "/root").env("TERM", "xterm-256color");
    if request.uml {
        let (input, output) = serial_line()?;
        command.stdin(input);
        command.stdout(output.try_clone().map_err(Error::system("cannot duplicate a descriptor"))?);
        command.stderr(output);
        // The terminal belongs to this session's leader, so that the shell of a kept lab can control jobs.
        if matches!(request.action, Action::Demo { shell: true, .. }) {
            command = through_setsid(&command);
            let (input, output) = serial_line()?;
            command.stdin(input);
            command.stdout(output.try_clone().map_err(Error::system("cannot duplicate a descriptor"))?);
            command.stderr(output);
        }
    }
    let child = command.spawn().map_err(Error::system("cannot start the request"))?;
    reap_until(Pid::from_raw(child.id().cast_signed()))
}

/// The same command in a session of its own that takes its standard input as controlling terminal.
fn through_setsid(inner: &Command) -> Command {
    let mut command = Command::new("setsid");
    command.arg("--ctty").arg("--wait").arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command
}

fn mount_on(kind: &str, target: &str, what: &str) -> Result<()> {
    fs::create_dir_all(target).map_err(Error::file("cannot make", target))?;
    match mount(Some(what), target, Some(kind), MsFlags::empty(), None::<&str>) {
        // The kernel has done it already, as for devtmpfs.
        Ok(()) | Err(nix::errno::Errno::EBUSY) => Ok(()),
        Err(error) => Err(Error::system(format!("cannot mount {kind} on {target}"))(error)),
    }
}

fn modprobe() -> Result<()> {
    let output = Command::new("/sbin/modprobe")
        .arg("-a")
        .args(MODULES)
        .output()
        .map_err(Error::system("cannot start modprobe (Debian's kmod)"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::unexpected(format!("modprobe: {}", String::from_utf8_lossy(&output.stderr))))
}

/// The line to the outside, without the translation of line ends that terminals do.
fn serial_line() -> Result<(Stdio, File)> {
    let path = "/dev/ttyS0";
    let line =
        OpenOptions::new().read(true).write(true).open(path).map_err(Error::file("cannot open", path))?;
    let _ = Command::new("stty")
        .args(["sane", "-onlcr"])
        .stdin(line.try_clone().map_err(Error::system("cannot duplicate a descriptor"))?)
        .status();
    let input = line.try_clone().map_err(Error::system("cannot duplicate a descriptor"))?;
    Ok((Stdio::from(input), line))
}

/// Reaps whatever ends, as process 1 must, until `child` does; its exit code.
fn reap_until(child: Pid) -> Result<u8> {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => return Ok(u8::try_from(code).unwrap_or(1)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                eprintln!("e2e init: the request ended by {signal}");
                return Ok(1);
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(Error::system("cannot wait")(error)),
        }
    }
}
