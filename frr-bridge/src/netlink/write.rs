use std::fmt;
use std::io;
use std::net::IpAddr;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::parse::{
    AF_BRIDGE, AF_INET, AF_INET6, Mac, NUD_PERMANENT, NUD_REACHABLE, RTM_DELNEIGH, RTM_NEWNEIGH, messages,
    u32_at,
};
use super::socket::{HEADER, NLMSG_ERROR, enlarge};
use crate::error::Error;

/// `NDA_PROTOCOL` of the neighbours that we write, by which they are known again after a restart. Nobody else's number
/// (`RTPROT_*`, iproute2's rt_protos).
pub const OWN_PROTOCOL: u8 = 77;

/// Requests of one buffer: what the kernel answers all of them fits its queue even when all fail.
const CHUNK: usize = 1024;

/// A change of what the kernel knows of local hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Write {
    /// A MAC is behind this bridge port, wherever it was before.
    SetMac {
        /// The port's interface index.
        port: u32,
        /// The MAC.
        mac: Mac,
    },
    /// A MAC is no longer behind this bridge port. One that is behind another stays.
    RemoveMac {
        /// The port's interface index.
        port: u32,
        /// The MAC.
        mac: Mac,
    },
    /// A neighbour has this MAC.
    SetNeighbor {
        /// Interface index.
        ifindex: u32,
        /// Its address.
        address: IpAddr,
        /// Its MAC.
        mac: Mac,
    },
    /// A VTEP has this router MAC, unless something else is known of it.
    KeepRouterMac {
        /// Interface index of the L3VNI's bridge.
        ifindex: u32,
        /// The VTEP.
        address: IpAddr,
        /// Its router MAC.
        mac: Mac,
    },
    /// A neighbour is gone.
    RemoveNeighbor {
        /// Interface index.
        ifindex: u32,
        /// Its address.
        address: IpAddr,
    },
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetMac { port, mac } => write!(f, "put {mac} behind port {port}"),
            Self::RemoveMac { port, mac } => write!(f, "remove {mac} from port {port}"),
            Self::SetNeighbor { ifindex, address, mac } => {
                write!(f, "set neighbour {address} of {ifindex} to {mac}")
            }
            Self::KeepRouterMac { ifindex, address, mac } => {
                write!(f, "keep router MAC {mac} of VTEP {address} on {ifindex}")
            }
            Self::RemoveNeighbor { ifindex, address } => write!(f, "remove neighbour {address} of {ifindex}"),
        }
    }
}

impl Write {
    /// Whether it makes or changes something.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        matches!(self, Self::SetMac { .. } | Self::SetNeighbor { .. })
    }

    /// Appends the request. It asks for an answer only when `acknowledge`, but an error is answered always.
    ///
    /// A MAC is dynamic (`NUD_REACHABLE`), because zebra takes a permanent one for an address of the bridge's own, and the
    /// bridge is made so that it never ages. A neighbour is permanent: only then does the kernel neither probe nor collect
    /// it, nor count it against its table's limit; that it is alive is for the dataplane to say. zebra 8.4, 10.3 and
    /// 10.7 take both as local.
    pub(super) fn encode(&self, sequence: u32, acknowledge: bool, out: &mut Vec<u8>) {
        const NLM_F_REQUEST: u16 = 0x001;
        const NLM_F_ACK: u16 = 0x004;
        const NLM_F_REPLACE: u16 = 0x100;
        const NLM_F_EXCL: u16 = 0x200;
        const NLM_F_CREATE: u16 = 0x400;
        const NTF_MASTER: u8 = 0x04;
        const NDA_DST: u16 = 1;
        const NDA_LLADDR: u16 = 2;
        const NDA_PROTOCOL: u16 = 12;

        let at = out.len();
        let (kind, flags) = match self {
            Self::SetMac { .. } | Self::SetNeighbor { .. } => {
                (RTM_NEWNEIGH, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE)
            }
            // zebra may have stated another one meanwhile.
            Self::KeepRouterMac { .. } => (RTM_NEWNEIGH, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL),
            Self::RemoveMac { .. } | Self::RemoveNeighbor { .. } => (RTM_DELNEIGH, NLM_F_REQUEST),
        };
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&kind.to_ne_bytes());
        out.extend_from_slice(&(flags | if acknowledge { NLM_F_ACK } else { 0 }).to_ne_bytes());
        out.extend_from_slice(&sequence.to_ne_bytes());
        out.extend_from_slice(&[0; 4]);
        let mut header = |family: u8, ifindex: u32, state: u16, flags: u8| {
            out.extend_from_slice(&[family, 0, 0, 0]);
            out.extend_from_slice(&ifindex.to_ne_bytes());
            out.extend_from_slice(&state.to_ne_bytes());
            out.extend_from_slice(&[flags, 0]);
        };
        match *self {
            Self::SetMac { port, mac } | Self::RemoveMac { port, mac } => {
                header(AF_BRIDGE, port, NUD_REACHABLE, NTF_MASTER);
                attribute(NDA_LLADDR, &mac.0, out);
            }
            Self::SetNeighbor { ifindex, address, mac } | Self::KeepRouterMac { ifindex, address, mac } => {
                header(family(address), ifindex, NUD_PERMANENT, 0);
                destination(NDA_DST, address, out);
                attribute(NDA_LLADDR, &mac.0, out);
                attribute(NDA_PROTOCOL, &[OWN_PROTOCOL], out);
            }
            Self::RemoveNeighbor { ifindex, address } => {
                header(family(address), ifindex, 0, 0);
                destination(NDA_DST, address, out);
            }
        }
        let length = u32::try_from(out.len() - at).unwrap_or(u32::MAX);
        out[at..at + 4].copy_from_slice(&length.to_ne_bytes());
    }
}

const fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

fn destination(kind: u16, address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => attribute(kind, &address.octets(), out),
        IpAddr::V6(address) => attribute(kind, &address.octets(), out),
    }
}

/// `value` is at most some bytes long.
fn attribute(kind: u16, value: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// A request that the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The request.
    pub write: Write,
    /// Why.
    pub errno: i32,
}

/// A socket for [`Write`]s, in the network namespace of the calling thread.
#[derive(Debug)]
pub struct WriteSocket {
    socket: Socket,
    sequence: u32,
}

impl WriteSocket {
    /// Opens it.
    ///
    /// # Errors
    /// When there are no sockets.
    pub fn open() -> Result<Self, Error> {
        let make = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            // An error would carry the whole request otherwise.
            socket.set_cap_ack(true)?;
            enlarge(&socket);
            Ok(socket)
        };
        make()
            .map(|socket| Self { socket, sequence: 0 })
            .map_err(|source| Error::Netlink { doing: "open a socket for what is learned", source })
    }

    /// Carries out `writes` in order, many per system call, and returns those that the kernel refused. That something to be
    /// removed is not there is no refusal. Blocks for some microseconds per write.
    ///
    /// # Errors
    /// When the socket broke; any of the writes may have been carried out or not.
    pub fn carry_out(&mut self, writes: &[Write]) -> io::Result<Vec<Refusal>> {
        let mut refusals = Vec::new();
        for chunk in writes.chunks(CHUNK) {
            self.carry_out_chunk(chunk, &mut refusals)?;
        }
        Ok(refusals)
    }

    fn carry_out_chunk(&mut self, writes: &[Write], refusals: &mut Vec<Refusal>) -> io::Result<()> {
        let first = self.sequence;
        let mut requests = Vec::with_capacity(writes.len() * 64);
        for (index, write) in writes.iter().enumerate() {
            write.encode(self.sequence, index + 1 == writes.len(), &mut requests);
            self.sequence = self.sequence.wrapping_add(1);
        }
        self.socket.send_to(&requests, &SocketAddr::new(0, 0), 0)?;
        let mut buffer = Vec::with_capacity(1 << 16);
        loop {
            buffer.clear();
            self.socket.recv_from(&mut buffer, 0)?;
            let mut rest = buffer.as_slice();
            for message in messages(&buffer) {
                let Ok((kind, body)) = message else { break };
                let index = u32_at(rest, 8).map(|sequence| sequence.wrapping_sub(first));
                rest = rest.get((HEADER + body.len() + 3) & !3..).unwrap_or_default();
                let index = index.and_then(|index| usize::try_from(index).ok());
                let Some((index, &write)) = index.and_then(|index| Some((index, writes.get(index)?))) else {
                    continue;
                };
                if kind != NLMSG_ERROR {
                    continue;
                }
                let errno = u32_at(body, 0).map_or(0, u32::cast_signed).saturating_neg();
                if errno != 0 && (write.is_set() || !matches!(errno, libc::ENOENT | libc::ENODEV)) {
                    refusals.push(Refusal { write, errno });
                }
                if index + 1 == writes.len() {
                    return Ok(());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NetlinkMessage;
    use netlink_packet_route::RouteNetlinkMessage;
    use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};
    use proptest::prelude::*;

    use super::*;

    /// As netlink-packet-route, an independent implementation, reads it.
    fn read(write: &Write) -> (u16, RouteNetlinkMessage) {
        let mut bytes = Vec::new();
        write.encode(7, true, &mut bytes);
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes).expect("well-formed");
        assert_eq!((message.header.sequence_number, message.header.length as usize), (7, bytes.len()));
        match message.payload {
            netlink_packet_core::NetlinkPayload::InnerMessage(inner) => (message.header.flags, inner),
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn an_independent_decoder_reads_what_is_written(ifindex: u32, mac in prop::array::uniform6(1..=255u8), v4: bool, bits: u128) {
            let address: IpAddr = if v4 { ((bits >> 96) as u32).to_be_bytes().into() } else { bits.to_be_bytes().into() };
            prop_assume!(!address.is_multicast());
            let mac = Mac(mac);
            let lladdr = NeighbourAttribute::LinkLayerAddress(mac.0.to_vec());
            let destination = NeighbourAttribute::Destination(match address {
                IpAddr::V4(address) => NeighbourAddress::Inet(address),
                IpAddr::V6(address) => NeighbourAddress::Inet6(address),
            });

            let (flags, message) = read(&Write::SetMac { port: ifindex, mac });
            let RouteNetlinkMessage::NewNeighbour(entry) = message else { panic!("{message:?}") };
            prop_assert_eq!(flags, 0x505);
            prop_assert_eq!((entry.header.ifindex, entry.header.state), (ifindex, NeighbourState::Reachable));
            prop_assert_eq!((u8::from(entry.header.family), entry.header.flags.bits()), (7, 4));
            prop_assert_eq!(entry.attributes, std::slice::from_ref(&lladdr));

            let (flags, message) = read(&Write::RemoveMac { port: ifindex, mac });
            prop_assert_eq!(flags, 0x005);
            prop_assert!(matches!(message, RouteNetlinkMessage::DelNeighbour(entry) if entry.attributes == [lladdr.clone()]));

            let (_, message) = read(&Write::SetNeighbor { ifindex, address, mac });
            let RouteNetlinkMessage::NewNeighbour(entry) = message.clone() else { panic!("{message:?}") };
            prop_assert_eq!((entry.header.ifindex, entry.header.state), (ifindex, NeighbourState::Permanent));
            prop_assert_eq!(u8::from(entry.header.family), if v4 { 2 } else { 10 });
            prop_assert_eq!(&entry.attributes[..2], [destination.clone(), lladdr]);
            prop_assert!(matches!(entry.attributes[2], NeighbourAttribute::Protocol(of) if u8::from(of) == OWN_PROTOCOL));

            // The same, but never in place of another.
            let (flags, kept) = read(&Write::KeepRouterMac { ifindex, address, mac });
            prop_assert_eq!(flags & 0x700, 0x600);
            prop_assert_eq!(kept, message);
            let (_, message) = read(&Write::RemoveNeighbor { ifindex, address });
            prop_assert!(matches!(message, RouteNetlinkMessage::DelNeighbour(entry) if entry.attributes == [destination]));
        }
    }
}
