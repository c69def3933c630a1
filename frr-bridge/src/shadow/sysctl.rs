use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Of the namespace: it routes, checks no reverse paths (the dataplane hands over asymmetrically), and takes neighbours
/// from gratuitous ARP and ND.
const NAMESPACE: &[(&str, &str)] = &[
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/disable_ipv6", "0"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv6/conf/default/forwarding", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/conf/all/arp_accept", "1"),
    ("net/ipv4/conf/default/arp_accept", "1"),
    ("net/ipv6/conf/all/accept_untracked_na", "1"),
    ("net/ipv6/conf/default/accept_untracked_na", "1"),
    ("net/ipv6/conf/all/keep_addr_on_down", "1"),
    ("net/ipv6/conf/default/keep_addr_on_down", "1"),
    // Addresses were checked where they were before, or are the formula's: waiting would only delay BGP.
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
];

/// Of a device that was there before the defaults above.
const DEVICE: &[(&str, &str)] = &[
    ("net/ipv4/conf/{}/rp_filter", "0"),
    ("net/ipv4/conf/{}/arp_accept", "1"),
    ("net/ipv6/conf/{}/keep_addr_on_down", "1"),
    ("net/ipv6/conf/{}/accept_dad", "0"),
    ("net/ipv6/conf/{}/accept_ra", "0"),
];

pub(super) fn set_namespace() {
    for (key, value) in NAMESPACE {
        set(key, value);
    }
}

/// `name` has been checked to be a device name.
pub(super) fn set_device(name: &str) {
    for (key, value) in DEVICE {
        set(&key.replace("{}", name), value);
    }
}

fn set(key: &str, value: &str) {
    let path = Path::new("/proc/sys").join(key);
    let outcome = fs::read_to_string(&path)
        .and_then(|now| if now.trim() == value { Ok(()) } else { fs::write(&path, value) });
    match outcome {
        Ok(()) => {}
        // Older kernels lack some, and a kernel without IPv6 all of its.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            tracing::debug!(key, "the kernel has no such setting");
        }
        Err(error) => tracing::warn!(key, value, %error, "cannot change a kernel setting"),
    }
}
