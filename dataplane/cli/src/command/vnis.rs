use dataplane_api::v1::{L2VniState, L3VniState};
use serde::Serialize;

use super::{Session, health};
use crate::{error::Error, output, output::Row, text};

/// IANA's VXLAN port, which 0 stands for in the interface.
const VXLAN_PORT: u32 = 4789;

#[derive(Debug, Serialize)]
struct Vni {
    vni: u32,
    kind: &'static str,
    vrf: String,
    health: &'static str,
    error: String,
    vtep: String,
    udp_port: u32,
    router_mac: String,
    /// Largest inner IP packet, bytes.
    mtu: u32,
}

impl From<L3VniState> for Vni {
    fn from(state: L3VniState) -> Self {
        let spec = state.spec.unwrap_or_default();
        Self {
            vni: spec.vni,
            kind: "l3",
            vrf: spec.vrf,
            health: health(state.health),
            error: state.error,
            vtep: text::address(&spec.vtep_address),
            udp_port: if spec.udp_port == 0 { VXLAN_PORT } else { spec.udp_port },
            router_mac: text::mac(&spec.router_mac),
            mtu: state.mtu,
        }
    }
}

impl From<L2VniState> for Vni {
    fn from(state: L2VniState) -> Self {
        let spec = state.spec.unwrap_or_default();
        Self {
            vni: spec.vni,
            kind: "l2",
            vrf: spec.vrf,
            health: health(state.health),
            error: state.error,
            vtep: text::address(&spec.vtep_address),
            udp_port: if spec.udp_port == 0 { VXLAN_PORT } else { spec.udp_port },
            router_mac: text::mac(&spec.mac),
            mtu: state.mtu,
        }
    }
}

impl Row for Vni {
    const HEADER: &'static [&'static str] =
        &["VNI", "KIND", "VRF", "HEALTH", "VTEP", "UDP-PORT", "ROUTER-MAC", "MTU", "ERROR"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.vni.to_string(),
            self.kind.to_owned(),
            self.vrf.clone(),
            self.health.to_owned(),
            self.vtep.clone(),
            self.udp_port.to_string(),
            self.router_mac.clone(),
            self.mtu.to_string(),
            self.error.clone(),
        ]
    }
}

pub(super) async fn run(session: &Session) -> Result<(), Error> {
    let topology = session.topology().await?;
    let l2vnis = topology.l2vnis.into_iter().map(Vni::from);
    let vnis: Vec<Vni> = topology.l3vnis.into_iter().map(Vni::from).chain(l2vnis).collect();
    output::print_rows(session.format, &vnis)
}
