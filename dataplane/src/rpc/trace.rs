//! Traces: frames that workers caught, explained.

use std::time::Duration;

use dataplane_api::v1;
use forwarding::Verdict;
use tokio::sync::mpsc;
use tonic::Status;

use super::Services;
use super::inspect::port_name;
use crate::topology::lock;
use crate::trace::{Caught, Trace};

/// Of a frame, bytes that are shown.
const SHOWN_BYTES: usize = 256;
const DEFAULT_SECONDS: u32 = 60;
const MAX_SECONDS: u32 = 3600;
const MAX_COUNT: u32 = 10_000;
/// Entries that wait for a client that reads slowly; what comes meanwhile waits with the workers, or is lost and counted.
const ENTRIES: usize = 16;

type Entries = mpsc::Receiver<Result<v1::TraceEntry, Status>>;

/// Starts a trace; its entries.
pub(super) fn start(services: &Services, request: &v1::TraceRequest) -> Result<Entries, Status> {
    let within = |what, value: u32, default, max| match value {
        0 => Ok(default),
        value if value <= max => Ok(value),
        value => Err(Status::invalid_argument(format!("{what} {value} is above {max}"))),
    };
    let count = within("count", request.count, 1, MAX_COUNT)?;
    let seconds = within("seconds", request.seconds, DEFAULT_SECONDS, MAX_SECONDS)?;
    let time = Duration::from_secs(seconds.into());
    let filter = lock(&services.control)
        .filter(&request.expression)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let trace = services
        .tracer
        .start(filter, count, time)
        .map_err(|busy| Status::failed_precondition(busy.to_string()))?;
    let (sender, receiver) = mpsc::channel(ENTRIES);
    tokio::spawn(follow(services.clone(), trace, count, time, sender));
    Ok(receiver)
}

/// Until enough was caught, time is up, or nobody listens any more.
async fn follow(
    services: Services,
    mut trace: Trace,
    count: u32,
    time: Duration,
    sender: mpsc::Sender<Result<v1::TraceEntry, Status>>,
) {
    let frames = async {
        for _ in 0..count {
            let Some(caught) = trace.next().await else { return };
            let entry = v1::TraceEntry { lost: trace.take_lost(), ..entry(&services, &caught) };
            if sender.send(Ok(entry)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = frames => {}
        () = tokio::time::sleep(time) => {}
        () = sender.closed() => return,
    }
    let lost = trace.take_lost();
    // The next one can start as soon as the caller sees the end of this.
    drop(trace);
    if lost > 0 {
        // Nobody may be there to hear it.
        let _ = sender.try_send(Ok(v1::TraceEntry { lost, ..Default::default() }));
    }
}

fn entry(services: &Services, caught: &Caught) -> v1::TraceEntry {
    let names = services.topology.names();
    let explained = lock(&services.control).explain_packet(caught.port, caught.whole());
    let mut steps = explained.steps;
    if explained.verdict != caught.verdict {
        steps.push(format!(
            "the tables have changed since: the worker's verdict was {}, it would be {} now",
            words(caught.verdict, |port| port_name(&names, port)),
            words(explained.verdict, |port| port_name(&names, port)),
        ));
    }
    let (outcome, reason) = match caught.verdict {
        Verdict::Transmit(_) => ("transmit", ""),
        Verdict::Replicate => ("replicate", ""),
        Verdict::HandOver(reason) => ("hand-over", reason.name()),
        Verdict::Drop(reason) => ("drop", reason.name()),
    };
    let shown = caught.frame.get(..SHOWN_BYTES).unwrap_or(&caught.frame);
    v1::TraceEntry {
        nanoseconds: u64::try_from(caught.time.as_nanos()).unwrap_or(u64::MAX),
        port: port_name(&names, caught.port),
        frame: shown.to_vec().into(),
        length: u32::try_from(caught.length).unwrap_or(u32::MAX),
        steps,
        outcome: outcome.to_owned(),
        reason: reason.to_owned(),
        ports: caught.left_by().map(|port| port_name(&names, port)).collect(),
        lost: 0,
    }
}

fn words(verdict: Verdict, name: impl Fn(forwarding::PortId) -> String) -> String {
    match verdict {
        Verdict::Transmit(port) => format!("to transmit by {}", name(port)),
        Verdict::Replicate => "to replicate".to_owned(),
        Verdict::HandOver(reason) => format!("to hand over ({reason})"),
        Verdict::Drop(reason) => format!("to drop ({reason})"),
    }
}
