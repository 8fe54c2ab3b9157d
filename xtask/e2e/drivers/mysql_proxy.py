"""A proxy before a MariaDB server's socket that takes CLIENT_DEPRECATE_EOF out of what the server offers.

    mysql_proxy.py PORT SOCKET

A client that says it has it all the same is hung up on.
"""

import socket
import sys
import threading

PORT, SOCKET = int(sys.argv[1]), sys.argv[2]
# CLIENT_DEPRECATE_EOF is bit 24: of the upper two bytes of the capabilities, bit 0 of the second.
BIT = 1


def packet(connection):
    data = b""
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:3], "little"):
        more = connection.recv(65536)
        if not more:
            raise ConnectionError
        data += more
    return bytearray(data)


def pipe(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        sink.close()


def serve(client):
    server = socket.socket(socket.AF_UNIX)
    server.connect(SOCKET)
    try:
        greeting = packet(server)
        # Behind the header: version, its text, connection id, 8 bytes of the scramble, 0, two bytes of capabilities,
        # character set, status, and the upper two bytes.
        upper = greeting.index(0, 5) + 1 + 4 + 8 + 1 + 2 + 1 + 2
        greeting[upper + 1] &= ~BIT
        client.sendall(greeting)
        login = packet(client)
        if login[4 + 3] & BIT:
            raise ConnectionError("the client deprecates EOF")
        server.sendall(login)
    except (ConnectionError, OSError):
        client.close()
        server.close()
        return
    threading.Thread(target=pipe, args=(client, server), daemon=True).start()
    pipe(server, client)


listener = socket.create_server(("127.0.0.1", PORT))
while True:
    connection, _ = listener.accept()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
