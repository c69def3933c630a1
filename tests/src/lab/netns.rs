//! Network namespaces and what is done inside them.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use crate::{Error, Result};

/// The path of a named network namespace.
pub fn path(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}

/// Runs `work` on a thread that has entered the namespace `name`.
///
/// # Errors
/// When there is no such namespace, and whatever `work` returns.
pub fn within<T: Send>(name: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                enter(name)?;
                work()
            })
            .join()
            .unwrap_or_else(|_| Err(Error::unexpected(format!("the work in {name} panicked"))))
    })
}

/// Moves the calling thread into the namespace `name`.
///
/// # Errors
/// When there is no such namespace.
pub fn enter(name: &str) -> Result<()> {
    let path = path(name);
    let file = File::open(&path).map_err(Error::file("cannot open", &path))?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(Error::system(format!("cannot enter namespace {name}")))
}

/// The index of an interface of the namespace `name`, if it is there.
///
/// # Errors
/// When there is no such namespace.
pub fn index(name: &str, device: &str) -> Result<Option<u32>> {
    within(name, || match nix::net::if_::if_nametoindex(device) {
        Ok(index) => Ok(Some(index)),
        Err(Errno::ENODEV) => Ok(None),
        Err(error) => Err(Error::system(format!("cannot look for {device}"))(error)),
    })
}

/// Makes network namespaces with their loopback up.
///
/// # Errors
/// When `ip` says so.
pub fn create(names: &[String]) -> Result<()> {
    add(names)?;
    for name in names {
        ip_batch(Some(name), "link set lo up")?;
    }
    Ok(())
}

/// Makes network namespaces, their loopback down.
///
/// # Errors
/// When `ip` says so.
pub fn add(names: &[String]) -> Result<()> {
    let text: String = names.iter().map(|name| format!("netns add {name}\n")).collect();
    ip_batch(None, &text)?;
    for name in names {
        // Echo sockets without a raw socket's view of everybody's replies.
        sysctl(name, "net/ipv4/ping_group_range", "0 0")?;
        // Addresses of the lab are unique; waiting for the proof costs seconds per interface.
        sysctl(name, "net/ipv6/conf/default/accept_dad", "0")?;
    }
    Ok(())
}

/// Sets a sysctl of the namespace, e.g. `net/ipv4/ip_forward`.
///
/// # Errors
/// When the kernel refuses.
pub fn sysctl(netns: &str, name: &str, value: &str) -> Result<()> {
    let path = PathBuf::from("/proc/sys").join(name);
    within(netns, || fs::write(&path, value).map_err(Error::file("cannot write", &path)))
}

/// Runs the lines of `text` by one `ip -batch`, in the namespace `netns`; then those that begin with `-6` by another, as a batch has
/// one family.
///
/// # Errors
/// With what `ip` printed.
pub fn ip_batch(netns: Option<&str>, text: &str) -> Result<()> {
    let (v6, rest): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("-6 "));
    if !rest.is_empty() {
        batch(netns, &[], &rest.join("\n"))?;
    }
    if !v6.is_empty() {
        let lines: Vec<&str> = v6.iter().map(|line| line.trim_start_matches("-6 ")).collect();
        batch(netns, &["-6"], &lines.join("\n"))?;
    }
    Ok(())
}

fn batch(netns: Option<&str>, family: &[&str], text: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(family);
    if let Some(netns) = netns {
        command.args(["-n", netns]);
    }
    command.args(["-batch", "-"]);
    feed(command, text).map(|_| ())
}

/// Runs a program in the namespace `netns`; what it printed.
///
/// # Errors
/// When it cannot be started or reports failure.
pub fn run(netns: &str, program: &str, args: &[&str]) -> Result<String> {
    let output = output(netns, program, args)?;
    checked(&describe(program, args), &output)
}

/// Runs a program in the namespace `netns`, whatever its exit status.
///
/// # Errors
/// When it cannot be started.
pub fn output(netns: &str, program: &str, args: &[&str]) -> Result<Output> {
    within(netns, || {
        Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .output()
            .map_err(Error::system(format!("cannot start {program}")))
    })
}

/// Runs a command with `text` on its standard input.
///
/// # Errors
/// When it cannot be started or reports failure.
pub fn feed(mut command: Command, text: &str) -> Result<String> {
    let name = describe(
        &command.get_program().to_string_lossy(),
        &command.get_args().map(|arg| arg.to_str().unwrap_or("?")).collect::<Vec<_>>(),
    );
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::system(format!("cannot start {name}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes()).map_err(Error::system(format!("cannot write to {name}")))?;
    }
    let output = child.wait_with_output().map_err(Error::system(format!("cannot wait for {name}")))?;
    checked(&name, &output)
}

/// Standard output of a command that succeeded.
///
/// # Errors
/// [`Error::Command`] when it did not.
pub fn checked(command: &str, output: &Output) -> Result<String> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(Error::Command {
        command: command.into(),
        status: output.status.to_string(),
        output: format!("{} {}", stdout.trim(), stderr.trim()),
    })
}

fn describe(program: &str, args: &[&str]) -> String {
    std::iter::once(program).chain(args.iter().copied()).collect::<Vec<_>>().join(" ")
}
