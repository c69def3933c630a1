//! One batch of the Fib service, carried out. No lock and no socket here.

use std::net::{Ipv4Addr, Ipv6Addr};

use dataplane_api::v1;
use forwarding::{Control, Route, Vni, VrfId, WeightedPath};

use super::convert::{address, optional_mac, path, port, vrf};
use crate::topology::Names;

/// Routes between which others may have the tables.
const ROUTES_PER_TURN: usize = 8192;
/// Errors that one acknowledgement names; the rest is counted.
const ERRORS: usize = 1000;

/// Carries `batch` out in the order of its fields; what was refused, and why. `turn` gives the tables for one stretch of
/// work, so that others have them in between; `paths` is memory to be used again.
///
/// # Errors
/// That of `turn`, at which the rest is left undone.
pub fn carry_out<E>(
    batch: &v1::FibBatch,
    names: &Names,
    paths: &mut Vec<WeightedPath>,
    mut turn: impl FnMut(&mut dyn FnMut(&mut Control)) -> Result<(), E>,
) -> Result<Vec<v1::FibError>, E> {
    let mut errors = Errors { names, list: Vec::new(), more: 0 };
    turn(&mut |control| {
        for group in &batch.groups {
            if let Err(error) = set_group(control, group, paths) {
                errors.add(|_| format!("next-hop group {}", group.id), error);
            }
        }
        for list in &batch.flood_lists {
            if let Err(error) = set_flood_list(control, list) {
                errors.add(|_| format!("flood list of L2VNI {}", list.vni), error);
            }
        }
        for entry in &batch.macs {
            if let Err(error) = set_mac(control, entry) {
                errors.add(|_| mac_name(entry), error);
            }
        }
        for neighbor in &batch.neighbors {
            if let Err(error) = set_neighbor(control, neighbor) {
                errors.add(|names| neighbor_name(names, neighbor), error);
            }
        }
    })?;
    for routes in batch.routes4.chunks(ROUTES_PER_TURN) {
        turn(&mut |control| {
            let routes = routes.iter().map(|route| Route {
                vrf: vrf(route.vrf),
                address: route.address,
                length: route.length,
                group: route.group,
            });
            control.routes4(routes, |route, error| {
                let prefix = || format!("{}/{}", Ipv4Addr::from_bits(route.address), route.length);
                errors.add(|names| route_name(names, prefix(), route.vrf), error.to_string());
            });
        })?;
    }
    for routes in batch.routes6.chunks(ROUTES_PER_TURN) {
        turn(&mut |control| {
            let routes = routes.iter().map(|route| Route {
                vrf: vrf(route.vrf),
                address: u128::from(route.high) << 64 | u128::from(route.low),
                length: route.length,
                group: route.group,
            });
            control.routes6(routes, |route, error| {
                let prefix = || format!("{}/{}", Ipv6Addr::from_bits(route.address), route.length);
                errors.add(|names| route_name(names, prefix(), route.vrf), error.to_string());
            });
        })?;
    }
    turn(&mut |control| {
        for &group in &batch.deleted_groups {
            control.group_remove(group);
        }
        control.reclaim();
    })?;
    Ok(errors.finish())
}

fn set_group(
    control: &mut Control,
    group: &v1::NextHopGroup,
    paths: &mut Vec<WeightedPath>,
) -> Result<(), String> {
    paths.clear();
    for message in &group.paths {
        paths.push(path(message)?);
    }
    control.group_set(group.id, paths).map_err(|error| error.to_string())
}

fn set_flood_list(control: &mut Control, list: &v1::FloodList) -> Result<(), String> {
    let vni = Vni::new(list.vni).map_err(|error| error.to_string())?;
    let vteps = list.vteps.iter().map(|vtep| address(vtep)).collect::<Result<Vec<_>, _>>();
    let vteps = vteps.map_err(|error| error.to_string())?;
    control.flood_set(vni, &vteps).map_err(|error| error.to_string())
}

fn set_mac(control: &mut Control, entry: &v1::MacEntry) -> Result<(), String> {
    let vni = Vni::new(entry.vni).map_err(|error| error.to_string())?;
    let mac = optional_mac(&entry.mac)?.ok_or("it has no MAC")?;
    if entry.vtep.is_empty() {
        control.mac_remove(vni, mac);
        return Ok(());
    }
    let vtep = address(&entry.vtep).map_err(|error| error.to_string())?;
    control.mac_set(vni, mac, vtep, entry.sticky).map_err(|error| error.to_string())
}

fn mac_name(entry: &v1::MacEntry) -> String {
    let mac = optional_mac(&entry.mac).ok().flatten();
    let mac = mac.map_or_else(|| format!("{:02x?}", &entry.mac[..]), |mac| mac.to_string());
    format!("MAC {mac} of L2VNI {}", entry.vni)
}

fn set_neighbor(control: &mut Control, neighbor: &v1::Neighbor) -> Result<(), String> {
    let port = port(neighbor.port)?;
    let address = address(&neighbor.address).map_err(|error| error.to_string())?;
    match optional_mac(&neighbor.mac)? {
        Some(mac) => control.neighbor_set(port, address, mac).map_err(|error| error.to_string()),
        None => {
            control.neighbor_remove(port, address);
            Ok(())
        }
    }
}

fn neighbor_name(names: &Names, neighbor: &v1::Neighbor) -> String {
    let address = address(&neighbor.address)
        .map_or_else(|_| format!("{:02x?}", &neighbor.address[..]), |a| a.to_string());
    let port = port(neighbor.port).ok().and_then(|id| names.interface(id));
    format!("neighbor {address} on port {}", port.unwrap_or_else(|| neighbor.port.to_string()))
}

fn route_name(names: &Names, prefix: String, vrf: VrfId) -> String {
    let vrf = names.vrfs.get(&vrf).cloned().unwrap_or_else(|| vrf.0.to_string());
    format!("route {prefix} in VRF {vrf}")
}

/// What an acknowledgement reports.
struct Errors<'a> {
    names: &'a Names,
    list: Vec<v1::FibError>,
    more: usize,
}

impl Errors<'_> {
    fn add(&mut self, object: impl FnOnce(&Names) -> String, error: String) {
        if self.list.len() < ERRORS {
            self.list.push(v1::FibError { object: object(self.names), error });
        } else {
            self.more += 1;
        }
    }

    fn finish(mut self) -> Vec<v1::FibError> {
        if self.more > 0 {
            let error = "not listed one by one".to_owned();
            self.list.push(v1::FibError { object: format!("{} more objects", self.more), error });
        }
        self.list
    }
}

#[cfg(test)]
mod tests {
    use dataplane_api::v1::path::Kind;

    use super::*;

    fn run(control: &mut Control, batch: &v1::FibBatch) -> Vec<v1::FibError> {
        let mut names = Names::default();
        names.vrfs.insert(VrfId::DEFAULT, "default".to_owned());
        let Ok(errors) = carry_out(batch, &names, &mut Vec::new(), |work| {
            work(control);
            Ok::<_, std::convert::Infallible>(())
        });
        errors
    }

    fn local(id: u32) -> v1::NextHopGroup {
        v1::NextHopGroup {
            id,
            paths: vec![v1::Path { weight: 0, kind: Some(Kind::Local(v1::LocalPath {})) }],
        }
    }

    #[test]
    fn refusals_name_their_objects_and_stop_nothing() {
        let mut control = Control::new().unwrap();
        control.session_begin();
        let errors = run(
            &mut control,
            &v1::FibBatch {
                groups: vec![local(1), v1::NextHopGroup { id: 2, paths: vec![v1::Path::default()] }],
                neighbors: vec![v1::Neighbor { port: 70_000, ..Default::default() }],
                routes4: vec![
                    v1::Route4 { vrf: 0, address: 0x0a00_0000, length: 8, group: 1 },
                    v1::Route4 { vrf: 0, address: 0x0b00_0000, length: 8, group: 9 },
                    v1::Route4 { vrf: 7, address: 0x0a00_0000, length: 33, group: 1 },
                ],
                routes6: vec![v1::Route6 { vrf: 0, high: 0x2001_0db8 << 32, low: 0, length: 32, group: 1 }],
                ..Default::default()
            },
        );
        let objects: Vec<_> = errors.iter().map(|error| error.object.as_str()).collect();
        let expected = [
            "next-hop group 2",
            "neighbor [] on port 70000",
            "route 11.0.0.0/8 in VRF default",
            "route 10.0.0.0/33 in VRF 7",
        ];
        assert_eq!(objects, expected, "{errors:?}");
        assert_eq!(control.route_counts(VrfId::DEFAULT), Ok((1, 1)));
    }

    #[test]
    fn an_acknowledgement_stays_small() {
        let mut control = Control::new().unwrap();
        control.session_begin();
        let bad = v1::Route4 { vrf: 0, address: 0, length: 99, group: 1 };
        let errors =
            run(&mut control, &v1::FibBatch { routes4: vec![bad; 2 * ERRORS], ..Default::default() });
        assert_eq!(errors.len(), ERRORS + 1);
        assert_eq!(errors.last().unwrap().object, "1000 more objects");
    }
}
