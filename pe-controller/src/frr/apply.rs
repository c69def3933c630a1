use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::command::{Output, run};
use super::output::{complaints, redact};
use crate::error::Error;
use crate::model::ObjectRef;
use crate::render::{FrrConfig, frr_config};
use crate::resolve::{FrrVersion, Pe};

/// How long frr-reload.py may take: hundreds of VRFs on a slow machine.
const RELOAD_LIMIT: Duration = Duration::from_secs(300);

/// How long `vtysh -C` may take.
const CHECK_LIMIT: Duration = Duration::from_secs(60);

/// How long vtysh may take to say FRR's version.
const VERSION_LIMIT: Duration = Duration::from_secs(30);

/// Daemons whose restart loses configuration. mgmtd is there from FRR 10 on.
const DAEMONS: [&str; 5] = ["zebra", "bgpd", "bfdd", "staticd", "mgmtd"];

/// Where FRR is, and how to reach it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `-N NAME` of its daemons; none when they have none.
    pub pathspace: Option<String>,
    /// The directory frr.conf is written to.
    pub config_dir: PathBuf,
    /// frr-reload.py.
    pub reload: PathBuf,
    /// Where vtysh is.
    pub bindir: PathBuf,
    /// Where frr-reload.py keeps its temporary file.
    pub rundir: PathBuf,
    /// Where the daemons' vty sockets are, without the pathspace.
    pub vty_sockets: PathBuf,
    /// Put before every command, e.g. `chroot /frr`.
    pub prefix: Vec<String>,
    /// The group that may read frr.conf.
    pub group: String,
}

/// Which processes FRR consists of: it changes when one of them starts anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instance(BTreeMap<&'static str, (u64, i64, i64)>);

/// What a reload did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Raw objects that were left out, and what FRR has against them.
    pub refused: BTreeMap<ObjectRef, String>,
}

/// A running FRR.
#[derive(Debug, Clone)]
pub struct Frr {
    settings: Settings,
}

impl Frr {
    /// The FRR that `settings` describe.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// Which processes it consists of now.
    #[must_use]
    pub fn instance(&self) -> Instance {
        let socket = |daemon| {
            let metadata = fs::metadata(self.socket(daemon)).ok()?;
            Some((daemon, (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())))
        };
        Instance(DAEMONS.into_iter().filter_map(socket).collect())
    }

    fn config(&self) -> PathBuf {
        self.settings.config_dir.join("frr.conf")
    }

    fn socket(&self, daemon: &str) -> PathBuf {
        let mut path = self.settings.vty_sockets.clone();
        path.extend(&self.settings.pathspace);
        path.join(format!("{daemon}.vty"))
    }

    /// Its release.
    ///
    /// # Errors
    /// When it does not run, or vtysh cannot be run.
    pub async fn version(&self) -> Result<FrrVersion, Error> {
        let output = run(&self.version_command(), VERSION_LIMIT).await?;
        FrrVersion::from_show_version(&output.text).ok_or_else(|| Error::Version {
            command: "vtysh".to_owned(),
            output: output.text.lines().last().unwrap_or("it says nothing").to_owned(),
        })
    }

    /// Brings the configuration of `pe` into FRR. Raw objects that FRR refuses are left out.
    ///
    /// # Errors
    /// When FRR does not run, or refuses what no raw object contributed.
    pub async fn apply(&self, pe: &Pe) -> Result<Applied, Error> {
        let mut applied = Applied::default();
        loop {
            let config = frr_config(&without(pe, &applied.refused));
            self.check_running(&config)?;
            match self.attempt(&config).await? {
                Attempt::Done => return Ok(applied),
                Attempt::Refused(blamed) => applied.refused.extend(blamed),
                Attempt::Unclear(error) if config.raw.is_empty() => return Err(error),
                Attempt::Unclear(_) => return self.apply_one_by_one(pe, applied).await,
            }
        }
    }

    /// Finds the raw objects that FRR refuses by adding one at a time to what it takes.
    async fn apply_one_by_one(&self, pe: &Pe, mut applied: Applied) -> Result<Applied, Error> {
        let suspects: Vec<ObjectRef> = pe
            .raw
            .iter()
            .map(|object| object.id.clone())
            .filter(|id| !applied.refused.contains_key(id))
            .collect();
        let mut out: BTreeMap<ObjectRef, String> = applied.refused.clone();
        out.extend(suspects.iter().map(|id| (id.clone(), String::new())));
        if let Attempt::Unclear(error) = self.attempt(&frr_config(&without(pe, &out))).await? {
            return Err(error);
        }
        for id in suspects {
            out.remove(&id);
            match self.attempt(&frr_config(&without(pe, &out))).await? {
                Attempt::Done => {}
                Attempt::Refused(blamed) => {
                    let message = blamed.into_values().collect::<Vec<_>>().join("; ");
                    applied.refused.insert(id.clone(), message);
                    out.insert(id, String::new());
                }
                Attempt::Unclear(error) => {
                    applied.refused.insert(id.clone(), error.to_string());
                    out.insert(id, String::new());
                }
            }
        }
        // The last attempt may have left half of a refused object behind.
        match self.attempt(&frr_config(&without(pe, &out))).await? {
            Attempt::Unclear(error) => Err(error),
            _ => Ok(applied),
        }
    }

    async fn attempt(&self, config: &FrrConfig) -> Result<Attempt, Error> {
        let candidate = self.config().with_extension("conf.candidate");
        self.write(&candidate, &config.text)?;
        let checked = run(&self.check_command(&candidate), CHECK_LIMIT).await;
        let blame_line = |line, _: &str| config.raw_at(line);
        let outcome = match checked {
            Ok(output) => self.judge("vtysh -C", &output, blame_line),
            Err(error) => Err(error),
        };
        if !matches!(outcome, Ok(Attempt::Done)) {
            // Nothing of it was applied, so it is of no further use. It may hold passwords.
            let _ = fs::remove_file(&candidate);
            return outcome;
        }
        let path = self.config();
        let before = fs::read_to_string(&path).unwrap_or_default();
        fs::rename(&candidate, &path).map_err(|source| Error::Write { path, source })?;
        let reload = async || {
            let output = run(&self.reload_command(), RELOAD_LIMIT).await?;
            self.judge("frr-reload.py", &output, |_, command| config.raw_with(command))
        };
        match reload().await? {
            // It removes lines one by one and fails at one that went with another, such as a listen range with its
            // peer group. What is left to do then, if anything, a second run does.
            Attempt::Unclear(_) => reload().await,
            // bgpd takes the end of a BFD profile, which comes after that of BFD, for a wish to have BFD without one.
            Attempt::Done if loses_bfd_profile(&before, &config.text) => reload().await,
            attempt => Ok(attempt),
        }
    }

    /// Reads what a command said. `blame` tells which raw object a line came from.
    fn judge<'a>(
        &self,
        command: &str,
        output: &Output,
        blame: impl Fn(usize, &str) -> Option<&'a ObjectRef>,
    ) -> Result<Attempt, Error> {
        if output.status.success() {
            return Ok(Attempt::Done);
        }
        let complaints = complaints(&output.text);
        let mut blamed: BTreeMap<ObjectRef, String> = BTreeMap::new();
        let mut others = Vec::new();
        for complaint in complaints {
            match blame(complaint.line, &complaint.command) {
                Some(id) => {
                    let message = blamed.entry(id.clone()).or_default();
                    if !message.is_empty() {
                        message.push_str("; ");
                    }
                    message.push_str(&complaint.to_string());
                }
                None => others.push(complaint),
            }
        }
        // What the others lack may follow from what the blamed ones did: without those they may be right.
        if !blamed.is_empty() {
            return Ok(Attempt::Refused(blamed));
        }
        if !others.is_empty() {
            return Ok(Attempt::Unclear(Error::Refused(others)));
        }
        let mut tail: Vec<&str> = output.text.lines().filter(|line| !line.trim().is_empty()).collect();
        tail.drain(..tail.len().saturating_sub(5));
        let output_text = redact(&tail.join("\n"));
        Ok(Attempt::Unclear(Error::Failed {
            command: command.to_owned(),
            status: output.status,
            output: output_text,
        }))
    }

    fn check_running(&self, config: &FrrConfig) -> Result<(), Error> {
        let needed = ["zebra", "bgpd"].into_iter().chain(config.bfd.then_some("bfdd"));
        for daemon in needed {
            let socket = self.socket(daemon);
            if !socket.exists() {
                return Err(Error::NotRunning { daemon, socket });
            }
        }
        Ok(())
    }

    /// Writes a file that root writes and FRR's group reads.
    fn write(&self, path: &Path, text: &str) -> Result<(), Error> {
        let fail = |source| Error::Write { path: path.to_owned(), source };
        if let Some(directory) = path.parent()
            && !directory.exists()
        {
            fs::create_dir_all(directory).map_err(fail)?;
            // Whatever the umask: FRR must get through to its file.
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).map_err(fail)?;
        }
        // Made anew, so that it never has the rights of an older one.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(path).map_err(fail)?;
        match nix::unistd::Group::from_name(&self.settings.group) {
            Ok(Some(group)) => {
                std::os::unix::fs::fchown(&file, None, Some(group.gid.as_raw())).map_err(fail)?;
            }
            _ => tracing::warn!(
                group = self.settings.group,
                "no such group: FRR may not be able to read its file"
            ),
        }
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(fail)
    }

    fn version_command(&self) -> Vec<String> {
        let mut argv = self.vtysh();
        argv.extend(["--vty_socket".to_owned(), text(&self.settings.vty_sockets)]);
        argv.extend(["-c".to_owned(), "show version".to_owned()]);
        argv
    }

    fn check_command(&self, candidate: &Path) -> Vec<String> {
        let mut argv = self.vtysh();
        argv.extend(["-C".to_owned(), "-f".to_owned(), text(candidate)]);
        argv
    }

    fn vtysh(&self) -> Vec<String> {
        let settings = &self.settings;
        let mut argv = settings.prefix.clone();
        argv.push(text(&settings.bindir.join("vtysh")));
        argv.extend(["--config_dir".to_owned(), text(&settings.config_dir)]);
        if let Some(name) = &settings.pathspace {
            argv.extend(["-N".to_owned(), name.clone()]);
        }
        argv
    }

    fn reload_command(&self) -> Vec<String> {
        let settings = &self.settings;
        let mut argv = settings.prefix.clone();
        // Its log at any other level repeats the whole configuration, passwords and all, in a file others can read.
        let fixed = ["--reload", "--stdout", "--log-level", "error"];
        argv.push(text(&settings.reload));
        argv.extend(fixed.map(str::to_owned));
        argv.extend(["--bindir".to_owned(), text(&settings.bindir)]);
        // Where the file is in this directory frr-reload.py does not have the daemons write files of their own.
        argv.extend(["--confdir".to_owned(), text(&settings.config_dir)]);
        argv.extend(["--rundir".to_owned(), text(&settings.rundir)]);
        argv.extend(["--vty_socket".to_owned(), text(&settings.vty_sockets)]);
        if let Some(name) = &settings.pathspace {
            argv.extend(["--pathspace".to_owned(), name.clone()]);
        }
        argv.push(text(&self.config()));
        argv
    }
}

/// A neighbour has a BFD profile in `before`, and none in `after`.
fn loses_bfd_profile(before: &str, after: &str) -> bool {
    fn with_profile(text: &str) -> BTreeSet<&str> {
        let lines = text.lines().filter_map(|line| line.split_once(" bfd profile "));
        lines.map(|(neighbor, _)| neighbor.trim()).collect()
    }
    !with_profile(before).is_subset(&with_profile(after))
}

enum Attempt {
    Done,
    /// These raw objects have lines that FRR refuses.
    Refused(BTreeMap<ObjectRef, String>),
    /// It failed, and no raw object can be blamed for it.
    Unclear(Error),
}

fn without(pe: &Pe, refused: &BTreeMap<ObjectRef, String>) -> Pe {
    let out: BTreeSet<&ObjectRef> = refused.keys().collect();
    let mut pe = pe.clone();
    pe.raw.retain(|object| !out.contains(&object.id));
    pe
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
