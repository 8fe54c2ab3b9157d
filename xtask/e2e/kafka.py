"""Reads back what podtap published and compares it with what podtap wrote to files, event for event.

The MessagePack topic is read by librdkafka's Python client, the JSON topic by kcat. Beside the values it checks each
record's key and headers, and that the records of one connection come in the order of its exchanges.
"""

import argparse
import json
import subprocess
import uuid

import msgpack
from confluent_kafka import Consumer, KafkaError

parser = argparse.ArgumentParser()
for name in ("brokers", "msgpack-topic", "msgpack-file", "json-topic", "json-file", "second-file"):
    parser.add_argument("--" + name, required=True)
args = parser.parse_args()


def require(condition, message):
    if not condition:
        raise SystemExit(f"kafka: {message}")


def read_msgpack(topic):
    """(key, headers, event) of every record, by the Python client."""
    consumer = Consumer({
        "bootstrap.servers": args.brokers,
        "group.id": uuid.uuid4().hex,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
    })
    consumer.subscribe([topic])
    partitions = len(consumer.list_topics(topic, timeout=20).topics[topic].partitions)
    records, ended = [], set()
    while len(ended) < partitions:
        message = consumer.poll(20)
        require(message is not None, f"{topic}: nothing within 20 s, {len(records)} records so far")
        if message.error():
            require(message.error().code() == KafkaError._PARTITION_EOF, f"{topic}: {message.error()}")
            ended.add(message.partition())
            continue
        headers = {name: value.decode() for name, value in message.headers() or []}
        records.append((message.key().decode(), headers, msgpack.unpackb(message.value())))
    consumer.close()
    return records


def read_json(topic):
    """The same by kcat."""
    command = ["kcat", "-C", "-q", "-e", "-b", args.brokers, "-t", topic, "-o", "beginning", "-f", r"%k\t%h\t%s\n"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()
    records = []
    for line in lines:
        key, headers, value = line.split("\t", 2)
        records.append((key, dict(header.split("=", 1) for header in headers.split(",")), json.loads(value)))
    return records


def by_id(events, where):
    table = {event["id"]: event for event in events}
    require(len(table) == len(events), f"{where}: {len(events)} events, but {len(table)} different ids")
    require(table, f"{where}: no events")
    return table


def compare(topic, records, events, content_type):
    written, read = by_id(events, "file"), by_id([event for _, _, event in records], topic)
    missing, extra = written.keys() - read.keys(), read.keys() - written.keys()
    require(not missing, f"{topic}: {len(missing)} events of the file are missing, one is {missing and min(missing)}")
    require(not extra, f"{topic}: {len(extra)} events are not in the file, one is {extra and min(extra)}")
    last = {}
    for key, headers, event in records:
        require(event == written[event["id"]], f"{topic}: not as in the file:\n{event}\n{written[event['id']]}")
        require(key == event["connection"]["id"], f"{topic}: key {key} of {event}")
        wanted = {"content-type": content_type, "podtap-schema": "podtap.exchange/1",
                  "podtap-protocol": event["protocol"]}
        require({name: headers.get(name) for name in wanted} == wanted, f"{topic}: headers {headers} of {event}")
        exchange = event["connection"]["exchange"]
        require(last.get(key, -1) < exchange, f"{topic}: connection {key} is out of order at exchange {exchange}")
        last[key] = exchange


with open(args.msgpack_file, "rb") as file:
    packed = list(msgpack.Unpacker(file))
with open(args.json_file, encoding="utf-8") as file:
    lines = [json.loads(line) for line in file]
with open(args.second_file, encoding="utf-8") as file:
    again = [json.loads(line) for line in file]

compare(args.msgpack_topic, read_msgpack(args.msgpack_topic), packed, "application/vnd.msgpack")
compare(args.json_topic, read_json(args.json_topic), lines, "application/json")
require(by_id(packed, "msgpack file").keys() == by_id(lines, "json file").keys(), "the two formats differ in their ids")
require([event["id"] for event in lines] == [event["id"] for event in again], "a second replay gives other ids")
print(f"kafka: {len(lines)} events, the same in the files, by the Python client (MessagePack) and by kcat (JSON)")
