//! The floor: testpmd in io mode, the same capture in and the same sink, which touches no packet.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

/// What testpmd says when packets flow.
const FORWARDING: &str = "io packet forwarding packets/burst=";

/// What testpmd measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Floor {
    pub(crate) cycles: f64,
    pub(crate) packets: u64,
    /// TSC cycles per microsecond.
    pub(crate) megahertz: f64,
}

/// Why there is no floor.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("dpdk-testpmd cannot be run: {0}; it is in Debian's package dpdk-dev")]
    Start(#[from] std::io::Error),
    #[error("dpdk-testpmd ended without \"CPU cycles/packet\"; its last words:\n{0}")]
    Output(String),
}

/// Runs testpmd with EAL's `memory` arguments for `time`, in bursts of `burst`: from each of `captures` to a sink of its own,
/// all of it on one core, or each on its own.
///
/// # Errors
/// When testpmd is missing or does not say what it measured.
pub(crate) fn measure(
    captures: &[PathBuf],
    cores: usize,
    memory: &[String],
    burst: usize,
    time: Duration,
) -> Result<Floor, Error> {
    // Its main thread only waits for words; where all CPUs forward it shares the first.
    let lcores = if cores == 1 { "0,1" } else { "0@0,1@0,2@1" };
    let devices = (0..).zip(captures).flat_map(|(index, capture)| {
        [
            format!("--vdev=net_pcap{index},rx_pcap={},infinite_rx=1", capture.display()),
            format!("--vdev=net_null{index},no-rx=1"),
        ]
    });
    // Into a pipe it would write line by line only when it ends.
    let mut child = Command::new("stdbuf")
        .args(["-oL", "dpdk-testpmd", &format!("--lcores={lcores}"), "--no-pci", "--no-telemetry"])
        .args(memory)
        .args(devices)
        .args(["--", "-i", "--forward-mode=io", "--record-core-cycles"])
        .args(["--no-flush-rx", "--total-num-mbufs=131072", &format!("--nb-cores={cores}")])
        .arg(format!("--burst={burst}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().expect("piped above");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped above"));
    // It reads this when it has started its ports, which takes seconds that are not to be measured.
    stdin.write_all(b"start\n")?;
    let mut text = String::new();
    while stdout.read_line(&mut text)? > 0 && !text.lines().any(|line| line.contains(FORWARDING)) {}
    thread::sleep(time);
    // One that has died already shows in its output below.
    _ = stdin.write_all(b"stop\nquit\n");
    drop(stdin);
    stdout.read_to_string(&mut text)?;
    let output = child.wait_with_output()?;
    parse(&text).ok_or_else(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        let mut last: Vec<&str> = text.lines().chain(errors.lines()).rev().take(15).collect();
        last.reverse();
        Error::Output(last.join("\n"))
    })
}

/// Reads `CPU cycles/packet=33.28 (total cycles=754 / total io packets=226) at 2600 MHz Clock`.
fn parse(text: &str) -> Option<Floor> {
    let line =
        text.lines().rev().find_map(|line| line.split_once("CPU cycles/packet=").map(|(_, rest)| rest))?;
    let (cycles, rest) = line.split_once(' ')?;
    let (_, rest) = rest.split_once("packets=")?;
    let (packets, rest) = rest.split_once(')')?;
    let (_, rest) = rest.split_once("at ")?;
    let (megahertz, _) = rest.split_once(' ')?;
    Some(Floor {
        cycles: cycles.parse().ok()?,
        packets: packets.parse().ok()?,
        megahertz: megahertz.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_testpmd_says() {
        let text = "Done\n  CPU cycles/packet=33.28 (total cycles=7541384475 / total io packets=226613440) at 2600 MHz \
                    Clock\n\nDone.\n";
        assert_eq!(parse(text), Some(Floor { cycles: 33.28, packets: 226_613_440, megahertz: 2600.0 }));
    }

    #[test]
    fn anything_else_is_no_measurement() {
        for text in ["", "CPU cycles/packet=", "CPU cycles/packet=x (total", "EAL: Cannot init memory"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
