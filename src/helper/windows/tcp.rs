//! The tables of TCP connections with their owners.
#![allow(unsafe_code)]

use windows_sys::Win32::NetworkManagement::IpHelper::{GetExtendedTcpTable, TCP_TABLE_OWNER_PID_ALL};
use windows_sys::Win32::Networking::WinSock::{AF_INET, AF_INET6};

use crate::helper::layout::{TcpRow, tcp_table};

const ERROR_INSUFFICIENT_BUFFER: u32 = 122;

/// A table larger than this is given up; it would hold a million connections.
const MOST: usize = 64 << 20;

/// All connections, IPv4 and IPv6.
///
/// # Errors
/// The system's error if neither table can be had.
pub fn connections(buffer: &mut Vec<u8>) -> Result<Vec<TcpRow>, u32> {
    let v4 = table(buffer, AF_INET).map(|bytes| tcp_table(bytes, false));
    let v6 = table(buffer, AF_INET6).map(|bytes| tcp_table(bytes, true));
    match (v4, v6) {
        (Ok(mut rows), Ok(more)) => {
            rows.extend(more);
            Ok(rows)
        }
        (Ok(rows), Err(_)) | (Err(_), Ok(rows)) => Ok(rows),
        (Err(error), Err(_)) => Err(error),
    }
}

fn table(buffer: &mut Vec<u8>, family: u16) -> Result<&[u8], u32> {
    loop {
        let mut size = buffer.len() as u32;
        // SAFETY: the buffer has the size that is given; it is read as bytes alone.
        let error = unsafe {
            GetExtendedTcpTable(buffer.as_mut_ptr().cast(), &mut size, 0, u32::from(family), TCP_TABLE_OWNER_PID_ALL, 0)
        };
        match error {
            0 => return Ok(buffer),
            ERROR_INSUFFICIENT_BUFFER if (size as usize) < MOST => buffer.resize(size as usize + 4096, 0),
            error => return Err(error),
        }
    }
}
