//! `struct virtio_net_hdr` as the kernel's TAPs put it in front of a frame (virtio 1.2 section 5.1.6, legacy layout).

use super::{BadOffload, Kind, Large, Offload};

const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCP_V4: u8 = 1;
const GSO_TCP_V6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// The first packet says that the window was reduced (CWR), the others do not. That is always so here.
const GSO_ECN: u8 = 0x80;

/// The header; its fields are in the machine's own byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VirtioHeader(pub [u8; Self::LENGTH]);

impl VirtioHeader {
    /// Bytes: without the number of buffers, which only queues in shared memory have.
    pub const LENGTH: usize = 10;

    /// What it says of the frame behind it; nothing when there is nothing left to do.
    ///
    /// # Errors
    /// When it does not fit the frame's headers, or asks for what was not offered.
    pub fn read(self, frame: &[u8]) -> Result<Option<Offload>, BadOffload> {
        let [flags, kind, ..] = self.0;
        if flags & NEEDS_CHECKSUM == 0 {
            return if kind == GSO_NONE { Ok(None) } else { Err(BadOffload) };
        }
        let plain = Offload::plain(self.word(6), self.word(8), frame)?;
        let kind = match kind & !GSO_ECN {
            GSO_NONE => return Ok(Some(plain)),
            GSO_TCP_V4 => Kind::TcpV4,
            GSO_TCP_V6 => Kind::TcpV6,
            GSO_UDP_L4 => Kind::Udp,
            _ => return Err(BadOffload),
        };
        plain.large(kind, self.word(4), frame).map(Some)
    }

    /// What tells the kernel what is left to do for `frame`.
    pub fn write(offload: Option<Offload>, frame: &[u8]) -> Self {
        let Some(Offload { checksum_start, checksum_offset, large }) = offload else {
            return Self::default();
        };
        let mut header = Self::default();
        header.0[0] = NEEDS_CHECKSUM;
        header.set_word(6, checksum_start);
        header.set_word(8, checksum_offset.into());
        if let Some(Large { kind, size, transport, .. }) = large {
            let reduced = kind != Kind::Udp
                && frame
                    .get(usize::from(checksum_start) + 13)
                    .is_some_and(|flags| flags & super::segment::CWR != 0);
            let kind = match kind {
                Kind::TcpV4 => GSO_TCP_V4,
                Kind::TcpV6 => GSO_TCP_V6,
                Kind::Udp => GSO_UDP_L4,
            };
            header.0[1] = kind | if reduced { GSO_ECN } else { 0 };
            header.set_word(2, checksum_start + u16::from(transport));
            header.set_word(4, size);
        }
        header
    }

    /// What has the kernel cut a UDP frame, of which the UDP header is at `udp`, into datagrams with `size` bytes each.
    pub(super) fn of_datagrams(udp: u16, size: u16) -> Self {
        let mut header = Self::default();
        header.0[..2].copy_from_slice(&[NEEDS_CHECKSUM, GSO_UDP_L4]);
        header.set_word(2, udp + 8);
        header.set_word(4, size);
        header.set_word(6, udp);
        header.set_word(8, super::UDP_CHECKSUM.into());
        header
    }

    fn word(self, at: usize) -> u16 {
        u16::from_ne_bytes([self.0[at], self.0[at + 1]])
    }

    fn set_word(&mut self, at: usize, value: u16) {
        self.0[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    }
}
