//! A Linux VTEP that speaks no BGP.

use super::extra;
use crate::lab::l2::{L2Vni, MTU};
use crate::lab::plan::{RED, spine_netns, vtep};
use crate::lab::{Lab, netns, node};
use crate::traffic::packet::{Mac, text};
use crate::traffic::ping;
use crate::wait::{LONG, until};
use crate::{Error, Result};

const LEGACY: L2Vni =
    L2Vni { name: "legacy", vni: 160, vrf: Some(RED), subnet: 6, stations: [1, 0, 0], mtu: MTU };
const NAME: &str = "vtep9";
const MAC: Mac = [2, 0, 0xa0, 0, 9, 1];

/// It has a static flood list, and n1 has it in its own: it pings the anycast gateway and a station, and its MAC is learned from its packets.
pub(in super::super) fn flood_list(lab: &mut Lab) -> Result<()> {
    let spine = spine_netns(1);
    let [address, ours] = [vtep(9), vtep(1)];
    let (v4, v6) = (LEGACY.v4(9), LEGACY.v6(9));
    netns::create(&[NAME.to_owned()])?;
    netns::ip_batch(
        Some(&spine),
        &format!(
            "link add to-{NAME} type veth peer name eth0 netns {NAME}\n\
             addr add 192.168.19.254/24 dev to-{NAME}\nlink set to-{NAME} up\n"
        ),
    )?;
    netns::ip_batch(
        Some(NAME),
        &format!(
            "addr add 192.168.19.1/24 dev eth0\nlink set eth0 up\nroute add default via 192.168.19.254\n\
             addr add {address}/32 dev lo\n\
             link add vx160 address {mac} type vxlan id 160 local {address} dstport 4789\n\
             link set vx160 mtu 1450 up\naddr add {v4}/24 dev vx160\naddr add {v6}/64 dev vx160 nodad\n",
            mac = text(MAC)
        ),
    )?;
    let append = |netns: &str, device: &str, to| {
        let to = format!("{to}");
        let args = ["fdb", "append", "00:00:00:00:00:00", "dev", device, "dst", &to, "self", "permanent"];
        netns::run(netns, "bridge", &args).map(|_| ())
    };
    append(NAME, "vx160", ours)?;
    netns::ip_batch(Some(&spine), &format!("route add {address}/32 via 192.168.19.1"))?;
    let announce = |no: &str| {
        let network = format!("{no}network {address}/32");
        lab.spines[0]
            .vtysh(&["configure terminal", "router bgp 64612", "address-family ipv4 unicast", &network])
            .map(|_| ())
    };
    announce("")?;
    let result = extra::with(
        lab,
        LEGACY,
        &[1],
        |object| object.with("learnFromVteps: true"),
        |lab| {
            until(LONG, "the shadow of the L2VNI", || append(&node::router_netns(1), "vni160", address))?;
            let station = LEGACY.station(1, 1);
            let tries: Vec<ping::Try> = LEGACY
                .gateways()
                .into_iter()
                .chain(station.addresses())
                .map(|target| {
                    (NAME.to_owned(), target, Some(if target.is_ipv4() { v4.into() } else { v6.into() }))
                })
                .collect();
            until(LONG, "the gateway and the station to answer", || ping::every(tries.clone()))?;
            ping(&station.name(), v4.into(), Some(station.v4().into()))?;
            let client = lab.node(1).client()?;
            until(LONG, "its MAC to be learned", || match client.macs(LEGACY.vni)?.remove(&text(MAC)) {
                Some(entry) if entry.kind == "learned" && entry.vtep == address.to_string() => Ok(()),
                entry => Err(Error::unexpected(format!("it is {entry:?}"))),
            })
        },
    );
    let network = format!("no network {address}/32");
    lab.spines[0].vtysh(&[
        "configure terminal",
        "router bgp 64612",
        "address-family ipv4 unicast",
        &network,
    ])?;
    netns::ip_batch(Some(&spine), &format!("link del to-{NAME}"))?;
    netns::ip_batch(None, &format!("netns del {NAME}"))?;
    result
}
