use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{L2Vni, L3Vni, Valid};
use crate::model::{Failure, FieldError, Object, ObjectRef, Reason};

/// Takes out all objects of every VRF in which two subnets overlap: no two of them could be told apart. Subnets are those of
/// the gateways in a VRF's L2VNIs, and of the link with the host.
pub(super) fn drop_overlapping(valid: &mut Valid) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut bad: Vec<ObjectRef> = Vec::new();
    for l3vni in &valid.l3vnis {
        let l2vnis: Vec<_> = valid.l2vnis.iter().filter(|l2vni| l2vni.spec.is_routed_by(&l3vni.id)).collect();
        let subnets = subnets(l3vni, &l2vnis);
        let Some((first, second)) = overlap(&subnets) else { continue };
        let problem = format!(
            "{} of {} and {} of {} overlap, so nothing of VRF {} can be in force",
            first.net, first.owner, second.net, second.owner, l3vni.spec.vrf
        );
        let field = |id: &ObjectRef| {
            [first, second].iter().find(|subnet| subnet.owner == id).map_or("", |subnet| subnet.field)
        };
        let error = |id: &ObjectRef| FieldError::new(field(id), problem.clone());
        failures.push(l3vni.fails(Reason::ValidationFailed, error(&l3vni.id)));
        failures.extend(l2vnis.iter().map(|l2vni| l2vni.fails(Reason::ValidationFailed, error(&l2vni.id))));
        bad.push(l3vni.id.clone());
        bad.extend(l2vnis.iter().map(|l2vni| l2vni.id.clone()));
    }
    valid.l3vnis.retain(|object| !bad.contains(&object.id));
    valid.l2vnis.retain(|object| !bad.contains(&object.id));
    failures
}

struct Subnet<'a> {
    net: IpNet,
    owner: &'a ObjectRef,
    field: &'static str,
}

fn subnets<'a>(l3vni: &'a Object<L3Vni>, l2vnis: &[&'a Object<L2Vni>]) -> Vec<Subnet<'a>> {
    let session = l3vni.spec.session.iter();
    let links = session.flat_map(|session| {
        let v4 = session.cidr4.map(|net| (IpNet::V4(net), "hostSession.localCIDR.ipv4"));
        let v6 = session.cidr6.map(|net| (IpNet::V6(net), "hostSession.localCIDR.ipv6"));
        v4.into_iter().chain(v6)
    });
    let links = links.map(|(net, field)| Subnet { net: net.trunc(), owner: &l3vni.id, field });
    let gateways = l2vnis.iter().flat_map(|l2vni| {
        let gateways = l2vni.spec.gateways();
        gateways.map(|net| Subnet { net: net.trunc(), owner: &l2vni.id, field: "gatewayIPs" })
    });
    links.chain(gateways).collect()
}

/// Two subnets that overlap, if there are any.
fn overlap<'a>(subnets: &'a [Subnet<'a>]) -> Option<(&'a Subnet<'a>, &'a Subnet<'a>)> {
    // Two prefixes are disjoint or one is within the other, so in this order one that overlaps any overlaps its neighbour.
    let mut sorted: BTreeMap<(IpNet, &ObjectRef), &Subnet<'_>> = BTreeMap::new();
    for subnet in subnets {
        sorted.insert((subnet.net, subnet.owner), subnet);
    }
    let mut sorted = sorted.into_values();
    let mut last = sorted.next()?;
    for next in sorted {
        if last.net.contains(&next.net) {
            return Some((last, next));
        }
        last = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Kind;

    fn net() -> impl Strategy<Value = IpNet> {
        // Few addresses, so that many overlap.
        let v4 = (0u32..64, 26u8..=32).prop_map(|(host, length)| {
            IpNet::new(std::net::Ipv4Addr::from(0x0a00_0000 | host).into(), length).unwrap()
        });
        let v6 = (0u128..64, 122u8..=128).prop_map(|(host, length)| {
            IpNet::new(std::net::Ipv6Addr::from(0xfd00 << 112 | host).into(), length).unwrap()
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        /// An overlap is found exactly when a comparison of all with all finds one.
        #[test]
        fn an_overlap_is_found_if_there_is_one(nets in prop::collection::vec(net(), 0..8)) {
            let owners: Vec<ObjectRef> =
                (0..nets.len()).map(|n| ObjectRef { kind: Kind::L2Vni, name: n.to_string() }).collect();
            let subnets: Vec<Subnet<'_>> = nets
                .iter()
                .zip(&owners)
                .map(|(net, owner)| Subnet { net: net.trunc(), owner, field: "" })
                .collect();
            let any = (0..nets.len()).any(|a| {
                (0..a).any(|b| nets[a].contains(&nets[b].trunc()) || nets[b].contains(&nets[a].trunc()))
            });
            let found = overlap(&subnets);
            prop_assert_eq!(found.is_some(), any);
            if let Some((a, b)) = found {
                prop_assert!(a.owner != b.owner && a.net.contains(&b.net));
            }
        }
    }
}
