//! Real devices: rings, packet sockets on veths, in network namespaces of their own, without hugepages.
//!
//! Needs root. One process, one EAL: the tests share it.

mod xdp;

use std::{
    os::fd::{AsFd, OwnedFd},
    process::Command,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use dpdk::{
    Burst, Device, Eal, Environment, Error, Mempool, MempoolConfig, Options, Port, PortConfig, RxQueue,
    Started, TxQueue, derive, on_thread_in_netns,
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind, recv, send,
        socket,
    },
};

/// One at a time: they share EAL's ports, and descriptors are counted.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn eal() -> (Eal, Mempool) {
    static SHARED: OnceLock<(Eal, Mempool)> = OnceLock::new();
    SHARED
        .get_or_init(|| {
            let derived = derive(&Environment::detect(), &Options { memory: Some(64), ..Options::default() });
            let eal = Eal::init("dpdk-tests", &derived.arguments).unwrap();
            let config = MempoolConfig { buffers: 4095, cache: 64, ..MempoolConfig::default() };
            (eal, Mempool::create(eal, "tests", &config).unwrap())
        })
        .clone()
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root for network namespaces");
    }
    root
}

fn run(command: &str) {
    let status = Command::new("sh").args(["-ec", command]).status().unwrap();
    assert!(status.success(), "{command}");
}

/// A network namespace, gone with this value.
struct Netns {
    name: String,
}

impl Netns {
    fn new(name: &str) -> Self {
        let name = format!("dpdk-test-{name}-{}", std::process::id());
        run(&format!("ip netns add {name}; ip -n {name} link set lo up"));
        Self { name }
    }

    fn ip(&self, arguments: &str) {
        run(&format!("ip -n {} {arguments}", self.name));
    }

    fn sh(&self, command: &str) {
        run(&format!("ip netns exec {} sh -ec '{command}'", self.name));
    }

    fn fd(&self) -> OwnedFd {
        std::fs::File::open(format!("/run/netns/{}", self.name)).unwrap().into()
    }

    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on_thread_in_netns(self.fd(), work).unwrap()
    }

    /// A packet socket on an interface, which receives for at most a second.
    fn packet_socket(&self, interface: &str) -> OwnedFd {
        self.run(|| {
            let all = SockProtocol::EthAll;
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, all).unwrap();
            let index = nix::net::if_::if_nametoindex(interface).unwrap();
            // SAFETY: zero is a value of the structure.
            let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            address.sll_family = 17;
            address.sll_protocol = u16::to_be(3);
            address.sll_ifindex = index.cast_signed();
            // SAFETY: the pointer and length are those of a filled address.
            let address = unsafe {
                LinkAddr::from_raw(
                    (&raw const address).cast(),
                    Some(u32::try_from(size_of::<libc::sockaddr_ll>()).unwrap()),
                )
            };
            bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &address.unwrap()).unwrap();
            let second = nix::sys::time::TimeVal::new(1, 0);
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::ReceiveTimeout, &second)
                .unwrap();
            socket
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

fn start(device: &Device, eal: Eal, pool: &Mempool) -> (Port<Started>, RxQueue, TxQueue) {
    let port = device.probe(eal).unwrap().configure(&PortConfig::default(), pool).unwrap();
    let (port, mut rx, mut tx) = port.start().unwrap();
    (port, rx.remove(0), tx.remove(0))
}

fn frame(length: usize, number: u8) -> Vec<u8> {
    let mut frame = vec![number; length];
    // A broadcast of a local experimental EtherType.
    frame[..14].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    frame
}

fn is_ours(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x88, 0xb5])
}

/// Sleeps on the queue's descriptor until a frame of ours is there.
fn receive(rx: &mut RxQueue, limit: Duration) -> Option<Vec<u8>> {
    let end = Instant::now() + limit;
    let mut burst = Burst::<32>::new();
    loop {
        rx.arm();
        rx.receive(&mut burst);
        if let Some(packet) = burst.iter().find(|packet| is_ours(packet.data())) {
            let data = packet.data().to_vec();
            rx.disarm();
            return Some(data);
        }
        burst.clear();
        let left = end.checked_duration_since(Instant::now())?;
        let timeout = PollTimeout::try_from(left).unwrap();
        poll(&mut [PollFd::new(rx.wait_fd().expect("a descriptor"), PollFlags::POLLIN)], timeout).unwrap();
        rx.disarm();
    }
}

fn send_frame(tx: &mut TxQueue, pool: &Mempool, bytes: &[u8]) {
    let mut packet = pool.alloc().unwrap();
    assert!(packet.copy_from_slice(bytes));
    let mut burst = Burst::<1>::new();
    burst.push(packet).unwrap();
    assert_eq!(tx.send(&mut burst), 1);
}

fn receive_on(socket: &OwnedFd) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 70_000];
    loop {
        let length = recv(std::os::fd::AsRawFd::as_raw_fd(socket), &mut buffer, MsgFlags::empty()).ok()?;
        if is_ours(&buffer[..length]) {
            return Some(buffer[..length].to_vec());
        }
    }
}

fn send_on(socket: &OwnedFd, bytes: &[u8]) {
    assert_eq!(send(std::os::fd::AsRawFd::as_raw_fd(socket), bytes, MsgFlags::empty()).unwrap(), bytes.len());
}

#[test]
fn ring_gives_back_what_was_sent_and_leaks_nothing() {
    let _alone = alone();
    let (eal, pool) = eal();
    let before = pool.in_use();
    let (port, mut rx, mut tx) = start(&Device::ring("leak"), eal, &pool);
    assert_eq!(port.driver(), "net_ring");

    let mut burst = Burst::<64>::new();
    assert!(pool.alloc_burst(&mut burst, 40));
    for (number, packet) in burst.iter_mut().enumerate() {
        assert!(packet.copy_from_slice(&frame(60 + number, 1)));
    }
    assert_eq!(tx.send(&mut burst), 40);
    assert!(burst.is_empty());
    assert_eq!(rx.receive(&mut burst), 40);
    assert!(burst.iter().enumerate().all(|(number, packet)| packet.data() == frame(60 + number, 1)));

    // Every way out of a burst.
    let popped = burst.pop().unwrap();
    assert_eq!(popped.len(), 60 + 39);
    let removed = burst.swap_remove(0).unwrap();
    assert_eq!((removed.len(), burst[0].len(), burst.len()), (60, 60 + 38, 38));
    burst.retain(|packet| packet.len() % 2 == 0);
    assert_eq!(burst.len(), 19);
    assert_eq!(burst.drain().take(3).count(), 3);
    assert!(burst.is_empty());
    drop((popped, removed));

    drop((rx, tx));
    port.close().unwrap();
    assert_eq!(pool.in_use(), before);
}

#[test]
fn what_the_device_does_not_take_stays_in_the_burst() {
    let _alone = alone();
    let (eal, pool) = eal();
    let before = pool.in_use();
    let (port, mut rx, mut tx) = start(&Device::ring("full"), eal, &pool);
    let (mut sent, mut burst) = (0, Burst::<256>::new());
    loop {
        assert!(pool.alloc_burst(&mut burst, 256), "the ring is smaller than the pool");
        for packet in burst.iter_mut() {
            sent += 1;
            assert!(packet.copy_from_slice(&u32::to_be_bytes(sent)));
        }
        if tx.send(&mut burst) < 256 {
            break;
        }
    }
    // The rest is what was not accepted, in order.
    let accepted = sent - u32::try_from(burst.len()).unwrap();
    assert_eq!(burst[0].data(), u32::to_be_bytes(accepted + 1));
    burst.clear();
    let mut received = 0;
    while rx.receive(&mut burst) > 0 {
        for packet in burst.drain() {
            received += 1;
            assert_eq!(packet.data(), u32::to_be_bytes(received));
        }
    }
    assert_eq!(received, accepted);
    drop((rx, tx));
    port.close().unwrap();
    assert_eq!(pool.in_use(), before);
}

#[test]
fn a_device_has_one_owner_and_closes_when_its_queues_are_back() {
    let _alone = alone();
    let (eal, pool) = eal();
    let device = Device::ring("owner");
    let (port, rx, tx) = start(&device, eal, &pool);
    assert!(matches!(device.probe(eal), Err(Error::Probe { .. })));
    drop(rx);
    let (port, error) = port.close().unwrap_err();
    assert!(matches!(error, Error::QueuesInUse { count: 1, .. }), "{error}");
    // On whichever thread they end.
    std::thread::spawn(move || drop(tx)).join().unwrap();
    port.close().unwrap();
    let (port, rx, tx) = start(&device, eal, &pool);
    drop((rx, tx));
    port.close().unwrap();
}

#[test]
fn packets_keep_within_their_buffer() {
    let _alone = alone();
    let (_, pool) = eal();
    let mut packet = pool.alloc().unwrap();
    assert_eq!((packet.len(), packet.headroom(), packet.tailroom()), (0, 128, 2048));
    assert!(!packet.copy_from_slice(&[0; 2049]) && packet.is_empty());
    assert!(packet.copy_from_slice(b"payload"));
    assert!(!packet.prepend(129) && !packet.prepend(usize::MAX) && !packet.trim_front(8));
    assert!(packet.prepend(128) && packet.headroom() == 0);
    packet.data_mut()[..128].fill(7);
    assert!(packet.trim_front(120));
    assert_eq!(packet.data(), b"\x07\x07\x07\x07\x07\x07\x07\x07payload");
    packet.truncate(100);
    assert_eq!(packet.len(), 15);
    packet.truncate(9);
    assert_eq!(packet.data(), b"\x07\x07\x07\x07\x07\x07\x07\x07p");
    assert!(packet.append(2048).is_none());
    packet.append(2).unwrap().copy_from_slice(b"ai");
    assert_eq!(&packet.data()[8..], b"pai");
    assert_eq!(packet.rss_hash(), None);
}

#[test]
fn an_empty_pool_says_so() {
    let _alone = alone();
    let (eal, _) = eal();
    let config = MempoolConfig { buffers: 63, cache: 0, ..MempoolConfig::default() };
    let pool = Mempool::create(eal, "small", &config).unwrap();
    assert!(matches!(Mempool::create(eal, "small", &config), Err(Error::Mempool { .. })));
    let mut burst = Burst::<128>::new();
    assert!(!pool.alloc_burst(&mut burst, 64) && burst.is_empty());
    assert!(pool.alloc_burst(&mut burst, 63) && pool.alloc().is_none());
    drop(burst);
    assert_eq!(pool.available(), 63);
}

#[test]
fn threads_register_and_are_pinned() {
    let _alone = alone();
    let (eal, _) = eal();
    assert_eq!(dpdk::CpuSet::of_this_thread().unwrap(), Environment::detect().cpus_allowed);
    let cpu = Environment::detect().cpus_allowed.iter().next_back().unwrap();
    std::thread::spawn(move || {
        let worker = eal.register_thread(Some(cpu)).unwrap();
        assert_ne!(worker.lcore(), 0);
        assert_eq!(dpdk::CpuSet::of_this_thread().unwrap().iter().collect::<Vec<_>>(), [cpu]);
    })
    .join()
    .unwrap();
    assert!(matches!(eal.register_thread(Some(1023)), Err(Error::Pin { cpu: 1023, .. })));
    assert!(matches!(Eal::init("again", &[]), Err(Error::AlreadyInitialised)));
}

#[test]
fn frames_cross_a_veth_in_another_namespace() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let (eal, pool) = eal();
    let before = pool.in_use();
    let netns = Netns::new("veth");
    netns.ip("link add port type veth peer name peer");
    netns.ip("link set port up");
    netns.ip("link set peer up");
    let device = Device::af_packet("port");
    assert!(matches!(device.probe(eal), Err(Error::NoInterface { .. })), "not in this namespace");
    let (mut port, mut rx, mut tx) = netns.run(|| start(&device, eal, &pool));
    assert_eq!(port.driver(), "net_af_packet");
    let peer = netns.packet_socket("peer");

    // Both ways, every length from the shortest to the largest.
    for length in [14, 15, 59, 60, 61, 127, 128, 1000, 1513, 1514] {
        let sent = frame(length, 0x5a);
        send_on(&peer, &sent);
        assert_eq!(receive(&mut rx, Duration::from_secs(5)).unwrap(), sent);
        send_frame(&mut tx, &pool, &sent);
        assert_eq!(receive_on(&peer).unwrap(), sent);
    }
    // What we send does not come back.
    assert_eq!(receive(&mut rx, Duration::from_millis(50)), None);

    // From this thread, in another namespace than the device.
    assert!(port.link().unwrap().up);
    port.set_mtu(1900).unwrap();
    assert_eq!(port.mtu().unwrap(), 1900);
    netns.ip("link set peer mtu 1900");
    let large = frame(1914, 1);
    send_on(&peer, &large);
    assert_eq!(receive(&mut rx, Duration::from_secs(5)).unwrap(), large);
    assert!(matches!(port.set_mtu(9000), Err(Error::Mtu { max: 1964, .. })));
    port.set_promiscuous(true).unwrap();
    port.set_mac([2, 0, 0, 0, 0, 0x77]).unwrap();
    assert_eq!(port.mac().unwrap(), [2, 0, 0, 0, 0, 0x77]);

    // A link that goes down wakes once, is seen, and comes back.
    netns.ip("link set peer down");
    let started = Instant::now();
    while port.link().unwrap().up {
        assert!(started.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(5));
    }
    netns.ip("link set port down");
    rx.disarm();
    netns.ip("link set port up");
    netns.ip("link set peer up");
    rx.disarm();
    let started = Instant::now();
    let mut burst = Burst::<32>::new();
    // The peer's kernel says this and that when its link comes up; after that it is quiet.
    while poll(&mut [PollFd::new(rx.wait_fd().unwrap(), PollFlags::POLLIN)], PollTimeout::from(100_u8))
        .unwrap()
        > 0
    {
        assert!(started.elapsed() < Duration::from_secs(30), "woken again and again");
        rx.receive(&mut burst);
        burst.clear();
        rx.disarm();
    }
    let _ = nix::sys::socket::getsockopt(&peer, nix::sys::socket::sockopt::SocketError);
    send_on(&peer, &large);
    assert_eq!(receive(&mut rx, Duration::from_secs(5)).unwrap(), large);

    // The interface goes away under the port.
    netns.ip("link del port");
    assert!(port.link().is_err());
    rx.receive(&mut burst);
    drop((rx, tx, burst));
    port.close().unwrap();
    assert_eq!(pool.in_use(), before);
}

#[test]
fn fragments_arrive_as_they_were_sent() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let (eal, pool) = eal();
    let netns = Netns::new("frag");
    let host = Netns::new("fraghost");
    netns.ip(&format!("link add port type veth peer name peer netns {}", host.name));
    netns.ip("link set port up");
    host.ip("link set peer up");
    host.ip("addr add 192.0.2.1/24 dev peer");
    host.ip("neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev peer");
    let (port, mut rx, tx) = netns.run(|| start(&Device::af_packet("port"), eal, &pool));
    host.sh("ping -c1 -W1 -s 3000 192.0.2.2 >/dev/null || true");
    let (mut lengths, limit) = (Vec::new(), Instant::now() + Duration::from_secs(10));
    let mut burst = Burst::<64>::new();
    while lengths.len() < 3 && Instant::now() < limit {
        rx.receive(&mut burst);
        let ipv4 = burst.iter().filter(|packet| packet.data().get(12..14) == Some(&[8, 0]));
        lengths.extend(ipv4.map(dpdk::Mbuf::len));
        burst.clear();
    }
    assert_eq!(lengths, [1514, 1514, 14 + 20 + 48], "3008 bytes of ICMP in three fragments");
    drop((rx, tx, burst));
    port.close().unwrap();
}

#[test]
fn several_queues_share_the_flows() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let (eal, pool) = eal();
    let netns = Netns::new("queues");
    netns.ip("link add port type veth peer name peer");
    netns.ip("link set port up");
    netns.ip("link set peer up");
    let (port, mut rx, tx) = netns.run(|| {
        let config = PortConfig { rx_queues: 2, tx_queues: 2, ..PortConfig::default() };
        Device::af_packet("port")
            .queues(2)
            .probe(eal)
            .unwrap()
            .configure(&config, &pool)
            .unwrap()
            .start()
            .unwrap()
    });
    let peer = netns.packet_socket("peer");
    for flow in 0..64_u8 {
        // IPv4 and UDP: the kernel hashes what it can parse.
        let mut bytes = frame(60, 0);
        bytes[12..14].copy_from_slice(&[8, 0]);
        bytes[14..38].copy_from_slice(&[
            0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x40, flow, 0x12, 0xb5,
        ]);
        send_on(&peer, &bytes);
    }
    let mut counts = [0, 0];
    let mut burst = Burst::<256>::new();
    let limit = Instant::now() + Duration::from_secs(10);
    while counts.iter().sum::<usize>() < 64 && Instant::now() < limit {
        for (queue, count) in rx.iter_mut().zip(&mut counts) {
            queue.receive(&mut burst);
            *count +=
                burst.iter().filter(|packet| packet.len() == 60 && packet.data()[12..14] == [8, 0]).count();
            burst.clear();
        }
    }
    assert_eq!(counts.iter().sum::<usize>(), 64, "{counts:?}");
    assert!(counts.iter().all(|&count| count > 5), "{counts:?}");
    drop((rx, tx));
    port.close().unwrap();
}

#[test]
fn jumbo_frames_need_larger_buffers() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let (eal, pool) = eal();
    let netns = Netns::new("jumbo");
    netns.ip("link add port mtu 9000 type veth peer name peer mtu 9000");
    netns.ip("link set port up");
    netns.ip("link set peer up");
    let device = Device::af_packet("port").max_mtu(9000);
    let refused =
        netns.run(|| device.probe(eal).unwrap().configure(&PortConfig::default(), &pool).unwrap_err());
    assert!(matches!(refused, Error::DataRoom { .. }), "{refused}");
    let config = MempoolConfig {
        buffers: 255,
        cache: 0,
        data_room: u16::try_from(device.data_room()).unwrap(),
        ..MempoolConfig::default()
    };
    let jumbo = Mempool::create(eal, "jumbo", &config).unwrap();
    let (port, mut rx, mut tx) = netns.run(|| start(&device, eal, &jumbo));
    let peer = netns.packet_socket("peer");
    let sent = frame(9014, 9);
    send_on(&peer, &sent);
    assert_eq!(receive(&mut rx, Duration::from_secs(5)).unwrap(), sent);
    send_frame(&mut tx, &jumbo, &sent);
    assert_eq!(receive_on(&peer).unwrap(), sent);
    drop((rx, tx));
    port.close().unwrap();
}

/// A capture file in the classic format.
fn capture(frames: &[Vec<u8>]) -> tempfile::NamedTempFile {
    // Magic, version 2.4, time zone, accuracy, longest frame, Ethernet.
    let mut bytes: Vec<u8> =
        [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1_u32].into_iter().flat_map(u32::to_ne_bytes).collect();
    for frame in frames {
        let length = u32::try_from(frame.len()).unwrap();
        bytes.extend([0, 0, length, length].into_iter().flat_map(u32::to_ne_bytes));
        bytes.extend(frame);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, bytes).unwrap();
    file
}

#[test]
fn a_capture_is_replayed_without_end() {
    let _alone = alone();
    let (eal, pool) = eal();
    let before = pool.in_use();
    let frames = [frame(60, 1), frame(1000, 2), frame(1514, 3)];
    let (port, mut rx, mut tx) = start(&Device::endless_pcap("endless", capture(&frames).path()), eal, &pool);
    assert_eq!(port.driver(), "net_pcap");
    let mut burst = Burst::<32>::new();
    let mut number = 0;
    for _ in 0..100 {
        assert_eq!(rx.receive(&mut burst), 32);
        for packet in burst.iter() {
            assert_eq!(packet.data(), frames[number % 3]);
            number += 1;
        }
        // The sink takes all of it.
        assert_eq!(tx.send(&mut burst), 32);
    }
    drop((rx, tx));
    port.close().unwrap();
    assert_eq!(pool.in_use(), before);
}

#[test]
fn chained_packets_are_dropped_and_counted() {
    let _alone = alone();
    let (eal, pool) = eal();
    let before = pool.in_use();
    // The driver chains what does not fit one buffer.
    let frames =
        [frame(3000, 1), frame(60, 2), frame(5000, 3), frame(4000, 4), frame(1000, 5), frame(2049, 6)];
    let file = capture(&frames);
    let device = Device::virtual_device("net_pcap", "once", &format!("rx_pcap={}", file.path().display()));
    let (port, mut rx, tx) = start(&device, eal, &pool);
    let mut burst = Burst::<32>::new();
    while rx.receive(&mut burst) > 0 {}
    assert_eq!(burst.iter().map(dpdk::Mbuf::data).collect::<Vec<_>>(), [&frames[1], &frames[4]]);
    assert_eq!(port.stats().unwrap().rx_too_big, 4);
    drop((rx, tx, burst));
    port.close().unwrap();
    assert_eq!(pool.in_use(), before);
}

/// What the kernel had no room for.
#[test]
fn what_a_packet_socket_misses_is_counted() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let (eal, pool) = eal();
    let netns = Netns::new("missed");
    netns.ip("link add port type veth peer name peer");
    netns.ip("link set peer up");
    let (port, mut rx, tx) = netns.run(|| start(&Device::af_packet("port"), eal, &pool));
    let peer = netns.packet_socket("peer");
    let mut last = 0;
    for round in 1..=2 {
        for number in 0..1000_u32 {
            send_on(&peer, &frame(60, number.to_le_bytes()[0]));
        }
        let mut received = 0;
        let mut burst = Burst::<32>::new();
        while rx.receive(&mut burst) > 0 {
            received += burst.iter().filter(|packet| is_ours(packet.data())).count() as u64;
            burst.clear();
        }
        let missed = port.stats().unwrap().rx_missed;
        assert!(received < 1000 && received + (missed - last) >= 1000, "round {round}: {received} {missed}");
        assert_eq!(port.stats().unwrap().rx_missed, missed, "and stays");
        last = missed;
    }
    drop((rx, tx));
    port.close().unwrap();
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    let _alone = alone();
    let (eal, pool) = eal();
    for (device, says) in [
        (
            Device::af_packet("dpdk-test-none"),
            "interface dpdk-test-none does not exist in this network namespace",
        ),
        (Device::pci("0000:ff:1f.7".parse().unwrap()), "cannot probe 0000:ff:1f.7: "),
        (Device::virtual_device("net_nothing", "0", ""), "cannot probe net_nothing_0: "),
        (Device::endless_pcap("none", std::path::Path::new("/nonexistent")), "cannot probe net_pcap_none,"),
        (Device::af_packet("a,b=c"), "cannot probe"),
        (Device::af_packet("a\0"), "cannot probe"),
    ] {
        let error = device.probe(eal).unwrap_err().to_string();
        assert!(error.starts_with(says), "{error}");
    }
    let many = PortConfig { rx_queues: 2000, ..PortConfig::default() };
    let error = Device::null("many").probe(eal).unwrap().configure(&many, &pool).unwrap_err();
    assert!(matches!(error, Error::Device { operation: "configuring", .. }), "{error}");
}

#[test]
fn descriptors_come_back() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let (eal, pool) = eal();
    let netns = Netns::new("fds");
    netns.ip("link add port type veth peer name peer");
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut counts = Vec::new();
    for _ in 0..4 {
        let (port, rx, tx) = netns.run(|| start(&Device::af_packet("port"), eal, &pool));
        assert!(rx.wait_fd().is_some_and(|fd| fd.as_fd().try_clone_to_owned().is_ok()));
        drop((rx, tx));
        port.close().unwrap();
        counts.push(open());
    }
    assert!(counts[1..].windows(2).all(|pair| pair[0] == pair[1]), "{counts:?}");
}
