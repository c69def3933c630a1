//! Work in another network namespace than the process's own.

use std::{os::fd::AsFd, thread};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
};

/// The namespace could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// No thread could be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The descriptor is not a network namespace's, or CAP_SYS_ADMIN is missing.
    #[error("cannot enter the network namespace: {0}")]
    Enter(Errno),
}

/// Runs `work` on a thread of its own in the network namespace that `netns` refers to, and waits for its answer.
///
/// A namespace is a property of the thread, so the caller's does not change. Drivers differ in what they do in the calling
/// thread's namespace; the table in [`crate::port`] says when this is needed. A panic of `work` goes on in the caller.
///
/// # Errors
///
/// When the thread cannot start or the namespace cannot be entered; `work` has not run then.
pub fn on_thread_in_netns<T: Send>(
    netns: impl AsFd + Sync,
    work: impl FnOnce() -> T + Send,
) -> Result<T, NetnsError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("in-netns".into()).spawn_scoped(scope, || {
            setns(&netns, CloneFlags::CLONE_NEWNET).map_err(NetnsError::Enter)?;
            Ok(work())
        })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
