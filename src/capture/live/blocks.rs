//! A ring that the kernel fills block by block (TPACKET_V3), mapped into this process.
//!
//! libpcap's loop hands on one packet at a time, and gives a block back before one can know that a packet was its last. Here
//! all packets of a block lie at hand until the whole block is given back, so that many can be looked at ahead.

#![allow(unsafe_code)]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::ring::Raw;
use super::system;
use crate::capture::near;
use crate::net::Timestamp;

/// The size of a block. The kernel wakes the thread for each, which takes as long as to follow a good part of its packets.
const BLOCK: usize = 1 << 20;

/// That of a small ring: what libpcap takes, which has room for a packet of any length.
const SMALL_BLOCK: usize = 256 << 10;

/// A ring that would have fewer large blocks has small ones.
const ENOUGH: usize = 16;

/// Room for a VLAN tag, which the kernel has taken off, and which is put back.
const TAG: usize = 4;

/// Where the tag stands in an Ethernet frame: behind the two addresses.
const ADDRESSES: usize = 12;

/// struct tpacket_block_desc: where the status is; and behind it the number of packets, and the first one's place.
const BLOCK_STATUS: usize = 8;
const BLOCK_PACKETS: usize = 12;
const BLOCK_FIRST: usize = 16;

/// struct tpacket3_hdr: offsets of its fields, and its length.
const NEXT: usize = 0;
const SECONDS: usize = 4;
const NANOSECONDS: usize = 8;
const CAPTURED: usize = 12;
const LENGTH: usize = 16;
const STATUS: usize = 20;
const FRAME: usize = 24;
const TAG_CONTROL: usize = 32;
const TAG_PROTOCOL: usize = 36;

/// How many cache lines of a packet are asked for ahead: the kernel's header, and those of Ethernet, IP and TCP.
const LINES: usize = 3;

/// A packet socket with its ring.
pub(super) struct Blocks {
    socket: OwnedFd,
    start: NonNull<u8>,
    length: NonZeroUsize,
    /// The size of a block.
    block: usize,
    /// The block that is read next.
    next: usize,
}

// SAFETY: the mapping belongs to this value alone and is as good on one thread as on another; nothing of it is shared,
// and it is changed only through `&mut`.
unsafe impl Send for Blocks {}

impl Blocks {
    /// Makes a ring of about so many bytes on a socket that is not bound yet. The kernel hands a block over at the latest
    /// after `timeout` milliseconds.
    pub(super) fn new(socket: OwnedFd, bytes: usize, timeout: u32) -> io::Result<Self> {
        let (block, blocks) = division(bytes);
        let length = blocks
            .checked_mul(block)
            .and_then(NonZeroUsize::new)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        system::make_ring(socket.as_fd(), TAG as u32, block as u32, blocks as u32, timeout)?;
        // SAFETY: a new mapping, at an address of the kernel's choice, of memory that no Rust value lies in.
        let start = unsafe {
            mmap(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, &socket, 0)?
        };
        Ok(Self { socket, start: start.cast(), length, block, next: 0 })
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Where the status of the next block is.
    fn status(&self) -> *mut u32 {
        // Smaller than the mapping, as `next` is smaller than the number of blocks.
        self.start.as_ptr().wrapping_add(self.next * self.block + BLOCK_STATUS).cast()
    }

    /// Whether the kernel has handed no block over.
    pub(super) fn is_empty(&self) -> bool {
        // SAFETY: the status lies in the mapping, which lives as long as this value; it is a word of 32 bits, at a place that is
        // a multiple of four, and is accessed by both sides as a whole.
        let status = unsafe { AtomicU32::from_ptr(self.status()) };
        status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0
    }

    /// Packets in the ring: in the blocks that the kernel has handed over, and in the one that it fills.
    pub(super) fn waiting(&self) -> u64 {
        let blocks = self.length.get() / self.block;
        let mut packets = 0;
        for ahead in 0..blocks {
            let at = (self.next + ahead) % blocks * self.block;
            let word = |field| {
                // SAFETY: a word of 32 bits in the mapping, which lives as long as this value, at a place that is a multiple of
                // four. This process writes it only through `&mut`, or in a block, which borrows this value.
                unsafe { AtomicU32::from_ptr(self.start.as_ptr().wrapping_add(at + field).cast()) }
            };
            let status = word(BLOCK_STATUS).load(Ordering::Acquire);
            packets += u64::from(word(BLOCK_PACKETS).load(Ordering::Relaxed));
            if status & libc::TP_STATUS_USER == 0 {
                // What is behind it is empty.
                break;
            }
        }
        packets
    }

    /// The next block, if the kernel has handed it over.
    pub(super) fn block(&mut self) -> Option<Block<'_>> {
        if self.is_empty() {
            return None;
        }
        let at = self.next * self.block;
        // SAFETY: as above; the block borrows this value.
        let status = unsafe { AtomicU32::from_ptr(self.status()) };
        self.next = (self.next + 1) % (self.length.get() / self.block);
        // SAFETY: the status said that the block is this process's until it is given back, which `Block` does when it is
        // dropped; it borrows this value, so there is one at a time. What is before the packets (with the status in it) and the
        // packets are apart.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(self.start.as_ptr().add(at + BLOCK_PACKETS), self.block - BLOCK_PACKETS)
        };
        Some(Block { status, bytes })
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and no block borrows it any more. Should it fail, the memory stays until
        // the process ends.
        let _ = unsafe { munmap(self.start.cast(), self.length.get()) };
    }
}

/// The size of a ring's blocks, and how many there are.
fn division(bytes: usize) -> (usize, usize) {
    let block = if bytes / BLOCK >= ENOUGH { BLOCK } else { SMALL_BLOCK };
    (block, bytes.div_ceil(block).max(2))
}

/// A block that the kernel has handed over; it is given back when this is dropped.
pub(super) struct Block<'r> {
    status: &'r AtomicU32,
    /// From the number of packets on.
    bytes: &'r mut [u8],
}

impl Block<'_> {
    /// Its packets, each of which can be kept until the block is given back.
    pub(super) fn packets(&mut self) -> Packets<'_> {
        let left = word(self.bytes, 0);
        let first = (word(self.bytes, BLOCK_FIRST - BLOCK_PACKETS) as usize).saturating_sub(BLOCK_PACKETS);
        Packets { left, rest: self.bytes.get_mut(first..).unwrap_or_default() }
    }
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        // The kernel does not before it begins with the block, and what was read waits no more.
        if let Some(packets) = self.bytes.first_chunk_mut() {
            *packets = 0_u32.to_ne_bytes();
        }
        self.status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
    }
}

/// The packets of a block.
pub(super) struct Packets<'b> {
    left: u32,
    /// From the next packet's header on.
    rest: &'b mut [u8],
}

impl<'b> Iterator for Packets<'b> {
    type Item = Raw<'b>;

    #[inline]
    fn next(&mut self) -> Option<Raw<'b>> {
        self.left = self.left.checked_sub(1)?;
        let rest = std::mem::take(&mut self.rest);
        let length = match word(rest, NEXT) as usize {
            // The last one.
            0 => rest.len(),
            next => next,
        };
        let (packet, rest) = rest.split_at_mut_checked(length)?;
        // Another processor wrote them, and where one begins is known only once the one before it is here: the next was asked
        // for one packet earlier.
        if let Some(after_next) = rest.get(word(rest, NEXT) as usize..).and_then(<[u8]>::first_chunk::<{ 64 * LINES }>)
        {
            near::fetch::<LINES, _>(after_next);
        }
        self.rest = rest;
        Some(raw(packet))
    }
}

impl Packets<'_> {
    /// How many are left.
    pub(super) fn left(&self) -> usize {
        self.left as usize
    }
}

/// A packet that begins with its header.
#[inline]
fn raw(packet: &mut [u8]) -> Raw<'_> {
    let ts = Timestamp::from_parts(u64::from(word(packet, SECONDS)), u64::from(word(packet, NANOSECONDS)));
    let (mut captured, mut wire_length) = (word(packet, CAPTURED) as usize, word(packet, LENGTH));
    let mut frame = usize::from(half(packet, FRAME));
    let (status, control) = (word(packet, STATUS), word(packet, TAG_CONTROL));
    if (control != 0 || status & libc::TP_STATUS_VLAN_VALID != 0) && captured >= ADDRESSES && frame >= TAG {
        let protocol = match half(packet, TAG_PROTOCOL) {
            protocol if status & libc::TP_STATUS_VLAN_TPID_VALID != 0 => protocol,
            _ => 0x8100,
        };
        put_back(packet, frame, protocol, control as u16);
        (frame, captured, wire_length) = (frame - TAG, captured + TAG, wire_length.saturating_add(TAG as u32));
    }
    let bytes = packet.get(frame..frame.saturating_add(captured)).unwrap_or_default();
    Raw { ts, wire_length, bytes }
}

/// Puts a VLAN tag back, for which the addresses move towards the header.
#[cold]
fn put_back(packet: &mut [u8], frame: usize, protocol: u16, control: u16) {
    let from = frame - TAG;
    if let Some(moved) = packet.get_mut(from..frame + ADDRESSES) {
        moved.copy_within(TAG.., 0);
        let tag = protocol.to_be_bytes().into_iter().chain(control.to_be_bytes());
        moved.iter_mut().skip(ADDRESSES).zip(tag).for_each(|(to, from)| *to = from);
    }
}

#[inline]
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_ne_bytes(*word))
}

#[inline]
fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |half| u16::from_ne_bytes(*half))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet as the kernel lays it out. `next`: where the one after it begins.
    fn laid_out(next: u32, seconds: u32, frame: &[u8], tag: Option<(u16, u16)>) -> Vec<u8> {
        let mut packet = vec![0; 48 + 34];
        let mut put = |at: usize, value: &[u8]| packet[at..at + value.len()].copy_from_slice(value);
        put(NEXT, &next.to_ne_bytes());
        put(SECONDS, &seconds.to_ne_bytes());
        put(CAPTURED, &(frame.len() as u32).to_ne_bytes());
        put(LENGTH, &(frame.len() as u32 + 100).to_ne_bytes());
        put(FRAME, &82_u16.to_ne_bytes());
        if let Some((protocol, control)) = tag {
            put(STATUS, &(libc::TP_STATUS_VLAN_VALID | libc::TP_STATUS_VLAN_TPID_VALID).to_ne_bytes());
            put(TAG_CONTROL, &u32::from(control).to_ne_bytes());
            put(TAG_PROTOCOL, &protocol.to_ne_bytes());
        }
        packet.extend(frame);
        packet.resize(packet.len().max(next as usize), 0);
        packet
    }

    fn frame(payload: u8) -> Vec<u8> {
        [&[1; 6][..], &[2; 6], &[8, 0], &[payload; 20]].concat()
    }

    #[test]
    fn all_packets_of_a_block_are_at_hand_until_it_is_given_back() {
        let status = AtomicU32::new(libc::TP_STATUS_USER);
        let mut bytes = [3_u32.to_ne_bytes(), (BLOCK_PACKETS as u32 + 8).to_ne_bytes()].concat();
        for (n, next) in [(1, 128), (2, 120), (3, 0)] {
            bytes.extend(laid_out(next, u32::from(n), &frame(n), None));
        }
        let mut block = Block { status: &status, bytes: &mut bytes };
        let packets: Vec<Raw<'_>> = block.packets().collect();
        for (n, packet) in (1..).zip(&packets) {
            assert_eq!((packet.bytes, packet.wire_length), (frame(n).as_slice(), 134));
            assert_eq!(packet.ts, Timestamp::from_parts(u64::from(n), 0));
        }
        assert_eq!(packets.len(), 3);
        assert_eq!(status.load(Ordering::Relaxed), libc::TP_STATUS_USER);
        drop(block);
        assert_eq!(status.load(Ordering::Relaxed), libc::TP_STATUS_KERNEL);
    }

    #[test]
    fn what_waits_is_counted_in_the_blocks() {
        let length = NonZeroUsize::new(4 * SMALL_BLOCK).unwrap();
        // SAFETY: memory of its own, which the ring gives back.
        let start =
            unsafe { nix::sys::mman::mmap_anonymous(None, length, ProtFlags::all(), MapFlags::MAP_PRIVATE).unwrap() };
        let socket = std::os::unix::net::UnixDatagram::unbound().unwrap().into();
        let mut ring = Blocks { socket, start: start.cast(), length, block: SMALL_BLOCK, next: 3 };
        assert_eq!(ring.waiting(), 0);
        let user = libc::TP_STATUS_USER;
        // The third and the first are handed over, the second is being filled.
        for (block, status, packets) in [(3, user, 5_u32), (0, user, 7), (1, 0, 2)] {
            let at = ring.start.as_ptr().wrapping_add(block * SMALL_BLOCK);
            // SAFETY: both words lie in the mapping.
            unsafe {
                at.wrapping_add(BLOCK_STATUS).cast::<u32>().write(status);
                at.wrapping_add(BLOCK_PACKETS).cast::<u32>().write(packets);
            }
        }
        for left in [14, 9, 2] {
            assert_eq!(ring.waiting(), left);
            drop(ring.block());
        }
        assert_eq!(ring.waiting(), 2);
    }

    #[test]
    fn a_tag_that_the_kernel_took_off_is_put_back() {
        let mut packet = laid_out(0, 1, &frame(7), Some((0x88a8, 0x2005)));
        let packet = raw(&mut packet);
        let tagged = [&[1; 6][..], &[2; 6], &[0x88, 0xa8, 0x20, 5, 8, 0], &[7; 20]].concat();
        assert_eq!((packet.bytes, packet.wire_length), (tagged.as_slice(), 138));
    }

    #[test]
    fn a_small_ring_has_small_blocks_and_none_is_smaller_than_was_asked_for() {
        let mib = 1 << 20;
        let divided = [1, 2 * mib, 16 * mib - 1, 16 * mib, 64 * mib + 1].map(division);
        assert_eq!(divided, [(mib / 4, 2), (mib / 4, 8), (mib / 4, 64), (mib, 16), (mib, 65)]);
        // The least that the kernel lays out for a packet without payload: its header and link-level address, and the frame.
        let smallest = 48 + 20 + 60;
        assert!(BLOCK / smallest <= super::super::AT_ONCE);
    }

    #[test]
    fn what_a_kernel_would_not_write_is_no_packet() {
        for (number, first) in [(3, u32::MAX), (u32::MAX, 12), (2, 0)] {
            let mut bytes = [number.to_ne_bytes(), first.to_ne_bytes()].concat();
            bytes.extend([0xff; 256]);
            let status = AtomicU32::new(0);
            let mut block = Block { status: &status, bytes: &mut bytes };
            assert!(block.packets().all(|packet| packet.bytes.is_empty()));
        }
    }
}
