//! IP packets built for fragments.

/// A fragment of an IP payload, as a raw IP packet of either version. Hosts are told apart by `host`.
pub fn fragment(v6: bool, host: u8, id: u8, protocol: u8, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let units = offset / 8;
    if v6 {
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend((payload.len() as u16 + 8).to_be_bytes());
        packet.extend([44, 64]);
        packet.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, host]);
        packet.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1]);
        packet.extend([protocol, 0]);
        packet.extend(((units << 3) | u16::from(more)).to_be_bytes());
        packet.extend([0, 0, 0, id]);
        packet.extend(payload);
        packet
    } else {
        let mut packet = vec![0x45, 0];
        packet.extend((payload.len() as u16 + 20).to_be_bytes());
        packet.extend([0, id]);
        packet.extend((units | if more { 0x2000 } else { 0 }).to_be_bytes());
        packet.extend([64, protocol, 0, 0]);
        packet.extend([10, 0, 0, host]);
        packet.extend([192, 0, 2, 1]);
        packet.extend(payload);
        packet
    }
}
