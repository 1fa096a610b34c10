//! What one dialogue tells.

use super::*;
use std::net::SocketAddr;

fn session(mid_stream: bool) -> Session {
    let client: SocketAddr = "10.0.0.5:40000".parse().unwrap();
    let server: SocketAddr = "192.0.2.9:21".parse().unwrap();
    Session::new(Connection { client: client.into(), server: server.into() }, mid_stream, 64)
}

fn asked(told: &[Told]) -> Vec<&Transfer> {
    told.iter().filter_map(|t| if let Told::Asked(t) = t { Some(t.as_ref()) } else { None }).collect()
}

const CLIENT: &[(&str, &str)] =
    &[("USER", "u"), ("PASS", "secret"), ("CWD", "/in"), ("PASV", ""), ("STOR", "a.zip"), ("QUIT", "")];
const SERVER: &[&str] = &[
    "220-hello",
    " there",
    "220 ready",
    "331 go on",
    "230 in",
    "250 ok",
    "227 Entering Passive Mode (192,0,2,9,200,10)",
    "150 ok",
    "226 done",
    "221 bye",
];

#[test]
fn the_dialogue_means_the_same_whichever_direction_comes_first() {
    for server_first in [false, true] {
        let mut s = session(false);
        let mut told = Vec::new();
        for half in [server_first, !server_first] {
            if half {
                SERVER.iter().for_each(|line| s.reply(line, &mut told));
            } else {
                CLIENT.iter().for_each(|(v, a)| s.command((*v).to_owned(), a, Timestamp(1), &mut told));
            }
        }
        let transfers = asked(&told);
        assert_eq!(transfers.len(), 1);
        assert_eq!(transfers[0].path.as_deref(), Some("/in/a.zip"));
        let listener = transfers[0].announcement.unwrap().listener;
        assert_eq!(listener.to_string(), "192.0.2.9:51210");
        assert!(told.iter().any(|t| matches!(t, Told::Answered { ordinal: 0, code: 226 })));
        assert!(!format!("{s:?}{told:?}").contains("secret"));
    }
}

#[test]
fn a_line_that_is_no_command_leaves_the_order_whole_whether_it_is_answered_or_not() {
    for answered in [true, false] {
        let mut s = session(false);
        let mut told = Vec::new();
        s.reply("220 x", &mut told);
        s.command(JUNK.into(), "", Timestamp(1), &mut told);
        s.command("PASV".into(), "", Timestamp(1), &mut told);
        s.command("STOR".into(), "a", Timestamp(1), &mut told);
        if answered {
            s.reply("500 what", &mut told);
        }
        for line in ["227 (192,0,2,9,4,1)", "150 ok", "226 ok"] {
            s.reply(line, &mut told);
        }
        assert!(asked(&told)[0].announcement.is_some());
        assert!(told.iter().any(|t| matches!(t, Told::Answered { ordinal: 0, code: 226 })));
    }
}

#[test]
fn an_aborted_transfer_gets_its_own_reply_and_abor_another() {
    let mut s = session(false);
    let mut told = Vec::new();
    s.reply("220 x", &mut told);
    for (verb, argument) in [("STOR", "a"), ("ABOR", "")] {
        s.command(verb.into(), argument, Timestamp(1), &mut told);
    }
    for line in ["150 ok", "426 aborted", "226 abort done"] {
        s.reply(line, &mut told);
    }
    let answers: Vec<u16> =
        told.iter().filter_map(|t| if let Told::Answered { code, .. } = t { Some(*code) } else { None }).collect();
    assert_eq!(answers, [426]);
}

#[test]
fn a_working_directory_does_not_grow_without_bound() {
    let mut s = session(false);
    let mut told = Vec::new();
    s.reply("220 x", &mut told);
    for _ in 0..10_000 {
        s.command("CWD".into(), "deeper", Timestamp(1), &mut told);
        s.reply("250 ok", &mut told);
        assert!(s.directory.as_ref().is_none_or(|directory| directory.len() <= LONGEST_DIRECTORY));
    }
}

#[test]
fn the_servers_own_name_is_found_in_the_reply() {
    assert_eq!(unique_name("FILE: ftpd.lk2m3y98").as_deref(), Some("ftpd.lk2m3y98"));
    assert_eq!(unique_name("Transfer complete (unique file name:abc.1).").as_deref(), Some("abc.1"));
    assert_eq!(unique_name("Ok to send data"), None);
}

#[test]
fn after_a_loss_replies_are_matched_by_what_they_answer() {
    let mut s = session(true);
    let mut told = Vec::new();
    s.reply("227 (192,0,2,9,4,1)", &mut told);
    s.command("STOR".into(), "b", Timestamp(1), &mut told);
    s.reply("150 ok", &mut told);
    s.reply("226 ok", &mut told);
    assert!(asked(&told)[0].announcement.is_some());
    assert!(told.iter().any(|t| matches!(t, Told::Answered { code: 226, .. })));
}
