//! Bridges of the kernel: what to do in one network namespace, and doing it.
//!
//! A bridge that we made has a mark in its alias. It is made under a name that nobody uses, and gets mark and name in one
//! step, so that a bridge of the right name without the mark is somebody else's.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{info, warn};

use super::{Errors, Member};
use crate::error::Error;
use crate::host::{Link, LinkSettings, Links};

/// Marks a bridge as ours.
const MARK: &str = "openpe-bridge";
/// Name of a bridge that is being made.
const NEW: &str = "openpe-new";
/// Steps build on each other's outcome: a bridge is made, then found, then members are put into it.
const ROUNDS: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Make { bridge: String },
    SetUp { bridge: Link },
    Attach { tap: Link, bridge: Link },
    Detach { tap: Link },
    Delete { bridge: Link },
}

/// What there is to do, and why some ports cannot be served. `held` says which bridge we last put a TAP into.
fn plan(
    links: &[Link],
    members: &[Member],
    held: &BTreeMap<String, String>,
    place: &str,
) -> (Vec<Step>, Errors) {
    let find = |name: &str| links.iter().find(|link| link.name == name);
    let mut steps = Vec::new();
    let mut errors = Errors::new();
    // A managed bridge is managed for all who want it.
    let managed: BTreeSet<&str> = members
        .iter()
        .filter_map(|member| member.bridge.as_ref())
        .filter_map(|(name, managed)| managed.then_some(name.as_str()))
        .collect();
    for &name in &managed {
        match find(name) {
            None => steps.push(Step::Make { bridge: name.to_owned() }),
            Some(bridge) if is_ours(bridge) && !bridge.up => {
                steps.push(Step::SetUp { bridge: bridge.clone() });
            }
            Some(_) => {}
        }
    }
    let mut leaving = BTreeSet::new();
    for member in members {
        let tap = find(&member.interface);
        let Some((name, _)) = &member.bridge else {
            // One that others put somewhere stays there.
            let inside = |tap: &&Link| links.iter().find(|link| link.index == tap.controller);
            if let Some(tap) = tap.filter(|tap| tap.controller != 0)
                && let Some(bridge) = inside(&tap)
                && (is_ours(bridge) || held.get(&member.interface) == Some(&bridge.name))
            {
                leaving.insert(tap.index);
                steps.push(Step::Detach { tap: tap.clone() });
            }
            continue;
        };
        let problem = match find(name) {
            Some(link) if !link.is_bridge => Some(format!("{name} in {place} is not a bridge")),
            Some(link) if managed.contains(name.as_str()) && !is_ours(link) => Some(format!(
                "there is a bridge {name} in {place} already that is not ours; remove it, or use it as an external one"
            )),
            None if !managed.contains(name.as_str()) => {
                Some(format!("bridge {name} does not exist in {place}"))
            }
            _ => None,
        };
        if let Some(problem) = problem {
            errors.insert(member.port.clone(), problem);
        } else if let (Some(tap), Some(bridge)) = (tap, find(name))
            && tap.controller != bridge.index
        {
            leaving.insert(tap.index);
            steps.push(Step::Attach { tap: tap.clone(), bridge: bridge.clone() });
        }
    }
    // As an external one, too, somebody still wants it.
    let wanted = |link: &Link| {
        members.iter().any(|member| member.bridge.as_ref().is_some_and(|(name, _)| *name == link.name))
    };
    for link in links.iter().filter(|link| is_ours(link) && !wanted(link)) {
        let stays = |other: &Link| other.controller == link.index && !leaving.contains(&other.index);
        if !links.iter().any(stays) {
            steps.push(Step::Delete { bridge: link.clone() });
        }
    }
    // Left of a process that died while it made one.
    steps.extend(find(NEW).filter(|link| link.is_bridge).map(|link| Step::Delete { bridge: link.clone() }));
    (steps, errors)
}

fn is_ours(link: &Link) -> bool {
    link.is_bridge && link.alias == MARK
}

/// Brings the bridges of one namespace, which `place` names, to what `members` want. Why some ports cannot be served, and
/// whether bridges of ours are left.
pub(super) fn carry_out(
    links: &Links,
    members: &[Member],
    held: &mut BTreeMap<String, String>,
    place: &str,
) -> (Errors, bool) {
    let mut errors = Errors::new();
    let mut left = false;
    for _ in 0..ROUNDS {
        let found = match links.list() {
            Ok(found) => found,
            Err(error) => return (all(members, |member| member.bridge.is_some(), &error.to_string()), true),
        };
        left = found.iter().any(is_ours);
        let (steps, problems) = plan(&found, members, held, place);
        errors = problems;
        let mut failed = false;
        for step in &steps {
            if let Err(error) = do_step(links, step) {
                failed = true;
                errors.extend(blame(step, members, &error.to_string()));
            }
        }
        if steps.is_empty() || failed {
            break;
        }
    }
    held.clear();
    let kept = members.iter().filter(|member| !errors.contains_key(&member.port));
    held.extend(kept.filter_map(|member| Some((member.interface.clone(), member.bridge.clone()?.0))));
    (errors, left)
}

/// The ports that suffer when a step fails.
fn blame(step: &Step, members: &[Member], error: &str) -> Errors {
    let wants =
        |member: &Member, name: &str| member.bridge.as_ref().is_some_and(|(wanted, _)| wanted == name);
    match step {
        Step::Make { bridge } => all(members, |member| wants(member, bridge), error),
        Step::SetUp { bridge } => all(members, |member| wants(member, &bridge.name), error),
        Step::Attach { tap, .. } | Step::Detach { tap } => {
            all(members, |member| member.interface == tap.name, error)
        }
        Step::Delete { bridge } => {
            warn!(bridge = bridge.name, error, "cannot remove a bridge that is not used any more");
            Errors::new()
        }
    }
}

/// The same error for each of those.
fn all(members: &[Member], concerned: impl Fn(&Member) -> bool, error: &str) -> Errors {
    let wanting = members.iter().filter(|member| concerned(member));
    wanting.map(|member| (member.port.clone(), error.to_owned())).collect()
}

fn do_step(links: &Links, step: &Step) -> Result<(), Error> {
    match step {
        Step::Make { bridge } => {
            links.add_bridge(NEW)?;
            let made = links.find(NEW)?.ok_or_else(|| Error::NoInterface { interface: NEW.to_owned() })?;
            let settings =
                LinkSettings { name: Some(bridge), alias: Some(MARK), up: true, ..LinkSettings::default() };
            links.configure(&made, &settings)?;
            info!(bridge, "bridge made");
        }
        Step::SetUp { bridge } => {
            links.configure(bridge, &LinkSettings { up: true, ..LinkSettings::default() })?;
        }
        Step::Attach { tap, bridge } => {
            let settings = LinkSettings { controller: Some(bridge.index), ..LinkSettings::default() };
            links.configure(tap, &settings)?;
            info!(interface = tap.name, bridge = bridge.name, "put into its bridge");
        }
        Step::Detach { tap } => {
            links.configure(tap, &LinkSettings { controller: Some(0), ..LinkSettings::default() })?;
            info!(interface = tap.name, "taken out of its bridge");
        }
        Step::Delete { bridge } => {
            links.delete(bridge)?;
            info!(bridge = bridge.name, "bridge removed");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Carries steps out on a list of links, as the kernel would.
    fn simulate(links: &mut Vec<Link>, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Make { bridge } => {
                    let index = links.iter().map(|link| link.index).max().unwrap_or(0) + 1;
                    let (name, alias) = (bridge.clone(), MARK.to_owned());
                    assert!(links.iter().all(|link| link.name != name));
                    links.push(Link { index, name, alias, is_bridge: true, up: true, ..Link::default() });
                }
                Step::SetUp { bridge } => links.iter_mut().find(|link| *link == bridge).unwrap().up = true,
                Step::Attach { tap, bridge } => {
                    links.iter_mut().find(|link| link.index == tap.index).unwrap().controller = bridge.index;
                }
                Step::Detach { tap } => {
                    links.iter_mut().find(|link| link.index == tap.index).unwrap().controller = 0;
                }
                Step::Delete { bridge } => {
                    links.retain(|link| link.index != bridge.index);
                    assert!(
                        links.iter().all(|link| link.controller != bridge.index),
                        "{bridge:?} has members"
                    );
                }
            }
        }
    }

    const BRIDGES: [&str; 3] = ["br0", "br1", "br2"];
    const TAPS: [&str; 3] = ["t0", "t1", "t2"];

    prop_compose! {
        /// Bridges of ours and of others, TAPs in them or not, and a stranger's device.
        fn worlds()(
            bridges in prop::collection::vec((prop::option::of(any::<bool>()), any::<bool>()), 3),
            taps in prop::collection::vec(prop::option::of(0_u32..5), 4),
        ) -> Vec<Link> {
            let mut links = Vec::new();
            for ((index, name), (ours, up)) in (1..).zip(BRIDGES).zip(bridges) {
                if let Some(ours) = ours {
                    let alias = if ours { MARK } else { "" }.to_owned();
                    links.push(Link { index, name: name.into(), alias, up, is_bridge: true, ..Link::default() });
                }
            }
            for ((index, name), inside) in (11..).zip(["t0", "t1", "t2", "eth7"]).zip(taps) {
                let Some(inside) = inside else { continue };
                let controller = if links.iter().any(|link| link.index == inside) { inside } else { 0 };
                links.push(Link { index, name: name.into(), controller, ..Link::default() });
            }
            links
        }
    }

    prop_compose! {
        fn members()(wanted in prop::collection::vec(prop::option::of((0_usize..3, any::<bool>())), 0..=3)) -> Vec<Member> {
            TAPS.iter().zip(wanted).map(|(&tap, wanted)| Member {
                port: format!("port-{tap}"),
                interface: tap.to_owned(),
                bridge: wanted.map(|(bridge, managed)| (BRIDGES[bridge].to_owned(), managed)),
            }).collect()
        }
    }

    proptest! {
        /// From any state, through any wishes: what can be is, what cannot is said, what is not ours stays.
        #[test]
        fn converges(mut links in worlds(), wishes in prop::collection::vec(members(), 1..4)) {
            let foreign: Vec<Link> = links.iter().filter(|link| link.is_bridge && !is_ours(link)).cloned().collect();
            let stranger = links.iter().find(|link| link.name == "eth7").cloned();
            let mut held = BTreeMap::new();
            for members in wishes {
                let mut errors = Errors::new();
                for round in 0..=ROUNDS {
                    let (steps, problems) = plan(&links, &members, &held, "here");
                    errors = problems;
                    prop_assert!(round < ROUNDS || steps.is_empty(), "{steps:?}");
                    simulate(&mut links, &steps);
                }
                held = members.iter().filter_map(|member| Some((member.interface.clone(), member.bridge.clone()?.0))).collect();
                for link in &foreign {
                    prop_assert!(links.contains(link));
                }
                if let Some(stranger) = &stranger {
                    prop_assert!(links.contains(stranger));
                }
                for member in &members {
                    let Some(tap) = links.iter().find(|link| link.name == member.interface) else { continue };
                    let inside = links.iter().find(|link| link.index == tap.controller && tap.controller != 0);
                    match &member.bridge {
                        Some((name, _)) if !errors.contains_key(&member.port) => {
                            prop_assert_eq!(inside.map(|link| &link.name), Some(name));
                        }
                        Some(_) => {}
                        None => prop_assert!(inside.is_none_or(|link| !is_ours(link))),
                    }
                }
                for link in links.iter().filter(|link| is_ours(link)) {
                    let wanted = members.iter().any(|member| member.bridge.as_ref().is_some_and(|(name, _)| *name == link.name));
                    let used = links.iter().any(|other| other.controller == link.index);
                    prop_assert!(wanted || used, "{link:?} is left");
                }
            }
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let member = |bridge: &str, managed| Member {
            port: "p".into(),
            interface: "t0".into(),
            bridge: Some((bridge.into(), managed)),
        };
        let link =
            |index, name: &str, is_bridge| Link { index, name: name.into(), is_bridge, ..Link::default() };
        let links = [link(1, "br0", true), link(2, "eth0", false), link(3, "t0", false)];
        for (member, says) in [
            (member("br-tenant", false), "bridge br-tenant does not exist in namespace x"),
            (member("br0", true), "not ours"),
            (member("eth0", false), "not a bridge"),
        ] {
            let (steps, errors) = plan(&links, &[member], &BTreeMap::new(), "namespace x");
            assert!(steps.is_empty() && errors["p"].contains(says), "{steps:?} {errors:?}");
        }
    }
}
