//! One packet of each shape, built by hand from its specification.

use proptest::prelude::*;

use super::*;

const HELLO: &[u8] = b"hello";

/// A TCP segment from port 1000 to port 80 with [`HELLO`].
fn tcp() -> Vec<u8> {
    let mut tcp = vec![0x03, 0xe8, 0, 80, 0, 0, 0, 7, 0, 0, 0, 9, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0];
    tcp.extend_from_slice(HELLO);
    tcp
}

fn ipv4_of(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let total = (20 + payload.len()) as u16;
    let mut ip = vec![0x45, 0];
    ip.extend_from_slice(&total.to_be_bytes());
    ip.extend_from_slice(&[0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 192, 0, 2, 2]);
    ip.extend_from_slice(payload);
    ip
}

fn ipv6_of(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x60, 0, 0, 0];
    ip.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    ip.extend_from_slice(&[next, 64]);
    ip.extend_from_slice(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    ip.extend_from_slice(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    ip.extend_from_slice(payload);
    ip
}

fn ethernet_of(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &kind.to_be_bytes(), payload].concat()
}

fn udp_of(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    [&[0x30, 0x39][..], &port.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload].concat()
}

fn inner() -> Vec<u8> {
    ipv4_of(6, &tcp())
}

fn frame() -> Vec<u8> {
    ethernet_of(0x0800, &inner())
}

/// What comes of a packet: `source>destination payload+cut vlans tunnels`, or the counter that moved.
fn decoded_as(link: u16, bytes: &[u8], wire: usize) -> String {
    decode_with(&mut Decoder::new(), link, bytes, wire)
}

fn decode_with(decoder: &mut Decoder, link: u16, bytes: &[u8], wire: usize) -> String {
    let packet = Packet { index: 0, ts: Timestamp(0), clock: Timestamp(0), link, wire_length: wire as u32, bytes };
    let mut text = String::new();
    let before = decoder.counters().clone();
    decoder.decode(&packet, &mut |decoded| {
        text = match decoded {
            Decoded::Tcp(s) => {
                let tunnels: Vec<&str> = s.layers.tunnels().map(Tunnel::name).collect();
                let payload = String::from_utf8_lossy(s.payload).into_owned();
                format!("{}>{} {payload}+{} {:?} {tunnels:?}", s.source, s.destination, s.cut, s.layers.vlans())
            }
            Decoded::Udp(d) => format!("udp {}>{}", d.source, d.destination),
        };
    });
    if text.is_empty() {
        let now = decoder.counters();
        let moved = [
            ("other-ip", now.other_ip - before.other_ip),
            ("not-ip", now.not_ip - before.not_ip),
            ("unknown-link", now.unknown_link - before.unknown_link),
            ("fragment", now.fragments - before.fragments),
            ("malformed", now.malformed - before.malformed),
            ("too-deep", now.too_deep - before.too_deep),
        ];
        text = moved.iter().filter(|(_, n)| *n > 0).map(|(name, _)| *name).collect();
    }
    text
}

fn plain(tunnels: &str) -> String {
    format!("10.0.0.1:1000>192.0.2.2:80 hello+0 [] [{tunnels}]")
}

fn shown(link: u16, bytes: &[u8]) -> String {
    decoded_as(link, bytes, bytes.len())
}

#[test]
fn each_link_type_leads_to_the_segment() {
    let sll = [&[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0][..], &inner()].concat();
    let sll2 = [&[8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0][..], &inner()].concat();
    let data_frame = [&[0x88, 0x01][..], &[0; 24], &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &inner()].concat();
    let radiotap = [&[0, 0, 8, 0, 0, 0, 0, 0][..], &data_frame].concat();
    for (link, bytes) in [
        (1, frame()),
        (101, inner()),
        (12, inner()),
        (228, inner()),
        (0, [&[2, 0, 0, 0][..], &inner()].concat()),
        (108, [&[0, 0, 0, 2][..], &inner()].concat()),
        (113, sll),
        (276, sll2),
        (104, [&[0x0f, 0, 8, 0][..], &inner()].concat()),
        (9, [&[0xff, 3, 0, 0x21][..], &inner()].concat()),
        (9, [&[0x21][..], &inner()].concat()),
        (105, data_frame),
        (127, radiotap),
    ] {
        assert_eq!(shown(link, &bytes), plain(""), "link type {link}");
    }
    assert_eq!(shown(9999, &frame()), "unknown-link");
    assert_eq!(shown(1, &ethernet_of(0x0806, &[0; 28])), "not-ip");
}

#[test]
fn each_tunnel_leads_to_the_innermost_segment() {
    let pppoe = [&[0x11, 0, 0, 1, 0, 0, 0, 0x21][..], &inner()].concat();
    let gre = |kind: u16, flags: u16, rest: &[u8]| {
        ipv4_of(47, &[&flags.to_be_bytes()[..], &kind.to_be_bytes(), rest].concat())
    };
    let vxlan = udp_of(4789, &[&[8, 0, 0, 0, 0, 0, 1, 0][..], &frame()].concat());
    let geneve = udp_of(6081, &[&[1, 0, 0x65, 0x58, 0, 0, 1, 0, 0, 0, 0, 0][..], &frame()].concat());
    let gtp = udp_of(2152, &[&[0x34, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0, 0, 0][..], &inner()].concat());
    let teredo = udp_of(3544, &[&[0, 0, 1, 1, 1, 1, 1, 1][..], &ipv6_of(6, &tcp())].concat());
    let nsh = [&[0, 6, 1, 1, 0, 0, 1, 0xff][..], &[0; 16], &inner()].concat();
    let v4 = |payload: &[u8]| ethernet_of(0x0800, payload);
    for (bytes, tunnels) in [
        (ethernet_of(0x8847, &[&[0, 0, 0x10, 64, 0, 0, 0x21, 64][..], &inner()].concat()), r#""mpls""#),
        (ethernet_of(0x8847, &[&[0, 0, 0x21, 64, 0, 0, 0, 0][..], &frame()].concat()), r#""mpls""#),
        (ethernet_of(0x8864, &pppoe), r#""pppoe""#),
        (v4(&ipv4_of(4, &inner())), r#""ipip""#),
        (v4(&gre(0x0800, 0, &inner())), r#""gre""#),
        (v4(&gre(0x6558, 0xb000, &[&[0; 12][..], &frame()].concat())), r#""gre""#),
        (v4(&gre(0x88be, 0, &frame())), r#""erspan""#),
        (v4(&gre(0x88be, 0x1000, &[&[0; 12][..], &frame()].concat())), r#""erspan""#),
        (v4(&gre(0x22eb, 0x1000, &[&[0; 16][..], &frame()].concat())), r#""erspan""#),
        (v4(&ipv4_of(17, &vxlan)), r#""vxlan""#),
        (v4(&ipv4_of(17, &geneve)), r#""geneve""#),
        (v4(&ipv4_of(17, &gtp)), r#""gtp-u""#),
        (ethernet_of(0x894f, &nsh), r#""nsh""#),
        (
            v4(&ipv4_of(17, &udp_of(4789, &[&[8, 0, 0, 0, 0, 0, 1, 0][..], &v4(&gre(0x0800, 0, &inner()))].concat()))),
            r#""vxlan", "gre""#,
        ),
    ] {
        assert_eq!(shown(1, &bytes), plain(tunnels));
    }
    let six = r#"[2001:db8::1]:1000>[2001:db8::2]:80 hello+0 [] ["#;
    assert_eq!(shown(1, &v4(&ipv4_of(41, &ipv6_of(6, &tcp())))), format!(r#"{six}"ipip"]"#));
    assert_eq!(shown(1, &v4(&ipv4_of(17, &teredo))), format!(r#"{six}"teredo"]"#));
}

#[test]
fn a_datagram_on_a_tunnels_port_that_is_no_tunnel_stays_a_datagram() {
    let bytes = ethernet_of(0x0800, &ipv4_of(17, &udp_of(4789, b"not a tunnel at all")));
    assert_eq!(shown(1, &bytes), "udp 10.0.0.1:12345>192.0.2.2:4789");
}

#[test]
fn vlan_tags_are_kept_wherever_they_stand() {
    let tagged = |kind: u16, id: u16, inner_kind: u16, payload: &[u8]| {
        ethernet_of(kind, &[&id.to_be_bytes()[..], &inner_kind.to_be_bytes(), payload].concat())
    };
    let one = tagged(0x8100, 0x2007, 0x0800, &inner());
    assert_eq!(shown(1, &one), "10.0.0.1:1000>192.0.2.2:80 hello+0 [7] []");
    let two = tagged(0x88a8, 5, 0x8100, &[&[0, 6, 8, 0][..], &inner()].concat());
    assert_eq!(shown(1, &two), "10.0.0.1:1000>192.0.2.2:80 hello+0 [5, 6] []");
    let three = tagged(0x88a8, 5, 0x8100, &[&[0, 6, 0x81, 0, 0, 7, 8, 0][..], &inner()].concat());
    assert_eq!(shown(1, &three), "10.0.0.1:1000>192.0.2.2:80 hello+0 [5, 6, 7] []");
    let inside = udp_of(4789, &[&[8, 0, 0, 0, 0, 0, 1, 0][..], &one].concat());
    let bytes = ethernet_of(0x0800, &ipv4_of(17, &inside));
    assert_eq!(shown(1, &bytes), r#"10.0.0.1:1000>192.0.2.2:80 hello+0 [7] ["vxlan"]"#);
}

#[test]
fn the_ip_length_is_the_truth_about_where_a_packet_ends() {
    let padded = [&frame()[..], &[0; 9]].concat();
    assert_eq!(shown(1, &padded), plain(""));
    let whole = frame();
    assert_eq!(decoded_as(1, &whole[..whole.len() - 2], whole.len()), "10.0.0.1:1000>192.0.2.2:80 hel+2 [] []");
    let mut offloaded = frame();
    offloaded[16..18].fill(0);
    assert_eq!(shown(1, &offloaded), plain(""));
    let mut jumbo = ethernet_of(0x86dd, &ipv6_of(6, &tcp()));
    jumbo[18..20].fill(0);
    assert_eq!(shown(1, &jumbo), "[2001:db8::1]:1000>[2001:db8::2]:80 hello+0 [] []");
}

#[test]
fn options_and_extension_headers_are_passed_over() {
    let mut options = ipv4_of(6, &[&[1, 1, 1, 0][..], &tcp()].concat());
    options[0] = 0x46;
    assert_eq!(shown(101, &options), plain(""));
    let hops = ipv6_of(0, &[&[60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0][..], &tcp()].concat());
    assert_eq!(shown(101, &hops), "[2001:db8::1]:1000>[2001:db8::2]:80 hello+0 [] []");
}

#[test]
fn fragments_become_whole_in_any_order_and_overlaps_are_counted() {
    let whole = tcp();
    let piece = |from: usize, to: usize, more: bool| {
        let mut ip = ipv4_of(6, &whole[from..to]);
        let field = ((from / 8) as u16) | if more { 0x2000 } else { 0 };
        ip[6..8].copy_from_slice(&field.to_be_bytes());
        ip
    };
    let mut decoder = Decoder::new();
    let mut take = |bytes: &[u8]| decode_with(&mut decoder, 101, bytes, bytes.len());
    assert_eq!(take(&piece(16, 25, false)), "fragment");
    assert_eq!(take(&piece(8, 24, true)), "fragment");
    assert_eq!(take(&piece(0, 8, true)), plain(""));
    assert_eq!(decoder.fragment_counters().overlaps, 1);

    let piece6 = |from: usize, to: usize, more: u8| {
        let header = [6, 0, ((from / 8) >> 5) as u8, (((from / 8) << 3) as u8) | more, 0, 0, 0, 9];
        ipv6_of(44, &[&header[..], &whole[from..to]].concat())
    };
    let mut take = |bytes: &[u8]| decode_with(&mut decoder, 101, bytes, bytes.len());
    assert_eq!(take(&piece6(0, 16, 1)), "fragment");
    assert_eq!(take(&piece6(16, 25, 0)), "[2001:db8::1]:1000>[2001:db8::2]:80 hello+0 [] []");
}

#[test]
fn fragments_whose_rest_never_came_are_counted_at_the_end() {
    let mut ip = ipv4_of(6, &tcp()[..16]);
    ip[6] = 0x20;
    let mut decoder = Decoder::new();
    assert_eq!(decode_with(&mut decoder, 101, &ip, ip.len()), "fragment");
    assert_eq!(decoder.fragment_counters().abandoned(), 0);
    decoder.finish();
    assert_eq!(decoder.fragment_counters().abandoned(), 1);
}

#[test]
fn what_is_nested_too_deep_is_counted() {
    let mut bytes = inner();
    for _ in 0..20 {
        bytes = ipv4_of(4, &bytes);
    }
    assert_eq!(shown(101, &bytes), "too-deep");
}

#[test]
fn headers_that_end_early_are_malformed() {
    let whole = frame();
    for length in 14..whole.len() - HELLO.len() {
        assert_eq!(shown(1, &whole[..length]), "malformed", "cut to {length} bytes");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        link in prop::sample::select(vec![0u16, 1, 9, 50, 51, 101, 104, 105, 108, 113, 127, 192, 228, 229, 276]),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        wire in 0usize..70_000
    ) {
        decoded_as(link, &bytes, wire);
    }

    #[test]
    fn the_fast_path_and_the_general_path_agree(
        vlans in 0usize..3, six in any::<bool>(), udp in any::<bool>(), port in prop::sample::select(vec![53u16, 443, 4789]), cut in 0usize..60, at in 0usize..80, flip in any::<u8>(), padding in 0usize..8
    ) {
        let mut body = match (six, udp) {
            (true, false) => ipv6_of(6, &tcp()),
            (true, true) => ipv6_of(17, &udp_of(port, HELLO)),
            (false, false) => inner(),
            (false, true) => ipv4_of(17, &udp_of(port, HELLO)),
        };
        let mut kind: u16 = if six { 0x86dd } else { 0x0800 };
        for id in 0..vlans as u16 {
            body = [&id.to_be_bytes()[..], &kind.to_be_bytes(), &body].concat();
            kind = 0x8100;
        }
        let mut bytes = ethernet_of(kind, &body);
        bytes.extend(std::iter::repeat_n(0, padding));
        if let Some(byte) = bytes.get_mut(at) { *byte ^= flip; }
        let wire = bytes.len();
        bytes.truncate(wire.saturating_sub(cut));
        let packet = Packet {
            index: 0, ts: Timestamp(0), clock: Timestamp(0), link: 1, wire_length: wire as u32, bytes: &bytes
        };
        prop_assert!(within_the_hosts_seen_at_a_glance(&packet));
        let (mut segment, mut datagram) = (None, None);
        let segment_told = |s: Segment<'_>| {
            (s.source, s.destination, s.seq, s.ack, s.flags, s.payload.to_vec(), s.cut, s.layers)
        };
        let datagram_told = |d: Datagram<'_>| (d.source, d.destination, d.payload.to_vec());
        Decoder::new().general(&packet, Audience::One, &mut |decoded| match decoded {
            Decoded::Tcp(s) => segment = Some(segment_told(s)),
            Decoded::Udp(d) => datagram = Some(datagram_told(d)),
        });
        for fast in [fast::segment(&packet), Plain::of(&packet).map(|plain| plain.segment(&packet))].into_iter().flatten() {
            prop_assert_eq!(Some(segment_told(fast)), segment.clone());
        }
        if let Some(fast) = fast::datagram(&packet) {
            prop_assert_eq!(Some(datagram_told(fast)), datagram);
        }
        if at >= bytes.len() && cut == 0 && !six && vlans == 0 {
            // And they are tried: nothing was changed or cut.
            prop_assert_eq!(Plain::of(&packet).is_some(), !udp);
            prop_assert_eq!(fast::datagram(&packet).is_some(), udp && port != 4789);
        }
    }
}

/// Whether what is in the packet is between the two hosts that are seen at a glance, if they are.
fn within_the_hosts_seen_at_a_glance(packet: &Packet<'_>) -> bool {
    let mut within = true;
    Decoder::new().decode(packet, &mut |decoded| {
        let (a, b) = match decoded {
            Decoded::Tcp(segment) => (segment.source.address, segment.destination.address),
            Decoded::Udp(datagram) => (datagram.source.address, datagram.destination.address),
        };
        within = hosts(packet).is_none_or(|seen| seen == (a, b));
    });
    within
}

#[test]
fn hosts_are_seen_at_a_glance_only_where_no_tunnel_can_hide_others() {
    let seen = |bytes: &[u8]| {
        let wire_length = bytes.len() as u32;
        let packet = Packet { index: 0, ts: Timestamp(0), clock: Timestamp(0), link: 1, wire_length, bytes };
        assert!(within_the_hosts_seen_at_a_glance(&packet));
        hosts(&packet).is_some()
    };
    assert!(seen(&ethernet_of(0x0800, &inner())));
    assert!(seen(&ethernet_of(0x86dd, &ipv6_of(6, &tcp()))));
    assert!(seen(&ethernet_of(0x0800, &ipv4_of(17, &udp_of(53, b"")))));
    assert!(!seen(&ethernet_of(0x0800, &ipv4_of(17, &udp_of(4789, &[0; 8])))));
    assert!(!seen(&ethernet_of(0x0800, &ipv4_of(4, &inner()))));
    let mut fragment = ethernet_of(0x0800, &inner());
    fragment[20] = 0x20;
    assert!(!seen(&fragment));
}

#[test]
fn packets_are_taken_apart_to_the_depth_that_is_set() {
    // IPv4 in IPv4, so often; the innermost carries UDP.
    let nested = |headers: u8| {
        let mut packet = vec![0, 53, 0, 53, 0, 8, 0, 0];
        for n in 0..headers {
            let length = (20 + packet.len()) as u16;
            let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, if n == 0 { 17 } else { 4 }, 0, 0];
            header[2..4].copy_from_slice(&length.to_be_bytes());
            header.extend([10, 0, 0, 1, 10, 0, 0, 2]);
            packet = [header, packet].concat();
        }
        packet
    };
    for depth in [4, 20] {
        let limits = crate::config::Packet { tunnel_depth: depth, ..Default::default() };
        let mut decoder = Decoder::with_limits(&limits);
        for (headers, deep) in [(depth as u8, 0), (depth as u8 + 1, 1)] {
            let packet = nested(headers);
            decode_with(&mut decoder, 101, &packet, packet.len());
            assert_eq!((decoder.counters().udp, decoder.counters().too_deep), (1, deep), "{headers} of {depth}");
        }
    }
}
