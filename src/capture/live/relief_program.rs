//! The program that relief runs in the kernel, instruction by instruction (RFC 9669).

use std::os::fd::{AsRawFd, BorrowedFd};

use super::bpf::{self, Instruction, Value};

/// Registers: results and scratch; what calls keep; the end of the stack.
const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const R3: u8 = 3;
const R4: u8 = 4;
const R5: u8 = 5;
/// The packet.
const PACKET: u8 = 6;
/// The value that was found.
const FOUND: u8 = 7;
/// The bytes of the TCP header and behind it.
const LENGTH: u8 = 8;
const STACK: u8 = 10;

/// On the stack: the key; the TCP header; the IP header; the EtherType.
const KEY: i16 = -40;
const SOURCE: i16 = KEY;
const DESTINATION: i16 = KEY + 16;
const PORTS: i16 = KEY + 32;
const TYPE: i16 = -48;
const TCP: i16 = -92;
const IPV4: i16 = TCP - 20;
const IPV6: i16 = -152;

/// In a value: packets, bytes on the wire, the next sequence number, what becomes of the direction, and the sequence number
/// behind what is dropped.
const PACKETS: i16 = 0;
const BYTES: i16 = 8;
const NEXT: i16 = 16;
const STATE: i16 = 20;
const BEFORE: i16 = 24;

/// What becomes of a direction: nothing is dropped any more; what comes before a sequence number is. Otherwise everything.
const CLOSED: i32 = 1;
const BOUNDED: i32 = 2;

/// In struct __sk_buff: the packet's length, and whether it came with a VLAN tag.
const SKB_LENGTH: i16 = 0;
const SKB_TAGGED: i16 = 20;

/// Helpers of the kernel.
const LOOK_UP: i32 = 1;
const LOAD_BYTES: i32 = 26;

/// Packets, bytes on the wire, and the sequence number that the direction has come to.
pub(super) fn counted(value: &Value) -> (u64, u64, u32) {
    let [packets, wire_bytes, next, _] = *value;
    let [a, b, c, d, ..] = next.to_ne_bytes();
    (packets, wire_bytes, u32::from_ne_bytes([a, b, c, d]))
}

/// What a direction begins with: of one that is bounded, what comes before the sequence number is dropped.
pub(super) fn value(before: Option<u32>) -> Value {
    let two = |low: u32, high: u32| {
        let ([a, b, c, d], [e, f, g, h]) = (low.to_ne_bytes(), high.to_ne_bytes());
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    };
    match before {
        Some(before) => [0, 0, two(0, BOUNDED as u32), two(before, 0)],
        None => [0; bpf::VALUE],
    }
}

/// The program, with its table. Packets that pass are cut to `snap_length`.
pub(super) fn program(table: BorrowedFd<'_>, snap_length: u32) -> Vec<Instruction> {
    let mut code = Code::default();
    code.copy(PACKET, R1);
    for at in 0..5 {
        code.put(STORE_64, STACK, 0, KEY + 8 * at, 0);
    }
    code.load_bytes(12, TYPE, 2);
    code.put(LOAD_16, R1, STACK, TYPE, 0);
    code.jump(IF_EQUAL, R1, i32::from(0x0800_u16.to_be()), "ipv4");
    code.jump(IF_EQUAL, R1, i32::from(0x86dd_u16.to_be()), "ipv6");
    code.jump(ALWAYS, 0, 0, "pass");

    code.label("ipv4");
    code.load_bytes(14, IPV4, 40);
    code.put(LOAD_8, R1, STACK, IPV4, 0);
    code.jump(UNLESS_EQUAL, R1, 0x45, "pass");
    code.put(LOAD_8, R1, STACK, IPV4 + 9, 0);
    code.jump(UNLESS_EQUAL, R1, 6, "pass");
    code.put(LOAD_16, R1, STACK, IPV4 + 6, 0);
    code.put(AND, R1, 0, 0, i32::from(0x3fff_u16.to_be()));
    code.jump(UNLESS_EQUAL, R1, 0, "pass");
    for (from, to) in [(IPV4 + 12, SOURCE), (IPV4 + 16, DESTINATION)] {
        code.put(STORE_16, STACK, 0, to + 10, 0xffff);
        code.put(LOAD_32, R1, STACK, from, 0);
        code.put(STORE_32_OF, STACK, R1, to + 12, 0);
    }
    code.put(LOAD_16, LENGTH, STACK, IPV4 + 2, 0);
    code.put(FROM_NETWORK, LENGTH, 0, 0, 16);
    code.put(SUBTRACT, LENGTH, 0, 0, 20);
    code.jump(ALWAYS, 0, 0, "tcp");

    code.label("ipv6");
    code.load_bytes(14, IPV6, 40);
    code.put(LOAD_8, R1, STACK, IPV6, 0);
    code.put(AND, R1, 0, 0, 0xf0);
    code.jump(UNLESS_EQUAL, R1, 0x60, "pass");
    code.put(LOAD_8, R1, STACK, IPV6 + 6, 0);
    code.jump(UNLESS_EQUAL, R1, 6, "pass");
    for at in [0, 8, 16, 24] {
        code.put(LOAD_64, R1, STACK, IPV6 + 8 + at, 0);
        code.put(STORE_64_OF, STACK, R1, KEY + at, 0);
    }
    code.put(LOAD_16, LENGTH, STACK, IPV6 + 4, 0);
    code.put(FROM_NETWORK, LENGTH, 0, 0, 16);
    code.load_bytes(54, TCP, 20);

    code.label("tcp");
    code.put(LOAD_32, R1, STACK, TCP, 0);
    code.put(STORE_32_OF, STACK, R1, PORTS, 0);
    code.table(table);
    code.copy(R2, STACK);
    code.put(ADD, R2, 0, 0, i32::from(KEY));
    code.call(LOOK_UP);
    code.jump(IF_EQUAL, R0, 0, "pass");
    code.copy(FOUND, R0);
    // FIN, SYN and RST.
    code.put(LOAD_8, R1, STACK, TCP + 13, 0);
    code.put(AND, R1, 0, 0, 7);
    code.jump(UNLESS_EQUAL, R1, 0, "close");
    code.put(LOAD_32, R5, FOUND, STATE, 0);
    code.jump(IF_EQUAL, R5, CLOSED, "pass");
    // The payload is what is left behind the header, whose length is told in words of four bytes.
    code.put(LOAD_8, R1, STACK, TCP + 12, 0);
    code.put(SHIFT_RIGHT, R1, 0, 0, 4);
    code.put(SHIFT_LEFT, R1, 0, 0, 2);
    code.put(SUBTRACT_OF, LENGTH, R1, 0, 0);
    code.jump(IF_BELOW_SIGNED, LENGTH, 0, "pass");
    code.put(LOAD_32, R2, STACK, TCP + 4, 0);
    code.put(FROM_NETWORK, R2, 0, 0, 32);
    code.jump(UNLESS_EQUAL, R5, BOUNDED, "drop");
    code.put(LOAD_32, R3, FOUND, BEFORE, 0);
    code.put(SUBTRACT_OF_32, R3, R2, 0, 0);
    code.put(SUBTRACT_OF_32, R3, LENGTH, 0, 0);
    code.jump(IF_BELOW_SIGNED_32, R3, 0, "pass");
    code.label("drop");
    code.put(LOAD_64, R3, FOUND, PACKETS, 0);
    code.jump(UNLESS_EQUAL, R3, 0, "count");
    code.put(STORE_32_OF, FOUND, R2, NEXT, 0);
    code.label("count");
    code.put(SET, R1, 0, 0, 1);
    code.put(ADD_IN_MEMORY, FOUND, R1, PACKETS, 0);
    // The kernel has taken the outer VLAN tag, of four bytes, out of the packet.
    code.put(LOAD_32, R1, PACKET, SKB_LENGTH, 0);
    code.put(LOAD_32, R3, PACKET, SKB_TAGGED, 0);
    code.put(SHIFT_LEFT, R3, 0, 0, 2);
    code.put(ADD_OF_32, R1, R3, 0, 0);
    code.put(ADD_IN_MEMORY, FOUND, R1, BYTES, 0);
    code.put(ADD_OF_32, R2, LENGTH, 0, 0);
    code.put(LOAD_32, R3, FOUND, NEXT, 0);
    code.copy(R4, R2);
    code.put(SUBTRACT_OF_32, R4, R3, 0, 0);
    code.jump(UNLESS_ABOVE_SIGNED_32, R4, 0, "dropped");
    code.put(STORE_32_OF, FOUND, R2, NEXT, 0);
    code.label("dropped");
    code.put(SET, R0, 0, 0, 0);
    code.put(EXIT, 0, 0, 0, 0);

    code.label("close");
    code.put(STORE_32, FOUND, 0, STATE, CLOSED);
    code.label("pass");
    code.put(SET, R0, 0, 0, i32::try_from(snap_length).unwrap_or(i32::MAX));
    code.put(EXIT, 0, 0, 0, 0);
    code.done()
}

/// Instructions, and where jumps go.
#[derive(Default)]
struct Code {
    instructions: Vec<Instruction>,
    labels: Vec<(&'static str, usize)>,
    jumps: Vec<(usize, &'static str)>,
}

impl Code {
    fn put(&mut self, code: u8, to: u8, from: u8, offset: i16, immediate: i32) {
        self.instructions.push(Instruction { code, registers: to | from << 4, offset, immediate });
    }

    fn copy(&mut self, to: u8, from: u8) {
        self.put(COPY, to, from, 0, 0);
    }

    fn call(&mut self, helper: i32) {
        self.put(CALL, 0, 0, 0, helper);
    }

    fn label(&mut self, name: &'static str) {
        self.labels.push((name, self.instructions.len()));
    }

    fn jump(&mut self, code: u8, register: u8, value: i32, label: &'static str) {
        self.jumps.push((self.instructions.len(), label));
        self.put(code, register, 0, 0, value);
    }

    /// The first register is the table.
    fn table(&mut self, table: BorrowedFd<'_>) {
        const OF_TABLE: u8 = 1;
        self.put(LOAD_CONSTANT, R1, OF_TABLE, 0, table.as_raw_fd());
        self.put(0, 0, 0, 0, 0);
    }

    /// Copies bytes of the packet to the stack; one that is shorter passes.
    fn load_bytes(&mut self, from: i32, to: i16, length: i32) {
        self.copy(R1, PACKET);
        self.put(SET, R2, 0, 0, from);
        self.copy(R3, STACK);
        self.put(ADD, R3, 0, 0, i32::from(to));
        self.put(SET, R4, 0, 0, length);
        self.call(LOAD_BYTES);
        self.jump(UNLESS_EQUAL, R0, 0, "pass");
    }

    fn done(mut self) -> Vec<Instruction> {
        for (at, name) in self.jumps {
            let to = self.labels.iter().find(|(label, _)| *label == name).map_or(at, |(_, to)| *to);
            if let Some(jump) = self.instructions.get_mut(at) {
                // Counted from the next instruction; the program is short.
                jump.offset = to as i16 - at as i16 - 1;
            }
        }
        self.instructions
    }
}

const LOAD_8: u8 = 0x71;
const LOAD_16: u8 = 0x69;
const LOAD_32: u8 = 0x61;
const LOAD_64: u8 = 0x79;
const LOAD_CONSTANT: u8 = 0x18;
const STORE_16: u8 = 0x6a;
const STORE_32: u8 = 0x62;
const STORE_64: u8 = 0x7a;
const STORE_32_OF: u8 = 0x63;
const STORE_64_OF: u8 = 0x7b;
const ADD_IN_MEMORY: u8 = 0xdb;
const SET: u8 = 0xb7;
const COPY: u8 = 0xbf;
const ADD: u8 = 0x07;
const ADD_OF_32: u8 = 0x0c;
const SUBTRACT: u8 = 0x17;
const SUBTRACT_OF: u8 = 0x1f;
const SUBTRACT_OF_32: u8 = 0x1c;
const AND: u8 = 0x57;
const SHIFT_LEFT: u8 = 0x67;
const SHIFT_RIGHT: u8 = 0x77;
/// To the machine's order from that of the network.
const FROM_NETWORK: u8 = 0xdc;
const ALWAYS: u8 = 0x05;
const IF_EQUAL: u8 = 0x15;
const UNLESS_EQUAL: u8 = 0x55;
const IF_BELOW_SIGNED: u8 = 0xc5;
const IF_BELOW_SIGNED_32: u8 = 0xc6;
const UNLESS_ABOVE_SIGNED_32: u8 = 0xd6;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
