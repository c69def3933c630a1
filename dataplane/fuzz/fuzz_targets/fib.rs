//! Batches as they come from the socket, carried out on real tables.
#![no_main]

use std::convert::Infallible;
use std::time::Duration;

use dataplane::rpc::carry_out;
use dataplane::topology::Names;
use dataplane_api::v1::FibBatch;
use forwarding::{Attachment, BridgeConfig, Control, Mac, PortConfig, Vni, VrfId};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|data: &[u8]| {
    let Ok(mut control) = Control::new() else { return };
    let mac = Mac::new([2, 0, 0, 0, 0, 1]);
    let port =
        PortConfig { name: "p".to_owned(), attachment: Attachment::Routed(VrfId::DEFAULT), mac, mtu: 1500 };
    let _ = control.port_add(port);
    // An L2VNI with a small number, which arbitrary bytes name now and then.
    let vtep = "192.0.2.1".parse().expect("an address");
    let _ = control.vtep_addresses_set(&[vtep]);
    let domain = BridgeConfig {
        vrf: None,
        vtep,
        udp_port: 0,
        mac,
        gateways: Vec::new(),
        mtu: 1450,
        mac_limit: 16,
        aging: Duration::from_secs(300),
        learn_from_vteps: false,
    };
    let _ = control.bridge_set(Vni::new(1).expect("a VNI"), domain);
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
