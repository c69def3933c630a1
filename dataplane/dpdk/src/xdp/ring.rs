//! Memory that is shared with the kernel: mappings, and the rings of an AF_XDP socket in them.

use std::{
    marker::PhantomData,
    os::fd::{AsRawFd, OwnedFd},
    ptr::{self, NonNull},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering, fence},
    },
};

use nix::errno::Errno;

/// A mapping, unmapped when dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: memory belongs to no thread; who reads and writes where is up to those who hold the mapping.
unsafe impl Send for Mapping {}
// SAFETY: as above: a shared reference gives an address only.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Fresh memory of `length` bytes, all of it there.
    pub(super) fn anonymous(length: usize) -> Result<Self, Errno> {
        Self::map(length, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    fn of(fd: &OwnedFd, length: usize, offset: libc::off_t) -> Result<Self, Errno> {
        Self::map(length, libc::MAP_SHARED, fd.as_raw_fd(), offset)
    }

    fn map(length: usize, flags: i32, fd: i32, offset: libc::off_t) -> Result<Self, Errno> {
        let flags = flags | libc::MAP_POPULATE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, flags, fd, offset)
        };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let start = NonNull::new(start.cast()).ok_or(Errno::ENOMEM)?;
        Ok(Self { start, length })
    }

    pub(super) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Bytes.
    pub(super) fn length(&self) -> usize {
        self.length
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, and nobody refers to it without holding `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// Which end of a ring is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// We fill it: the fill and the send ring.
    Producer,
    /// We empty it: the receive and the completion ring.
    Consumer,
}

/// Where both sides tell how far they are. Anybody who holds it may look, on any thread.
#[derive(Debug, Clone)]
pub(super) struct Indices {
    mapping: Arc<Mapping>,
    producer: usize,
    consumer: usize,
    flags: usize,
}

impl Indices {
    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: `Ring::map` has checked that an aligned word is there; both sides access it atomically only.
        unsafe { &*self.mapping.start().add(offset).cast::<AtomicU32>() }
    }

    /// Entries that their producer has published and their consumer has not taken yet, as far as that one has told.
    pub(super) fn pending(&self) -> u32 {
        let consumer = self.word(self.consumer).load(Ordering::Acquire);
        self.word(self.producer).load(Ordering::Acquire).wrapping_sub(consumer)
    }

    /// The kernel wants a system call to go on (`XDP_RING_NEED_WAKEUP`).
    ///
    /// It sets the flag and then looks for entries once more: who has just published some calls [`Self::published`] first, or
    /// each may miss what the other did.
    pub(super) fn needs_wakeup(&self) -> bool {
        self.word(self.flags).load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    /// Orders what was published before what is read of the flag next: a store and a load, which nothing weaker orders.
    pub(super) fn published() {
        fence(Ordering::SeqCst);
    }
}

/// Our end of a ring: `T` is a descriptor or an address. Of a power of two of entries.
#[derive(Debug)]
pub(super) struct Ring<T> {
    indices: Indices,
    /// Of the first entry in the mapping.
    entries: usize,
    size: u32,
    end: End,
    /// Our own index, which the kernel sees after [`Self::publish`].
    own: u32,
    _entries: PhantomData<T>,
}

impl<T: Copy> Ring<T> {
    /// Maps the ring of a socket that has `size` entries, at the offsets that the kernel tells.
    pub(super) fn map(
        socket: &OwnedFd,
        size: u32,
        offsets: &libc::xdp_ring_offset,
        page: libc::off_t,
        end: End,
    ) -> Result<Self, Errno> {
        let offset = |value: u64| usize::try_from(value).map_err(|_| Errno::EOVERFLOW);
        let entries = offset(offsets.desc)?;
        let mapping = Mapping::of(socket, entries + size as usize * size_of::<T>(), page)?;
        let (producer, consumer) = (offset(offsets.producer)?, offset(offsets.consumer)?);
        let flags = offset(offsets.flags)?;
        let inside = |at: usize| at.is_multiple_of(4) && at + 4 <= mapping.length();
        if !size.is_power_of_two()
            || !entries.is_multiple_of(align_of::<T>())
            || ![producer, consumer, flags].into_iter().all(inside)
        {
            return Err(Errno::EINVAL);
        }
        let indices = Indices { mapping: Arc::new(mapping), producer, consumer, flags };
        Ok(Self { indices, entries, size, end, own: 0, _entries: PhantomData })
    }

    /// What the two sides tell of it.
    pub(super) fn indices(&self) -> &Indices {
        &self.indices
    }

    /// Entries that are ours to write, or to read, as far as the kernel has told: it may be late to tell what it has read.
    pub(super) fn available(&self) -> u32 {
        let Indices { producer, consumer, .. } = self.indices;
        // Acquire: what the kernel wrote before it moved its index is seen, or it has read what we overwrite.
        match self.end {
            End::Producer => {
                self.size - self.own.wrapping_sub(self.indices.word(consumer).load(Ordering::Acquire))
            }
            End::Consumer => self.indices.word(producer).load(Ordering::Acquire).wrapping_sub(self.own),
        }
    }

    fn entry(&self, index: u32) -> *mut T {
        let slot = self.own.wrapping_add(index) & (self.size - 1);
        // SAFETY: the slot is below the size, and the mapping has room for that many; `map` has checked the alignment.
        unsafe { self.indices.mapping.start().add(self.entries).cast::<T>().add(slot as usize) }
    }

    /// Reads the entry that is `index` behind our own.
    ///
    /// # Safety
    ///
    /// It is a ring that we empty, and [`Self::available`] was above `index` since the last [`Self::publish`].
    pub(super) unsafe fn read(&self, index: u32) -> T {
        debug_assert!(self.end == End::Consumer && index < self.available());
        // SAFETY: within the mapping; the kernel has published it and does not touch it until we release it. Entries are
        // numbers, for which any bits are a value.
        unsafe { self.entry(index).read() }
    }

    /// Writes the entry that is `index` behind our own.
    ///
    /// # Safety
    ///
    /// It is a ring that we fill, and the kernel has read what was in that entry before: [`Self::available`] was above `index`
    /// since the last [`Self::publish`], or the caller knows otherwise that fewer than `size` entries can be unread.
    pub(super) unsafe fn write(&mut self, index: u32, value: T) {
        debug_assert!(self.end == End::Producer && index < self.size);
        // SAFETY: within the mapping; the kernel does not read it until we publish it.
        unsafe { self.entry(index).write(value) };
    }

    /// Gives the next `count` entries to the kernel: written ones, or those that have been read.
    pub(super) fn publish(&mut self, count: u32) {
        self.own = self.own.wrapping_add(count);
        let Indices { producer, consumer, .. } = self.indices;
        let index = if self.end == End::Producer { producer } else { consumer };
        self.indices.word(index).store(self.own, Ordering::Release);
    }
}
