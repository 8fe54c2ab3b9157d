"""A proxy that speaks OP_COMPRESSED to the driver and plain OP_MSG to a server that does not know compression.

    mongodb_proxy.py PORT SERVER_PORT COMPRESSOR

Offers the compressor in the answer to a handshake that asks for it, and answers what came compressed with the same compressor.
"""

import socket
import struct
import sys
import threading
import zlib

import bson
import snappy

try:
    from compression import zstd
except ImportError:
    from backports import zstd

PORT, SERVER_PORT, COMPRESSOR = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
OP_COMPRESSED = 2012
OP_MSG, OP_QUERY = 2013, 2004
COMPRESS = {0: bytes, 1: snappy.compress, 2: zlib.compress, 3: zstd.compress}
DECOMPRESS = {0: bytes, 1: snappy.uncompress, 2: zlib.decompress, 3: zstd.decompress}


def exactly(connection, length):
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise ConnectionError
        data += more
    return data


def message(connection):
    head = exactly(connection, 16)
    length, request_id, response_to, opcode = struct.unpack("<iiii", head)
    return request_id, response_to, opcode, exactly(connection, length - 16)


def pack(request_id, response_to, opcode, body):
    return struct.pack("<iiii", len(body) + 16, request_id, response_to, opcode) + body


def asks(opcode, body):
    """Is it a handshake that knows the compressor?"""
    at = 5 if opcode == OP_MSG else body.index(0, 4) + 9
    return COMPRESSOR in bson.decode(body[at:at + struct.unpack_from("<i", body, at)[0]]).get("compression", [])


def offer(opcode, body):
    """Adds the compressor to the answer to a handshake."""
    at = 5 if opcode == OP_MSG else 20
    document = bson.decode(body[at:])
    if "maxWireVersion" not in document:
        return body
    document["compression"] = [COMPRESSOR]
    return body[:at] + bson.encode(document)


def requests(driver, server, compressors, asked):
    try:
        while True:
            request_id, response_to, opcode, body = message(driver)
            if opcode == OP_COMPRESSED:
                opcode, _, compressor = struct.unpack_from("<iiB", body)
                body = DECOMPRESS[compressor](body[9:])
                compressors[request_id] = compressor
            elif opcode in (OP_MSG, OP_QUERY) and asks(opcode, body):
                asked.add(request_id)
            server.sendall(pack(request_id, response_to, opcode, body))
    except (ConnectionError, OSError):
        server.close()


def responses(driver, server, compressors, asked):
    try:
        while True:
            request_id, response_to, opcode, body = message(server)
            if response_to in asked:
                asked.discard(response_to)
                body = offer(opcode, body)
            compressor = compressors.pop(response_to, None)
            if compressor is not None:
                packed = COMPRESS[compressor](body)
                body = struct.pack("<iiB", opcode, len(body), compressor) + packed
                opcode = OP_COMPRESSED
            driver.sendall(pack(request_id, response_to, opcode, body))
    except (ConnectionError, OSError):
        driver.close()


listener = socket.create_server(("127.0.0.1", PORT))
while True:
    driver, _ = listener.accept()
    server = socket.create_connection(("127.0.0.1", SERVER_PORT))
    compressors, asked = {}, set()
    for task in (requests, responses):
        threading.Thread(target=task, args=(driver, server, compressors, asked), daemon=True).start()
