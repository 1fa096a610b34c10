"""Checks a recorded story against its capture with tshark, which shares no code with what wrote it.

usage: verify.py STORY...

- every expected upload's bytes are what tshark counts in that connection (FTP) or reads as that
  request's body (HTTP);
- every connection event's five-tuple and direction is a connection of the capture, and its time is
  within it;
- a connection event exists for every upload of a story that has endpoint events;
- event sequence numbers have no hole, and every process that acts has started before.
"""

import collections
import json
import os
import subprocess
import sys

SECOND = 1_000_000_000


def tshark(capture, display, *fields, options=()):
    command = ["tshark", "-r", capture, "-Y", display, "-T", "fields", "-E", "separator=/t", "-E", "aggregator=,"]
    # Servers of a story listen on unusual ports too.
    command += ["-d", "tcp.port==8080,http", "-o", "http.dechunk_body:TRUE", *options]
    for field in fields:
        command += ["-e", field]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [line.split("\t") for line in lines]


def either(first, second):
    return (first or second).split(",")[0]


def connections(capture):
    """stream number -> (opener, listener, first time, last time, payload per sender)"""
    rows = tshark(capture, "tcp", "tcp.stream", "ip.src", "ipv6.src", "tcp.srcport", "ip.dst", "ipv6.dst", "tcp.dstport",
                  "tcp.len", "frame.time_epoch", "tcp.analysis.retransmission", "tcp.analysis.lost_segment")
    found = {}
    for stream, s4, s6, sport, d4, d6, dport, size, when, again, lost in rows:
        source, target = (either(s4, s6), int(sport)), (either(d4, d6), int(dport))
        seconds, _, fraction = when.partition(".")
        ts = int(seconds) * SECOND + int(fraction.ljust(9, "0")[:9])
        entry = found.setdefault(stream, [source, target, ts, ts, collections.Counter()])
        entry[3] = ts
        if lost:
            raise SystemExit(f"{capture}: a segment is missing in stream {stream}")
        if not again:
            entry[4][source] += int(size)
    return found


def http_bodies(capture):
    """(client, server) -> list of (method, body bytes) in order"""
    bodies = collections.defaultdict(list)
    rows = tshark(capture, "http.request", "ip.src", "ipv6.src", "tcp.srcport", "ip.dst", "ipv6.dst", "tcp.dstport",
                  "http.request.method", "http.content_length", "http.chunk_size")
    for s4, s6, sport, d4, d6, dport, methods, lengths, chunks in rows:
        key = ((either(s4, s6), int(sport)), (either(d4, d6), int(dport)))
        methods = methods.split(",")
        if chunks:
            bodies[key].append((methods[0], sum(int(size) for size in chunks.split(","))))
        elif lengths:
            bodies[key] += zip(methods, map(int, lengths.split(",")))
    return bodies


def http2_bodies(capture, *options):
    """(client, server) -> list of (method, body bytes), from the DATA frames that clients sent"""
    methods, sizes = {}, collections.Counter()
    rows = tshark(capture, "http2", "ip.src", "tcp.srcport", "ip.dst", "tcp.dstport", "http2.type", "http2.streamid", "http2.length",
                  "http2.flags.padded", "http2.padding", "http2.headers.method", options=options)
    for source, sport, target, dport, *lists in rows:
        key = ((source.split(",")[0], int(sport)), (target.split(",")[0], int(dport)))
        kinds, ids, lengths, padded, padding, named = ([item for item in text.split(",") if item] for text in lists)
        padded, padding, named = iter(padded), iter(padding), iter(named)
        for kind, number, length in zip(kinds, ids, map(int, lengths)):
            if kind in ("0", "1") and next(padded, "0") in ("1", "True"):
                length -= 1 + int(next(padding), 0)
            if kind == "1":
                methods.setdefault((key, number), next(named, None))
            elif kind == "0":
                sizes[key, number] += length
    bodies = collections.defaultdict(list)
    for (key, number), size in sizes.items():
        if methods.get((key, number)) and size:
            bodies[key].append((methods[key, number], size))
    return bodies


def websocket_bodies(capture):
    """(client, server) -> list of (method, payload bytes of masked data frames)"""
    bodies = collections.Counter()
    rows = tshark(capture, "websocket", "ip.src", "tcp.srcport", "ip.dst", "tcp.dstport", "websocket.opcode", "websocket.mask",
                  "websocket.payload_length", "websocket.payload_length_ext_16", "websocket.payload_length_ext_64")
    for source, sport, target, dport, opcodes, masks, *lengths in rows:
        short, middle, long = [list(map(int, filter(None, text.split(",")))) for text in lengths]
        middle, long = iter(middle), iter(long)
        for opcode, mask, length in zip(opcodes.split(","), masks.split(","), short):
            length = next(middle) if length == 126 else next(long) if length == 127 else length
            if mask in ("1", "True") and int(opcode) < 8:
                bodies[(source, int(sport)), (target, int(dport))] += length
    return {key: [("GET", size)] for key, size in bodies.items()}


def check(story):
    capture = os.path.join(story, "capture.pcap")
    with open(os.path.join(story, "expected.json"), encoding="utf-8") as file:
        expected = json.load(file)
    streams = connections(capture)
    tuples = {frozenset(entry[:2]): entry for entry in streams.values()}
    bodies = http_bodies(capture)
    for key, found in websocket_bodies(capture).items():
        bodies[key] += found
    # tshark reads HTTP/2 from its first byte only where it is told that the port speaks it.
    known, upgraded = http2_bodies(capture, "-d", "tcp.port==80,http2"), http2_bodies(capture)
    for key in {*known, *upgraded}:
        bodies[key] += known[key] or upgraded[key]
    claims = collections.defaultdict(list)
    for upload in expected["uploads"]:
        client = (upload["source.ip"], upload["source.port"])
        server = (upload["destination.ip"], upload["destination.port"])
        size = upload["outfall.upload.bytes"]
        entry = tuples[frozenset((client, server))]
        if upload["network.protocol"] == "ftp":
            assert entry[4][client] == size, (upload, entry)
        elif upload.get("outfall.upload.proxied_to") and upload["url.original"].startswith("/"):
            # tshark does not look into a tunnel; record.sh compares what arrived.
            assert entry[4][client] > size, (upload, entry)
        elif upload["outfall.upload.state"] == "complete":
            claims[client, server].append((upload["http.request.method"], size))
    refused = {("PUT", 0), ("PROPFIND", 0)}
    for key, wanted in claims.items():
        on_wire = [body for body in bodies[key] if body not in refused]
        assert sorted(wanted) == sorted(on_wire), (wanted, on_wire)
        assert tuples[frozenset(key)][4][key[0]] > sum(size for _, size in wanted)
    for key, found in bodies.items():
        if key not in claims and any(size for _, size in found):
            print(f"  note: {key} carries {found}, not among the expected uploads", file=sys.stderr)

    events = os.path.join(story, "endpoint.jsonl")
    counts = collections.Counter()
    if os.path.exists(events):
        linked, running, seq = set(), set(), 0
        with open(events, encoding="utf-8") as file:
            for event in map(json.loads, file):
                counts[event["type"]] += 1
                seq = 1 if event["type"] == "hello" else seq + 1
                assert event["seq"] == seq, event
                if event["type"] == "hello":
                    running = set()
                elif event["type"] == "process_start":
                    assert event["start"] <= event["ts"], event
                    running.add((event["pid"], event["start"]))
                elif event["type"] != "heartbeat":
                    assert (event["pid"], event["start"]) in running, event
                if event["type"] == "connection":
                    ends = []
                    for side in ("local", "remote"):
                        address, _, port = event[side].rpartition(":")
                        ends.append((address.strip("[]"), int(port)))
                    entry = tuples[frozenset(ends)]
                    assert (entry[0] == ends[0]) == event["initiated"], event
                    assert entry[2] <= event["ts"] <= entry[3] + SECOND, event
                    linked.add(frozenset(ends))
        for upload in expected["uploads"]:
            assert frozenset(((upload["source.ip"], upload["source.port"]), (upload["destination.ip"], upload["destination.port"]))) in linked
    alerts = expected["alerts"]
    print(f"{os.path.basename(os.path.abspath(story))}: {os.path.getsize(capture)} bytes, {len(streams)} connections, "
          f"{len(expected['uploads'])} uploads, {'alerts not compared' if alerts is None else f'{len(alerts)} alerts'}, events {dict(counts)}")


for name in sys.argv[1:]:
    check(name)
