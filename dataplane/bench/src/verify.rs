//! What becomes of every frame of a scenario, byte by byte: a figure for wrong frames would be worth nothing.

use anyhow::{bail, ensure};
use forwarding::{Buffer, Control, Packet, Verdict};

use crate::scenario::{Ports, Scenario};

/// Frames that are looked at, those that leave; every flow where there is one for each.
const ENOUGH: usize = crate::traffic::FLOWS;

/// Lets each of `frames`, a scenario's, go through the engine once.
///
/// # Errors
/// When one of them is not forwarded, or to another place, or with other bytes than it must be.
pub(crate) fn verify(
    scenario: Scenario,
    frames: &[Vec<u8>],
    control: &mut Control,
    ports: Ports,
) -> anyhow::Result<()> {
    let mut worker = control.worker();
    let copies = usize::from(scenario.copies());
    for (index, frame) in (0..).zip(frames).take(ENOUGH.div_ceil(copies)) {
        let mut packet = [Buffer::new(frame)];
        let mut verdict = [Verdict::Replicate];
        worker.process(ports.input, &mut packet, &mut verdict);
        let [packet] = packet;
        let mut sent = Vec::new();
        match verdict[0] {
            Verdict::Replicate => {
                worker.replicate(
                    ports.input,
                    &packet,
                    |packet| Some(packet.clone()),
                    |copy, verdict| {
                        sent.push((copy, verdict));
                    },
                );
            }
            verdict => sent.push((packet, verdict)),
        }
        worker.quiescent();
        ensure!(sent.len() == copies, "frame {index} became {} frames and not {copies}", sent.len());
        for (copy, (packet, verdict)) in sent.iter().enumerate() {
            if *verdict != Verdict::Transmit(ports.output) {
                bail!("frame {index} was not forwarded but {verdict:?}");
            }
            ensure!(
                scenario.is_right(index, copy, packet.data()),
                "copy {copy} of frame {index} left with wrong bytes: {:02x?}",
                packet.data()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::ALL;

    /// All scenarios but those whose tables take seconds to fill.
    fn quick() -> impl Iterator<Item = Scenario> {
        ALL.iter().copied().filter(|scenario| !scenario.name.ends_with("-1m"))
    }

    #[test]
    fn every_flow_leaves_as_it_must() {
        for scenario in quick() {
            let mut control = Control::new().expect("tables");
            let ports = scenario.set_up(&mut control).expect("set up");
            verify(scenario, &scenario.frames(), &mut control, ports)
                .unwrap_or_else(|error| panic!("{}: {error}", scenario.name));
        }
    }

    #[test]
    fn what_enters_changed_is_noticed() {
        for scenario in quick().filter(|scenario| scenario.name.contains("l2")) {
            let mut control = Control::new().expect("tables");
            let ports = scenario.set_up(&mut control).expect("set up");
            let mut frames = scenario.frames();
            // In the innermost packet.
            if let Some(last) = frames[77].last_mut() {
                *last ^= 1;
            }
            let error = verify(scenario, &frames, &mut control, ports).expect_err(scenario.name);
            assert!(error.to_string().contains("frame 77 left with wrong bytes"), "{error}");
        }
    }
}
