//! Bursts: what a queue receives or sends at once.

use std::{
    fmt,
    mem::MaybeUninit,
    ops::{Deref, DerefMut},
    slice,
};

use dpdk_sys as sys;

use crate::Mbuf;

/// Up to `N` packets, at most 65535. Owned: dropping the burst frees what is in it, all at once.
///
/// Derefs to `[Mbuf]`. Two kilobytes large by default, so keep it and pass it by reference.
pub struct Burst<const N: usize = 256> {
    len: usize,
    packets: [MaybeUninit<Mbuf>; N],
}

impl<const N: usize> Burst<N> {
    const FITS_A_DRIVER_CALL: () = assert!(N <= u16::MAX as usize);

    /// An empty burst.
    #[inline]
    pub const fn new() -> Self {
        let () = Self::FITS_A_DRIVER_CALL;
        Self { len: 0, packets: [const { MaybeUninit::uninit() }; N] }
    }

    /// Room for no packet is left.
    #[inline]
    pub const fn is_full(&self) -> bool {
        self.len == N
    }

    /// Adds a packet at the end.
    ///
    /// # Errors
    ///
    /// Gives the packet back when the burst is full.
    #[inline]
    pub fn push(&mut self, packet: Mbuf) -> Result<(), Mbuf> {
        match self.packets.get_mut(self.len) {
            Some(slot) => {
                slot.write(packet);
                self.len += 1;
                Ok(())
            }
            None => Err(packet),
        }
    }

    /// Takes the last packet out.
    #[inline]
    pub fn pop(&mut self) -> Option<Mbuf> {
        let last = self.len.checked_sub(1)?;
        self.len = last;
        // SAFETY: slots below the old length are initialised; the new length excludes this one.
        Some(unsafe { self.packets[last].assume_init_read() })
    }

    /// Takes a packet out and puts the last one in its place. `None` when there is none at `index`.
    #[inline]
    pub fn swap_remove(&mut self, index: usize) -> Option<Mbuf> {
        if index >= self.len {
            return None;
        }
        let last = self.len - 1;
        self.swap(index, last);
        self.pop()
    }

    /// Takes all packets out, in order. What is not taken from the iterator is freed.
    #[inline]
    pub fn drain(&mut self) -> Drain<'_> {
        let len = std::mem::take(&mut self.len);
        Drain { rest: self.packets[..len].iter_mut() }
    }

    /// Frees all packets.
    #[inline]
    pub fn clear(&mut self) {
        if self.len != 0 {
            let len = std::mem::take(&mut self.len);
            free_bulk(&mut self.packets[..len]);
        }
    }

    /// Room behind the packets, for a driver to fill; follow with `grow`.
    #[inline]
    pub(crate) fn spare(&mut self) -> &mut [MaybeUninit<Mbuf>] {
        &mut self.packets[self.len..]
    }

    /// # Safety
    ///
    /// The first `count` slots of `spare` have been initialised.
    #[inline]
    pub(crate) unsafe fn grow(&mut self, count: usize) {
        debug_assert!(self.len + count <= N);
        self.len += count;
    }

    /// # Safety
    ///
    /// Somebody else owns the first `count` packets now.
    #[inline]
    pub(crate) unsafe fn give_up(&mut self, count: usize) {
        debug_assert!(count <= self.len);
        let left = self.len - count;
        if left != 0 {
            let base = self.packets.as_mut_ptr();
            // SAFETY: both ranges lie within the array; MaybeUninit is moved as bytes.
            unsafe { std::ptr::copy(base.add(count), base, left) };
        }
        self.len = left;
    }

    /// Frees the first `count` packets, all when there are fewer.
    #[inline]
    pub(crate) fn free_first(&mut self, count: usize) {
        let count = count.min(self.len);
        if count != 0 {
            free_bulk(&mut self.packets[..count]);
            // SAFETY: they have just been freed.
            unsafe { self.give_up(count) };
        }
    }

    /// Keeps the packets that `keep` wants, in order, and frees the others.
    pub fn retain(&mut self, mut keep: impl FnMut(&mut Mbuf) -> bool) {
        let len = std::mem::take(&mut self.len);
        for index in 0..len {
            // SAFETY: slots below the old length are initialised and each is read once. Should `keep` panic, the
            // packets not yet looked at leak.
            let mut packet = unsafe { self.packets[index].assume_init_read() };
            if keep(&mut packet) {
                self.packets[self.len].write(packet);
                self.len += 1;
            }
        }
    }
}

impl<const N: usize> Default for Burst<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Deref for Burst<N> {
    type Target = [Mbuf];

    #[inline]
    fn deref(&self) -> &[Mbuf] {
        // SAFETY: the first `len` slots are initialised.
        unsafe { slice::from_raw_parts(self.packets.as_ptr().cast(), self.len) }
    }
}

impl<const N: usize> DerefMut for Burst<N> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Mbuf] {
        // SAFETY: the first `len` slots are initialised, and `&mut self` is the only way to them.
        unsafe { slice::from_raw_parts_mut(self.packets.as_mut_ptr().cast(), self.len) }
    }
}

impl<const N: usize> Drop for Burst<N> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<const N: usize> fmt::Debug for Burst<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The packets of a [`Burst`], one by one.
pub struct Drain<'a> {
    rest: slice::IterMut<'a, MaybeUninit<Mbuf>>,
}

impl Iterator for Drain<'_> {
    type Item = Mbuf;

    #[inline]
    fn next(&mut self) -> Option<Mbuf> {
        // SAFETY: `Burst::drain` passed initialised slots only, and each is read once.
        self.rest.next().map(|slot| unsafe { slot.assume_init_read() })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rest.size_hint()
    }
}

impl ExactSizeIterator for Drain<'_> {}

impl Drop for Drain<'_> {
    fn drop(&mut self) {
        let rest = std::mem::take(&mut self.rest).into_slice();
        if !rest.is_empty() {
            free_bulk(rest);
        }
    }
}

impl fmt::Debug for Drain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain").field("left", &self.rest.len()).finish()
    }
}

/// Frees initialised slots; the caller forgets them.
fn free_bulk(packets: &mut [MaybeUninit<Mbuf>]) {
    let count = u32::try_from(packets.len()).unwrap_or(u32::MAX);
    // SAFETY: `Mbuf` is a transparent pointer to an mbuf we own; nobody uses the slots again.
    unsafe { sys::rte_pktmbuf_free_bulk(packets.as_mut_ptr().cast(), count) }
}
