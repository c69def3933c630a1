use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

/// A pool has no address for this node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The pool is too small.
    #[error("{pool} has no address number {number}, which node index {index} needs: make it larger")]
    PoolTooSmall {
        /// The pool.
        pool: IpNet,
        /// The address asked for, counted from the network address, 0.
        number: u64,
        /// The node's index.
        index: u32,
    },
    /// The address would be the subnet's broadcast address, which a host cannot have.
    #[error(
        "{address}, which node index {index} needs, is the broadcast address of {pool}: make the pool larger"
    )]
    Broadcast {
        /// The pool.
        pool: IpNet,
        /// The broadcast address.
        address: Ipv4Addr,
        /// The node's index.
        index: u32,
    },
}

/// The addresses of the link between router and host, with the pool's prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The router's end: the same on all nodes.
    pub router: IpNet,
    /// The host's end.
    pub host: IpNet,
}

/// Address `number` of `pool`, counted from its network address.
fn host(pool: IpNet, number: u64, index: u32) -> Result<IpAddr, AddressError> {
    let too_small = AddressError::PoolTooSmall { pool, number, index };
    let host_bits = pool.max_prefix_len() - pool.prefix_len();
    if host_bits < 64 && number >> host_bits != 0 {
        return Err(too_small);
    }
    match pool {
        IpNet::V4(pool) => {
            let number = u32::try_from(number).map_err(|_| too_small)?;
            Ok(Ipv4Addr::from(u32::from(pool.network()) | number).into())
        }
        IpNet::V6(pool) => {
            Ok(std::net::Ipv6Addr::from(u128::from(pool.network()) | u128::from(number)).into())
        }
    }
}

/// The VTEP address of node `index`: `pool`'s address of that number, so node 0 gets the network address.
///
/// # Errors
/// When the pool is too small.
pub fn tunnel_endpoint(pool: IpNet, index: u32) -> Result<IpAddr, AddressError> {
    host(pool, index.into(), index)
}

/// The router-id of node `index`: `pool`'s address number `index` + 1.
///
/// # Errors
/// When the pool is too small.
pub fn router_id(pool: Ipv4Net, index: u32) -> Result<Ipv4Addr, AddressError> {
    match host(pool.into(), u64::from(index) + 1, index)? {
        IpAddr::V4(id) => Ok(id),
        IpAddr::V6(_) => unreachable!("an address of an IPv4 pool is IPv4"),
    }
}

/// The addresses of the link to the host on node `index`. The router takes the pool's first address, or the second where
/// the first one's last byte is 0; the hosts of all nodes follow.
///
/// # Errors
/// When the pool is too small, or the host would get its broadcast address.
pub fn link_addresses(pool: IpNet, index: u32) -> Result<Link, AddressError> {
    let first_ends_in_zero = match pool.network() {
        IpAddr::V4(address) => address.octets()[3] == 0,
        IpAddr::V6(address) => address.octets()[15] == 0,
    };
    let router_number = u64::from(first_ends_in_zero);
    let router = host(pool, router_number, index)?;
    let address = host(pool, router_number + 1 + u64::from(index), index)?;
    if let (IpNet::V4(pool4), IpAddr::V4(address)) = (pool, address)
        && pool4.prefix_len() < 31
        && address == pool4.broadcast()
    {
        return Err(AddressError::Broadcast { pool, address, index });
    }
    let with_mask = |address| IpNet::new(address, pool.prefix_len()).unwrap_or_else(|_| IpNet::from(address));
    Ok(Link { router: with_mask(router), host: with_mask(address) })
}

/// The router MAC of `vni` at the VTEP `address`: unicast, locally administered, the same after every restart, and
/// spread over all 46 free bits so that two VTEPs of a fabric hardly ever share one.
#[must_use]
pub fn router_mac(address: IpAddr, vni: u32) -> [u8; 6] {
    // FNV-1a (64 bit), then the finaliser of MurmurHash3: stable by definition, unlike the standard library's hashers.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut feed = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    match address {
        IpAddr::V4(address) => feed(&address.octets()),
        IpAddr::V6(address) => feed(&address.octets()),
    }
    feed(&vni.to_be_bytes());
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^= hash >> 33;
    let [_, _, mac @ ..] = hash.to_be_bytes();
    [mac[0] & 0xfc | 0x02, mac[1], mac[2], mac[3], mac[4], mac[5]]
}

/// The router's MAC in the bridge domain `vni`: `00:f3:`, then `vni` + 1 in four bytes. All nodes share it.
#[must_use]
pub fn gateway_mac(vni: u32) -> [u8; 6] {
    let [a, b, c, d] = vni.wrapping_add(1).to_be_bytes();
    [0x00, 0xf3, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use ipnet::Ipv6Net;
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn the_documented_examples() {
        assert_eq!(tunnel_endpoint(net("100.65.0.0/24"), 1).unwrap().to_string(), "100.65.0.1");
        assert_eq!(tunnel_endpoint(net("100.65.0.0/24"), 0).unwrap().to_string(), "100.65.0.0");
        assert_eq!(tunnel_endpoint(net("fd00:64::/120"), 1).unwrap().to_string(), "fd00:64::1");
        assert_eq!(router_id("10.0.0.0/24".parse().unwrap(), 1).unwrap().to_string(), "10.0.0.2");
        assert_eq!(gateway_mac(110), [0x00, 0xf3, 0x00, 0x00, 0x00, 0x6f]);
        assert_eq!(gateway_mac(0xff_ffff), [0x00, 0xf3, 0x01, 0x00, 0x00, 0x00]);
        for (pool, index, router, host) in [
            ("192.169.10.0/24", 1, "192.169.10.1/24", "192.169.10.3/24"),
            ("192.169.10.0/24", 0, "192.169.10.1/24", "192.169.10.2/24"),
            ("2001:db8:1::/64", 1, "2001:db8:1::1/64", "2001:db8:1::3/64"),
            ("192.169.10.77/24", 1, "192.169.10.1/24", "192.169.10.3/24"),
            ("10.0.0.8/29", 0, "10.0.0.8/29", "10.0.0.9/29"),
            ("10.0.0.8/29", 5, "10.0.0.8/29", "10.0.0.14/29"),
            ("10.0.0.2/31", 0, "10.0.0.2/31", "10.0.0.3/31"),
            ("10.0.0.0/16", 300, "10.0.0.1/16", "10.0.1.46/16"),
            ("fd00::10/124", 2, "fd00::10/124", "fd00::13/124"),
        ] {
            let link = link_addresses(net(pool), index).unwrap();
            assert_eq!(
                (link.router.to_string(), link.host.to_string()),
                (router.into(), host.into()),
                "{pool}"
            );
        }
    }

    #[test]
    fn pools_that_are_too_small() {
        for (pool, index) in
            [("100.65.0.0/24", 256), ("100.65.0.0/32", 1), ("fd00::/127", 2), ("fd00::1/128", 1)]
        {
            assert!(
                matches!(tunnel_endpoint(net(pool), index), Err(AddressError::PoolTooSmall { .. })),
                "{pool}"
            );
        }
        for (pool, index) in
            [("192.169.10.0/24", 254), ("10.0.0.0/32", 0), ("10.0.0.0/31", 0), ("10.0.0.2/31", 1)]
        {
            assert!(
                matches!(link_addresses(net(pool), index), Err(AddressError::PoolTooSmall { .. })),
                "{pool}"
            );
        }
        for (pool, index) in [("192.169.10.0/24", 253), ("10.0.0.0/30", 1), ("10.0.0.8/29", 6)] {
            assert!(
                matches!(link_addresses(net(pool), index), Err(AddressError::Broadcast { .. })),
                "{pool}"
            );
        }
        router_id("10.0.0.0/24".parse().unwrap(), 254).unwrap();
        router_id("10.0.0.0/24".parse().unwrap(), 255).unwrap_err();
        router_id("0.0.0.0/0".parse().unwrap(), u32::MAX).unwrap_err();
        tunnel_endpoint(net("::/0"), u32::MAX).unwrap();
    }

    #[test]
    fn router_macs_never_change() {
        // Written down once: another value would be another router to every peer.
        let mac = |address: &str, vni| router_mac(address.parse().unwrap(), vni);
        assert_eq!(mac("100.65.0.1", 100), MAC_OF_100_65_0_1_VNI_100);
        assert_ne!(mac("100.65.0.1", 100), mac("100.65.0.1", 101));
        assert_ne!(mac("100.65.0.1", 100), mac("100.65.0.2", 100));
        assert_ne!(mac("fd00::1", 100), mac("fd00::2", 100));
    }

    const MAC_OF_100_65_0_1_VNI_100: [u8; 6] = [0x9a, 0x40, 0x44, 0xce, 0xcc, 0x3a];

    proptest! {
        /// The oracle walks the pool's addresses one by one.
        #[test]
        fn addresses_are_counted_from_the_network(base: u32, length in 20u8..=32, index in 0u32..5000) {
            let pool = Ipv4Net::new(base.into(), length).unwrap();
            let all: Vec<Ipv4Addr> =
                (u32::from(pool.network())..=u32::from(pool.broadcast())).map(Ipv4Addr::from).collect();
            let at = |number: u32| all.get(number as usize).copied();
            prop_assert_eq!(tunnel_endpoint(pool.into(), index).ok(), at(index).map(IpAddr::V4));
            prop_assert_eq!(router_id(pool, index).ok(), at(index + 1));
            let skip = u32::from(all[0].octets()[3] == 0);
            let expected = at(skip).zip(at(skip + 1 + index)).filter(|(_, host)| length >= 31 || *host != pool.broadcast());
            let link = link_addresses(pool.into(), index).ok().map(|link| (link.router.addr(), link.host.addr()));
            prop_assert_eq!(link, expected.map(|(router, host)| (IpAddr::V4(router), IpAddr::V4(host))));
        }

        #[test]
        fn an_ipv6_pool_counts_alike(base: u128, length in 0u8..=128, index: u32) {
            let pool = Ipv6Net::new(base.into(), length).unwrap();
            let size = 1u128.checked_shl(u32::from(128 - length));
            let fits = size.is_none_or(|size| u128::from(index) < size);
            let expected = fits.then(|| IpAddr::V6((u128::from(pool.network()) + u128::from(index)).into()));
            prop_assert_eq!(tunnel_endpoint(pool.into(), index).ok(), expected);
        }

        #[test]
        fn router_macs_are_unicast_and_local(address: u32, vni in 1u32..1 << 24) {
            let mac = router_mac(IpAddr::V4(address.into()), vni);
            prop_assert_eq!(mac[0] & 0x03, 0x02);
        }
    }
}
