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
