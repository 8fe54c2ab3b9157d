import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.time.Instant;
import java.time.format.DateTimeParseException;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.BuiltInDslStoreSuppliers.InMemoryDslStoreSuppliers;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

/**
 * Requests per minute by service, operation, route and status, with the quantiles of their durations, from a topic of
 * podtap's events in JSON ({@code kafka.format: json}) to another topic.
 *
 * <p>Arguments: brokers, topic of the events, topic of the results, and for how many minutes a minute waits for events
 * that come late (10 when not given; as far as the topic goes back where its history is read).
 *
 * <p>A result is a JSON object; its key is what it is about. One that comes later for the same key and minute replaces
 * the one before. Events are told by their {@code id}: what delivery at least once brings twice is counted once.
 */
public final class RequestsPerMinute {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Duration MINUTE = Duration.ofMinutes(1);
    private static final AtomicLong UNREADABLE = new AtomicLong();

    public static void main(String[] arguments) throws InterruptedException {
        if (arguments.length < 3) {
            System.err.println("arguments: BROKERS EVENTS-TOPIC RESULTS-TOPIC [MINUTES]");
            System.exit(2);
        }
        Duration grace = Duration.ofMinutes(arguments.length > 3 ? Long.parseLong(arguments[3]) : 10);
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "requests-per-minute-" + arguments[1]);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        // With the events, what was counted of them is committed: a crash counts nothing twice.
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
        // So RocksDB, 70 MB, is not needed.
        settings.put(StreamsConfig.DSL_STORE_SUPPLIERS_CLASS_CONFIG, InMemoryDslStoreSuppliers.class);
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");

        KafkaStreams streams = new KafkaStreams(topology(arguments[1], arguments[2], grace), settings);
        CountDownLatch ended = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            streams.close(Duration.ofSeconds(10));
            System.err.println(UNREADABLE.get() + " records could not be read");
            ended.countDown();
        }));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return StreamThreadExceptionResponse.REPLACE_THREAD;
        });
        streams.start();
        ended.await();
    }

    private static Topology topology(String events, String results, Duration grace) {
        StreamsBuilder builder = new StreamsBuilder();
        Duration kept = grace.plus(MINUTE);
        builder.addStateStore(Stores.windowStoreBuilder(
                Stores.inMemoryWindowStore("ids", kept, MINUTE, false), Serdes.String(), Serdes.ByteArray()));
        builder.stream(events, Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
                .process(Exchanges::new, "ids")
                .groupByKey(Grouped.with("requests", Serdes.String(), Serdes.Long()))
                .windowedBy(TimeWindows.ofSizeAndGrace(MINUTE, grace))
                .aggregate(Minute::new, (key, durationNs, minute) -> minute.add(durationNs),
                        Materialized.<String, Minute, WindowStore<Bytes, byte[]>>as("minutes")
                                .withKeySerde(Serdes.String()).withValueSerde(Minute.SERDE).withRetention(kept))
                .toStream()
                .map((key, minute) -> {
                    Instant start = key.window().startTime();
                    return KeyValue.pair(start + " " + key.key(), result(start, key.key(), minute));
                })
                .to(results, Produced.with(Serdes.String(), Serdes.String()));
        return builder.build();
    }

    /** Events to what they are counted under, and their durations in ns; -1 where there is none. */
    static final class Exchanges implements Processor<byte[], byte[], String, Long> {
        private ProcessorContext<String, Long> context;
        private WindowStore<String, byte[]> ids;

        @Override
        public void init(ProcessorContext<String, Long> context) {
            this.context = context;
            this.ids = context.getStateStore("ids");
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            JsonNode event = parse(record.value());
            if (event == null) {
                UNREADABLE.incrementAndGet();
                return;
            }
            // Events of connections, and kinds that later versions may bring.
            if (event.has("kind")) {
                return;
            }
            // An event belongs to the minute in which it was captured, whenever it was sent.
            long time = Instant.parse(event.get("time").textValue()).toEpochMilli();
            // The same id has the same time, and as its record has the same key, it is in this partition.
            String id = event.get("id").textValue();
            if (ids.fetch(id, time) != null) {
                return;
            }
            ids.put(id, new byte[0], time);
            context.forward(new Record<>(key(event), event.path("duration").asLong(-1), time));
        }
    }

    /** The event; null where it is none. */
    private static JsonNode parse(byte[] value) {
        try {
            JsonNode event = value == null ? null : JSON.readTree(value);
            if (event == null || !event.path("id").isTextual()) {
                return null;
            }
            Instant.parse(event.path("time").asText());
            return event;
        } catch (IOException | DateTimeParseException error) {
            return null;
        }
    }

    /** What an exchange is counted under, as a JSON object. Few values each: a path only where no route is known. */
    static String key(JsonNode event) {
        JsonNode server = event.path("server");
        JsonNode attributes = event.path("attributes");
        String address = server.path("address").asText() + ":" + server.path("port").asText();
        ObjectNode key = JSON.createObjectNode();
        // On the client's side, or between the two, the resource is that of another service.
        boolean isServers = Set.of("server", "").contains(event.path("vantage").asText(""));
        String service = event.path("resource").path("service.name").asText("");
        key.put("service", isServers && !service.isEmpty() ? service : address);
        key.put("protocol", event.path("protocol").asText());
        key.put("operation", event.path("operation").asText(""));
        key.put("route", attributes.path("http.route").asText(event.path("target").asText("")));
        key.put("status", status(attributes));
        key.put("outcome", event.path("outcome").asText());
        return key.toString();
    }

    /** {@code http.response.status_code}, {@code db.response.status_code} and their like. */
    private static String status(JsonNode attributes) {
        for (Map.Entry<String, JsonNode> field : attributes.properties()) {
            if (field.getKey().endsWith(".response.status_code")) {
                return field.getValue().asText();
            }
        }
        return "";
    }

    private static String result(Instant start, String key, Minute minute) {
        try {
            ObjectNode result = (ObjectNode) JSON.readTree(key);
            result.put("minute", start.toString());
            result.put("requests", minute.requests);
            for (int percent : new int[] {50, 95, 99}) {
                if (!minute.durations.isEmpty()) {
                    result.put("p" + percent + "_ns", minute.quantile(percent / 100.0));
                }
            }
            return result.toString();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    /** The requests of a minute, and their durations in at most 1,888 buckets, none wider than 1/32 of its value. */
    static final class Minute {
        static final Serde<Minute> SERDE =
                Serdes.serdeFrom((topic, minute) -> minute.bytes(), (topic, bytes) -> of(bytes));

        public long requests;
        public TreeMap<Integer, Long> durations = new TreeMap<>();

        Minute add(long durationNs) {
            requests++;
            if (durationNs >= 0) {
                durations.merge(bucket(durationNs), 1L, Long::sum);
            }
            return this;
        }

        /** Lower bound of the bucket that the quantile is in, by nearest rank. */
        long quantile(double quantile) {
            long total = durations.values().stream().mapToLong(Long::longValue).sum();
            long rank = Math.max(1, (long) Math.ceil(quantile * total));
            for (Map.Entry<Integer, Long> bucket : durations.entrySet()) {
                rank -= bucket.getValue();
                if (rank <= 0) {
                    return lowerBound(bucket.getKey());
                }
            }
            return 0;
        }

        /** Up to 63 ns a bucket each; above, 32 to every power of two. */
        static int bucket(long value) {
            int shift = Math.max(0, 58 - Long.numberOfLeadingZeros(value));
            return (shift << 5) + (int) (value >>> shift);
        }

        static long lowerBound(int bucket) {
            int shift = Math.max(0, (bucket >> 5) - 1);
            return (long) (bucket - (shift << 5)) << shift;
        }

        private byte[] bytes() {
            try {
                return JSON.writeValueAsBytes(this);
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }

        private static Minute of(byte[] bytes) {
            try {
                return bytes == null ? null : JSON.readValue(bytes, Minute.class);
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }
    }
}
