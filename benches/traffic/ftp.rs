//! FTP sessions: a control connection, and a data connection for each file.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use super::conversation::{CLIENT, Piece, SERVER, Step};
use super::random::Random;
use super::totals::Totals;

const CONTROL: usize = 0;
const DATA: usize = 1;

/// A session that moves files of `sizes` bytes, nine of ten to the server. `ports` gives each data connection a port
/// of its own.
pub fn session(
    ends: [SocketAddr; 2],
    sizes: &[u64],
    ports: &mut impl FnMut() -> u16,
    random: &mut Random,
    totals: &mut Totals,
) -> VecDeque<Step> {
    let mut steps = VecDeque::from([Step::Open { connection: CONTROL, ends }]);
    totals.connections += 1;
    say(&mut steps, SERVER, "220 (vsFTPd 3.0.5)".to_owned());
    let user = format!("user{:04}", random.below(10_000));
    for (command, reply) in [
        (format!("USER {user}"), "331 Please specify the password."),
        (format!("PASS {:012x}", random.below(1 << 48)), "230 Login successful."),
        ("SYST".to_owned(), "215 UNIX Type: L8"),
        ("PWD".to_owned(), "257 \"/\" is the current directory"),
        ("TYPE I".to_owned(), "200 Switching to Binary mode."),
        ("CWD /incoming".to_owned(), "250 Directory successfully changed."),
    ] {
        say(&mut steps, CLIENT, command);
        say(&mut steps, SERVER, reply.to_owned());
    }
    for &size in sizes {
        transfer(&mut steps, ends, size.max(1), ports(), random, totals);
    }
    say(&mut steps, CLIENT, "QUIT".to_owned());
    say(&mut steps, SERVER, "221 Goodbye.".to_owned());
    steps.push_back(Step::Close { connection: CONTROL, side: SERVER });
    steps
}

fn transfer(
    steps: &mut VecDeque<Step>,
    [client, server]: [SocketAddr; 2],
    size: u64,
    port: u16,
    random: &mut Random,
    totals: &mut Totals,
) {
    let store = random.percent(90);
    let passive = random.percent(75);
    let listener = SocketAddr::new(if passive { server.ip() } else { client.ip() }, port);
    let opener = if passive { SocketAddr::new(client.ip(), port ^ 1) } else { SocketAddr::new(server.ip(), 20) };
    let (command, reply) = announce(listener, passive, random.percent(80));
    say(steps, CLIENT, command);
    say(steps, SERVER, reply);
    let name = format!("backup-{:08x}.7z", random.below(1 << 32));
    totals.connections += 1;
    let open = Step::Open { connection: DATA, ends: [opener, listener] };
    let verb = if store { "STOR" } else { "RETR" };
    if passive {
        steps.push_back(open);
        say(steps, CLIENT, format!("{verb} {name}"));
        say(steps, SERVER, "150 Ok to send data.".to_owned());
    } else {
        say(steps, CLIENT, format!("{verb} {name}"));
        steps.push_back(open);
        say(steps, SERVER, "150 Opening BINARY mode data connection.".to_owned());
    }
    // Whoever opened the data connection is its side 0.
    let sender = if store == passive { CLIENT } else { SERVER };
    let magic = b"7z\xbc\xaf\x27\x1c\x00\x04";
    let head = size.min(magic.len() as u64);
    let mut pieces = VecDeque::from([Piece::Text(magic[..head as usize].to_vec())]);
    if size > head {
        pieces.push_back(Piece::Noise { length: size - head, from: random.any() });
    }
    steps.push_back(Step::Send { connection: DATA, side: sender, pieces });
    steps.push_back(Step::Close { connection: DATA, side: sender });
    say(steps, SERVER, "226 Transfer complete.".to_owned());
    if store { &mut totals.ftp_uploads } else { &mut totals.downloads }.add(size);
}

/// The command that agrees on a data connection, and its reply; the extended ones (RFC 2428) where there is a choice.
fn announce(listener: SocketAddr, passive: bool, classic: bool) -> (String, String) {
    let port = listener.port();
    let pair = format!("{},{}", port >> 8, port & 0xff);
    let ok = "200 Command successful. Consider using PASV.".to_owned();
    match (listener.ip(), passive) {
        (IpAddr::V4(ip), true) if classic => {
            let [a, b, c, d] = ip.octets();
            ("PASV".to_owned(), format!("227 Entering Passive Mode ({a},{b},{c},{d},{pair})."))
        }
        (IpAddr::V4(ip), false) if classic => {
            let [a, b, c, d] = ip.octets();
            (format!("PORT {a},{b},{c},{d},{pair}"), ok)
        }
        (_, true) => ("EPSV".to_owned(), format!("229 Entering Extended Passive Mode (|||{port}|)")),
        (ip, false) => (format!("EPRT |{}|{ip}|{port}|", if ip.is_ipv4() { 1 } else { 2 }), ok),
    }
}

fn say(steps: &mut VecDeque<Step>, side: usize, line: String) {
    let pieces = [Piece::Text((line + "\r\n").into_bytes())].into();
    steps.push_back(Step::Send { connection: CONTROL, side, pieces });
}
