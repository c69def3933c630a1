//! Adopting interfaces: into the namespace where the kernel keeps its hands off them, and back.
//!
//! The addresses an interface had are remembered on the interface itself, in its alias (`openpe:192.0.2.1/24,...`), and so is
//! how long frames the kernel gave it to cut, if that was [changed](Adopter::limit_large) (`...,gso=65536/65536`). So they
//! survive the death of any process, and go back with it when its port is removed.

use ipnet::IpNet;
use tracing::{info, warn};

use crate::error::Error;
use crate::host::{Link, LinkSettings, Links, Netns};

/// Marks an alias as ours.
const MARK: &str = "openpe:";
/// The kernel's limit on an alias (`IFALIASZ` less the final zero).
const MAX_ALIAS: usize = 255;

/// In front of the longest frames in an alias.
const GSO_MARK: &str = "gso=";
/// Setting a link's limit of IPv6 to no more than this sets the one of IPv4 too (the kernel's name), bytes.
const GSO_LEGACY_MAX_SIZE: u32 = 65_536;

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
            let mut memory = Memory { addresses: self.host.addresses(&link)?, gso: None };
            // An alias of ours in the host is left of a move that was interrupted.
            let earlier = Memory::read(&link.alias).unwrap_or_default();
            memory.gso = earlier.gso;
            for address in earlier.addresses {
                if !memory.addresses.contains(&address) {
                    memory.addresses.push(address);
                }
            }
            let alias = memory.alias(interface)?;
            self.host.configure(&link, &LinkSettings { alias: Some(&alias), ..LinkSettings::default() })?;
            self.host.move_to(&link, &self.ports_netns)?;
            info!(interface, addresses = ?memory.addresses, "interface moved out of the host's namespace");
        }
        let missing = || Error::NoInterface { interface: interface.to_owned() };
        let link = self.ports.find(interface)?.ok_or_else(missing)?;
        self.ports.configure(&link, &LinkSettings { mtu, mac, up: true, ..LinkSettings::default() })?;
        let link = self.ports.find(interface)?.ok_or_else(missing)?;
        let addresses = Memory::read(&link.alias).unwrap_or_default().addresses;
        Ok(Adopted { link, addresses })
    }

    /// Has the kernel cut all frames of `size` bytes and more in front of an adopted interface, and remembers what was.
    ///
    /// # Errors
    /// When it is not there, its alias has no room for that, or the kernel refuses.
    pub fn limit_large(&self, interface: &str, size: u32) -> Result<(), Error> {
        let missing = || Error::NoInterface { interface: interface.to_owned() };
        let link = self.ports.find(interface)?.ok_or_else(missing)?;
        if link.gso_max_size <= size && link.gso_ipv4_max_size <= size {
            return Ok(());
        }
        let mut memory = Memory::read(&link.alias).unwrap_or_default();
        // What it has may be left of another process.
        memory.gso = memory.gso.or(Some((link.gso_max_size, link.gso_ipv4_max_size)));
        let alias = memory.alias(interface)?;
        self.ports.configure(
            &link,
            &LinkSettings { alias: Some(&alias), gso_max_size: Some(size), ..LinkSettings::default() },
        )
    }

    /// Gives `interface` back to the host with the addresses it had.
    ///
    /// # Errors
    /// When the kernel refuses, e.g. because the host has another interface of this name by now. One that is gone is
    /// no error.
    pub fn release(&self, interface: &str) -> Result<(), Error> {
        let Some(link) = self.ports.find(interface)? else { return Ok(()) };
        let Memory { addresses, gso } = Memory::read(&link.alias).unwrap_or_default();
        self.ports.move_to(&link, &self.host_netns)?;
        let link = self
            .host
            .find(interface)?
            .ok_or_else(|| Error::NoInterface { interface: interface.to_owned() })?;
        self.host.configure(&link, &LinkSettings { up: true, ..LinkSettings::default() })?;
        if let Some(gso) = gso
            && let Err(error) = self.give_back_large(&link, gso)
        {
            warn!(interface, %error, "the kernel still cuts all large frames for this interface");
        }
        self.host.set_addresses(&link, &addresses, false)?;
        // Last, so that a release that was interrupted still knows them.
        self.host.configure(&link, &LinkSettings { alias: Some(""), ..LinkSettings::default() })?;
        info!(interface, ?addresses, "interface given back to the host");
        Ok(())
    }

    /// Lets a link have as long frames to cut as it had, of IPv6 and of IPv4.
    fn give_back_large(&self, link: &Link, (all, ipv4): (u32, u32)) -> Result<(), Error> {
        // First what sets both.
        let legacy = all.min(GSO_LEGACY_MAX_SIZE);
        self.host.configure(link, &LinkSettings { gso_max_size: Some(legacy), ..LinkSettings::default() })?;
        if all == legacy && ipv4 == legacy {
            return Ok(());
        }
        let now = Link { gso_max_size: legacy, gso_ipv4_max_size: legacy, ..link.clone() };
        let rest = LinkSettings {
            gso_max_size: Some(all),
            gso_ipv4_max_size: Some(ipv4),
            ..LinkSettings::default()
        };
        self.host.configure(&now, &rest)
    }

    /// Gives back what an earlier process adopted and `wanted` does not name.
    ///
    /// # Errors
    /// When the kernel does not answer. An interface that cannot be given back is logged and left.
    pub fn release_strangers(&self, wanted: impl Fn(&str) -> bool) -> Result<(), Error> {
        for link in self.ports.list()? {
            if Memory::read(&link.alias).is_some()
                && !wanted(&link.name)
                && let Err(error) = self.release(&link.name)
            {
                warn!(interface = link.name, %error, "cannot give an interface back that no port uses");
            }
        }
        Ok(())
    }
}

/// What an interface had in the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Memory {
    addresses: Vec<IpNet>,
    /// The longest frames that the kernel gave it to cut, of IPv6 and of IPv4, bytes; nothing when that was not changed.
    gso: Option<(u32, u32)>,
}

impl Memory {
    /// What is in an alias of ours. What an operator garbled in it is left out.
    fn read(alias: &str) -> Option<Self> {
        let list = alias.strip_prefix(MARK)?;
        let mut memory = Self::default();
        for item in list.split(',') {
            if let Some((all, ipv4)) = item.strip_prefix(GSO_MARK).and_then(|sizes| sizes.split_once('/')) {
                memory.gso = all.parse().ok().zip(ipv4.parse().ok());
            } else {
                memory.addresses.extend(item.parse::<IpNet>());
            }
        }
        Some(memory)
    }

    fn text(&self) -> String {
        let addresses = self.addresses.iter().map(IpNet::to_string);
        let gso = self.gso.map(|(all, ipv4)| format!("{GSO_MARK}{all}/{ipv4}"));
        let items: Vec<_> = addresses.chain(gso).collect();
        format!("{MARK}{}", items.join(","))
    }

    /// The alias.
    ///
    /// # Errors
    /// When it is too long.
    fn alias(&self, interface: &str) -> Result<String, Error> {
        let text = self.text();
        if text.len() > MAX_ALIAS {
            let (interface, count) = (interface.to_owned(), self.addresses.len());
            return Err(Error::TooManyAddresses { interface, count });
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_survives_in_the_alias() {
        for list in [&[][..], &["192.0.2.1/24"], &["192.0.2.1/24", "2001:db8::1/64"]] {
            for gso in [None, Some((65_536, 65_536)), Some((200_000, 1000))] {
                let addresses = list.iter().map(|text| text.parse().unwrap()).collect();
                let memory = Memory { addresses, gso };
                assert_eq!(Memory::read(&memory.text()), Some(memory));
            }
        }
        assert_eq!(Memory::read("uplink to spine 1"), None);
        let addresses = vec!["192.0.2.1/24".parse().unwrap()];
        for garbled in
            ["openpe:garbage,192.0.2.1/24", "openpe:192.0.2.1/24,gso=many/1", "openpe:192.0.2.1/24,gso=1"]
        {
            assert_eq!(
                Memory::read(garbled),
                Some(Memory { addresses: addresses.clone(), gso: None }),
                "{garbled}"
            );
        }
    }

    #[test]
    fn an_alias_has_an_end() {
        let addresses = (0..20).map(|host| format!("192.0.2.{host}/32").parse().unwrap()).collect();
        assert!(Memory { addresses, gso: None }.alias("eth0").is_err());
    }
}
