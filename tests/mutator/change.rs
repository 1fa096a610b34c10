//! The mutations. Each takes the packets of a capture and gives other packets, or the rule by which it does not apply.

use std::collections::{BTreeMap, BTreeSet};

use outfall::net::Endpoint;
use outfall::packet::{Decoded, Decoder};

use super::layout::{Layout, be16, be32, checksum, layout, put16, put32};
use super::{Chance, Frame};

/// The packets of the mutated capture, or why there is none.
pub type Mutated = Result<Vec<Frame>, &'static str>;

/// By how many places a packet may be displaced.
pub const DISPLACEMENT: usize = 50;
/// By how much time, in nanoseconds: no tap is later, and connections end by time.
pub const LATENESS: u64 = 5_000_000_000;

/// Loses each packet with a chance of `percent`.
pub fn drop(frames: &[Frame], percent: usize, seed: u64) -> Mutated {
    let mut chance = Chance::new(seed ^ (frames.len() as u64) << 32);
    Ok(frames.iter().filter(|_| chance.below(100) >= percent).cloned().collect())
}

/// Delivers every packet twice, as a mirror of both ends of a link does.
pub fn duplicate(frames: &[Frame]) -> Mutated {
    Ok(frames.iter().flat_map(|frame| [frame.clone(), frame.clone()]).collect())
}

/// Delivers every packet twice, the second time behind a router.
pub fn duplicate_routed(frames: &[Frame]) -> Mutated {
    let routed = |frame: &Frame| {
        let mut copy = frame.clone();
        if let Some(at) = layout(frame) {
            let hops = at.ip + if at.v6 { 7 } else { 8 };
            copy.bytes[hops] = copy.bytes[hops].saturating_sub(1);
            if !at.v6 {
                checksum(&mut copy.bytes, at.ip);
            }
        }
        copy
    };
    Ok(frames.iter().flat_map(|frame| [frame.clone(), routed(frame)]).collect())
}

/// What happens to the times of packets that change places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// A packet keeps its own, so that time goes back a little.
    Kept,
    /// They ascend, as those of a tap that stamps late.
    Ascending,
}

/// Shuffles packets within windows, so that none is displaced by more than [`DISPLACEMENT`] and [`LATENESS`].
pub fn reorder(frames: &[Frame], times: Times, seed: u64) -> Mutated {
    let mut chance = Chance::new(seed);
    let mut shuffled = frames.to_vec();
    let mut rest = &mut shuffled[..];
    // The first window is shorter, or packets would never cross the borders of a multiple.
    let mut most = 1 + chance.below(DISPLACEMENT + 1);
    while let Some(first) = rest.first().map(|frame| frame.ts) {
        let near = rest.iter().take_while(|frame| frame.ts.abs_diff(first) <= LATENESS).count();
        let (window, after) = rest.split_at_mut(near.min(most));
        for n in (1..window.len()).rev() {
            window.swap(n, chance.below(n + 1));
        }
        (rest, most) = (after, DISPLACEMENT + 1);
    }
    if times == Times::Ascending {
        let mut stamps: Vec<u64> = frames.iter().map(|frame| frame.ts).collect();
        stamps.sort_unstable();
        shuffled.iter_mut().zip(stamps).for_each(|(frame, ts)| frame.ts = ts);
    }
    Ok(shuffled)
}

/// Cuts every packet at a snap length.
pub fn snap(frames: &[Frame], length: usize) -> Mutated {
    let mut cut = frames.to_vec();
    cut.iter_mut().for_each(|frame| frame.bytes.truncate(length));
    Ok(cut)
}

/// Takes out the packets that one side of each connection sent. `loses` says whether the sender's packets go.
pub fn strip(frames: &[Frame], loses: impl Fn(Endpoint, Endpoint) -> bool) -> Mutated {
    let mut decoder = Decoder::new();
    let mut kept = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        let mut gone = false;
        decoder.decode(&frame.packet(index), &mut |decoded| {
            if let Decoded::Tcp(segment) = decoded {
                gone = loses(segment.source, segment.destination);
            }
        });
        if !gone {
            kept.push(frame.clone());
        }
    }
    Ok(kept)
}

/// A header to put before every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapper {
    Vxlan,
    Geneve,
    Gre,
    ErspanTwo,
    ErspanThree,
    Mpls,
    QinQ,
}

/// Wraps every Ethernet frame.
pub fn wrap(frames: &[Frame], wrapper: Wrapper) -> Mutated {
    if frames.iter().any(|frame| frame.link != 1) {
        return Err("not Ethernet, which these wrappers carry");
    }
    if frames.iter().any(|frame| frame.wire_length > 65_000) {
        return Err("frames too long for an outer packet");
    }
    Ok(frames.iter().enumerate().map(|(n, frame)| frame.with(wrapped(frame, wrapper, n as u32))).collect())
}

fn wrapped(frame: &Frame, wrapper: Wrapper, number: u32) -> Vec<u8> {
    const MACS: [u8; 12] = [2, 0, 0, 0, 9, 1, 2, 0, 0, 0, 9, 2];
    let inner = &frame.bytes[..];
    let ethernet = |kind: u16, rest: Vec<u8>| [&MACS[..], &kind.to_be_bytes(), &rest].concat();
    let outer = |protocol: u8, header: &[u8]| {
        // The outer lengths are those of the wire, whatever the snap length left.
        let length = 20 + header.len() + frame.wire_length as usize;
        let mut ip = vec![0x45, 0, (length >> 8) as u8, length as u8, 0, 0, 0, 0, 64, protocol, 0, 0];
        ip.extend([172, 31, 0, 1, 172, 31, 0, 2]);
        checksum(&mut ip, 0);
        ethernet(0x0800, [&ip, header, inner].concat())
    };
    let udp = |port: u16, header: &[u8]| {
        let length = (8 + header.len() + frame.wire_length as usize) as u16;
        let ports = [50_000u16, port, length, 0].map(u16::to_be_bytes).concat();
        outer(17, &[&ports, header].concat())
    };
    match wrapper {
        Wrapper::Vxlan => udp(4789, &[8, 0, 0, 0, 0, 0, 77, 0]),
        // With an option of four bytes.
        Wrapper::Geneve => udp(6081, &[2, 0, 0x65, 0x58, 0, 0, 77, 0, 1, 2, 3, 1, 0, 0, 0, 0]),
        Wrapper::Gre => outer(47, &[0, 0, 0x65, 0x58]),
        Wrapper::ErspanTwo => {
            let gre = [&[0x10, 0, 0x88, 0xbe][..], &number.to_be_bytes()].concat();
            outer(47, &[&gre[..], &[0x10, 5, 0, 99, 0, 0, 0, 1]].concat())
        }
        Wrapper::ErspanThree => {
            let gre = [&[0x10, 0, 0x22, 0xeb][..], &number.to_be_bytes()].concat();
            outer(47, &[&gre[..], &[0x20, 5, 0, 99, 0, 0, 0, 1, 0, 0, 0, 0]].concat())
        }
        // Two labels, then a pseudo-wire with its control word.
        Wrapper::Mpls => ethernet(0x8847, [&[0, 6, 0x40, 0xff, 0, 6, 0x51, 0xff, 0, 0, 0, 0][..], inner].concat()),
        Wrapper::QinQ => {
            let addresses = inner.get(..12).unwrap_or(inner);
            let rest = inner.get(12..).unwrap_or_default();
            [addresses, &[0x88, 0xa8, 0, 30, 0x81, 0, 0, 40], rest].concat()
        }
    }
}

/// Shifts the sequence numbers of each direction so that they pass zero in the middle of its stream.
pub fn wrap_sequence(frames: &[Frame]) -> Mutated {
    type Direction = (Endpoint, Endpoint);
    let mut decoder = Decoder::new();
    let mut spans: BTreeMap<Direction, (u32, i64)> = BTreeMap::new();
    let mut directions: Vec<Option<Direction>> = Vec::new();
    let mut fixed: BTreeSet<Direction> = BTreeSet::new();
    for (index, frame) in frames.iter().enumerate() {
        let mut direction = None;
        decoder.decode(&frame.packet(index), &mut |decoded| {
            if let Decoded::Tcp(segment) = decoded {
                let this = (segment.source, segment.destination);
                if layout(frame).is_none() {
                    // Tunnelled or put together from fragments: its header is out of reach.
                    fixed.extend([this, (this.1, this.0)]);
                }
                let (first, longest) = spans.entry(this).or_insert((segment.seq, 0));
                let end = i64::from(segment.seq.wrapping_sub(*first) as i32) + segment.payload.len() as i64;
                *longest = (*longest).max(end);
                direction = Some(this);
            }
        });
        directions.push(direction);
    }
    let shift = |direction: Direction| match spans.get(&direction) {
        Some((first, longest)) if !fixed.contains(&direction) => {
            0u32.wrapping_sub(first.wrapping_add(u32::try_from(longest / 2).unwrap_or(0)))
        }
        _ => 0,
    };
    let mut shifted = frames.to_vec();
    for (frame, direction) in shifted.iter_mut().zip(directions) {
        let (Some((from, to)), Some(at)) = (direction, layout(frame)) else { continue };
        let seq = be32(&frame.bytes, at.tcp + 4).unwrap_or(0).wrapping_add(shift((from, to)));
        put32(&mut frame.bytes, at.tcp + 4, seq);
        if frame.bytes[at.tcp + 13] & 0x10 != 0 {
            let ack = be32(&frame.bytes, at.tcp + 8).unwrap_or(0).wrapping_add(shift((to, from)));
            put32(&mut frame.bytes, at.tcp + 8, ack);
        }
    }
    Ok(shifted)
}

/// Cuts each segment into one to `most` smaller ones.
pub fn resegment(frames: &[Frame], most: usize, seed: u64) -> Mutated {
    let mut chance = Chance::new(seed);
    let mut pieces = Vec::new();
    for frame in frames {
        match layout(frame) {
            Some(at) if !at.fragment && at.end <= frame.bytes.len() && at.end - at.payload > 1 => {
                let mut cuts: Vec<usize> =
                    (0..chance.below(most)).map(|_| at.payload + chance.below(at.end - at.payload)).collect();
                cuts.extend([at.payload, at.end]);
                cuts.sort_unstable();
                cuts.dedup();
                pieces.extend(cuts.windows(2).map(|cut| piece(frame, &at, cut[0], cut[1])));
            }
            _ => pieces.push(frame.clone()),
        }
    }
    Ok(pieces)
}

fn piece(frame: &Frame, at: &Layout, from: usize, to: usize) -> Frame {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    let mut bytes = frame.bytes[..at.payload].to_vec();
    bytes.extend_from_slice(&frame.bytes[from..to]);
    let mut seq = be32(&bytes, at.tcp + 4).unwrap_or(0);
    if from > at.payload {
        // A SYN comes before the payload and counts as one.
        seq = seq.wrapping_add((from - at.payload) as u32 + u32::from(bytes[at.tcp + 13] & SYN != 0));
        bytes[at.tcp + 13] &= !SYN;
    }
    if to < at.end {
        bytes[at.tcp + 13] &= !FIN;
    }
    put32(&mut bytes, at.tcp + 4, seq);
    let end = bytes.len();
    at.set_end(&mut bytes, end);
    Frame { wire_length: end as u32, bytes, ..*frame }
}

/// Cuts each IP packet with TCP in it into fragments of at most `most` bytes.
pub fn fragment(frames: &[Frame], most: usize) -> Mutated {
    let mut pieces = Vec::new();
    for (number, frame) in frames.iter().enumerate() {
        match layout(frame) {
            Some(at) if !at.fragment && at.end <= frame.bytes.len() && at.end - at.tcp > most => {
                let header = if at.v6 { 40 } else { at.tcp - at.ip };
                let body = &frame.bytes[at.ip + header..at.end];
                let count = body.len().div_ceil(most);
                for (n, part) in body.chunks(most).enumerate() {
                    let offset = (n * most) as u16;
                    pieces.push(fragment_of(frame, &at, (part, offset, n + 1 < count), number as u32));
                }
            }
            _ => pieces.push(frame.clone()),
        }
    }
    Ok(pieces)
}

fn fragment_of(frame: &Frame, at: &Layout, (part, offset, more): (&[u8], u16, bool), id: u32) -> Frame {
    let header = if at.v6 { 40 } else { at.tcp - at.ip };
    let mut bytes = frame.bytes[..at.ip + header].to_vec();
    if at.v6 {
        bytes[at.ip + 6] = 44;
        bytes.extend([6, 0]);
        bytes.extend((offset | u16::from(more)).to_be_bytes());
        bytes.extend(id.to_be_bytes());
    } else {
        put16(&mut bytes, at.ip + 4, id as u16);
        let kept = be16(&bytes, at.ip + 6).unwrap_or(0) & 0x8000;
        put16(&mut bytes, at.ip + 6, kept | (offset / 8) | (u16::from(more) << 13));
    }
    bytes.extend_from_slice(part);
    let end = bytes.len();
    at.set_end(&mut bytes, end);
    Frame { wire_length: end as u32, bytes, ..*frame }
}
