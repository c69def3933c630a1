//! Borrows hugepages for a run and gives them back.

use std::{fs, io, path::Path};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

const COUNT: &str = "/proc/sys/vm/nr_hugepages";
const MOUNT: &str = "/dev/hugepages";

/// Hugepages set aside, and their file system mounted, until dropped.
#[derive(Debug)]
pub(crate) struct Hugepages {
    before: u64,
    mounted: bool,
}

impl Hugepages {
    /// Raises the number of 2 MiB pages to at least `pages` and mounts hugetlbfs where it is not.
    ///
    /// # Errors
    /// When the kernel cannot: without root, without the pages in one piece, without the file system.
    pub(crate) fn borrow(pages: u64) -> io::Result<Self> {
        let before = count()?;
        let mut this = Self { before, mounted: false };
        if before < pages {
            fs::write(COUNT, pages.to_string())?;
            let got = count()?;
            if got < pages {
                return Err(io::Error::other(format!("only {got} of {pages} hugepages could be had")));
            }
        }
        if !is_mounted()? {
            fs::create_dir_all(MOUNT)?;
            mount(Some("hugetlbfs"), MOUNT, Some("hugetlbfs"), MsFlags::empty(), None::<&Path>)?;
            this.mounted = true;
        }
        Ok(this)
    }
}

impl Drop for Hugepages {
    fn drop(&mut self) {
        // Best effort on the way out: what is still in use stays until its process ends.
        if self.mounted {
            _ = umount2(MOUNT, MntFlags::MNT_DETACH);
        }
        _ = fs::write(COUNT, self.before.to_string());
    }
}

fn count() -> io::Result<u64> {
    fs::read_to_string(COUNT)?.trim().parse().map_err(io::Error::other)
}

fn is_mounted() -> io::Result<bool> {
    Ok(fs::read_to_string("/proc/self/mounts")?
        .lines()
        .any(|line| line.split_whitespace().nth(2) == Some("hugetlbfs")))
}
