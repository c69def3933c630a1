//! The commands: ask the dataplane, shape the answer, print it.

use std::process::ExitCode;

use clap::CommandFactory;
use dataplane_api::{
    MAX_MESSAGE_BYTES,
    v1::{
        BridgeEntry, ListBridgesRequest, TopologyState, TraceRequest, WatchRequest,
        inspect_client::InspectClient, topology_client::TopologyClient,
    },
};
use tokio_stream::StreamExt;
use tonic::transport::Channel;

use crate::{
    cli::{Arguments, Command, Format, MacCommand, RouteCommand},
    error::Error,
    output,
};

mod bridges;
mod drops;
mod explanation;
mod flood;
mod info;
mod mac;
mod macs;
mod neighbors;
mod ports;
mod route;
mod routes;
mod suppression;
mod trace;
mod vnis;
mod vrfs;

/// An open connection, and how to print.
pub(crate) struct Session {
    channel: Channel,
    pub(crate) format: Format,
}

impl Session {
    pub(crate) fn inspect(&self) -> InspectClient<Channel> {
        InspectClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// The topology as it is now: the first message of a watch.
    ///
    /// # Errors
    /// When the dataplane does not answer.
    pub(crate) async fn topology(&self) -> Result<TopologyState, Error> {
        let mut client =
            TopologyClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let mut states = client.watch(WatchRequest {}).await?.into_inner();
        states.message().await?.ok_or_else(|| {
            Error::Refused(tonic::Status::unavailable("it ended the watch before the first state"))
        })
    }

    /// The name under which the dataplane knows a VRF, after making sure that it exists.
    ///
    /// # Errors
    /// When there is no such VRF.
    pub(crate) async fn known_vrf(&self, name: &str) -> Result<(), Error> {
        let topology = self.topology().await?;
        let names = topology.vrfs.iter().filter_map(|vrf| vrf.spec.as_ref()).map(|spec| spec.name.as_str());
        known("VRF", name, names)
    }

    /// Makes sure that an L2VNI exists, if one is asked for. What the interface takes for it: 0 is all.
    ///
    /// # Errors
    /// When there is no such L2VNI.
    pub(crate) async fn known_l2vni(&self, vni: Option<u32>) -> Result<u32, Error> {
        let Some(vni) = vni else { return Ok(0) };
        let topology = self.topology().await?;
        let specs = topology.l2vnis.iter().filter_map(|state| state.spec.as_ref());
        let names: Vec<String> = specs.map(|spec| spec.vni.to_string()).collect();
        known("L2VNI", &vni.to_string(), names.iter().map(String::as_str))?;
        Ok(vni)
    }

    /// Bridge domains: the one asked for, or all.
    ///
    /// # Errors
    /// When it does not exist.
    pub(crate) async fn bridges(&self, vni: Option<u32>) -> Result<Vec<BridgeEntry>, Error> {
        let request = ListBridgesRequest { vni: self.known_l2vni(vni).await? };
        let stream = self.inspect().list_bridges(request).await?.into_inner();
        Ok(stream.collect::<Result<_, _>>().await?)
    }
}

/// Whether `name` is among the `names` of that kind.
///
/// # Errors
/// When it is not, with the names that are.
pub(crate) fn known<'a>(
    kind: &'static str,
    name: &str,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), Error> {
    let names: Vec<&str> = names.collect();
    if names.contains(&name) {
        return Ok(());
    }
    let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Err(Error::NotFound { kind, name: name.to_owned(), known })
}

/// Carries out the command.
///
/// # Errors
/// As [`Error`] has them.
pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    if let Command::Completion { shell } = arguments.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Arguments::command(), "pectl", &mut script);
        output::print_text(&String::from_utf8_lossy(&script))?;
        return Ok(ExitCode::SUCCESS);
    }
    let session =
        Session { channel: dataplane_api::connect(&arguments.socket).await?, format: arguments.output };
    match arguments.command {
        Command::Ports => ports::run(&session).await?,
        Command::Vrfs => vrfs::run(&session).await?,
        Command::Vnis => vnis::run(&session).await?,
        Command::Routes { vrf } => routes::run(&session, vrf).await?,
        Command::Route(RouteCommand::Get {
            address,
            vrf,
            source,
            protocol,
            source_port,
            destination_port,
        }) => {
            let flow = route::Flow { source, protocol, source_port, destination_port };
            return route::get(&session, address, vrf, flow).await;
        }
        Command::Neighbors { port } => neighbors::run(&session, port).await?,
        Command::Bridges { vni } => bridges::run(&session, vni).await?,
        Command::Macs { vni } => macs::run(&session, vni).await?,
        Command::Mac(MacCommand::Get { mac, vni }) => return mac::get(&session, mac, vni).await,
        Command::Flood { vni } => flood::run(&session, vni).await?,
        Command::Suppression { vni } => suppression::run(&session, vni).await?,
        Command::Trace { expression, count, seconds, hex } => {
            let request = TraceRequest { expression: expression.join(" "), count, seconds };
            return trace::run(&session, request, hex).await;
        }
        Command::Drops { watch } => drops::run(&session, watch).await?,
        Command::Info => info::run(&session).await?,
        Command::Completion { .. } => unreachable!("answered above, without a connection"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The default VRF's name for people, where the interface has none.
pub(crate) fn vrf_name(name: String) -> String {
    if name.is_empty() { "default".to_owned() } else { name }
}

/// A health as one word.
pub(crate) fn health(value: i32) -> &'static str {
    use dataplane_api::v1::Health;
    match Health::try_from(value) {
        Ok(Health::Up) => "up",
        Ok(Health::Down) => "down",
        Ok(Health::Failed) => "failed",
        Ok(Health::Unspecified) | Err(_) => "unknown",
    }
}
