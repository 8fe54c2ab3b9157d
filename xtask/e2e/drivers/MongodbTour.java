import static com.mongodb.client.model.Filters.eq;
import static com.mongodb.client.model.Filters.gt;
import static com.mongodb.client.model.Filters.gte;
import static com.mongodb.client.model.Filters.in;
import static com.mongodb.client.model.Filters.lt;
import static com.mongodb.client.model.Updates.inc;
import static com.mongodb.client.model.Updates.set;

import com.mongodb.ConnectionString;
import com.mongodb.MongoClientSettings;
import com.mongodb.MongoCompressor;
import com.mongodb.MongoException;
import com.mongodb.client.MongoClient;
import com.mongodb.client.MongoClients;
import com.mongodb.client.MongoCollection;
import com.mongodb.client.model.BulkWriteOptions;
import com.mongodb.client.model.DeleteManyModel;
import com.mongodb.client.model.InsertOneModel;
import com.mongodb.client.model.UpdateOneModel;
import com.mongodb.client.model.UpdateOptions;
import com.mongodb.event.CommandFailedEvent;
import com.mongodb.event.CommandListener;
import com.mongodb.event.CommandStartedEvent;
import com.mongodb.event.CommandSucceededEvent;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.bson.BsonDocument;
import org.bson.Document;

/**
 * Java's driver against a MongoDB server, with its own record of every command. Takes and writes what
 * xtask/captures/mongodb.py does, and asks for much the same, as this driver does it.
 */
class MongodbTour {
    /** Keeps a line for each command, in the order of their starts. */
    private static class Record implements CommandListener {
        private final String application;
        private final Map<Integer, Document> lines = new LinkedHashMap<>();

        Record(String application) {
            this.application = application;
        }

        @Override
        public synchronized void commandStarted(CommandStartedEvent event) {
            Document line = new Document("application", application).append("command", event.getCommandName());
            lines.put(event.getRequestId(), line.append("database", event.getDatabaseName()));
        }

        @Override
        public synchronized void commandSucceeded(CommandSucceededEvent event) {
            Document line = lines.get(event.getRequestId());
            BsonDocument reply = event.getResponse();
            int errors = reply.containsKey("writeErrors") ? reply.getArray("writeErrors").size() : 0;
            line.append("outcome", errors > 0 || reply.containsKey("writeConcernError") ? "error" : "ok");
            if (errors > 0) {
                line.append("write_errors", errors);
            }
            BsonDocument cursor = reply.getDocument("cursor", new BsonDocument());
            for (String batch : List.of("firstBatch", "nextBatch")) {
                if (cursor.containsKey(batch)) {
                    line.append("returned", cursor.getArray(batch).size());
                }
            }
            if (reply.containsKey("n")) {
                line.append("n", reply.getNumber("n").intValue());
            }
        }

        @Override
        public synchronized void commandFailed(CommandFailedEvent event) {
            lines.get(event.getRequestId()).append("outcome", "error");
        }
    }

    private static void refused(Runnable operation) {
        try {
            operation.run();
        } catch (MongoException expected) {
            return;
        }
        throw new IllegalStateException("the server took what it was to refuse");
    }

    private static void tour(String[] arguments, String application) {
        int documents = Integer.parseInt(arguments[1]);
        Record record = new Record(application);
        MongoClientSettings.Builder settings = MongoClientSettings.builder()
            .applyConnectionString(new ConnectionString(arguments[0])).applicationName(application)
            .addCommandListener(record).retryWrites(false).retryReads(false)
            .applyToConnectionPoolSettings(pool -> pool.maxSize(1));
        if (arguments.length > 3) {
            settings.compressorList(List.of(MongoCompressor.createZlibCompressor()));
        }
        try (MongoClient client = MongoClients.create(settings.build())) {
            MongoCollection<Document> orders = client.getDatabase("shop").getCollection("orders");
            orders.drop();
            orders.insertMany(IntStream.range(0, documents).mapToObj(n -> new Document("_id", n)
                .append("customer", "customer " + n % 97).append("total", n * 1.5)).toList());
            int found = orders.find(gte("total", 0)).batchSize(Math.max(documents / 10, 2)).into(new ArrayList<>()).size();
            if (found != documents) {
                throw new IllegalStateException(found + " documents found");
            }
            orders.find(eq("customer", "customer 7")).projection(new Document("total", 1)).sort(new Document("_id", -1)).first();
            orders.insertOne(new Document("_id", "late").append("customer", "customer 7"));
            refused(() -> orders.insertOne(new Document("_id", "late")));
            refused(() -> orders.bulkWrite(Stream.of("a", "a", "late", "b").map(id ->
                new InsertOneModel<>(new Document("_id", id))).toList(), new BulkWriteOptions().ordered(false)));
            orders.bulkWrite(List.of(new UpdateOneModel<>(eq("_id", "a"), set("total", 1)),
                new DeleteManyModel<>(in("_id", "b", "c"))));
            orders.updateMany(eq("customer", "customer 7"), inc("total", 1), new UpdateOptions().comment("monthly"));
            orders.updateOne(eq("_id", "new"), set("total", 5), new UpdateOptions().upsert(true));
            orders.aggregate(List.of(Document.parse("{$match: {total: {$gt: 10}}}"),
                Document.parse("{$group: {_id: '$customer', sum: {$sum: '$total'}}}"))).into(new ArrayList<>());
            orders.findOneAndUpdate(eq("_id", "new"), set("total", 6));
            orders.findOneAndDelete(eq("_id", "nobody"));
            orders.countDocuments(lt("total", 100));
            orders.estimatedDocumentCount();
            orders.distinct("customer", lt("total", 50), String.class).into(new ArrayList<>());
            orders.createIndex(new Document("customer", 1));
            orders.deleteMany(gt("total", 1e9));
            refused(() -> orders.aggregate(List.of(new Document("$nonsense", 1))).first());
            refused(() -> orders.updateOne(new Document(), Document.parse("{$nonsense: {total: 1}}")));
            orders.drop();
        }
        record.lines.values().forEach(line -> System.out.println(line.toJson()));
    }

    public static void main(String[] arguments) {
        tour(arguments, "tour");
        tour(arguments, "second tour");
    }
}
