//! Adopting interfaces: into the namespace where the kernel keeps its hands off them, and back.
//!
//! The addresses an interface had are remembered on the interface itself, in its alias (`openpe:192.0.2.1/24,...`). So
//! they survive the death of any process, and go back with it when its port is removed.

use ipnet::IpNet;
use tracing::{info, warn};

use crate::error::Error;
use crate::host::{Link, LinkSettings, Links, Netns};
use crate::worker::LEAST_TRAIN;

/// Marks an alias as ours.
const MARK: &str = "openpe:";
/// The kernel's limit on an alias (`IFALIASZ` less the final zero).
const MAX_ALIAS: usize = 255;

/// The longest frame that the kernel gives a device to cut, unless it asked for less (its `GSO_LEGACY_MAX_SIZE`), bytes.
const GSO_MAX_SIZE: u32 = 65_536;

/// An interface that is in the engine's namespace now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// The link as it is there.
    pub link: Link,
    /// The addresses it had in the host.
    pub addresses: Vec<IpNet>,
}

/// Moves interfaces between the host's namespace and the engine's.
#[derive(Clone, Debug)]
pub struct Adopter {
    host: Links,
    host_netns: Netns,
    ports: Links,
    ports_netns: Netns,
}

impl Adopter {
    /// Works between the two namespaces.
    pub fn new(host: (Links, Netns), ports: (Links, Netns)) -> Self {
        Self { host: host.0, host_netns: host.1, ports: ports.0, ports_netns: ports.1 }
    }

    /// Takes `interface` over, unless it was before, and brings it up.
    ///
    /// # Errors
    /// When there is no such interface, its addresses do not fit into its alias, or the kernel refuses.
    pub fn adopt(&self, interface: &str, mtu: Option<u32>, mac: Option<[u8; 6]>) -> Result<Adopted, Error> {
        if let Some(link) = self.host.find(interface)? {
            let mut addresses = self.host.addresses(&link)?;
            // An alias of ours in the host is left of a move that was interrupted.
            for address in remembered(&link.alias).unwrap_or_default() {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            let alias = alias_of(&addresses);
            if alias.len() > MAX_ALIAS {
                return Err(Error::TooManyAddresses {
                    interface: interface.to_owned(),
                    count: addresses.len(),
                });
            }
            self.host.configure(&link, &LinkSettings { alias: Some(&alias), ..LinkSettings::default() })?;
            self.host.move_to(&link, &self.ports_netns)?;
            info!(interface, ?addresses, "interface moved out of the host's namespace");
        }
        let missing = || Error::NoInterface { interface: interface.to_owned() };
        let link = self.ports.find(interface)?.ok_or_else(missing)?;
        self.ports.configure(&link, &LinkSettings { mtu, mac, up: true, ..LinkSettings::default() })?;
        let link = self.ports.find(interface)?.ok_or_else(missing)?;
        let addresses = remembered(&link.alias).unwrap_or_default();
        Ok(Adopted { link, addresses })
    }

    /// Gives `interface` back to the host with the addresses it had.
    ///
    /// # Errors
    /// When the kernel refuses, e.g. because the host has another interface of this name by now. One that is gone is
    /// no error.
    pub fn release(&self, interface: &str) -> Result<(), Error> {
        let Some(link) = self.ports.find(interface)? else { return Ok(()) };
        let addresses = remembered(&link.alias).unwrap_or_default();
        self.ports.move_to(&link, &self.host_netns)?;
        let link = self
            .host
            .find(interface)?
            .ok_or_else(|| Error::NoInterface { interface: interface.to_owned() })?;
        self.host.configure(&link, &LinkSettings { up: true, ..LinkSettings::default() })?;
        // As it is with nearly all devices. One that takes less refuses.
        let usual = LinkSettings { gso_max_size: Some(GSO_MAX_SIZE), ..LinkSettings::default() };
        if usize::try_from(link.gso_max_size) == Ok(LEAST_TRAIN)
            && let Err(error) = self.host.configure(&link, &usual)
        {
            warn!(interface, %error, "the kernel still cuts all large frames for this interface");
        }
        self.host.set_addresses(&link, &addresses, false)?;
        // Last, so that a release that was interrupted still knows them.
        self.host.configure(&link, &LinkSettings { alias: Some(""), ..LinkSettings::default() })?;
        info!(interface, ?addresses, "interface given back to the host");
        Ok(())
    }

    /// Gives back what an earlier process adopted and `wanted` does not name.
    ///
    /// # Errors
    /// When the kernel does not answer. An interface that cannot be given back is logged and left.
    pub fn release_strangers(&self, wanted: impl Fn(&str) -> bool) -> Result<(), Error> {
        for link in self.ports.list()? {
            if remembered(&link.alias).is_some()
                && !wanted(&link.name)
                && let Err(error) = self.release(&link.name)
            {
                warn!(interface = link.name, %error, "cannot give an interface back that no port uses");
            }
        }
        Ok(())
    }
}

fn alias_of(addresses: &[IpNet]) -> String {
    let texts: Vec<_> = addresses.iter().map(IpNet::to_string).collect();
    format!("{MARK}{}", texts.join(","))
}

/// The addresses in an alias of ours. What an operator garbled in it is left out.
fn remembered(alias: &str) -> Option<Vec<IpNet>> {
    let list = alias.strip_prefix(MARK)?;
    Some(list.split(',').filter_map(|address| address.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_in_the_alias() {
        for list in [&[][..], &["192.0.2.1/24"], &["192.0.2.1/24", "2001:db8::1/64"]] {
            let addresses: Vec<IpNet> = list.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(remembered(&alias_of(&addresses)), Some(addresses));
        }
        assert_eq!(remembered("uplink to spine 1"), None);
        assert_eq!(remembered("openpe:garbage,192.0.2.1/24"), Some(vec!["192.0.2.1/24".parse().unwrap()]));
    }
}
