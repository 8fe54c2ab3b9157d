"""Runs the SQL of docs/consumers.md and compares what it counts with what Python counts: sql.py PAGE EVENTS.

ClickHouse (chdb) and DuckDB read the events as JSON lines, each twice. The comment before a block says what is done with
it; a block of an engine that is not to be had here says that it is not run, and the page says so too.
"""

import json
import os
import re
import sys
import tempfile
from collections import Counter

import duckdb
from chdb.session import Session

page_path, events_path = sys.argv[1:]
BLOCK = re.compile(r"(?:<!-- (.*?) -->\n)?```sql\n(.*?)```\n", re.DOTALL)
# Neither this engine nor its settings are in chdb; inserting into a table of the engine Null runs the views all the same.
KAFKA_ENGINE = re.compile(r"ENGINE = Kafka\nSETTINGS [^;]*;")


def require(condition, message):
    if not condition:
        raise SystemExit(f"sql: {message}")


def statements(block):
    return [statement for statement in re.split(r";\n", block) if statement.strip()]


def with_vantages(events):
    """As a podtap in the server's pod, in the client's, on a node, and one that does not know would have them."""
    for number, event in enumerate(events):
        if number % 4:
            event["vantage"] = ["server", "client", "between"][number % 4 - 1]
        if number % 5:
            event["resource"] = {"service.name": "shop"}
        yield event


def service(event):
    server = event["server"]
    of_another = event.get("vantage") in ("client", "between")
    name = None if of_another else event.get("resource", {}).get("service.name")
    return name or f"{server['address']}:{server['port']}"


def expected(events):
    """(minute, service, operation, route, status) and how often."""
    counts = Counter()
    for event in events:
        attributes = event.get("attributes", {})
        status = attributes.get("http.response.status_code", attributes.get("db.response.status_code", ""))
        counts[
            event["time"][:16].replace("T", " "),
            service(event),
            event.get("operation", ""),
            attributes.get("http.route", event.get("target", "")),
            str(status),
        ] += 1
    return counts


def compare(engine, rows, counts):
    found = {(str(row[0])[:16], *row[1:5]): int(row[5]) for row in rows}
    different = sorted(set(found.items()) ^ set(counts.items()))
    require(not different, f"{engine} counts differ: {different[:4]}")
    print(f"sql: {engine} has the same {len(found)} counts")


def main():
    with open(page_path, encoding="utf-8") as file:
        blocks = BLOCK.findall(file.read())
    kinds = Counter(kind for kind, _ in blocks)
    require(
        kinds == {"clickhouse": 1, "clickhouse: query": 1, "duckdb: query": 1, "not run": 2},
        f"{page_path} has other blocks than expected: {dict(kinds)}",
    )
    with open(events_path, encoding="utf-8") as file:
        events = list(with_vantages(map(json.loads, file)))
    lines = "".join(json.dumps(event) + "\n" for event in events)
    events = {event["id"]: event for event in events if "kind" not in event}
    counts = expected(events.values())

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        with open("events.jsonl", "w", encoding="utf-8") as file:
            file.write(lines + lines)
        clickhouse = Session()
        for kind, block in blocks:
            if kind == "clickhouse":
                block, replaced = KAFKA_ENGINE.subn("ENGINE = Null;", block)
                require(replaced == 1, "no table of the engine Kafka")
                for statement in statements(block):
                    clickhouse.query(statement)
                clickhouse.query("INSERT INTO exchanges_topic FROM INFILE 'events.jsonl' FORMAT JSONEachRow")
            elif kind == "clickhouse: query":
                [query] = statements(block)
                answer = clickhouse.query(query, "JSONCompactEachRow")
                compare("ClickHouse", map(json.loads, str(answer).splitlines()), counts)
            elif kind == "duckdb: query":
                connection = duckdb.connect()
                connection.execute("SET TimeZone = 'UTC'")
                compare("DuckDB", connection.sql(block).fetchall(), counts)


main()
