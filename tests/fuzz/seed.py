#!/usr/bin/env python3
"""Writes seeds for the fuzz targets into tests/fuzz/corpus/, which git ignores: tests/fuzz/seed.py [FOLDER]...

They come from captures/ and from the folders named, by default those of ../shared/corpus beside the repository, if it
is there: beginnings of captures, single packets, and the TCP streams of conversations as scripts (see src/script.rs).
Seeds made by hand are in seeds/.
"""

import hashlib
import json
import struct
import sys
from collections import OrderedDict
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
OUT = HERE / "corpus"
MARK = b"\xff\xfe"
LONGEST_SCRIPT = 12_000
LARGEST_CAPTURE = 6_000
MOST_PACKETS_OF_A_CAPTURE = 6
IP_LINKS = {1: 14, 101: 0, 228: 0, 229: 0, 113: 16, 276: 20}


def main():
    counts = {}
    shared = ROOT.parent / "shared" / "corpus"
    folders = [Path(name) for name in sys.argv[1:]] or [shared / "captures", shared / "hostile"]
    files = sorted((ROOT / "captures").glob("*/capture.pcap"))
    for folder in folders:
        files += sorted(folder.glob("*.pcap*"))

    def write(target, seed):
        if not seed:
            return
        folder = OUT / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
        counts[target] = counts.get(target, 0) + 1

    for file in files:
        raw = file.read_bytes()
        write("capture_file", raw[:LARGEST_CAPTURE])
        packets = list(pcap(raw))
        shapes = OrderedDict()
        for link, data in packets:
            shapes.setdefault((link, data[:2], data[12:14], data[23:24], len(data) // 200), (link, data))
        for link, data in list(shapes.values())[:MOST_PACKETS_OF_A_CAPTURE]:
            if len(data) <= 1600:
                write("packet", struct.pack("<HB", link, 0) + data)
        for name, script in scripts(packets):
            write(name, script)
    for file in sorted((ROOT / "captures").glob("*/endpoint.jsonl")):
        lines = file.read_bytes().splitlines(keepends=True)
        kinds = OrderedDict()
        for line in lines:
            kinds.setdefault(json.loads(line)["type"], []).append(line)
        write("endpoint_intake", b"".join(line for kind in kinds.values() for line in kind[:2]))
        write("endpoint_intake", b"".join(lines[:12]))
    for file in sorted((ROOT / "captures").glob("*/policy.toml")):
        write("config", file.read_bytes())
    for target, count in sorted(counts.items()):
        print(f"{target}: {count} seeds")


def pcap(raw):
    """The packets of a classic pcap file: link type and bytes."""
    orders = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">", b"\x4d\x3c\xb2\xa1": "<", b"\xa1\xb2\x3c\x4d": ">"}
    order = orders.get(raw[:4])
    if order is None or len(raw) < 24:
        return
    link = struct.unpack(order + "I", raw[20:24])[0] & 0xFFFF
    at = 24
    while at + 16 <= len(raw):
        captured = struct.unpack(order + "I", raw[at + 8 : at + 12])[0]
        data = raw[at + 16 : at + 16 + captured]
        if len(data) < captured:
            return
        yield link, data
        at += 16 + captured


def segments(packets):
    """Plain TCP over IP: both ends, sequence number, payload, whether it opens the connection."""
    for link, data in packets:
        if link not in IP_LINKS:
            continue
        ip = data[IP_LINKS[link] :]
        if len(ip) < 40:
            continue
        if ip[0] >> 4 == 4 and ip[9] == 6 and not struct.unpack(">H", ip[6:8])[0] & 0x3FFF:
            source, destination = ip[12:16], ip[16:20]
            tcp = ip[(ip[0] & 15) * 4 : struct.unpack(">H", ip[2:4])[0]]
        elif ip[0] >> 4 == 6 and ip[6] == 6:
            source, destination = ip[8:24], ip[24:40]
            tcp = ip[40 : 40 + struct.unpack(">H", ip[4:6])[0]]
        else:
            continue
        if len(tcp) < 20:
            continue
        source_port, destination_port, seq = struct.unpack(">HHI", tcp[:8])
        payload = tcp[(tcp[12] >> 4) * 4 :]
        opens = tcp[13] & 0x12 == 0x02
        yield (source, source_port), (destination, destination_port), seq, payload, opens


def scripts(packets):
    """What is said on each connection, in order, and the target that it is for."""
    clients, said, seen = {}, OrderedDict(), set()
    for source, destination, seq, payload, opens in segments(packets):
        key = tuple(sorted((source, destination)))
        if opens or key not in clients:
            clients[key] = source
        if payload and (source, destination, seq) not in seen:
            seen.add((source, destination, seq))
            said.setdefault(key, []).append((b"C" if source == clients[key] else b"S", payload))
    for key, words in said.items():
        script = b"".join(MARK + who + payload for who, payload in words)[:LONGEST_SCRIPT]
        text = b"".join(payload for _, payload in words)[:4000]
        first = words[0][1]
        if first.startswith(b"PRI * HTTP/2.0"):
            yield "http2", script
        elif b"HTTP/1." in text:
            yield "http_request", script
            body = text.partition(b"boundary=")[2].partition(b"\r\n")
            if body[2]:
                yield "multipart", body[0].strip(b'"') + b"\n" + body[2].partition(b"\r\n\r\n")[2]
        elif first[:3].isdigit() or b"\r\nPASS " in text or b"\r\nSTOR " in text:
            yield "ftp_control", script


if __name__ == "__main__":
    main()
