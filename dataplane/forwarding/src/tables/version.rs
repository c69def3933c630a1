//! What tells workers that something they remember may have changed.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that its one writer raises after every change of the tables it belongs to.
///
/// A worker reads it before a burst. What it worked out from the tables in earlier bursts it may use again if the number is
/// still the same: the burst is then as good as one that came before the change. That a slot which was used again cannot be
/// taken for what was in it before, needs one thing more: the number is raised between the unlinking of a slot and the
/// epoch that its readers must pass ([`reclaim`](crate::reclaim), argument 1), so that a reader which may meet the new
/// content has forgotten the old one.
#[derive(Debug, Default)]
pub(crate) struct Version(AtomicU64);

impl Version {
    /// Before anything is read that is to be remembered.
    #[inline(always)]
    pub(crate) fn read(&self) -> u64 {
        // Acquire: whoever sees the number sees the changes before it.
        self.0.load(Ordering::Acquire)
    }

    /// After a change; by the one writer.
    pub(crate) fn bump(&self) {
        // Release: the change comes first.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }
}
