//! Bridge domains against a slow and plain model: maps and sets, one frame at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use forwarding::{Mac, Reason, Verdict};
use proptest::prelude::*;

use crate::bridge_lab::{BROADCAST, BridgeLab, GATEWAY, inside, tunnelled, vni};
use crate::frames::{Ip, frame};
use crate::lab::{ip, mac};

const VTEPS: [&str; 3] = ["192.0.2.2", "192.0.2.3", "192.0.2.4"];

#[derive(Clone, Debug)]
enum Step {
    Frame { from: usize, source: u8, destination: u8 },
    Set { mac: u8, vtep: usize, sticky: bool },
    Remove { mac: u8 },
    Flood(Vec<usize>),
    Flush { port: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Port(usize),
    Vtep(usize, bool),
}

/// Domain 110 as one would write it down: its ports are 0 and 1, VTEP n sends as 2 + n.
struct Model {
    macs: BTreeMap<u8, Place>,
    flood: BTreeSet<usize>,
}

#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Reason(Reason),
    /// Ports and VTEPs.
    Sent(BTreeSet<usize>, BTreeSet<usize>),
}

const GROUP: u8 = 0xff;
const GATE: u8 = 0xfe;

fn mac_of(number: u8) -> Mac {
    match number {
        GROUP => BROADCAST,
        GATE => GATEWAY,
        number => mac(number),
    }
}

impl Model {
    fn frame(&mut self, from: usize, source: u8, destination: u8) -> Expected {
        let vtep = from.checked_sub(2);
        if let Some(vtep) = vtep
            && !self.flood.contains(&vtep)
            && !self.macs.values().any(|place| matches!(place, Place::Vtep(of, _) if *of == vtep))
        {
            return Expected::Reason(Reason::UnknownVtep);
        }
        if source == GROUP {
            return Expected::Reason(Reason::BadSourceMac);
        }
        if source == GATE && vtep.is_none() {
            return Expected::Reason(Reason::OwnSourceMac);
        }
        let all = |model: &Self| {
            let ports = [0, 1].into_iter().filter(|port| *port != from).collect();
            let vteps = if vtep.is_none() { model.flood.clone() } else { BTreeSet::new() };
            Expected::Sent(ports, vteps)
        };
        let expected = match destination {
            GROUP => all(self),
            // From and to addresses that the domain's VRF does not know.
            GATE => Expected::Reason(Reason::NoRoute),
            destination => match self.macs.get(&destination) {
                None => all(self),
                Some(Place::Port(port)) if *port == from => Expected::Reason(Reason::SamePort),
                Some(Place::Port(port)) => Expected::Sent([*port].into(), BTreeSet::new()),
                Some(Place::Vtep(..)) if vtep.is_some() => Expected::Reason(Reason::SplitHorizon),
                Some(Place::Vtep(vtep, _)) => Expected::Sent(BTreeSet::new(), [*vtep].into()),
            },
        };
        if vtep.is_none() && !matches!(self.macs.get(&source), Some(Place::Vtep(_, true))) {
            self.macs.insert(source, Place::Port(from));
        }
        expected
    }
}

fn step() -> impl Strategy<Value = Step> {
    let host = || 0x51_u8..0x55;
    let any = || prop_oneof![8 => 0x51_u8..0x56, 1 => Just(GROUP), 1 => Just(GATE)];
    prop_oneof![
        8 => (0_usize..5, any(), any()).prop_map(|(from, source, destination)| Step::Frame { from, source, destination }),
        2 => (host(), 0_usize..3, prop::bool::weighted(0.2))
            .prop_map(|(mac, vtep, sticky)| Step::Set { mac, vtep, sticky }),
        1 => host().prop_map(|mac| Step::Remove { mac }),
        1 => prop::collection::vec(0_usize..3, 0..3).prop_map(Step::Flood),
        1 => (0_usize..2).prop_map(|port| Step::Flush { port }),
    ]
}

fn send(lab: &mut BridgeLab, from: usize, source: u8, destination: u8) -> Expected {
    let packet = Ip::new("198.51.100.1", "198.51.100.2");
    let bytes = frame(mac_of(destination), mac_of(source), &packet);
    let ports = [lab.a, lab.b];
    let (verdict, sent) = match ports.get(from) {
        Some(&port) => lab.send(port, &bytes),
        None => lab.send(lab.up, &tunnelled(VTEPS[from - 2], 110, 0, &bytes)),
    };
    lab.now += Duration::from_secs(1);
    lab.worker.tick(lab.now);
    lab.upkeep();
    if let Verdict::Drop(reason) | Verdict::HandOver(reason) = verdict {
        return Expected::Reason(reason);
    }
    let (mut local, mut remote) = (BTreeSet::new(), BTreeSet::new());
    for (verdict, out) in sent {
        match verdict {
            Verdict::Transmit(port) if port == lab.up => {
                let (vtep, _, number, inner) = inside(&out);
                assert_eq!((number, &inner), (110, &bytes));
                let number = VTEPS.iter().position(|known| ip(known) == vtep).unwrap();
                assert!(remote.insert(number), "twice to {vtep}");
            }
            Verdict::Transmit(port) => {
                assert_eq!(out, bytes);
                let number = ports.iter().position(|known| *known == port).unwrap();
                assert!(local.insert(number), "twice to {port}");
            }
            other => panic!("{other:?}"),
        }
    }
    Expected::Sent(local, remote)
}

proptest! {
    #[test]
    fn agrees_with_the_model(steps in prop::collection::vec(step(), 0..60)) {
        let mut lab = BridgeLab::new();
        let mut model = Model { macs: BTreeMap::new(), flood: [0, 1].into() };
        for step in steps {
            match step.clone() {
                Step::Frame { from, source, destination } => {
                    let got = send(&mut lab, from, source, destination);
                    prop_assert_eq!(got, model.frame(from, source, destination), "{:?}", step);
                }
                Step::Set { mac, vtep, sticky } => {
                    lab.control.mac_set(vni(110), mac_of(mac), ip(VTEPS[vtep]), sticky).unwrap();
                    model.macs.insert(mac, Place::Vtep(vtep, sticky));
                }
                Step::Remove { mac } => {
                    lab.control.mac_remove(vni(110), mac_of(mac));
                    if matches!(model.macs.get(&mac), Some(Place::Vtep(..))) {
                        model.macs.remove(&mac);
                    }
                }
                Step::Flood(vteps) => {
                    let list: Vec<_> = vteps.iter().map(|&vtep| ip(VTEPS[vtep])).collect();
                    lab.control.flood_set(vni(110), &list).unwrap();
                    model.flood = vteps.into_iter().collect();
                }
                Step::Flush { port } => {
                    let id = [lab.a, lab.b][port];
                    lab.control.port_flush(id);
                    model.macs.retain(|_, place| *place != Place::Port(port));
                }
            }
            prop_assert_eq!(lab.control.macs(vni(110)).count(), model.macs.len());
        }
    }
}
