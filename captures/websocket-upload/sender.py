"""Sends a file over a WebSocket: a name, a message in fragments with pings between, the rest in one message."""

import sys

from websockets.sync.client import connect

address, path = sys.argv[1:]
with open(path, "rb") as file:
    data = file.read()
with connect(address, compression=None) as socket:
    socket.send("live")
    pieces = [data[at : at + 9_000] for at in range(0, 90_000, 9_000)]

    def fragments():
        for number, piece in enumerate(pieces):
            if number % 3 == 1:
                socket.ping(b"still there?").wait()
            yield piece

    socket.send(fragments())
    socket.send(data[90_000:])
    assert socket.recv() == "stored"
