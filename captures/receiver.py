"""A plain HTTP server on Python's own http.server that reads every body and throws it away.

usage: receiver.py PORT [--refuse-expect] [--slow]
"""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
        else:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "--slow" in sys.argv:
            time.sleep(0.05)
        body = b"ok\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_POST

    def handle_expect_100(self):
        if "--refuse-expect" not in sys.argv:
            return super().handle_expect_100()
        self.send_response(417)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False


ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Receiver).serve_forever()
