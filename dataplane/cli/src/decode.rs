//! The headers a packet would leave with, in words: what the dataplane put in front of the IP packet, layer by layer.

use crate::text;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const PROTOCOL_UDP: u8 = 17;

/// One line per header. What cannot be read, for want of bytes or knowledge, ends as a line of hexadecimal.
pub(crate) fn headers(bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let rest = ethernet(bytes, &mut lines);
    if !rest.is_empty() {
        lines.push(format!("{} more bytes: {}", rest.len(), text::hex(rest, "")));
    }
    lines
}

fn ethernet<'a>(bytes: &'a [u8], lines: &mut Vec<String>) -> &'a [u8] {
    let Some((header, rest)) = bytes.split_at_checked(14) else { return bytes };
    let kind = u16::from_be_bytes([header[12], header[13]]);
    let name = match kind {
        ETHERTYPE_IPV4 => "IPv4",
        ETHERTYPE_IPV6 => "IPv6",
        _ => "other",
    };
    lines.push(format!(
        "Ethernet  {} -> {}, type 0x{kind:04x} ({name})",
        text::mac(&header[6..12]),
        text::mac(&header[..6])
    ));
    match kind {
        ETHERTYPE_IPV4 => ipv4(rest, lines),
        ETHERTYPE_IPV6 => ipv6(rest, lines),
        _ => rest,
    }
}

fn ipv4<'a>(bytes: &'a [u8], lines: &mut Vec<String>) -> &'a [u8] {
    let Some((header, rest)) = bytes.split_at_checked(20) else { return bytes };
    let dont_fragment = if header[6] & 0x40 == 0 { "" } else { ", DF" };
    lines.push(format!(
        "IPv4      {} -> {}, protocol {}, TTL {}, DSCP {}{dont_fragment}",
        text::address(&header[12..16]),
        text::address(&header[16..20]),
        header[9],
        header[8],
        header[1] >> 2,
    ));
    if header[9] == PROTOCOL_UDP { udp(rest, lines) } else { rest }
}

fn ipv6<'a>(bytes: &'a [u8], lines: &mut Vec<String>) -> &'a [u8] {
    let Some((header, rest)) = bytes.split_at_checked(40) else { return bytes };
    let class = (header[0] << 4) | (header[1] >> 4);
    lines.push(format!(
        "IPv6      {} -> {}, next header {}, hop limit {}, DSCP {}",
        text::address(&header[8..24]),
        text::address(&header[24..40]),
        header[6],
        header[7],
        class >> 2,
    ));
    if header[6] == PROTOCOL_UDP { udp(rest, lines) } else { rest }
}

fn udp<'a>(bytes: &'a [u8], lines: &mut Vec<String>) -> &'a [u8] {
    let Some((header, rest)) = bytes.split_at_checked(8) else { return bytes };
    let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    lines.push(format!("UDP       {} -> {}, checksum 0x{:04x}", port(0), port(2), port(6)));
    // Only VXLAN is ever put in front of a packet here, whatever its port is configured to be.
    vxlan(rest, lines)
}

fn vxlan<'a>(bytes: &'a [u8], lines: &mut Vec<String>) -> &'a [u8] {
    let Some((header, rest)) = bytes.split_at_checked(8) else { return bytes };
    let vni = u32::from_be_bytes([0, header[4], header[5], header[6]]);
    lines.push(format!("VXLAN     VNI {vni}, flags 0x{:02x}", header[0]));
    // The inner packet is the one that was looked up; its own header is not part of what is put in front.
    let Some((inner, rest)) = rest.split_at_checked(14) else { return rest };
    lines.push(format!(
        "Ethernet  {} -> {}, type 0x{:04x}",
        text::mac(&inner[6..12]),
        text::mac(&inner[..6]),
        u16::from_be_bytes([inner[12], inner[13]])
    ));
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encapsulation() -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
        bytes.extend([0x45, 0xb8, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 100, 65, 0, 1, 100, 65, 0, 2]);
        bytes.extend([0xc0, 0x01, 0x12, 0xb5, 0, 0, 0, 0]);
        bytes.extend([8, 0, 0, 0, 0, 0, 100, 0]);
        bytes.extend([2, 0, 0, 0, 0, 4, 2, 0, 0, 0, 0, 3, 8, 0]);
        bytes
    }

    #[test]
    fn a_vxlan_encapsulation_reads_layer_by_layer() {
        assert_eq!(
            headers(&encapsulation()),
            [
                "Ethernet  02:00:00:00:00:01 -> 02:00:00:00:00:02, type 0x0800 (IPv4)",
                "IPv4      100.65.0.1 -> 100.65.0.2, protocol 17, TTL 64, DSCP 46, DF",
                "UDP       49153 -> 4789, checksum 0x0000",
                "VXLAN     VNI 100, flags 0x08",
                "Ethernet  02:00:00:00:00:03 -> 02:00:00:00:00:04, type 0x0800",
            ]
        );
    }

    #[test]
    fn every_cut_of_it_is_readable() {
        let whole = encapsulation();
        for length in 0..whole.len() {
            let lines = headers(&whole[..length]);
            assert_eq!(lines.is_empty(), length == 0, "{length} bytes: {lines:?}");
        }
    }
}
