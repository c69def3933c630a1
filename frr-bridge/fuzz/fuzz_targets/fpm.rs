//! A whole FPM stream, and the resolver behind it. Seeds: `tests/golden/*/fpm-*.bin`.
#![no_main]

use bytes::BytesMut;
use frr_bridge::fpm::Decoder;
use frr_bridge::resolver::Resolver;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (mut resolver, mut messages) = (Resolver::default(), Vec::new());
    resolver.session(true);
    let _ = Decoder::default().decode(&mut BytesMut::from(data), &mut messages);
    for message in messages {
        resolver.fpm(message);
    }
    let _ = resolver.flush();
    assert!(resolver.flush().is_empty());
});
