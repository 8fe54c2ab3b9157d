"""Which events are in a topic, and which are in a spool, by their ids.

`compare`: are the topic's events those of a file (JSON Lines), but for a number that podtap says it dropped?
`spooled`: appends the ids of a spool's events to a file.
`contains`: are all ids of a file in the topic, and is nothing in the topic that is not in a file of events?
"""

import argparse
import json
import pathlib
import struct
import time
import uuid

import msgpack
from confluent_kafka import Consumer, KafkaError

parser = argparse.ArgumentParser()
parser.add_argument("task", choices=["compare", "spooled", "contains"])
for name in ("brokers", "topic", "events", "spool", "ids"):
    parser.add_argument("--" + name)
parser.add_argument("--dropped", type=int, default=0)
args = parser.parse_args()


def require(condition, message):
    if not condition:
        raise SystemExit(f"outages: {message}")


def topic():
    """The ids of the topic's events, and how many records it has."""
    consumer = Consumer({
        "bootstrap.servers": args.brokers,
        "group.id": uuid.uuid4().hex,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
    })
    consumer.subscribe([args.topic])
    partitions = len(consumer.list_topics(args.topic, timeout=30).topics[args.topic].partitions)
    ids, records, ended, last = set(), 0, set(), time.monotonic()
    while len(ended) < partitions:
        messages = consumer.consume(10_000, 0.5)
        if messages:
            last = time.monotonic()
        require(time.monotonic() - last < 30, f"{args.topic}: nothing within 30 s, {records} records so far")
        for message in messages:
            if message.error():
                require(message.error().code() == KafkaError._PARTITION_EOF, f"{args.topic}: {message.error()}")
                ended.add(message.partition())
            else:
                records += 1
                ids.add(msgpack.unpackb(message.value())["id"])
    consumer.close()
    return ids, records


def file():
    with open(args.events, encoding="utf-8") as lines:
        return {json.loads(line)["id"] for line in lines}


def spool():
    """Ids of whole records, as host/src/publish/record.rs writes them."""
    for path in sorted(pathlib.Path(args.spool).glob("*.segment")):
        content, at = path.read_bytes(), 16
        while at + 8 <= len(content):
            length = struct.unpack_from("<I", content, at)[0]
            body = content[at + 8:at + 8 + length]
            if len(body) < length:
                break
            protocol, key = struct.unpack_from("<10xBxH", body)
            yield msgpack.unpackb(body[14 + protocol + key:])["id"]
            at += 8 + length


if args.task == "spooled":
    with open(args.ids, "a", encoding="utf-8") as out:
        out.writelines(id + "\n" for id in spool())
else:
    ids, records = topic()
    events = file()
    require(not ids - events, f"{len(ids - events)} events of the topic are none of the traffic's")
    if args.task == "compare":
        missing = len(events - ids)
        require(missing == args.dropped, f"of {len(events)} events {missing} are missing, but {args.dropped} were counted")
        print(f"outages: {len(events)} events, {args.dropped} dropped and counted, all others in the topic, "
              f"{records - len(ids)} of them twice")
    else:
        with open(args.ids, encoding="utf-8") as lines:
            spooled = {line.strip() for line in lines}
        lost = spooled - ids
        require(not lost, f"{len(lost)} of {len(spooled)} spooled events never arrived, one is {lost and min(lost)}")
        print(f"outages: {len(spooled)} events were in the spool when podtap was killed, all are in the topic, "
              f"which has {len(ids)}, {records - len(ids)} of them twice")
