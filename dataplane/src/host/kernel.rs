//! What the running kernel does.

/// The first release that cuts large frames which a packet socket sends before it gives them to any device whose
/// `gso_max_size` is shorter, veth included (`gso_features_check`).
const CUTS_IN_FRONT_OF_DEVICES: (u32, u32) = (6, 7);

/// Whether the running kernel cuts a large frame in front of a device that is set to take none of its length.
///
/// Older ones hold it against the device's `gso_max_segs` only, so that a large frame crosses a veth whole, and whoever reads
/// its other end by a socket as we do takes it for one packet. Linux 6.6.9 can do it too; that is left out.
pub fn cuts_in_front_of_devices() -> bool {
    // What uname(2) says.
    let running = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release(running.trim_end()).is_some_and(|release| release >= CUTS_IN_FRONT_OF_DEVICES)
}

/// Major and minor number of a kernel's release, e.g. of `6.1.0-18-amd64`.
fn release(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.split_once('.')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((major.parse().ok()?, rest.get(..end)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        for (text, wanted) in [
            ("6.1.0-18-amd64", (6, 1)),
            ("6.18.5", (6, 18)),
            ("6.7", (6, 7)),
            ("6.7-rc1", (6, 7)),
            ("7.0-rc1", (7, 0)),
            ("5.15.0-1053-azure", (5, 15)),
            ("10.0+", (10, 0)),
        ] {
            assert_eq!(release(text), Some(wanted), "{text}");
        }
        for text in ["", "6", "6.", "6.x", ".1", "six.one", "-6.1"] {
            assert_eq!(release(text), None, "{text}");
        }
    }

    #[test]
    fn old_ones_do_not_cut() {
        let cuts = |text| release(text).is_some_and(|release| release >= CUTS_IN_FRONT_OF_DEVICES);
        for text in ["6.7.0", "6.12.41+deb13-amd64", "6.18.5", "7.0-rc1"] {
            assert!(cuts(text), "{text}");
        }
        for text in ["6.1.0-18-amd64", "6.6.8", "5.14.0-427.el9", "4.18", "unknown"] {
            assert!(!cuts(text), "{text}");
        }
    }
}
