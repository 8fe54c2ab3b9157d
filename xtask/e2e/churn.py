"""Connections on which nothing is asked: `churn.py ADDRESS PORT CLOSED-PORT SECONDS A-SECOND`.

In turns: closed as soon as it is open, reset, refused, and held open for some seconds. Prints how many there were.
"""

import socket
import struct
import sys
import time
from collections import deque

ADDRESS, PORT, CLOSED_PORT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
SECONDS, PACE = float(sys.argv[4]), float(sys.argv[5])
HELD_SECONDS = 5

begun, held, number = time.monotonic(), deque(), 0
while time.monotonic() < begun + SECONDS:
    time.sleep(max(0, begun + number / PACE - time.monotonic()))
    kind = number % 4
    number += 1
    if kind == 0:
        try:
            socket.create_connection((ADDRESS, CLOSED_PORT), 5)
            raise SystemExit(f"churn: somebody listens on port {CLOSED_PORT}")
        except ConnectionRefusedError:
            continue
    connection = socket.create_connection((ADDRESS, PORT), 5)
    if kind == 1:
        connection.close()
    elif kind == 2:
        # No time to linger: close(2) resets.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    else:
        held.append((time.monotonic(), connection))
    while held and held[0][0] < time.monotonic() - HELD_SECONDS:
        held.popleft()[1].close()
for _, connection in held:
    connection.close()
print(number)
