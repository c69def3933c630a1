use std::{net::IpAddr, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Look into a running dataplane: ports, VRFs, VNIs, routes, neighbours, drops.
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
    /// VNIs: VRF, VTEP, router MAC, inner MTU.
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
    /// Drops and hand-overs by port and reason, VRF misses, and the hand-over policers.
    Drops {
        /// Print again every so many seconds (at least 0.1) until interrupted.
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        watch: Option<f64>,
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
