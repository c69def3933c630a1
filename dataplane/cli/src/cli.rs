use std::{net::IpAddr, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum, builder::RangedU64ValueParser};
use clap_complete::Shell;

use crate::text;

/// Look into a running dataplane: ports, VRFs, VNIs, routes, neighbours, bridge domains, drops, packets.
#[derive(Debug, Parser)]
#[command(
    name = "pectl",
    version,
    after_help = "Exit status: 0 done; 1 not found, or the address cannot be reached; 2 wrong usage; \
                  3 the dataplane cannot be reached; 4 it answered with an error."
)]
pub(crate) struct Arguments {
    /// Unix socket of pe-dataplane.
    #[arg(long, short, global = true, env = "PECTL_SOCKET", default_value = dataplane_api::DEFAULT_SOCKET)]
    pub(crate) socket: PathBuf,

    /// How to print: a table for people, or JSON with stable keys.
    #[arg(long, short, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Ports: link, driver, MAC, MTU, addresses, counters.
    Ports,
    /// VRFs and how many routes each has.
    Vrfs,
    /// L3VNIs and L2VNIs: VRF, VTEP, router MAC, inner MTU.
    Vnis,
    /// Routes the workers forward by, with their paths.
    Routes {
        /// Only this VRF ("default" is the underlay's).
        #[arg(long)]
        vrf: Option<String>,
    },
    /// One route.
    #[command(subcommand)]
    Route(RouteCommand),
    /// Neighbours: addresses with a MAC, by port.
    Neighbors {
        /// Only this port.
        #[arg(long)]
        port: Option<String>,
    },
    /// Bridge domains: gateways, ports, VTEPs, how many MACs, counters.
    Bridges {
        /// Only this L2VNI.
        #[arg(long, value_parser = vni())]
        vni: Option<u32>,
    },
    /// MACs of bridge domains: where each is, and the addresses it has.
    Macs {
        /// Only this L2VNI.
        #[arg(long, value_parser = vni())]
        vni: Option<u32>,
    },
    /// One MAC.
    #[command(subcommand)]
    Mac(MacCommand),
    /// Flood lists: the ports and VTEPs that get broadcast, multicast and unknown unicast frames.
    Flood {
        /// Only this L2VNI.
        #[arg(long, value_parser = vni())]
        vni: Option<u32>,
    },
    /// Addresses that ARP and neighbour discovery are answered for, or that are known to be on a port.
    Suppression {
        /// Only this L2VNI.
        #[arg(long, value_parser = vni())]
        vni: Option<u32>,
    },
    /// Drops and hand-overs by port and reason, VRF misses, and the hand-over policers.
    Drops {
        /// Print again every so many seconds (at least 0.1) until interrupted.
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        watch: Option<f64>,
    },
    /// Catch packets, and show every stage each of them passed.
    #[command(after_help = EXPRESSIONS)]
    Trace {
        /// What to catch; everything when there is none.
        expression: Vec<String>,
        /// End after so many packets.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        count: u32,
        /// End after so many seconds.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
        seconds: u32,
        /// Show the first 256 bytes as they were received, too.
        #[arg(long)]
        hex: bool,
    },
    /// The process: version, EAL arguments and what they were derived from, workers, FIB session.
    Info,
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        #[arg(value_enum)]
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RouteCommand {
    /// Explain what would happen to a packet for an address, down to the outgoing frame.
    Get {
        /// Destination address.
        address: IpAddr,
        /// VRF the packet is looked up in.
        #[arg(long, default_value = "default")]
        vrf: String,
        /// Source address of the flow: it decides among equal-cost paths.
        #[arg(long)]
        source: Option<IpAddr>,
        /// IP protocol number of the flow (6 TCP, 17 UDP).
        #[arg(long, default_value_t = 0)]
        protocol: u8,
        /// Source port of the flow.
        #[arg(long, default_value_t = 0)]
        source_port: u16,
        /// Destination port of the flow.
        #[arg(long, default_value_t = 0)]
        destination_port: u16,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum MacCommand {
    /// Explain what would happen to a frame for a MAC that comes in by a port, down to the outgoing headers.
    Get {
        /// The MAC, as aa:bb:cc:00:00:01.
        #[arg(value_parser = text::parse_mac)]
        mac: [u8; 6],
        /// The L2VNI that it is looked up in.
        #[arg(long, value_parser = vni())]
        vni: u32,
    },
}

const EXPRESSIONS: &str = "\
Expressions (put parentheses in quotes, for the shell):
  port NAME                  received on this port of the dataplane
  vni N                      with this VNI in its VXLAN header, or received on a port of this L2VNI
  [src|dst] mac MAC          with this MAC
  [src|dst] host IP          with this IPv4 or IPv6 address, or with it in ARP or neighbour discovery
  [src|dst] net PREFIX       the same for a prefix, as 10.1.0.0/24
  proto NAME|NUMBER          tcp, udp, icmp, icmp6, arp, nd, or the number in the IP header
  tcp udp icmp icmp6 arp nd  the same in short
  ip, ip6, vxlan             IPv4, IPv6; encapsulated in VXLAN
  sport N, dport N           with this source or destination port (TCP, UDP, SCTP)
  verdict V                  transmit, replicate, hand-over or drop
  reason NAME                handed over or dropped for this reason, as `pectl drops` names it
  not E, E and E, E or E, (E)   'not' binds closest, then 'and', then 'or'

Of an encapsulated packet the outer and the inner headers are looked at: one of them must match.

  pectl trace port toswitch1 and '(vni 110 or host 10.1.0.1)' and not arp
  pectl trace verdict drop --count 20 --seconds 300

It exits with 1 when nothing matched in time.";

fn vni() -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::from(1..=0x00ff_ffff)
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.1..=86_400.0).contains(&value) => Ok(value),
        _ => Err("expected seconds, 0.1 to 86400".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_watch_interval_has_bounds() {
        assert!(seconds("0.5").is_ok());
        for bad in ["0", "-1", "nan", "1e9", "soon"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
