//! Traces of the packets of a bridge domain, by gRPC and as pectl prints them. Takes root.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dataplane_api::v1::inspect_client::InspectClient;
use dataplane_api::v1::{TraceEntry, TraceRequest};
use tonic::{Code, Status, Streaming};

use super::{Domain, HOSTS};
use crate::rig::{PATIENCE, Rig, is_root};

async fn trace(
    rig: &Rig,
    expression: &str,
    count: u32,
    seconds: u32,
) -> Result<Streaming<TraceEntry>, Status> {
    let request = TraceRequest { expression: expression.into(), count, seconds };
    Ok(InspectClient::new(rig.channel().await).trace(request).await?.into_inner())
}

/// All entries, until it ends by itself.
async fn all(mut entries: Streaming<TraceEntry>) -> Vec<TraceEntry> {
    let mut list = Vec::new();
    let end = async {
        while let Some(entry) = entries.message().await.unwrap() {
            list.push(entry);
        }
    };
    tokio::time::timeout(PATIENCE, end).await.expect("it ends");
    list
}

/// Makes the first host ask for the gateway.
fn ask(rig: &Rig) {
    rig.run("one", "ip neigh flush dev eth0");
    rig.pings("one", "10.1.0.1", "-c 1 -W 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_are_traced() {
    if !is_root() {
        return;
    }
    let domain = Domain::start(300).await;
    let rig = &domain.rig;
    assert!(rig.pings("far", HOSTS[0].1, ""), "the MAC is learned");

    // Answered here: it leaves by the port it came in by.
    let entries = trace(rig, "port pe-e-1 and arp and dst host 10.1.0.1", 1, 20).await.unwrap();
    ask(rig);
    let entries = all(entries).await;
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!((entry.port.as_str(), entry.outcome.as_str(), entry.length), ("pe-e-1", "transmit", 42));
    assert_eq!((entry.ports.as_slice(), entry.frame.len()), (&["pe-e-1".to_owned()][..], 42));
    assert!(entry.steps.iter().any(|step| step == "ARP: 10.1.0.10 asks for 10.1.0.1"), "{entry:?}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(now.saturating_sub(Duration::from_nanos(entry.nanoseconds)) < PATIENCE, "{entry:?}");

    // Out of the tunnel: only what matches, and no more than asked for, as it came from the wire.
    let expression = "vni 110 and vxlan and src host 10.1.0.30 and icmp and not verdict drop";
    let entries = trace(rig, expression, 2, 20).await.unwrap();
    assert!(rig.pings("one", HOSTS[2].1, "-s 1422"));
    let entries = all(entries).await;
    assert_eq!(entries.len(), 2, "{entries:?}");
    for entry in &entries {
        let way = (entry.port.as_str(), entry.outcome.as_str(), entry.ports.as_slice());
        assert_eq!(way, ("under", "transmit", &["pe-e-1".to_owned()][..]), "{entry:?}");
        assert_eq!((entry.frame.len(), entry.length), (256, 1450 + 14 + 50), "{entry:?}");
        assert!(!entry.steps.iter().any(|step| step.contains("changed")), "{entry:?}");
        assert!(
            entry
                .steps
                .iter()
                .any(|step| step == "L2VNI 110: from port under" || step.contains("from VTEP 100.64.0.2"))
        );
    }

    // To several places.
    let entries = trace(rig, "verdict replicate and icmp", 1, 20).await.unwrap();
    rig.pings("one", "10.1.0.255", "-b -c 1");
    let entries = all(entries).await;
    let mut ports = entries[0].ports.clone();
    ports.sort_unstable();
    assert_eq!((entries[0].outcome.as_str(), ports), ("replicate", vec!["pe-e-2".into(), "under".into()]));

    ends(rig).await;
    printed(rig);
}

/// By time, by whoever leaves, and one at a time.
async fn ends(rig: &Rig) {
    let entries = trace(rig, "host 203.0.113.99", 5, 1).await.unwrap();
    assert!(rig.pings("one", HOSTS[2].1, ""));
    assert_eq!(all(entries).await, []);

    let wrong = trace(rig, "port pe-e-1 and (arpp)", 1, 1).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    assert!(wrong.message().starts_with("at character 18, \"arpp\": expected port, vni"), "{wrong}");

    let entries = trace(rig, "arp", 1, 3600).await.unwrap();
    let second = trace(rig, "arp", 1, 1).await.unwrap_err();
    assert_eq!(second.code(), Code::FailedPrecondition, "{second}");
    drop(entries);
    let deadline = Instant::now() + PATIENCE;
    while let Err(busy) = trace(rig, "arp", 1, 1).await {
        assert!(busy.code() == Code::FailedPrecondition && Instant::now() < deadline, "{busy}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // That one's caller left at once.
    while trace(rig, "host 203.0.113.99", 1, 1).await.is_err() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// As pectl has it.
fn printed(rig: &Rig) {
    let pectl = Path::new(env!("CARGO_BIN_EXE_pe-dataplane")).with_file_name("pectl");
    if !pectl.exists() {
        eprintln!("skipped: pectl is not built here; `cargo build -p pectl` does");
        return;
    }
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&pectl);
        command.arg("--socket").arg(rig.socket()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    // The one before has a second to go.
    std::thread::sleep(Duration::from_secs(2));
    let mut traced = run(&["trace", "port", "pe-e-1", "and", "arp", "--seconds", "20", "--hex"]);
    let deadline = Instant::now() + PATIENCE;
    while traced.try_wait().unwrap().is_none() && Instant::now() < deadline {
        ask(rig);
    }
    let output = traced.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "{output:?}");
    for part in
        [" pe-e-1, 42 bytes\n", "\n  1. received on pe-e-1: ", "\ntransmit by pe-e-1\n", "\n     0000  "]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    for (arguments, part) in [
        (["bridges", "--vni", "110"], "00:f3:00:00:00:6e"),
        (["macs", "--vni", "110"], "100.64.0.2"),
        (["flood", "--vni", "110"], "pe-e-2"),
        (["suppression", "--vni", "110"], "10.1.0.30"),
    ] {
        let output = run(&arguments).wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains(part), "{arguments:?}: {output:?}");
    }
    let none = run(&["trace", "host", "203.0.113.99", "--seconds", "1"]).wait_with_output().unwrap();
    assert_eq!(none.status.code(), Some(1), "{none:?}");
    let wrong = run(&["trace", "hosts", "--seconds", "1"]).wait_with_output().unwrap();
    assert_eq!(wrong.status.code(), Some(4), "{wrong:?}");
    let unknown = run(&["macs", "--vni", "999"]).wait_with_output().unwrap();
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
}
