//! A client of pe-dataplane: what tests ask it, without a process per question.

use std::collections::BTreeMap;
use std::path::Path;

use dataplane_api::v1::inspect_client::InspectClient;
use dataplane_api::v1::topology_client::TopologyClient;
use dataplane_api::v1::{
    ApplyRequest, BridgeCounters, BridgeEntry, CountersReply, CountersRequest, InfoReply, InfoRequest,
    ListBridgesRequest, ListMacsRequest, ListNeighborsRequest, ListRoutesRequest, MacTableEntry,
    NeighborEntry, RouteEntry, TopologySpec, TopologyState, WatchRequest,
};
use futures::TryStreamExt as _;
use tokio::runtime::Runtime;
use tonic::Status;
use tonic::transport::Channel;

use crate::{Error, Result};

/// A connection.
#[derive(Debug)]
pub struct Dataplane {
    runtime: Runtime,
    channel: Channel,
    socket: String,
}

impl Dataplane {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(socket: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::system("cannot make a runtime"))?;
        let name = socket.display().to_string();
        let channel = runtime
            .block_on(dataplane_api::connect(socket))
            .map_err(|error| Error::Rpc { socket: name.clone(), reason: error.to_string() })?;
        Ok(Self { runtime, channel, socket: name })
    }

    fn run<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T> {
        self.runtime
            .block_on(call)
            .map_err(|status| Error::Rpc { socket: self.socket.clone(), reason: status.to_string() })
    }

    /// The topology as it is.
    ///
    /// # Errors
    /// When the dataplane does not answer.
    pub fn topology(&self) -> Result<TopologyState> {
        let state = self.run(async {
            TopologyClient::new(self.channel.clone())
                .watch(WatchRequest {})
                .await?
                .into_inner()
                .message()
                .await
        })?;
        state.ok_or_else(|| Error::unexpected(format!("{}: the topology stream ended at once", self.socket)))
    }

    /// Has a topology carried out.
    ///
    /// # Errors
    /// When the dataplane does not answer, or cannot do all of it.
    pub fn apply(&self, spec: &TopologySpec) -> Result<()> {
        let request = ApplyRequest { spec: Some(spec.clone()) };
        let response = self.run(async {
            // The answer names every object.
            let client = TopologyClient::new(self.channel.clone());
            let mut client = client.max_decoding_message_size(dataplane_api::MAX_MESSAGE_BYTES);
            Ok(client.apply(request).await?.into_inner())
        })?;
        match response.results.iter().find(|result| !result.error.is_empty()) {
            None => Ok(()),
            Some(failed) => {
                Err(Error::unexpected(format!("{} {}: {}", failed.kind, failed.name, failed.error)))
            }
        }
    }

    /// Version, workers and the FIB session.
    ///
    /// # Errors
    /// When the dataplane does not answer.
    pub fn info(&self) -> Result<InfoReply> {
        self.run(async {
            Ok(InspectClient::new(self.channel.clone()).info(InfoRequest {}).await?.into_inner())
        })
    }

    /// Routes of a VRF by prefix.
    ///
    /// # Errors
    /// When there is no such VRF or the dataplane does not answer.
    pub fn routes(&self, vrf: &str) -> Result<BTreeMap<String, RouteEntry>> {
        let entries: Vec<RouteEntry> = self.run(async {
            InspectClient::new(self.channel.clone())
                .list_routes(ListRoutesRequest { vrf: vrf.into() })
                .await?
                .into_inner()
                .try_collect()
                .await
        })?;
        Ok(entries.into_iter().map(|entry| (entry.prefix.clone(), entry)).collect())
    }

    /// All neighbours.
    ///
    /// # Errors
    /// When the dataplane does not answer.
    pub fn neighbors(&self) -> Result<Vec<NeighborEntry>> {
        self.run(async {
            InspectClient::new(self.channel.clone())
                .list_neighbors(ListNeighborsRequest { port: String::new() })
                .await?
                .into_inner()
                .try_collect()
                .await
        })
    }

    /// The bridge domain of an L2VNI, if there is one.
    ///
    /// # Errors
    /// When the dataplane does not answer.
    pub fn bridge(&self, vni: u32) -> Result<Option<BridgeEntry>> {
        let entries: Vec<BridgeEntry> = self.run(async {
            InspectClient::new(self.channel.clone())
                .list_bridges(ListBridgesRequest { vni: 0 })
                .await?
                .into_inner()
                .try_collect()
                .await
        })?;
        Ok(entries.into_iter().find(|entry| entry.vni == vni))
    }

    /// MACs of an L2VNI by their text.
    ///
    /// # Errors
    /// When there is no such L2VNI or the dataplane does not answer.
    pub fn macs(&self, vni: u32) -> Result<BTreeMap<String, MacTableEntry>> {
        let entries: Vec<MacTableEntry> = self.run(async {
            InspectClient::new(self.channel.clone())
                .list_macs(ListMacsRequest { vni })
                .await?
                .into_inner()
                .try_collect()
                .await
        })?;
        Ok(entries.into_iter().map(|entry| (entry.mac.clone(), entry)).collect())
    }

    /// Counters now.
    ///
    /// # Errors
    /// When the dataplane does not answer.
    pub fn counters(&self) -> Result<Counters> {
        let reply = self.run(async {
            InspectClient::new(self.channel.clone())
                .counters(CountersRequest { interval_ms: 0 })
                .await?
                .into_inner()
                .message()
                .await
        })?;
        reply.map(Counters).ok_or_else(|| Error::unexpected(format!("{}: no counters", self.socket)))
    }
}

/// A snapshot of all counters.
#[derive(Clone, Debug)]
pub struct Counters(pub CountersReply);

impl Counters {
    /// Packets that the fast path sent on, whatever port they came by.
    pub fn forwarded(&self) -> u64 {
        self.0.ports.iter().map(|port| port.forwarded).sum()
    }

    /// Packets handed over to the kernel on all ports, by reason.
    pub fn hand_overs(&self) -> BTreeMap<String, u64> {
        sum(self
            .0
            .ports
            .iter()
            .flat_map(|port| &port.hand_overs)
            .map(|counter| (&counter.reason, counter.packets)))
    }

    /// Packets dropped on all ports, by reason.
    pub fn drops(&self) -> BTreeMap<String, u64> {
        sum(self
            .0
            .ports
            .iter()
            .flat_map(|port| &port.drops)
            .map(|counter| (&counter.reason, counter.packets)))
    }

    /// Lookups in a VRF that matched no route.
    pub fn no_route(&self, vrf: &str) -> u64 {
        self.0.vrfs.iter().find(|counters| counters.vrf == vrf).map_or(0, |counters| counters.no_route)
    }

    /// What was counted of an L2VNI's bridge domain.
    pub fn bridge(&self, vni: u32) -> BridgeCounters {
        self.0.bridges.iter().find(|counters| counters.vni == vni).copied().unwrap_or_default()
    }

    /// Packets sent out of a port.
    pub fn sent(&self, port: &str) -> u64 {
        self.0.ports.iter().find(|counters| counters.port == port).map_or(0, |counters| counters.tx_packets)
    }
}

fn sum<'a>(pairs: impl Iterator<Item = (&'a String, u64)>) -> BTreeMap<String, u64> {
    let mut total = BTreeMap::new();
    for (reason, packets) in pairs {
        *total.entry(reason.clone()).or_default() += packets;
    }
    total
}
