"""The application behind nginx: answers in the shapes that nginx alone does not produce.

/api/...       JSON of known length; POST makes 201, DELETE 204, /api/fail 500
/stream/N      N chunks of unknown total length
/delay/MS      answers after MS milliseconds
/socket        switches protocols (101), echoes one frame, closes
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one segment
    server_version, sys_version = "upstream/1", ""

    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            total = 0
            while size := int(self.rfile.readline().split(b";")[0], 16):
                total += len(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return total
        return len(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def answer(self, status, value):
        content = b"" if status == 204 else json.dumps(value).encode() + b"\n"
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
        if status == 201:
            self.send_header("Location", self.path + "/7")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def handle_any(self):
        received = self.body()
        kind, _, rest = self.path.lstrip("/").partition("/")
        if kind == "stream":
            self.stream(int(rest.partition("?")[0]))
        elif kind == "delay":
            time.sleep(int(rest.partition("?")[0]) / 1000)
            self.answer(200, {"waited": rest})
        elif kind == "socket":
            self.switch()
        elif rest.startswith("fail"):
            self.answer(500, {"error": "cannot"})
        elif self.command == "POST" and rest == "orders":
            self.answer(201, {"received": received})
        elif self.command == "DELETE":
            self.answer(204, None)
        elif self.command == "OPTIONS":
            self.send_response(204)
            self.send_header("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
            self.end_headers()
        else:
            self.answer(200, {"method": self.command, "path": self.path, "received": received})

    def stream(self, chunks):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        # nginx speaks HTTP/1.0 here: the end of the connection is the end of the body.
        self.send_header("Connection", "close")
        self.end_headers()
        for number in range(chunks):
            self.wfile.write(b"line %d of the stream\n" % number * 8)
            self.wfile.flush()
            time.sleep(0.005)

    def switch(self):
        self.send_response(101)
        self.send_header("Upgrade", "echo")
        self.send_header("Connection", "Upgrade")
        self.end_headers()
        self.wfile.flush()
        self.wfile.write(self.rfile.read(5))
        self.wfile.flush()
        self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = handle_any

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Upstream).serve_forever()
