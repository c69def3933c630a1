//! CPU time of tasks, in nanoseconds.
//!
//! The kernel's packet work is done in softirqs: on behalf of whoever sends, in the context of that task, or in ksoftirqd.
//! Where the kernel does not account interrupts apart (CONFIG_IRQ_TIME_ACCOUNTING, off in most), the time of a softirq is
//! charged to the task that it interrupts, so the sum over the sender, the engine and ksoftirqd is all there is, while what
//! else runs on the machine is not in it. /proc/stat would count that too, and in ticks.

use std::{fs, io, path::Path};

use nix::errno::Errno;

/// Those whose time is measured.
#[derive(Debug)]
pub(crate) struct Tasks {
    processes: Vec<u32>,
}

impl Tasks {
    /// This process, all of ksoftirqd, and `others`.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub(crate) fn new(others: &[u32]) -> io::Result<Self> {
        let mut processes = vec![std::process::id()];
        processes.extend(others);
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // One that has ended meanwhile is none of ours.
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if name.starts_with("ksoftirqd/") {
                processes.push(number);
            }
        }
        Ok(Self { processes })
    }

    /// What all of them have run, nanoseconds.
    ///
    /// # Errors
    /// When one has ended.
    pub(crate) fn nanoseconds(&self) -> io::Result<u64> {
        self.processes.iter().map(|number| of_process(*number)).sum()
    }
}

fn of_process(number: u32) -> io::Result<u64> {
    fs::read_dir(format!("/proc/{number}/task"))?.map(|task| of_task(&task?.path())).sum()
}

fn of_task(folder: &Path) -> io::Result<u64> {
    let text = match fs::read_to_string(folder.join("schedstat")) {
        Ok(text) => text,
        // A thread that has ended since its process was listed: a short-lived one, of little time.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(Errno::ESRCH as i32) =>
        {
            return Ok(0);
        }
        Err(error) => return Err(error),
    };
    let first = text.split_whitespace().next().unwrap_or_default();
    first.parse().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_with_work() {
        let tasks = Tasks::new(&[]).unwrap();
        let before = tasks.nanoseconds().unwrap();
        let mut sum = 0_u64;
        for number in 0..5_000_000_u64 {
            sum = std::hint::black_box(sum.wrapping_add(number));
        }
        assert!(tasks.nanoseconds().unwrap() > before);
    }
}
