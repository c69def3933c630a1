//! Large frames in the worker: where they may not go they are cut.

use dpdk::{Mbuf, Mempool};
use forwarding::{Offload, PortId, Reason, Segments, Worker};

/// What is left to do for a packet.
#[inline]
pub(super) fn offload(packet: &Mbuf) -> Option<Offload> {
    packet.note().and_then(|word| Offload::from_word(word, packet.headroom()))
}

/// Puts on a packet what is left to do for it.
pub(super) fn leave(packet: &mut Mbuf, offload: Option<Offload>) {
    let word = offload.map(|offload| offload.to_word(packet.headroom()));
    packet.set_note(word);
}

/// Whether a TAP takes a packet as it is.
#[inline]
pub(super) fn may_go_whole(packet: &Mbuf) -> bool {
    offload(packet).is_none_or(Offload::may_stay_large)
}

/// Packets that could not be made of a large frame, and why.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(super) struct Lost {
    packets: u64,
    reason: Reason,
}

impl Lost {
    const NONE: Self = Self { packets: 0, reason: Reason::NoBuffer };

    /// Counts them as dropped at a port.
    pub(super) fn count(self, engine: &Worker, port: PortId) {
        if self.packets > 0 {
            engine.count_dropped(port, self.reason, self.packets);
        }
    }
}

/// Does what is left to do for a packet: `each` gets the ordinary ones that it stands for, in buffers of `pool` unless it
/// is one and complete already. The first `from` of a large one are left out.
pub(super) fn finish(
    mut packet: Mbuf,
    pool: Option<&Mempool>,
    from: usize,
    mut each: impl FnMut(Mbuf),
) -> Lost {
    let offload = offload(&packet);
    packet.set_note(None);
    let Some(offload) = offload else {
        // It lost the headers that this was about. Its buffer may be a large one, which is not to be kept long.
        let Some(copy) =
            pool.and_then(|pool| copy(pool, packet.len(), |out| out.copy_from_slice(packet.data())))
        else {
            return Lost { packets: 1, ..Lost::NONE };
        };
        each(copy);
        return Lost::NONE;
    };
    if !offload.is_large() {
        offload.complete(packet.data_mut());
        each(packet);
        return Lost::NONE;
    }
    let Some(segments) = Segments::new(packet.data(), offload) else {
        return Lost { packets: 1, reason: Reason::BadOffload };
    };
    let mut lost = Lost::NONE;
    for index in from..segments.count() {
        let write = |out: &mut [u8]| segments.write(index, out);
        match pool.and_then(|pool| copy(pool, segments.length(index), write)) {
            Some(segment) => each(segment),
            None => lost.packets += 1,
        }
    }
    lost
}

/// A frame of so many bytes; nothing when there is no buffer, or none that large.
fn copy(pool: &Mempool, length: usize, write: impl FnOnce(&mut [u8])) -> Option<Mbuf> {
    let mut packet = pool.alloc()?;
    write(packet.append(length)?);
    Some(packet)
}
