//! What can go wrong between us and DPDK.

use nix::errno::Errno;

/// An error of DPDK or of the kernel behind one of its drivers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// EAL starts once per process.
    #[error("EAL runs already in this process")]
    AlreadyInitialised,
    /// An argument for EAL or a device that C cannot take.
    #[error("argument {argument:?} contains a NUL byte")]
    NulByte {
        /// The argument.
        argument: String,
    },
    /// `rte_eal_init` failed; its own messages on standard error say more.
    #[error("EAL did not start with {arguments:?}: {errno}")]
    EalInit {
        /// The arguments it was given.
        arguments: Vec<String>,
        /// Why, as far as EAL tells.
        errno: Errno,
    },
    /// A driver or library has the flag of packets that says that there is a [note](crate::Mbuf::note).
    #[error("cannot reserve a flag of packets: {errno}")]
    NoteFlag {
        /// Why.
        errno: Errno,
    },
    /// The calling thread could not become an EAL thread. At most 128 can at a time.
    #[error("cannot register the calling thread with EAL: {errno}")]
    RegisterThread {
        /// Why.
        errno: Errno,
    },
    /// The calling thread may not run there.
    #[error("cannot pin the calling thread to CPU {cpu}: {errno}")]
    Pin {
        /// The CPU.
        cpu: u32,
        /// Why.
        errno: Errno,
    },
    /// No room for the buffers, or a name in use.
    #[error("cannot create mempool {name} of {buffers} buffers of {data_room} bytes: {errno}")]
    Mempool {
        /// Its name.
        name: String,
        /// How many buffers were asked for.
        buffers: u32,
        /// Bytes per buffer.
        data_room: u16,
        /// Why.
        errno: Errno,
    },
    /// A Linux interface that the device needs does not exist in the calling thread's network namespace.
    #[error("interface {interface} does not exist in this network namespace")]
    NoInterface {
        /// Its name.
        interface: String,
    },
    /// The driver refused the device, or there is no driver for it.
    #[error("cannot probe {device}: {errno}")]
    Probe {
        /// The device's argument string.
        device: String,
        /// Why.
        errno: Errno,
    },
    /// The driver accepted the device without making a port of it.
    #[error("{device} was probed, but no port of that name appeared")]
    NoPort {
        /// The device's name.
        device: String,
    },
    /// An operation on a device failed.
    #[error("{operation} of {device}: {errno}")]
    Device {
        /// What was tried.
        operation: &'static str,
        /// On which device.
        device: String,
        /// Why.
        errno: Errno,
    },
    /// Frames of this size do not fit the mempool's buffers.
    #[error(
        "{device} needs buffers of {needed} bytes, those of mempool {mempool} have {data_room}: lower the MTU or raise the mempool's data room"
    )]
    DataRoom {
        /// The device.
        device: String,
        /// Bytes it needs, headroom included.
        needed: u32,
        /// The mempool.
        mempool: String,
        /// Bytes the mempool's buffers have, headroom included.
        data_room: u16,
    },
    /// The device carries no packets of that size.
    #[error("{device} cannot have an MTU of {mtu} bytes: {min} to {max} are possible")]
    Mtu {
        /// The device.
        device: String,
        /// What was asked for, bytes.
        mtu: u16,
        /// Smallest possible, bytes.
        min: u16,
        /// Largest possible, bytes.
        max: u16,
    },
    /// AF_XDP sockets cannot carry the packets of an interface, or not without loss; packet sockets may.
    #[error("AF_XDP does not suit {device}: {why}")]
    NoAfXdp {
        /// The device.
        device: String,
        /// What is in the way, and what helps.
        why: String,
    },
    /// More memory that cannot be swapped than the process may have.
    #[error(
        "{device} needs {bytes} bytes of locked memory for each of its queues: raise RLIMIT_MEMLOCK (ulimit -l) or give CAP_IPC_LOCK"
    )]
    LockedMemory {
        /// The device.
        device: String,
        /// For one queue, bytes.
        bytes: usize,
    },
    /// A port closes when all its queues have come back.
    #[error("{device} cannot close: {count} of its queues are in use")]
    QueuesInUse {
        /// The device.
        device: String,
        /// Queues somebody still owns.
        count: usize,
    },
}

/// The error behind a negative return value, or behind `rte_errno` where -1 says only that there is one.
pub(crate) fn errno_of(ret: i32) -> Errno {
    let code = if ret < -1 { -ret } else { dpdk_sys::shim_errno() };
    // 0 would read as "success": a driver that fails without a reason.
    if code == 0 { Errno::EIO } else { Errno::from_raw(code) }
}
