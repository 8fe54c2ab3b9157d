"""Compares what the consumers of a topic say with what can be counted in podtap's own file of the same captures.

The exchanges of the first day are in the topics twice. The examples in Python and Rust are to show each exchange once,
`podtap read` each record, and Kafka Streams to count each exchange once.
"""

import argparse
import json
import math
import time
from collections import Counter, defaultdict
from datetime import datetime, timezone

from confluent_kafka import Consumer

parser = argparse.ArgumentParser()
for name in ("brokers", "results", "events", "python", "rust", "read"):
    parser.add_argument("--" + name, required=True)
args = parser.parse_args()

PATIENCE_S = 90
# Longer than Streams waits with a commit.
QUIET_S = 3


def require(condition, message):
    if not condition:
        raise SystemExit(f"consumers: {message}")


def lines(path):
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


def rfc3339(ns):
    seconds, fraction = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}.{fraction:09}Z"


def as_in_json(event):
    return {**event, "time": rfc3339(event["time"])} if isinstance(event["time"], int) else event


def bucket(event):
    attributes, server = event.get("attributes", {}), event["server"]
    status = next((value for name, value in attributes.items() if name.endswith(".response.status_code")), "")
    return (
        event["time"][:16] + ":00Z",
        event.get("resource", {}).get("service.name", f"{server['address']}:{server['port']}"),
        event["protocol"],
        event.get("operation", ""),
        attributes.get("http.route", event.get("target", "")),
        str(status),
        event["outcome"],
    )


def streams_results(total):
    """The last result of each key, once they count `total` exchanges and no more come."""
    consumer = Consumer({
        "bootstrap.servers": args.brokers,
        "group.id": "e2e-" + args.results,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
    })
    consumer.subscribe([args.results])
    results, deadline, last = {}, time.monotonic() + PATIENCE_S, time.monotonic()
    while True:
        message = consumer.poll(0.2)
        if message is not None:
            require(message.error() is None, f"{args.results}: {message.error()}")
            results[message.key()] = json.loads(message.value())
            last = time.monotonic()
        counted = sum(result["requests"] for result in results.values())
        if counted >= total and time.monotonic() - last > QUIET_S:
            break
        require(time.monotonic() < deadline, f"Streams counted {counted} of {total} within {PATIENCE_S} s")
    consumer.close()
    return list(results.values())


events = [json.loads(line) for line in lines(args.events)]
exchanges = {event["id"]: event for event in events if "kind" not in event}
doubled = [event for event in events if event["time"] < "2026-11-24"]
require(doubled and len(doubled) < len(events), "the captures are not of two days any more")

shown = [as_in_json(json.loads(line)) for line in lines(args.python)]
require(len(shown) == len(exchanges), f"Python shows {len(shown)} exchanges of {len(exchanges)}")
require({event["id"]: event for event in shown} == exchanges, "Python shows other exchanges than the file has")

shown = Counter(line.split(" ")[0] for line in lines(args.rust))
require(shown == Counter(exchanges.keys()), "Rust shows other exchanges than the file has")

read = [json.loads(line) for line in lines(args.read)]
count = Counter(json.dumps(event, sort_keys=True) for event in read)
expected = Counter(json.dumps(event, sort_keys=True) for event in events + doubled)
require(count == expected, f"podtap read shows {len(read)} events, not the {len(events) + len(doubled)} that there are")

durations, requests = defaultdict(list), Counter()
for event in exchanges.values():
    requests[bucket(event)] += 1
    if "duration" in event:
        durations[bucket(event)].append(event["duration"])
results = streams_results(len(exchanges))
names = ("minute", "service", "protocol", "operation", "route", "status", "outcome")
found = {tuple(result[name] for name in names): result for result in results}
require(len(found) == len(results), "Streams has two results for the same")
counts = {key: result["requests"] for key, result in found.items()}
different = sorted(set(counts.items()) ^ set(requests.items()))
require(not different, f"Streams counts differ: {different[:4]}")
for key, result in found.items():
    values = sorted(durations[key])
    for percent in (50, 95, 99):
        exact = values[max(1, math.ceil(percent / 100 * len(values))) - 1] if values else None
        sketched = result.get(f"p{percent}_ns")
        require((exact is None) == (sketched is None), f"{key}: p{percent} {sketched}, exactly {exact}")
        if exact is not None:
            require(sketched <= exact <= sketched * (1 + 1 / 32), f"{key}: p{percent} {sketched}, exactly {exact}")
minutes = len({key[0] for key in found})
print(f"consumers: {len(exchanges)} exchanges once each in Python and Rust; {len(read)} records by podtap read;")
print(f"consumers: Kafka Streams has the same {len(found)} counts in {minutes} minutes, and quantiles within 1/32")
