"""Starts Apache httpd, Node, Python's http.server and Go's net/http, and lets clients ask each of them.

tour.py FOLDER BIN SCRIPTS PORT...: a folder for what they need with site/ in it, the compiled server.go, the folder of
the scripts, and four ports. Says `ready` when all listen, waits for a line, then asks; prints the number of requests.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.request

FOLDER, GO, SCRIPTS = sys.argv[1:4]
APACHE, NODE, PYTHON, GOLANG = map(int, sys.argv[4:8])
count = 0


def start(command, **environment):
    return subprocess.Popen(command, cwd=FOLDER, env=os.environ | environment, stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def curl(port, *arguments, requests=1):
    global count
    count += requests
    urls = [f"http://127.0.0.1:{port}{argument}" if argument.startswith("/") else argument for argument in arguments]
    subprocess.run(["curl", "--silent", *urls], check=False, cwd=FOLDER, stdout=subprocess.DEVNULL)


def raw(port, *parts, requests=1):
    """Sends the parts one after another, with LF for CRLF but where they say otherwise; reads up to the end."""
    global count
    count += requests
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        for part in parts:
            connection.sendall(part.replace("\n", "\r\n").replace("\v\r", "").encode())
            time.sleep(0.05)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


def ask_apache():
    global count
    curl(APACHE, "/index.html", "/style.css", "/missing", "/found", requests=4)
    curl(APACHE, "--compressed", "/index.html")
    curl(APACHE, "--head", "/large.html")
    curl(APACHE, "--range", "0-9", "/large.html")
    curl(APACHE, "--http1.0", "/style.css")
    raw(APACHE, "GET /style.css\n")  # HTTP/0.9
    raw(APACHE, "GET /style.css HTTP/1.1\nHost: shop.example\nX-Folded: one\n two\nConnection: close\n\n")
    raw(APACHE, "OPTIONS * HTTP/1.1\nHost: shop.example\nConnection: close\n\n")
    raw(APACHE, "GET /style.css HTTP/1.1\nHost: a\nContent-Length: 1\nContent-Length: 2\n\nx")
    raw(APACHE, "GET http://ada:example-password@shop.example/style.css HTTP/1.1\nHost: x\nConnection: close\n\n")
    raw(APACHE, "GET /style.css HTTP/1.1\v\nHost: shop.example\v\nConnection: close\v\n\v\n")  # bare LF
    raw(APACHE, "POST /style.css HTTP/1.1\nHost: a\nContent-Length: 4\nTransfer-Encoding: chunked\nConnection: close\n\n"
        "5;extension=1\nhello\n0\nX-Trailer: t\n\n")
    raw(APACHE, "GET /index.html HTTP/1.1\nHost: a\n\nHEAD /index.html HTTP/1.1\nHost: a\n\n"
        "GET /style.css HTTP/1.1\nHost: a\nConnection: close\n\n", requests=3)
    raw(APACHE, "CONNECT shop.example:443 HTTP/1.1\nHost: shop.example:443\nConnection: close\n\n")


def ask_node():
    global count
    subprocess.run(["node", f"{SCRIPTS}/client.mjs", f"http://127.0.0.1:{NODE}"], check=True)
    count += 5
    curl(NODE, "--header", "b3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1", "/orders/7")
    curl(NODE, "/hints", "/trailers", requests=2)
    raw(NODE, "POST /early HTTP/1.1\nHost: a\nContent-Length: 10\n\nhello", "world",
        "GET /after HTTP/1.1\nHost: a\nConnection: close\n\n", requests=2)
    raw(NODE, "GET /socket HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: echo\n\n", "hello")
    raw(NODE, "GET / HTTP/1.1\n\n")  # without Host: 400


def ask_python():
    global count
    for path in ("/index.html", "/site-of-nobody", "/style.css?v=3"):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PYTHON}{path}").read()
        except urllib.error.HTTPError:
            pass
        count += 1
    raw(PYTHON, "GET /style.css\n")  # HTTP/0.9
    raw(PYTHON, "BREW /pot HTTP/1.1\nHost: a\n\n")  # 501


def ask_go():
    global count
    subprocess.run([GO, "ask", f"http://127.0.0.1:{GOLANG}"], check=True)
    count += 6
    curl(GOLANG, "/reset", "/stream", requests=2)
    curl(GOLANG, "/panic")  # closed without an answer
    curl(GOLANG, "--header", "Transfer-Encoding: chunked", "--data-binary", "@site/app.js", "/upload")


modules = next(path for path in ("/usr/lib/apache2/modules", "/usr/lib64/httpd/modules") if os.path.isdir(path))
program = next(path for path in ("/usr/sbin/apache2", "/usr/sbin/httpd") if os.path.exists(path))
servers = [
    start([program, "-X", "-d", FOLDER, "-f", f"{SCRIPTS}/httpd.conf"], PORT=str(APACHE), FOLDER=FOLDER, MODULES=modules),
    start(["node", f"{SCRIPTS}/server.mjs", str(NODE)]),
    start(["python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", "site", "--protocol", "HTTP/1.1", str(PYTHON)]),
    start([GO, "serve", str(GOLANG)]),
]
try:
    for port in (APACHE, NODE, PYTHON, GOLANG):
        for attempt in range(100):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
    time.sleep(0.3)
    print("ready", flush=True)
    sys.stdin.readline()
    ask_apache()
    ask_node()
    ask_python()
    ask_go()
    print(count, flush=True)
finally:
    for server in servers:
        server.terminate()
        server.wait()
