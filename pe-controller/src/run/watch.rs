use std::path::PathBuf;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long a directory must be quiet: an editor writes a file in several steps.
const QUIET: Duration = Duration::from_millis(200);

/// How often the files are looked at though nothing was heard: a directory made later has no watch yet.
const FALLBACK: Duration = Duration::from_secs(5);

/// Tells when files may have changed.
#[derive(Debug)]
pub(super) struct Files {
    events: mpsc::Receiver<()>,
    /// When the files will have been quiet for long enough; none when nothing was heard.
    quiet: Option<Instant>,
    /// When they are looked at next though nothing is heard.
    look: Instant,
    // Watches as long as it lives.
    _watcher: Option<notify::RecommendedWatcher>,
}

impl Files {
    pub(super) fn new(directories: &[PathBuf]) -> Self {
        let (sender, events) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the files is an event too, and no change.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                // When the channel is full, the change that is in it stands for this one too.
                let _ = sender.try_send(());
            }
        });
        let watcher = match watcher {
            Ok(mut watcher) => {
                for directory in directories {
                    if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                        tracing::warn!(
                            "cannot watch {}: {error}; it is looked at every {} s",
                            directory.display(),
                            FALLBACK.as_secs()
                        );
                    }
                }
                Some(watcher)
            }
            Err(error) => {
                tracing::warn!(
                    "cannot watch files: {error}; they are looked at every {} s",
                    FALLBACK.as_secs()
                );
                None
            }
        };
        Self { events, quiet: None, look: Instant::now() + FALLBACK, _watcher: watcher }
    }

    /// Returns when files may have changed and are quiet again. Nothing is lost when it is dropped before.
    pub(super) async fn changed(&mut self) {
        loop {
            let due = self.quiet.unwrap_or(self.look);
            match tokio::time::timeout_at(due, self.events.recv()).await {
                Ok(Some(())) => {
                    self.quiet = Some(Instant::now() + QUIET);
                    continue;
                }
                // No watcher: the time is all there is.
                Ok(None) => tokio::time::sleep_until(due).await,
                Err(_) => {}
            }
            self.quiet = None;
            self.look = Instant::now() + FALLBACK;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_told_though_nobody_ever_waits_as_long_as_quiet_takes() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = Files::new(&[directory.path().to_owned()]);
        let start = Instant::now();
        std::fs::write(directory.path().join("openpe_new.yaml"), "l3vnis: []\n").unwrap();
        while tokio::time::timeout(QUIET / 4, files.changed()).await.is_err() {
            assert!(start.elapsed() < FALLBACK, "the change was lost");
        }
    }

    #[tokio::test]
    async fn files_are_looked_at_now_and_then_though_nothing_is_heard_and_nobody_waits_that_long() {
        let mut files = Files::new(&[]);
        files.look = Instant::now() + QUIET;
        let start = Instant::now();
        while tokio::time::timeout(QUIET / 4, files.changed()).await.is_err() {
            assert!(start.elapsed() < FALLBACK, "nobody looked");
        }
    }
}
