//! A VLAN tag beside a frame, as the kernel's VLAN devices leave it to their interface.

use std::{
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

use dpdk::Device;
use nix::errno::Errno;

use super::super::{Netns, alone, eal, frame, is_root, receive, send_on, start};
use super::{open, veth};

/// VLAN 7.
const TAG: [u8; 4] = [0x81, 0, 0, 7];

/// Puts a tag beside every frame that an interface sends (`bpf_skb_vlan_push`), as long as the descriptor is open. `None` on a kernel
/// without TCX, which came with Linux 6.6.
fn tag_what_is_sent(netns: &Netns, interface: &str) -> Option<OwnedFd> {
    // From linux/bpf.h.
    const PROG_LOAD: i64 = 5;
    const LINK_CREATE: i64 = 28;
    const SCHED_CLS: u32 = 3;
    const TCX_EGRESS: u32 = 47;
    const VLAN_PUSH: i32 = 18;
    // The code, registers (destination, then source), an offset and a number of `struct bpf_insn`.
    let instruction = |code: u8, register: u8, number: i32| {
        u64::from_ne_bytes(
            [&[code, register, 0, 0][..], &number.to_ne_bytes()].concat().try_into().expect("eight bytes"),
        )
    };
    let set = |register, number| instruction(0xb7, register, number);
    let program = [
        set(2, i32::from(u16::from_ne_bytes([TAG[0], TAG[1]]))),
        set(3, 7),
        instruction(0x85, 0, VLAN_PUSH),
        // TCX_PASS.
        set(0, 0),
        instruction(0x95, 0, 0),
    ];
    let call = |command: i64, attributes: &mut [u32]| {
        // SAFETY: the attributes are those of the command, and what they point to outlives the call.
        let fd = unsafe {
            libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(attributes))
        };
        let fd = Errno::result(fd).map(|fd| i32::try_from(fd).unwrap())?;
        // SAFETY: the kernel has just made it.
        Ok::<_, Errno>(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    let halves = |address: usize| {
        let bytes = u64::try_from(address).unwrap().to_ne_bytes();
        [0, 4].map(|at| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap()))
    };
    let count = u32::try_from(program.len()).unwrap();
    let [code_low, code_high] = halves(program.as_ptr().expose_provenance());
    let [license_low, license_high] = halves(c"Apache-2.0".as_ptr().expose_provenance());
    // Type, count, instructions, license; log level, size and buffer, kernel version and flags.
    let mut load = [SCHED_CLS, count, code_low, code_high, license_low, license_high, 0, 0, 0, 0, 0, 0];
    let program = call(PROG_LOAD, &mut load).unwrap();
    netns.run(|| {
        let index = nix::net::if_::if_nametoindex(interface).unwrap();
        let mut link = [program.as_raw_fd().cast_unsigned(), index, TCX_EGRESS, 0];
        call(LINK_CREATE, &mut link).ok()
    })
}

fn tagged(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &TAG, &frame[12..]].concat()
}

/// The engine tells frames with a tag by what stands in them.
#[test]
fn a_tag_beside_a_frame_is_seen() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let (eal, pool) = eal();
    let sent = frame(100, 9);
    let next = |rx: &mut dpdk::RxQueue| {
        super::next(rx, |bytes| bytes.ends_with(&sent[14..]) && bytes.len() >= sent.len())
    };

    // A packet socket has it beside the frame too, and the driver puts it back.
    let netns = veth("tag");
    let (port, mut rx, tx) = netns.run(|| start(&Device::af_packet("port"), eal, &pool));
    let peer = netns.packet_socket("peer");
    let Some(link) = tag_what_is_sent(&netns, "peer") else {
        eprintln!("not looked at: TCX came with Linux 6.6");
        return;
    };
    send_on(&peer, &sent);
    assert_eq!(next(&mut rx), tagged(&sent));
    drop((rx, tx, link));
    port.close().unwrap();

    // XDP has not: the sender must put it into the frame.
    let (device, mut rx, tx) = open(&netns, &pool);
    let link = tag_what_is_sent(&netns, "peer");
    netns.sh("ethtool -K peer txvlan off");
    send_on(&peer, &sent);
    assert_eq!(next(&mut rx), tagged(&sent));
    assert_eq!(receive(&mut rx, Duration::from_millis(50)), None, "nothing without its tag");
    drop((rx, tx, link));
    device.close().unwrap();
}
