//! A daemon of ours as a child process, its output in a log file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::netns;
use crate::{Error, Result};

/// How to start one of our programs, and the process once it runs.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    netns: String,
    program: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Daemon {
    /// Not started yet.
    pub fn new(name: String, netns: &str, program: PathBuf, args: Vec<String>, logs: &Path) -> Self {
        let log = logs.join(format!("{name}.log"));
        Self { name, netns: netns.into(), program, args, log, child: None }
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self) -> Result<()> {
        let log = &self.log;
        let file =
            File::options().create(true).append(true).open(log).map_err(Error::file("cannot write", log))?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .env("RUST_BACKTRACE", "1")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(Error::file("cannot duplicate", log))?)
            .stderr(file);
        let child = netns::within(&self.netns, || {
            command.spawn().map_err(Error::system(format!("cannot start {}", self.program.display())))
        })?;
        self.child = Some(child);
        Ok(())
    }

    /// Its name in the lab, e.g. `n1-frr-bridge`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Why it ended by itself, if it did.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        Some(format!("{} ended ({status}); see {}", self.name, self.log.display()))
    }

    /// Kills it without notice.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill(&mut self) -> Result<()> {
        let mut child =
            self.child.take().ok_or_else(|| Error::unexpected(format!("{} is not running", self.name)))?;
        child.kill().map_err(Error::system(format!("cannot kill {}", self.name)))?;
        child.wait().map_err(Error::system(format!("cannot wait for {}", self.name)))?;
        Ok(())
    }

    /// Asks it to end, as a service manager does, and waits until it has.
    ///
    /// # Errors
    /// When it is not running, does not end within 20 s, or ends with an error.
    pub fn stop(&mut self) -> Result<()> {
        let mut child =
            self.child.take().ok_or_else(|| Error::unexpected(format!("{} is not running", self.name)))?;
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM)
            .map_err(Error::system(format!("cannot signal {}", self.name)))?;
        let start = Instant::now();
        loop {
            match child.try_wait().map_err(Error::system(format!("cannot wait for {}", self.name)))? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(Error::unexpected(format!("{} ended with {status}", self.name))),
                None if start.elapsed() > Duration::from_secs(20) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(Error::unexpected(format!(
                        "{} did not end within 20 s of SIGTERM",
                        self.name
                    )));
                }
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}
