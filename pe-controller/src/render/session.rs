use std::net::IpAddr;

use super::CONNECT_SECONDS;
use super::text::Text;
use crate::model::Asn;
use crate::resolve::Session;
use crate::validate::RemoteAs;

/// The host's ends of the link, IPv4 first: who the neighbours are.
pub(super) fn hosts(session: &Session) -> impl Iterator<Item = IpAddr> {
    session.links().map(|link| link.host.addr())
}

/// The host's ASN is that of the instance, `asn`.
pub(super) fn is_internal(session: &Session, asn: Asn) -> bool {
    matches!(session.remote, RemoteAs::Internal) || session.remote == RemoteAs::Number(asn)
}

/// What a neighbour on the host is in all address families.
pub(super) fn neighbor(text: &mut Text, host: IpAddr, session: &Session) {
    text.line(format_args!("neighbor {host} remote-as {}", session.remote));
    text.line(format_args!("neighbor {host} timers connect {CONNECT_SECONDS}"));
}

/// What a neighbour on the host is in one address family: everything passes.
pub(super) fn activate(text: &mut Text, host: IpAddr, internal: bool) {
    text.line(format_args!("neighbor {host} activate"));
    if internal {
        text.line(format_args!("neighbor {host} next-hop-self force"));
    }
    text.line(format_args!("neighbor {host} route-map allowall in"));
    text.line(format_args!("neighbor {host} route-map allowall out"));
}
