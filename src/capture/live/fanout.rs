//! The program by which the kernel spreads packets over threads: both directions of a pair of hosts go to one thread, so
//! an FTP control connection and its data meet.
//!
//! It is a classic BPF program (linux/filter.h) that hashes the unordered pair of addresses of the IP header, behind up to
//! four VLAN tags. A packet that carries another in a tunnel names only the tunnel's ends there, and one inner pair may
//! come through several tunnels: every packet of a tunnel goes to the first thread, where the inner pairs meet. The same
//! holds for MPLS and PPPoE, and for what is not IP. Where a load goes past the packet, the kernel ends the program
//! with 0, which is the first thread too.
//!
//! Where the program's packet begins: of a packet that arrives, the kernel has taken off the link layer and the outermost
//! VLAN tag, which it keeps beside the packet; of one that this machine sends, offset 0 is the link layer's.

use libc::sock_filter;

/// linux/filter.h: what is known beside the bytes, from here on.
const BESIDE: u32 = -0x1000_i32 as u32;
/// Beside: the EtherType.
const PROTOCOL: u32 = BESIDE;
/// Beside: where the packet comes from.
const KIND: u32 = BESIDE + 4;
/// PACKET_OUTGOING: this machine sent it.
const SENT: u32 = 4;

const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
const VLANS: [u32; 4] = [0x8100, 0x88a8, 0x9100, 0x9200];
/// How many VLAN tags are looked through, the one that the kernel took off not counted.
const MOST_TAGS: usize = 4;
/// How many IPv6 extension headers are.
const MOST_EXTENSIONS: usize = 4;

const TCP: u32 = 6;
const UDP: u32 = 17;
const FRAGMENT: u32 = 44;
/// Hop-by-hop options, routing, destination options: each begins with the next header and its own length.
const EXTENSIONS: [u32; 3] = [0, 43, 60];
/// IPv4 and IPv6 in IP, GRE, MPLS in IP.
const TUNNELS: [u32; 4] = [4, 41, 47, 137];
/// The ports of tunnels over UDP: VXLAN, its Linux port, VXLAN-GPE, GENEVE, GTP-U, MPLS, Teredo.
const TUNNEL_PORTS: [u32; 7] = [4789, 8472, 4790, 6081, 2152, 6635, TEREDO];
/// Teredo answers from its port.
const TEREDO: u32 = 3544;

/// Of the scratch memory: a value that is put aside, where the IP header begins, the hash so far.
const ASIDE: u32 = 0;
const HEADER: u32 = 1;
const SUM: u32 = 2;

/// The program. `ethernet`: what this machine sends begins with an Ethernet header.
pub(super) fn program(ethernet: bool) -> Vec<sock_filter> {
    let mut code = vec![op(LD_W_ABS, KIND)];
    let (sent, arrived) = (vec![op(LDX_IMM, 14), op(LD_H_ABS, 12)], vec![op(LDX_IMM, 0), op(LD_W_ABS, PROTOCOL)]);
    if ethernet {
        code.extend(either(SENT, sent, arrived));
    } else {
        code.extend(arrived);
    }
    for _ in 0..MOST_TAGS {
        // A tag is two bytes and the EtherType of what follows.
        let strip = [vec![op(LD_H_IND, 2), op(ST, ASIDE)], add_to_x(4), vec![op(LD_MEM, ASIDE)]].concat();
        code.extend(where_any(&VLANS, strip));
    }
    code.extend(either(IPV4, ipv4(), either(IPV6, ipv6(), vec![op(RET, 0)])));
    code
}

/// X is where the IP header begins.
fn ipv4() -> Vec<sock_filter> {
    let mut code = vec![op(LD_B_IND, 9)];
    code.extend(first_thread_for(&TUNNELS));
    let mut udp = vec![
        // More fragments, or an offset: only the first of them shows its ports.
        op(LD_H_IND, 6),
        jump(JSET, 0x3fff, 0, 1),
        op(RET, 0),
        // X goes on by the header's length, in words of four bytes.
        op(STX, HEADER),
        op(LD_B_IND, 0),
        op(AND, 15),
        op(LSH, 2),
        op(ADD_X, 0),
        op(TAX, 0),
    ];
    udp.extend(ports());
    udp.push(op(LDX_MEM, HEADER));
    code.extend(either(UDP, udp, Vec::new()));
    code.extend(hash(12, 1));
    code
}

/// X is where the IP header begins.
fn ipv6() -> Vec<sock_filter> {
    let mut code = vec![op(STX, HEADER), op(LD_B_IND, 6), op(ST, ASIDE)];
    code.extend(add_to_x(40));
    code.push(op(LD_MEM, ASIDE));
    for _ in 0..MOST_EXTENSIONS {
        let skip = vec![
            op(LD_B_IND, 0),
            op(ST, ASIDE),
            op(LD_B_IND, 1),
            op(ADD, 1),
            op(LSH, 3),
            op(ADD_X, 0),
            op(TAX, 0),
            op(LD_MEM, ASIDE),
        ];
        code.extend(where_any(&EXTENSIONS, skip));
    }
    // A fragment of TCP goes where its connection goes; one of anything else may hide a tunnel.
    code.extend(either(FRAGMENT, vec![op(LD_B_IND, 0), jump(JEQ, TCP, 1, 0), op(RET, 0)], Vec::new()));
    code.extend(first_thread_for(&EXTENSIONS));
    code.extend(first_thread_for(&TUNNELS));
    code.extend(either(UDP, ports(), Vec::new()));
    code.push(op(LDX_MEM, HEADER));
    code.extend(hash(8, 4));
    code
}

/// X is where the UDP header begins.
fn ports() -> Vec<sock_filter> {
    let mut code = vec![op(LD_H_IND, 2)];
    code.extend(first_thread_for(&TUNNEL_PORTS));
    code.push(op(LD_H_IND, 0));
    code.extend(first_thread_for(&[TEREDO]));
    code
}

/// Mixes two addresses of so many words, which begin `at` behind X. Exclusive or does not mind which of them is first.
fn hash(at: u32, words: u32) -> Vec<sock_filter> {
    let mut code = vec![op(STX, HEADER), op(LD_IMM, 0), op(ST, SUM)];
    for word in 0..words {
        let (one, other) = (at + 4 * word, at + 4 * (words + word));
        code.extend([op(LDX_MEM, HEADER), op(LD_W_IND, one), op(ST, ASIDE), op(LD_W_IND, other)]);
        code.extend([op(LDX_MEM, ASIDE), op(XOR_X, 0), op(LDX_MEM, SUM), op(XOR_X, 0)]);
        // Fibonacci hashing: the upper half is the well mixed one.
        code.extend([op(MUL, 0x9e37_79b1), op(ST, SUM)]);
    }
    code.extend([op(RSH, 16), op(RET_A, 0)]);
    code
}

/// A is put aside by whoever needs it.
fn add_to_x(bytes: u32) -> Vec<sock_filter> {
    vec![op(TXA, 0), op(ADD, bytes), op(TAX, 0)]
}

fn first_thread_for(values: &[u32]) -> Vec<sock_filter> {
    values.iter().flat_map(|value| [jump(JEQ, *value, 0, 1), op(RET, 0)]).collect()
}

/// `yes` where A is the value, else `no`.
fn either(value: u32, yes: Vec<sock_filter>, no: Vec<sock_filter>) -> Vec<sock_filter> {
    let ends = yes.last().is_some_and(|last| matches!(u32::from(last.code), RET | RET_A));
    // The kernel refuses a jump out of the program even where no way leads to it.
    let over = if ends { None } else { Some(op(JA, no.len() as u32)) };
    let mut code = vec![jump(JEQ, value, 1, 0), op(JA, yes.len() as u32 + u32::from(!ends))];
    code.extend(yes);
    code.extend(over);
    code.extend(no);
    code
}

/// `then` where A is one of the values.
fn where_any(values: &[u32], then: Vec<sock_filter>) -> Vec<sock_filter> {
    let mut code: Vec<sock_filter> =
        values.iter().enumerate().map(|(n, value)| jump(JEQ, *value, (values.len() - n) as u8, 0)).collect();
    code.push(op(JA, then.len() as u32));
    code.extend(then);
    code
}

fn op(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn jump(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

const LD_W_ABS: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const LD_H_ABS: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LD_W_IND: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_IND;
const LD_H_IND: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_IND;
const LD_B_IND: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_IND;
const LD_IMM: u32 = libc::BPF_LD | libc::BPF_IMM;
const LD_MEM: u32 = libc::BPF_LD | libc::BPF_MEM;
const LDX_IMM: u32 = libc::BPF_LDX | libc::BPF_IMM;
const LDX_MEM: u32 = libc::BPF_LDX | libc::BPF_MEM;
const ST: u32 = libc::BPF_ST;
const STX: u32 = libc::BPF_STX;
const ADD: u32 = libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K;
const ADD_X: u32 = libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X;
const MUL: u32 = libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const LSH: u32 = libc::BPF_ALU | libc::BPF_LSH | libc::BPF_K;
const RSH: u32 = libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K;
const XOR_X: u32 = libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X;
const JA: u32 = libc::BPF_JMP | libc::BPF_JA;
const JEQ: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const JSET: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const RET: u32 = libc::BPF_RET | libc::BPF_K;
const RET_A: u32 = libc::BPF_RET | libc::BPF_A;
const TAX: u32 = libc::BPF_MISC | libc::BPF_TAX;
const TXA: u32 = libc::BPF_MISC | libc::BPF_TXA;

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would. `link` is how many bytes of the frame are taken off an arriving packet.
    fn run(program: &[sock_filter], frame: &[u8], link: Option<usize>) -> u32 {
        let bytes = &frame[link.unwrap_or(0)..];
        let protocol = link.map_or(0, |link| u32::from(u16::from_be_bytes([frame[link - 2], frame[link - 1]])));
        let load = |at: u32, size: usize| match at {
            PROTOCOL => Some(protocol),
            KIND => Some(if link.is_some() { 0 } else { SENT }),
            at => {
                let bytes = bytes.get(at as usize..at as usize + size)?;
                Some(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
            }
        };
        let (mut a, mut x, mut memory, mut at) = (0_u32, 0_u32, [0_u32; 16], 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let loaded = match u32::from(code) {
                LD_W_ABS => load(k, 4),
                LD_H_ABS => load(k, 2),
                LD_W_IND => load(x + k, 4),
                LD_H_IND => load(x + k, 2),
                LD_B_IND => load(x + k, 1),
                LD_IMM => Some(k),
                LD_MEM => Some(memory[k as usize]),
                ADD => Some(a.wrapping_add(k)),
                ADD_X => Some(a.wrapping_add(x)),
                MUL => Some(a.wrapping_mul(k)),
                AND => Some(a & k),
                LSH => Some(a << k),
                RSH => Some(a >> k),
                XOR_X => Some(a ^ x),
                TXA => Some(x),
                _ => Some(a),
            };
            let Some(value) = loaded else { return 0 };
            a = value;
            match u32::from(code) {
                LDX_IMM => x = k,
                LDX_MEM => x = memory[k as usize],
                TAX => x = a,
                ST => memory[k as usize] = a,
                STX => memory[k as usize] = x,
                JA => at += k as usize,
                JEQ => at += usize::from(if a == k { jt } else { jf }),
                JSET => at += usize::from(if a & k != 0 { jt } else { jf }),
                RET => return k,
                RET_A => return a,
                _ => {}
            }
        }
    }

    fn ethernet(tags: &[u16], kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        for tag in tags {
            frame.extend(tag.to_be_bytes());
            frame.extend([0, 7]);
        }
        frame.extend(kind.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn v4(from: u8, to: u8, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x46, 0, 0, 0, 0, 0];
        bytes.extend(fragment.to_be_bytes());
        bytes.extend([64, protocol, 0, 0, 10, 1, 0, from, 192, 0, 2, to, 1, 1, 1, 1]);
        // The addresses the other way round, where `from` is the server.
        if from > to {
            let (one, other) = (bytes[12..16].to_vec(), bytes[16..20].to_vec());
            bytes[12..16].copy_from_slice(&other);
            bytes[16..20].copy_from_slice(&one);
            bytes[15] = from;
            bytes[19] = to;
            bytes[12..15].copy_from_slice(&[192, 0, 2]);
            bytes[16..19].copy_from_slice(&[10, 1, 0]);
        }
        bytes.extend(payload);
        bytes
    }

    fn v6(from: u8, to: u8, extensions: &[(u8, usize)], protocol: u8, payload: &[u8]) -> Vec<u8> {
        let first = extensions.first().map_or(protocol, |(kind, _)| *kind);
        let mut bytes = vec![0x60, 0, 0, 0, 0, 0, first, 64];
        for host in [from, to] {
            bytes.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, host, 0, 0, 0, 0, 0, 0, 0, host]);
        }
        for (n, (_, length)) in extensions.iter().enumerate() {
            let next = extensions.get(n + 1).map_or(protocol, |(kind, _)| *kind);
            let mut extension = vec![0; *length];
            extension[0] = next;
            extension[1] = (length / 8 - 1) as u8;
            bytes.extend(extension);
        }
        bytes.extend(payload);
        bytes
    }

    /// The frame as it arrives and as it is sent: both must go to one thread.
    fn thread(frame: &[u8], tags: usize) -> u32 {
        let program = program(true);
        // The kernel takes the first tag off before the program sees the packet.
        let arrived = run(&program, frame, Some(14 + 4 * tags.min(1)));
        assert_eq!(arrived, run(&program, frame, None));
        arrived
    }

    #[test]
    fn both_directions_of_a_pair_of_hosts_go_to_one_thread_whatever_the_tags() {
        let tcp = [0; 20];
        let there = thread(&ethernet(&[], 0x0800, &v4(1, 9, 6, 0, &tcp)), 0);
        assert_ne!(there, 0);
        for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100], &[0x8100, 0x8100, 0x9100]] {
            for (from, to) in [(1, 9), (9, 1)] {
                assert_eq!(thread(&ethernet(tags, 0x0800, &v4(from, to, 6, 0, &tcp)), tags.len()), there, "{tags:x?}");
            }
        }
        let six = thread(&ethernet(&[], 0x86dd, &v6(1, 9, &[], 6, &tcp)), 0);
        assert_ne!(six, 0);
        for extensions in [&[][..], &[(0, 8)], &[(60, 16), (43, 24)], &[(0, 8), (44, 8)]] {
            let back = v6(9, 1, extensions, 6, &tcp);
            assert_eq!(thread(&ethernet(&[0x8100], 0x86dd, &back), 1), six, "{extensions:?}");
        }
    }

    #[test]
    fn pairs_are_spread_evenly() {
        let mut counts = [0; 4];
        for from in 1..=100 {
            for to in 101..=110 {
                let hash = thread(&ethernet(&[], 0x0800, &v4(from, to, 6, 0, &[0; 20])), 0);
                counts[hash as usize % 4] += 1;
            }
        }
        assert!(counts.iter().all(|count| (200..300).contains(count)), "{counts:?}");
    }

    #[test]
    fn fragments_of_a_connection_stay_with_it() {
        let whole = thread(&ethernet(&[], 0x0800, &v4(1, 9, 6, 0, &[0; 20])), 0);
        for fragment in [0x2000, 0x2010, 0x0020] {
            assert_eq!(thread(&ethernet(&[], 0x0800, &v4(1, 9, 6, fragment, &[0; 20])), 0), whole);
        }
    }

    #[test]
    fn what_is_in_a_tunnel_goes_to_the_first_thread() {
        let udp = |from: u16, to: u16| [from.to_be_bytes(), to.to_be_bytes(), [0, 0], [0, 0]].concat();
        for protocol in [4, 41, 47, 137] {
            assert_eq!(thread(&ethernet(&[], 0x0800, &v4(1, 9, protocol, 0, &[0; 20])), 0), 0);
            assert_eq!(thread(&ethernet(&[], 0x86dd, &v6(1, 9, &[(0, 8)], protocol, &[0; 20])), 0), 0);
        }
        for port in [4789, 8472, 4790, 6081, 2152, 6635, 3544] {
            assert_eq!(thread(&ethernet(&[], 0x0800, &v4(1, 9, 17, 0, &udp(50_000, port))), 0), 0);
            assert_eq!(thread(&ethernet(&[], 0x86dd, &v6(1, 9, &[], 17, &udp(50_000, port))), 0), 0);
        }
        assert_eq!(thread(&ethernet(&[], 0x0800, &v4(1, 9, 17, 0, &udp(3544, 50_000))), 0), 0);
        assert_eq!(thread(&ethernet(&[], 0x0800, &v4(1, 9, 17, 0x2000, &udp(50_000, 53))), 0), 0);
        assert_eq!(thread(&ethernet(&[], 0x86dd, &v6(1, 9, &[(44, 8)], 17, &udp(50_000, 53))), 0), 0);
        for kind in [0x8847, 0x8864, 0x0806] {
            assert_eq!(thread(&ethernet(&[], kind, &[0x45; 60]), 0), 0);
        }
        assert_ne!(thread(&ethernet(&[], 0x0800, &v4(1, 9, 17, 0, &udp(50_000, 53))), 0), 0);
    }

    #[test]
    fn a_packet_that_ends_early_goes_to_the_first_thread() {
        let frame = ethernet(&[0x8100], 0x0800, &v4(1, 9, 6, 0, &[]));
        for length in 18..34 {
            assert_eq!(run(&program(true), &frame[..length], Some(18)), 0);
        }
    }

    #[test]
    fn no_jump_leaves_the_program() {
        for program in [program(true), program(false)] {
            assert!(program.len() < 4096);
            for (n, instruction) in program.iter().enumerate() {
                let furthest = match u32::from(instruction.code) {
                    JA => instruction.k as usize,
                    JEQ | JSET => usize::from(instruction.jt.max(instruction.jf)),
                    _ => 0,
                };
                assert!(n + 1 + furthest < program.len() || furthest == 0, "instruction {n}");
            }
        }
    }
}
