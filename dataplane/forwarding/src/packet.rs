//! The packet buffer as the engine sees it.

/// A frame in one contiguous piece, from its Ethernet header on, with some room in front.
///
/// The engine calls the changing methods only when its decision is final. It keeps to the order
/// `prepend`/`trim_front`, `truncate`, `data_mut`.
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

    /// The NIC's hash of the outer flow, when it computed one.
    fn flow_hash(&self) -> Option<u32> {
        None
    }

    /// Hints that the first bytes are needed soon.
    fn prefetch(&self) {}
}
