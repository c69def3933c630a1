//! Capture files for DPDK's net_pcap: the classic format, microseconds, Ethernet.

use std::{fs::File, io, io::BufWriter, io::Write, path::Path};

const MAGIC: u32 = 0xa1b2_c3d4;
const VERSION: [u16; 2] = [2, 4];
const LINKTYPE_ETHERNET: u32 = 1;
/// Longest frame a reader has to expect, bytes.
const SNAPLEN: u32 = 65_535;

/// Writes `frames` as a capture to `path`.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write(path: &Path, frames: impl IntoIterator<Item = Vec<u8>>) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&MAGIC.to_ne_bytes())?;
    for part in VERSION {
        file.write_all(&part.to_ne_bytes())?;
    }
    // Time zone and accuracy, both unused by every reader.
    file.write_all(&[0; 8])?;
    file.write_all(&SNAPLEN.to_ne_bytes())?;
    file.write_all(&LINKTYPE_ETHERNET.to_ne_bytes())?;
    for frame in frames {
        let length =
            u32::try_from(frame.len()).ok().filter(|length| *length <= SNAPLEN).ok_or_else(|| {
                io::Error::other(format!("a frame of {} bytes does not fit a capture", frame.len()))
            })?;
        file.write_all(&[0; 8])?;
        file.write_all(&length.to_ne_bytes())?;
        file.write_all(&length.to_ne_bytes())?;
        file.write_all(&frame)?;
    }
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_has_its_header_and_frames() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("two.pcap");
        write(&path, [vec![1; 60], vec![2; 110]]).expect("written");
        let bytes = std::fs::read(&path).expect("read");
        assert_eq!(bytes.len(), 24 + 16 + 60 + 16 + 110);
        assert_eq!(bytes[24 + 8..24 + 12], 60_u32.to_ne_bytes());
        assert_eq!(bytes[24 + 16 + 60 + 16..], [2; 110]);
    }

    #[test]
    fn an_impossible_frame_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(write(&folder.path().join("big.pcap"), [vec![0; 70_000]]).is_err());
    }
}
