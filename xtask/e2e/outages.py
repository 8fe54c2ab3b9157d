"""Which events are in a topic, and which are in a spool, by their ids.

`compare`: are the topic's events those of a file (JSON Lines), but for a number that podtap says it dropped?
`spooled`: appends the ids of a spool's events to a file.
`contains`: are all ids of a file in the topic, and is nothing in the topic that is not in a file of events?
`count`: prints what is in the topic, each event once, as JSON: how often each kind, protocol, command, operation and
outcome, and with how many rows.
`leader`: prints the id of the broker that leads most of the topic's partitions.
`move-leaders`: makes each partition's first replica its leader, which another one has to be of one partition at least.
"""

import argparse
import json
import pathlib
import struct
import time
from collections import Counter

import msgpack
from confluent_kafka import OFFSET_BEGINNING, Consumer, ElectionType, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient

parser = argparse.ArgumentParser()
parser.add_argument("task", choices=["compare", "spooled", "contains", "count", "leader", "move-leaders"])
for name in ("brokers", "topic", "events", "spool", "ids"):
    parser.add_argument("--" + name)
parser.add_argument("--dropped", type=int, default=0)
args = parser.parse_args()


def require(condition, message):
    if not condition:
        raise SystemExit(f"outages: {message}")


def records():
    """The topic's events, record by record."""
    consumer = Consumer({
        "bootstrap.servers": args.brokers,
        "group.id": "outages",
        "enable.partition.eof": True,
        "enable.auto.commit": False,
    })
    partitions = len(consumer.list_topics(args.topic, timeout=30).topics[args.topic].partitions)
    # By hand: a group would need a coordinator, and time.
    consumer.assign([TopicPartition(args.topic, number, OFFSET_BEGINNING) for number in range(partitions)])
    count, ended, last = 0, set(), time.monotonic()
    while len(ended) < partitions:
        messages = consumer.consume(10_000, 0.5)
        if messages:
            last = time.monotonic()
        require(time.monotonic() - last < 30, f"{args.topic}: nothing within 30 s, {count} records so far")
        for message in messages:
            if message.error():
                require(message.error().code() == KafkaError._PARTITION_EOF, f"{args.topic}: {message.error()}")
                ended.add(message.partition())
            else:
                count += 1
                yield msgpack.unpackb(message.value())
    consumer.close()


def topic():
    """The ids of the topic's events, and how many records it has."""
    ids, count = set(), 0
    for event in records():
        ids.add(event["id"])
        count += 1
    return ids, count


NAMES = ("kind", "protocol", "operation", "outcome", "command", "events", "returned_rows")


def count():
    ids, number, exchanges, rows = set(), 0, Counter(), Counter()
    for event in records():
        number += 1
        if event["id"] in ids:
            continue
        ids.add(event["id"])
        attributes = event.get("attributes", {})
        fields = [event.get(name) for name in ("kind", "protocol", "operation", "outcome")]
        what = (*fields, attributes.get("mysql.command"))
        exchanges[what] += 1
        rows[what] += attributes.get("db.response.returned_rows", 0)
    print(json.dumps({
        "records": number,
        "events": len(ids),
        "rows": [dict(zip(NAMES, (*what, times, rows[what]))) for what, times in exchanges.items()],
    }))


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


def partitions(admin):
    return admin.list_topics(args.topic, timeout=30).topics[args.topic].partitions


def leader():
    """Waits until each partition has one."""
    admin = AdminClient({"bootstrap.servers": args.brokers})
    for _ in range(300):
        leaders = [partition.leader for partition in partitions(admin).values()]
        if leaders and -1 not in leaders:
            return Counter(leaders).most_common(1)[0][0]
        time.sleep(0.1)
    require(False, f"{args.topic}: no leader within 30 s")


def move_leaders():
    admin = AdminClient({"bootstrap.servers": args.brokers})
    for _ in range(600):
        before = partitions(admin)
        if all(len(partition.isrs) == 3 for partition in before.values()):
            break
        time.sleep(0.1)
    else:
        require(False, f"{args.topic}: not all replicas have caught up within 60 s")
    wanted = {number: partition.replicas[0] for number, partition in before.items()
              if partition.leader != partition.replicas[0]}
    require(wanted, f"{args.topic}: every leader is where it is to move to")
    topic_partitions = [TopicPartition(args.topic, number) for number in wanted]
    results = admin.elect_leaders(ElectionType.PREFERRED, topic_partitions).result()
    require(not any(results.values()), f"{args.topic}: {results}")
    for _ in range(100):
        after = partitions(admin)
        if all(after[number].leader == leader for number, leader in wanted.items()):
            moves = ", ".join(f"{number}: {before[number].leader} to {after[number].leader}" for number in wanted)
            print(f"outages: {len(wanted)} of {len(before)} leaders moved ({moves})")
            return
        time.sleep(0.1)
    require(False, f"{args.topic}: the leaders have not moved within 10 s")


if args.task == "leader":
    print(leader())
elif args.task == "move-leaders":
    move_leaders()
elif args.task == "count":
    count()
elif args.task == "spooled":
    with open(args.ids, "a", encoding="utf-8") as out:
        out.writelines(id + "\n" for id in spool())
else:
    ids, number = topic()
    events = file()
    require(not ids - events, f"{len(ids - events)} events of the topic are none of the traffic's")
    if args.task == "compare":
        missing = len(events - ids)
        require(missing == args.dropped, f"of {len(events)} events {missing} are missing, but {args.dropped} were counted")
        print(f"outages: {len(events)} events, {args.dropped} dropped and counted, all others in the topic, "
              f"{number - len(ids)} of them twice")
    else:
        with open(args.ids, encoding="utf-8") as lines:
            spooled = {line.strip() for line in lines}
        lost = spooled - ids
        require(not lost, f"{len(lost)} of {len(spooled)} spooled events never arrived, one is {lost and min(lost)}")
        print(f"outages: {len(spooled)} events were in the spool when podtap was killed, all are in the topic, "
              f"which has {len(ids)}, {number - len(ids)} of them twice")
