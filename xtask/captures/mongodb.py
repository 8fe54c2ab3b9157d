"""pymongo against a MongoDB server, with the driver's own record of every command: its command monitoring.

    mongodb.py URI DOCUMENTS [--compressor NAME] [--limited] > commands

Writes a line of JSON for each command that the driver says it has sent, in the order of each client's one connection:
application (one to a client), command, database, how it ended, documents returned, `n`, write errors. What is asked is the
same in every run. `--limited` leaves out what nx-27017 0.8.1 does not do as MongoDB does: it answers unacknowledged writes,
keeps a table locked for a cursor that is closed early, and takes every command.
"""

import argparse
import json
import sys

import pymongo
from pymongo import DeleteMany, InsertOne, MongoClient, UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError
from pymongo.monitoring import CommandListener
from pymongo.write_concern import WriteConcern

parser = argparse.ArgumentParser()
parser.add_argument("uri")
parser.add_argument("documents", type=int)
parser.add_argument("--compressor")
parser.add_argument("--limited", action="store_true")
ARGUMENTS = parser.parse_args()
DOCUMENTS = ARGUMENTS.documents


class Record(CommandListener):
    """Keeps a line for each command, in the order of their starts."""

    def __init__(self, application):
        self.application = application
        self.lines = {}

    def started(self, event):
        line = {"application": self.application, "command": event.command_name, "database": event.database_name}
        self.lines[event.request_id] = line

    def succeeded(self, event):
        line, reply = self.lines[event.request_id], event.reply
        errors = reply.get("writeErrors", [])
        line["outcome"] = "error" if errors or reply.get("writeConcernError") else "ok"
        if errors:
            line["write_errors"] = len(errors)
        cursor = reply.get("cursor", {})
        for batch in ("firstBatch", "nextBatch"):
            if batch in cursor:
                line["returned"] = len(cursor[batch])
        if "n" in reply:
            line["n"] = int(reply["n"])

    def failed(self, event):
        self.lines[event.request_id]["outcome"] = "error"


def client(application, **options):
    record = Record(application)
    if ARGUMENTS.compressor:
        options["compressors"] = ARGUMENTS.compressor
    made = MongoClient(
        ARGUMENTS.uri, appname=application, maxPoolSize=1, event_listeners=[record], retryWrites=False, retryReads=False, **options
    )
    return made, record


def refused(operation):
    """Runs what the server is to refuse."""
    try:
        operation()
    except PyMongoError:
        return
    raise SystemExit("the server took what it was to refuse")


def tour(application):
    mongo, record = client(application)
    database = mongo["shop"]
    orders = database["orders"]
    orders.drop()
    orders.insert_many({"_id": n, "customer": f"customer {n % 97}", "total": n * 1.5} for n in range(DOCUMENTS))
    assert sum(1 for _ in orders.find({"total": {"$gte": 0}}, batch_size=max(DOCUMENTS // 10, 2))) == DOCUMENTS
    orders.find_one({"customer": "customer 7"}, {"total": 1}, sort=[("_id", -1)])
    orders.insert_one({"_id": "late", "customer": "customer 7"})
    refused(lambda: orders.insert_one({"_id": "late"}))
    writes = [InsertOne({"_id": "a"}), InsertOne({"_id": "a"}), InsertOne({"_id": "late"}), InsertOne({"_id": "b"})]
    try:
        orders.bulk_write(writes, ordered=False)
    except BulkWriteError as error:
        assert len(error.details["writeErrors"]) == 2
    orders.bulk_write([UpdateOne({"_id": "a"}, {"$set": {"total": 1}}), DeleteMany({"_id": {"$in": ["b", "c"]}})])
    orders.update_many({"customer": "customer 7"}, {"$inc": {"total": 1}}, comment="monthly")
    orders.update_one({"_id": "new"}, {"$set": {"total": 5}}, upsert=True)
    list(orders.aggregate([{"$match": {"total": {"$gt": 10}}}, {"$group": {"_id": "$customer", "sum": {"$sum": "$total"}}}]))
    orders.find_one_and_update({"_id": "new"}, {"$set": {"total": 6}})
    orders.find_one_and_delete({"_id": "nobody"})
    orders.count_documents({"total": {"$lt": 100}})
    orders.estimated_document_count()
    orders.distinct("customer", {"total": {"$lt": 50}})
    orders.create_index("customer")
    list(orders.list_indexes())
    orders.delete_many({"total": {"$gt": 1e9}})
    refused(lambda: list(orders.aggregate([{"$nonsense": 1}])))
    refused(lambda: orders.update_one({}, {"$nonsense": {"total": 1}}))
    list(database.list_collections())
    if not ARGUMENTS.limited:
        refused(lambda: database.command("nonsense", "orders"))
        # Nobody answers: the driver takes it for done.
        orders.with_options(write_concern=WriteConcern(w=0)).insert_one({"_id": "unacknowledged"})
        cursor = orders.find({}, batch_size=2)
        next(cursor)
        cursor.close()
    orders.drop()
    mongo.close()
    return record


def main():
    print(f"pymongo {pymongo.version}", file=sys.stderr)
    for application in ("tour", "second tour"):
        for line in tour(application).lines.values():
            print(json.dumps(line))


main()
