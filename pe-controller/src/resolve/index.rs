use ipnet::IpNet;

use crate::model::{InterfaceName, NodeConfig};

/// The node's index cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Both ways are given.
    #[error("nodeIndex: set index or interfaceName, not both")]
    Ambiguous,
    /// A CIDR without an interface.
    #[error("nodeIndex.cidr: needs interfaceName")]
    CidrAlone,
    /// The interface does not exist, or has no address that could tell.
    #[error("nodeIndex.interfaceName: interface {interface} {problem}")]
    Interface {
        /// The interface.
        interface: InterfaceName,
        /// What is the matter with it.
        problem: String,
    },
}

/// Where addresses of the node's interfaces are looked up.
pub trait InterfaceAddresses {
    /// The addresses of `interface`, in the kernel's order; none when there is no such interface.
    fn addresses(&self, interface: &str) -> Option<Vec<IpNet>>;
}

/// The node's index: as it is given, or the host part of an interface's address (the first one in `cidr`, else the first
/// IPv4 one, else the first global IPv6 one). 0 when nothing is given.
///
/// # Errors
/// When the configuration contradicts itself, or the interface cannot tell.
pub fn node_index(config: &NodeConfig, interfaces: &dyn InterfaceAddresses) -> Result<u32, IndexError> {
    let spec = &config.node_index;
    let Some(interface) = &spec.interface_name else {
        return if spec.cidr.is_some() { Err(IndexError::CidrAlone) } else { Ok(spec.index.unwrap_or(0)) };
    };
    if spec.index.is_some_and(|index| index != 0) {
        return Err(IndexError::Ambiguous);
    }
    let error = |problem: String| IndexError::Interface { interface: interface.clone(), problem };
    let addresses =
        interfaces.addresses(interface.as_str()).ok_or_else(|| error("does not exist".to_owned()))?;
    let chosen = match spec.cidr {
        Some(cidr) => addresses
            .iter()
            .find(|address| cidr.contains(&address.addr()))
            .ok_or_else(|| error(format!("has no address in {cidr}")))?,
        None => addresses
            .iter()
            .find(|address| address.addr().is_ipv4())
            .or_else(|| addresses.iter().find(|address| is_global(address)))
            .ok_or_else(|| error("has no address".to_owned()))?,
    };
    host_part(*chosen)
        .ok_or_else(|| error(format!("has the address {chosen}, whose host part is too large an index")))
}

fn is_global(address: &IpNet) -> bool {
    match address {
        IpNet::V4(_) => true,
        IpNet::V6(net) => {
            let address = net.addr();
            !address.is_unicast_link_local() && !address.is_loopback() && !address.is_multicast()
        }
    }
}

fn host_part(address: IpNet) -> Option<u32> {
    match address {
        IpNet::V4(net) => Some(u32::from(net.addr()) & !u32::from(net.netmask())),
        IpNet::V6(net) => u32::try_from(u128::from(net.addr()) & !u128::from(net.netmask())).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(&'static [&'static str]);

    impl InterfaceAddresses for Fixed {
        fn addresses(&self, interface: &str) -> Option<Vec<IpNet>> {
            (interface == "eth0").then(|| self.0.iter().map(|text| text.parse().unwrap()).collect())
        }
    }

    fn index(node_index: &str, addresses: &'static [&'static str]) -> Result<u32, String> {
        let config = serde_json::from_str(&format!("{{\"nodeIndex\": {node_index}}}")).unwrap();
        node_index_of(&config, addresses)
    }

    fn node_index_of(config: &NodeConfig, addresses: &'static [&'static str]) -> Result<u32, String> {
        node_index(config, &Fixed(addresses)).map_err(|error| error.to_string())
    }

    #[test]
    fn given_or_derived() {
        const BOTH: &[&str] = &["fe80::1/64", "fd00::9/64", "192.168.1.7/24", "10.0.1.5/16"];
        assert_eq!(index("{}", BOTH), Ok(0));
        assert_eq!(index(r#"{"index": 3}"#, BOTH), Ok(3));
        assert_eq!(index(r#"{"interfaceName": "eth0"}"#, BOTH), Ok(7));
        assert_eq!(index(r#"{"interfaceName": "eth0", "index": 0}"#, BOTH), Ok(7));
        assert_eq!(index(r#"{"interfaceName": "eth0", "cidr": "10.0.0.0/8"}"#, BOTH), Ok(0x105));
        assert_eq!(index(r#"{"interfaceName": "eth0", "cidr": "fd00::/16"}"#, BOTH), Ok(9));
        assert_eq!(index(r#"{"interfaceName": "eth0"}"#, &["fe80::1/64", "fd00::9/64"]), Ok(9));
    }

    #[test]
    fn what_cannot_be_told_is_said() {
        let error = |spec, addresses| index(spec, addresses).unwrap_err();
        assert!(error(r#"{"interfaceName": "eth0", "index": 3}"#, &[]).contains("not both"));
        assert!(error(r#"{"cidr": "10.0.0.0/8"}"#, &[]).contains("needs interfaceName"));
        assert!(error(r#"{"interfaceName": "eth1"}"#, &[]).contains("eth1 does not exist"));
        assert!(error(r#"{"interfaceName": "eth0"}"#, &["fe80::1/64"]).contains("has no address"));
        assert!(
            error(r#"{"interfaceName": "eth0", "cidr": "10.0.0.0/8"}"#, &["192.168.1.7/24"])
                .contains("10.0.0.0/8")
        );
        assert!(error(r#"{"interfaceName": "eth0"}"#, &["fd00::1:0:0:9/64"]).contains("too large"));
    }
}
