//! Publishing to Kafka, on librdkafka's mock cluster: the real protocol, in this process.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use podtap::config::Config;
use podtap::config::{self, Compression, HumanDuration, RecordKey, RecordTimestamp};
use podtap::event::{ConnectionEvent, Encoder, Event, Exchange, Format, Value};
use podtap::publish::{Delivery, Kafka, Output, PublishError, Waits};
use podtap::reference::{example_connection_event, example_event};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message, OwnedMessage, Timestamp};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

const TOPIC: &str = "exchanges";
const PARTITIONS: i32 = 4;

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn settings(cluster: &Cluster) -> config::Kafka {
    config::Kafka {
        brokers: cluster.bootstrap_servers().split(',').map(str::to_owned).collect(),
        topic: TOPIC.to_owned(),
        timeout: HumanDuration(Duration::from_secs(10)),
        ..config::Kafka::default()
    }
}

fn cluster() -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, PARTITIONS, 1).unwrap();
    cluster
}

fn exchange(number: u32) -> Exchange<'static> {
    let mut exchange = example_event();
    exchange.id = format!("{number:032x}").into();
    exchange.connection.exchange = number;
    exchange.connection.id = format!("1:abc-{}", number % 10).into();
    exchange
}

fn connect(settings: &config::Kafka) -> Result<Kafka, PublishError> {
    Kafka::open(settings, None, &Waits::recorded(&Config::default()))
}

fn publish(settings: &config::Kafka, count: u32) -> Delivery {
    let mut kafka = connect(settings).unwrap();
    for number in 0..count {
        kafka.publish(Event::Exchange(&exchange(number))).unwrap();
    }
    kafka.finish().unwrap()
}

fn delivered(delivered: u64) -> Delivery {
    Delivery { delivered, ..Delivery::default() }
}

fn consume(cluster: &Cluster, count: usize) -> Vec<OwnedMessage> {
    consume_topic(cluster, TOPIC, count)
}

fn consume_topic(cluster: &Cluster, topic: &str, count: usize) -> Vec<OwnedMessage> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "test")
        .create()
        .unwrap();
    // Assigned by hand: a consumer group takes seconds to form.
    let mut partitions = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        partitions.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&partitions).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut messages = Vec::new();
    while messages.len() < count && Instant::now() < deadline {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            messages.push(message.unwrap().detach());
        }
    }
    assert_eq!(messages.len(), count);
    messages
}

fn header<'a>(message: &'a OwnedMessage, name: &str) -> &'a str {
    let headers = message.headers().unwrap();
    let value = headers.iter().find(|header| header.key == name).and_then(|header| header.value);
    std::str::from_utf8(value.unwrap()).unwrap()
}

#[test]
fn records_hold_the_encoded_events_and_every_delivery_is_counted() {
    let cluster = cluster();
    for format in [Format::Msgpack, Format::Json] {
        let cluster = if format == Format::Json { &self::cluster() } else { &cluster };
        let delivery = publish(&config::Kafka { format, ..settings(cluster) }, 1000);
        assert_eq!(delivery, delivered(1000));

        let mut encoder = Encoder::new(format);
        let mut expected: Vec<_> =
            (0..1000).map(|number| encoder.encode(Event::Exchange(&exchange(number))).unwrap().to_vec()).collect();
        let records = consume(cluster, 1000);
        let mut found: Vec<_> = records.iter().map(|record| record.payload().unwrap().to_vec()).collect();
        expected.sort();
        found.sort();
        assert!(expected == found);
        for record in &records {
            assert_eq!(header(record, "content-type"), format.media_type());
            assert_eq!(header(record, "podtap-schema"), "podtap.exchange/1");
            assert_eq!(header(record, "podtap-protocol"), "http");
        }
    }
}

#[test]
fn the_default_key_keeps_a_connection_in_order() {
    let cluster = cluster();
    publish(&settings(&cluster), 200);
    let mut last = BTreeMap::new();
    for record in consume(&cluster, 200) {
        let read: Exchange<'_> = rmp_serde::from_slice(record.payload().unwrap()).unwrap();
        assert_eq!(record.key().unwrap(), read.connection.id.as_bytes());
        let (partition, before) = last.entry(read.connection.id.to_string()).or_insert((record.partition(), 0));
        assert_eq!(*partition, record.partition());
        assert!(*before <= read.connection.exchange);
        *before = read.connection.exchange;
    }
}

#[test]
fn key_and_timestamp_are_as_configured() {
    let cluster = cluster();
    let by_server = config::Kafka { key: RecordKey::Server, timestamp: RecordTimestamp::Event, ..settings(&cluster) };
    publish(&by_server, 1);
    let record = &consume(&cluster, 1)[0];
    assert_eq!(record.key(), Some(b"10.1.0.9:80".as_slice()));
    assert_eq!(record.timestamp(), Timestamp::CreateTime(1_767_225_600_123));

    let cluster = self::cluster();
    publish(&config::Kafka { key: RecordKey::None, ..settings(&cluster) }, 1);
    let record = &consume(&cluster, 1)[0];
    assert_eq!(record.key(), None);
    let Timestamp::CreateTime(sent) = record.timestamp() else { panic!("{:?}", record.timestamp()) };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    assert!(now.abs_diff(sent.try_into().unwrap()) < 60_000);
}

#[test]
fn the_event_of_a_connection_has_the_key_of_its_exchanges_and_a_schema_of_its_own() {
    let publish = |key, change: fn(&mut ConnectionEvent<'static>)| {
        let cluster = cluster();
        let mut kafka = connect(&config::Kafka { key, ..settings(&cluster) }).unwrap();
        let mut event = example_connection_event();
        change(&mut event);
        kafka.publish(Event::Connection(&event)).unwrap();
        assert_eq!(kafka.finish().unwrap().delivered, 1);
        consume(&cluster, 1).remove(0)
    };
    let record = publish(RecordKey::Connection, |_| {});
    let read: ConnectionEvent<'_> = rmp_serde::from_slice(record.payload().unwrap()).unwrap();
    assert_eq!(read, example_connection_event());
    assert_eq!(record.key().unwrap(), read.connection.id.as_bytes());
    assert_eq!(header(&record, "podtap-schema"), "podtap.connection/1");
    assert_eq!(header(&record, "podtap-protocol"), "http");

    let record = publish(RecordKey::Server, |event| event.protocol = None);
    assert_eq!(record.key(), Some(b"10.1.0.9:80".as_slice()));
    assert!(record.headers().unwrap().iter().all(|header| header.key != "podtap-protocol"));
    // Nobody knows which end is the server.
    let record = publish(RecordKey::Server, |event| {
        event.endpoints = event.client.take().zip(event.server.take()).map(|(client, server)| [client, server]);
    });
    assert_eq!(record.key(), None);
}

#[test]
fn each_protocol_has_its_topic_where_the_configuration_says_so() {
    let cluster = MockCluster::new(1).unwrap();
    for topic in ["podtap.http", "podtap.echo", "podtap.unknown"] {
        cluster.create_topic(topic, PARTITIONS, 1).unwrap();
    }
    let settings = config::Kafka { topic: "podtap.{protocol}".to_owned(), ..settings(&cluster) };
    let mut kafka = connect(&settings).unwrap();
    for number in 0..300 {
        let mut exchange = exchange(number);
        if number % 3 == 0 {
            exchange.protocol = "echo".into();
        }
        kafka.publish(Event::Exchange(&exchange)).unwrap();
    }
    let nameless = ConnectionEvent { protocol: None, ..example_connection_event() };
    kafka.publish(Event::Connection(&nameless)).unwrap();
    assert_eq!(kafka.finish().unwrap(), delivered(301));
    assert_eq!(consume_topic(&cluster, "podtap.http", 200).len(), 200);
    for record in consume_topic(&cluster, "podtap.echo", 100) {
        assert_eq!(header(&record, "podtap-protocol"), "echo");
    }
    assert_eq!(header(&consume_topic(&cluster, "podtap.unknown", 1)[0], "podtap-schema"), "podtap.connection/1");
}

#[test]
fn brokers_that_do_not_answer_are_named_also_where_no_topic_is_known_yet() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = config::Kafka {
        brokers: vec![closed.to_string()],
        topic: "podtap.{protocol}".to_owned(),
        connect_timeout: HumanDuration(Duration::from_millis(700)),
        ..config::Kafka::default()
    };
    let text = connect(&settings).err().unwrap().to_string();
    assert!(text.starts_with(&format!("kafka: no answer from {closed} within 700ms")), "{text}");
}

#[test]
fn every_compression_is_there() {
    let cluster = cluster();
    for compression in [Compression::Lz4, Compression::Zstd, Compression::Gzip, Compression::Snappy, Compression::None]
    {
        let delivery = publish(&config::Kafka { compression, ..settings(&cluster) }, 10);
        assert_eq!(delivery.delivered, 10, "{compression:?}");
    }
}

#[test]
fn what_the_broker_refuses_is_counted_by_reason() {
    let cluster = cluster();
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD]);
    let mut kafka = connect(&settings(&cluster)).unwrap();
    kafka.publish(Event::Exchange(&exchange(0))).unwrap();
    let delivery = kafka.finish().unwrap();
    assert_eq!(delivery.failed, BTreeMap::from([("invalid_record".to_owned(), 1)]));
    assert_eq!(delivery.delivered, 0);
    assert_eq!(publish(&settings(&cluster), 1), delivered(1));
}

#[test]
fn errors_that_pass_are_retried_without_loss_or_duplicate() {
    let cluster = cluster();
    let passing = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
    ];
    cluster.request_errors(RDKafkaApiKey::Produce, &passing);
    assert_eq!(publish(&settings(&cluster), 100), delivered(100));
    let ids: std::collections::BTreeSet<_> =
        consume(&cluster, 100).iter().map(|record| record.payload().unwrap().to_vec()).collect();
    assert_eq!(ids.len(), 100);
}

#[test]
fn an_event_too_large_for_the_broker_does_not_stop_the_others() {
    let cluster = cluster();
    let mut settings = settings(&cluster);
    settings.librdkafka_options.0.insert("message.max.bytes".to_owned(), "2000".to_owned());
    let mut kafka = connect(&settings).unwrap();
    kafka.publish(Event::Exchange(&exchange(0))).unwrap();
    let mut large = exchange(1);
    large.summary = Some("x".repeat(4000).into());
    kafka.publish(Event::Exchange(&large)).unwrap();
    let delivery = kafka.finish().unwrap();
    assert_eq!(delivery.delivered, 1);
    assert_eq!(delivery.failed, BTreeMap::from([("message_size_too_large".to_owned(), 1)]));
}

#[test]
fn an_event_too_large_for_the_broker_loses_its_largest_attributes_and_says_so() {
    let cluster = cluster();
    let mut settings = settings(&cluster);
    settings.librdkafka_options.0.insert("message.max.bytes".to_owned(), "2000".to_owned());
    let mut kafka = connect(&settings).unwrap();
    let mut large = exchange(0);
    let kept = large.attributes.clone();
    for name in ["x.large", "x.larger"] {
        large.attributes.0.insert(1, (name.into(), Value::Text("x".repeat(1500 + name.len()).into())));
    }
    kafka.publish(Event::Exchange(&large)).unwrap();
    assert_eq!(kafka.finish().unwrap(), delivered(1));
    let record = &consume(&cluster, 1)[0];
    let read: Exchange<'_> = rmp_serde::from_slice(record.payload().unwrap()).unwrap();
    assert!(read.loss.unwrap().truncated);
    assert_eq!(read.attributes, kept);
}

#[test]
fn a_full_queue_waits_for_the_broker() {
    let cluster = cluster();
    let mut settings = settings(&cluster);
    settings.librdkafka_options.0.insert("queue.buffering.max.messages".to_owned(), "50".to_owned());
    assert_eq!(publish(&settings, 2000).delivered, 2000);
}

#[test]
fn a_broker_that_goes_away_ends_the_run_by_name_and_what_waits_is_counted() {
    let cluster = cluster();
    let mut settings = settings(&cluster);
    settings.timeout = HumanDuration(Duration::from_millis(500));
    settings.librdkafka_options.0.insert("queue.buffering.max.messages".to_owned(), "50".to_owned());
    let waits = Waits { queue_bytes: 1 << 20, ..Waits::recorded(&Config::default()) };
    let mut kafka = Kafka::open(&settings, None, &waits).unwrap();
    cluster.broker_down(-1).unwrap();
    let mut accepted = 0;
    let error = loop {
        accepted += 1;
        if let Err(error) = kafka.publish(Event::Exchange(&exchange(accepted))) {
            break error;
        }
    };
    assert!(matches!(error, PublishError::KafkaStalled { pending, .. } if pending > 50), "{error}");
    let text = error.to_string();
    assert!(text.contains(&settings.brokers[0]) && text.contains("500ms") && text.contains("kafka.timeout"), "{text}");
    let delivery = kafka.finish().unwrap();
    assert_eq!(delivery.delivered, 0);
    assert_eq!(delivery.failed, BTreeMap::from([("not_acknowledged_in_time".to_owned(), u64::from(accepted))]));
}

#[test]
fn what_is_not_acknowledged_at_the_end_is_counted() {
    let cluster = cluster();
    let settings = config::Kafka { timeout: HumanDuration(Duration::from_millis(500)), ..settings(&cluster) };
    let mut kafka = connect(&settings).unwrap();
    cluster.broker_down(-1).unwrap();
    kafka.publish(Event::Exchange(&exchange(0))).unwrap();
    let delivery = kafka.finish().unwrap();
    assert_eq!(delivery.failed, BTreeMap::from([("not_acknowledged_in_time".to_owned(), 1)]));
}

#[test]
fn a_broker_that_does_not_answer_is_named_with_what_to_do() {
    // Connections are accepted by the system, and nothing is ever said.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (address, reason) in [(silent.local_addr().unwrap(), ""), (closed, "Connection refused")] {
        let settings = config::Kafka {
            brokers: vec![address.to_string()],
            topic: TOPIC.to_owned(),
            connect_timeout: HumanDuration(Duration::from_millis(700)),
            ..config::Kafka::default()
        };
        let started = Instant::now();
        let error = connect(&settings).err().unwrap();
        assert!(matches!(error, PublishError::KafkaUnreachable { .. }), "{error}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("kafka: no answer from {address} within 700ms")), "{text}");
        assert!(text.contains(reason) && text.contains("check kafka.brokers"), "{text}");
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn a_topic_that_is_not_there_is_named() {
    let cluster = cluster();
    cluster.topic_error("missing", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let settings = config::Kafka {
        topic: "missing".to_owned(),
        connect_timeout: HumanDuration(Duration::from_millis(700)),
        ..settings(&cluster)
    };
    let text = connect(&settings).err().unwrap().to_string();
    assert!(text.starts_with("kafka: topic \"missing\" on 127.0.0.1:"), "{text}");
    assert!(text.contains("create the topic or correct kafka.topic"), "{text}");
}

#[test]
fn a_topic_that_the_broker_creates_is_used() {
    let cluster = MockCluster::new(1).unwrap();
    assert_eq!(publish(&settings(&cluster), 10).delivered, 10);
}

#[test]
fn a_setting_that_librdkafka_refuses_is_named_but_no_secret_is_shown() {
    let cluster = cluster();
    let refused = |options: &[(&str, &str)]| {
        let mut settings = settings(&cluster);
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        settings.librdkafka_options.0.extend(options);
        connect(&settings).err().unwrap().to_string()
    };
    let text = refused(&[("no.such.setting", "1")]);
    assert_eq!(
        text,
        "kafka: no.such.setting: \"1\": No such configuration property: \"no.such.setting\"; check \
         kafka.librdkafka_options and the other keys of that section"
    );
    for secret in [("ssl.key.pem", "hunter2"), ("no.such.password", "hunter2")] {
        let text = refused(&[("security.protocol", "ssl"), secret]);
        assert!(text.contains(secret.0) && !text.contains("hunter2"), "{text}");
    }
}
