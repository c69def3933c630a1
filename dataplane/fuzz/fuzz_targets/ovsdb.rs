//! What ovsdb-server sends: cut into messages, however it arrives, and rows read from them.
#![no_main]

use dataplane::host::bridges::ovs::{Framer, Snapshot};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut whole = Framer::default();
    whole.push(data);
    let mut messages = Vec::new();
    let end = loop {
        match whole.next_message() {
            Ok(Some(message)) => messages.push(message),
            end => break end.is_ok(),
        }
    };
    // Byte by byte it is the same.
    let mut pieces = Framer::default();
    let mut again = Vec::new();
    let mut fine = true;
    for byte in data.chunks(1) {
        pieces.push(byte);
        match pieces.next_message() {
            Ok(Some(message)) => again.push(message),
            Ok(None) => {}
            Err(_) => {
                fine = false;
                break;
            }
        }
    }
    assert_eq!((end, &messages), (fine, &again));
    for message in &messages {
        if let Some(result) = message.get("result") {
            let _ = Snapshot::parse(result);
        }
    }
});
