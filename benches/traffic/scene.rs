//! The captures that are made of conversations: who talks to whom about how much, and when.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Scale;
use super::conversation::Conversation;
use super::frame::Frame;
use super::random::Random;
use super::savefile::Savefile;
use super::totals::Totals;
use super::{dns, ftp, http, tls};

/// How long a whole capture of about 1 GB takes at 1 Gbit/s, in nanoseconds.
const DURATION: u64 = 8_500_000_000;
const RESOLVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 20, 0, 53)), 53);
const DNS_SERVERS_PORT: u16 = 49_152;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Tls,
    Download,
    Upload,
    Ftp,
}

/// A conversation that will take place.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Nanoseconds after the first packet.
    start: u64,
    size: u64,
    kind: Kind,
}

/// So many conversations of one kind with so many bytes together.
struct Share {
    kind: Kind,
    count: u64,
    bytes: u64,
    /// The largest is about so many times doubled from the smallest.
    octaves: u64,
}

/// A kind of capture.
pub struct Scene {
    shares: Vec<Share>,
    hosts: u64,
    servers: u64,
    /// What clients' lines carry, in megabits per second: this, doubled up to so many times.
    rate: (u64, u64),
    /// Between client and server and back, in microseconds: this, doubled up to so many times.
    round_trip: (u64, u64),
    /// Clients first ask for names, and some use IPv6.
    is_mixed: bool,
    seed: u64,
}

impl Scene {
    /// Uploads over HTTP in full-size segments.
    pub fn uploads(scale: Scale) -> Self {
        let share = Share { kind: Kind::Upload, count: scale.of(320), bytes: scale.of(1_008_000_000), octaves: 7 };
        Self::of_one_kind(share, 200, 40, 1)
    }

    /// Files over FTP, most of them to the server.
    pub fn ftp(scale: Scale) -> Self {
        let share = Share { kind: Kind::Ftp, count: scale.of(150), bytes: scale.of(960_000_000), octaves: 6 };
        Self::of_one_kind(share, 100, 20, 2)
    }

    /// Large transfers over TLS, most of them to the client.
    pub fn encrypted(scale: Scale) -> Self {
        let share = Share { kind: Kind::Tls, count: scale.of(64), bytes: scale.of(960_000_000), octaves: 2 };
        Self::of_one_kind(share, 50, 20, 5)
    }

    /// Large files over HTTP to the client.
    pub fn downloads(scale: Scale) -> Self {
        let share = Share { kind: Kind::Download, count: scale.of(64), bytes: scale.of(960_000_000), octaves: 2 };
        Self::of_one_kind(share, 50, 20, 6)
    }

    fn of_one_kind(share: Share, hosts: u64, servers: u64, seed: u64) -> Self {
        let (rate, round_trip) = ((20, 5), (200, 8));
        Self { shares: vec![share], hosts, servers, rate, round_trip, is_mixed: false, seed }
    }

    /// What passes the border of an enterprise.
    pub fn mix(scale: Scale) -> Self {
        let share =
            |kind, count, bytes, octaves| Share { kind, count: scale.of(count), bytes: scale.of(bytes), octaves };
        Self {
            shares: vec![
                share(Kind::Tls, 40_000, 480_000_000, 12),
                share(Kind::Download, 4_700, 130_000_000, 10),
                share(Kind::Upload, 4_500, 87_000_000, 10),
                share(Kind::Ftp, 270, 26_000_000, 8),
            ],
            hosts: 2_000,
            servers: 6_000,
            rate: (5, 7),
            round_trip: (300, 9),
            is_mixed: true,
            seed: 3,
        }
    }

    /// Plays it, every packet in its place.
    pub fn write<W: Write>(&self, scale: Scale, file: &mut Savefile<W>) -> io::Result<()> {
        let mut random = Random::new(self.seed);
        let mut plans = VecDeque::from(self.plans(scale.of(DURATION), &mut random));
        let mut made = 0;
        let mut data_ports = 0;
        let mut frame = Frame::default();
        let mut running: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
        let mut slots: Vec<Option<Conversation>> = Vec::new();
        let mut free = Vec::new();
        loop {
            let first = running.peek().map_or(u64::MAX, |Reverse((time, _))| *time);
            if let Some(plan) = plans.front().copied().filter(|plan| plan.start <= first) {
                plans.pop_front();
                let begun = self.begin(plan, made, &mut data_ports, &mut random, &mut file.totals);
                made += 1;
                let slot = free.pop().unwrap_or_else(|| {
                    slots.push(None);
                    slots.len() - 1
                });
                slots[slot] = Some(begun);
                running.push(Reverse((plan.start, slot)));
                continue;
            }
            let Some(Reverse((time, slot))) = running.pop() else { return Ok(()) };
            let conversation = slots[slot].as_mut().expect("a running conversation has its slot");
            match conversation.next(&mut frame, file.milliseconds()) {
                Some(wait) => {
                    file.write(&frame.bytes)?;
                    running.push(Reverse((time + wait, slot)));
                }
                None => {
                    slots[slot] = None;
                    free.push(slot);
                }
            }
        }
    }

    fn plans(&self, duration: u64, random: &mut Random) -> Vec<Plan> {
        let mut plans = Vec::new();
        for share in &self.shares {
            let draws: Vec<u64> = (0..share.count).map(|_| random.octaves(64, share.octaves)).collect();
            let sum: u64 = draws.iter().sum();
            // The last tenth of the time is for what is still running.
            plans.extend(draws.iter().map(|draw| Plan {
                start: random.below(duration * 9 / 10),
                size: (u128::from(*draw) * u128::from(share.bytes) / u128::from(sum)) as u64,
                kind: share.kind,
            }));
        }
        plans.sort_unstable_by_key(|plan| plan.start);
        plans
    }

    fn begin(
        &self,
        plan: Plan,
        number: u64,
        data_ports: &mut u64,
        random: &mut Random,
        totals: &mut Totals,
    ) -> Conversation {
        let mut own = Random::new(random.any());
        let client = own.below(self.hosts);
        // A few servers have most of the clients.
        let server = own.below(self.servers).min(own.below(self.servers)).min(own.below(self.servers));
        let v6 = self.is_mixed && !matches!(plan.kind, Kind::Ftp) && own.percent(15);
        let port = 10_000 + (number % 40_000) as u16;
        let service = match plan.kind {
            Kind::Tls => 443,
            Kind::Ftp => 21,
            _ => 80,
        };
        let ends = [SocketAddr::new(home(client, v6), port), SocketAddr::new(outside(server, v6), service)];
        let host = format!("www.site-{server:05}.example");
        let parts = split(plan.size, &mut own);
        let mut steps = VecDeque::new();
        if self.is_mixed && own.percent(96) {
            let asker = SocketAddr::new(home(client, false), DNS_SERVERS_PORT + (number % 16_000) as u16);
            steps.extend(dns::lookup(asker, RESOLVER, &host, ends[1].ip(), &mut own, totals));
        }
        steps.extend(match plan.kind {
            Kind::Tls => {
                totals.connections += 1;
                tls::connection(ends, &host, plan.size, &mut own, totals)
            }
            Kind::Download => {
                totals.connections += 1;
                http::download(ends, &host, &parts, &mut own, totals)
            }
            Kind::Upload => {
                totals.connections += 1;
                http::upload(ends, &host, &parts, &mut own, totals)
            }
            Kind::Ftp => {
                let mut ports = || {
                    *data_ports += 2;
                    50_000 + (*data_ports % 15_000) as u16
                };
                ftp::session(ends, &parts, &mut ports, &mut own, totals)
            }
        });
        let merged = if self.is_mixed { [2, 4, 8][own.below(3) as usize] } else { 2 };
        let rate = own.octaves(self.rate.0, self.rate.1);
        let round_trip = own.octaves(self.round_trip.0, self.round_trip.1) * 1000;
        Conversation::new(steps, rate, round_trip, merged, own)
    }
}

/// One to four parts of a size.
fn split(size: u64, random: &mut Random) -> Vec<u64> {
    let parts = 1 + random.below(4).min(size / 8_000);
    let mut left = size.max(1);
    let mut sizes: Vec<u64> = (1..parts)
        .map(|_| {
            let part = left * random.between(20, 60) / 100;
            left -= part;
            part
        })
        .collect();
    sizes.push(left);
    sizes
}

/// An address of a home network: private (RFC 1918), or unique local (RFC 4193).
pub fn home(number: u64, v6: bool) -> IpAddr {
    let [.., b, c, d] = (number as u32 + 256).to_be_bytes();
    if v6 {
        Ipv6Addr::new(0xfd00, 0x0020, 0, u16::from(b), 0, 0, u16::from(c), u16::from(d)).into()
    } else {
        Ipv4Addr::new(10, 20 + b, c, d).into()
    }
}

/// An address from the ranges that are set aside for measurements (RFC 2544, RFC 5180).
pub fn outside(number: u64, v6: bool) -> IpAddr {
    let [_, b, c, d] = (number as u32 + 1).to_be_bytes();
    if v6 {
        Ipv6Addr::new(0x2001, 2, 0, u16::from(b), 0, 0, u16::from(c), u16::from(d)).into()
    } else {
        Ipv4Addr::new(198, 18 + (b & 1), c, d).into()
    }
}
