//! Network namespaces.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::error::Error;

/// An open network namespace. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Netns {
    path: PathBuf,
    file: Arc<File>,
}

impl Netns {
    /// Opens the namespace bound at `path`.
    ///
    /// # Errors
    /// When `path` cannot be opened.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| Error::Netns {
            doing: "open",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { path: path.to_owned(), file: Arc::new(file) })
    }

    /// The calling thread's.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub fn current() -> Result<Self, Error> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// Opens the namespace bound at `path`, and makes it before that when there is none.
    ///
    /// # Errors
    /// When it cannot be made (that takes CAP_SYS_ADMIN) or opened.
    pub fn open_or_create(path: &Path) -> Result<Self, Error> {
        if !is_bound(path) {
            create(path).map_err(|source| Error::Netns { doing: "create", path: path.to_owned(), source })?;
        }
        Self::open(path)
    }

    /// Moves the calling thread into it; threads it starts later begin there.
    ///
    /// # Errors
    /// When the file is no network namespace, or without CAP_SYS_ADMIN.
    pub fn enter(&self) -> Result<(), Error> {
        setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET).map_err(|source| Error::Netns {
            doing: "enter",
            path: self.path.clone(),
            source: source.into(),
        })
    }

    /// Runs `work` on a thread inside it.
    ///
    /// # Errors
    /// When it cannot be entered, or `work` panicked.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter()?;
                Ok(work())
            });
            thread.join().unwrap_or_else(|_| {
                let source = io::Error::other("the thread inside it panicked");
                Err(Error::Netns { doing: "work in", path: self.path.clone(), source })
            })
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Whether a namespace is bound at `path`: a plain file there is what an interrupted creation, or a reboot with /run
/// on a disk, left behind.
fn is_bound(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).is_ok_and(|stat| stat.filesystem_type() == nix::sys::statfs::NSFS_MAGIC)
}

fn create(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    File::options().create(true).append(true).open(path)?;
    std::thread::scope(|scope| {
        scope
            .spawn(|| -> io::Result<()> {
                // A thread of its own: unshare(2) moves the thread for good.
                unshare(CloneFlags::CLONE_NEWNET)?;
                mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
                Ok(())
            })
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that made it panicked")))
    })
}
