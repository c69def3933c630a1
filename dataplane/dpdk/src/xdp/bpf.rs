//! Two BPF programs of a few instructions, without a compiler or a library: bpf(2).
//!
//! What is attached lives as long as its descriptor: a process that dies leaves nothing behind on its interfaces.

use std::{
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::atomic::AtomicU64,
};

use nix::errno::Errno;

// From linux/bpf.h.
const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_XSKMAP: u32 = 17;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_PSEUDO_MAP_FD: u8 = 1;
const BPF_FUNC_MAP_LOOKUP_ELEM: i32 = 1;
const BPF_FUNC_REDIRECT_MAP: i32 = 51;
/// Offset of `rx_queue_index` in `struct xdp_md`.
const RX_QUEUE_INDEX: i16 = 16;
const XDP_DROP: i32 = 1;
const XDP_REDIRECT: i32 = 4;
const TC_ACT_SHOT: i32 = 2;

/// How an XDP program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// In the driver: `XDP_FLAGS_DRV_MODE`.
    Native,
    /// In the kernel's receive path, with any driver: `XDP_FLAGS_SKB_MODE`.
    Generic,
}

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Instruction {
    code: u8,
    /// Destination in the lower half, source in the upper.
    registers: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    /// `BPF_ALU64 | BPF_MOV | BPF_K`: a register becomes a number.
    const fn set(register: u8, immediate: i32) -> Self {
        Self { code: 0xb7, registers: register, offset: 0, immediate }
    }

    /// `BPF_LDX | BPF_MEM | BPF_W`: a register becomes a word at another one's address.
    const fn load(to: u8, from: u8, offset: i16) -> Self {
        Self { code: 0x61, registers: to | (from << 4), offset, immediate: 0 }
    }

    /// `BPF_ALU64 | BPF_MOV | BPF_X`: a register becomes another one.
    const fn copy(to: u8, from: u8) -> Self {
        Self { code: 0xbf, registers: to | (from << 4), offset: 0, immediate: 0 }
    }

    /// `BPF_ALU64 | BPF_ADD | BPF_K`: adds a number.
    const fn add(register: u8, immediate: i32) -> Self {
        Self { code: 0x07, registers: register, offset: 0, immediate }
    }

    /// `BPF_ST | BPF_MEM | BPF_W`: the word at a register's address becomes a number.
    const fn store(register: u8, offset: i16, immediate: i32) -> Self {
        Self { code: 0x62, registers: register, offset, immediate }
    }

    /// `BPF_STX | BPF_ATOMIC | BPF_DW`, `BPF_ADD`: adds a register to the number at another one's address.
    const fn atomic_add(at: u8, register: u8) -> Self {
        Self { code: 0xdb, registers: at | (register << 4), offset: 0, immediate: 0 }
    }

    /// `BPF_JMP | BPF_JEQ | BPF_K`: leaves out `over` instructions if a register is a number.
    const fn skip_if(register: u8, immediate: i32, over: i16) -> Self {
        Self { code: 0x15, registers: register, offset: over, immediate }
    }

    /// `BPF_JMP | BPF_CALL`.
    const fn call(function: i32) -> Self {
        Self { code: 0x85, registers: 0, offset: 0, immediate: function }
    }

    /// `BPF_JMP | BPF_EXIT`.
    const fn exit() -> Self {
        Self { code: 0x95, registers: 0, offset: 0, immediate: 0 }
    }

    /// `BPF_LD | BPF_IMM | BPF_DW`, which takes the place of two: a register becomes a map.
    const fn map(register: u8, map: RawFd) -> [Self; 2] {
        let first =
            Self { code: 0x18, registers: register | (BPF_PSEUDO_MAP_FD << 4), offset: 0, immediate: map };
        [first, Self { code: 0, registers: 0, offset: 0, immediate: 0 }]
    }
}

/// AF_XDP sockets by number of the receive queue (`BPF_MAP_TYPE_XSKMAP`), and a counter of packets of queues without one.
#[derive(Debug)]
pub(super) struct SocketMap {
    sockets: OwnedFd,
    counter: Counter,
}

/// A number in the kernel (a `BPF_MAP_TYPE_ARRAY` of one).
#[derive(Debug)]
pub(super) struct Counter(OwnedFd);

impl Counter {
    /// As it is now.
    pub(super) fn read(&self) -> Result<u64, Errno> {
        let (key, value) = (0_u32, AtomicU64::new(0));
        let mut attributes = MapElement::new(&self.0, &key, value.as_ptr().expose_provenance() as u64);
        bpf(BPF_MAP_LOOKUP_ELEM, &mut attributes)?;
        Ok(value.into_inner())
    }
}

#[repr(C)]
struct MapElement {
    map: u32,
    _padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl MapElement {
    fn new(map: &OwnedFd, key: &u32, value: u64) -> Self {
        Self { map: number(map), _padding: 0, key: address_of(key), value, flags: 0 }
    }
}

fn make_map(kind: u32, value_size: u32, entries: u32) -> Result<OwnedFd, Errno> {
    #[repr(C)]
    struct Attributes {
        kind: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
    }
    let mut attributes = Attributes { kind, key_size: 4, value_size, max_entries: entries };
    bpf_fd(BPF_MAP_CREATE, &mut attributes)
}

impl SocketMap {
    /// For queues below `entries`.
    pub(super) fn new(entries: u32) -> Result<Self, Errno> {
        let sockets = make_map(BPF_MAP_TYPE_XSKMAP, 4, entries)?;
        Ok(Self { sockets, counter: Counter(make_map(BPF_MAP_TYPE_ARRAY, 8, 1)?) })
    }

    /// Packets of `queue` are for `socket`.
    pub(super) fn insert(&self, queue: u32, socket: &OwnedFd) -> Result<(), Errno> {
        let value = socket.as_raw_fd();
        let mut attributes = MapElement::new(&self.sockets, &queue, address_of(&value));
        bpf(BPF_MAP_UPDATE_ELEM, &mut attributes).map(drop)
    }

    /// Counts packets that were dropped because they came by a queue without a socket.
    pub(super) fn into_counter(self) -> Counter {
        self.counter
    }

    /// Attaches the program that gives an interface's packets to the sockets; those of other queues are counted and dropped. The
    /// interface is one of the calling thread's network namespace.
    pub(super) fn attach(&self, interface: i32, mode: Mode) -> Result<OwnedFd, Errno> {
        let [sockets_low, sockets_high] = Instruction::map(1, self.sockets.as_raw_fd());
        let [counter_low, counter_high] = Instruction::map(1, self.counter.0.as_raw_fd());
        let program = load(
            BPF_PROG_TYPE_XDP,
            &[
                Instruction::load(2, 1, RX_QUEUE_INDEX),
                sockets_low,
                sockets_high,
                Instruction::set(3, XDP_DROP),
                Instruction::call(BPF_FUNC_REDIRECT_MAP),
                Instruction::skip_if(0, XDP_REDIRECT, 10),
                // The key, on the stack.
                Instruction::store(10, -4, 0),
                Instruction::copy(2, 10),
                Instruction::add(2, -4),
                counter_low,
                counter_high,
                Instruction::call(BPF_FUNC_MAP_LOOKUP_ELEM),
                Instruction::skip_if(0, 0, 2),
                Instruction::set(1, 1),
                Instruction::atomic_add(0, 1),
                Instruction::set(0, XDP_DROP),
                Instruction::exit(),
            ],
        )?;
        let flags = match mode {
            Mode::Native => 1 << 2,
            Mode::Generic => 1 << 1,
        };
        link(&program, interface, BPF_XDP, flags)
    }
}

/// Drops what an interface receives, once packet sockets have seen it and before the kernel's protocols would.
/// Takes Linux 6.6. The interface is one of the calling thread's network namespace.
pub(crate) fn drop_behind_packet_sockets(interface: i32) -> Result<OwnedFd, Errno> {
    let program = load(BPF_PROG_TYPE_SCHED_CLS, &[Instruction::set(0, TC_ACT_SHOT), Instruction::exit()])?;
    link(&program, interface, BPF_TCX_INGRESS, 0)
}

fn load(kind: u32, instructions: &[Instruction]) -> Result<OwnedFd, Errno> {
    #[repr(C)]
    struct Attributes {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
    }
    let license = c"Apache-2.0";
    let mut attributes = Attributes {
        kind,
        count: u32::try_from(instructions.len()).map_err(|_| Errno::E2BIG)?,
        instructions: instructions.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    bpf_fd(BPF_PROG_LOAD, &mut attributes)
}

fn link(program: &OwnedFd, interface: i32, place: u32, flags: u32) -> Result<OwnedFd, Errno> {
    #[repr(C)]
    struct Attributes {
        program: u32,
        interface: u32,
        place: u32,
        flags: u32,
    }
    let mut attributes =
        Attributes { program: number(program), interface: interface.cast_unsigned(), place, flags };
    bpf_fd(BPF_LINK_CREATE, &mut attributes)
}

fn number(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn address_of<T>(value: &T) -> u64 {
    std::ptr::from_ref(value).expose_provenance() as u64
}

/// A call that answers with a descriptor.
fn bpf_fd<T>(command: libc::c_long, attributes: &mut T) -> Result<OwnedFd, Errno> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the kernel has just made it, close-on-exec, for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf<T>(command: libc::c_long, attributes: &mut T) -> Result<i32, Errno> {
    // SAFETY: the callers pass the structure that belongs to the command, a prefix of `union bpf_attr` without implicit padding;
    // what it points to outlives the call.
    let ret =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    Errno::result(ret)?;
    // Descriptors are small.
    i32::try_from(ret).map_err(|_| Errno::EIO)
}
