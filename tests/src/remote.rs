//! Commands from outside into a running lab, by way of files that both sides see.
//!
//! A network connection or a pipe would end at user-mode Linux's border; its file system is the host's own.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::world::NEWEST;
use crate::{Error, Result};

const PAUSE: Duration = Duration::from_millis(150);

#[derive(Serialize, Deserialize)]
struct Answer {
    code: u8,
    output: String,
}

/// Serves calls for as long as the lab lives, on a thread of its own.
///
/// # Errors
/// When the folder for the calls cannot be made.
pub fn serve(dir: &Path) -> Result<()> {
    let calls = dir.join("calls");
    fs::create_dir_all(&calls).map_err(Error::file("cannot make", &calls))?;
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(PAUSE);
            let Ok(entries) = fs::read_dir(&calls) else { continue };
            for path in entries.flatten().map(|entry| entry.path()) {
                if path.extension().is_some_and(|extension| extension == "call") {
                    std::thread::spawn(move || {
                        if let Err(error) = answer(&path) {
                            eprintln!("e2e: call {}: {error}", path.display());
                        }
                    });
                }
            }
        }
    });
    Ok(())
}

fn answer(path: &Path) -> Result<()> {
    let taken = path.with_extension("taken");
    if fs::rename(path, &taken).is_err() {
        // Another thread was quicker.
        return Ok(());
    }
    let text = fs::read_to_string(&taken).map_err(Error::file("cannot read", &taken))?;
    let command: Vec<String> =
        serde_json::from_str(&text).map_err(|error| Error::unexpected(format!("not a command: {error}")))?;
    let answer = match command.split_first() {
        None => Answer { code: 2, output: "no command\n".into() },
        Some((program, args)) => {
            match Command::new(program).args(args).stdin(std::process::Stdio::null()).output() {
                Ok(output) => Answer {
                    code: output.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
                    output: String::from_utf8_lossy(&output.stdout).into_owned()
                        + &String::from_utf8_lossy(&output.stderr),
                },
                Err(error) => Answer { code: 127, output: format!("{program}: {error}\n") },
            }
        }
    };
    let text = serde_json::to_string(&answer).map_err(|error| Error::unexpected(error.to_string()))?;
    put(&path.with_extension("answer"), &text)
}

/// Writes a whole file under its name at once, and through user-mode Linux's cache.
fn put(path: &Path, text: &str) -> Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary).map_err(Error::file("cannot write", &temporary))?;
    file.write_all(text.as_bytes()).map_err(Error::file("cannot write", &temporary))?;
    file.sync_all().map_err(Error::file("cannot write", &temporary))?;
    fs::rename(&temporary, path).map_err(Error::file("cannot write", path))
}

/// Runs `command` in the lab, prints what it printed and passes on its exit code.
///
/// # Errors
/// When there is no lab, or it does not answer.
pub fn call(lab: Option<&Path>, command: &[String]) -> Result<ExitCode> {
    let dir = lab.unwrap_or_else(|| Path::new(NEWEST));
    let calls = dir.join("calls");
    if !calls.is_dir() {
        return Err(Error::unexpected(format!(
            "no lab is running in {}: `make demo KEEP=1` starts one",
            dir.display()
        )));
    }
    let call: PathBuf = calls.join(format!("{}.call", std::process::id()));
    let text = serde_json::to_string(command).map_err(|error| Error::unexpected(error.to_string()))?;
    put(&call, &text)?;
    let path = call.with_extension("answer");
    let mut waited = Duration::ZERO;
    while !path.exists() {
        std::thread::sleep(PAUSE);
        waited += PAUSE;
        if waited > Duration::from_secs(5) && call.exists() {
            let _ = fs::remove_file(&call);
            return Err(Error::unexpected(format!(
                "the lab in {} does not answer; is it still running?",
                dir.display()
            )));
        }
    }
    let text = fs::read_to_string(&path).map_err(Error::file("cannot read", &path))?;
    let answer: Answer =
        serde_json::from_str(&text).map_err(|error| Error::unexpected(format!("not an answer: {error}")))?;
    for suffix in ["answer", "taken"] {
        let _ = fs::remove_file(call.with_extension(suffix));
    }
    print!("{}", answer.output);
    Ok(ExitCode::from(answer.code))
}
