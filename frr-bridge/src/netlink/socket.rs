use std::io;

use ipnet::IpNet;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, AsyncSocketExt, Socket, SocketAddr, TokioSocket};

use super::parse::{AF_BRIDGE, Message, RouteKind, messages, parse, u16_at, u32_at};
use crate::error::Error;

const RTM_GETLINK: u16 = 18;
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;
const RTM_GETNEIGH: u16 = 30;
const RTM_GETNEXTHOP: u16 = 106;
pub(super) const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
pub(super) const HEADER: usize = 16;
/// Room for the burst of events that thousands of new devices make.
const EVENT_BUFFER_BYTES: usize = 16 << 20;
/// The kernel fills at most 32 KiB per read of a dump.
const READ_BYTES: usize = 1 << 16;

/// Multicast groups of route netlink (`RTNLGRP_*`).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum Group {
    /// Links.
    Link = 1,
    /// Neighbours and FDB entries.
    Neighbor = 3,
    /// IPv4 addresses.
    Ipv4Address = 5,
    /// IPv4 routes.
    Ipv4Route = 7,
    /// IPv6 addresses.
    Ipv6Address = 9,
    /// IPv6 routes.
    Ipv6Route = 11,
    /// Next-hop objects.
    NextHop = 32,
}

/// A subscription to the kernel's events in the network namespace of the calling thread.
pub struct EventSocket {
    socket: TokioSocket,
}

impl EventSocket {
    /// Subscribes to `groups`.
    ///
    /// # Errors
    /// When the socket cannot be made or bound.
    pub fn subscribe(groups: &[Group]) -> Result<Self, Error> {
        let make = || -> io::Result<TokioSocket> {
            let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
            socket.socket_mut().bind_auto()?;
            enlarge(socket.socket_ref());
            for &group in groups {
                socket.socket_ref().add_membership(group as u32)?;
            }
            Ok(socket)
        };
        make()
            .map(|socket| Self { socket })
            .map_err(|source| Error::Netlink { doing: "subscribe to kernel events", source })
    }

    /// Waits for events. Messages that cannot be parsed are left out.
    ///
    /// # Errors
    /// `ENOBUFS` when events were lost: the caller must dump anew. Others when the socket is broken.
    pub async fn next(&self) -> io::Result<Vec<Message>> {
        loop {
            let mut buffer = Vec::with_capacity(READ_BYTES);
            let from = self.socket.recv_from(&mut buffer).await?;
            // Only the kernel's word counts.
            if from.port_number() == 0 {
                let events: Vec<_> = parse_all(&buffer).collect();
                if !events.is_empty() {
                    return Ok(events);
                }
            }
        }
    }
}

/// Best effort: without CAP_NET_ADMIN the default stays and ENOBUFS comes sooner, which is handled.
pub(super) fn enlarge(socket: &Socket) {
    let _ = nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::RcvBufForce, &EVENT_BUFFER_BYTES);
}

fn parse_all(buffer: &[u8]) -> impl Iterator<Item = Message> {
    messages(buffer)
        .filter_map(Result::ok)
        .filter_map(|(kind, body)| parse(kind, body).ok())
        .filter(|message| *message != Message::Other)
}

/// How much to dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dump {
    /// Links and addresses.
    Devices,
    /// Neighbours and FDB entries, too.
    Neighbors,
    /// Next-hop objects and routes, too.
    Routes,
}

/// Dumps all of `what`, in this order. Blocks for milliseconds, or for seconds when there are a million routes.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn dump(what: Dump) -> Result<Vec<Message>, Error> {
    let mut all = Vec::new();
    let requests = [
        (Dump::Devices, RTM_GETLINK, 0, 16, "dump links"),
        (Dump::Devices, RTM_GETADDR, 0, 8, "dump addresses"),
        (Dump::Neighbors, RTM_GETNEIGH, 0, 12, "dump neighbours"),
        (Dump::Neighbors, RTM_GETNEIGH, AF_BRIDGE, 12, "dump FDB entries"),
        (Dump::Routes, RTM_GETNEXTHOP, 0, 8, "dump next hops"),
        (Dump::Routes, RTM_GETROUTE, 0, 12, "dump routes"),
    ];
    for (_, request, family, header, doing) in requests.into_iter().filter(|(of, ..)| *of <= what) {
        request_dump(request, family, header, doing, |kind, body| {
            all.extend(parse(kind, body).ok().filter(|message| *message != Message::Other));
        })?;
    }
    Ok(all)
}

/// Dumps the destinations of all routes in `tables` that a routing daemon of FRR made. Blocks for up to seconds when
/// there are a million.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn dump_routes(tables: &[u32]) -> Result<Vec<(u32, IpNet)>, Error> {
    let mut found = Vec::new();
    request_dump(RTM_GETROUTE, 0, 12, "dump routes", |kind, body| {
        if let Ok(Message::NewRoute(route)) = parse(kind, body)
            && is_from_frr(route.protocol)
            && route.kind != RouteKind::Own
            && tables.contains(&route.table)
        {
            found.push((route.table, route.prefix));
        }
    })?;
    Ok(found)
}

/// `RTPROT_ZEBRA` and the range that FRR's daemons have (BGP 186 to SRTE 198).
pub const fn is_from_frr(protocol: u8) -> bool {
    matches!(protocol, 11 | 186..=198)
}

fn request_dump(
    request: u16,
    family: u8,
    header: u8,
    doing: &'static str,
    mut each: impl FnMut(u16, &[u8]),
) -> Result<(), Error> {
    const NLM_F_REQUEST: u16 = 1;
    const NLM_F_DUMP: u16 = 0x300;
    const NLM_F_DUMP_INTR: u16 = 0x10;
    const ATTEMPTS: usize = 5;

    let failed = |source| Error::Netlink { doing, source };
    // A dump that a change interrupted is repeated; after some attempts the events that follow must do.
    for attempt in 1..=ATTEMPTS {
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed)?;
        socket.bind_auto().map_err(failed)?;
        enlarge(&socket);
        let mut message = Vec::with_capacity(HEADER + usize::from(header));
        message.extend_from_slice(&(16 + u32::from(header)).to_ne_bytes());
        message.extend_from_slice(&request.to_ne_bytes());
        message.extend_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
        message.extend_from_slice(&[0; 8]);
        message.push(family);
        message.resize(HEADER + usize::from(header), 0);
        socket.send_to(&message, &SocketAddr::new(0, 0), 0).map_err(failed)?;

        let mut interrupted = false;
        let mut buffer = Vec::with_capacity(READ_BYTES);
        'dump: loop {
            buffer.clear();
            socket.recv_from(&mut buffer, 0).map_err(failed)?;
            let mut rest = buffer.as_slice();
            for message in messages(&buffer) {
                let Ok((kind, body)) = message else { break };
                interrupted |= u16_at(rest, 6).is_some_and(|flags| flags & NLM_F_DUMP_INTR != 0);
                rest = rest.get((HEADER + body.len() + 3) & !3..).unwrap_or_default();
                match kind {
                    NLMSG_DONE => break 'dump,
                    NLMSG_ERROR => {
                        let errno = u32_at(body, 0).map_or(0, u32::cast_signed);
                        let source = io::Error::from_raw_os_error(errno.saturating_neg());
                        return Err(Error::Refused { doing, source });
                    }
                    _ => each(kind, body),
                }
            }
        }
        if !interrupted {
            return Ok(());
        }
        tracing::debug!(doing, attempt, "the dump was interrupted by a change");
    }
    Ok(())
}
