//! Cutting and putting together against an independent reading of what comes out (etherparse), and against each other.

use etherparse::{Ipv4Header, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::segment::{CWR, FIN, PSH};
use super::*;

const TCP_KIND: [u8; 2] = [1, 4];

/// One packet of a TCP flow, with right checksums.
#[derive(Clone, Debug)]
struct Packet {
    v6: bool,
    host: u8,
    sequence: u32,
    flags: u8,
    identification: u16,
    dont_fragment: bool,
    options: usize,
    ttl: u8,
    payload: Vec<u8>,
}

impl Packet {
    fn build(&self) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let mut ip6 = [0x20; 16];
        ip6[15] = self.host;
        let tcp = if self.v6 {
            ethernet.ipv6(ip6, [0x21; 16], self.ttl)
        } else {
            ethernet.ipv4([10, 0, 0, self.host], [10, 1, 0, 1], self.ttl)
        }
        .tcp(1000, 80, self.sequence, 500)
        .ack(77);
        // Timestamps as most senders have them: two of no operation, kind, length, values.
        let options: Vec<u8> =
            [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2].into_iter().take(self.options * 12).collect();
        let tcp = tcp.options_raw(&options).unwrap();
        let mut frame = Vec::new();
        tcp.write(&mut frame, &self.payload).unwrap();
        let l4 = l4_of(&frame);
        frame[l4 + 13] = self.flags;
        if !self.v6 {
            frame[18..20].copy_from_slice(&self.identification.to_be_bytes());
            frame[20] = if self.dont_fragment { 0x40 } else { 0 };
        }
        repair(&mut frame);
        frame
    }
}

fn l4_of(frame: &[u8]) -> usize {
    if frame[14] >> 4 == 6 { 54 } else { 34 }
}

/// The checksums of a frame, by another's arithmetic: IPv4's header, if it has one, and TCP's or UDP's.
fn checksums(frame: &[u8]) -> (Option<u16>, u16) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let (header, addresses) = match packet.net.unwrap() {
        NetSlice::Ipv4(v4) => (
            Some(v4.header().to_header().calc_header_checksum()),
            (v4.header().source().to_vec(), v4.header().destination().to_vec()),
        ),
        NetSlice::Ipv6(v6) => (None, (v6.header().source().to_vec(), v6.header().destination().to_vec())),
        NetSlice::Arp(_) => panic!("ARP"),
    };
    let v4 = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).unwrap();
    let v6 = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).unwrap();
    let (from, to) = addresses;
    let transport = match packet.transport.unwrap() {
        TransportSlice::Tcp(tcp) if from.len() == 4 => {
            tcp.to_header().calc_checksum_ipv4_raw(v4(&from), v4(&to), tcp.payload()).unwrap()
        }
        TransportSlice::Tcp(tcp) => {
            tcp.to_header().calc_checksum_ipv6_raw(v6(&from), v6(&to), tcp.payload()).unwrap()
        }
        TransportSlice::Udp(udp) if from.len() == 4 => {
            udp.to_header().calc_checksum_ipv4_raw(v4(&from), v4(&to), udp.payload()).unwrap()
        }
        TransportSlice::Udp(udp) => {
            udp.to_header().calc_checksum_ipv6_raw(v6(&from), v6(&to), udp.payload()).unwrap()
        }
        other => panic!("{other:?}"),
    };
    (header, transport)
}

/// Gives a frame the checksums that it should have.
fn repair(frame: &mut [u8]) {
    let (header, transport) = checksums(frame);
    if let Some(header) = header {
        frame[24..26].copy_from_slice(&header.to_be_bytes());
    }
    let l4 = l4_of(frame);
    let protocol = if frame[14] >> 4 == 6 { frame[20] } else { frame[23] };
    let at = if protocol == UDP { l4 + 6 } else { l4 + 16 };
    frame[at..at + 2].copy_from_slice(&transport.to_be_bytes());
}

/// Both checksums are as they should be; one's complement has two zeros.
fn is_right(frame: &[u8]) -> bool {
    let (header, transport) = checksums(frame);
    let l4 = l4_of(frame);
    let protocol = if frame[14] >> 4 == 6 { frame[20] } else { frame[23] };
    let at = if protocol == UDP { l4 + 6 } else { l4 + 16 };
    let has = u16::from_be_bytes([frame[at], frame[at + 1]]);
    header.is_none_or(|header| frame[24..26] == header.to_be_bytes())
        && (has == transport || (has == 0xffff && transport == 0))
}

/// As a kernel leaves it to its device: with the sum of the pseudo header in place of the checksum, and what it says of it.
fn unfinished(mut frame: Vec<u8>, kind: u8, size: u16) -> (VirtioHeader, Vec<u8>) {
    let l4 = l4_of(&frame);
    let (addresses, protocol) = if l4 == 54 { (22..54, frame[20]) } else { (26..34, frame[23]) };
    // Slowly: word by word, with the carry at once.
    let mut sum = u32::from(protocol) + u32::try_from(frame.len() - l4).unwrap();
    for word in frame[addresses].chunks(2) {
        sum += u32::from(word[0]) << 8 | u32::from(word[1]);
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let offset: u16 = if protocol == UDP { 6 } else { 16 };
    let at = l4 + usize::from(offset);
    frame[at..at + 2].copy_from_slice(&u16::try_from(sum).unwrap().to_be_bytes());
    let mut header = [0; 10];
    header[0] = 1;
    header[1] = kind;
    header[4..6].copy_from_slice(&size.to_ne_bytes());
    header[6..8].copy_from_slice(&u16::try_from(l4).unwrap().to_ne_bytes());
    header[8..10].copy_from_slice(&offset.to_ne_bytes());
    (VirtioHeader(header), frame)
}

/// All that a large frame is cut into.
fn cut(frame: &[u8], offload: Offload) -> Vec<Vec<u8>> {
    let segments = Segments::new(frame, offload).unwrap();
    let one = |index| {
        let mut out = vec![0xee; segments.length(index)];
        segments.write(index, &mut out);
        out
    };
    let all: Vec<_> = (0..segments.count()).map(one).collect();
    assert_eq!(all.len(), offload.segments(frame.len()));
    all
}

fn payload(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at / 7 + at).to_le_bytes()[0].wrapping_mul(31).wrapping_add(seed)).collect()
}

fn packets() -> impl Strategy<Value = Packet> {
    let bits = (any::<bool>(), any::<u32>(), any::<u16>(), any::<bool>(), 0..=1_usize, any::<u8>());
    (bits, 1..60_000_usize).prop_map(
        |((v6, sequence, identification, dont_fragment, options, seed), length)| Packet {
            v6,
            host: 1,
            sequence,
            flags: 0x10,
            identification,
            dont_fragment,
            options,
            ttl: 64,
            payload: payload(length, seed),
        },
    )
}

/// What a VXLAN tunnel puts in front, with lengths that are yet to be made right.
fn outer(v6: bool) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 2]);
    let mut frame = Vec::new();
    let vxlan = [8, 0, 0, 0, 0, 0, 100, 0];
    if v6 {
        ethernet.ipv6([0x30; 16], [0x31; 16], 255).udp(50_000, 4789).write(&mut frame, &vxlan).unwrap();
        frame[60..62].fill(0);
    } else {
        ethernet
            .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 255)
            .udp(50_000, 4789)
            .write(&mut frame, &vxlan)
            .unwrap();
        frame[40..42].fill(0);
    }
    frame
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_large_tcp_frame_is_cut_into_what_it_stands_for(
        whole in packets(),
        size in 8_u16..9000,
        flags in prop::sample::select(vec![0x10, 0x10 | PSH, 0x10 | FIN | PSH, 0x10 | CWR, 0x50]),
        tunnel in prop::option::of(any::<bool>()),
    ) {
        let whole = Packet { flags, ..whole };
        let (header, frame) = unfinished(whole.build(), TCP_KIND[usize::from(whole.v6)], size);
        let offload = header.read(&frame).unwrap().unwrap();
        prop_assert!(offload.is_large());
        let l4 = l4_of(&frame);
        prop_assert_eq!(offload.segment_length(14), Some(l4 - 14 + 20 + whole.options * 12 + usize::from(size)));
        prop_assert_eq!(offload.segment_length(15), None);
        prop_assert!(offload.may_stay_large() && !offload.is_datagrams());
        // What it says to the kernel comes to the same.
        let written = VirtioHeader::write(Some(offload), &frame);
        prop_assert_eq!(written.read(&frame), Ok(Some(offload)));
        prop_assert_eq!(written.0[1] & 0x80 != 0, flags & CWR != 0);

        let front = tunnel.map_or_else(Vec::new, outer);
        let in_tunnel = [&front[..], &frame].concat();
        let word = offload.to_word(200);
        let moved = Offload::from_word(word, 200 - front.len()).unwrap();
        prop_assert_eq!(moved.may_stay_large(), tunnel.is_none());
        let pieces = cut(&in_tunnel, moved);
        prop_assert_eq!(moved.bytes(in_tunnel.len()), pieces.iter().map(Vec::len).sum::<usize>());
        let mut all = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            let inner = &piece[front.len()..];
            if !front.is_empty() {
                let outer = SlicedPacket::from_ethernet(piece).unwrap();
                let Some(TransportSlice::Udp(udp)) = outer.transport else { panic!("{outer:?}") };
                prop_assert_eq!(udp.payload().len(), inner.len() + 8);
                prop_assert_eq!(usize::from(udp.length()), inner.len() + 16);
                prop_assert_eq!((udp.source_port(), udp.checksum()), (50_000, 0));
                if let Some(NetSlice::Ipv4(v4)) = outer.net {
                    let header = v4.header().to_header();
                    prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
                    prop_assert_eq!(usize::from(header.total_len), piece.len() - 14);
                }
            }
            prop_assert!(is_right(inner));
            let is_last = index + 1 == pieces.len();
            let mut wanted = Packet {
                sequence: whole.sequence.wrapping_add(u32::try_from(all.len()).unwrap()),
                identification: whole.identification.wrapping_add(u16::try_from(index).unwrap()),
                flags: flags & if index == 0 { 0xff } else { !CWR } & if is_last { 0xff } else { !(FIN | PSH) },
                ..whole.clone()
            };
            let end = (all.len() + usize::from(size)).min(whole.payload.len());
            wanted.payload = whole.payload[all.len()..end].to_vec();
            prop_assert_eq!(inner, &wanted.build()[..]);
            all.extend_from_slice(&wanted.payload);
        }
        prop_assert_eq!(all, whole.payload);
    }

    /// As a train, which is cut as any frame of datagrams is, the packets are the same but for the outer UDP checksum and
    /// IPv4 identification.
    #[test]
    fn a_train_is_cut_into_the_same_packets(whole in packets(), size in 500_u16..9000, v6: bool) {
        let (header, frame) = unfinished(whole.build(), TCP_KIND[usize::from(whole.v6)], size);
        let offload = header.read(&frame).unwrap().unwrap();
        let front = outer(v6);
        prop_assert!(Segments::new(&frame, offload).unwrap().train(0, &mut [0; 65_536]).is_none(), "no tunnel");
        let in_tunnel = [&front[..], &frame].concat();
        let moved = Offload::from_word(offload.to_word(200), 200 - front.len()).unwrap();
        let segments = Segments::new(&in_tunnel, moved).unwrap();
        let pieces = cut(&in_tunnel, moved);
        let mut next = 0;
        let mut out = vec![0; 65_536];
        while let Some(train) = segments.train(next, &mut out) {
            prop_assert!(train.count > 1 && train.length <= 65_549);
            let frame = &out[..train.length];
            let again = cut(frame, train.virtio.read(frame).unwrap().unwrap());
            prop_assert_eq!(again.len(), train.count);
            for (piece, mut other) in pieces[next..].iter().zip(again) {
                prop_assert!(is_right(&other));
                let l4 = l4_of(&other);
                other[l4 + 6..l4 + 8].fill(0);
                if !v6 {
                    other[18..20].copy_from_slice(&piece[18..20]);
                    other[24..26].copy_from_slice(&piece[24..26]);
                }
                prop_assert_eq!(&other, piece);
            }
            next += train.count;
        }
        prop_assert!(pieces.len() - next < 2, "{} of {}", next, pieces.len());
    }

    #[test]
    fn many_datagrams_in_one_frame_become_many(v6: bool, length in 1..20_000_usize, size in 400_u16..3000) {
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let udp = if v6 { ethernet.ipv6([0x20; 16], [0x21; 16], 64) } else { ethernet.ipv4([10, 0, 0, 1], [10, 1, 0, 1], 64) };
        let sent = payload(length, 3);
        let mut frame = Vec::new();
        udp.udp(1000, 443).write(&mut frame, &sent).unwrap();
        let (header, frame) = unfinished(frame, 5, size);
        let offload = header.read(&frame).unwrap().unwrap();
        prop_assert!(offload.is_datagrams());
        let mut all = Vec::new();
        for piece in cut(&frame, offload) {
            prop_assert!(is_right(&piece));
            let packet = SlicedPacket::from_ethernet(&piece).unwrap();
            let Some(TransportSlice::Udp(udp)) = packet.transport else { panic!("{packet:?}") };
            prop_assert_eq!(usize::from(udp.length()), udp.payload().len() + 8);
            prop_assert!(udp.payload().len() == usize::from(size) || all.len() + udp.payload().len() == length);
            all.extend_from_slice(udp.payload());
        }
        prop_assert_eq!(all, sent);
    }

    #[test]
    fn a_missing_checksum_is_completed(packet in packets()) {
        let right = packet.build();
        let (header, mut frame) = unfinished(right.clone(), 0, 0);
        prop_assert_ne!(&frame, &right);
        let offload = header.read(&frame).unwrap().unwrap();
        prop_assert!(!offload.is_large() && offload.may_stay_large() && !offload.is_datagrams());
        prop_assert_eq!((offload.segments(frame.len()), offload.bytes(frame.len())), (1, frame.len()));
        prop_assert_eq!(VirtioHeader::write(Some(offload), &frame), header);
        offload.complete(&mut frame);
        prop_assert!(is_right(&frame));
    }

    /// Whatever the burst: what was put together is cut into the very same frames, and no flow changes its order.
    #[test]
    fn what_was_put_together_is_cut_into_the_same(burst in bursts()) {
        let frames: Vec<Vec<u8>> = burst.iter().map(|sent| sent.frame.clone()).collect();
        let mut coalescer = Coalescer::default();
        let count = u16::try_from(frames.len()).unwrap();
        let frame = |number: usize| frames.get(number).map(Vec::as_slice);
        coalescer.sort(count, frame, |number| !burst[number].is_unfinished);
        let mut order = Vec::new();
        for run in coalescer.runs() {
            let members: Vec<usize> = coalescer.members(run).collect();
            prop_assert_eq!(members.len(), run.count());
            order.extend_from_slice(&members);
            let [first, .., last] = members[..] else { continue };
            let may_join = |number: &usize| !burst[*number].is_damaged && !burst[*number].is_unfinished;
            prop_assert!(members.iter().all(may_join), "{:?}", members);
            let head = Coalescer::head(run, &frames[first], &frames[last]).unwrap();
            let mut whole = head.bytes().to_vec();
            for &number in &members {
                whole.extend_from_slice(coalescer.payload(run, number, &frames[number]));
            }
            let offload = head.virtio.read(&whole).unwrap().unwrap();
            for (&number, mut piece) in members.iter().zip(cut(&whole, offload)) {
                let original = &frames[number];
                if l4_of(&piece) == 34 && original[20] & 0x40 != 0 {
                    // One that may not be fragmented needs no identification of its own.
                    piece[18..20].copy_from_slice(&original[18..20]);
                    piece[24..26].copy_from_slice(&original[24..26]);
                }
                // Without the padding.
                prop_assert_eq!(&piece[..], &original[..piece.len()]);
                prop_assert!(original[piece.len()..].iter().all(|&byte| byte == 0));
            }
        }
        let mut sorted = order.clone();
        sorted.sort_unstable();
        prop_assert_eq!(sorted, (0..frames.len()).collect::<Vec<_>>(), "each once");
        for flow in 0..FLOWS {
            let of_flow: Vec<_> = order.iter().filter(|&&number| burst[number].flow == flow).collect();
            prop_assert!(of_flow.is_sorted(), "flow {}: {:?}", flow, of_flow);
        }
    }

    #[test]
    fn no_header_makes_trouble(header: [u8; 10], mut frame in prop::collection::vec(any::<u8>(), 0..200), likely: bool) {
        if likely && frame.len() > 60 {
            frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        }
        if let Ok(Some(offload)) = VirtioHeader(header).read(&frame) {
            offload.complete(&mut frame.clone());
            if let Some(segments) = Segments::new(&frame, offload) {
                for index in 0..segments.count() {
                    segments.write(index, &mut vec![0; segments.length(index)]);
                }
            }
        }
    }
}

const FLOWS: u8 = 3;

#[derive(Clone, Debug)]
struct Sent {
    flow: u8,
    frame: Vec<u8>,
    is_damaged: bool,
    /// Something is left to do for it.
    is_unfinished: bool,
}

/// What happens to a flow from one packet to the next.
#[derive(Clone, Copy, Debug)]
enum Event {
    Usual,
    Short,
    Flags(u8),
    Empty,
    Damaged(usize),
    Lost,
    Again,
    /// Again, with a checksum that is left to do.
    Unfinished,
    OtherTtl,
    OtherIdentification,
    Padded,
    Fragment,
}

/// Bursts of packets of some flows that mostly go on, but not always.
fn bursts() -> impl Strategy<Value = Vec<Sent>> {
    let event = prop_oneof![
        20 => Just(Event::Usual),
        1 => Just(Event::Short),
        1 => prop::sample::select(vec![0x11, 0x18, 0x19, 0x02, 0x14, 0x30, 0x90, 0x50]).prop_map(Event::Flags),
        1 => Just(Event::Empty),
        1 => (0..60_usize).prop_map(Event::Damaged),
        1 => Just(Event::Lost),
        1 => Just(Event::Again),
        1 => Just(Event::Unfinished),
        1 => Just(Event::OtherTtl),
        1 => Just(Event::OtherIdentification),
        1 => Just(Event::Padded),
        1 => Just(Event::Fragment),
    ];
    let flow = (any::<bool>(), any::<bool>(), any::<bool>(), any::<u32>(), any::<u16>(), 0..=1_usize);
    let flows = prop::collection::vec(flow, usize::from(FLOWS));
    let steps = prop::collection::vec((0..FLOWS, event), 0..64);
    (flows, steps, 1..1500_usize).prop_map(|(flows, steps, size)| {
        let mut next: Vec<(u32, u16)> = flows.iter().map(|flow| (flow.3, flow.4)).collect();
        steps
            .into_iter()
            .map(|(number, event)| {
                let (v6, dont_fragment, counts, _, _, options) = flows[usize::from(number)];
                let (sequence, identification) = &mut next[usize::from(number)];
                let mut packet = Packet {
                    v6,
                    host: number,
                    sequence: *sequence,
                    flags: 0x10,
                    identification: *identification,
                    dont_fragment,
                    options,
                    ttl: 64,
                    payload: payload(size, sequence.to_le_bytes()[0]),
                };
                match event {
                    Event::Short => packet.payload.truncate(size.div_ceil(2)),
                    Event::Flags(flags) => packet.flags = flags,
                    Event::Empty => packet.payload.clear(),
                    Event::Lost => {
                        packet.sequence = packet.sequence.wrapping_add(u32::try_from(size).unwrap());
                    }
                    Event::Again | Event::Unfinished => {
                        packet.sequence = packet.sequence.wrapping_sub(u32::try_from(size).unwrap());
                    }
                    Event::OtherTtl => packet.ttl = 63,
                    Event::OtherIdentification => packet.identification ^= 0x100,
                    _ => {}
                }
                *sequence = packet.sequence.wrapping_add(u32::try_from(packet.payload.len()).unwrap());
                *identification = packet.identification.wrapping_add(u16::from(counts || !dont_fragment));
                let mut frame = packet.build();
                let mut is_damaged = false;
                match event {
                    Event::Damaged(at) => {
                        // Not what no checksum covers, nor the ports: then it would be of another flow.
                        let start = l4_of(&frame) + 4;
                        let at = start + at % (frame.len() - start);
                        frame[at] ^= 0x55;
                        is_damaged = true;
                    }
                    Event::Padded => frame.resize(frame.len() + 6, 0),
                    Event::Fragment if !v6 => {
                        frame[20] |= 0x20;
                        let (header, _) = Ipv4Header::from_slice(&frame[14..]).unwrap();
                        frame[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
                    }
                    _ => {}
                }
                Sent { flow: number, frame, is_damaged, is_unfinished: matches!(event, Event::Unfinished) }
            })
            .collect()
    })
}

/// A flow in order, over IPv4 with and without counted identifications and over IPv6, is all one run but for its end.
#[test]
fn a_steady_flow_is_put_together() {
    for (v6, dont_fragment, counts) in [(false, true, false), (false, false, true), (true, true, false)] {
        let frames: Vec<Vec<u8>> = (0..40_u16)
            .map(|number| {
                let last = number == 39;
                Packet {
                    v6,
                    host: 1,
                    // It wraps around.
                    sequence: (u32::MAX - 5000).wrapping_add(u32::from(number) * 1000),
                    flags: if last { 0x18 } else { 0x10 },
                    identification: 65_530_u16.wrapping_add(number * u16::from(counts)),
                    dont_fragment,
                    options: 1,
                    ttl: 64,
                    payload: payload(if last { 10 } else { 1000 }, 1),
                }
                .build()
            })
            .collect();
        let mut coalescer = Coalescer::default();
        coalescer.sort(40, |number| frames.get(number).map(Vec::as_slice), |_| true);
        assert_eq!(coalescer.runs().iter().map(Run::count).collect::<Vec<_>>(), [40]);
        // One that was handed over as it is stays alone, and so does the flow on its two sides.
        coalescer.sort(40, |number| frames.get(number).map(Vec::as_slice), |number| number != 20);
        assert_eq!(coalescer.runs().iter().map(Run::count).collect::<Vec<_>>(), [20, 1, 19]);
    }
}

#[test]
fn a_run_is_no_longer_than_a_buffer() {
    let frames: Vec<Vec<u8>> = (0..64_u32)
        .map(|number| {
            let flow = Packet {
                v6: false,
                host: 1,
                sequence: number * 1448,
                flags: 0x10,
                identification: 0,
                dont_fragment: true,
                options: 1,
                ttl: 64,
                payload: payload(1448, 1),
            };
            flow.build()
        })
        .collect();
    let mut coalescer = Coalescer::default();
    coalescer.sort(64, |number| frames.get(number).map(Vec::as_slice), |_| true);
    assert_eq!(coalescer.runs().iter().map(Run::count).collect::<Vec<_>>(), [45, 19]);
}

#[test]
fn what_does_not_fit_the_headers_is_refused() {
    let packet = Packet {
        v6: false,
        host: 1,
        sequence: 1,
        flags: 0x10,
        identification: 1,
        dont_fragment: true,
        options: 1,
        ttl: 64,
        payload: payload(5000, 1),
    };
    let (header, frame) = unfinished(packet.build(), 1, 1448);
    assert!(header.read(&frame).unwrap().unwrap().is_large());
    let changed = |at: usize, value: u8| {
        let mut header = header;
        header.0[at] = value;
        header.read(&frame)
    };
    assert_eq!(changed(0, 0), Err(BadOffload), "segments without checksums");
    assert_eq!(changed(1, 4), Err(BadOffload), "IPv6 that is not");
    assert_eq!(changed(1, 5), Err(BadOffload), "UDP that is not");
    assert_eq!(changed(1, 3), Err(BadOffload), "fragments, which were not offered");
    assert_eq!(changed(8, 6), Err(BadOffload), "UDP's checksum in TCP");
    let with = |at: usize, value: u16| {
        let mut header = header;
        header.0[at..at + 2].copy_from_slice(&value.to_ne_bytes());
        header.read(&frame)
    };
    assert_eq!(with(4, 0), Err(BadOffload), "no size");
    assert_eq!(with(4, 7), Err(BadOffload), "a size that no TCP has");
    assert_eq!(with(6, 33), Err(BadOffload), "TCP where it is not");
    assert_eq!(with(6, 60_000), Err(BadOffload), "behind the end");
    let mut longer = frame.clone();
    longer.push(0);
    assert_eq!(header.read(&longer), Err(BadOffload), "another length than IP says");
    // Nothing to do, whatever the other fields say.
    let mut nothing = header;
    nothing.0[..2].fill(0);
    assert_eq!(nothing.read(&frame), Ok(None));
    assert_eq!(VirtioHeader::write(None, &frame), VirtioHeader::default());
}

#[test]
fn headers_that_were_taken_off_leave_nothing_to_do() {
    let packet = a_packet_of_v4();
    let (header, frame) = unfinished(packet, 1, 100);
    let offload = header.read(&frame).unwrap().unwrap();
    let word = offload.to_word(128);
    assert_eq!(Offload::from_word(word, 128), Some(offload));
    // IP in front: still there. TCP in front: IP is gone.
    assert_eq!(Offload::from_word(word, 128 + 14).map(Offload::is_large), Some(true));
    assert_eq!(Offload::from_word(word, 128 + 34), None);
    assert_eq!(Offload::from_word(word, 128 + 35), None);
}

fn a_packet_of_v4() -> Vec<u8> {
    Packet {
        v6: false,
        host: 1,
        sequence: 1,
        flags: 0x10,
        identification: 1,
        dont_fragment: true,
        options: 0,
        ttl: 64,
        payload: payload(500, 1),
    }
    .build()
}

/// IPv6 extension headers in front of TCP are copied; a fragment header is refused.
#[test]
fn extension_headers_are_walked() {
    let (mut header, mut frame) = unfinished(a_packet_of_v6(3000), 4, 1000);
    // Destination options of 8 bytes: padding.
    frame.splice(54..54, [TCP, 0, 1, 4, 0, 0, 0, 0]);
    frame[20] = 60;
    let length = u16::try_from(frame.len() - 54).unwrap();
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    header.0[6..8].copy_from_slice(&62_u16.to_ne_bytes());
    let offload = header.read(&frame).unwrap().unwrap();
    assert_eq!(offload.segment_length(14), Some(48 + 20 + 1000));
    let pieces = cut(&frame, offload);
    assert_eq!(pieces.len(), 3);
    for piece in &pieces {
        assert_eq!(piece[54..62], frame[54..62]);
        let mut without = piece.clone();
        without.drain(54..62);
        without[20] = TCP;
        let length = u16::try_from(without.len() - 54).unwrap();
        without[18..20].copy_from_slice(&length.to_be_bytes());
        assert!(is_right(&without));
    }
    frame[20] = 44;
    assert_eq!(header.read(&frame), Err(BadOffload));
}

/// The checksum is of the final destination (RFC 8200 section 8.1), which a routing header with segments left holds.
#[test]
fn a_routing_header_keeps_the_final_destination_in_the_checksum() {
    let tcp = a_packet_of_v6(3000);
    let mut udp = Vec::new();
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let datagrams = ethernet.ipv6([0x20; 16], [0x21; 16], 64).udp(1000, 443);
    datagrams.write(&mut udp, &payload(3000, 3)).unwrap();
    for (whole, kind, protocol) in [(tcp, 4, TCP), (udp, 5, UDP)] {
        let (mut header, mut frame) = unfinished(whole, kind, 1000);
        let destination: [u8; 16] = frame[38..54].try_into().unwrap();
        // RFC 8754: two units of eight bytes more, type 4, one segment left, the last entry is the first.
        let routing = [&[protocol, 2, 4, 1, 0, 0, 0, 0][..], &destination].concat();
        frame.splice(54..54, routing.clone());
        frame[20] = 43;
        frame[38..54].fill(0x77);
        let length = u16::try_from(frame.len() - 54).unwrap();
        frame[18..20].copy_from_slice(&length.to_be_bytes());
        header.0[6..8].copy_from_slice(&78_u16.to_ne_bytes());
        let pieces = cut(&frame, header.read(&frame).unwrap().unwrap());
        assert_eq!(pieces.len(), 3);
        for piece in &pieces {
            assert_eq!((&piece[38..54], &piece[54..78]), (&[0x77; 16][..], &routing[..]));
            let mut without = piece.clone();
            without[38..54].copy_from_slice(&destination);
            without.drain(54..78);
            without[20] = protocol;
            let length = u16::try_from(without.len() - 54).unwrap();
            without[18..20].copy_from_slice(&length.to_be_bytes());
            assert!(is_right(&without), "protocol {protocol}");
        }
    }
}

fn a_packet_of_v6(length: usize) -> Vec<u8> {
    Packet {
        v6: true,
        host: 1,
        sequence: 1,
        flags: 0x10,
        identification: 0,
        dont_fragment: true,
        options: 0,
        ttl: 64,
        payload: payload(length, 1),
    }
    .build()
}
