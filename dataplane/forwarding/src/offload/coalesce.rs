//! Putting together packets of one TCP flow (generic receive offload, GRO), for a receiver who takes many as one.
//!
//! Only what can be [cut](super::Segments) into the same packets again is put together: their headers differ in nothing
//! but the sequence number, IPv4's identification, the lengths and the checksums, and all but the last have the same
//! payload. An identification that stays as it is, of packets that may not be fragmented, counts when they are cut: it means
//! nothing there (RFC 6864 section 4.1). The checksums have been verified, for the receiver will not.

use super::segment::{CWR, FIN, PSH};
use super::{Kind, Large, Offload, SMALLEST_SEGMENT, TCP_CHECKSUM, TCP_HEADER, VirtioHeader};
use crate::checksum;
use crate::headers::{ETHERNET, Family, IPV4, IPV6, TCP, be16, be32};

/// The longest IP packet that is made, bytes: a frame with it fits any buffer with 16-bit lengths.
const LONGEST: usize = 65_280;
/// Longest headers: Ethernet, IPv6 without extensions, TCP with all options.
const HEADERS: usize = ETHERNET + IPV6 + 60;
/// Flows that are put together at the same time; more only join less.
const OPEN: usize = 16;
const ACK: u8 = 0x10;
/// Flags that packets which are put together never have: SYN, RST, URG, and CWR, of which the order matters.
const EXCLUDED: u8 = 0x02 | 0x04 | 0x20 | CWR;

/// Sorts the frames of a burst into runs. Keeps its memory from burst to burst.
#[derive(Debug, Default)]
pub struct Coalescer {
    runs: Vec<Run>,
    /// By frame: the one behind it in its run.
    next: Vec<Option<u16>>,
    /// Runs that may still grow.
    open: Vec<usize>,
}

/// Frames, one behind the other, that may leave as one; often just one.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    first: u16,
    last: u16,
    count: u16,
    grown: Option<Grown>,
}

/// A run that more frames may fit.
#[derive(Clone, Copy, Debug)]
struct Grown {
    l4: u16,
    transport: u16,
    family: Family,
    /// Payload of the first packet, and of all.
    size: u16,
    payload: u16,
    next_sequence: u32,
    /// Of the last packet; and by how much it grew from the one before, once there are two.
    identification: u16,
    step: Option<u16>,
}

/// What is in front of a run's payload when it leaves as one: the headers, and for the kernel what they ask for.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// For the kernel.
    pub virtio: VirtioHeader,
    bytes: [u8; HEADERS],
    length: usize,
}

impl Head {
    /// From the Ethernet header on.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Run {
    /// How many frames.
    pub fn count(&self) -> usize {
        self.count.into()
    }

    /// The number of its first frame.
    pub fn first(&self) -> usize {
        self.first.into()
    }
}

/// A TCP packet that may be put together with others.
struct Candidate<'a> {
    frame: &'a [u8],
    family: Family,
    l4: usize,
    transport: usize,
    payload: usize,
}

/// What a frame is for this.
enum Seen<'a> {
    Candidate(Candidate<'a>),
    /// Of a TCP flow, whose earlier packets it must not overtake: the frame, its family, and where TCP starts.
    Flow(&'a [u8], Family, usize),
    Other,
}

impl Coalescer {
    /// Sorts `count` frames; `frame` gives each by its number, and `is_whole` says whether nothing is [left to
    /// do](super::Offload) for it, without which it stays alone. Runs come in the order of their first frames, and packets of
    /// one flow in their own.
    pub fn sort<'a>(
        &mut self,
        count: u16,
        frame: impl Fn(usize) -> Option<&'a [u8]>,
        is_whole: impl Fn(usize) -> bool,
    ) {
        self.runs.clear();
        self.next.clear();
        self.open.clear();
        for number in 0..count {
            self.next.push(None);
            let seen = match frame(number.into()) {
                // Nothing that it could be put together with: not worth a look.
                _ if count == 1 => Seen::Other,
                None => Seen::Other,
                Some(frame) => match look(frame) {
                    Seen::Candidate(Candidate { frame, family, l4, .. }) if !is_whole(number.into()) => {
                        Seen::Flow(frame, family, l4)
                    }
                    seen => seen,
                },
            };
            let grown = match seen {
                Seen::Other => None,
                Seen::Flow(other, family, l4) => {
                    let (runs, is_same) = (&self.runs, |first| is_same_flow(first, other, family, l4));
                    self.open.retain(|&run| !frame(runs[run].first()).is_some_and(is_same));
                    None
                }
                Seen::Candidate(candidate) => {
                    if self.join(number, &candidate, &frame) {
                        continue;
                    }
                    Some(candidate.grown())
                }
            };
            if grown.is_some_and(|grown| grown.size > 0) {
                if self.open.len() == OPEN {
                    self.open.remove(0);
                }
                self.open.push(self.runs.len());
            }
            self.runs.push(Run { first: number, last: number, count: 1, grown });
        }
    }

    /// The runs of the last burst.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The numbers of a run's frames.
    pub fn members(&self, run: &Run) -> impl Iterator<Item = usize> {
        let next = |at: &usize| self.next.get(*at).copied().flatten().map(usize::from);
        std::iter::successors(Some(run.first()), next)
    }

    /// The payload of a frame of a run of several.
    pub fn payload<'a>(&self, run: &Run, number: usize, frame: &'a [u8]) -> &'a [u8] {
        let Some(grown) = run.grown else { return &[] };
        let start = usize::from(grown.l4 + grown.transport);
        let before = usize::from(grown.size) * (run.count() - 1);
        let length = if number == usize::from(run.last) {
            usize::from(grown.payload) - before
        } else {
            grown.size.into()
        };
        frame.get(start..start + length).unwrap_or_default()
    }

    /// The headers with which a run of several leaves as one; `first` and `last` are its frames.
    pub fn head(run: &Run, first: &[u8], last: &[u8]) -> Option<Head> {
        let grown = run.grown.filter(|_| run.count > 1)?;
        let (l4, transport) = (usize::from(grown.l4), usize::from(grown.transport));
        let length = l4 + transport;
        let mut head = Head { virtio: VirtioHeader::default(), bytes: [0; HEADERS], length };
        let headers = head.bytes.get_mut(..length)?;
        headers.copy_from_slice(first.get(..length)?);
        let segment = transport + usize::from(grown.payload);
        let packet = l4 - ETHERNET + segment;
        let ip = headers.get_mut(ETHERNET..)?;
        #[expect(clippy::cast_possible_truncation, reason = "at most LONGEST")]
        let addresses = match grown.family {
            Family::V4 => {
                ip[2..4].copy_from_slice(&(packet as u16).to_be_bytes());
                ip[10..12].fill(0);
                let checksum = !checksum::sum_wide(&ip[..IPV4]);
                ip[10..12].copy_from_slice(&checksum.to_be_bytes());
                &ip[12..20]
            }
            Family::V6 => {
                ip[4..6].copy_from_slice(&((packet - IPV6) as u16).to_be_bytes());
                &ip[8..40]
            }
        };
        let pseudo = checksum::fold_wide(checksum::pseudo(addresses, TCP, segment));
        let tcp = headers.get_mut(l4..)?;
        tcp[13] |= last.get(l4 + 13)? & (FIN | PSH);
        tcp[16..18].copy_from_slice(&pseudo.to_be_bytes());
        let kind = match grown.family {
            Family::V4 => Kind::TcpV4,
            Family::V6 => Kind::TcpV6,
        };
        let narrow = |length| u8::try_from(length).ok();
        let large =
            Large { kind, size: grown.size, network: narrow(l4 - ETHERNET)?, transport: narrow(transport)? };
        let offload = Offload { checksum_start: grown.l4, checksum_offset: TCP_CHECKSUM, large: Some(large) };
        head.virtio = VirtioHeader::write(Some(offload), headers);
        Some(head)
    }

    /// Adds a packet to its flow's run if it fits there; otherwise that run is not to grow any more.
    fn join<'a>(
        &mut self,
        number: u16,
        candidate: &Candidate<'a>,
        frame: &impl Fn(usize) -> Option<&'a [u8]>,
    ) -> bool {
        let first = |run: &Run| frame(run.first()).unwrap_or_default();
        let place = self.open.iter().position(|&run| {
            is_same_flow(first(&self.runs[run]), candidate.frame, candidate.family, candidate.l4)
        });
        let Some(place) = place else { return false };
        let at = self.open[place];
        let Some(run) = self.runs.get_mut(at) else { return false };
        let was_alone = run.count == 1;
        let head = first(run);
        let Some(grown) = run.grown.and_then(|grown| grown.with(head, candidate)) else {
            self.open.remove(place);
            return false;
        };
        let is_right = |frame| match look(frame) {
            Seen::Candidate(candidate) => candidate.is_right(),
            Seen::Flow(..) | Seen::Other => false,
        };
        if !candidate.is_right() || (was_alone && !is_right(head)) {
            self.open.remove(place);
            return false;
        }
        run.grown = Some(grown);
        run.count += 1;
        if let Some(next) = self.next.get_mut(usize::from(run.last)) {
            *next = Some(number);
        }
        run.last = number;
        let is_last = candidate.payload < grown.size.into() || candidate.flags() & (FIN | PSH) != 0;
        if is_last {
            self.open.remove(place);
        }
        true
    }
}

impl Grown {
    /// The run with one packet more, if it may have it.
    fn with(self, first: &[u8], candidate: &Candidate<'_>) -> Option<Self> {
        let frame = candidate.frame;
        let (l4, transport) = (candidate.l4, candidate.transport);
        let same = |from: usize, to: usize| first.get(from..to) == frame.get(from..to);
        let is_alike = usize::from(self.l4) == l4
            && usize::from(self.transport) == transport
            && same(0, ETHERNET)
            && match self.family {
                // Version, TOS; flags and no offset; TTL, protocol; addresses.
                Family::V4 => same(14, 16) && same(20, 24) && same(26, 34),
                // Version, class, flow label; next header, hop limit, addresses.
                Family::V6 => same(14, 18) && same(20, 54),
            }
            // Ports; acknowledged; header length.
            && same(l4, l4 + 4)
            && same(l4 + 8, l4 + 13)
            // Window; options. No urgent data: the pointer means nothing.
            && same(l4 + 14, l4 + 16)
            && same(l4 + TCP_HEADER, l4 + transport);
        let flags = first.get(l4 + 13)? ^ candidate.flags();
        let payload = usize::from(self.payload) + candidate.payload;
        if !is_alike
            || flags & !(FIN | PSH) != 0
            || candidate.sequence() != self.next_sequence
            || candidate.payload > self.size.into()
            || candidate.payload == 0
            || l4 - ETHERNET + transport + payload > LONGEST
        {
            return None;
        }
        let identification = candidate.identification();
        let step = identification.wrapping_sub(self.identification);
        // Of packets that may not be fragmented it means nothing (RFC 6864), and many senders leave it as it is.
        let may_stay = self.family == Family::V6 || first.get(20)? & 0x40 != 0;
        let is_step = (step == 1 && self.family == Family::V4) || (step == 0 && may_stay);
        if !is_step || self.step.is_some_and(|before| before != step) {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most LONGEST")]
        Some(Self {
            payload: payload as u16,
            next_sequence: self.next_sequence.wrapping_add(candidate.payload as u32),
            identification,
            step: Some(step),
            ..self
        })
    }
}

impl Candidate<'_> {
    fn flags(&self) -> u8 {
        self.frame.get(self.l4 + 13).copied().unwrap_or(0)
    }

    fn sequence(&self) -> u32 {
        be32(self.frame, self.l4 + 4).unwrap_or(0)
    }

    fn identification(&self) -> u16 {
        match self.family {
            Family::V4 => be16(self.frame, ETHERNET + 4).unwrap_or(0),
            Family::V6 => 0,
        }
    }

    /// A run of its own. It is not to grow when it ends something, or is shorter than what the kernel cuts to.
    fn grown(&self) -> Grown {
        let is_open = self.flags() & (FIN | PSH) == 0;
        #[expect(clippy::cast_possible_truncation, reason = "parts of an IP packet")]
        Grown {
            l4: self.l4 as u16,
            transport: self.transport as u16,
            family: self.family,
            size: if is_open && self.payload >= SMALLEST_SEGMENT.into() { self.payload as u16 } else { 0 },
            payload: self.payload as u16,
            next_sequence: self.sequence().wrapping_add(self.payload as u32),
            identification: self.identification(),
            step: None,
        }
    }

    /// Whether its checksums are right.
    fn is_right(&self) -> bool {
        let Some(ip) = self.frame.get(ETHERNET..) else { return false };
        let (header_is_right, addresses) = match self.family {
            Family::V4 => (ip.first_chunk().is_some_and(checksum::header_is_right), ip.get(12..20)),
            Family::V6 => (true, ip.get(8..40)),
        };
        let segment = self.transport + self.payload;
        let (Some(addresses), Some(covered)) = (addresses, self.frame.get(self.l4..self.l4 + segment)) else {
            return false;
        };
        let sum = checksum::pseudo(addresses, TCP, segment) + u64::from(checksum::sum_wide(covered));
        header_is_right && checksum::fold_wide(sum) == 0xffff
    }
}

fn look(frame: &[u8]) -> Seen<'_> {
    let Some(family) = be16(frame, ETHERNET - 2).and_then(Family::of_ethertype) else { return Seen::Other };
    let Some(ip) = frame.get(ETHERNET..) else { return Seen::Other };
    let (protocol, network, length, is_usual) = match family {
        Family::V4 => {
            let Some(header) = ip.first_chunk::<IPV4>() else { return Seen::Other };
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let is_fragment = header[6] & 0x3f != 0 || header[7] != 0;
            let network = usize::from(header[0] & 0xf) * 4;
            (header[9], network, length, header[0] == 0x45 && !is_fragment)
        }
        Family::V6 => {
            let Some(header) = ip.first_chunk::<IPV6>() else { return Seen::Other };
            let length = usize::from(u16::from_be_bytes([header[4], header[5]])) + IPV6;
            (header[6], IPV6, length, header[0] >> 4 == 6)
        }
    };
    let l4 = ETHERNET + network;
    if protocol != TCP {
        return Seen::Other;
    }
    let flow = Seen::Flow(frame, family, l4);
    let Some(tcp) = frame.get(l4..).and_then(<[u8]>::first_chunk::<TCP_HEADER>) else { return flow };
    let transport = usize::from(tcp[12] >> 4) * 4;
    let payload = length.checked_sub(network + transport);
    let is_whole = length <= ip.len() && transport >= TCP_HEADER;
    match payload {
        Some(payload @ 1..) if is_usual && is_whole && tcp[13] & (EXCLUDED | ACK) == ACK => {
            Seen::Candidate(Candidate { frame, family, l4, transport, payload })
        }
        _ => flow,
    }
}

/// Whether `first`, the first frame of a run, is of the flow of another, by addresses and ports.
fn is_same_flow(first: &[u8], other: &[u8], family: Family, l4: usize) -> bool {
    let addresses = match family {
        Family::V4 => ETHERNET + 12..ETHERNET + 20,
        Family::V6 => ETHERNET + 8..ETHERNET + 40,
    };
    // A run's packets have no options.
    let own = ETHERNET + if family == Family::V4 { IPV4 } else { IPV6 };
    be16(first, ETHERNET - 2) == Some(family.ethertype())
        && first.get(addresses.clone()) == other.get(addresses)
        && first.get(own..own + 4) == other.get(l4..l4 + 4)
}
