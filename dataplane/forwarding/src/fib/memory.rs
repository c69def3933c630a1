//! Memory at addresses that never change, however much of it is used.

use super::FibError;

/// Types whose every value is made of atomics and of which all-zero bytes are one.
///
/// # Safety
///
/// All-zero bytes must be a valid value, and the type must need no drop.
pub(super) unsafe trait Zeroed: Default + Sync {}

pub(super) use region::Region;

#[cfg(not(any(loom, miri)))]
mod region {
    use std::ptr::NonNull;

    use super::{FibError, Zeroed};

    /// Where transparent huge pages begin in an arena that may stay small, bytes: a node with few routes shall not pay
    /// one huge page per arena.
    const SMALL: usize = 2 << 20;

    /// `2^n` elements of reserved address space, all zero. The kernel backs what is touched, from the third mebibyte on with
    /// huge pages where it can.
    #[derive(Debug)]
    pub(in crate::fib) struct Region<T> {
        base: NonNull<T>,
        mask: usize,
    }

    // SAFETY: it owns its memory as a Box<[T]> would, and hands out shared references only.
    unsafe impl<T: Zeroed> Send for Region<T> {}
    // SAFETY: as above; `Zeroed` implies `T: Sync`.
    unsafe impl<T: Zeroed> Sync for Region<T> {}

    impl<T: Zeroed> Region<T> {
        pub(in crate::fib) fn new(log2: u32) -> Result<Self, FibError> {
            let len = 1_usize << log2;
            let bytes = len * size_of::<T>();
            // SAFETY: a new private anonymous mapping at an address of the kernel's choice touches nothing that exists.
            let base = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    bytes,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                    -1,
                    0,
                )
            };
            let base = match NonNull::new(base) {
                Some(base) if base.as_ptr() != libc::MAP_FAILED => base,
                _ => return Err(FibError::Reserve { bytes, source: std::io::Error::last_os_error() }),
            };
            if bytes > SMALL {
                // SAFETY: the range lies within the mapping made above. Advice that is refused changes nothing but speed.
                unsafe {
                    libc::madvise(base.as_ptr().byte_add(SMALL), bytes - SMALL, libc::MADV_HUGEPAGE);
                }
            }
            Ok(Self { base: base.cast(), mask: len - 1 })
        }

        /// The element at `index` modulo the region's length, which makes every index one of the region's.
        #[inline(always)]
        pub(in crate::fib) fn at(&self, index: u32) -> &T {
            // SAFETY: the masked index is below the region's length, the mapping lives as long as `self`, it was zeroed
            // by the kernel and `T: Zeroed`, and nobody ever makes a unique reference into it.
            unsafe { self.base.add(index as usize & self.mask).as_ref() }
        }
    }

    impl<T> Drop for Region<T> {
        fn drop(&mut self) {
            // SAFETY: exactly the mapping made in `new`; every reference into it borrowed `self`.
            unsafe {
                libc::munmap(self.base.as_ptr().cast(), (self.mask + 1) * size_of::<T>());
            }
        }
    }
}

/// What loom and Miri can follow: a small boxed slice.
#[cfg(any(loom, miri))]
mod region {
    use super::{FibError, Zeroed};

    #[derive(Debug)]
    pub(in crate::fib) struct Region<T>(Box<[T]>);

    impl<T: Zeroed> Region<T> {
        pub(in crate::fib) fn new(log2: u32) -> Result<Self, FibError> {
            Ok(Self((0..1_usize << log2).map(|_| T::default()).collect()))
        }

        pub(in crate::fib) fn at(&self, index: u32) -> &T {
            &self.0[index as usize & (self.0.len() - 1)]
        }
    }
}
