//! Bridge domains: frames from a port to a port, into tunnels and out of them, to one place or to many.

use std::time::Duration;

use forwarding::{
    Attachment, BridgeConfig, BridgePort, Buffer, Control, Mac, PortConfig, PortId, Verdict, Vni, VrfId,
};

pub(crate) use super::MTU;
use super::expected::Expected;
use super::{Groups, NEXT_HOPS, Ports};
use crate::traffic;

/// More than any scenario has.
const MAC_LIMIT: u32 = 1 << 20;
/// Frames by which hosts become known, at once.
const INTRODUCED: usize = 1000;
/// And the time between, in which no port's rate of learning is exceeded.
const PAUSE: Duration = Duration::from_millis(100);

/// Which way frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From a port to hosts on another one.
    Local,
    /// From a port to hosts behind VTEPs.
    Encapsulate,
    /// From VTEPs to hosts on a port.
    Decapsulate,
    /// From a port to everybody.
    Flood,
}

/// A domain and what goes through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Domain {
    pub(super) way: Way,
    /// Destinations.
    pub(super) macs: u32,
    /// VTEPs in the domain.
    pub(super) vteps: u16,
}

impl Domain {
    pub(super) const fn new(way: Way, macs: u32) -> Self {
        Self { way, macs, vteps: traffic::VTEPS as u16 }
    }

    pub(super) const fn flood(vteps: u16) -> Self {
        Self { way: Way::Flood, macs: 0, vteps }
    }

    fn vteps(self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).take(self.vteps.into())
    }

    /// The VTEP that a host is behind, or that a flow comes from.
    fn vtep(self, index: u32) -> u8 {
        u8::try_from(index % u32::from(self.vteps)).expect("at most 256")
    }

    /// The destination of flow `index`.
    fn destination(self, index: u32) -> [u8; 6] {
        if self.way == Way::Flood { [0xff; 6] } else { traffic::host_mac(index % self.macs) }
    }

    fn flows() -> impl Iterator<Item = u32> {
        (0..).take(traffic::FLOWS)
    }

    /// How many frames leave for one that enters.
    pub(super) fn copies(self) -> u16 {
        if self.way == Way::Flood { self.vteps } else { 1 }
    }

    /// What enters, by flow.
    pub(super) fn frames(self) -> Vec<Vec<u8>> {
        let bridged = |index| traffic::bridged(self.destination(index), index);
        Self::flows()
            .map(|index| match self.way {
                Way::Decapsulate => {
                    let (vtep, frame) = (self.vtep(index), bridged(index));
                    traffic::through_tunnel(vtep, traffic::L2VNI, index as usize, &frame)
                }
                _ => bridged(index),
            })
            .collect()
    }

    /// What must leave, by flow; of as many flows as there are frames in a scenario that floods none.
    pub(super) fn expected(self) -> Vec<Vec<Expected>> {
        Self::flows()
            .take(traffic::FLOWS.div_ceil(self.copies().into()))
            .map(|index| {
                let frame = traffic::bridged(self.destination(index), index);
                let by = |vtep| Expected::tunnelled(0, vtep, traffic::L2VNI, frame.clone());
                match self.way {
                    Way::Local | Way::Decapsulate => vec![Expected::plain(0, frame)],
                    Way::Encapsulate => vec![by(self.vtep(index % self.macs))],
                    // In the order of the list, which is that of the addresses.
                    Way::Flood => self.vteps().map(by).collect(),
                }
            })
            .collect()
    }

    pub(super) fn set_up(self, control: &mut Control) -> anyhow::Result<Ports> {
        let vni = add(control)?;
        let routed = Attachment::Routed(VrfId::DEFAULT);
        let bridged = Attachment::Bridged(port(vni));
        let (input, output) = match self.way {
            Way::Local => (bridged, bridged),
            Way::Encapsulate | Way::Flood => (bridged, routed),
            Way::Decapsulate => (routed, bridged),
        };
        let mut add_port = |name: &str, attachment, mac| {
            control.port_add(PortConfig { name: name.to_owned(), attachment, mac: Mac::new(mac), mtu: MTU })
        };
        let input = add_port("input", input, traffic::OUR_MAC)?;
        let output = add_port("output", output, traffic::OUTPUT_MAC)?;
        control.session_begin();
        let underlay = if self.way == Way::Decapsulate { input } else { output };
        if self.way != Way::Local {
            let mut groups = Groups { control, next: 1 };
            let adjacent: Vec<u32> = (0..NEXT_HOPS)
                .map(|index| groups.adjacent(underlay, index))
                .collect::<anyhow::Result<_>>()?;
            for index in self.vteps() {
                let group = adjacent[usize::from(index) % adjacent.len()];
                control.route4(VrfId::DEFAULT, traffic::remote_vtep(index).to_bits(), 32, group)?;
            }
            let vteps: Vec<_> = self.vteps().map(|index| traffic::remote_vtep(index).into()).collect();
            control.flood_set(vni, &vteps)?;
        }
        match self.way {
            Way::Encapsulate => {
                for host in 0..self.macs {
                    let vtep = traffic::remote_vtep(self.vtep(host)).into();
                    control.mac_set(vni, Mac::new(traffic::host_mac(host)), vtep, false)?;
                }
            }
            Way::Local | Way::Decapsulate => {
                introduce(control, output, (0..self.macs).map(traffic::host_mac))?;
            }
            Way::Flood => {}
        }
        if self.way != Way::Decapsulate {
            introduce(control, input, [traffic::PEER_MAC].into_iter())?;
        }
        Ok(Ports { inputs: vec![input], outputs: vec![output] })
    }
}

/// Adds a bridge domain.
pub(crate) fn add(control: &mut Control) -> anyhow::Result<Vni> {
    let vni = Vni::new(traffic::L2VNI)?;
    control.vtep_addresses_set(&[traffic::OUR_VTEP.into()])?;
    control.bridge_set(
        vni,
        BridgeConfig {
            vrf: None,
            vtep: traffic::OUR_VTEP.into(),
            udp_port: traffic::VXLAN_PORT,
            mac: Mac::new(traffic::OUR_ROUTER_MAC),
            gateways: Vec::new(),
            mtu: MTU,
            mac_limit: MAC_LIMIT,
            aging: Duration::from_secs(300),
            learn_from_vteps: false,
        },
    )?;
    Ok(vni)
}

/// A port of it that may flood and learn whatever it likes.
pub(crate) fn port(vni: Vni) -> BridgePort {
    BridgePort { vni, mac_limit: MAC_LIMIT, flood_rate: u32::MAX }
}

/// Lets hosts on a port be learned as ever: they send something.
pub(crate) fn introduce(
    control: &mut Control,
    port: PortId,
    hosts: impl Iterator<Item = [u8; 6]>,
) -> anyhow::Result<()> {
    let mut worker = control.worker();
    let mut frames = hosts.map(|mac| Buffer::new(&traffic::announcement(mac))).peekable();
    let (mut now, mut wanted) = (Duration::ZERO, 0);
    control.take_learned();
    while frames.peek().is_some() {
        let mut some: Vec<Buffer> = frames.by_ref().take(INTRODUCED).collect();
        now += PAUSE;
        worker.tick(now);
        worker.process(port, &mut some, &mut [Verdict::Replicate; INTRODUCED]);
        worker.quiescent();
        control.upkeep(now);
        wanted += some.len();
    }
    let learned = control.take_learned().len();
    anyhow::ensure!(learned == wanted, "{learned} of {wanted} hosts were learned");
    Ok(())
}
