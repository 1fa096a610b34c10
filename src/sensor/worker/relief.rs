//! What is not needed any more of connections: what that is, and what was counted of it elsewhere.

use super::{Key, Parsers, Placed, Segment, Tracker, Worker, collect, lane_of};
use crate::capture::live::{Needless, Relieved};
use crate::flow;
use crate::net::{ByteSize, Timestamp};
use crate::packet::{Flags, Layers};

/// More are not told at a time; those that are left out are told with their next packet.
const MOST: usize = 1024;

/// Stands for bytes that nobody looks at.
static UNREAD: [u8; 1 << 16] = [0; 1 << 16];

/// Connections of which nothing more is needed, or nothing for a while.
pub(super) struct Spared {
    noted: Vec<Needless>,
    /// Those that have carried fewer bytes are not noted, nor those of which fewer are not needed.
    after: u64,
}

/// Notes what is not needed any more of the segment's connection, if that is something.
#[cold]
pub(super) fn note(spared: &mut Spared, tracker: &Tracker<Parsers>, segment: &Segment<'_>, key: &Key) {
    // What is in a tunnel is known to the kernel by other addresses.
    let plain = segment.layers.tunnels().next().is_none() && segment.flags.goes_on();
    if !plain || segment.payload.is_empty() || spared.noted.len() >= MOST {
        return;
    }
    let before = match tracker.needless(key, segment, spared.after) {
        None => return,
        Some(flow::Needless::All) => None,
        Some(flow::Needless::Before { sender, peer }) => Some((sender, peer)),
    };
    spared.noted.push(Needless { source: segment.source, destination: segment.destination, before });
}

impl Worker {
    /// From now on, notes what is not needed any more of connections that have carried so many bytes.
    pub(in crate::sensor) fn note_needless(&mut self, after: ByteSize) {
        self.spared = Some(Spared { noted: Vec::new(), after: after.0 });
    }

    /// What was noted since this was last asked.
    pub(in crate::sensor) fn take_needless(&mut self) -> Vec<Needless> {
        self.spared.as_mut().map(|spared| std::mem::take(&mut spared.noted)).unwrap_or_default()
    }

    /// Counts packets of such a connection that were only counted elsewhere, as if they had been followed. One that is not
    /// there any more gets nothing.
    pub(in crate::sensor) fn relieved(
        &mut self,
        relieved: &Relieved,
        clock: Timestamp,
        index: u64,
        out: &mut Vec<Placed>,
    ) {
        let &Relieved { source, destination, packets, next } = relieved;
        let lane = lane_of(source.address, destination.address);
        let Some(Some(tracker)) = self.lanes.get_mut(lane) else { return };
        tracker.advance(clock);
        let (mut counted, mut before) = (0_u64, None);
        loop {
            let (flags, layers, ts) = (Flags::default(), Layers::default(), clock);
            let mut segment = Segment {
                index,
                ts,
                clock,
                source,
                destination,
                seq: next,
                ack: 0,
                flags,
                payload: &[],
                cut: 0,
                layers,
            };
            let key = tracker.key(&segment);
            // From where the stream stands, whatever was lost or sent again while the kernel counted: what waits behind a hole
            // stays as it came.
            let Some((seq, room)) = tracker.stands(&key, &segment) else { break };
            let left = u64::from(u32::try_from(next.wrapping_sub(seq) as i32).unwrap_or(0));
            segment.seq = seq;
            segment.payload = UNREAD.get(..left.min(room) as usize).unwrap_or(&UNREAD);
            // A stream that has ended takes no more: what comes behind its FIN has a number higher by one.
            let stuck = before.replace(seq) == Some(seq);
            if (left == 0 && counted > 0) || stuck || !tracker.passes_over(&key, &segment) {
                tracker.recount(&key, &segment, packets, counted);
                break;
            }
            tracker.push_keyed(&segment, &key);
            counted += 1;
        }
        collect(tracker, lane, out);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use proptest::prelude::*;

    use super::*;
    use crate::capture::Packet;
    use crate::config::Config;
    use crate::flow::Moment;
    use crate::net::{Address, Endpoint};
    use crate::protocol::Fact;
    use crate::record::Flow;

    const FIN: u8 = 0x01;
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;

    /// A segment, and the frame that it is sent in.
    #[derive(Clone, Debug)]
    struct Sent {
        from_client: bool,
        flags: u8,
        seq: u32,
        length: u32,
        frame: Vec<u8>,
    }

    fn ends(from_client: bool) -> (Endpoint, Endpoint) {
        let client = Endpoint { address: Address::v4([10, 0, 0, 5]), port: 50_000 };
        let server = Endpoint { address: Address::v4([192, 0, 2, 9]), port: 80 };
        if from_client { (client, server) } else { (server, client) }
    }

    /// What both sides of a connection send, in order.
    struct Talk {
        next: [u32; 2],
        sent: Vec<Sent>,
    }

    impl Talk {
        fn segment(&mut self, from_client: bool, flags: u8, payload: &[u8]) {
            let (mine, peer) = (usize::from(from_client), usize::from(!from_client));
            let (source, destination) = ends(from_client);
            let mut frame = [&[2; 12][..], &[8, 0, 0x45, 0]].concat();
            frame.extend((40 + payload.len() as u16).to_be_bytes());
            frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
            frame.extend(if from_client { [10, 0, 0, 5, 192, 0, 2, 9] } else { [192, 0, 2, 9, 10, 0, 0, 5] });
            frame.extend([source.port.to_be_bytes(), destination.port.to_be_bytes()].concat());
            let ack = if flags & ACK == 0 { 0 } else { self.next[peer] };
            frame.extend([self.next[mine].to_be_bytes(), ack.to_be_bytes()].concat());
            frame.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
            frame.extend(payload);
            let length = payload.len() as u32;
            self.sent.push(Sent { from_client, flags, seq: self.next[mine], length, frame });
            self.next[mine] = self.next[mine].wrapping_add(length + u32::from(flags & (SYN | FIN) != 0));
        }

        fn says(&mut self, from_client: bool, bytes: &[u8], cut: usize) {
            for (n, piece) in bytes.chunks(cut.max(1)).enumerate() {
                self.segment(from_client, ACK, piece);
                if n % 2 == 1 {
                    self.segment(!from_client, ACK, &[]);
                }
            }
        }
    }

    /// Downloads, each asked for before or after the end of the one before it, and an upload after each.
    fn talk(seqs: [u32; 2], downloads: &[(usize, usize, usize)], half_closed: bool) -> Vec<Sent> {
        let mut talk = Talk { next: seqs, sent: Vec::new() };
        talk.segment(true, SYN, &[]);
        talk.segment(false, SYN | ACK, &[]);
        for (length, cut, asked) in downloads {
            let upload = b"POST /in HTTP/1.1\r\nHost: a.example\r\nContent-Length: 700\r\n\r\n";
            let upload = [&upload[..], &[b'u'; 700]].concat();
            talk.says(true, b"GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n", 1_000);
            talk.says(false, format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes(), 1_000);
            let body = vec![b'd'; *length];
            let (first, rest) = body.split_at(*asked.min(length));
            talk.says(false, first, *cut);
            talk.says(true, &upload, 300);
            talk.says(false, rest, *cut);
            talk.says(false, b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", 1_000);
        }
        if half_closed {
            talk.says(true, b"GET /b HTTP/1.1\r\nHost: a.example\r\n\r\n", 1_000);
            talk.segment(true, FIN | ACK, &[]);
            talk.says(false, b"HTTP/1.1 200 OK\r\n\r\n", 1_000);
            talk.says(false, &[b'e'; 9_000], 1_000);
            talk.segment(false, FIN | ACK, &[]);
        } else {
            talk.segment(false, FIN | ACK, &[]);
            talk.segment(true, FIN | ACK, &[]);
        }
        talk.sent
    }

    /// What the kernel's table has of a direction.
    #[derive(Default)]
    struct Entry {
        before: Option<u32>,
        closed: bool,
        packets: u64,
        told: u64,
        next: u32,
    }

    /// The kernel with its table, and what it lets through.
    #[derive(Default)]
    struct Kernel {
        table: BTreeMap<bool, Entry>,
        ring: VecDeque<(usize, Sent)>,
        dropped: u64,
    }

    impl Kernel {
        fn arrives(&mut self, index: usize, sent: &Sent) {
            let end = sent.seq.wrapping_add(sent.length);
            if let Some(entry) = self.table.get_mut(&sent.from_client) {
                entry.closed |= sent.flags & 0x07 != 0;
                let passes = entry.before.is_some_and(|before| (before.wrapping_sub(end) as i32) < 0);
                if !entry.closed && !passes {
                    if entry.packets == 0 || (end.wrapping_sub(entry.next) as i32) > 0 {
                        entry.next = end;
                    }
                    entry.packets += 1;
                    self.dropped += 1;
                    return;
                }
            }
            self.ring.push_back((index, sent.clone()));
        }

        fn told(&mut self) -> Vec<Relieved> {
            let told = self.table.iter_mut().filter_map(|(from_client, entry)| {
                let (source, destination) = ends(*from_client);
                let packets = entry.packets - std::mem::replace(&mut entry.told, entry.packets);
                (packets > 0).then_some(Relieved { source, destination, packets, next: entry.next })
            });
            told.collect()
        }
    }

    fn time(index: usize) -> Timestamp {
        Timestamp::from_parts(1_000, 1_000 * index as u64)
    }

    fn packet(index: usize, frame: &[u8]) -> Packet<'_> {
        let (ts, wire_length) = (time(index), frame.len() as u32);
        Packet { index: index as u64, ts, clock: ts, link: 1, wire_length, bytes: frame }
    }

    /// What is left of facts when their times are taken off.
    fn essence(mut worker: Worker, mut found: Vec<Placed>, last: usize) -> (Vec<String>, String) {
        worker.finish(time(last), &mut |part: &mut Vec<Placed>, _: Moment| found.append(part));
        let (mut uploads, mut flow) = (Vec::new(), None);
        for placed in found {
            match placed.fact {
                Fact::Upload(upload) => uploads.push(format!(
                    "{} {} {} {:?} {:?} {:?}",
                    upload.bytes, upload.missing, upload.client_bytes, upload.state, upload.notes, upload.http
                )),
                Fact::Flow(found) => flow = Some(Flow { start: Timestamp(0), end: Timestamp(0), ..*found }),
                Fact::Name(_) => {}
            }
        }
        (uploads, format!("{:?}", flow.unwrap()))
    }

    proptest! {
        #[test]
        fn what_the_kernel_counts_comes_to_the_same_as_reading_it(
            seqs in any::<[u32; 2]>(),
            downloads in prop::collection::vec((0..30_000_usize, 200..1_400_usize, 0..40_000_usize), 1..4),
            half_closed in any::<bool>(),
            twice in prop::collection::vec((0..200_usize, 1..8_usize), 0..6),
            swapped in prop::collection::vec(3..200_usize, 0..6),
            batches in prop::collection::vec((1..40_usize, 0..60_usize, any::<bool>()), 1..20),
        ) {
            let mut sent = talk(seqs, &downloads, half_closed);
            let last = sent.len() - 3;
            for at in swapped {
                // A client's request stays before what answers it.
                let at = at % last;
                if at > 2 && sent[at].from_client == sent[at + 1].from_client {
                    sent.swap(at, at + 1);
                }
            }
            for (at, later) in twice {
                let at = 2 + at % (last - 2);
                let again = sent[at].clone();
                sent.insert((at + later).min(last), again);
            }
            let config = Config::default();
            let mut plain = Worker::new(&config, 0, 1, 7);
            let mut found = Vec::new();
            plain.follow(sent.iter().enumerate().map(|(n, sent)| packet(n, &sent.frame)), &mut found);
            let expected = essence(plain, found, sent.len());

            let mut worker = Worker::new(&config, 0, 1, 7);
            worker.note_needless(ByteSize(2_000));
            let (mut found, mut kernel) = (Vec::new(), Kernel::default());
            let mut batches = batches.into_iter().cycle();
            let (mut arrived, mut settled) = (sent.iter().enumerate(), true);
            loop {
                let (arrive, read, all) = batches.next().unwrap();
                let mut some = false;
                for (n, sent) in arrived.by_ref().take(arrive) {
                    kernel.arrives(n, sent);
                    some = true;
                }
                for _ in 0..if some { read } else { usize::MAX } {
                    let Some((n, sent)) = kernel.ring.pop_front() else { break };
                    let end = sent.seq.wrapping_add(sent.length);
                    let passed = kernel.table.get(&sent.from_client).and_then(|entry| entry.before);
                    let passed = passed.is_some_and(|before| (before.wrapping_sub(end) as i32) < 0);
                    if sent.flags & 0x07 != 0 || passed {
                        for relieved in kernel.told() {
                            worker.relieved(&relieved, time(n), n as u64, &mut found);
                        }
                        kernel.table.clear();
                    }
                    worker.follow(std::iter::once(packet(n, &sent.frame)), &mut found);
                }
                // What was in the ring before the table was filled was read by then.
                settled |= kernel.ring.is_empty();
                if all && settled {
                    for relieved in kernel.told() {
                        worker.relieved(&relieved, time(sent.len()), sent.len() as u64, &mut found);
                    }
                }
                for needless in worker.take_needless().iter().rev() {
                    if kernel.table.is_empty() {
                        settled = kernel.ring.is_empty();
                        let from_client = needless.source == ends(true).0;
                        let (one, other) = needless.before.unzip();
                        kernel.table.insert(from_client, Entry { before: one, ..Entry::default() });
                        kernel.table.insert(!from_client, Entry { before: other, ..Entry::default() });
                    }
                }
                if !some {
                    break;
                }
            }
            for relieved in kernel.told() {
                worker.relieved(&relieved, time(sent.len()), sent.len() as u64, &mut found);
            }
            prop_assert_eq!(essence(worker, found, sent.len()), expected);
        }
    }
}
