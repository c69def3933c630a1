//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Where routes are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Routes {
    /// From FPM; but from the kernel when zebra has router MACs already, whose replay FRR 8.4 does not survive.
    Auto,
    /// From FPM.
    Fpm,
    /// From the kernel's tables.
    Kernel,
}

/// Translates FRR's routes into the dataplane's FIB, and the dataplane's topology into the Linux devices that FRR learns
/// VRFs, VNIs and addresses from.
#[derive(Clone, Debug, clap::Parser)]
#[command(version, about)]
pub struct Config {
    /// Socket of pe-dataplane.
    #[arg(long, env = "OPENPE_DATAPLANE", default_value = dataplane_api::DEFAULT_SOCKET)]
    pub dataplane: PathBuf,
    /// Network namespace of FRR, entered at start; an empty value stays in the one it was started in.
    #[arg(long, env = "OPENPE_ROUTER_NETNS", default_value = "/run/netns/perouter", value_parser = path_or_empty())]
    pub router_netns: PathBuf,
    /// Where zebra's dplane_fpm_nl module connects to ("fpm address ... port ..." in frr.conf).
    #[arg(long, env = "OPENPE_FPM_LISTEN", default_value = "127.0.0.1:2620")]
    pub fpm_listen: SocketAddr,
    /// Where routes are read from.
    #[arg(long, env = "OPENPE_ROUTES", value_enum, default_value_t = Routes::Auto)]
    pub routes: Routes,
    /// Seconds between full comparisons with the kernel, which heal what events did not tell.
    #[arg(long, env = "OPENPE_RESYNC", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    pub resync: u64,
    /// Seconds for which routes are kept that a restarted zebra has not stated again: its daemons' time to converge.
    #[arg(long, env = "OPENPE_RESTART_HOLD", default_value_t = 60)]
    pub restart_hold: u64,
    /// What is logged, e.g. "info" or "frr_bridge=debug".
    #[arg(long, env = "OPENPE_LOG", default_value = "info")]
    pub log: String,
}

/// clap's own parser of paths takes no empty value.
fn path_or_empty() -> impl clap::builder::TypedValueParser<Value = PathBuf> {
    clap::builder::TypedValueParser::map(clap::builder::OsStringValueParser::new(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn an_empty_namespace_is_a_value() {
        let config = Config::try_parse_from(["frr-bridge", "--router-netns", ""]).expect("a command line");
        assert_eq!(config.router_netns, PathBuf::new());
    }
}
