//! What is in Open vSwitch's database, and what to change in it.
//!
//! Rows that we made have `created-by=openpe` in their `external_ids`; no others are ever removed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::{Errors, Member};

/// Marks rows as ours.
const MARK: (&str, &str) = ("created-by", "openpe");

/// A row of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Row {
    uuid: String,
    name: String,
    ours: bool,
    /// Rows it refers to: a bridge's ports, a port's interfaces.
    refers: BTreeSet<String>,
    /// What ovs-vswitchd says is wrong with it.
    error: String,
}

/// The part of the database that matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    root: String,
    bridges: Vec<Row>,
    ports: Vec<Row>,
    interfaces: Vec<Row>,
}

impl Snapshot {
    /// The operations that ask for it.
    pub(super) fn selects() -> Vec<Value> {
        let select = |table: &str, columns: &[&str]| json!({ "op": "select", "table": table, "where": [], "columns": columns });
        vec![
            select("Open_vSwitch", &["_uuid"]),
            select("Bridge", &["_uuid", "name", "external_ids", "ports"]),
            select("Port", &["_uuid", "name", "external_ids", "interfaces"]),
            select("Interface", &["_uuid", "name", "external_ids", "error"]),
        ]
    }

    /// From the answer to [`Self::selects`]. `None` when it is not one.
    pub fn parse(answer: &Value) -> Option<Self> {
        let rows = |index: usize, refers: &str| -> Option<Vec<Row>> {
            let rows = answer.get(index)?.get("rows")?.as_array()?;
            rows.iter().map(|row| parse_row(row, refers)).collect()
        };
        let root = answer.get(0)?.get("rows")?.get(0)?.get("_uuid").and_then(uuid)?;
        Some(Self {
            root,
            bridges: rows(1, "ports")?,
            ports: rows(2, "interfaces")?,
            interfaces: rows(3, "")?,
        })
    }

    /// The operations that lead to what `members` want, and why some ports cannot be served. What a new bridge makes
    /// possible shows in the next snapshot.
    pub(super) fn plan(&self, members: &[Member]) -> (Vec<Value>, Errors) {
        let mut operations = Vec::new();
        let mut errors = Errors::new();
        let managed: BTreeSet<&str> = members
            .iter()
            .filter_map(|member| member.bridge.as_ref())
            .filter_map(|(name, managed)| managed.then_some(name.as_str()))
            .collect();
        for (number, name) in managed.iter().enumerate() {
            if !self.bridges.iter().any(|bridge| bridge.name == **name) {
                operations.extend(self.make_bridge(name, number));
            }
        }
        // By bridge, the ports to put in and to take out.
        let mut moves: BTreeMap<&str, (Vec<Value>, Vec<Value>)> = BTreeMap::new();
        let mut leaving = BTreeSet::new();
        let mut wanted = BTreeSet::new();
        for member in members {
            let Some((name, _)) = &member.bridge else { continue };
            let bridge = self.bridges.iter().find(|bridge| bridge.name == *name);
            let Some(bridge) = bridge else {
                if !managed.contains(name.as_str()) {
                    errors
                        .insert(member.port.clone(), format!("bridge {name} does not exist in Open vSwitch"));
                }
                continue;
            };
            if managed.contains(name.as_str()) && !bridge.ours {
                let problem = format!(
                    "Open vSwitch has a bridge {name} already that is not ours; remove it, or use it as an external one"
                );
                errors.insert(member.port.clone(), problem);
                continue;
            }
            wanted.insert(member.interface.as_str());
            let Some(port) = self.ports.iter().find(|port| port.name == member.interface) else {
                let number = operations.len();
                operations.extend(make_port(&member.interface, number));
                let reference = json!(["named-uuid", format!("port{number}")]);
                moves.entry(&bridge.uuid).or_default().0.push(reference);
                continue;
            };
            if bridge.refers.contains(&port.uuid) {
                if let Some(error) = self.error_of(port) {
                    errors.insert(
                        member.port.clone(),
                        format!("Open vSwitch cannot use {}: {error}", member.interface),
                    );
                }
                continue;
            }
            let elsewhere = self.bridges.iter().find(|bridge| bridge.refers.contains(&port.uuid));
            match elsewhere {
                Some(other) if !port.ours => {
                    let problem = format!(
                        "somebody else has put {} into bridge {} already",
                        member.interface, other.name
                    );
                    errors.insert(member.port.clone(), problem);
                }
                other => {
                    if let Some(other) = other {
                        leaving.insert(port.uuid.as_str());
                        moves.entry(&other.uuid).or_default().1.push(json!(["uuid", port.uuid]));
                    }
                    moves.entry(&bridge.uuid).or_default().0.push(json!(["uuid", port.uuid]));
                }
            }
        }
        for bridge in &self.bridges {
            let stale = self.ports.iter().filter(|port| {
                port.ours
                    && bridge.refers.contains(&port.uuid)
                    && port.name != bridge.name
                    && !wanted.contains(port.name.as_str())
                    && !leaving.contains(port.uuid.as_str())
            });
            let stale: Vec<&Row> = stale.collect();
            for port in stale {
                leaving.insert(&port.uuid);
                moves.entry(&bridge.uuid).or_default().1.push(json!(["uuid", port.uuid]));
            }
        }
        for (bridge, (into, out)) in moves {
            let mutations =
                [("insert", into), ("delete", out)].into_iter().filter(|(_, set)| !set.is_empty());
            let mutations: Vec<Value> =
                mutations.map(|(how, set)| json!(["ports", how, ["set", set]])).collect();
            operations.push(mutate("Bridge", bridge, &mutations));
        }
        for bridge in self.bridges.iter().filter(|row| row.ours && !managed.contains(row.name.as_str())) {
            let stays = |port: &&Row| {
                bridge.refers.contains(&port.uuid)
                    && port.name != bridge.name
                    && !leaving.contains(port.uuid.as_str())
            };
            let emptied = !self.ports.iter().any(|port| stays(&port));
            // Members that come by this very transaction: it is an external bridge to them.
            let used = members
                .iter()
                .any(|member| member.bridge.as_ref().is_some_and(|(name, _)| *name == bridge.name));
            if emptied && !used {
                let gone = json!(["bridges", "delete", ["set", [["uuid", bridge.uuid]]]]);
                operations.push(mutate("Open_vSwitch", &self.root, &[gone]));
            }
        }
        (operations, errors)
    }

    /// Whether any row of ours is left.
    pub(super) fn has_ours(&self) -> bool {
        [&self.bridges, &self.ports].into_iter().flatten().any(|row| row.ours)
    }

    fn error_of(&self, port: &Row) -> Option<&str> {
        let errors = self.interfaces.iter().filter(|row| port.refers.contains(&row.uuid));
        errors.map(|row| row.error.as_str()).find(|error| !error.is_empty())
    }

    fn make_bridge(&self, name: &str, number: usize) -> [Value; 4] {
        let (interface, port, bridge) =
            (format!("local{number}"), format!("localport{number}"), format!("bridge{number}"));
        [
            json!({ "op": "insert", "table": "Interface", "uuid-name": interface,
                    "row": { "name": name, "type": "internal", "external_ids": marked() } }),
            json!({ "op": "insert", "table": "Port", "uuid-name": port,
                    "row": { "name": name, "interfaces": ["named-uuid", interface], "external_ids": marked() } }),
            json!({ "op": "insert", "table": "Bridge", "uuid-name": bridge,
                    "row": { "name": name, "ports": ["named-uuid", port], "external_ids": marked() } }),
            mutate(
                "Open_vSwitch",
                &self.root,
                &[json!(["bridges", "insert", ["set", [["named-uuid", bridge]]]])],
            ),
        ]
    }
}

fn make_port(name: &str, number: usize) -> [Value; 2] {
    let interface = format!("interface{number}");
    [
        json!({ "op": "insert", "table": "Interface", "uuid-name": interface,
                "row": { "name": name, "external_ids": marked() } }),
        json!({ "op": "insert", "table": "Port", "uuid-name": format!("port{number}"),
                "row": { "name": name, "interfaces": ["named-uuid", interface], "external_ids": marked() } }),
    ]
}

fn mutate(table: &str, uuid: &str, mutations: &[Value]) -> Value {
    json!({ "op": "mutate", "table": table, "where": [["_uuid", "==", ["uuid", uuid]]], "mutations": mutations })
}

fn marked() -> Value {
    json!(["map", [[MARK.0, MARK.1]]])
}

fn parse_row(row: &Value, refers: &str) -> Option<Row> {
    let text = |column: &str| row.get(column).and_then(Value::as_str);
    let ids = row.get("external_ids")?.get(1)?.as_array()?;
    Some(Row {
        uuid: row.get("_uuid").and_then(uuid)?,
        name: text("name")?.to_owned(),
        ours: ids.contains(&json!([MARK.0, MARK.1])),
        refers: row.get(refers).map(uuids).unwrap_or_default(),
        // An optional column: an empty set when there is none.
        error: text("error").unwrap_or_default().to_owned(),
    })
}

/// `["uuid", "..."]`
fn uuid(value: &Value) -> Option<String> {
    match value.as_array()?.as_slice() {
        [kind, uuid] if kind == "uuid" => uuid.as_str().map(str::to_owned),
        _ => None,
    }
}

/// A set of them: one alone is written without the set.
fn uuids(value: &Value) -> BTreeSet<String> {
    if let Some(one) = uuid(value) {
        return BTreeSet::from([one]);
    }
    value.get(1).and_then(Value::as_array).into_iter().flatten().filter_map(uuid).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BRIDGES: [&str; 3] = ["br0", "br1", "br2"];
    const TAPS: [&str; 3] = ["t0", "t1", "t2"];

    /// Carries operations out as ovsdb-server would, garbage collection and unique names included.
    fn simulate(database: &mut Snapshot, operations: &[Value], transaction: usize) {
        let mut named = BTreeMap::new();
        let resolve = |named: &BTreeMap<String, String>, reference: &Value| {
            uuid(reference).unwrap_or_else(|| named[reference[1].as_str().unwrap()].clone())
        };
        for operation in operations {
            let table = operation["table"].as_str().unwrap();
            if operation["op"] == "insert" {
                let label = operation["uuid-name"].as_str().unwrap().to_owned();
                let uuid = format!("{transaction}-{label}");
                let row = &operation["row"];
                let refers = ["interfaces", "ports"].iter().filter_map(|column| row.get(column));
                let new = Row {
                    uuid: uuid.clone(),
                    name: row["name"].as_str().unwrap().to_owned(),
                    ours: row["external_ids"] == marked(),
                    refers: refers.map(|reference| resolve(&named, reference)).collect(),
                    error: String::new(),
                };
                assert!(named.insert(label, uuid).is_none(), "a label is used twice");
                let rows = match table {
                    "Bridge" => &mut database.bridges,
                    "Port" => &mut database.ports,
                    _ => &mut database.interfaces,
                };
                assert!(rows.iter().all(|row| row.name != new.name), "{new:?} is there already");
                rows.push(new);
                continue;
            }
            let target = operation["where"][0][2][1].as_str().unwrap();
            for mutation in operation["mutations"].as_array().unwrap() {
                let set = mutation[2][1].as_array().unwrap();
                let set: BTreeSet<String> = set.iter().map(|reference| resolve(&named, reference)).collect();
                match (table, mutation[1].as_str().unwrap()) {
                    ("Bridge", how) => {
                        let bridge = database.bridges.iter_mut().find(|row| row.uuid == target).unwrap();
                        if how == "insert" {
                            bridge.refers.extend(set);
                        } else {
                            bridge.refers.retain(|uuid| !set.contains(uuid));
                        }
                    }
                    (_, "delete") => database.bridges.retain(|row| !set.contains(&row.uuid)),
                    _ => assert_eq!(target, database.root),
                }
            }
        }
        let used: BTreeSet<_> = database.bridges.iter().flat_map(|row| row.refers.clone()).collect();
        assert_eq!(
            used.len(),
            database.bridges.iter().map(|row| row.refers.len()).sum::<usize>(),
            "a port is in two bridges"
        );
        database.ports.retain(|row| used.contains(&row.uuid));
        let used: BTreeSet<_> = database.ports.iter().flat_map(|row| row.refers.clone()).collect();
        database.interfaces.retain(|row| used.contains(&row.uuid));
    }

    prop_compose! {
        /// Bridges of ours and of others with their local ports, TAPs in them or not, and a stranger's port.
        fn worlds()(
            bridges in prop::collection::vec(prop::option::of(any::<bool>()), 3),
            ports in prop::collection::vec((prop::option::of(0_usize..3), any::<bool>()), 4),
        ) -> Snapshot {
            let mut database = Snapshot { root: "root".into(), ..Snapshot::default() };
            let port = |database: &mut Snapshot, name: &str, ours| {
                let interface = Row { uuid: format!("i-{name}"), name: name.into(), ours, ..Row::default() };
                let refers = BTreeSet::from([interface.uuid.clone()]);
                database.ports.push(Row { uuid: format!("p-{name}"), name: name.into(), ours, refers, ..Row::default() });
                database.interfaces.push(interface);
            };
            for (name, ours) in BRIDGES.iter().zip(bridges) {
                if let Some(ours) = ours {
                    port(&mut database, name, ours);
                    let refers = BTreeSet::from([format!("p-{name}")]);
                    database.bridges.push(Row { uuid: format!("b-{name}"), name: (*name).into(), ours, refers, ..Row::default() });
                }
            }
            for (name, (inside, ours)) in TAPS.iter().chain(&["eth7"]).zip(ports) {
                let bridge = inside.and_then(|index| database.bridges.iter().position(|row| row.name == BRIDGES[index]));
                if let Some(bridge) = bridge {
                    port(&mut database, name, ours && *name != "eth7");
                    database.bridges[bridge].refers.insert(format!("p-{name}"));
                }
            }
            database
        }
    }

    prop_compose! {
        fn members()(wanted in prop::collection::vec(prop::option::of((0_usize..3, any::<bool>())), 3)) -> Vec<Member> {
            TAPS.iter().zip(wanted).filter_map(|(&tap, wanted)| {
                let (bridge, managed) = wanted?;
                let bridge = Some((BRIDGES[bridge].to_owned(), managed));
                Some(Member { port: format!("port-{tap}"), interface: tap.to_owned(), bridge })
            }).collect()
        }
    }

    proptest! {
        /// From any state, through any wishes: what can be is, what cannot is said, and only what is ours is removed.
        #[test]
        fn converges(mut database in worlds(), wishes in prop::collection::vec(members(), 1..4)) {
            let theirs = |database: &Snapshot| -> Vec<(String, String)> {
                let bridges = database.bridges.iter().filter(|row| !row.ours).map(|row| (row.name.clone(), String::new()));
                let inside = database.bridges.iter().flat_map(|bridge| {
                    let ports = database.ports.iter().filter(|port| !port.ours && bridge.refers.contains(&port.uuid));
                    ports.map(|port| (bridge.name.clone(), port.name.clone())).collect::<Vec<_>>()
                });
                bridges.chain(inside).collect()
            };
            let before = theirs(&database);
            let mut transaction = 0;
            for members in wishes {
                let mut errors = Errors::new();
                for round in 0..=super::super::ROUNDS {
                    let (operations, problems) = database.plan(&members);
                    errors = problems;
                    prop_assert!(round < super::super::ROUNDS || operations.is_empty(), "{operations:?}");
                    transaction += 1;
                    simulate(&mut database, &operations, transaction);
                }
                let after = theirs(&database);
                prop_assert!(before.iter().all(|row| after.contains(row)), "{before:?} {after:?}");
                for member in members.iter().filter(|member| !errors.contains_key(&member.port)) {
                    let port = database.ports.iter().find(|row| row.name == member.interface).unwrap();
                    let bridge = database.bridges.iter().find(|row| row.refers.contains(&port.uuid)).unwrap();
                    prop_assert_eq!(Some(&bridge.name), member.bridge.as_ref().map(|(name, _)| name));
                }
                for bridge in database.bridges.iter().filter(|row| row.ours) {
                    let wanted = members.iter().any(|member| member.bridge.as_ref().is_some_and(|(name, _)| *name == bridge.name));
                    prop_assert!(wanted || bridge.refers.len() > 1, "{bridge:?} is left");
                }
                for port in database.ports.iter().filter(|row| row.ours && !BRIDGES.contains(&row.name.as_str())) {
                    prop_assert!(members.iter().any(|member| member.interface == port.name), "{port:?} is left");
                }
            }
        }
    }

    #[test]
    fn rows_are_read_as_they_are_written() {
        let answer = json!([
            { "rows": [{ "_uuid": ["uuid", "r"] }] },
            { "rows": [{ "_uuid": ["uuid", "b"], "name": "br0", "external_ids": ["map", [["a", "b"], ["created-by", "openpe"]]],
                         "ports": ["set", [["uuid", "p"], ["uuid", "q"]]] }] },
            { "rows": [{ "_uuid": ["uuid", "p"], "name": "br0", "external_ids": ["map", []], "interfaces": ["uuid", "i"] }] },
            { "rows": [{ "_uuid": ["uuid", "i"], "name": "br0", "external_ids": ["map", []], "error": "no such device" }] },
        ]);
        let snapshot = Snapshot::parse(&answer).unwrap();
        assert!(snapshot.bridges[0].ours && !snapshot.ports[0].ours && snapshot.has_ours());
        assert_eq!(snapshot.bridges[0].refers.len(), 2);
        assert_eq!(snapshot.error_of(&snapshot.ports[0]), Some("no such device"));
        assert_eq!(Snapshot::parse(&json!([{ "rows": [] }])), None);
    }
}
