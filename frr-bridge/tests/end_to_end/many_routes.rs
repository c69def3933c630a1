//! Many routes at once: zebra's stream is imitated byte by byte, because stock FRR takes longer to make the routes than
//! frr-bridge to pass them on.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::time::Instant;

use crate::common::standin::StandIn;
use crate::common::{Namespace, bridge, eventually};
use dataplane_api::v1::{Health, PortSpec, PortState, TopologyState};
use frr_bridge::run::enter_namespace;

const ROUTES: u32 = 200_000;

fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&u16::try_from(value.len() + 4).expect("short").to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(value);
}

fn frame(out: &mut Vec<u8>, kind: u16, body: &[u8]) {
    let length = u16::try_from(body.len() + 20).expect("short");
    out.extend_from_slice(&[1, 1]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&u32::from(length - 4).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&[0; 10]);
    out.extend_from_slice(body);
}

/// One next-hop object out of `ifindex` and `ROUTES` routes that use it, /28s from 16.0.0.0 on.
fn stream(ifindex: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let mut object = vec![0; 8];
    attribute(&mut object, 1, &7u32.to_ne_bytes());
    attribute(&mut object, 5, &ifindex.to_ne_bytes());
    attribute(&mut object, 6, &[192, 0, 2, 2]);
    frame(&mut out, 104, &object);
    for number in 0..ROUTES {
        let mut route = vec![2, 28, 0, 0, 254, 186, 0, 1, 0, 0, 0, 0];
        attribute(&mut route, 15, &254u32.to_ne_bytes());
        attribute(&mut route, 1, &Ipv4Addr::from_bits((16 << 24) + (number << 4)).octets());
        attribute(&mut route, 6, &20u32.to_ne_bytes());
        attribute(&mut route, 30, &7u32.to_ne_bytes());
        frame(&mut out, 24, &route);
    }
    out
}

#[test]
fn many_routes_pass_through_in_seconds() {
    let router = Namespace::new("many");
    router.sh("ip link add uplink type veth peer name wire; ip link set wire up");
    let ifindex: u32 = router.sh("cat /sys/class/net/uplink/ifindex").trim().parse().expect("index");
    let directory = tempfile::tempdir().expect("directory");
    let socket = directory.path().join("dataplane.sock");
    let dataplane = StandIn::start(&socket, 1);
    dataplane.set_topology(TopologyState {
        ports: vec![PortState {
            spec: Some(PortSpec { name: "uplink".into(), ..Default::default() }),
            id: 1,
            health: Health::Up.into(),
            addresses: vec!["192.0.2.1/24".into()],
            ..Default::default()
        }],
        ..Default::default()
    });
    let _bridge = bridge(&router, &socket);
    let count = |wanted: usize| {
        eventually("all routes", || {
            let count = dataplane.state.lock().expect("lock").route_messages;
            if count >= wanted { Ok(()) } else { Err(count.to_string()) }
        });
    };
    count(2);

    let stream = stream(ifindex);
    let path = router.path();
    let started = Instant::now();
    // Kept open: its end would be zebra's.
    let _zebra = std::thread::spawn(move || {
        enter_namespace(&path).expect("namespace");
        let mut zebra = TcpStream::connect("127.0.0.1:2620").expect("frr-bridge");
        zebra.write_all(&stream).expect("all taken");
        zebra
    })
    .join()
    .expect("sent");
    count(ROUTES as usize + 2);
    let seconds = started.elapsed().as_secs_f64();
    println!("{:.0} routes per second", f64::from(ROUTES) / seconds);
    // Unoptimised, with others on the same CPUs; a task hop per route would take far longer.
    assert!(seconds < 20.0, "{seconds} s");
    let state = dataplane.state.lock().expect("lock");
    assert_eq!(state.route_messages, ROUTES as usize + 2, "each was sent once");
    assert_eq!(state.group_messages, 3, "local, connected, and one for all of them");
}
