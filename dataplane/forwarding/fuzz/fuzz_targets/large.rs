//! A header as a TAP puts it in front of a frame, and the frame; what it is cut into is put together again.
#![no_main]

use forwarding::{Coalescer, Segments, VirtioHeader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((header, frame)) = data.split_first_chunk() else { return };
    // With the lengths that the headers should have, more often than chance would have it.
    let mut frame = frame.to_vec();
    if frame.len() > 54 && frame.len() < 60_000 {
        let (v4, v6) = (frame.len() as u16 - 14, frame.len() as u16 - 54);
        match frame[12..14] {
            [8, 0] => frame[16..18].copy_from_slice(&v4.to_be_bytes()),
            [0x86, 0xdd] => frame[18..20].copy_from_slice(&v6.to_be_bytes()),
            _ => {}
        }
    }
    let Ok(Some(offload)) = VirtioHeader(*header).read(&frame) else { return };
    assert_eq!(VirtioHeader::write(Some(offload), &frame).read(&frame), Ok(Some(offload)));
    let Some(segments) = Segments::new(&frame, offload) else {
        let mut done = frame.clone();
        offload.complete(&mut done);
        assert_eq!(done.len(), frame.len());
        return;
    };
    assert_eq!(segments.count(), offload.segments(frame.len()));
    let pieces: Vec<Vec<u8>> = (0..segments.count())
        .map(|index| {
            let mut out = vec![0; segments.length(index)];
            segments.write(index, &mut out);
            out
        })
        .collect();
    assert!(pieces.iter().all(|piece| piece.len() <= pieces[0].len()));

    let mut coalescer = Coalescer::default();
    let count = pieces.len().min(64);
    coalescer.sort(count as u16, |number| pieces.get(number).map(Vec::as_slice), |_| true);
    let mut seen = 0;
    for run in coalescer.runs() {
        let members: Vec<usize> = coalescer.members(run).collect();
        seen += members.len();
        let [first, .., last] = members[..] else { continue };
        let head = Coalescer::head(run, &pieces[first], &pieces[last]).unwrap();
        let mut whole = head.bytes().to_vec();
        for &number in &members {
            whole.extend_from_slice(coalescer.payload(run, number, &pieces[number]));
        }
        let offload = head.virtio.read(&whole).unwrap().unwrap();
        let again = Segments::new(&whole, offload).unwrap();
        assert_eq!(again.count(), members.len());
        for (index, &number) in members.iter().enumerate() {
            let mut out = vec![0; again.length(index)];
            again.write(index, &mut out);
            assert_eq!(out, pieces[number]);
        }
    }
    assert_eq!(seen, count);
});
