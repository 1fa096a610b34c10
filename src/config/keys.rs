//! Every section and key: its documentation, type, default and bounds, each in one place.

use super::file::AlertFile;
use super::known::{ARCHIVE_TOOLS, DOCUMENT_PROGRAMS, DUAL_USE_PROGRAMS, SENSITIVE_PATHS, STAGING_PATHS};
use super::playbook::Steps;
use super::policy::{DESTINATION, Destination, ExpectedProcess, PathPattern, parse_network};
use super::problem::Refusals;
use super::settings::{Entry, Named, Section, settings};
use super::syslog::{SEVERITIES, SyslogCollector};
use super::value::{List, Node, Setting, Text, read_text};
use crate::net::{ByteSize, Span};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

settings! {
    /// Which hosts are ours.
    network: Network {
        /// The home networks: an upload from one of them to an address in none of them is outbound.
        /// The default is private, unique local and link-local addresses (RFC 1918, RFC 4193, RFC 3927, RFC 4291).
        home: Vec<IpNet> = HOME.to_vec(), NETWORKS;
        /// Names of our own: what is sent through a proxy to one of them, or to a name without a dot, stays at home.
        home_domains: Vec<Destination> = HOME_DOMAINS.map(|name| Destination::Domain(name.to_owned())).to_vec(), DESTINATIONS;
        /// A database in MaxMind's format that tells the autonomous systems of addresses (GeoLite2-ASN.mmdb); read at the start.
        /// Empty: none.
        asn_database: String = String::new(), MMDB;
        /// One that tells their countries (GeoLite2-Country.mmdb). Empty: none.
        country_database: String = String::new(), MMDB;
    }

    /// Taking packets apart: link headers, tunnels, fragments.
    packet: Packet {
        /// How many headers are taken off a packet: EtherTypes, VLAN tags and IP headers, those in tunnels included. A
        /// plain packet has two. Reached: the packet is passed over, and counted as nested too deep.
        tunnel_depth: u64 = 16, 2..=64;
        /// Memory for fragments that wait for the rest of their packet. Every worker takes every packet apart, and so
        /// keeps its own. Reached: the packet that was added to the longest ago is given up, and counted.
        fragment_memory: ByteSize = ByteSize(16 * MIB), ByteSize(128 * KIB)..=ByteSize(TIB);
        /// How long a packet waits for its rest; RFC 8200 says 60 s, hosts use 30 s. Reached: it is given up, and counted.
        fragment_timeout: Span = Span::seconds(30), Span::seconds(1)..=Span::seconds(HOUR);
    }

    /// The flow table and the reassembly of TCP streams.
    flow: Flow {
        /// Memory for the flow table of all workers. Reached: of a few flows, the one that was idle the longest is
        /// ended early for one that opens. A flow that was not seen to open gets a place only if that one was idle for
        /// ten seconds; else its segments are counted, and no more.
        table_memory: ByteSize = ByteSize(256 * MIB), ByteSize(MIB)..=ByteSize(TIB);
        /// Memory for segments that arrived ahead of a hole, over all streams.
        /// Reached: the oldest hole is closed as a gap, and its bytes are counted as missing.
        reassembly_memory: ByteSize = ByteSize(128 * MIB), ByteSize(MIB)..=ByteSize(TIB);
        /// Memory for such segments of one direction of one flow. Reached: its oldest hole is closed as a gap.
        reassembly_per_stream: ByteSize = ByteSize(4 * MIB), ByteSize(64 * KIB)..=ByteSize(GIB);
        /// A hole that the receiver has acknowledged was lost by the tap, but a tap may also reorder:
        /// the hole is waited for during this many further packets of the whole capture, then closed as a gap.
        /// 0 closes it at once.
        reorder_packets: u64 = 64, 0..=1_000_000;
        /// How long a connection may go without completing its handshake. Reached: it is forgotten.
        half_open_timeout: Span = Span::seconds(30), Span::seconds(1)..=Span::seconds(DAY);
        /// How long a connection may be silent. Reached: it is ended, and its uploads are partial. FTP's control connection may
        /// be silent for as long as one of its transfers goes on.
        idle_timeout: Span = Span::seconds(15 * MINUTE), Span::seconds(1)..=Span::seconds(7 * DAY);
        /// How long a finished connection is remembered, so that its late duplicates open no new flow.
        closed_linger: Span = Span::seconds(10), Span(0)..=Span::seconds(HOUR);
        /// The same where each side has acknowledged the other's end, and nothing was lost or out of order: what comes then
        /// are copies. The shorter of the two counts.
        settled_linger: Span = Span::seconds(1), Span(0)..=Span::seconds(HOUR);
    }

    /// The protocol parsers.
    protocol: Protocol {
        /// Memory for what the parsers keep of all connections: heads and lines that are not complete, requests and
        /// commands that wait for their answer, FTP's dialogues and transfers, HTTP/2's streams and header tables, first
        /// bytes that do not tell the protocol yet. Host pairs are spread over 16 lanes, and each may use its 16th part.
        /// Reached: FTP dialogues that are over are forgotten; then the connection that was silent longest is no longer
        /// read, and only counted. Its uploads that are still open are reported as partial, with the note `retired`.
        memory: ByteSize = ByteSize(256 * MIB), ByteSize(MIB)..=ByteSize(TIB);
        /// The longest head of an HTTP message. Longer: the flow is retired as unparsed, and only counted.
        max_head: ByteSize = ByteSize(64 * KIB), ByteSize(KIB)..=ByteSize(16 * MIB);
        /// The longest line of an FTP control connection. Longer: the line is cut there, and counted.
        max_line: ByteSize = ByteSize(8 * KIB), ByteSize(64)..=ByteSize(MIB);
        /// Requests or commands that wait for their answer, per connection.
        /// Reached: the oldest is reported without its answer.
        max_pending: u64 = 256, 1..=1_000_000;
        /// Files listed per upload. Reached: further files count towards its bytes, but are not listed.
        max_files: u64 = 256, 1..=1_000_000;
        /// An upload that passes this size is reported while it still runs, and again when it ends.
        running_report: ByteSize = ByteSize(10_000_000), ByteSize(1_000)..=ByteSize(TIB);
        /// Announced FTP data addresses that are kept, and as many ends of connections that may be such data between two
        /// other hosts. One of each takes less than 1 KiB together. Reached: the least recent goes.
        expectations: u64 = 65_536, 1..=10_000_000;
        /// How long an announced FTP data address waits for its connection. Reached: it is forgotten.
        expectation_timeout: Span = Span::seconds(2 * MINUTE), Span::seconds(1)..=Span::seconds(DAY);
        /// How long an FTP upload waits for its final reply after the end of its data.
        /// Reached: it is reported without that reply.
        reply_timeout: Span = Span::seconds(30), Span::seconds(1)..=Span::seconds(HOUR);
        /// Names learnt from DNS answers that are kept. One takes less than 512 bytes. Reached: the one that was not used
        /// longest goes.
        names: u64 = 65_536, 1..=10_000_000;
        /// How long after its time to live a name still counts for a new connection: programs keep names longer.
        name_grace: Span = Span::seconds(5 * MINUTE), Span(0)..=Span::seconds(7 * DAY);
    }

    /// What is made of the content of files and bodies that stream by.
    files: Files {
        /// Whether each file and body gets a SHA-256.
        hash: bool = true, ();
        /// A file or body larger than this gets no hash. 0 is no limit.
        hash_limit: ByteSize = ByteSize(GIB), ByteSize(0)..=ByteSize(TIB);
        /// The most bytes per second of packet time that are hashed, over all lanes; host pairs are spread over
        /// 16 lanes, and each may use its 16th part. Reached: what is being hashed on that lane gets no hash.
        /// 0 is no limit.
        hash_rate: ByteSize = ByteSize(4 * GIB), ByteSize(0)..=ByteSize(TIB);
        /// Whether bodies with a Content-Encoding of gzip, deflate or br are decoded to tell their decoded size.
        decode: bool = false, ();
        /// A body that decodes to more than this is not decoded further, and gets no decoded size.
        decode_limit: ByteSize = ByteSize(64_000_000), ByteSize(KIB)..=ByteSize(TIB);
        /// Memory for looking into content, over all lanes, each with its 16th part: for the window of each body
        /// that is decoded, and for the end of each 7z archive. Reached: further bodies are not decoded, and
        /// whether further 7z archives are encrypted is not known.
        memory: ByteSize = ByteSize(256 * MIB), ByteSize(MIB)..=ByteSize(TIB);
    }

    /// What endpoints report: processes, connections and files.
    endpoint: Endpoint {
        /// Memory for the history of all endpoints. Reached: the oldest events are forgotten.
        memory: ByteSize = ByteSize(256 * MIB), ByteSize(MIB)..=ByteSize(TIB);
        /// How much of it one host may take, so that a busy one costs no other its events. Reached: its oldest file events
        /// are forgotten, then its oldest connections, then its processes, and counted.
        memory_per_host: ByteSize = ByteSize(64 * MIB), ByteSize(64 * KIB)..=ByteSize(TIB);
        /// Live: how long an event is kept, by the time of the packets, but at least `join.look_back`. Older: it is forgotten,
        /// and counted; a process only after it ended.
        keep: Span = Span::seconds(7 * DAY), Span::seconds(MINUTE)..=Span::seconds(365 * DAY);
        /// The longest line of an event. Longer: the line is counted as malformed and skipped.
        max_line: ByteSize = ByteSize(MIB), ByteSize(KIB)..=ByteSize(64 * MIB);
    }

    /// Taking events from endpoints over the network, with `outfall run`. What is received is kept in a journal, so that
    /// nothing that was acknowledged is lost when the sensor ends. See `outfall enroll`.
    listener: Listener {
        /// Addresses on which helpers are listened to, over TLS 1.3, each with a certificate of the sensor's own authority
        /// (`outfall enroll`). Empty: none.
        tls: Vec<String> = Vec::new(), ADDRESSES;
        /// Unix domain sockets and loopback addresses on which events are taken without TLS, from this machine: whoever can
        /// reach them may speak for any host. Empty: none.
        local: Vec<String> = Vec::new(), PLACES;
        /// The directory for the authority, its list of certificates, and the journal.
        state: String = "/var/lib/outfall".to_owned(), DIRECTORY;
        /// Threads that read connections and decode events.
        threads: u64 = 1, 1..=16;
        /// Connections at a time. Reached: a further one is closed at once, and counted as `full`.
        connections: u64 = 4_096, 1..=100_000;
        /// Connections at a time, for each thread, that have not said who they are. Reached: the one that took longest
        /// is dropped, and counted as `crowded-out`.
        handshakes: u64 = 512, 1..=100_000;
        /// Memory for lines that are not complete, over all connections; the first 8 KiB of each are not counted.
        /// Reached: the connection that needs more is dropped, and counted as `memory`.
        memory: ByteSize = ByteSize(64 * MIB), ByteSize(MIB)..=ByteSize(TIB);
        /// Memory for events that wait for the join, and as much for lines that wait for the journal.
        /// Reached: connections are not read until there is room.
        queue: ByteSize = ByteSize(32 * MIB), ByteSize(MIB)..=ByteSize(TIB);
        /// The longest line of an event on a connection. Longer: the line is skipped, and counted.
        max_line: ByteSize = ByteSize(256 * KIB), ByteSize(KIB)..=ByteSize(16 * MIB);
        /// Lines of a connection per second; one of several KiB counts as so many. Reached: the connection is not read for
        /// a while, and the helper waits.
        rate: u64 = 5_000, 1..=10_000_000;
        /// Lines of a connection that are no events. Reached: it is dropped, and counted as `malformed`.
        malformed: u64 = 100, 1..=1_000_000;
        /// How long a connection may take to say who it is. Reached: it is dropped, and counted as `handshake-timeout`.
        handshake_timeout: Span = Span::seconds(10), Span(100_000_000)..=Span::seconds(10 * MINUTE);
        /// How long a connection may be without a whole line; a helper has its heartbeats. Reached: it is dropped, and
        /// counted as `silent`, or as `slow` if a part of a line has come.
        idle_timeout: Span = Span::seconds(5 * MINUTE), Span(100_000_000)..=Span::seconds(DAY);
        /// How long a connection may leave what is sent to it unread. Reached: it is dropped, and counted as `not-reading`.
        write_timeout: Span = Span::seconds(10), Span(100_000_000)..=Span::seconds(10 * MINUTE);
        /// Hosts whose place is remembered. Reached: the one that was silent longest is forgotten; what it has not been told
        /// to be stored it sends again.
        hosts: u64 = 16_384, 1..=1_000_000;
        /// How long what came is gathered before it is written to the disk at once.
        commit: Span = Span(100_000_000), Span(1_000_000)..=Span::seconds(10);
        /// How often a helper is told what is stored.
        acknowledge: Span = Span(500_000_000), Span(100_000_000)..=Span::seconds(MINUTE);
        /// How long the disk may take. Reached, or the disk refuses: events go to the join alone and nothing is acknowledged;
        /// when the disk takes more, helpers are told to send again.
        disk_timeout: Span = Span::seconds(5), Span(100_000_000)..=Span::seconds(10 * MINUTE);
        /// The journal's size on the disk. Reached: its oldest part is deleted, and counted.
        journal: ByteSize = ByteSize(GIB), ByteSize(MIB)..=ByteSize(TIB);
        /// How long the journal keeps what came, but at least `join.look_back`. Processes that run for longer are not known
        /// after a restart. Reached: that part is deleted, and counted.
        journal_time: Span = Span::seconds(DAY), Span::seconds(1)..=Span::seconds(365 * DAY);
    }

    /// How an upload is joined to its process and its files.
    join: Join {
        /// How long before an upload a file event still counts as its staging.
        look_back: Span = Span::seconds(HOUR), Span::seconds(1)..=Span::seconds(30 * DAY);
        /// How far the endpoint's connection event may be before the start of the flow or after its end.
        connection_window: Span = Span::seconds(10), Span(1_000_000)..=Span::seconds(HOUR);
        /// How long after the end of the upload a file event or a connection may still be stamped,
        /// as clocks and logging lag.
        grace: Span = Span::seconds(5), Span(0)..=Span::seconds(HOUR);
        /// Addresses behind which several hosts stand: translating gateways and proxies that the capture sees from their
        /// outer side. A flow of one of them is joined to the one process that opened a connection to the same destination
        /// and port, or to the proxy, at that time, with low confidence; where several did, to none.
        translators: Vec<IpNet> = Vec::new(), TRANSLATORS;
        /// Facts at the beginning of a replay that wait until the clocks of all hosts in them are learnt. 0 waits for none;
        /// beyond, clocks are learnt as flows come.
        learn: u64 = 16_384, 0..=10_000_000;
        /// Live: how long an upload that was delivered without its process is corrected (the same `event.id`), if the answer
        /// still comes. 0 corrects none.
        correct: Span = Span::seconds(5 * MINUTE), Span(0)..=Span::seconds(DAY);
        /// Live: uploads that may still be corrected. Reached: the oldest stays as it was delivered, and is counted.
        max_correctable: u64 = 1_000, 1..=1_000_000;
        /// By how many percent an encoded upload may exceed the size of its file.
        size_overhead: u64 = 3, 0..=100;
    }

    /// What raises an alert (MITRE ATT&CK analytic AN0423, whose tunable elements keep their names here).
    detect: Detect {
        /// The protocols whose uploads are judged.
        unencrypted_protocols: Vec<String> = owned(&KNOWN_PROTOCOLS), PROTOCOLS;
        /// The volume that is suspicious by itself: from this size on, an unexpected process or a rare destination raises an
        /// alert also where no staged file is known. Where one is known, the size does not matter.
        data_transfer_size_threshold: ByteSize = ByteSize(1_000_000), ByteSize(0)..=ByteSize(TIB);
        /// Programs whose children are never expected to upload: file names, upper and lower case alike.
        /// The default is programs that open documents.
        parent_process_denylist: Vec<String> = owned(&DOCUMENT_PROGRAMS), PROGRAMS;
        /// Processes that are expected to upload. In `image`, `*` stands for any characters, also backslashes,
        /// upper and lower case are the same, and a bracket or brace that means itself stands in brackets.
        /// `protocols` and `destinations` narrow the expectation; left out or empty, they mean all. For example:
        /// ```toml
        /// expected_processes = [
        ///     { image = 'C:\Program Files\Backup\*.exe', protocols = ["ftp"], destinations = ["partner.example"] },
        ///     { image = 'C:\ProgramData\[{]5F0C[}]\sync.exe' },
        /// ]
        /// ```
        expected_processes: Vec<ExpectedProcess> = Vec::new(), PROCESSES;
        /// Destinations to which any process may upload. A domain stands for itself and all below it.
        approved_destinations: Vec<Destination> = Vec::new(), DESTINATIONS;
        /// Whether a destination that is not approved is rare whatever is known of it.
        approved_only: bool = false, ();
        /// A destination is rare while fewer home hosts than this have uploaded to it, and it is younger than
        /// `rare_younger_than`. 0 calls none rare.
        rare_below_hosts: u64 = 3, 0..=1_000_000;
        /// How long after the first upload to it that was no alert a destination may still be rare.
        rare_younger_than: Span = Span::seconds(30 * DAY), Span(0)..=Span::seconds(3_650 * DAY);
        /// How far back hosts and users count that uploaded to a destination.
        prevalence_window: Span = Span::seconds(30 * DAY), Span::seconds(HOUR)..=Span::seconds(3_650 * DAY);
        /// Days (UTC) on which a process must have used a protocol, or reached a destination, to be expected to. What was an
        /// alert does not count.
        learned_days: u64 = 5, 1..=3_650;
        /// Hosts on which a process must have used a protocol to be expected to.
        learned_hosts: u64 = 3, 1..=1_000_000;
        /// Programs that are often misused to upload: file names, upper and lower case alike. For them, only a destination
        /// is learned, on `learned_days` days and `learned_hosts` hosts, and only with a parent that is known as well.
        dual_use_programs: Vec<String> = owned(&DUAL_USE_PROGRAMS), PROGRAMS;
        /// Programs that pack: what they write and is an archive counts as made to leave. File names, upper and lower case alike.
        archive_tools: Vec<String> = owned(&ARCHIVE_TOOLS), PROGRAMS;
        /// Where data is put that is to leave: patterns of full paths, as in `expected_processes`.
        staging_paths: Vec<PathPattern> = patterns(&STAGING_PATHS), PATHS;
        /// Files that are worth more than others: patterns of full paths. The default names stores of passwords and keys.
        sensitive_paths: Vec<PathPattern> = patterns(&SENSITIVE_PATHS), PATHS;
        /// Files that were read before an upload, by its process or those around it, from which on they are many; 32 at most
        /// are linked.
        many_reads: u64 = 20, 1..=32;
        /// Folders in which they must lie.
        many_folders: u64 = 3, 1..=32;
        /// How long a baseline that is kept (`store.path`) learns, from its first upload on. Meanwhile, verdicts that rest on
        /// what it does not know yet are held: their severity is low, and they teach. Hard rules hold at once: data
        /// that is linked by content or by name and size and is an archive or was made ready to leave, a denied parent, a
        /// dual-use program with staged data.
        learning: Span = Span::seconds(14 * DAY), Span(0)..=Span::seconds(3_650 * DAY);
        /// Uploads of a host to one destination within this time add up: together they reach `data_transfer_size_threshold` as
        /// one large upload does.
        volume_window: Span = Span::seconds(7 * DAY), Span::seconds(HOUR)..=Span::seconds(30 * DAY);
        /// How many times larger than 99 of 100 uploads of its host, or days of it, an upload or a day must be to be unusual.
        unusual_factor: u64 = 3, 1..=1_000;
        /// A smaller upload is never unusually large.
        unusual_size: ByteSize = ByteSize(100_000), ByteSize(0)..=ByteSize(TIB);
        /// Uploads of a host, or of a process, from which on it is known what sizes are usual.
        mature_uploads: u64 = 50, 1..=1_000_000;
        /// Days of a host from which on it is known what days and what hours are usual.
        mature_days: u64 = 10, 1..=3_650;
        /// Hosts whose volumes are remembered, and as many users, processes, destinations, and pairs of a host and a destination:
        /// about 2 KiB each, 30 KiB for those that send every hour. Reached: the one that sent nothing longest is
        /// forgotten, and counted.
        volumes: u64 = 16_384, 1..=10_000_000;
        /// Alerts of the same host, process and destination that begin within this time are one story: told once, with counts.
        /// 0 tells each.
        story: Span = Span::seconds(HOUR), Span(0)..=Span::seconds(DAY);
        /// Stories that may be open at a time. Reached: the oldest is told as it is, and counted.
        max_stories: u64 = 10_000, 1..=1_000_000;
        /// Destinations that are remembered, less than 512 bytes each for most. Reached: the one that was not uploaded to
        /// longest is forgotten, is new when it comes again, and is counted.
        destinations: u64 = 262_144, 1..=10_000_000;
        /// Processes that are remembered, and as many pairs of a process and a protocol. Reached: as with `destinations`.
        processes: u64 = 65_536, 1..=10_000_000;
        /// Pairs of a process and a destination that are remembered, and as many of a parent and a process. Reached: as with
        /// `destinations`.
        pairs: u64 = 262_144, 1..=10_000_000;
        /// Hosts, and users, that are remembered of each, at least. Reached: the one that came least recently is forgotten.
        visitors: u64 = 16, 1..=65_536;
        /// In a replay, how long an upload waits, by the time of the packets, to be judged with the hosts known that uploaded to
        /// its destination after it.
        hindsight: Span = Span::seconds(DAY), Span(0)..=Span::seconds(3_650 * DAY);
        /// Uploads that may wait so. Reached: the oldest is judged with what is known by then, and counted.
        max_pending: u64 = 10_000, 1..=10_000_000;
        /// How long an exception may hold, from when it is made or renewed. Longer: it is refused.
        longest_exception: Span = Span::seconds(365 * DAY), Span::seconds(DAY)..=Span::seconds(3_650 * DAY);
        /// Exceptions that there may be, removed ones aside. Reached: a further one is refused.
        max_exceptions: u64 = 10_000, 1..=100_000;
    }

    /// What each alert says is to be done.
    playbook: Playbook {
        /// The steps, in their order: at most 20, each of 400 bytes and 8 placeholders at most. A placeholder is the alert's own
        /// fact: `{host}`, `{address}`, `{process}`, `{pid}`, `{user}`, `{destination}`, `{file}`, `{sha256}`, `{alert_id}`,
        /// `{severity}`, `{protocol}`, `{bytes}`, and `{exception_command}`, the command that would make an exception of it.
        /// What stands between backticks is a command: there, facts are quoted for a shell. `{{` is a brace.
        steps: Steps = Steps(owned(&STEPS)), ();
    }

    /// Where alerts, uploads and what is normal here are kept, with `outfall run`; `outfall replay` needs `--state`.
    store: Store {
        /// The file, an SQLite database; if the path is relative, then to this file's directory. The sensor has to be able
        /// to write in its directory: for a service, "/var/lib/outfall/store/outfall.db". Empty: nothing is kept, and
        /// what is normal is forgotten at the end. If the file cannot be used at the start, capture goes on and alerts are
        /// delivered from memory, which is logged, alerted and counted.
        path: String = "outfall.db".to_owned(), DATABASE;
        /// How long an alert or an upload is kept. Reached: it is deleted, delivered or not, and counted.
        max_age: Span = Span::seconds(30 * DAY), Span::seconds(MINUTE)..=Span::seconds(3_650 * DAY);
        /// What the documents of alerts may take; the file is somewhat larger. Reached: the oldest alert is deleted,
        /// delivered or not, and counted. In memory, as the file cannot be used, it is at most 64 MiB.
        max_bytes: ByteSize = ByteSize(GIB), ByteSize(64 * KIB)..=ByteSize(TIB);
        /// Uploads that are kept, about 400 bytes each. Reached: the oldest is deleted, and counted.
        max_uploads: u64 = 1_000_000, 1_000..=1_000_000_000;
        /// How long a destination, a process or a pair that is not seen any more stays known, by packet time. Reached:
        /// it is deleted at the next start, is new when it comes again, and is counted.
        baseline_age: Span = Span::seconds(365 * DAY), Span::seconds(DAY)..=Span::seconds(3_650 * DAY);
        /// What may wait to be written. Reached, as the disk is too slow or refuses: the oldest alerts are neither stored
        /// nor delivered, the oldest uploads are not stored, and both are counted.
        queue: u64 = 4_096, 1..=1_000_000;
    }

    /// Evidence of alerts, as `outfall evidence` writes it, and `outfall run` by itself where it has a directory.
    evidence: Evidence {
        /// Where `outfall run` writes the evidence of each alert by itself, a folder for each; if the path is relative,
        /// then to this file's directory. The sensor has to be able to write there. Empty: it writes none, and keeps no
        /// packets.
        directory: String = String::new(), NEW_OR_NONE;
        /// Of which alerts: `low`, `medium`, `high` or `critical`, and those above.
        minimum_severity: String = "low".to_owned(), SEVERITY;
        /// What may lie in the directory. Reached: the oldest evidence is deleted, and counted.
        max_disk: ByteSize = ByteSize(GIB), ByteSize(MIB)..=ByteSize(TIB);
        /// What stays free on its disk. Reached: the oldest evidence is deleted; when there is none left, none is written,
        /// and both are counted.
        min_free: ByteSize = ByteSize(GIB), ByteSize(0)..=ByteSize(TIB);
        /// Alerts that may wait for their evidence to be written. Reached: a further one gets none, and is counted.
        queue: u64 = 16, 1..=10_000;
        /// For packets that an alert may want, with a directory, all capture threads together; each takes at least 256 KiB.
        /// Reached: the connection that was silent the longest is forgotten, and counted.
        memory: ByteSize = ByteSize(64 * MIB), ByteSize(MIB)..=ByteSize(TIB);
        /// Of it, packets of one upload on a connection, at most half of all. Reached: half of it stays with the first ones,
        /// half goes to the most recent ones, and the manifest says how many between are gone.
        per_connection: ByteSize = ByteSize(MIB), ByteSize(8 * KIB)..=ByteSize(TIB);
        /// Events of an alert's host that are told anew in it. Reached: the earliest file events are left out, then the
        /// earliest connections, which the manifest says.
        max_events: u64 = 10_000, 1..=10_000_000;
        /// Put the uploaded files themselves into the evidence, if they were seen whole and hashed.
        carve: bool = false, ();
        /// Bytes of them for an alert. Reached: a further one is left out, which the manifest says.
        max_carved: ByteSize = ByteSize(64 * MIB), ByteSize(KIB)..=ByteSize(GIB);
        /// Packets of an alert. Reached: later packets are left out, which the manifest and the command say.
        max_packets: ByteSize = ByteSize(256 * MIB), ByteSize(64 * KIB)..=ByteSize(TIB);
    }

    /// Sending alerts on, with `outfall run`.
    deliver: Deliver {
        /// Syslog collectors, each with an `address` (an IP address or a name, and a port), a `transport` (`tls`, the
        /// default, `tcp` or `udp`), a `format` (`ecs`, the default, `ocsf`, `cef` or `text`), the `minimum_severity` of
        /// alerts (`low`, `medium`, `high`, `critical`; all, if left out), a `facility` (default `local0`), and `max_bytes`
        /// of a message (480 to 65000, default 8192). TLS needs a `ca`, and takes a `server_name`, a `certificate` and its
        /// `key`. For example:
        /// ```toml
        /// [[deliver.syslog]]
        /// address = "192.0.2.7:6514"
        /// ca = "/etc/outfall/collector-ca.pem"
        /// ```
        syslog: Vec<SyslogCollector> = Vec::new(), COLLECTORS;
        /// Files, each with a `path` (absolute), a `format` and a `minimum_severity` as above, and when a new one is begun:
        /// at `max_bytes` (default 100 MiB) or after `max_age` (default 1 d). `keep` old ones are kept (default 10;
        /// reached: the oldest is deleted), compressed if `gzip` is true. For example:
        /// ```toml
        /// [[deliver.file]]
        /// path = "/var/log/outfall/alerts.json"
        /// ```
        file: Vec<AlertFile> = Vec::new(), FILES;
        /// The name of this sensor in what it sends. Empty: the name of its machine.
        sensor: String = String::new(), SENSOR;
        /// The private enterprise number in the id of syslog's structured data, `outfall@32473`. The default is the number
        /// that RFC 5612 keeps for examples; a site that has one of its own (IANA gives them out) names that.
        enterprise: u64 = 32_473, 1..=4_294_967_295;
        /// How long a connection may take to be made, and a message to be taken. Reached: the connection is made anew.
        timeout: Span = Span::seconds(10), Span(100_000_000)..=Span::seconds(10 * MINUTE);
        /// The longest pause between two tries; pauses begin at half a second and double.
        longest_pause: Span = Span::seconds(MINUTE), Span(100_000_000)..=Span::seconds(HOUR);
        /// TCP and TLS: how long nothing must have been sent before a connection is ended, to see that the collector has
        /// read it all, as syslog has no answers. Where it breaks earlier, the messages are sent again.
        confirm: Span = Span::seconds(2), Span(10_000_000)..=Span::seconds(10 * MINUTE);
        /// How long the end of the program waits for deliveries. Reached: the rest is sent after the next start.
        drain: Span = Span::seconds(5), Span(0)..=Span::seconds(10 * MINUTE);
    }

    /// Telling how the sensor fares, with `outfall run`: over HTTP, `/metrics` for Prometheus, `/healthz` and `/readyz`.
    metrics: Metrics {
        /// The address to listen on. There is neither a login nor encryption: who reaches it can read all of it. One that
        /// is taken does not keep the sensor from starting; the log says so. Empty: none.
        listen: String = "127.0.0.1:9469".to_owned(), LISTEN;
        /// Connections at a time. Reached: the oldest is dropped, and counted.
        connections: u64 = 16, 1..=1_000;
        /// How long a connection may take, from its beginning to the end of the answer. Reached: it is dropped, and counted.
        timeout: Span = Span::seconds(5), Span(100_000_000)..=Span::seconds(10 * MINUTE);
    }

    /// Capturing live, with `outfall run`. What of it counts per ring counts for each interface and each thread.
    capture: Capture {
        /// The interfaces to capture on; `--interface` on the command line takes their place.
        interfaces: Vec<String> = Vec::new(), INTERFACES;
        /// Only packets that this filter lets through, in libpcap's language (pcap-filter), reach the sensor. Empty: all.
        filter: String = String::new(), FILTER;
        /// Bytes of a packet that are captured. Longer: the rest of the packet is not seen, and counted.
        snap_length: ByteSize = ByteSize(256 * KIB), ByteSize(64)..=ByteSize(256 * KIB);
        /// Whether packets are captured that are not meant for this machine, as on a tap or a mirror port.
        promiscuous: bool = true, ();
        /// Memory of a ring, in which the kernel puts packets. Reached: the kernel drops packets, and counts them.
        ring: ByteSize = ByteSize(64 * MIB), ByteSize(2 * MIB)..=ByteSize(1_024 * MIB);
        /// How long a packet waits in the ring for others before it is read.
        block_timeout: Span = Span(20_000_000), Span(1_000_000)..=Span::seconds(1);
        /// Threads. The kernel spreads packets over them by the pair of hosts; what is in a tunnel goes to the first.
        threads: u64 = 1, 1..=64;
        /// How many times an Ethernet interface that several threads share may come back as another one (a driver was loaded
        /// anew): each attempt to take it up takes a socket of each thread, which must be opened at the start. Reached: the
        /// sensor writes everything and ends with status 2, to be started anew.
        spare_sockets: u64 = 4, 0..=64;
        /// Whether each thread keeps to a processor of its own, the first thread to the first that the program may use.
        pin: bool = false, ();
        /// Whether an adapter's own clock gives the time of packets, where the adapter keeps it with the system's.
        adapter_time: bool = true, ();
        /// What threads have found, and is not joined yet. Three quarters of it reached: flow records and names from DNS
        /// are dropped. Reached: uploads are dropped. Both are counted; capture never waits.
        facts: u64 = 65_536, 64..=10_000_000;
        /// What may wait for `join.grace` to pass. Reached: the oldest is joined and judged with what is known by then.
        waiting: u64 = 100_000, 1..=10_000_000;
        /// How often the counters are written to the log.
        report: Span = Span::seconds(MINUTE), Span::seconds(1)..=Span::seconds(DAY);
        /// Packets lost, of a million, from which on a second counts as lossy: the sensor raises an alert on itself, and
        /// alerts on uploads of that time say so. 0 minds any loss.
        loss_per_million: u64 = 1_000, 0..=1_000_000;
        /// Bytes that streams lack though their receivers acknowledged them, of a million of all that were read, from which
        /// on ten seconds count as lacking: what comes to the sensor is not all, as from a mirror port that is to carry more
        /// than it can. It raises an alert on itself, and alerts on uploads of that time say so. Not judged while packets are
        /// cut by `snap_length`.
        gaps_per_million: u64 = 10_000, 0..=1_000_000;
        /// Gaps in ten seconds, below which they tell of no share.
        gaps_least: u64 = 20, 1..=1_000_000;
        /// How far reading may lag behind the arrival of packets, beyond the four times `block_timeout` for which one may have
        /// to wait on an idle machine, too. Reached: the least valuable work is given up, one kind after the other. 0 never
        /// gives up any.
        shed_lag: Span = Span(500_000_000), Span(0)..=Span::seconds(MINUTE);
        /// How long no packet may be lost and no lag be reached before the kind of work that was given up last is taken
        /// up again.
        shed_hold: Span = Span::seconds(10), Span::seconds(1)..=Span::seconds(HOUR);
        /// How long a connection may be silent while idle ones are given up. One on which an upload is under way or waits for
        /// its answer, and FTP's control connections, may be silent for `flow.idle_timeout` all the same.
        shed_idle_timeout: Span = Span::seconds(30), Span::seconds(1)..=Span::seconds(HOUR);
        /// Whether the kernel drops packets that are not needed, and only counts them: of encrypted connections, once they
        /// are recognised, and of long downloads, up to their end (in HTTP/1 that of the body, or of a chunk). It takes
        /// the rights of root or CAP_BPF at the start, and no `filter`.
        kernel_relief: bool = false, ();
        /// Bytes that a connection has carried before its packets are dropped in the kernel, and that a download has still to
        /// bring: to ask the kernel for it costs as much as reading some tens of packets.
        relief_after: ByteSize = ByteSize(100_000), ByteSize(0)..=ByteSize(TIB);
        /// Directions of connections for which a thread's packets may be dropped in the kernel at a time; one takes about
        /// 128 bytes of the kernel's memory. Reached: packets of further ones are read as before, and it is counted.
        relief_flows: u64 = 65_536, 2..=4_194_304;
        /// The user to become once the interfaces are open, if the program was started as root. Empty: none.
        user: String = String::new(), USER;
        /// Whether, once the interfaces are open, the program gives up every capability and every right to open files
        /// and sockets that it does not need.
        sandbox: bool = true, ();
    }

    /// Reading captures from files.
    replay: Replay {
        /// Threads that read packets. The records are the same, byte for byte, whatever their number.
        workers: u64 = 1, 1..=16;
    }
}

impl Network {
    /// Whether a name that a proxy was asked for is one of ours.
    pub fn is_home_name(&self, name: &str) -> bool {
        !name.contains('.') || self.home_domains.iter().any(|domain| domain.matches(None, Some(name)))
    }

    /// Whether the address is in a home network.
    pub fn is_home(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.home.iter().any(|network| network.contains(&ip))
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const HOME_DOMAINS: [&str; 3] = ["home.arpa", "internal", "local"];

const HOME: [IpNet; 6] = [
    v4([10, 0, 0, 0], 8),
    v4([172, 16, 0, 0], 12),
    v4([192, 168, 0, 0], 16),
    v6(0xfc00, 7),
    v4([169, 254, 0, 0], 16),
    v6(0xfe80, 10),
];

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

const fn v6(first: u16, prefix: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0), prefix))
}

const KNOWN_PROTOCOLS: [&str; 3] = ["ftp", "http", "websocket"];

fn patterns(texts: &[&str]) -> Vec<PathPattern> {
    // They are ours, and a test reads each of them.
    texts.iter().filter_map(|text| PathPattern::new(text).ok()).collect()
}

const STEPS: [&str; 3] = [
    "contain: take {host} ({address}) off the network, end {process} (pid {pid}), block {destination}",
    "preserve: keep {file} (SHA-256 {sha256}) and the packets of alert {alert_id}, before anything is cleaned up",
    "ask the owner: did {user} mean to send this? If so, have it justified: {exception_command}",
];

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

const NETWORKS: List<IpNet> = List {
    item: "a network such as \"10.0.0.0/8\"",
    may_be_empty: false,
    read: |node, expected, key, refused| read_text(node, expected, key, refused, parse_network),
};

const TRANSLATORS: List<IpNet> = List {
    item: "a network such as \"203.0.113.7/32\"",
    may_be_empty: true,
    read: |node, expected, key, refused| read_text(node, expected, key, refused, parse_network),
};

pub(super) const PROTOCOLS: List<String> = List {
    item: "\"ftp\", \"http\" or \"websocket\"",
    may_be_empty: false,
    read: |node, expected, key, refused| {
        read_text(node, expected, key, refused, |text| {
            let known = KNOWN_PROTOCOLS.iter().find(|name| name.eq_ignore_ascii_case(text))?;
            Some((*known).to_owned())
        })
    },
};

pub(super) const DESTINATIONS: List<Destination> = List {
    item: DESTINATION,
    may_be_empty: true,
    read: |node, expected, key, refused| read_text(node, expected, key, refused, |text| text.parse().ok()),
};

const PROGRAMS: List<String> = List {
    item: "the file name of a program such as \"winword.exe\"",
    may_be_empty: true,
    read: |node, expected, key, refused| {
        read_text(node, expected, key, refused, |text| {
            let is_name = !text.trim().is_empty() && !text.contains(['\\', '/', '*']);
            is_name.then(|| text.to_owned())
        })
    },
};

/// IFNAMSIZ, less the final zero.
const LONGEST_INTERFACE: usize = 15;

const INTERFACES: List<String> = List {
    item: "the name of an interface such as \"eth0\"",
    may_be_empty: true,
    read: |node, expected, key, refused| {
        read_text(node, expected, key, refused, |text| is_interface(text).then(|| text.to_owned()))
    },
};

/// Whether an interface can have this name.
pub fn is_interface(name: &str) -> bool {
    let allowed = |c: char| !c.is_whitespace() && !c.is_control() && c != '/';
    (1..=LONGEST_INTERFACE).contains(&name.len()) && name != "." && name != ".." && name.chars().all(allowed)
}

const FILTER: Text = Text { what: "a filter such as \"not port 22\", or \"\"", fits: |text| !text.contains('\0') };

const USER: Text = Text {
    what: "the name of a user such as \"outfall\", or \"\"",
    fits: |text| !text.contains(['\0', ':', '/']) && !text.contains(char::is_whitespace),
};

const ADDRESSES: List<String> = List {
    item: "an address and a port such as \"0.0.0.0:5515\"",
    may_be_empty: true,
    read: |node, expected, key, refused| {
        read_text(node, expected, key, refused, |text| text.parse::<SocketAddr>().ok().map(|_| text.to_owned()))
    },
};

const LISTEN: Text = Text {
    what: "an address and a port such as \"127.0.0.1:9469\", or \"\"",
    fits: |text| text.is_empty() || text.parse::<SocketAddr>().is_ok(),
};

const PLACES: List<String> = List {
    item: "an absolute path, or a loopback address and a port such as \"127.0.0.1:5514\"",
    may_be_empty: true,
    read: |node, expected, key, refused| {
        read_text(node, expected, key, refused, |text| {
            let loopback = text.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback());
            // A longer path fits no socket's address.
            let path = text.starts_with('/') && text.len() < 108 && !text.contains('\0');
            (loopback || path).then(|| text.to_owned())
        })
    },
};

const DIRECTORY: Text =
    Text { what: "a directory such as \"/var/lib/outfall\"", fits: |text| !text.is_empty() && !text.contains('\0') };

const NEW_OR_NONE: Text =
    Text { what: "a directory such as \"/var/lib/outfall/evidence\", or \"\"", fits: |text| !text.contains('\0') };

const SEVERITY: Text = Text {
    what: "\"low\", \"medium\", \"high\" or \"critical\"",
    fits: |text| SEVERITIES.iter().any(|(name, _)| *name == text),
};

const PROCESSES: List<ExpectedProcess> =
    List { item: "a table with an `image`", may_be_empty: true, read: ExpectedProcess::read };

const PATHS: List<PathPattern> = List {
    item: r"a pattern of full paths such as '*\Finance\*'",
    may_be_empty: true,
    read: |node, expected, key, refused| {
        read_text(node, expected, key, refused, |text| {
            (!text.trim().is_empty()).then(|| PathPattern::new(text).ok()).flatten()
        })
    },
};

const DATABASE: Text = Text {
    what: "the path of a file such as \"/var/lib/outfall/store/outfall.db\", or \"\"",
    fits: |text| !text.ends_with(['/', '.']) && !text.contains('\0'),
};

const MMDB: Text = Text {
    what: "the path of a file such as \"/var/lib/GeoIP/GeoLite2-ASN.mmdb\", or \"\"",
    fits: |text| !text.ends_with('/') && !text.contains('\0'),
};

const FILES: List<AlertFile> = List { item: "a table with a `path`", may_be_empty: true, read: AlertFile::read };

const SENSOR: Text = Text {
    what: "a name of at most 64 printable characters of ASCII without spaces, such as \"tap-berlin-1\", or \"\"",
    fits: |text| text.len() <= 64 && text.chars().all(|c| c.is_ascii_graphic()),
};

const COLLECTORS: List<SyslogCollector> =
    List { item: "a table with an `address`", may_be_empty: true, read: SyslogCollector::read };
