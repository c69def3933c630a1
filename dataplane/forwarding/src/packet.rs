//! The packet buffer as the engine sees it.

use crate::offload::Offload;

/// A frame in one contiguous piece, from its Ethernet header on, with some room in front.
///
/// The engine calls the changing methods only when its decision is final. It keeps to the order
/// `prepend`/`trim_front`, `truncate`, `data_mut`, or `reframe`, `data_mut`.
pub trait Packet {
    /// The frame.
    fn data(&self) -> &[u8];

    /// The frame, to be written.
    fn data_mut(&mut self) -> &mut [u8];

    /// Makes the frame `n` bytes longer at its front; the new bytes may hold anything. False, and nothing changed, when
    /// there is no room.
    fn prepend(&mut self, n: usize) -> bool;

    /// Cuts `n` bytes off the front. False, and nothing changed, when the frame is not longer than that.
    fn trim_front(&mut self, n: usize) -> bool;

    /// Cuts the frame to `len` bytes; does nothing when it is not longer.
    fn truncate(&mut self, len: usize);

    /// Makes what starts `at` bytes into the frame and has `length` bytes start `front` bytes into it and end it; the bytes in
    /// front may hold anything. False, and nothing changed, when the frame is shorter or there is no room.
    fn reframe(&mut self, at: usize, front: usize, length: usize) -> bool {
        if length == 0 || at + length > self.data().len() {
            return false;
        }
        let moved =
            if front > at { self.prepend(front - at) } else { front == at || self.trim_front(at - front) };
        if moved {
            self.truncate(front + length);
        }
        moved
    }

    /// The NIC's hash of the outer flow, when it computed one.
    fn flow_hash(&self) -> Option<u32> {
        None
    }

    /// Of a [large frame](crate::Offload), the length of the longest IP packet that it is to be cut into, of which the IP
    /// header starts `l3` bytes into it; nothing of an ordinary one. Asked only for what is longer than an MTU.
    fn segment_length(&self, l3: usize) -> Option<usize> {
        let _ = l3;
        None
    }

    /// Hints that the first bytes are needed soon.
    fn prefetch(&self) {}
}

/// A packet in memory of its own: for explanations, tests, fuzzers and benchmarks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    /// As [`Offload::to_word`] has it.
    offload: Option<u64>,
}

impl Buffer {
    /// What DPDK leaves in front of a received frame, bytes.
    pub const HEADROOM: usize = 128;

    /// A frame with [`HEADROOM`](Self::HEADROOM).
    pub fn new(frame: &[u8]) -> Self {
        Self::with_headroom(frame, Self::HEADROOM)
    }

    /// A frame with so many bytes of room in front.
    pub fn with_headroom(frame: &[u8], headroom: usize) -> Self {
        let mut bytes = vec![0; headroom];
        bytes.extend_from_slice(frame);
        Self { bytes, start: headroom, offload: None }
    }

    /// The same frame, with something left to do for it.
    pub fn with_offload(self, offload: Option<Offload>) -> Self {
        let word = offload.map(|offload| offload.to_word(self.start));
        Self { offload: word, ..self }
    }

    /// What is left to do for it.
    pub fn offload(&self) -> Option<Offload> {
        self.offload.and_then(|word| Offload::from_word(word, self.start))
    }
}

impl Packet for Buffer {
    fn data(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    fn data_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..).unwrap_or_default()
    }

    fn prepend(&mut self, n: usize) -> bool {
        let start = self.start.checked_sub(n);
        self.start = start.unwrap_or(self.start);
        start.is_some()
    }

    fn trim_front(&mut self, n: usize) -> bool {
        let fits = n < self.data().len();
        self.start += if fits { n } else { 0 };
        fits
    }

    fn truncate(&mut self, len: usize) {
        self.bytes.truncate(self.start.saturating_add(len));
    }

    fn segment_length(&self, l3: usize) -> Option<usize> {
        self.offload()?.segment_length(l3)
    }
}
