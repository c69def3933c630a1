use std::fmt::Write as _;

use dataplane_api::v1::{InfoReply, InfoRequest, WorkerInfo};
use serde::Serialize;

use super::Session;
use crate::{cli::Format, error::Error, output, output::Row};

#[derive(Debug, Serialize)]
struct Info {
    version: String,
    dpdk_version: String,
    /// Hexadecimal: random, made when the process started.
    instance: String,
    uptime_seconds: u64,
    eal_arguments: Vec<String>,
    eal_notes: Vec<String>,
    workers: Vec<Worker>,
    fib_client: String,
    fib_synced: bool,
}

#[derive(Debug, Serialize)]
struct Worker {
    id: u32,
    cpu: u32,
    ports: Vec<String>,
    bursts: u64,
    packets: u64,
    sleeps: u64,
}

impl From<WorkerInfo> for Worker {
    fn from(worker: WorkerInfo) -> Self {
        Self {
            id: worker.id,
            cpu: worker.cpu,
            ports: worker.ports,
            bursts: worker.bursts,
            packets: worker.packets,
            sleeps: worker.sleeps,
        }
    }
}

impl Row for Worker {
    const HEADER: &'static [&'static str] = &["WORKER", "CPU", "PORTS", "BURSTS", "PACKETS", "SLEEPS"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.cpu.to_string(),
            self.ports.join(","),
            self.bursts.to_string(),
            self.packets.to_string(),
            self.sleeps.to_string(),
        ]
    }
}

impl From<InfoReply> for Info {
    fn from(reply: InfoReply) -> Self {
        Self {
            version: reply.version,
            dpdk_version: reply.dpdk_version,
            instance: format!("{:016x}", reply.instance),
            uptime_seconds: reply.uptime_seconds,
            eal_arguments: reply.eal_arguments,
            eal_notes: reply.eal_notes,
            workers: reply.workers.into_iter().map(Worker::from).collect(),
            fib_client: reply.fib_client,
            fib_synced: reply.fib_synced,
        }
    }
}

impl Info {
    fn words(&self) -> String {
        let mut words = format!(
            "pe-dataplane {} on {}, instance {}, up {} s\nEAL: {}\n",
            self.version,
            self.dpdk_version,
            self.instance,
            self.uptime_seconds,
            self.eal_arguments.join(" ")
        );
        for note in &self.eal_notes {
            _ = writeln!(words, "     {note}");
        }
        let client = if self.fib_client.is_empty() { "no session" } else { &self.fib_client };
        let synced = if self.fib_synced { "synced" } else { "not synced" };
        _ = writeln!(words, "FIB: {client}, {synced}");
        words + &output::table(&self.workers)
    }
}

pub(super) async fn run(session: &Session) -> Result<(), Error> {
    let info = Info::from(session.inspect().info(InfoRequest {}).await?.into_inner());
    match session.format {
        Format::Json => output::print_json(&info),
        Format::Table => output::print_text(&info.words()),
    }
}
