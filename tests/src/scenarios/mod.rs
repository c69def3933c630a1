//! The end-to-end tests. One lab serves them all, in the order given here; each leaves it as it found it.

mod bgp;
mod fastpath;
mod icmp;
mod input;
mod reach;
mod restart;

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use libtest_mimic::{Arguments, Failed, Trial};

use crate::cli::Request;
use crate::lab::Lab;
use crate::lab::plan::VRFS;
use crate::wait::LONG;
use crate::{Result, remote, traffic};

type Scenario = fn(&mut Lab) -> Result<()>;

/// Every test by name. Those that take something away come last.
const SCENARIOS: &[(&str, Scenario)] = &[
    ("sessions_come_up_and_all_hosts_of_a_vrf_reach_each_other", reach::hosts_of_a_vrf),
    ("hosts_of_different_vrfs_never_meet", reach::walls),
    ("an_address_without_a_route_is_dropped_in_its_vrf", reach::no_route),
    ("type5_routes_appear_and_are_withdrawn_everywhere", bgp::type5),
    ("traffic_takes_the_fast_path", fastpath::counters),
    ("both_spines_carry_traffic", fastpath::both_spines),
    ("traceroute_shows_the_pe", icmp::traceroute),
    ("a_too_big_packet_brings_back_the_mtu", icmp::too_big),
    ("no_outer_packet_is_fragmented", icmp::no_outer_fragments),
    ("an_idle_node_does_not_burn_its_cpu", fastpath::idle),
    ("pectl_prints_json_and_explains_routes", fastpath::pectl),
    ("a_wrong_object_is_reported_and_the_others_applied", input::wrong_objects),
    ("a_missing_interface_is_reported_retried_and_shown", input::missing_interface),
    ("a_missing_dataplane_or_frr_is_reported_and_waited_for", input::missing_peers),
    ("garbage_frames_are_counted_and_dropped", input::garbage_frames),
    ("garbage_on_fpm_and_grpc_ends_only_its_connection", input::garbage_connections),
    ("a_second_l3vni_resets_no_session_and_loses_no_packet", bgp::add_vni),
    ("killing_frr_bridge_loses_no_packet", restart::bridge),
    ("killing_pe_controller_loses_no_packet", restart::controller),
    ("sessions_and_bfd_stood_through_all_of_it", bgp::stood),
    ("a_lost_spine_link_moves_traffic_and_no_prefix", fastpath::spine_link),
];

/// Runs the tests that `args` choose, in `lab`'s world; without one only lists them.
///
/// # Errors
/// Never; failures are the exit code.
pub fn run(lab: Option<(&Path, &Request)>, args: Vec<String>) -> Result<ExitCode> {
    let mut arguments = Arguments::from_iter(std::iter::once("e2e".to_owned()).chain(args));
    // One lab, one test at a time.
    arguments.test_threads = Some(1);
    let shared = Arc::new(Mutex::new(State::NotStarted));
    let place = lab.map(|(dir, request)| (dir.to_path_buf(), request.clone()));
    if let Some((dir, _)) = &place {
        remote::serve(dir)?;
    }
    let trials = SCENARIOS
        .iter()
        .map(|&(name, scenario)| {
            let (shared, place) = (Arc::clone(&shared), place.clone());
            Trial::test(name, move || {
                let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
                let (dir, request) = place.as_ref().ok_or("not in a lab")?;
                let lab = state.lab(dir, request)?;
                let start = Instant::now();
                scenario(lab).and_then(|()| lab.alive()).map_err(|error| {
                    // At once: libtest tells at the end, which a run that hangs never reaches.
                    eprintln!("\n{name}: {error} (after {} s)", start.elapsed().as_secs());
                    Failed::from(error.to_string())
                })
            })
        })
        .collect();
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

/// The lab is started by the first test that needs it, and only once.
enum State {
    NotStarted,
    Failed(String),
    Running(Box<Lab>),
}

impl State {
    fn lab(&mut self, dir: &Path, request: &Request) -> std::result::Result<&mut Lab, Failed> {
        if matches!(self, Self::NotStarted) {
            let start = Instant::now();
            *self = match Lab::start(dir, request, |step| eprintln!("lab: {step}")).and_then(settled) {
                Ok(lab) => Self::Running(Box::new(lab)),
                Err(error) => Self::Failed(error.to_string()),
            };
            eprintln!("lab: up after {} s", start.elapsed().as_secs());
        }
        match self {
            Self::Running(lab) => Ok(lab),
            Self::Failed(error) => Err(format!("the lab did not come up: {error}").into()),
            Self::NotStarted => Err("the lab was not started".into()),
        }
    }
}

/// Waits until everybody reaches everybody, which every test starts from.
fn settled(mut lab: Lab) -> Result<Lab> {
    for vrf in VRFS {
        lab.until(2 * LONG, format!("hosts of VRF {} to reach each other", vrf.name), |_| {
            traffic::ping::all_reach(vrf)
        })?;
    }
    Ok(lab)
}
