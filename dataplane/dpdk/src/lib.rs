//! Safe Rust over DPDK: EAL, mempools, packet buffers, ports and queues.
//!
//! This crate and `dpdk-sys` are the only places with DPDK `unsafe`. What the types promise:
//!
//! * An [`Mbuf`] is owned. Dropping it frees it, and nothing else can, so there is no double free to write. A [`Burst`]
//!   owns its packets too, and gives up only those that the device accepted ([`TxQueue::send`]).
//! * A queue has one owner. [`RxQueue`] and [`TxQueue`] come out of [`Port::start`] once; they are neither `Clone` nor
//!   `Sync`, and receiving and sending take `&mut self`. A port closes when all its queues have come back (are dropped).
//! * A port is what its type says: [`Port<Probed>`](Probed), [`Port<Configured>`](Configured), [`Port<Started>`](Started).
//!
//! ```no_run
//! use dpdk::{Burst, Device, Eal, Environment, Mempool, MempoolConfig, Options, PortConfig, derive};
//!
//! # fn main() -> Result<(), dpdk::Error> {
//! let derived = derive(&Environment::detect(), &Options::default());
//! let eal = Eal::init("example", &derived.arguments)?;
//! let pool = Mempool::create(eal, "packets", &MempoolConfig::default())?;
//! let port = Device::af_packet("eth1").probe(eal)?;
//! let port = port.configure(&PortConfig::default(), &pool)?;
//! let (mut port, mut rx, mut tx) = port.start()?;
//! let _worker = eal.register_thread(derived.worker_cpus.first().copied())?;
//! let mut burst = Burst::<64>::new();
//! rx[0].receive(&mut burst);
//! tx[0].send(&mut burst);
//! burst.clear(); // What the device did not take is freed.
//! drop((rx, tx));
//! port.close().map_err(|(_port, error)| error)?;
//! # Ok(()) }
//! ```
//!
//! Two owners of one queue do not compile:
//!
//! ```compile_fail,E0382
//! fn two_owners(queue: dpdk::RxQueue) {
//!     let first = queue;
//!     let second = queue;
//! }
//! ```
//!
//! ```compile_fail,E0599
//! fn two_owners(queue: dpdk::TxQueue) -> [dpdk::TxQueue; 2] {
//!     [queue.clone(), queue]
//! }
//! ```
//!
//! ```compile_fail,E0277
//! fn shared_between_threads(queue: &dpdk::RxQueue) {
//!     std::thread::scope(|scope| {
//!         scope.spawn(|| queue.wait_fd());
//!     });
//! }
//! ```
//!
//! Nor does a double free, nor the use of a packet that was given away:
//!
//! ```compile_fail,E0382
//! fn double_free(packet: dpdk::Mbuf) {
//!     drop(packet);
//!     drop(packet);
//! }
//! ```
//!
//! ```compile_fail,E0382
//! fn use_after_push(packet: dpdk::Mbuf, burst: &mut dpdk::Burst) {
//!     burst.push(packet).ok();
//!     packet.data();
//! }
//! ```

mod burst;
mod cpus;
pub mod eal;
mod error;
mod mbuf;
mod mempool;
mod netns;
mod packet_socket;
pub mod port;
mod queue;
pub mod tsc;
mod xdp;

pub use burst::{Burst, Drain};
pub use cpus::{CpuSet, CpuSetError};
pub use eal::{Derived, Eal, Environment, Options, WorkerThread, derive};
pub use error::Error;
pub use mbuf::Mbuf;
pub use mempool::{Mempool, MempoolConfig};
pub use netns::{NetnsError, on_thread_in_netns};
pub use packet_socket::PacketSocket;
pub use port::{
    Capabilities, Configured, Device, Link, Memif, PciAddress, PciAddressError, Port, PortConfig, PortStats,
    Probed, Started, has_vhost_net,
};
pub use queue::{RxQueue, TxQueue};
pub use xdp::{AfXdp, AfXdpConfig, set_vxlan_ports};
