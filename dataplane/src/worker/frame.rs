//! A packet buffer as the forwarding engine wants it.

use dpdk::Mbuf;
use forwarding::Packet;

use super::large;

/// An [`Mbuf`] by another name: both crates are strangers to each other.
#[derive(Debug, bytemuck::TransparentWrapper)]
#[repr(transparent)]
pub(super) struct Frame(Mbuf);

impl Frame {
    /// A copy in a buffer of its own.
    pub(super) fn duplicate(&self) -> Option<Self> {
        self.0.duplicate().map(Self)
    }

    pub(super) fn into_inner(self) -> Mbuf {
        self.0
    }
}

impl Packet for Frame {
    #[inline]
    fn data(&self) -> &[u8] {
        self.0.data()
    }

    #[inline]
    fn data_mut(&mut self) -> &mut [u8] {
        self.0.data_mut()
    }

    #[inline]
    fn prepend(&mut self, count: usize) -> bool {
        self.0.prepend(count)
    }

    #[inline]
    fn trim_front(&mut self, count: usize) -> bool {
        self.0.trim_front(count)
    }

    #[inline]
    fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }

    #[inline]
    fn reframe(&mut self, at: usize, front: usize, length: usize) -> bool {
        self.0.reframe(at, front, length)
    }

    #[inline]
    fn flow_hash(&self) -> Option<u32> {
        self.0.rss_hash()
    }

    #[cold]
    fn segment_length(&self, l3: usize) -> Option<usize> {
        large::offload(&self.0)?.segment_length(l3)
    }

    #[inline]
    fn prefetch(&self) {
        self.0.prefetch_data();
    }
}
