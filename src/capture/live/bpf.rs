//! The system call `bpf`: programs of the kernel's extended BPF and the tables that they share with this process.
//!
//! Each function takes plain values, makes one system call on memory of its own, and gives plain values.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// An instruction (linux/bpf.h, struct bpf_insn).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u8,
    /// The destination register in the lower half, the source register in the upper.
    pub(super) registers: u8,
    pub(super) offset: i16,
    pub(super) immediate: i32,
}

/// Bytes of a key.
pub(super) const KEY: usize = 40;
/// Words of 64 bits of a value.
pub(super) const VALUE: usize = 4;

/// A key of the table.
pub(super) type Key = [u8; KEY];
/// A value of the table.
pub(super) type Value = [u64; VALUE];

const MAP_CREATE: i32 = 0;
const LOOK_UP: i32 = 1;
const UPDATE: i32 = 2;
const REMOVE: i32 = 3;
const LOAD: i32 = 5;
const TAKE: i32 = 21;

/// What a process that is locked up must still be allowed to ask.
pub(super) const ASKED: [u32; 4] = [LOOK_UP as u32, UPDATE as u32, REMOVE as u32, TAKE as u32];

/// ENOTSUPP, which is the kernel's own: what it says of a command that this kind of table does not know.
const NOT_SUPPORTED: i32 = 524;

/// union bpf_attr, as long as it ever needs to be here; what is not set is zero.
#[repr(C, align(8))]
struct Attributes([u8; 128]);

impl Attributes {
    fn new() -> Self {
        Self([0; 128])
    }

    fn word(mut self, at: usize, value: u32) -> Self {
        self.0.iter_mut().skip(at).zip(value.to_ne_bytes()).for_each(|(to, from)| *to = from);
        self
    }

    fn address(mut self, at: usize, value: u64) -> Self {
        self.0.iter_mut().skip(at).zip(value.to_ne_bytes()).for_each(|(to, from)| *to = from);
        self
    }
}

/// A hash table of so many entries, all of whose memory is taken now.
pub(super) fn create_table(entries: u32) -> io::Result<OwnedFd> {
    const HASH: u32 = 1;
    let attributes = Attributes::new().word(0, HASH).word(4, KEY as u32).word(8, 8 * VALUE as u32).word(12, entries);
    descriptor(call(MAP_CREATE, attributes)?)
}

/// Loads a program that is to be a socket's filter.
pub(super) fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    const SOCKET_FILTER: u32 = 1;
    let count = u32::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let licence = c"Dual MIT/GPL";
    let attributes = Attributes::new()
        .word(0, SOCKET_FILTER)
        .word(4, count)
        .address(8, program.as_ptr() as u64)
        .address(16, licence.as_ptr() as u64);
    descriptor(call(LOAD, attributes)?)
}

/// The value of a key, if it is there.
pub(super) fn look_up(table: BorrowedFd<'_>, key: &Key) -> io::Result<Option<Value>> {
    let mut value: Value = [0; VALUE];
    let result = call(LOOK_UP, entry(table, key, value.as_mut_ptr() as u64));
    found(result, value)
}

/// Takes a key out of the table; gives its value, if it was there. A kernel before 5.14 does not do so at one go: there, what is
/// counted between the look at it and its removal is lost.
pub(super) fn take(table: BorrowedFd<'_>, key: &Key) -> io::Result<Option<Value>> {
    let mut value: Value = [0; VALUE];
    let result = call(TAKE, entry(table, key, value.as_mut_ptr() as u64));
    taken(found(result, value), table, key)
}

/// Takes the key out in two steps where the kernel did not know how to in one.
fn taken(at_one_go: io::Result<Option<Value>>, table: BorrowedFd<'_>, key: &Key) -> io::Result<Option<Value>> {
    let code = at_one_go.as_ref().err().and_then(io::Error::raw_os_error);
    if !matches!(code, Some(libc::EINVAL | libc::EOPNOTSUPP | NOT_SUPPORTED)) {
        return at_one_go;
    }
    let value = look_up(table, key)?;
    if value.is_some() {
        call(REMOVE, entry(table, key, 0))?;
    }
    Ok(value)
}

/// Puts a key and its value into the table.
pub(super) fn update(table: BorrowedFd<'_>, key: &Key, value: &Value) -> io::Result<()> {
    call(UPDATE, entry(table, key, value.as_ptr() as u64)).map(drop)
}

fn found(result: io::Result<i64>, value: Value) -> io::Result<Option<Value>> {
    match result {
        Ok(_) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn entry(table: BorrowedFd<'_>, key: &Key, value: u64) -> Attributes {
    Attributes::new().word(0, table.as_raw_fd() as u32).address(8, key.as_ptr() as u64).address(16, value)
}

fn call(command: i32, mut attributes: Attributes) -> io::Result<i64> {
    // SAFETY: the attributes are those of the command, as every caller makes them: what addresses they hold are of memory
    // that the caller borrows until the call returns, and that is as long as the table's keys and values, or as the number
    // of instructions says. The kernel writes only to the value of a look-up.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, (&raw mut attributes).cast::<u8>(), size_of::<Attributes>() as u32)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn descriptor(number: i64) -> io::Result<OwnedFd> {
    let number = i32::try_from(number).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    // SAFETY: the kernel has just opened it for this process, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn where_the_kernel_does_not_take_a_key_at_one_go_it_is_taken_in_two() {
        // It takes rights to make one.
        let Ok(table) = create_table(2) else { return };
        let (table, key, value) = (table.as_fd(), [7; KEY], [1, 2, 3, 4]);
        let refused = |code| Err(io::Error::from_raw_os_error(code));
        for code in [NOT_SUPPORTED, libc::EINVAL, libc::EOPNOTSUPP] {
            update(table, &key, &value).unwrap();
            assert_eq!(taken(refused(code), table, &key).unwrap(), Some(value));
            assert_eq!(take(table, &key).unwrap(), None, "it is out");
            assert_eq!(taken(refused(code), table, &key).unwrap(), None);
        }
        update(table, &key, &value).unwrap();
        taken(refused(libc::EPERM), table, &key).unwrap_err();
        assert_eq!(take(table, &key).unwrap(), Some(value), "it stayed");
    }
}
