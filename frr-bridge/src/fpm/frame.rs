use bytes::{Buf, BytesMut};

use crate::error::ParseError;
use crate::netlink::{self, Message};

const HEADER: usize = 4;
const VERSION: u8 = 1;
const TYPE_NETLINK: u8 = 1;

/// Cuts zebra's byte stream into frames and parses what they carry.
///
/// A frame is `version, type, length (big endian, with these four bytes)` and then one netlink message or more; an update
/// of a route is a deletion and an addition in one frame, so a caller that acts only between calls never sees a gap.
#[derive(Debug, Default)]
pub struct Decoder {
    malformed: u64,
}

impl Decoder {
    /// Messages skipped because they could not be parsed.
    #[must_use]
    pub const fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Takes all complete frames out of `buffer` and appends their messages to `out`. Malformed netlink messages are
    /// counted and skipped.
    ///
    /// # Errors
    /// When a frame header is not FPM netlink: the stream has no further structure, the connection must be closed.
    pub fn decode(&mut self, buffer: &mut BytesMut, out: &mut Vec<Message>) -> Result<(), ParseError> {
        while let Some(&[version, kind, high, low]) = buffer.first_chunk::<HEADER>() {
            let length = u16::from_be_bytes([high, low]);
            let frame = usize::from(length);
            if version != VERSION || kind != TYPE_NETLINK || frame < HEADER {
                return Err(ParseError::Frame { version, kind, length });
            }
            let Some(payload) = buffer.get(HEADER..frame) else { break };
            for message in netlink::messages(payload) {
                match message.and_then(|(kind, body)| netlink::parse(kind, body)) {
                    Ok(Message::Other) => {}
                    Ok(message) => out.push(message),
                    Err(error) => {
                        self.malformed += 1;
                        tracing::debug!(%error, "skipped a message of zebra's");
                    }
                }
            }
            buffer.advance(frame);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `RTM_DELNEXTHOP` of an id, framed.
    fn frame(id: u32) -> Vec<u8> {
        let mut netlink = Vec::new();
        netlink.extend_from_slice(&32u32.to_ne_bytes());
        netlink.extend_from_slice(&105u16.to_ne_bytes());
        netlink.extend_from_slice(&[0; 10]);
        netlink.extend_from_slice(&[0; 8]);
        netlink.extend_from_slice(&8u16.to_ne_bytes());
        netlink.extend_from_slice(&1u16.to_ne_bytes());
        netlink.extend_from_slice(&id.to_ne_bytes());
        let mut frame = vec![1, 1, 0, 36];
        frame.extend_from_slice(&netlink);
        frame
    }

    #[test]
    fn refuses_what_is_not_fpm() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], &[1, 2, 0, 8], &[2, 1, 0, 8], &[1, 1, 0, 3]] {
            let mut buffer = BytesMut::from(bytes);
            let error = Decoder::default().decode(&mut buffer, &mut Vec::new());
            assert!(matches!(error, Err(ParseError::Frame { .. })), "{bytes:?}: {error:?}");
        }
    }

    #[test]
    fn counts_a_malformed_message_and_goes_on() {
        let mut bytes = frame(1);
        bytes[4 + 24] = 3; // The attribute's length: shorter than its own header.
        bytes.extend(frame(2));
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        decoder.decode(&mut BytesMut::from(&bytes[..]), &mut out).expect("frames are whole");
        assert_eq!(out, [Message::DelNextHop(2)]);
        assert_eq!(decoder.malformed(), 1);
    }

    proptest! {
        #[test]
        fn any_cut_of_the_stream_gives_the_same_messages(ids in prop::collection::vec(1..u32::MAX, 1..20), cut in 1..50usize) {
            let stream: Vec<u8> = ids.iter().flat_map(|&id| frame(id)).collect();
            let (mut decoder, mut buffer, mut out) = (Decoder::default(), BytesMut::new(), Vec::new());
            for part in stream.chunks(cut) {
                buffer.extend_from_slice(part);
                decoder.decode(&mut buffer, &mut out).expect("frames are whole");
            }
            let expected: Vec<Message> = ids.into_iter().map(Message::DelNextHop).collect();
            prop_assert_eq!(out, expected);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = Decoder::default().decode(&mut BytesMut::from(&bytes[..]), &mut Vec::new());
        }

        #[test]
        fn garbage_in_a_frame_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let length = u16::try_from(bytes.len() + 4).expect("short").to_be_bytes();
            let mut stream = vec![1, 1, length[0], length[1]];
            stream.extend(bytes);
            let mut buffer = BytesMut::from(&stream[..]);
            Decoder::default().decode(&mut buffer, &mut Vec::new()).expect("the frame is whole");
            prop_assert!(buffer.is_empty());
        }
    }
}
