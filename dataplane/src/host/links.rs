//! Links and addresses of one network namespace, by rtnetlink. Setters do nothing when nothing would change.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::{LinkBridge, LinkUnspec, MulticastGroup};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::error::Error;
use crate::host::Netns;

/// What is known of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number of it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address; not 6 bytes for what is not Ethernet.
    pub mac: Vec<u8>,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Up, and with a carrier.
    pub running: bool,
    /// Free text an operator or program left on it.
    pub alias: String,
    /// The kernel's number of the bridge (or VRF, bond...) it is in; 0 when it is in none.
    pub controller: u32,
    /// It is a bridge.
    pub is_bridge: bool,
    /// The kind of a device that the kernel makes (`IFLA_INFO_KIND`: `veth`, `macvlan`, `bond`...); none of one that is there with
    /// its hardware, or what a hypervisor passes off as such.
    pub kind: Option<String>,
    /// The longest frame that it is given to segment, bytes; 0 where the kernel does not say.
    pub gso_max_size: u32,
    /// The same of IPv4, which has a limit of its own since Linux 6.3.
    pub gso_ipv4_max_size: u32,
}

impl Link {
    fn from_message(message: LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            up: flags.contains(LinkFlags::Up),
            running: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
            ..Self::default()
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(address) => link.mac = address,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::IfAlias(alias) => link.alias = alias,
                LinkAttribute::GsoMaxSize(size) => link.gso_max_size = size,
                LinkAttribute::GsoIpv4MaxSize(size) => link.gso_ipv4_max_size = size,
                LinkAttribute::Controller(controller) => link.controller = controller,
                LinkAttribute::LinkInfo(infos) => {
                    link.is_bridge = infos.contains(&LinkInfo::Kind(InfoKind::Bridge));
                    link.kind = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        link
    }
}

/// A change of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// It is new or changed.
    Changed(Link),
    /// It is gone from this namespace.
    Gone(String),
}

/// Access to one namespace.
#[derive(Clone, Debug)]
pub struct Links {
    handle: rtnetlink::Handle,
    runtime: Handle,
}

impl Links {
    /// Opens a netlink socket in `netns`, served by `runtime`.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the socket not be opened.
    pub fn open(netns: &Netns, runtime: &Handle) -> Result<Self, Error> {
        let (connection, handle, _) = netns
            .run(|| {
                let _guard = runtime.enter();
                rtnetlink::new_connection()
            })?
            .map_err(|source| Error::NetlinkSocket { source })?;
        runtime.spawn(connection);
        Ok(Self { handle, runtime: runtime.clone() })
    }

    /// Subscribes to the changes of links in `netns`.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn watch(netns: &Netns, runtime: &Handle) -> Result<mpsc::UnboundedReceiver<LinkEvent>, Error> {
        let (connection, _, mut messages) = netns
            .run(|| {
                let _guard = runtime.enter();
                rtnetlink::new_multicast_connection(&[MulticastGroup::Link])
            })?
            .map_err(|source| Error::NetlinkSocket { source })?;
        let (events, receiver) = mpsc::unbounded_channel();
        runtime.spawn(connection);
        runtime.spawn(async move {
            use futures::StreamExt;
            while let Some((message, _)) = messages.next().await {
                if let Some(event) = link_event(message)
                    && events.send(event).is_err()
                {
                    return;
                }
            }
        });
        Ok(receiver)
    }

    /// The link `name`, if there is one.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn find(&self, name: &str) -> Result<Option<Link>, Error> {
        Ok(self.list()?.into_iter().find(|link| link.name == name))
    }

    /// All links.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn list(&self) -> Result<Vec<Link>, Error> {
        let messages: Result<Vec<LinkMessage>, _> =
            self.runtime.block_on(self.handle.link().get().execute().try_collect());
        let messages = messages.map_err(|source| Error::netlink("list", "links", source))?;
        Ok(messages.into_iter().map(Link::from_message).collect())
    }

    /// Sets what is given and differs.
    ///
    /// # Errors
    /// When the kernel refuses, e.g. an MTU the device cannot carry.
    pub fn configure(&self, link: &Link, wanted: &LinkSettings<'_>) -> Result<(), Error> {
        let mut message = LinkUnspec::new_with_index(link.index);
        let mut changed = false;
        if let Some(mtu) = wanted.mtu.filter(|&mtu| mtu != link.mtu) {
            message = message.mtu(mtu);
            changed = true;
        }
        if let Some(mac) = wanted.mac.filter(|mac| mac[..] != link.mac[..]) {
            message = message.address(mac.to_vec());
            changed = true;
        }
        if let Some(alias) = wanted.alias.filter(|&alias| alias != link.alias) {
            message = message.alias(alias);
            changed = true;
        }
        if let Some(name) = wanted.name.filter(|&name| name != link.name) {
            message = message.name(name);
            changed = true;
        }
        if let Some(controller) = wanted.controller.filter(|&controller| controller != link.controller) {
            message = if controller == 0 { message.nocontroller() } else { message.controller(controller) };
            changed = true;
        }
        if let Some(size) = wanted.gso_max_size.filter(|&size| size != link.gso_max_size) {
            message = message.append_extra_attribute(LinkAttribute::GsoMaxSize(size));
            changed = true;
        }
        if let Some(size) = wanted.gso_ipv4_max_size.filter(|&size| size != link.gso_ipv4_max_size) {
            message = message.append_extra_attribute(LinkAttribute::GsoIpv4MaxSize(size));
            changed = true;
        }
        if wanted.up && !link.up {
            message = message.up();
            changed = true;
        }
        if !changed {
            return Ok(());
        }
        self.runtime
            .block_on(self.handle.link().set(message.build()).execute())
            .map_err(|source| Error::netlink("configure", &link.name, source))
    }

    /// Makes a bridge.
    ///
    /// # Errors
    /// When the kernel refuses, e.g. because the name is taken.
    pub fn add_bridge(&self, name: &str) -> Result<(), Error> {
        self.runtime
            .block_on(self.handle.link().add(LinkBridge::new(name).down().build()).execute())
            .map_err(|source| Error::netlink("make bridge", name, source))
    }

    /// Moves a link to another namespace. The kernel drops its addresses and takes it down.
    ///
    /// # Errors
    /// When the kernel refuses, e.g. because the name is taken there.
    pub fn move_to(&self, link: &Link, netns: &Netns) -> Result<(), Error> {
        let message = LinkUnspec::new_with_index(link.index).setns_by_fd(netns.as_fd().as_raw_fd()).build();
        self.runtime
            .block_on(self.handle.link().set(message).execute())
            .map_err(|source| Error::netlink("move to another namespace", &link.name, source))
    }

    /// Deletes a link.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete(&self, link: &Link) -> Result<(), Error> {
        self.runtime
            .block_on(self.handle.link().del(link.index).execute())
            .map_err(|source| Error::netlink("delete", &link.name, source))
    }

    /// The addresses of a link but link-local ones, which the kernel makes by itself.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn addresses(&self, link: &Link) -> Result<Vec<IpNet>, Error> {
        let messages: Result<Vec<AddressMessage>, _> = self
            .runtime
            .block_on(self.handle.address().get().set_link_index_filter(link.index).execute().try_collect());
        let messages =
            messages.map_err(|source| Error::netlink("list the addresses of", &link.name, source))?;
        Ok(messages.into_iter().filter_map(|message| address_of(&message)).collect())
    }

    /// Gives a link the addresses it lacks. With `exact` it loses the others but link-local ones.
    ///
    /// # Errors
    /// When the kernel refuses one; the others are tried all the same.
    pub fn set_addresses(&self, link: &Link, wanted: &[IpNet], exact: bool) -> Result<(), Error> {
        let held = self.addresses(link)?;
        let mut outcome = Ok(());
        for address in wanted.iter().filter(|address| !held.contains(address)) {
            let add = self.handle.address().add(link.index, address.addr(), address.prefix_len());
            if let Err(source) = self.runtime.block_on(add.execute()) {
                outcome = Err(Error::netlink("add an address to", &link.name, source));
            }
        }
        for address in held.iter().filter(|address| exact && !wanted.contains(address)) {
            let message = rtnetlink_address(link.index, address);
            if let Err(source) = self.runtime.block_on(self.handle.address().del(message).execute()) {
                outcome = Err(Error::netlink("remove an address of", &link.name, source));
            }
        }
        outcome
    }
}

/// What a link is to be like; `None` leaves as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkSettings<'a> {
    /// Largest IP packet, bytes.
    pub mtu: Option<u32>,
    /// Hardware address.
    pub mac: Option<[u8; 6]>,
    /// Free text.
    pub alias: Option<&'a str>,
    /// Name; one that is up keeps its own.
    pub name: Option<&'a str>,
    /// The kernel's number of the bridge it is to be in; 0 takes it out.
    pub controller: Option<u32>,
    /// The longest frame that it is given to segment, bytes. Up to 65 536 it is the limit of IPv4 too.
    pub gso_max_size: Option<u32>,
    /// The same of IPv4.
    pub gso_ipv4_max_size: Option<u32>,
    /// Bring it up.
    pub up: bool,
}

fn rtnetlink_address(index: u32, address: &IpNet) -> AddressMessage {
    match address {
        IpNet::V4(v4) => rtnetlink::AddressMessageBuilder::<std::net::Ipv4Addr>::new()
            .index(index)
            .address(v4.addr(), v4.prefix_len())
            .build(),
        IpNet::V6(v6) => rtnetlink::AddressMessageBuilder::<std::net::Ipv6Addr>::new()
            .index(index)
            .address(v6.addr(), v6.prefix_len())
            .build(),
    }
}

fn address_of(message: &AddressMessage) -> Option<IpNet> {
    if message.header.scope == AddressScope::Link {
        return None;
    }
    let mut found: Option<IpAddr> = None;
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link IFA_ADDRESS is the peer's, so IFA_LOCAL goes first.
            AddressAttribute::Local(local) => found = Some(*local),
            AddressAttribute::Address(address) => found = found.or(Some(*address)),
            _ => {}
        }
    }
    IpNet::new(found?, message.header.prefix_len).ok()
}

fn link_event(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<LinkEvent> {
    match message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
            Some(LinkEvent::Changed(Link::from_message(link)))
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => {
            Some(LinkEvent::Gone(Link::from_message(link).name))
        }
        _ => None,
    }
}
