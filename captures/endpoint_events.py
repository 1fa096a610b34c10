"""Writes a story's endpoint.jsonl (endpoint events, version 1) and expected.json.

What a Windows host would have reported is written by hand in each story's story.py: true paths, a
plausible process tree, plausible times. This module fills in what only the recording knows: the
five-tuples, the packet times, the sizes and hashes of the files that were really sent.
"""

import hashlib
import ipaddress
import json
import os
import random
import struct
import sys
import uuid

SECOND = 1_000_000_000
TICK = 100  # Windows counts time in units of 100 ns

SYSTEM = ("NT AUTHORITY\\SYSTEM", "S-1-5-18")
LOCAL_SERVICE = ("NT AUTHORITY\\LOCAL SERVICE", "S-1-5-19")
WINDOWS = "Microsoft Windows"
SYSTEM32 = "C:\\Windows\\System32\\"


def name_of(path):
    return path.rsplit("\\", 1)[-1]


# -- the capture ------------------------------------------------------------------------------------


class Connection:
    """A TCP connection of the capture: who opened it, when, and the payload bytes each way."""

    def __init__(self, opener, listener, ts, isn):
        self.opener, self.listener, self.opened = opener, listener, ts
        self.accepted = self.established = self.first_data = None
        self.last = ts
        self.isn = {opener: isn}
        self.end = {opener: 0, listener: 0}

    def add(self, sender, seq, syn, payload, ts):
        self.last = ts
        if syn and sender == self.listener:
            self.isn[sender] = seq
            self.accepted = self.accepted or ts
        elif self.accepted and self.established is None and sender == self.opener:
            self.established = ts
        if payload:
            self.first_data = self.first_data or ts
            offset = (seq - self.isn[sender] - 1) % 2**32
            self.end[sender] = max(self.end[sender], offset + payload)

    def sides(self, home):
        """(client end, server end), by which address is at home."""
        pair = (self.opener, self.listener)
        return pair if home(self.opener[0]) else pair[::-1]


def packets(path):
    with open(path, "rb") as file:
        data = file.read()
    scale = {b"\xd4\xc3\xb2\xa1": 1000, b"\x4d\x3c\xb2\xa1": 1}[data[:4]]
    at = 24
    while at + 16 <= len(data):
        seconds, fraction, held, _ = struct.unpack_from("<IIII", data, at)
        yield seconds * SECOND + fraction * scale, data[at + 16 : at + 16 + held]
        at += 16 + held


def segments(path):
    for ts, frame in packets(path):
        kind, ip = struct.unpack_from("!H", frame, 12)[0], frame[14:]
        if kind == 0x0800 and ip[9] == 6:
            head, total = (ip[0] & 15) * 4, struct.unpack_from("!H", ip, 2)[0]
            source, target = ip[12:16], ip[16:20]
        elif kind == 0x86DD and ip[6] == 6:
            head, total = 40, 40 + struct.unpack_from("!H", ip, 4)[0]
            source, target = ip[8:24], ip[24:40]
        else:
            continue
        sport, dport, seq = struct.unpack_from("!HHI", ip, head)
        payload = total - head - (ip[head + 12] >> 4) * 4
        source, target = (str(ipaddress.ip_address(address)) for address in (source, target))
        yield ts, (source, sport), (target, dport), seq, ip[head + 13], payload


def read_connections(path):
    found, live = [], {}
    for ts, source, target, seq, flags, payload in segments(path):
        key = frozenset((source, target))
        if flags & 0x12 == 0x02 and (key not in live or live[key].isn.get(source) != seq):
            live[key] = Connection(source, target, ts, seq)
            found.append(live[key])
        if key in live:
            live[key].add(source, seq, bool(flags & 2), payload, ts)
    return found


# -- the story --------------------------------------------------------------------------------------


class Story:
    def __init__(self):
        self.folder, self.work = sys.argv[1], sys.argv[2]
        self.random = random.Random(os.path.basename(self.folder))
        self.all = read_connections(os.path.join(self.folder, "capture.pcap"))
        self.zero = self.all[0].opened
        self.hosts, self.uploads, self.alerts = [], [], []

    @staticmethod
    def home(address):
        address = ipaddress.ip_address(address)
        return address in ipaddress.ip_network("10.20.0.0/24" if address.version == 4 else "fd00:20::/64")

    def connections(self, server_port=None, client=None, sent=None):
        """The connections with this server port, from this client, on which it sent this many bytes."""
        found = []
        for connection in self.all:
            near, far = connection.sides(self.home)
            if server_port in (None, far[1]) and client in (None, near[0]) and sent in (None, connection.end[near]):
                found.append(connection)
        return found

    def connection(self, **wanted):
        found = self.connections(**wanted)
        if len(found) != 1:
            raise SystemExit(f"{len(found)} connections match {wanted}, not 1")
        return found[0]

    def ftp_data(self, **wanted):
        """The FTP data connections on which the client sent bytes."""
        return [c for c in self.connections(**wanted) if c.sides(self.home)[1][1] != 21 and c.end[c.sides(self.home)[0]]]

    def file(self, name):
        """Size and SHA-256 of a file of the work folder."""
        with open(os.path.join(self.work, name), "rb") as file:
            data = file.read()
        return len(data), hashlib.sha256(data).hexdigest()

    def text(self, name):
        with open(os.path.join(self.work, name), encoding="utf-8") as file:
            return file.read()

    def host(self, *args, **kwargs):
        host = Host(self, *args, **kwargs)
        self.hosts.append(host)
        return host

    def upload(self, connection, protocol, size, process=None, **more):
        near, far = connection.sides(self.home)
        record = {
            "network.protocol": protocol,
            "source.ip": near[0],
            "source.port": near[1],
            "destination.ip": far[0],
            "destination.port": far[1],
        }
        record.update({key.replace("__", "."): value for key, value in more.items()})
        record["outfall.upload.bytes"] = size
        record.setdefault("outfall.upload.state", "complete")
        if process:
            record["process.name"] = process.name
            record["process.pid"] = process.pid
        self.uploads.append((connection.first_data, record))

    def ftp_upload(self, connection, name, size, process=None, command="STOR", **more):
        if connection.end[connection.sides(self.home)[0]] != size and more.get("outfall__upload__state") != "partial":
            raise SystemExit(f"{name}: {connection.end} bytes on the wire, {size} in the file")
        self.upload(connection, "ftp", size, process, outfall__ftp__command=command, **({"file__name": name} if name else {}), **more)

    def alert(self, connection, reasons, severity, files=(), process=None):
        near, far = connection.sides(self.home)
        record = {"rule.id": "AN0423", "source.ip": near[0], "destination.ip": far[0]}
        if process:
            record["process.name"] = process.name
            record["process.parent.name"] = process.parent.name
        record["reasons"] = sorted(reasons)
        record["severity"] = severity
        record["files"] = [{"name": name, "process": packer and packer.name} for name, packer in files]
        self.alerts.append(record)

    def write(self, compare_alerts=True):
        if self.hosts:
            with open(os.path.join(self.folder, "endpoint.jsonl"), "w", encoding="utf-8", newline="\n") as out:
                for host in self.hosts:  # one host's lines after another's, each opened by its hello
                    for event in host.finished():
                        out.write(json.dumps(event, ensure_ascii=False) + "\n")
        uploads = [record for _, record in sorted(self.uploads, key=lambda pair: pair[0])]
        with open(os.path.join(self.folder, "expected.json"), "w", encoding="utf-8", newline="\n") as out:
            json.dump({"uploads": uploads, "alerts": self.alerts if compare_alerts else None}, out, indent=2)
            out.write("\n")


class Process:
    def __init__(self, pid, start, image, parent, user):
        self.pid, self.start, self.image, self.parent, self.user = pid, start, image, parent, user
        self.name = name_of(image)


class Host:
    """One Windows host. Times are in seconds, from the first SYN of the capture."""

    def __init__(self, story, name, ips, user, uptime=9_000, helper_since=2_400):
        self.story, self.events = story, []
        self.id = str(uuid.uuid5(uuid.NAMESPACE_DNS, name + ".fabrikam.example"))
        self.since = -helper_since
        number = story.random.randrange(1100, 1900)
        self.user = ("FABRIKAM\\" + user, f"S-1-5-21-1004336348-1177238915-682003330-{number}")
        self.profile = f"C:\\Users\\{user}\\"
        self.emit("hello", self.since, v=1, host={"id": self.id, "name": name, "domain": "fabrikam.example", "ips": ips},
                  boot=self.at(-uptime), helper="0.1.0")
        # What ran before the helper did comes from its snapshot of the process list.
        wininit = self.process("wininit.exe", "wininit.exe", None, -uptime + 4, pid=624, user=SYSTEM)
        self.services = self.process("services.exe", "C:\\Windows\\system32\\services.exe", wininit, -uptime + 5, pid=756, user=SYSTEM)
        logon = -uptime + 300
        userinit = Process(4412, None, SYSTEM32 + "userinit.exe", None, self.user)  # ended long ago: only its pid is left
        self.explorer = self.process("C:\\Windows\\explorer.exe", "C:\\Windows\\Explorer.EXE", userinit, logon + 2, pid=5028)

    def at(self, seconds):
        """Nanoseconds since the epoch, with a little jitter, on Windows' 100 ns grid."""
        jitter = self.story.random.randrange(400_000)
        return (self.story.zero + round(seconds * SECOND) + jitter) // TICK * TICK

    def emit(self, type_, ts, source="etw", **fields):
        if not isinstance(ts, int) or abs(ts) < SECOND:
            ts = self.at(ts)
        known = {key: value for key, value in fields.items() if value is not None}
        self.events.append({"type": type_, "source": source, "ts": ts, **known})
        return ts

    def process(self, image, command_line, parent, when, pid=None, user=None, signer=WINDOWS):
        """A process start; one from before the helper's own start is reported as its snapshot found it."""
        if "\\" not in image:
            image = SYSTEM32 + image
        user = user or (parent.user if parent else self.user)
        pid = pid or self.story.random.randrange(1500, 3300) * 4
        process = Process(pid, self.at(when), image, parent, user)
        snapshot = when < self.since
        ts = self.at(self.since + 0.02) if snapshot else process.start + self.story.random.randrange(200, 4_000) * TICK
        self.emit("process_start", ts, "poll" if snapshot else "etw", pid=pid, start=process.start,
                  ppid=parent.pid if parent else 540, parent_start=parent.start if parent else None, image=image,
                  command_line=command_line, user=user[0], sid=user[1], signer=signer)
        return process

    def end(self, process, when):
        """`when`: seconds, or a Connection after whose last packet the process goes."""
        ts = self.at((when.last - self.story.zero) / SECOND + 0.015) if isinstance(when, Connection) else self.at(when)
        self.emit("process_end", ts, pid=process.pid, start=process.start)

    def connect(self, process, connection):
        """The connection event, just after the handshake as this host saw it."""
        near, far = connection.sides(self.story.home)
        initiated = near == connection.opener
        seen = connection.accepted if initiated else connection.established
        ts = (seen + self.story.random.randrange(40_000, 180_000)) // TICK * TICK

        def text(end):
            return f"[{end[0]}]:{end[1]}" if ":" in end[0] else f"{end[0]}:{end[1]}"

        self.emit("connection", ts, pid=process.pid, start=process.start, protocol="tcp", local=text(near), remote=text(far),
                  initiated=initiated)

    def touch(self, process, op, path, when, size=None, sha256=None, new_path=None):
        """A file event; `when` is seconds, or a Connection before whose first payload byte it happened."""
        if isinstance(when, Connection):
            when = (when.first_data - self.story.zero) / SECOND - 0.0012
        self.emit("file", when, pid=process.pid, start=process.start, op=op, path=path, new_path=new_path, size=size, sha256=sha256)

    def finished(self):
        """The events in order, numbered, with a heartbeat a minute."""
        last = max(event["ts"] for event in self.events)
        first = self.at(self.since)
        minute = first + 60 * SECOND
        recent = self.story.zero - 120 * SECOND
        while minute < last + 60 * SECOND:
            if minute > recent:  # the older ones tell nothing here
                self.emit("heartbeat", minute // TICK * TICK, "etw", sent=0, dropped=0, sources=["etw", "poll"])
            minute += 60 * SECOND
        ordered = sorted(self.events, key=lambda event: event["ts"])
        hello = next(event for event in ordered if event["type"] == "hello")
        ordered.remove(hello)
        for seq, event in enumerate([hello, *ordered], 1):
            if event["type"] == "heartbeat":
                event["sent"] = seq - 1
            yield {"seq": seq, **event}
