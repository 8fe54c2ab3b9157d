"""So many small commands by pymongo, as an application sends them: `mongodb_load.py URI COMMANDS [A-SECOND]`.

Without a pace as fast as it goes; with one, what an earlier run has left is dropped first. Six in ten read one document, one inserts one, one deletes that again, one changes one, one reads twenty.
"""

import sys
import time

from pymongo import MongoClient

URI, COMMANDS = sys.argv[1], int(sys.argv[2])
PACE = int(sys.argv[3]) if len(sys.argv) > 3 else None
LINE = {"sku": "a-1047", "count": 2, "price": 19.9}

with MongoClient(URI, serverSelectionTimeoutMS=20000, appname="load") as client:
    orders = client.shop.orders
    if PACE:
        orders.drop()
    orders.insert_many({"_id": -n, "customer": n % 97, "lines": [LINE] * 3} for n in range(1, 101))
    begun = time.monotonic()
    for number in range(COMMANDS):
        if PACE:
            time.sleep(max(0, begun + number / PACE - time.monotonic()))
        kind = number % 10
        if kind < 6:
            orders.find_one({"_id": -1 - number % 100})
        elif kind < 7:
            orders.insert_one({"_id": number, "customer": number % 97, "lines": [LINE] * 3})
        elif kind < 8:
            orders.delete_one({"_id": number - 1})
        elif kind < 9:
            orders.update_one({"_id": -1 - number % 100}, {"$set": {"customer": number % 97}})
        else:
            list(orders.find({"_id": {"$lt": 0}}).limit(20))
