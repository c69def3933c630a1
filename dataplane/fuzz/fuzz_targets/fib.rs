//! Batches as they come from the socket, carried out on real tables.
#![no_main]

use std::convert::Infallible;

use dataplane::rpc::carry_out;
use dataplane::topology::Names;
use dataplane_api::v1::FibBatch;
use forwarding::{Control, Mac, PortConfig, VrfId};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|data: &[u8]| {
    let Ok(mut control) = Control::new() else { return };
    let mac = Mac::new([2, 0, 0, 0, 0, 1]);
    let port = PortConfig { name: "p".to_owned(), vrf: VrfId::DEFAULT, mac, mtu: 1500 };
    let _ = control.port_add(port);
    control.session_begin();
    for part in data.split(|&byte| byte == 0xff) {
        let Ok(batch) = FibBatch::decode(part) else { continue };
        let Ok(_errors) = carry_out::<Infallible>(&batch, &Names::default(), &mut Vec::new(), |work| {
            work(&mut control);
            Ok(())
        });
    }
    let _ = control.session_sweep();
});
