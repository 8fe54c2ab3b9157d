"""Makes connections.pcap, as root: `python3 connections.py`. Real connections on the loopback device, one of each fate.

    port   what happens
    47001  nobody listens: refused
    47002  HTTP: one request, its response, both sides close
    47003  HTTP: the server resets the connection instead of answering
    47004  HTTP: answered, then the client resets the connection
    47005  the queue of the listener is full: no answer, the SYN is sent again after a second
    47006  opened before the capture began; text that no decoder knows; open at the end
"""

import socket
import struct
import subprocess
import time

CAPTURE = "connections.pcap"
REQUEST = b"GET /stock HTTP/1.1\r\nHost: shop.example\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n42"


def listener(port, backlog=5):
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
    server.listen(backlog)
    return server


def connection(port):
    server = listener(port)
    client = socket.create_connection(("127.0.0.1", port))
    return client, server.accept()[0]


def reset(end):
    """With this option, close sends a RST."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


early_client, early_server = connection(47006)
full = listener(47005, backlog=0)
waiting = socket.create_connection(("127.0.0.1", 47005))
tcpdump = subprocess.Popen(
    ["tcpdump", "-i", "lo", "-n", "-U", "--time-stamp-precision=nano", "-w", CAPTURE, "tcp portrange 47001-47006"],
    stderr=subprocess.PIPE,
)
tcpdump.stderr.readline()  # it listens
time.sleep(0.3)

assert socket.socket().connect_ex(("127.0.0.1", 47001)) != 0

client, server = connection(47002)
client.sendall(REQUEST)
server.recv(1024)
server.sendall(RESPONSE)
client.recv(1024)
client.close()
server.close()

client, server = connection(47003)
client.sendall(REQUEST)
server.recv(1024)
reset(server)

client, server = connection(47004)
client.sendall(REQUEST)
server.recv(1024)
server.sendall(RESPONSE)
client.recv(1024)
reset(client)

early_client.sendall(b"ahoy\n")
early_server.recv(1024)
early_server.sendall(b"aye, aye\n")
early_client.recv(1024)

blocked = socket.socket()
blocked.settimeout(1.5)
try:
    blocked.connect(("127.0.0.1", 47005))
except TimeoutError:
    pass
time.sleep(0.3)
tcpdump.terminate()
tcpdump.wait()
