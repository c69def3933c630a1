//! Packet buffers.

use std::{fmt, ptr::NonNull, slice};

use dpdk_sys as sys;

/// A packet: one buffer of a [`Mempool`](crate::Mempool), with headroom in front of the data and tailroom behind it.
///
/// Owned: dropping it gives the buffer back. Always a single segment; [`RxQueue`](crate::RxQueue) drops what a driver
/// chained.
#[repr(transparent)]
pub struct Mbuf(NonNull<sys::Mbuf>);

// SAFETY: a buffer belongs to no thread: mempools take it back on any. Its one owner has the only pointer to it.
unsafe impl Send for Mbuf {}
// SAFETY: `&Mbuf` only reads, and writing takes `&mut Mbuf`.
unsafe impl Sync for Mbuf {}

impl Mbuf {
    /// Bytes in front of the data of a fresh buffer.
    pub const HEADROOM: u16 = sys::Mbuf::HEADROOM;

    #[inline]
    fn raw(&self) -> &sys::Mbuf {
        // SAFETY: the pointer came from a mempool or a driver, which initialised it, and is valid until Drop.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    fn raw_mut(&mut self) -> &mut sys::Mbuf {
        // SAFETY: as in `raw`, and `&mut self` is the only way to it.
        unsafe { self.0.as_mut() }
    }

    /// The frame.
    #[inline]
    pub fn data(&self) -> &[u8] {
        let raw = self.raw();
        // SAFETY: data_off + data_len <= buf_len, which DPDK upholds and every method here keeps.
        unsafe {
            slice::from_raw_parts(raw.buf_addr.add(usize::from(raw.data_off)), usize::from(raw.data_len))
        }
    }

    /// The frame, to rewrite.
    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        let raw = self.raw_mut();
        // SAFETY: as in `data`; nobody else refers to the buffer.
        unsafe {
            slice::from_raw_parts_mut(raw.buf_addr.add(usize::from(raw.data_off)), usize::from(raw.data_len))
        }
    }

    /// Length of the frame, bytes.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.raw().data_len)
    }

    /// The frame has no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in front of the data.
    #[inline]
    pub fn headroom(&self) -> usize {
        usize::from(self.raw().data_off)
    }

    /// Bytes behind the data.
    #[inline]
    pub fn tailroom(&self) -> usize {
        let raw = self.raw();
        usize::from(raw.buf_len - raw.data_off - raw.data_len)
    }

    /// Number of the DPDK port it was received on; meaningless for packets from [`Mempool::alloc`](crate::Mempool::alloc).
    #[inline]
    pub fn port(&self) -> u16 {
        self.raw().port
    }

    /// The NIC's hash of the flow, where it computed one.
    #[inline]
    pub fn rss_hash(&self) -> Option<u32> {
        let raw = self.raw();
        (raw.ol_flags & sys::Mbuf::RX_RSS_HASH != 0).then_some(raw.rss_hash)
    }

    /// A word that the program has put on the packet with [`set_note`](Self::set_note).
    #[inline]
    pub fn note(&self) -> Option<u64> {
        let raw = self.raw();
        (raw.ol_flags & sys::Mbuf::NOTE != 0).then_some(raw.tx_offload)
    }

    /// Puts a word on the packet, or takes it off, as must be before the packet is sent by a queue. It stays through all
    /// changes of the frame, but [duplicates](Self::duplicate) do not have it.
    #[inline]
    pub fn set_note(&mut self, note: Option<u64>) {
        // The flag was reserved when EAL started, so that nobody else sets it. The word lies where drivers read what to do
        // when they send, if a flag says so, and where some write what they received, which means nothing without the flag.
        let raw = self.raw_mut();
        if note.is_some() {
            raw.ol_flags |= sys::Mbuf::NOTE;
        } else {
            raw.ol_flags &= !sys::Mbuf::NOTE;
        }
        raw.tx_offload = note.unwrap_or(0);
    }

    /// Grows the frame at its front by `count` bytes of unspecified content. False, and nothing done, without headroom.
    #[inline]
    #[must_use]
    pub fn prepend(&mut self, count: usize) -> bool {
        let raw = self.raw_mut();
        let (Some(offset), Some(length)) =
            (usize::from(raw.data_off).checked_sub(count), usize::from(raw.data_len).checked_add(count))
        else {
            return false;
        };
        // Both are sums that buf_len, a u16, bounds.
        #[expect(clippy::cast_possible_truncation)]
        {
            raw.data_off = offset as u16;
            raw.data_len = length as u16;
            raw.pkt_len = length as u32;
        }
        true
    }

    /// Takes `count` bytes off the front. False, and nothing done, when the frame is shorter.
    #[inline]
    #[must_use]
    pub fn trim_front(&mut self, count: usize) -> bool {
        let raw = self.raw_mut();
        let Some(length) = usize::from(raw.data_len).checked_sub(count) else { return false };
        // count <= data_len, a u16.
        #[expect(clippy::cast_possible_truncation)]
        {
            raw.data_off += count as u16;
            raw.data_len = length as u16;
            raw.pkt_len = length as u32;
        }
        true
    }

    /// Grows the frame at its end by `count` bytes of unspecified content and returns them. `None`, and nothing done,
    /// without tailroom.
    #[inline]
    #[must_use]
    pub fn append(&mut self, count: usize) -> Option<&mut [u8]> {
        if count > self.tailroom() {
            return None;
        }
        let old = self.len();
        self.set_len(old + count);
        self.data_mut().get_mut(old..)
    }

    /// Makes what starts `at` bytes into the frame and has `length` bytes start `front` bytes into it and end it, the bytes in
    /// front being of unspecified content. False, and nothing done, when the frame is shorter or without headroom.
    #[inline]
    #[must_use]
    pub fn reframe(&mut self, at: usize, front: usize, length: usize) -> bool {
        let raw = self.raw_mut();
        let (start, end) = (usize::from(raw.data_off) + at, at + length);
        if end > usize::from(raw.data_len) || front > start {
            return false;
        }
        // The frame's end does not move further back, so that both are bounded by buf_len, a u16.
        #[expect(clippy::cast_possible_truncation)]
        {
            raw.data_off = (start - front) as u16;
            raw.data_len = (front + length) as u16;
            raw.pkt_len = (front + length) as u32;
        }
        true
    }

    /// Cuts the frame off behind `length` bytes; a shorter one stays as it is.
    #[inline]
    pub fn truncate(&mut self, length: usize) {
        if length < self.len() {
            self.set_len(length);
        }
    }

    /// Makes the frame a copy of `bytes`, behind the usual headroom. False, and nothing done, when they do not fit.
    #[must_use]
    pub fn copy_from_slice(&mut self, bytes: &[u8]) -> bool {
        let raw = self.raw_mut();
        let offset = Self::HEADROOM.min(raw.buf_len);
        if bytes.len() > usize::from(raw.buf_len - offset) {
            return false;
        }
        raw.data_off = offset;
        self.set_len(bytes.len());
        self.data_mut().copy_from_slice(bytes);
        true
    }

    /// Another buffer of the same pool with the same frame, behind the usual headroom. `None` when the pool is empty.
    #[must_use]
    pub fn duplicate(&self) -> Option<Self> {
        let mut packet = std::ptr::null_mut();
        // SAFETY: an mbuf's pool is valid for as long as the process; on success one mbuf that nobody owns was written.
        let ret = unsafe { sys::shim_pktmbuf_alloc_bulk(self.raw().pool.cast(), &raw mut packet, 1) };
        if ret != 0 {
            return None;
        }
        // SAFETY: see above.
        let mut copy = NonNull::new(packet).map(|raw| unsafe { Self::from_raw(raw) })?;
        copy.copy_from_slice(self.data()).then_some(copy)
    }

    /// Asks the CPU to load what [`data`](Self::data) reads first: the buffer's header.
    #[inline]
    pub fn prefetch_header(&self) {
        prefetch(self.0.as_ptr().cast());
    }

    /// Asks the CPU to load the frame's first cache line. Reads the buffer's header.
    #[inline]
    pub fn prefetch_data(&self) {
        let raw = self.raw();
        prefetch(raw.buf_addr.wrapping_add(usize::from(raw.data_off)));
    }

    /// The caller has checked `length` against buf_len - data_off.
    #[inline]
    fn set_len(&mut self, length: usize) {
        let raw = self.raw_mut();
        debug_assert!(usize::from(raw.data_off) + length <= usize::from(raw.buf_len));
        #[expect(clippy::cast_possible_truncation)]
        {
            raw.data_len = length as u16;
            raw.pkt_len = length as u32;
        }
    }

    /// The driver has chained several segments for a frame larger than one buffer.
    #[inline]
    pub(crate) fn is_chained(&self) -> bool {
        self.raw().nb_segs != 1
    }

    /// # Safety
    ///
    /// `raw` is an mbuf from DPDK that nobody else owns.
    #[inline]
    pub(crate) unsafe fn from_raw(raw: NonNull<sys::rte_mbuf>) -> Self {
        Self(raw.cast())
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: owned, and never used again. Chained segments go with it.
        unsafe { sys::shim_pktmbuf_free(self.0.as_ptr().cast()) }
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf").field("port", &self.port()).field("len", &self.len()).finish_non_exhaustive()
    }
}

#[inline]
fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing and faults on nothing.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use std::mem::{ManuallyDrop, MaybeUninit};

    use super::*;

    /// What drivers say of a packet, such as vhost's library of a guest's large frame, is no note.
    #[test]
    fn a_note_is_nobody_elses() {
        // SAFETY: numbers, bytes and pointers, for which zero is a value.
        let mut raw: sys::Mbuf = unsafe { MaybeUninit::zeroed().assume_init() };
        // All but those that DPDK gives out, from RTE_MBUF_F_FIRST_FREE to RTE_MBUF_F_LAST_FREE.
        let fixed = !((1_u64 << 41) - (1 << 23));
        raw.ol_flags = fixed;
        raw.tx_offload = 1448 << 24;
        // Of no pool, so that it must not be freed.
        let mut packet = ManuallyDrop::new(Mbuf(NonNull::from(&mut raw)));
        assert_eq!(packet.note(), None);
        packet.set_note(Some(0));
        assert_eq!(packet.note(), Some(0));
        packet.set_note(Some(u64::MAX));
        assert_eq!(packet.note(), Some(u64::MAX));
        packet.set_note(None);
        assert_eq!((packet.note(), packet.raw().ol_flags), (None, fixed));
    }
}
