//! A question for a name and its answer.

use std::net::{IpAddr, SocketAddr};

use super::conversation::Step;
use super::random::Random;
use super::totals::Totals;

const ALIASES: u16 = 3;

/// Asks `resolver` for `host`, which has the address `address`, and gets what a content network answers: aliases, then the
/// address.
pub fn lookup(
    client: SocketAddr,
    resolver: SocketAddr,
    host: &str,
    address: IpAddr,
    random: &mut Random,
    totals: &mut Totals,
) -> [Step; 2] {
    let id = (random.any() as u16).to_be_bytes();
    let kind = if address.is_ipv4() { 1 } else { 28 };
    let mut question = Vec::new();
    name(&mut question, host);
    question.extend([0, kind, 0, 1]);
    // The root's OPT record (RFC 6891).
    let opt = [0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0];
    let mut query = [id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 1].to_vec();
    query.extend(&question);
    query.extend(opt);
    let mut answer = [id[0], id[1], 0x81, 0x80, 0, 1, 0, ALIASES as u8 + 1, 0, 0, 0, 1].to_vec();
    answer.extend(&question);
    // The first record's owner is the question's name, at byte 12; the next ones' are the names before.
    let mut owner = 12;
    for n in 0..ALIASES {
        let mut alias = Vec::new();
        name(&mut alias, &format!("edge-{:08x}.zone-{n}.delivery-network.example", random.below(1 << 32)));
        let target = answer.len() as u16 + 12;
        record(&mut answer, owner, 5, &alias);
        owner = target;
    }
    match address {
        IpAddr::V4(v4) => record(&mut answer, owner, 1, &v4.octets()),
        IpAddr::V6(v6) => record(&mut answer, owner, 28, &v6.octets()),
    }
    answer.extend(opt);
    totals.datagrams.add(query.len() as u64);
    totals.datagrams.add(answer.len() as u64);
    [
        Step::Datagram { from: client, to: resolver, payload: query },
        Step::Datagram { from: resolver, to: client, payload: answer },
    ]
}

/// A name as labels (RFC 1035 section 3.1).
fn name(to: &mut Vec<u8>, name: &str) {
    for label in name.split('.') {
        to.push(label.len() as u8);
        to.extend(label.as_bytes());
    }
    to.push(0);
}

fn record(to: &mut Vec<u8>, owner: u16, kind: u16, data: &[u8]) {
    to.extend((0xc000 | owner).to_be_bytes());
    to.extend(kind.to_be_bytes());
    to.extend([0, 1, 0, 0, 1, 44]);
    to.extend((data.len() as u16).to_be_bytes());
    to.extend(data);
}
