"""The conversation of sdk/template/tests/captures/first.pcap: a real server and real clients on loopback, port 7070.

Run it while `tcpdump -i lo -w first.pcap port 7070` captures. Then write the events beside the capture anew:
`podtap plugin test sdk/template --update`.
"""

import socket
import socketserver
import threading
import time


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class Lines(socketserver.StreamRequestHandler):
    store = {}

    def handle(self):
        for line in self.rfile:
            command, _, rest = line.decode().rstrip("\n").partition(" ")
            key, _, value = rest.partition(" ")
            if command == "SET":
                self.store[key] = value
                answer = "OK"
            elif key not in self.store:
                answer = "ERROR no such key"
            else:
                answer = f"OK {self.store[key]}"
                if command == "DEL":
                    answer = "OK"
                    del self.store[key]
            self.wfile.write(f"{answer}\n".encode())


def connect():
    connection = socket.create_connection(("127.0.0.1", 7070))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection, connection.makefile("rb")


def ask(connection, answers, line):
    connection.sendall(line.encode() + b"\n")
    return answers.readline()


server = Server(("127.0.0.1", 7070), Lines)
threading.Thread(target=server.serve_forever, daemon=True).start()

# One after the other, with an error.
connection, answers = connect()
for line in ["SET colour blue", "GET colour", "GET shape", "SET shape round", "GET shape", "DEL shape", "DEL shape"]:
    ask(connection, answers, line)
connection.close()

# Pipelined: four requests in one segment.
connection, answers = connect()
connection.sendall(b"SET a 1\nGET a\nGET b\nDEL a\n")
for _ in range(4):
    answers.readline()
connection.close()

# A request in pieces, and an answer that is longer than a segment of most links.
connection, answers = connect()
for piece in [b"SE", b"T long ", b"x" * 2000, b"\n"]:
    connection.sendall(piece)
    time.sleep(0.01)
answers.readline()
ask(connection, answers, "GET long")

# Two connections at once.
other, other_answers = connect()
for number in range(5):
    ask(connection, answers, f"SET n {number}")
    ask(other, other_answers, "GET n")
other.close()
connection.close()
time.sleep(0.2)
