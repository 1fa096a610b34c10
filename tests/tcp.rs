//! TCP under attack and under loss: segments made by hand, and the streams and uploads that come of them.
//!
//! One thing cannot be noticed: a retransmission of bytes that were delivered already, with other content. To notice it,
//! every delivered byte would have to be kept or summed, which the hot path does not do. The first copy counts, as
//! everywhere; `duplicate_bytes` counts that there was another.

#![cfg(feature = "sensor")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod segments;

use outfall::config::Config;
use outfall::net::{ByteSize, Span};
use outfall::record::{Ending, Note};
use segments::{ACK, FIN, Heard, Pair, Piece, RST, SYN, Tap, URG, reading, recording};

fn config() -> Config {
    Config::default()
}

fn pair() -> Pair {
    Pair::new("10.0.0.5:40000", "192.0.2.9:80")
}

/// The stream of an ordinary connection to which `pieces` are added behind the handshake; it closes after `length` bytes.
#[track_caller]
fn heard(pieces: &[Piece], length: i64) -> Heard {
    let p = pair();
    let mut tap = recording(&config());
    tap.push_all(&p.handshake());
    tap.push_all(pieces);
    tap.push_all(&p.close(length, 0));
    tap.heard_one()
}

fn post(length: usize) -> String {
    format!("POST /in HTTP/1.1\r\nHost: h.example\r\nContent-Length: {length}\r\n\r\n")
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

// Overlaps and duplicates.

#[test]
fn where_segments_overlap_the_first_bytes_win_and_the_conflict_is_counted() {
    let p = pair();
    let mut tap = recording(&config());
    tap.push_all(&p.handshake());
    tap.push(&p.client(4, 0, ACK, "EFGH"));
    tap.push(&p.client(2, 0, ACK, "cdxxgh"));
    tap.push(&p.client(0, 0, ACK, "ab"));
    let counters = tap.counters();
    let heard = tap.heard_one();
    assert_eq!(heard.client, "abcdEFGH");
    assert!(heard.conflict);
    assert_eq!((counters.conflicts, counters.duplicate_bytes), (1, 4));
}

#[test]
fn an_upload_whose_segments_disagree_says_so() {
    let (p, head) = (pair(), post(8));
    let at = head.len() as i64;
    let mut tap = reading(&config());
    tap.push_all(&p.handshake());
    tap.push(&p.client(0, 0, ACK, &head));
    tap.push(&p.client(at + 4, 0, ACK, "EFGH"));
    tap.push(&p.client(at, 0, ACK, "abcdxxxx"));
    tap.push(&p.server(0, at + 8, ACK, OK));
    let upload = tap.upload();
    assert_eq!((upload.bytes, upload.missing), (8, 0));
    assert_eq!(upload.notes, [Note::ConflictingOverlap]);
}

#[test]
fn retransmissions_with_other_boundaries_count_once_and_are_no_conflict() {
    let p = pair();
    let pieces = [
        p.client(0, 0, ACK, "abcd"),
        p.client(8, 0, ACK, "ijkl"),
        p.client(2, 0, ACK, "cdefghijkl"),
        p.client(0, 0, ACK, "abcdefghijklmn"),
    ];
    let heard = heard(&pieces, 14);
    assert_eq!(heard.client, "abcdefghijklmn$");
    assert!(!heard.conflict);
}

#[test]
fn every_packet_delivered_twice_gives_the_same_stream() {
    let p = pair();
    let mut pieces = p.handshake();
    pieces.extend([p.client(0, 0, ACK, "abcd"), p.client(4, 0, ACK, "efgh"), p.server(0, 8, ACK, "ok")]);
    pieces.extend(p.close(8, 2));
    let mut tap = recording(&config());
    pieces.iter().for_each(|piece| tap.push_all([piece, piece]));
    assert_eq!(tap.counters().duplicate_bytes, 10);
    let heard = tap.heard_one();
    assert_eq!((heard.client.as_str(), heard.server.as_str()), ("abcdefgh$", "ok$"));
    assert_eq!(heard.ending, Some(Ending::Finished));
}

// Beginnings.

#[test]
fn data_before_its_syn_is_kept() {
    let p = pair();
    let mut tap = recording(&config());
    tap.push_all(&[p.client(4, 0, ACK, "efgh"), p.client(0, 0, ACK, "abcd"), p.syn_ack(), p.syn()]);
    tap.push_all(&p.close(8, 0));
    let heard = tap.heard_one();
    assert_eq!(heard.client, "abcdefgh$");
    assert!(heard.opening_seen && !heard.mid_stream);
}

#[test]
fn a_fin_before_its_syn_and_data_still_ends_the_stream_there() {
    let p = pair();
    let mut tap = recording(&config());
    tap.push_all(&[p.client(0, 0, ACK, "abcd"), p.client(4, 0, FIN | ACK, []), p.syn()]);
    assert_eq!(tap.heard_one().client, "abcd$");
    let mut tap = recording(&config());
    tap.push_all(&[p.client(4, 0, FIN | ACK, "efgh"), p.syn(), p.client(0, 0, ACK, "abcd")]);
    assert_eq!(tap.heard_one().client, "abcdefgh$");
}

#[test]
fn what_the_answer_to_a_lost_syn_acknowledges_is_the_beginning() {
    let p = pair();
    let mut tap = recording(&config());
    tap.push_all(&[p.syn_ack(), p.client(4, 0, ACK, "efgh"), p.server(0, 8, ACK, "ok")]);
    tap.push_all(&p.close(8, 2));
    let heard = tap.heard_one();
    assert_eq!(heard.client, "____efgh$");
    assert_eq!((heard.client_bytes, heard.client_missing), (8, 4));
}

#[test]
fn a_short_connection_picked_up_in_the_middle_is_heard_from_its_first_byte() {
    let p = pair();
    let mut tap = recording(&config());
    tap.push_all(&[p.client(100, 7, ACK, "abcd"), p.server(7, 104, ACK, "ok"), p.client(104, 9, FIN | ACK, "ef")]);
    let heard = tap.heard_one();
    assert_eq!((heard.client.as_str(), heard.server.as_str()), ("abcdef$", "ok"));
    assert!(heard.mid_stream && !heard.opening_seen);
}

#[test]
fn data_in_a_syn_is_the_beginning_whether_the_server_takes_it_or_not() {
    let p = pair();
    let syn = Piece { bytes: b"abcd".to_vec(), ..p.syn() };
    let taken = [syn.clone(), p.server(-1, 4, SYN | ACK, []), p.client(4, 0, ACK, "efgh")];
    let refused = [syn.clone(), p.syn_ack(), p.client(0, 0, ACK, "abcdefgh")];
    let late = [p.server(-1, 4, SYN | ACK, []), p.client(4, 0, ACK, "efgh"), syn];
    for pieces in [taken, refused, late] {
        let mut tap = recording(&config());
        tap.push_all(&pieces);
        tap.push_all(&p.close(8, 0));
        assert_eq!(tap.heard_one().client, "abcdefgh$");
    }
}

#[test]
fn of_many_syns_the_one_that_is_answered_counts() {
    let p = pair();
    let mut tap = recording(&config());
    (0..23).for_each(|n| tap.push(&p.again(77_000 * n, 0).syn()));
    tap.push_all(&p.handshake());
    tap.push(&p.again(123_456, 0).syn());
    tap.push(&p.client(0, 0, ACK, "abcd"));
    tap.push_all(&p.close(4, 0));
    assert_eq!(tap.heard_one().client, "abcd$");
}

#[test]
fn of_two_answers_the_one_whose_data_comes_counts() {
    let p = pair();
    let mut tap = recording(&config());
    tap.push_all(&[p.syn(), p.syn_ack(), p.again(1000, 20_000_000).syn_ack()]);
    tap.push_all(&[p.client(0, 0, ACK, "abcd"), p.server(0, 4, ACK, "ok")]);
    let heard = tap.heard_one();
    assert_eq!((heard.client.as_str(), heard.server.as_str()), ("abcd", "ok"));
}

// The same five-tuple again.

#[test]
fn a_syn_on_a_finished_connection_begins_the_next() {
    let (p, q) = (pair(), pair().again(900_000, 700_000));
    let mut tap = recording(&config());
    for (talk, text) in [(p, "abcd"), (q, "wxyz")] {
        tap.push_all(&talk.handshake());
        tap.push(&talk.client(0, 0, ACK, text));
        tap.push_all(&talk.close(4, 0));
    }
    let heard = tap.heard();
    assert_eq!(heard.iter().map(|h| h.client.as_str()).collect::<Vec<_>>(), ["abcd$", "wxyz$"]);
}

#[test]
fn a_syn_on_a_connection_without_end_begins_the_next_once_it_is_answered_or_followed() {
    let (p, q) = (pair(), pair().again(900_000, 700_000));
    for answered in [true, false] {
        let mut tap = recording(&config());
        tap.push_all(&p.handshake());
        tap.push(&p.client(0, 0, ACK, "abcd"));
        tap.push(&q.syn());
        if answered {
            tap.push(&q.syn_ack());
        }
        tap.push(&q.client(0, 0, ACK, "wxyz"));
        let heard = tap.heard();
        assert_eq!(heard.iter().map(|h| h.client.as_str()).collect::<Vec<_>>(), ["abcd", "wxyz"]);
        assert_eq!(heard[0].ending, Some(Ending::Reused));
    }
}

#[test]
fn a_forged_syn_does_not_cut_a_connection_in_two() {
    let p = pair();
    let pieces =
        [p.client(0, 0, ACK, "abcd"), p.again(900_000, 0).syn(), p.client(4, 0, ACK, "efgh"), p.server(0, 8, ACK, [])];
    assert_eq!(heard(&pieces, 8).client, "abcdefgh$");
}

// Ends.

#[test]
fn data_behind_an_acknowledged_fin_is_none() {
    let p = pair();
    let pieces = [
        p.client(0, 0, ACK, "abcd"),
        p.client(4, 0, FIN | ACK, []),
        p.server(0, 5, ACK, []),
        p.client(4, 0, ACK, "efgh"),
        p.client(5, 0, ACK, "efgh"),
    ];
    let mut tap = recording(&config());
    tap.push_all(&pair().handshake());
    tap.push_all(&pieces);
    assert_eq!(tap.counters().out_of_window, 2);
    let heard = tap.heard_one();
    assert_eq!((heard.client.as_str(), heard.client_bytes), ("abcd$", 4));
}

#[test]
fn a_fin_that_the_receiver_never_acknowledged_does_not_hide_what_follows() {
    let p = pair();
    let pieces = [
        p.client(0, 0, ACK, "abcd"),
        p.client(4, 0, FIN | ACK, []),
        p.client(4, 0, ACK, "efgh"),
        p.server(0, 8, ACK, []),
    ];
    assert_eq!(heard(&pieces, 8).client.replace('$', ""), "abcdefgh");
    // Nor one that lies within what comes later.
    let pieces = [p.client(0, 0, FIN | ACK, "ab"), p.server(0, 0, ACK, []), p.client(0, 0, ACK, "abcdefgh")];
    assert_eq!(heard(&pieces, 8).client.replace('$', ""), "abcdefgh");
}

#[test]
fn an_end_that_is_taken_back_and_claimed_again_at_the_same_place_is_told_once() {
    let p = pair();
    let pieces = [
        p.client(0, 0, ACK, "abcd"),
        p.client(4, 0, FIN | ACK, []),
        // More than there was: that FIN was none.
        p.server(0, 100, ACK, []),
        p.client(4, 0, FIN | ACK, []),
    ];
    let mut tap = recording(&config());
    tap.push_all(&p.handshake());
    tap.push_all(&pieces);
    assert_eq!(tap.heard_one().client.matches('$').count(), 1);
}

#[test]
fn a_reset_that_the_receiver_ignores_ends_nothing() {
    let p = pair();
    let pieces = [
        p.client(0, 0, ACK, "abcd"),
        p.client(4, 0, RST, []),
        p.client(4, 0, ACK, "efgh"),
        p.server(0, 8, RST, []),
        p.server(0, 8, ACK, "ok"),
        p.client(8, 2, ACK, "ijkl"),
    ];
    let p = pair();
    let mut tap = recording(&config());
    tap.push_all(&p.handshake());
    tap.push_all(&pieces);
    tap.silence(60);
    tap.push(&p.client(12, 2, ACK, "mnop"));
    let heard = tap.heard_one();
    assert_eq!((heard.client.as_str(), heard.server.as_str()), ("abcdefghijklmnop", "ok"));
    assert_eq!(heard.ending, Some(Ending::CaptureEnd));
}

#[test]
fn a_reset_far_from_the_stream_is_not_believed() {
    let p = pair();
    let mut tap = recording(&config());
    tap.push_all(&p.handshake());
    tap.push_all(&[p.client(0, 0, ACK, "abcd"), p.client(100_000_000, 0, RST, [])]);
    tap.silence(60);
    tap.push(&p.client(4, 0, ACK, "efgh"));
    assert_eq!(tap.heard_one().client, "abcdefgh");
}

// Probes and pointers.

#[test]
fn keep_alive_probes_count_nothing() {
    let p = pair();
    let pieces = [
        p.client(-1, 0, ACK, "?"),
        p.client(0, 0, ACK, "abcd"),
        p.client(3, 0, ACK, []),
        p.client(3, 0, ACK, "?"),
        p.server(0, 4, ACK, []),
        p.client(4, 0, ACK, "efgh"),
    ];
    let heard = heard(&pieces, 8);
    assert_eq!((heard.client.as_str(), heard.client_bytes), ("abcdefgh$", 8));
}

#[test]
fn urgent_data_is_part_of_the_stream() {
    let p = pair();
    let pieces = [p.client(0, 0, ACK, "abcd"), p.client(4, 0, ACK | URG, "e"), p.client(5, 0, ACK, "fgh")];
    assert_eq!(heard(&pieces, 8).client, "abcdefgh$");
}

#[test]
fn probes_of_a_zero_window_count_once() {
    let p = pair();
    let pieces = [
        p.client(0, 0, ACK, "abcd"),
        p.client(4, 0, ACK, "e"),
        p.client(4, 0, ACK, "e"),
        p.server(0, 4, ACK, []),
        p.client(4, 0, ACK, "efgh"),
    ];
    assert_eq!(heard(&pieces, 8).client, "abcdefgh$");
}

#[test]
fn sequence_numbers_that_wrap_change_nothing() {
    for isn in [u32::MAX, u32::MAX - 3, u32::MAX - 6, 0x7fff_fffd] {
        let p = pair().again(isn, u32::MAX - 1);
        for late_syn in [false, true] {
            let mut tap = recording(&config());
            if !late_syn {
                tap.push_all(&p.handshake());
            }
            tap.push(&p.client(4, 0, ACK, "efgh"));
            tap.push(&p.client(0, 0, ACK, "abcd"));
            if late_syn {
                tap.push_all(&p.handshake());
            }
            tap.push(&p.server(0, 8, ACK, "okay"));
            tap.push_all(&p.close(8, 4));
            let heard = tap.heard_one();
            assert_eq!((heard.client.as_str(), heard.server.as_str()), ("abcdefgh$", "okay$"));
        }
    }
}

// Order and holes.

#[test]
fn a_segment_within_the_bound_is_not_too_late_and_beyond_it_is_missing() {
    let p = pair();
    for (packets, client, missing) in [(60, "abcdefgh$", 0), (70, "____efgh$", 4)] {
        let mut tap = recording(&config());
        tap.push_all(&p.handshake());
        tap.push_all(&[p.client(4, 0, ACK, "efgh"), p.server(0, 8, ACK, [])]);
        tap.others(packets);
        tap.push(&p.server(0, 8, ACK, []));
        tap.push(&p.client(0, 0, ACK, "abcd"));
        tap.push_all(&p.close(8, 0));
        let heard = tap.heard_one();
        assert_eq!((heard.client.as_str(), heard.client_missing), (client, missing));
    }
}

#[test]
fn a_fin_does_not_close_the_hole_before_it_while_that_may_still_come() {
    let p = pair();
    let mut tap = recording(&config());
    tap.others(1_000_000);
    tap.push_all(&p.handshake());
    tap.push_all(&[p.client(4, 0, FIN | ACK, []), p.client(0, 0, ACK, "abcd")]);
    assert_eq!(tap.heard_one().client, "abcd$");
}

#[test]
fn a_hole_that_is_acknowledged_is_closed_after_the_bound_and_delivers_what_waits() {
    let (p, head) = (pair(), post(12));
    let at = head.len() as i64;
    let mut tap = reading(&config());
    tap.push_all(&p.handshake());
    tap.push_all(&[p.client(0, 0, ACK, &head), p.client(at, 0, ACK, "abcd"), p.client(at + 8, 0, ACK, "ijkl")]);
    tap.push(&p.server(0, at + 12, ACK, OK));
    tap.others(64);
    tap.push(&p.client(at + 12, OK.len() as i64, ACK, []));
    assert!(tap.tracker.app().has_facts(), "the upload is known before the connection ends");
    let upload = tap.upload();
    assert_eq!((upload.bytes, upload.missing, upload.notes.as_slice()), (12, 4, &[Note::Gap][..]));
}

#[test]
fn a_hole_that_is_never_acknowledged_is_missing_at_the_end() {
    let p = pair();
    let mut tap = recording(&config());
    tap.push_all(&p.handshake());
    tap.push_all(&[p.client(0, 0, ACK, "ab"), p.client(4, 0, ACK, "efgh")]);
    tap.others(1000);
    tap.push(&p.client(8, 0, FIN | ACK, []));
    let heard = tap.heard_one();
    assert_eq!((heard.client.as_str(), heard.client_missing), ("ab__efgh$", 2));
}

#[test]
fn an_acknowledged_tail_that_was_never_captured_is_missing() {
    let p = pair();
    let mut tap = recording(&config());
    tap.push_all(&p.handshake());
    tap.push_all(&[p.client(0, 0, ACK, "abcd"), p.server(0, 1000, ACK, [])]);
    let heard = tap.heard_one();
    assert_eq!((heard.client_bytes, heard.client_missing), (1000, 996));
}

#[test]
fn a_lost_fin_is_not_counted_as_a_byte() {
    let p = pair();
    let close = [p.server(0, 9, FIN | ACK, []), p.client(9, 1, ACK, [])];
    for lost in [false, true] {
        let mut tap = recording(&config());
        tap.push_all(&p.handshake());
        tap.push(&p.client(0, 0, ACK, "abcd"));
        if !lost {
            tap.push(&p.client(4, 0, ACK, "efgh"));
        }
        tap.push_all(&close);
        let heard = tap.heard_one();
        assert_eq!((heard.client_bytes, heard.client_missing), (8, if lost { 4 } else { 0 }));
    }
}

#[test]
fn a_lost_tail_is_closed_in_time_where_both_sides_vouch_for_it() {
    let (p, head) = (pair(), post(8));
    let at = head.len() as i64;
    let mut tap = reading(&config());
    tap.push_all(&p.handshake());
    tap.push_all(&[p.client(0, 0, ACK, &head), p.client(at, 0, ACK, "abcd"), p.server(0, at + 8, ACK, OK)]);
    tap.push(&p.client(at + 8, OK.len() as i64, ACK, []));
    tap.silence(20);
    assert!(tap.tracker.app().has_facts(), "the connection goes on, the upload is known");
    let upload = tap.upload();
    assert_eq!((upload.bytes, upload.missing), (8, 4));
}

#[test]
fn one_direction_alone_is_heard() {
    let p = pair();
    let mut tap = recording(&config());
    tap.push_all(&[p.syn(), p.client(0, 0, ACK, []), p.client(0, 0, ACK, "abcd"), p.client(8, 0, ACK, "ijkl")]);
    tap.push(&p.client(12, 0, FIN | ACK, []));
    assert_eq!(tap.heard_one().client, "abcd____ijkl$");
    let mut tap = recording(&config());
    tap.push_all(&[p.syn_ack(), p.server(0, 100, ACK, "ok"), p.server(2, 101, FIN | ACK, [])]);
    let heard = tap.heard_one();
    assert_eq!((heard.server.as_str(), heard.client_bytes, heard.client_missing), ("ok$", 100, 100));
}

#[test]
fn what_the_snap_length_cut_is_a_gap_of_known_length() {
    let p = pair();
    let pieces = [p.client(4, 0, ACK, "efgh").cut(2), p.client(0, 0, ACK, "abcd").cut(3), p.client(8, 0, ACK, "ij")];
    let heard = heard(&pieces, 10);
    assert_eq!((heard.client.as_str(), heard.client_missing), ("a___ef__ij$", 5));
    // In order, and with the FIN in it.
    let mut tap = recording(&config());
    tap.push_all(&p.handshake());
    tap.push_all(&[p.client(0, 0, ACK, "abcd").cut(2), p.client(4, 0, ACK | FIN, "efgh").cut(4)]);
    assert_eq!(tap.heard_one().client, "ab______$");
}

#[test]
fn a_whole_copy_of_a_segment_that_waits_cut_does_not_count_twice() {
    let p = pair();
    let pieces = [p.client(4, 0, ACK, "efgh").cut(4), p.client(4, 0, ACK, "efgh"), p.client(0, 0, ACK, "abcd")];
    let heard = heard(&pieces, 8);
    assert_eq!(heard.client_bytes, 8);
    assert!(!heard.conflict);
}

// Forged numbers.

#[test]
fn a_forged_segment_far_ahead_hides_and_adds_nothing() {
    let p = pair();
    for ahead in [20_000_000, 500_000_000, 2_000_000_000] {
        let mut tap = recording(&config());
        tap.push_all(&p.handshake());
        tap.push_all(&[p.client(0, 0, ACK, "abcd"), p.server(0, 4, ACK, []), p.client(ahead, 0, ACK, "forged")]);
        for n in 1..=100 {
            tap.push_all(&[p.client(4 * n, 0, ACK, "efgh"), p.server(0, 4 * n + 4, ACK, [])]);
        }
        tap.push_all(&p.close(404, 0));
        assert_eq!(tap.counters().gap_bytes, 0);
        let heard = tap.heard_one();
        assert_eq!((heard.client_bytes, heard.client_missing), (404, 0), "{ahead} ahead");
    }
}

#[test]
fn a_forged_segment_and_a_forged_acknowledgement_together_hide_nothing() {
    let p = pair();
    for ahead in [100_000, 20_000_000, 500_000_000] {
        let mut tap = recording(&config());
        tap.push_all(&p.handshake());
        tap.push_all(&[
            p.client(0, 0, ACK, "abcd"),
            p.client(ahead, 0, ACK, "forged"),
            p.server(0, ahead + 6, ACK, []),
        ]);
        for n in 1..=200 {
            tap.push_all(&[p.client(4 * n, 0, ACK, "efgh"), p.server(0, 4 * n + 4, ACK, [])]);
        }
        let heard = tap.heard_one();
        assert!(heard.client.starts_with(&format!("abcd{}", "efgh".repeat(200))), "{ahead} ahead");
    }
}

#[test]
fn a_forged_acknowledgement_far_ahead_hides_and_adds_nothing() {
    let p = pair();
    for ahead in [100_000, 20_000_000, 500_000_000, 2_000_000_000] {
        let mut tap = recording(&config());
        tap.push_all(&p.handshake());
        tap.push_all(&[p.client(0, 0, ACK, "abcd"), p.server(0, ahead, ACK, [])]);
        for n in 1..=200 {
            tap.push_all(&[p.client(4 * n, 0, ACK, "efgh"), p.server(0, 4 * n + 4, ACK, [])]);
        }
        tap.silence(20);
        tap.push(&p.client(804, 0, ACK, "mnop"));
        let heard = tap.heard_one();
        assert_eq!(heard.client, format!("abcd{}mnop", "efgh".repeat(200)), "{ahead} ahead");
        assert_eq!(heard.client_missing, 0);
    }
}

#[test]
fn a_forged_fin_far_ahead_adds_nothing() {
    let p = pair();
    let mut tap = recording(&config());
    tap.push_all(&p.handshake());
    tap.push_all(&[p.client(0, 0, ACK, "abcd"), p.client(500_000_000, 0, FIN | ACK, []), p.server(0, 4, ACK, [])]);
    tap.push(&p.client(4, 0, ACK, "efgh"));
    let heard = tap.heard_one();
    assert_eq!((heard.client.as_str(), heard.client_bytes), ("abcdefgh", 8));
}

// What readers make of holes.

#[test]
fn a_greeting_that_the_snap_length_cut_does_not_hide_a_control_connection() {
    let control = Pair::new("10.0.0.5:40000", "192.0.2.9:21");
    let data = Pair::new("10.0.0.5:40001", "192.0.2.9:51210");
    let greeting = "220---------- Welcome to an FTP server [private] ----------\r\n220 ready\r\n";
    let at = greeting.len() as i64;
    let mut tap = reading(&config());
    tap.push_all(&control.handshake());
    tap.push(&control.server(0, 0, ACK, greeting).cut(40));
    tap.push_all(&[control.client(0, at, ACK, "USER u\r\n"), control.client(8, at, ACK, "PASV\r\n")]);
    tap.push(&control.server(at, 14, ACK, "227 Entering Passive Mode (192,0,2,9,200,10)\r\n"));
    tap.push(&control.client(14, at + 46, ACK, "STOR a\r\n"));
    tap.push_all(&data.handshake());
    tap.push(&data.client(0, 0, ACK, "x".repeat(100)));
    tap.push_all(&data.close(100, 0));
    tap.push(&control.server(at + 46, 22, ACK, "226 done\r\n"));
    let upload = tap.upload();
    assert_eq!((upload.bytes, upload.files[0].name.as_deref()), (100, Some("a")));
    assert_eq!(upload.ftp.unwrap().reply_code, Some(226));
}

#[test]
fn data_without_announcement_goes_to_the_dialogue_that_asked_for_it_at_the_time() {
    let mut tap = reading(&config());
    for n in 0..3u32 {
        // Only the client's side was captured, so no reply tells the port.
        let control = Pair::new(&format!("10.0.0.5:{}", 40_000 + n), "192.0.2.9:21");
        let data = Pair::new(&format!("10.0.0.5:{}", 50_000 + n), &format!("192.0.2.9:{}", 51_210 + n));
        tap.push(&control.syn());
        tap.push(&control.client(0, 0, ACK, "USER u\r\nTYPE I\r\nPASV\r\n"));
        tap.push(&data.syn());
        tap.push(&control.client(22, 0, ACK, format!("STOR {n}\r\n")));
        tap.push(&data.client(0, 0, ACK, "x".repeat(100 + n as usize)));
        tap.push(&data.client(100 + i64::from(n), 0, FIN | ACK, []));
        tap.push(&control.client(30, 0, FIN | ACK, "QUIT\r\n"));
        tap.silence(20);
    }
    let (uploads, _) = tap.facts();
    let found: Vec<_> = uploads.iter().map(|u| (u.files[0].name.clone().unwrap(), u.bytes)).collect();
    assert_eq!(found, [("0".to_owned(), 100), ("1".to_owned(), 101), ("2".to_owned(), 102)]);
}

// Bounds.

#[test]
fn a_stream_that_waits_for_more_than_its_memory_loses_its_oldest_hole_first() {
    let mut config = config();
    config.flow.reassembly_per_stream = ByteSize(64 << 10);
    let p = pair();
    let mut tap = recording(&config);
    tap.push_all(&p.handshake());
    let segment = "x".repeat(1000);
    // Holes at 0 and at 50,000; what lies behind them is more than the memory.
    for n in (1..50).chain(51..100) {
        tap.push(&p.client(n * 1000, 0, ACK, &segment));
    }
    tap.push(&p.client(50_000, 0, ACK, &segment));
    let counters = tap.counters();
    assert_eq!((counters.memory_gaps, counters.gaps, counters.gap_bytes), (1, 1, 1000));
    tap.push_all(&p.close(100_000, 0));
    let heard = tap.heard_one();
    assert_eq!((heard.client_bytes, heard.client_missing), (100_000, 1000));
    assert!(heard.client.starts_with("____") && heard.client.ends_with("x$"));
}

#[test]
fn all_streams_together_stay_within_the_memory_for_reassembly() {
    let mut config = config();
    config.flow.reassembly_memory = ByteSize(1 << 20);
    let mut tap = recording(&config);
    let pairs: Vec<Pair> = (0..200).map(|n| Pair::new(&format!("10.0.0.5:{}", 20_000 + n), "192.0.2.9:80")).collect();
    for p in &pairs {
        tap.push_all(&p.handshake());
        // 10 kB wait behind a hole; together twice the bound.
        (1..11).for_each(|n| tap.push(&p.client(n * 1000, 0, ACK, "x".repeat(1000))));
    }
    let counters = tap.counters();
    assert!((50..150).contains(&counters.memory_gaps), "{counters:?}");
    for p in &pairs {
        tap.push_all(&p.close(11_000, 0));
    }
    assert!(tap.heard().iter().all(|heard| (heard.client_bytes, heard.client_missing) == (11_000, 1000)));
}

#[test]
fn a_full_table_ends_the_connection_that_was_silent_longest_and_reports_it() {
    let mut config = config();
    config.flow.table_memory = ByteSize(1 << 20);
    let mut tap = reading(&config);
    let head = post(100);
    let p = pair();
    tap.push_all(&p.handshake());
    tap.push(&p.client(0, 0, ACK, format!("{head}{}", "x".repeat(60))));
    flood(&mut tap, 20_000);
    let counters = tap.counters();
    assert!(counters.ended(Ending::Evicted) > 10_000, "{counters:?}");
    let (uploads, flows) = tap.facts();
    assert_eq!(uploads.len(), 1);
    assert_eq!((uploads[0].bytes, uploads[0].notes.as_slice()), (60, &[Note::CutShort][..]));
    assert_eq!(flows.len() as u64, counters.opened);
}

#[test]
fn a_million_half_open_connections_stay_within_the_table_and_are_counted() {
    let mut config = config();
    config.flow.table_memory = ByteSize(4 << 20);
    config.flow.half_open_timeout = Span::seconds(3600);
    let mut tap = recording(&config);
    flood(&mut tap, 1_000_000);
    let counters = tap.counters();
    assert_eq!(counters.opened, 1_000_000);
    // An entry and what the index and the free list need for it are more than 100 bytes.
    assert!(counters.peak <= (4 << 20) / 100, "{} at once", counters.peak);
    assert!(counters.ended(Ending::Evicted) >= 1_000_000 - counters.peak, "{counters:?}");
    assert_eq!(tap.heard().len(), 1_000_000);
}

#[test]
fn of_more_connections_than_there_is_room_for_some_are_followed_to_their_end() {
    let mut config = config();
    config.flow.table_memory = ByteSize(100 << 10);
    let mut tap = recording(&config);
    let address = |n: u32| outfall::net::Address::v4((0x0b00_0000 + n).to_be_bytes());
    let pairs: Vec<_> = (0..500)
        .map(|n| {
            let mut p = pair();
            p.client.address = address(n);
            p
        })
        .collect();
    pairs.iter().for_each(|p| tap.push_all(&p.handshake()));
    let (room, evicted) = (tap.counters().peak, tap.counters().ended(Ending::Evicted));
    // Each in turn: whatever was given up for one segment would be given up again for the next.
    for round in 0..5 {
        pairs.iter().for_each(|p| tap.push(&p.client(round * 100, 0, ACK, "x".repeat(100))));
    }
    let counters = tap.counters();
    assert_eq!((counters.peak, counters.ended(Ending::Evicted)), (room, evicted));
    assert_eq!(counters.refused, 5 * (500 - room));
    for p in &pairs {
        tap.push_all(&p.close(500, 0));
    }
    tap.silence(60);
    let whole = tap.heard().iter().filter(|heard| (heard.client_bytes, heard.client_missing) == (500, 0)).count();
    assert_eq!(whole as u64, room);
}

#[test]
fn a_closed_connection_is_remembered_for_its_copies_the_longer_where_its_end_was_not_acknowledged() {
    let p = pair();
    let end = [p.client(0, 0, FIN | ACK, "abcd"), p.server(0, 5, FIN | ACK, []), p.client(5, 1, ACK, [])];
    // What is left out, how many seconds later the last bytes come once more, and how many connections that makes.
    for (lost, seconds, connections) in [(0, 0, 1), (0, 3, 2), (1, 3, 1), (1, 9, 1), (1, 12, 2)] {
        let mut tap = recording(&config());
        tap.push_all(&p.handshake());
        tap.push_all(&end[..3 - lost]);
        tap.silence(seconds);
        tap.push(&end[0]);
        assert_eq!(tap.heard().len(), connections, "{lost} lost, {seconds} s");
    }
}

#[test]
fn half_open_connections_are_forgotten_in_time() {
    let mut tap = recording(&config());
    flood(&mut tap, 10_000);
    tap.silence(40);
    let counters = tap.counters();
    assert_eq!(counters.ended(Ending::Idle), 10_000);
    assert_eq!(counters.ended(Ending::Evicted), 0);
}

/// A SYN from each of many addresses and ports.
fn flood<A: outfall::flow::Application>(tap: &mut Tap<A>, connections: u32) {
    let mut p = pair();
    for n in 0..connections {
        p.client.address = outfall::net::Address::v4((0x0b00_0000 | (n >> 4)).to_be_bytes());
        p.client.port = 1024 + (n & 15) as u16;
        p.client_isn = n;
        // A thousand a second would outlast the test's other times.
        tap.push(&p.syn());
    }
}

#[test]
fn a_response_to_a_request_before_the_capture_is_not_the_first_requests() {
    let (p, head) = (pair(), post(4));
    let refused = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
    let end = refused.len() as i64;
    let mut tap = reading(&config());
    // The capture begins behind a request.
    tap.push(&p.server(0, 0, ACK, refused));
    tap.push(&p.client(0, end, ACK, format!("{head}abcd")));
    tap.push(&p.server(end, head.len() as i64 + 4, ACK, OK));
    tap.push_all(&p.close(head.len() as i64 + 4, end + OK.len() as i64));
    tap.silence(30);
    assert_eq!(tap.tracker.app().counters().http_unasked, 1);
    assert_eq!(tap.upload().http.unwrap().status, Some(200));
}

#[test]
fn responses_that_were_read_before_their_requests_keep_their_own_times() {
    // The server's stream is settled first, with both of its responses.
    let (p, request) = (Pair::new("192.168.2.9:40000", "172.16.0.1:80"), post(4) + "abcd");
    let (asked, answered) = (request.len() as i64, OK.len() as i64);
    let mut tap = reading(&config());
    tap.push(&p.client(0, 0, ACK, &request));
    tap.push(&p.server(0, asked, ACK, OK));
    tap.push(&p.client(asked, answered, ACK, &request));
    tap.push(&p.server(answered, 2 * asked, ACK, OK));
    tap.others(100);
    tap.push(&p.server(2 * answered, 2 * asked, ACK, []));
    assert_eq!(tap.tracker.app().counters().http_unasked, 0);
    let (uploads, _) = tap.facts();
    let statuses: Vec<_> = uploads.iter().map(|upload| upload.http.as_ref().and_then(|http| http.status)).collect();
    assert_eq!(statuses, [Some(200), Some(200)]);
}

#[test]
fn a_servers_stream_that_loses_its_place_is_counted() {
    let (p, head) = (pair(), post(4));
    let mut tap = reading(&config());
    tap.push_all(&p.handshake());
    tap.push(&p.client(0, 0, ACK, format!("{head}abcd")));
    tap.push(&p.server(20, head.len() as i64 + 4, ACK, "ngth: 0\r\n\r\n"));
    tap.push_all(&p.close(head.len() as i64 + 4, OK.len() as i64));
    tap.silence(30);
    assert_eq!(tap.tracker.app().counters().http_responses_lost, 1);
    assert_eq!(tap.upload().http.unwrap().status, None);
}
