use std::path::PathBuf;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// How long a directory must be quiet: an editor writes a file in several steps.
const QUIET: Duration = Duration::from_millis(200);

/// How often the files are looked at though nothing was heard: a directory made later has no watch yet.
const FALLBACK: Duration = Duration::from_secs(5);

/// Tells when files may have changed.
#[derive(Debug)]
pub(super) struct Files {
    events: mpsc::Receiver<()>,
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
        Self { events, _watcher: watcher }
    }

    /// Returns when files may have changed and are quiet again. Nothing is lost when it is dropped before.
    pub(super) async fn changed(&mut self) {
        match tokio::time::timeout(FALLBACK, self.events.recv()).await {
            Err(_) => return,
            // No watcher: the time is all there is.
            Ok(None) => return tokio::time::sleep(FALLBACK).await,
            Ok(Some(())) => {}
        }
        while let Ok(Some(())) = tokio::time::timeout(QUIET, self.events.recv()).await {}
    }
}
