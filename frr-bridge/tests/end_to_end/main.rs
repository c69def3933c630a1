//! frr-bridge between stock FRR, a real kernel and a stand-in for pe-dataplane. Needs root, FRR, and where the kernel has
//! no VRF, user-mode Linux.

mod common;
mod default_vrf;
mod devices;
mod evpn;
mod many_routes;
