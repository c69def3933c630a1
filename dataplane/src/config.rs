//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, ValueEnum};
use dataplane_api::DEFAULT_SOCKET;
use dpdk::CpuSet;
use forwarding::Class;

/// pe-dataplane: forwards the packets of an EVPN provider edge on DPDK.
///
/// It is told what to do over its unix socket: ports, VRFs and VNIs by pe-controller, routes by frr-bridge.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Config {
    /// The unix socket to serve.
    #[arg(long, default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,

    /// Group whose members may use the socket (mode 0660); without it only its owner may (0600).
    #[arg(long)]
    pub socket_group: Option<String>,

    /// The node's own network namespace, where interfaces start and the far ends of TAP ports go; by default the
    /// one this process starts in.
    #[arg(long)]
    pub host_netns: Option<PathBuf>,

    /// The router's network namespace, where FRR runs and the shadow devices are. It must exist.
    #[arg(long, default_value = "/run/netns/perouter")]
    pub router_netns: PathBuf,

    /// The network namespace adopted interfaces are kept in; made when it does not exist. It outlives this process only
    /// where its bind mount does: not in a mount namespace of the process's own, as `ip netns exec` makes one.
    #[arg(long, default_value = "/run/netns/pe-ports")]
    pub ports_netns: PathBuf,

    /// CPUs of the workers, e.g. `2,4-6`; by default the last ones of those this process may use.
    #[arg(long)]
    pub cpus: Option<CpuSet>,

    /// How many workers; by default one.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: Option<u16>,

    /// What a worker does that has no packets.
    #[arg(long, value_enum, default_value_t = Idle::Adaptive)]
    pub idle: Idle,

    /// What carries the packets of TAP ports.
    #[arg(long, value_enum, default_value_t = TapBackend::Tap)]
    pub tap_backend: TapBackend,

    /// What carries the packets of Linux interfaces (netdev ports).
    #[arg(long, value_enum, default_value_t = NetdevBackend::Auto)]
    pub netdev_backend: NetdevBackend,

    /// EAL arguments in place of the derived ones, separated by spaces.
    #[arg(long, allow_hyphen_values = true)]
    pub eal_args: Option<String>,

    /// Limits a class of handed-over packets, e.g. `error=500` (packets per second). May be repeated.
    #[arg(long, value_name = "CLASS=PPS")]
    pub police: Vec<Police>,

    /// Packet buffers of each size.
    #[arg(long, default_value_t = 16384, value_parser = clap::value_parser!(u32).range(1024..=1_048_576))]
    pub buffers: u32,
}

/// What a worker does that has no packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Idle {
    /// Spins for some microseconds, then sleeps until something arrives.
    #[default]
    Adaptive,
    /// Polls on, for the shortest delay at the price of its CPU.
    Poll,
}

/// What carries the packets of TAP ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TapBackend {
    /// `virtio-user` where /dev/vhost-net can be opened, else `tap`.
    Auto,
    /// The workers read and write the TAP themselves: any number of ports, a system call per packet.
    #[default]
    Tap,
    /// DPDK's virtio-user on the kernel's vhost-net: no system calls, but a kernel thread per port, one of DPDK's ports each
    /// (Debian's has 32), and short sleeps instead of wake-ups. Takes /dev/vhost-net; has not run on a machine with one yet.
    VirtioUser,
}

impl TapBackend {
    /// Whether virtio-user is to be used on a machine that `has_vhost_net` or not.
    pub fn uses_virtio(self, has_vhost_net: impl FnOnce() -> bool) -> bool {
        match self {
            Self::Auto => has_vhost_net(),
            Self::Tap => false,
            Self::VirtioUser => true,
        }
    }
}

/// What carries the packets of Linux interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum NetdevBackend {
    /// `af-xdp` for a NIC whose driver has XDP, tells its queues and leaves VLAN tags in frames; else, and for veth, macvlan and
    /// whatever else the kernel makes, `af-packet`.
    #[default]
    Auto,
    /// AF_XDP sockets, or the port fails. Of a veth a frame that its other end sends with a VLAN tag comes without: switch that off
    /// there (`ethtool -K PEER txvlan off`). In the kernel's receive path where the driver has no XDP.
    AfXdp,
    /// Packet sockets.
    AfPacket,
}

/// A rate for one class of handed-over packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Police {
    /// Which class.
    pub class: Class,
    /// Packets per second.
    pub rate: u32,
}

impl FromStr for Police {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (class, rate) =
            text.split_once('=').ok_or_else(|| format!("`{text}` is not CLASS=PPS, e.g. error=500"))?;
        let class = Class::ALL.iter().copied().find(|known| known.name() == class).ok_or_else(|| {
            let known: Vec<_> = Class::ALL.iter().map(|class| class.name()).collect();
            format!("`{class}` is not a class; there are {}", known.join(", "))
        })?;
        match rate.parse() {
            Ok(rate) if rate > 0 => Ok(Self { class, rate }),
            _ => Err(format!("`{rate}` is not a rate; give packets per second, 1 to {}", u32::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn police_names_a_class_and_a_rate() {
        assert_eq!("error=500".parse(), Ok(Police { class: Class::Error, rate: 500 }));
        assert!("errors=500".parse::<Police>().unwrap_err().contains("neighbor"));
        assert!("error=0".parse::<Police>().is_err());
        assert!("error".parse::<Police>().is_err());
    }

    #[test]
    fn auto_takes_vhost_net_where_it_is() {
        let choose = |text: &str, there| {
            let config = Config::parse_from(["pe-dataplane", "--tap-backend", text]);
            config.tap_backend.uses_virtio(|| there)
        };
        assert!(choose("auto", true) && !choose("auto", false));
        assert!(choose("virtio-user", false), "asked for: the port's error says what is missing");
        assert!(!choose("tap", true));
        assert_eq!(Config::parse_from(["pe-dataplane"]).tap_backend, TapBackend::Tap);
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Config::command().debug_assert();
    }
}
