//! The memory layouts that Windows hands out, read from bytes: tables of connections and handles, lists of changes.
//!
//! Pure functions, so that they are tested wherever the tests run. What is cut short yields what is whole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::net::Timestamp;

/// Between 1601 and 1970, in steps of 100 ns.
const EPOCH: u64 = 116_444_736_000_000_000;

/// A FILETIME as a point in time; nothing for the zero that stands for "not known".
pub fn filetime(steps: u64) -> Option<Timestamp> {
    steps.checked_sub(EPOCH).filter(|since| *since > 0).map(|since| Timestamp(since.saturating_mul(100)))
}

/// Reads fields one after the other, little endian as Windows is.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    /// A 16-bit number.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// A 32-bit number.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// A 64-bit number.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A pointer of the given size in bytes.
    pub fn pointer(&mut self, size: usize) -> Option<u64> {
        if size == 4 { self.u32().map(u64::from) } else { self.u64() }
    }

    /// An IPv4 address.
    pub fn v4(&mut self) -> Option<IpAddr> {
        self.array::<4>().map(|octets| IpAddr::V4(Ipv4Addr::from(octets)))
    }

    /// An IPv6 address.
    pub fn v6(&mut self) -> Option<IpAddr> {
        self.array::<16>().map(|octets| IpAddr::V6(Ipv6Addr::from(octets)))
    }

    /// A port in network order.
    pub fn port(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// A text of UTF-16 up to a NUL or the end.
    pub fn text(&mut self) -> Option<String> {
        let mut units = Vec::new();
        while let Some(unit) = self.u16() {
            if unit == 0 {
                break;
            }
            units.push(unit);
        }
        Some(String::from_utf16_lossy(&units))
    }
}

/// A row of a table of TCP connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpRow {
    /// `MIB_TCP_STATE`: 2 listens, 5 is established.
    pub state: u32,
    /// This host's end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// The owner; 0 while it is not known.
    pub pid: u32,
}

/// `MIB_TCPTABLE_OWNER_PID`, or `MIB_TCP6TABLE_OWNER_PID`.
pub fn tcp_table(bytes: &[u8], v6: bool) -> Vec<TcpRow> {
    let mut fields = Fields(bytes);
    let count = fields.u32().unwrap_or(0);
    let row = if v6 { tcp6_row } else { tcp4_row };
    (0..count).map_while(|_| row(&mut fields)).collect()
}

fn tcp4_row(fields: &mut Fields<'_>) -> Option<TcpRow> {
    let state = fields.u32()?;
    let mut end = || {
        let address = fields.v4()?;
        let port = fields.port()?;
        fields.u16()?;
        Some(SocketAddr::new(address, port))
    };
    let (local, remote) = (end()?, end()?);
    Some(TcpRow { state, local, remote, pid: fields.u32()? })
}

fn tcp6_row(fields: &mut Fields<'_>) -> Option<TcpRow> {
    let mut end = || {
        let address = fields.v6()?;
        fields.u32()?;
        let port = fields.port()?;
        fields.u16()?;
        Some(SocketAddr::new(address, port))
    };
    let (local, remote) = (end()?, end()?);
    let state = fields.u32()?;
    Some(TcpRow { state, local, remote, pid: fields.u32()? })
}

/// A row of the table of all handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HandleRow {
    /// Where the object is in the kernel; 0 for who may not know.
    pub object: u64,
    /// Whose it is.
    pub pid: u32,
    /// Its number there.
    pub handle: u64,
    /// What it may be used for.
    pub access: u32,
    /// The kind of its object.
    pub kind: u16,
}

/// `SYSTEM_HANDLE_INFORMATION_EX`.
pub fn handle_table(bytes: &[u8]) -> Vec<HandleRow> {
    let mut fields = Fields(bytes);
    let count = fields.u64().unwrap_or(0);
    let _reserved = fields.u64();
    let row = |fields: &mut Fields<'_>| {
        let (object, pid, handle) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let access = fields.u32()?;
        let (_trace, kind) = (fields.u16()?, fields.u16()?);
        let _attributes = fields.u64()?;
        Some(HandleRow { object, pid: u32::try_from(pid).ok()?, handle, access, kind })
    };
    (0..count).map_while(|_| row(&mut fields)).collect()
}

/// What has happened to a name in a watched folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It came.
    Added,
    /// It went.
    Removed,
    /// It was written.
    Modified,
    /// It was renamed, from this.
    OldName,
    /// It was renamed, to this.
    NewName,
}

/// A list of `FILE_NOTIFY_INFORMATION`: names are relative to the folder. The entries need not be aligned.
pub fn changes(mut bytes: &[u8]) -> Vec<(Change, String)> {
    let mut all = Vec::new();
    loop {
        let mut fields = Fields(bytes);
        let (Some(next), Some(action), Some(length)) = (fields.u32(), fields.u32(), fields.u32()) else { return all };
        let change = match action {
            1 => Some(Change::Added),
            2 => Some(Change::Removed),
            3 => Some(Change::Modified),
            4 => Some(Change::OldName),
            5 => Some(Change::NewName),
            _ => None,
        };
        let name = fields.bytes(length as usize).and_then(|name| Fields(name).text());
        all.extend(change.zip(name));
        match bytes.get(next as usize..) {
            Some(rest) if next > 0 => bytes = rest,
            _ => return all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_from_1601() {
        assert_eq!(filetime(EPOCH + 10_000_000), Some(Timestamp(1_000_000_000)));
        assert_eq!(filetime(0), None);
    }

    #[test]
    fn tables_of_connections_are_read() {
        let mut table = 2_u32.to_le_bytes().to_vec();
        for pid in [0_u32, 44] {
            table.extend(5_u32.to_le_bytes());
            table.extend([192, 0, 2, 1, 0xc0, 0x01, 9, 9]);
            table.extend([198, 51, 100, 2, 0, 21, 0, 0]);
            table.extend(pid.to_le_bytes());
        }
        let rows = tcp_table(&table, false);
        assert_eq!(rows.len(), 2);
        assert_eq!(
            (rows[1].local.to_string(), rows[1].remote.to_string()),
            ("192.0.2.1:49153".into(), "198.51.100.2:21".into())
        );
        assert_eq!((rows[1].pid, rows[1].state), (44, 5));
        assert_eq!(tcp_table(&table[..40], false).len(), 1);

        let mut table = 1_u32.to_le_bytes().to_vec();
        for port in [[0xc0, 0x01], [0, 80]] {
            table.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, port[1]]);
            table.extend([0; 4]);
            table.extend(port);
            table.extend([0; 2]);
        }
        table.extend(5_u32.to_le_bytes());
        table.extend(7_u32.to_le_bytes());
        let rows = tcp_table(&table, true);
        assert_eq!((rows[0].remote.to_string(), rows[0].pid), ("[2001:db8::50]:80".into(), 7));
    }

    #[test]
    fn a_table_of_handles_is_read() {
        let mut table = [1_u64.to_le_bytes(), [0; 8]].concat();
        for field in [0xffff_8000_0000_1000_u64, 44, 0x1c] {
            table.extend(field.to_le_bytes());
        }
        table.extend(0x0012_019f_u32.to_le_bytes());
        table.extend([0, 0, 37, 0]);
        table.extend([0; 8]);
        let row = HandleRow { object: 0xffff_8000_0000_1000, pid: 44, handle: 0x1c, access: 0x0012_019f, kind: 37 };
        assert_eq!(handle_table(&table), [row]);
    }

    #[test]
    fn changes_are_read_aligned_or_not() {
        let entry = |next: u32, action: u32, name: &str| {
            let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
            let length = u32::try_from(name.len()).unwrap();
            [&next.to_le_bytes()[..], &action.to_le_bytes(), &length.to_le_bytes(), &name].concat()
        };
        let mut bytes = entry(18, 4, "a.7");
        bytes.extend(entry(0, 5, r"d\b.7z"));
        assert_eq!(changes(&bytes), [(Change::OldName, "a.7".to_owned()), (Change::NewName, r"d\b.7z".to_owned())]);
        assert_eq!(changes(&bytes[..20]).len(), 1);
        assert_eq!(changes(&[]), []);
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>, v6: bool) {
            tcp_table(&bytes, v6);
            handle_table(&bytes);
            changes(&bytes);
        }
    }
}
