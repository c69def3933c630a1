use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::resolve::InterfaceAddresses;

/// The addresses of the machine's interfaces, and of those the dataplane has taken over.
#[derive(Debug, Clone, Default)]
pub struct Host {
    interfaces: BTreeMap<String, Vec<IpNet>>,
}

impl Host {
    /// What the kernel says now.
    #[must_use]
    pub fn read() -> Self {
        let mut host = Self::default();
        let Ok(entries) = nix::ifaddrs::getifaddrs() else { return host };
        for entry in entries {
            let addresses = host.interfaces.entry(entry.interface_name).or_default();
            let address = entry.address.and_then(|address| {
                let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
                v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
            });
            let mask = entry.netmask.and_then(|mask| {
                let v4 = mask.as_sockaddr_in().map(|mask| IpAddr::V4(mask.ip()));
                v4.or_else(|| mask.as_sockaddr_in6().map(|mask| IpAddr::V6(mask.ip())))
            });
            if let Some((address, mask)) = address.zip(mask)
                && let Ok(length) = ipnet::ip_mask_to_prefix(mask)
                && let Ok(net) = IpNet::new(address, length)
            {
                addresses.push(net);
            }
        }
        host
    }

    /// Adds the addresses of a port that the dataplane drives: its device is no longer where the kernel would tell.
    pub fn add_port<'a>(&mut self, name: &str, addresses: impl IntoIterator<Item = &'a str>) {
        let addresses = addresses.into_iter().filter_map(|text| text.parse().ok()).collect();
        self.interfaces.entry(name.to_owned()).or_insert(addresses);
    }

    /// The machine's name; `localhost` when it has none that is text.
    #[must_use]
    pub fn name() -> String {
        let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        name.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
    }
}

impl InterfaceAddresses for Host {
    fn addresses(&self, interface: &str) -> Option<Vec<IpNet>> {
        self.interfaces.get(interface).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_loopback_is_found() {
        let addresses = Host::read().addresses("lo").unwrap();
        let loopback = IpNet::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8).unwrap();
        assert!(addresses.is_empty() || addresses.contains(&loopback), "{addresses:?}");
        assert_eq!(Host::read().addresses("no-such-device"), None);
    }

    #[test]
    fn a_port_counts_only_where_the_kernel_has_no_such_device() {
        let mut host = Host::default();
        host.add_port("eth9", ["10.0.0.5/24", "nonsense"]);
        host.add_port("eth9", ["10.0.0.6/24"]);
        assert_eq!(host.addresses("eth9"), Some(vec!["10.0.0.5/24".parse().unwrap()]));
    }
}
