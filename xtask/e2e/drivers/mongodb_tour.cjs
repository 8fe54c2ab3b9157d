// Node's driver against a MongoDB server, with its own record of every command. Takes and writes what
// xtask/captures/mongodb.py does, and asks for much the same, as this driver does it.

const { MongoClient } = require("mongodb");

const [uri, number, , compressor] = process.argv.slice(2);
const DOCUMENTS = Number(number);
const lines = new Map();

function started(event, application) {
    lines.set(event.requestId, { application, command: event.commandName, database: event.databaseName });
}

function succeeded({ requestId, reply }) {
    const line = lines.get(requestId);
    const errors = reply.writeErrors ?? [];
    line.outcome = errors.length > 0 || reply.writeConcernError ? "error" : "ok";
    if (errors.length > 0) line.write_errors = errors.length;
    const batch = reply.cursor?.firstBatch ?? reply.cursor?.nextBatch;
    if (batch) line.returned = batch.length;
    if (reply.n !== undefined) line.n = Number(reply.n);
}

async function refused(promise) {
    const failed = await promise.then(() => false, () => true);
    if (!failed) throw new Error("the server took what it was to refuse");
}

async function tour(application) {
    const client = new MongoClient(uri, {
        appName: application, maxPoolSize: 1, monitorCommands: true, retryWrites: false, retryReads: false,
        ...(compressor ? { compressors: [compressor] } : {}),
    });
    client.on("commandStarted", (event) => started(event, application));
    client.on("commandSucceeded", succeeded);
    client.on("commandFailed", ({ requestId }) => { lines.get(requestId).outcome = "error"; });
    const orders = client.db("shop").collection("orders");
    await orders.drop();
    const documents = Array.from({ length: DOCUMENTS }, (_, n) => ({ _id: n, customer: `customer ${n % 97}`, total: n * 1.5 }));
    await orders.insertMany(documents);
    let found = 0;
    for await (const _ of orders.find({ total: { $gte: 0 } }, { batchSize: Math.max(DOCUMENTS / 10, 2) })) found += 1;
    if (found !== DOCUMENTS) throw new Error(`${found} documents found`);
    await orders.findOne({ customer: "customer 7" }, { projection: { total: 1 }, sort: { _id: -1 } });
    await orders.insertOne({ _id: "late", customer: "customer 7" });
    await refused(orders.insertOne({ _id: "late" }));
    const writes = ["a", "a", "late", "b"].map((_id) => ({ insertOne: { document: { _id } } }));
    await refused(orders.bulkWrite(writes, { ordered: false }));
    await orders.bulkWrite([
        { updateOne: { filter: { _id: "a" }, update: { $set: { total: 1 } } } },
        { deleteMany: { filter: { _id: { $in: ["b", "c"] } } } },
    ]);
    await orders.updateMany({ customer: "customer 7" }, { $inc: { total: 1 } }, { comment: "monthly" });
    await orders.updateOne({ _id: "new" }, { $set: { total: 5 } }, { upsert: true });
    await orders.aggregate([{ $match: { total: { $gt: 10 } } }, { $group: { _id: "$customer", sum: { $sum: "$total" } } }]).toArray();
    await orders.findOneAndUpdate({ _id: "new" }, { $set: { total: 6 } });
    await orders.findOneAndDelete({ _id: "nobody" });
    await orders.countDocuments({ total: { $lt: 100 } });
    await orders.estimatedDocumentCount();
    await orders.distinct("customer", { total: { $lt: 50 } });
    await orders.createIndex({ customer: 1 });
    await orders.deleteMany({ total: { $gt: 1e9 } });
    await refused(orders.aggregate([{ $nonsense: 1 }]).toArray());
    await refused(orders.updateOne({}, { $nonsense: { total: 1 } }));
    await orders.drop();
    await client.close();
}

(async () => {
    await tour("tour");
    await tour("second tour");
    for (const line of lines.values()) console.log(JSON.stringify(line));
})();
