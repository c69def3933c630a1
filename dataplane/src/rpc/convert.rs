//! Between the messages and forwarding's values.

use std::net::IpAddr;

use bytes::Bytes;
use dataplane_api::v1;
use dataplane_api::v1::path::Kind;
use forwarding::{InvalidValue, Mac, Path, PortId, Vni, VrfId, WeightedPath, address_from_bytes};

/// A path of a group.
pub(super) fn path(message: &v1::Path) -> Result<WeightedPath, String> {
    let path = match message
        .kind
        .as_ref()
        .ok_or("a path says no kind: adjacent, vxlan, connected, local or drop")?
    {
        Kind::Adjacent(adjacent) => {
            Path::Adjacent { port: port(adjacent.port)?, gateway: address(&adjacent.address).map_err(text)? }
        }
        Kind::Vxlan(vxlan) => Path::Vxlan {
            vni: Vni::new(vxlan.vni).map_err(text)?,
            vtep: address(&vxlan.vtep).map_err(text)?,
            router_mac: optional_mac(&vxlan.router_mac)?,
        },
        Kind::Connected(connected) => Path::Connected { port: port(connected.port)? },
        Kind::Local(_) => Path::Local,
        Kind::Drop(_) => Path::Drop,
    };
    Ok(WeightedPath { weight: message.weight, path })
}

/// A port's number.
pub(super) fn port(number: u32) -> Result<PortId, String> {
    u16::try_from(number).map(PortId).map_err(|_| format!("port {number} does not exist"))
}

/// A VRF's number: any may be asked for.
pub(super) fn vrf(number: u32) -> VrfId {
    VrfId(number)
}

/// 4 or 16 bytes.
pub(super) fn address(bytes: &[u8]) -> Result<IpAddr, InvalidValue> {
    address_from_bytes(bytes)
}

/// An address as it travels.
pub(crate) fn octets(address: IpAddr) -> Bytes {
    match address {
        IpAddr::V4(v4) => Bytes::copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => Bytes::copy_from_slice(&v6.octets()),
    }
}

/// 6 bytes of a station's MAC, or none.
pub(super) fn optional_mac(bytes: &Bytes) -> Result<Option<Mac>, String> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mac = Mac::try_from(&bytes[..]).map_err(text)?;
    Mac::unicast(mac.octets()).map(Some).map_err(text)
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
