"""Takes one file over a WebSocket on port 80."""

import sys

from websockets.sync.server import serve


def take(socket):
    socket.recv()
    with open(sys.argv[1], "wb") as file:
        file.write(socket.recv())
        file.write(socket.recv())
    socket.send("stored")


with serve(take, "0.0.0.0", 80, compression=None) as server:
    server.serve_forever()
