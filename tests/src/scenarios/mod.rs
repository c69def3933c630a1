//! The end-to-end tests. One lab serves them all, in the order given here; each leaves it as it found it.

mod bfd;
mod bgp;
mod fastpath;
mod icmp;
mod input;
mod l2;
mod passthrough;
mod reach;
mod restart;

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use libtest_mimic::{Arguments, Failed, Trial};

use crate::cli::{FrrVersion, Request};
use crate::lab::Lab;
use crate::lab::plan::VRFS;
use crate::wait::LONG;
use crate::{Result, remote, traffic};

type Scenario = fn(&mut Lab) -> Result<()>;

/// Carried by FRR 10.7 and later; earlier releases know no IPv6 VTEP.
const IPV6_VTEP: &str = "ipv6_vteps_carry_an_l2vni_and_an_l3vni";
const NO_IPV6_VTEP: &str = "ipv6_vteps_are_refused_before_frr_10_7";

/// Why a test says nothing with this FRR.
fn pointless(name: &str, frr: FrrVersion) -> Option<&'static str> {
    match (name, frr) {
        (IPV6_VTEP, FrrVersion::V8_4 | FrrVersion::V10_3) => Some("this FRR knows no IPv6 VTEP"),
        (NO_IPV6_VTEP, FrrVersion::V10_7) => Some("this FRR knows IPv6 VTEPs"),
        _ => None,
    }
}

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
    ("stations_of_an_l2vni_reach_each_other_by_ping_tcp_and_udp", l2::reach::one_domain),
    ("stations_of_two_l2vnis_of_a_vrf_reach_each_other", l2::reach::two_domains),
    ("stations_reach_far_prefixes_of_their_vrf_and_back", l2::reach::far_prefix),
    ("every_gateway_answers_with_the_mac_of_all_pes", l2::reach::gateways),
    ("a_disconnected_l2vni_works_without_a_vrf", l2::reach::disconnected),
    ("type2_and_type3_routes_are_on_both_sides", l2::routes::both_ways),
    ("frames_of_the_exact_mtu_pass_and_longer_ones_do_not", l2::size::exact),
    ("requests_for_known_stations_are_answered_where_they_are_asked", l2::suppression::known),
    ("requests_for_unknown_stations_are_flooded_once_to_each_vtep", l2::suppression::unknown),
    ("flows_of_an_l2vni_have_many_outer_source_ports", l2::outer::entropy),
    ("dscp_and_ecn_are_copied_into_the_outer_header", l2::outer::copied),
    ("congestion_marked_outside_comes_out_inside", l2::outer::congestion),
    ("a_station_moves_to_another_node_and_back", l2::mobility::there_and_back),
    ("a_mac_in_two_places_is_frozen_by_frr_and_stays_so", l2::duplicate::frozen),
    ("a_silent_station_stays_known_and_a_dead_one_does_not", l2::silence::listener),
    ("a_linux_vtep_without_bgp_is_reached_and_learned", l2::static_vtep::flood_list),
    ("pectl_shows_bridges_macs_floods_and_traces", l2::pectl::shown),
    ("frames_that_lie_are_counted_and_teach_nothing", l2::input::liars),
    ("garbage_on_a_bridged_port_harms_nobody", l2::input::garbage),
    ("a_storm_of_macs_fills_its_own_limit_only", l2::storm::macs),
    ("a_storm_of_broadcasts_is_cut_and_delays_nobody", l2::storm::broadcasts),
    ("an_l2vni_deleted_and_back_is_noticed_by_no_other", l2::changes::re_added),
    ("a_gateway_changed_is_noticed_by_no_other", l2::changes::gateway),
    ("a_host_master_changed_is_noticed_by_no_other", l2::changes::host_master),
    ("passthrough_prefixes_are_not_encapsulated", passthrough::both_ways),
    (IPV6_VTEP, l2::ipv6_vtep::carried),
    (NO_IPV6_VTEP, l2::ipv6_vtep::refused),
    ("a_wrong_object_is_reported_and_the_others_applied", input::wrong_objects),
    ("a_missing_interface_is_reported_retried_and_shown", input::missing_interface),
    ("a_missing_dataplane_or_frr_is_reported_and_waited_for", input::missing_peers),
    ("garbage_frames_are_counted_and_dropped", input::garbage_frames),
    ("garbage_on_fpm_and_grpc_ends_only_its_connection", input::garbage_connections),
    ("a_second_l3vni_resets_no_session_and_loses_no_packet", bgp::add_vni),
    ("killing_frr_bridge_loses_no_packet", restart::bridge),
    ("a_mac_learned_before_frr_knew_its_vni_is_advertised", l2::late::advertised),
    ("killing_pe_controller_loses_no_packet", restart::controller),
    ("sessions_and_bfd_stood_through_all_of_it", bfd::stood),
    ("bfd_ends_a_session_whose_path_is_silent", bfd::silent_path),
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
            let reason = place.as_ref().and_then(|(_, request)| pointless(name, request.frr));
            let shown = reason.map_or_else(|| name.to_owned(), |reason| format!("{name} ({reason})"));
            Trial::test(shown, move || {
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
            .with_ignored_flag(reason.is_some())
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
