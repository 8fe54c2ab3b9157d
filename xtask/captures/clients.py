"""Real clients against the nginx of nginx.conf: curl, Python's http.client, and sockets for what neither would send.

Every run makes the same exchanges; times, ports and the order among the parallel ones differ. Prints how many
exchanges nginx should have logged.
"""

import http.client
import socket
import subprocess
import sys
import threading
import time

PORT = int(sys.argv[1])
count = 0


def curl(*args, requests=1):
    global count
    base = f"http://127.0.0.1:{PORT}"
    args = [base + arg if arg.startswith("/") else arg for arg in args]
    # --fail is not given: an error status is an answer too. Bodies are read and thrown away.
    outputs = sum((["--output", "/dev/null"] for _ in range(requests)), [])
    subprocess.run(["curl", "--silent", "--max-time", "20", *outputs, *args], check=True)
    count += requests


class Raw:
    """A connection that sends exactly the bytes it is given and reads answers one by one."""

    def __init__(self, address="127.0.0.1"):
        self.socket = socket.create_connection((address, PORT), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def send(self, text):
        self.socket.sendall(text.encode("latin-1").replace(b"\n", b"\r\n"))

    def head(self):
        status = int(self.file.readline().split()[1])
        fields = {}
        while line := self.file.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            fields[name.lower()] = value.strip()
        return status, fields

    def answer(self, method="GET"):
        """Reads one final answer with its body; returns the status."""
        global count
        status, fields = self.head()
        while 100 <= status < 200 and status != 101:
            status, fields = self.head()
        if method == "HEAD" or status in (101, 204, 304):
            pass
        elif fields.get("transfer-encoding") == "chunked":
            while size := int(self.file.readline(), 16):
                self.file.read(size + 2)
            while self.file.readline().strip():
                pass
        elif "content-length" in fields:
            self.file.read(int(fields["content-length"]))
        else:
            self.file.read()
        count += 1
        return status

    def close(self):
        self.file.close()
        self.socket.close()


def expect(got, wanted):
    if got != wanted:
        raise SystemExit(f"the server answered {got} where {wanted} was expected")


def ask(connection, method, path, wanted, body=None, **headers):
    """One exchange by http.client."""
    global count
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, headers, encode_chunked=headers.get("Transfer-Encoding") == "chunked")
    answer = connection.getresponse()
    answer.read()
    expect(answer.status, wanted)
    count += 1
    return answer


def with_curl():
    curl("/")
    curl("/", "/style.css", "/app.js", "/logo.png", "/missing.png", requests=5)  # keep-alive
    curl("--head", "/")
    curl("--user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "/index.html")
    curl("--user-agent", "kube-probe/1.34", "/empty", "/empty", "/empty", requests=3)
    curl("--header", "Host: static.example", "/style.css", "/app.js", requests=2)
    curl("--header", "Host: api.example", "/users/1", "/users/2?fields=name,mail", requests=2)
    curl("--location", "/moved/page")  # two exchanges
    curl("/found/", "/once/", "/for-ever/", requests=3)
    curl("--compressed", "/gzip/style.css", "/gzip/app.js", requests=2)  # chunked by gzip
    curl("--http1.0", "/")
    curl("--http1.0", "/stream/4")  # no length, no chunks: ends with the connection
    curl("/stream/6")
    curl("/until-close/3")  # the same in HTTP/1.1
    curl("--header", "TE: trailers", "/trailer/3")
    curl("--request", "POST", "--data", "name=Ada&quantity=2", "/api/orders")
    curl("--json", '{"sku": "A-1", "quantity": 3}', "/api/orders")
    curl("--form", "file=@site/app.js", "/api/upload")
    curl("--header", "Expect: 100-continue", "--data-binary", "@site/style.css", "/api/upload")
    curl("--header", "Transfer-Encoding: chunked", "--data-binary", "@site/app.js", "/api/upload")
    curl("--upload-file", "site/style.css", "/api/files/style.css")
    curl("--request", "DELETE", "/api/files/style.css")
    curl("--request", "PATCH", "--data", "quantity=4", "/api/orders/7")
    curl("--request", "OPTIONS", "/api/orders")
    curl("--range", "0-99", "/large.html")
    curl("--range", "900000-", "/large.html")  # 416
    curl("/account/", "/secret/", "/teapot", "/busy", "/broken", "/away", requests=6)
    curl("/no-upstream/a")  # 502: nobody listens there
    curl("/too-slow/1500")  # 504: longer than nginx waits
    curl("/api/fail", "/api/fail?retry=1", requests=2)
    curl("/delay/20", "/delay/80", "/delay/200", requests=3)
    curl("/drip/app.js")
    curl("/large.html")
    curl("--data", "x=1", "/index.html")  # 405: a file takes no POST
    curl("/search?q=blue+socks&page=2&sort=price%20asc")
    curl("/api/files/a.bin?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=EXAMPLEKEY%2F20260101%2Feu%2Fs3"
         "&X-Amz-Date=20260101T000000Z&X-Amz-Expires=60&X-Amz-Signature=0123456789abcdef0123456789abcdef")
    curl("--user", "ada:example-password", "/api/me")
    curl("--cookie", "session=0123456789abcdef", "/api/me")
    curl("--header", "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "/api/orders/7")
    curl("--header", "b3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1", "/api/orders/8")
    curl("--header", "X-Request-Id: 3f0a7d4c-1a2b-4c5d-8e9f-001122334455", "/api/orders/9")
    curl("/caf%C3%A9/men%C3%BC?na%C3%AFve=%E2%9C%93")
    for path in ("/", "/api/users/6", "/missing"):
        subprocess.run(["curl", "--silent", "--output", "/dev/null", f"http://[::1]:{PORT}{path}"], check=True)
    globals()["count"] += 4  # three over IPv6 and the second one of --location


def with_http_client():
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=20)
    first = ask(connection, "GET", "/index.html", 200)
    ask(connection, "GET", "/index.html", 304, If_None_Match=first.headers["ETag"])
    ask(connection, "GET", "/index.html", 304, If_Modified_Since=first.headers["Last-Modified"])
    ask(connection, "GET", "/index.html", 200, If_None_Match='"another"')
    ask(connection, "HEAD", "/large.html", 200)
    ask(connection, "HEAD", "/missing", 404)
    ask(connection, "HEAD", "/stream/2", 200)
    ask(connection, "GET", "/empty", 204)
    for number in range(60):
        ask(connection, "GET", f"/api/items/{number}", 200)
    ask(connection, "POST", "/api/orders", 201, body=b"x" * 30_000)
    ask(connection, "PUT", "/api/files/b", 200, iter([b"one", b"two" * 400, b"three"]), Transfer_Encoding="chunked")
    ask(connection, "DELETE", "/api/files/b", 204)
    ask(connection, "POST", "/api/upload", 200, body=b"")
    ask(connection, "GET", "/api/items/last", 200, Connection="close")
    connection.close()

    def visitor(number):
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=20)
        for page in range(15):
            path = ["/api/users/%d", "/missing/%d", "/delay/%d", "/moved/%d", "/stream/%d"][page % 5]
            ask(connection, "GET", path % (number + page % 3 + 1), [200, 404, 200, 301, 200][page % 5])
        connection.close()

    visitors = [threading.Thread(target=visitor, args=(number,)) for number in range(4)]
    for thread in visitors:
        thread.start()
    for thread in visitors:
        thread.join()


def with_sockets():
    # Pipelining: eight requests in one segment, of kinds whose answers end in different ways.
    raw = Raw()
    kinds = [("GET", "/api/p/1", 200), ("HEAD", "/index.html", 200), ("GET", "/missing", 404), ("GET", "/empty", 204),
             ("GET", "/stream/2", 200), ("GET", "/moved/", 301), ("HEAD", "/stream/1", 200), ("GET", "/api/p/2", 200)]
    raw.send("".join(f"{method} {path} HTTP/1.1\nHost: shop.example\n\n" for method, path, _ in kinds))
    for method, _, wanted in kinds:
        expect(raw.answer(method), wanted)
    # Then requests with bodies, and the rest of a connection that ends by itself.
    post = "POST /api/orders HTTP/1.1\nHost: shop.example\nContent-Length: 5\n\nhello"
    chunked = "POST /api/orders HTTP/1.1\nHost: shop.example\nTransfer-Encoding: chunked\n\n5\nhello\n3;x=y\nyou\n0\n\n"
    raw.send(post + chunked + post + "GET /api/p/3 HTTP/1.1\nHost: shop.example\nConnection: close\n\n")
    for wanted in (201, 201, 201, 200):
        expect(raw.answer(), wanted)
    raw.close()

    # The reason why a segment is no message: one byte at a time, and a request line cut in two.
    raw = Raw()
    for character in "GET /api/slow-typist HTTP/1.1\nHost: shop.example\n\n":
        raw.send(character)
        time.sleep(0.002)
    expect(raw.answer(), 200)
    raw.send("GET /api/cut-i")
    time.sleep(0.05)
    raw.send("n-two HTTP/1.1\nHost: shop.example\n\n")
    expect(raw.answer(), 200)
    # Empty lines before a request line are to be ignored (RFC 9112, 2.2).
    raw.send("\n\nGET /api/after-empty-lines HTTP/1.1\nhost:shop.example\nX-Empty:\n\n")
    expect(raw.answer(), 200)
    # Absolute form.
    raw.send("GET http://shop.example/api/absolute?a=b HTTP/1.1\nHost: shop.example\n\n")
    expect(raw.answer(), 200)
    raw.close()

    # A client that waits for 100 before its body, and one that is refused instead.
    raw = Raw()
    raw.send("PUT /api/files/c HTTP/1.1\nHost: shop.example\nContent-Length: 11\nExpect: 100-continue\n\n")
    expect(raw.head()[0], 100)
    time.sleep(0.02)
    raw.send("hello there")
    expect(raw.answer(), 200)
    raw.send("PUT /small-bodies/c HTTP/1.1\nHost: shop.example\nContent-Length: 9000\nExpect: 100-continue\n\n")
    expect(raw.answer(), 413)
    raw.close()

    # A body that comes slowly, in three parts.
    raw = Raw()
    raw.send("POST /api/orders HTTP/1.1\nHost: shop.example\nContent-Length: 9\n\none")
    for part in ("two", "six"):
        time.sleep(0.05)
        raw.send(part)
    expect(raw.answer(), 201)
    raw.close()

    # HTTP/1.0 with and without keep-alive, no Host needed; then HTTP/1.1 without Host, which is refused.
    raw = Raw()
    raw.send("GET /api/old HTTP/1.0\nConnection: keep-alive\n\n")
    expect(raw.answer(), 200)
    raw.send("GET /stream/2 HTTP/1.0\n\n")
    expect(raw.answer(), 200)
    raw.close()
    raw = Raw()
    raw.send("GET /api/hostless HTTP/1.1\n\n")
    expect(raw.answer(), 400)
    raw.close()

    # Another protocol after 101.
    raw = Raw()
    raw.send("GET /socket HTTP/1.1\nHost: shop.example\nConnection: Upgrade\nUpgrade: echo\n\n")
    expect(raw.answer(), 101)
    raw.send("hello")
    raw.file.read(5)
    raw.close()

    # The client loses patience: nginx logs 499, and no answer goes over the wire.
    raw = Raw()
    raw.send("GET /delay/300 HTTP/1.1\nHost: shop.example\n\n")
    time.sleep(0.1)
    raw.close()
    globals()["count"] += 1

    # The client half-closes after its request and still gets the answer; a connection with nothing in it.
    raw = Raw("::1")
    raw.send("GET /index.html HTTP/1.1\nHost: shop.example\n\n")
    raw.socket.shutdown(socket.SHUT_WR)
    expect(raw.answer(), 200)
    raw.close()
    Raw().close()

    # A long life: keep-alive with pauses as a health check has them, then pipelining of depth two.
    raw = Raw()
    for number in range(30):
        raw.send(f"GET /api/health?n={number} HTTP/1.1\nHost: shop.example\nUser-Agent: check/1\n\n")
        expect(raw.answer(), 200)
        time.sleep(0.003)
    for number in range(20):
        raw.send(f"GET /style.css?v={number} HTTP/1.1\nHost: static.example\nIf-None-Match: *\n\n" * 2)
        expect((raw.answer(), raw.answer()), (304, 304))
    raw.close()


with_curl()
with_http_client()
with_sockets()
time.sleep(0.5)  # nginx notices the impatient client and ends the last connections
print(count)
