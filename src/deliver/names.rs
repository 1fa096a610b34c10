//! A collector's name, looked up from within the sandbox.
//!
//! What the system uses to look names up reads files, loads libraries and opens sockets that a locked process must not. So
//! the system is asked once, at the start, and which name servers it uses is noted; these are asked for each new connection
//! after that, over UDP. Where none answers, the addresses known from before are used.

use std::hash::BuildHasher as _;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::time::Duration;

use domain::base::iana::Rtype;
use domain::base::{Message, MessageBuilder, Name};
use domain::rdata::{A, Aaaa};

/// Name servers that are asked, as many as the system would.
const SERVERS: usize = 3;
/// How long one of them may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest answer; a longer one comes shortened, which is as good here.
const LONGEST: usize = 4_096;

/// A name, and what is known of it.
#[derive(Clone, Debug)]
pub struct Names {
    name: String,
    servers: Vec<SocketAddr>,
    known: Vec<IpAddr>,
}

impl Names {
    /// Asks the system, while files can be opened. A name that it does not know yet may be known later.
    pub fn new(name: &str) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        // What stands there holds, whatever a name server says.
        let fixed = in_hosts(&read("/etc/hosts"), name);
        let servers = if fixed { Vec::new() } else { servers(&read("/etc/resolv.conf")) };
        let known = (name, 0).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect());
        Self { name: name.to_owned(), servers, known: known.unwrap_or_default() }
    }

    /// The addresses as of now, the ones to try first at the front.
    ///
    /// # Errors
    /// If none is known.
    pub fn look_up(&mut self) -> io::Result<&[IpAddr]> {
        for server in &self.servers {
            if let Ok(found) = ask(*server, &self.name)
                && !found.is_empty()
            {
                self.known = found;
                break;
            }
        }
        if self.known.is_empty() {
            let name = &self.name;
            return Err(io::Error::new(ErrorKind::NotFound, format!("no address is known for the name {name}")));
        }
        Ok(&self.known)
    }
}

/// Whether the file of hosts has the name.
fn in_hosts(text: &str, name: &str) -> bool {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines.flat_map(|line| line.split_ascii_whitespace().skip(1)).any(|known| known.eq_ignore_ascii_case(name))
}

fn servers(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = lines.filter_map(|rest| rest.trim().parse::<IpAddr>().ok());
    addresses.take(SERVERS).map(|address| SocketAddr::new(address, 53)).collect()
}

/// Asks a server for the addresses of both kinds.
fn ask(server: SocketAddr, name: &str) -> io::Result<Vec<IpAddr>> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    // Only what this server sends is received.
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut found = Vec::new();
    for kind in [Rtype::A, Rtype::AAAA] {
        let random = std::hash::RandomState::new().hash_one(name);
        let query = query(name, kind, u16::try_from(random & 0xffff).unwrap_or(0))?;
        socket.send(&query)?;
        let mut bytes = vec![0; LONGEST];
        loop {
            let length = socket.recv(&mut bytes)?;
            if let Some(answer) = answered(&query, bytes.get(..length).unwrap_or_default()) {
                found.extend(answer);
                break;
            }
        }
    }
    Ok(found)
}

fn query(name: &str, kind: Rtype, id: u16) -> io::Result<Vec<u8>> {
    let name = name.parse::<Name<Vec<u8>>>().map_err(io::Error::other)?;
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(id);
    builder.header_mut().set_rd(true);
    let mut question = builder.question();
    question.push((name, kind)).map_err(io::Error::other)?;
    Ok(question.finish())
}

/// The addresses of an answer; none if it answers another question. Those behind an alias come with it.
fn answered(query: &[u8], bytes: &[u8]) -> Option<Vec<IpAddr>> {
    let (query, message) = (Message::from_octets(query).ok()?, Message::from_octets(bytes).ok()?);
    if !message.is_answer(&query) {
        return None;
    }
    let answer = message.answer().ok()?;
    let old = answer.limit_to::<A>().filter_map(Result::ok).map(|record| IpAddr::V4(record.data().addr()));
    let new = answer.limit_to::<Aaaa>().filter_map(Result::ok).map(|record| IpAddr::V6(record.data().addr()));
    Some(old.chain(new).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_goes_by_is_read() {
        let text =
            "# nameserver 192.0.2.9\nsearch example\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver ::1\n";
        assert_eq!(servers(text), ["192.0.2.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
        assert!(in_hosts("127.0.0.1 localhost\n192.0.2.7 a SIEM.example # b", "siem.example"));
        assert!(!in_hosts("192.0.2.7 a # siem.example", "siem.example"));
    }

    #[test]
    fn a_name_server_is_asked_each_time_and_what_was_known_serves_where_it_is_silent() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let served = std::thread::spawn(move || {
            for last in [1_u8, 1, 2, 2] {
                let mut bytes = [0; 512];
                let (length, from) = server.recv_from(&mut bytes).unwrap();
                let query = Message::from_octets(&bytes[..length]).unwrap();
                let question = query.sole_question().unwrap();
                let mut answer =
                    MessageBuilder::new_vec().start_answer(&query, domain::base::iana::Rcode::NOERROR).unwrap();
                if question.qtype() == Rtype::A {
                    answer.push((question.qname(), 60, A::from_octets(192, 0, 2, last))).unwrap();
                } else {
                    answer.push((question.qname(), 60, Aaaa::new(Ipv6Addr::LOCALHOST))).unwrap();
                }
                // Somebody who does not know the question.
                server.send_to(b"nonsense that is long enough", from).unwrap();
                server.send_to(&answer.finish(), from).unwrap();
            }
        });
        let mut names = Names { name: "siem.example".into(), servers: vec![address], known: Vec::new() };
        let first: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(names.look_up().unwrap(), [first, Ipv6Addr::LOCALHOST.into()]);
        let second: IpAddr = "192.0.2.2".parse().unwrap();
        assert_eq!(names.look_up().unwrap(), [second, Ipv6Addr::LOCALHOST.into()]);
        served.join().unwrap();
        assert_eq!(names.look_up().unwrap()[0], second);
        let mut unknown = Names { name: "siem.example".into(), servers: Vec::new(), known: Vec::new() };
        assert!(unknown.look_up().unwrap_err().to_string().contains("siem.example"));
    }
}
