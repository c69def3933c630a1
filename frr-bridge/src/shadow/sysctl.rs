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

/// What a device is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A port or a VRF.
    Routed,
    /// The bridge of a bridge domain that is routed.
    Svi,
    /// The bridge of a plain layer 2 overlay.
    Overlay,
}

/// Of a routed bridge domain, which may have been a plain overlay before.
const SVI: &[(&str, &str)] = &[
    ("net/ipv4/conf/{}/forwarding", "1"),
    ("net/ipv6/conf/{}/forwarding", "1"),
    ("net/ipv4/conf/{}/arp_ignore", "0"),
    ("net/ipv4/conf/{}/drop_gratuitous_arp", "0"),
    ("net/ipv6/conf/{}/drop_unsolicited_na", "0"),
];

/// Of a plain overlay's bridge, which is in the default VRF for want of another: a host behind it reaches neither the underlay
/// nor an address of the router.
const OVERLAY: &[(&str, &str)] = &[
    ("net/ipv4/conf/{}/forwarding", "0"),
    ("net/ipv6/conf/{}/forwarding", "0"),
    // Answer for no address at all.
    ("net/ipv4/conf/{}/arp_ignore", "8"),
    // Whoever is there, the dataplane says.
    ("net/ipv4/conf/{}/drop_gratuitous_arp", "1"),
    ("net/ipv6/conf/{}/drop_unsolicited_na", "1"),
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
pub(super) fn set_device(name: &str, role: Role) {
    let of_role = match role {
        Role::Routed => &[],
        Role::Svi => SVI,
        Role::Overlay => OVERLAY,
    };
    for (key, value) in DEVICE.iter().chain(of_role) {
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
