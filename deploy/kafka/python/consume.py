"""Reads podtap's events from a topic, MessagePack or JSON, and prints each exchange once, as a line of JSON.

    pip install confluent-kafka msgpack
    python consume.py BROKERS TOPIC GROUP [--until-end]

Offsets are committed once what they stand for is done, so after a crash some events come again; an id that was there
before is left out. Put the work where `print` is, and what it must survive into the same transaction as the ids.
"""

import json
import sys
from collections import OrderedDict

import msgpack
from confluent_kafka import Consumer, KafkaError, KafkaException

IDS_KEPT = 100_000
COMMIT_EVERY = 1_000


def decode(message):
    """The event of a record; None where it is none."""
    headers = dict(message.headers() or [])
    try:
        if headers.get("content-type", b"").startswith(b"application/json"):
            event = json.loads(message.value())
        else:
            event = msgpack.unpackb(message.value())
    except (TypeError, ValueError, msgpack.UnpackException) as error:
        print(f"partition {message.partition()}, offset {message.offset()}: {error}", file=sys.stderr)
        return None
    return event if isinstance(event, dict) and "id" in event else None


def main(brokers, topic, group, until_end):
    consumer = Consumer({
        "bootstrap.servers": brokers,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
    })
    consumer.subscribe([topic])
    ids, ended, since_commit = OrderedDict(), set(), 0
    try:
        while True:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error():
                if message.error().code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(message.error())
                ended.add(message.partition())
                if until_end and len(ended) == len(consumer.assignment()):
                    break
                continue
            event = decode(message)
            # Events of connections have a kind; exchanges have none.
            if event is not None and "kind" not in event and event["id"] not in ids:
                ids[event["id"]] = None
                if len(ids) > IDS_KEPT:
                    ids.popitem(last=False)
                print(json.dumps(event, ensure_ascii=False))
            since_commit += 1
            if since_commit >= COMMIT_EVERY:
                sys.stdout.flush()
                consumer.commit(asynchronous=False)
                since_commit = 0
    finally:
        sys.stdout.flush()
        if since_commit:
            consumer.commit(asynchronous=False)
        consumer.close()


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--until-end"]
    if len(arguments) != 3:
        sys.exit(__doc__)
    main(*arguments, until_end="--until-end" in sys.argv)
