//! Publishing live traffic to Kafka on librdkafka's mock cluster: brokers that are away, topics that are refused, queues
//! and spools that are full. The sum is held every time: what was taken arrived, or is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use podtap::config::{self, ByteSize, Config, HumanDuration};
use podtap::event::{Event, Exchange};
use podtap::publish::{Delivery, Kafka, Output, PublishError, Traffic, Waits};
use podtap::reference::example_event;
use podtap::stop::Stop;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

const TOPIC: &str = "exchanges";

type Cluster = MockCluster<'static, DefaultProducerContext>;

struct Run {
    kafka: config::Kafka,
    spool: config::Spool,
    waits: Waits,
}

fn cluster() -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 1, 1).unwrap();
    cluster
}

/// Live, with little room: librdkafka takes 100 records.
fn run(cluster: &Cluster) -> Run {
    let mut kafka = config::Kafka {
        brokers: cluster.bootstrap_servers().split(',').map(str::to_owned).collect(),
        topic: TOPIC.to_owned(),
        timeout: HumanDuration(Duration::from_secs(20)),
        ..config::Kafka::default()
    };
    for (name, value) in [("queue.buffering.max.messages", "100"), ("reconnect.backoff.max.ms", "200")] {
        kafka.librdkafka_options.0.insert(name.to_owned(), value.to_owned());
    }
    let stop = Stop::by_hand(Duration::from_millis(500));
    let waits = Waits { traffic: Traffic::Live, stop, ..Waits::recorded(&Config::default()) };
    Run { kafka, spool: config::Spool::default(), waits }
}

impl Run {
    fn spooled(mut self, directory: &Path) -> Run {
        self.spool.directory = Some(directory.to_owned());
        self
    }

    fn open(&self) -> Result<Kafka, PublishError> {
        Kafka::open(&self.kafka, Some(&self.spool), &self.waits)
    }
}

fn publish(kafka: &mut Kafka, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let exchange = Exchange { id: format!("{number:032x}").into(), ..example_event() };
        kafka.publish(Event::Exchange(&exchange)).unwrap();
    }
    kafka.flush().unwrap();
}

/// Numbers of the topic's events, and how many records there are.
fn consume(cluster: &Cluster) -> (BTreeSet<u32>, usize) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "test")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(TOPIC, 0, Offset::Beginning).unwrap();
    consumer.assign(&partitions).unwrap();
    let (mut numbers, mut records) = (BTreeSet::new(), 0);
    // The end of the partition is an error of its own.
    while let Some(Ok(message)) = consumer.poll(Duration::from_secs(20)) {
        let exchange: Exchange<'_> = rmp_serde::from_slice(message.payload().unwrap()).unwrap();
        numbers.insert(u32::from_str_radix(&exchange.id, 16).unwrap());
        records += 1;
    }
    (numbers, records)
}

fn failed(delivery: &Delivery, reason: &str) -> u64 {
    delivery.failed.get(reason).copied().unwrap_or_default()
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "it takes too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn segments(directory: &Path) -> usize {
    directory.read_dir().unwrap().filter(|entry| entry.as_ref().unwrap().file_name() != "lock").count()
}

/// What the threads of all tests log.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Keeps what is logged from now on.
fn keep_log() {
    static KEPT: OnceLock<()> = OnceLock::new();
    KEPT.get_or_init(|| {
        let filter = tracing_subscriber::EnvFilter::new("podtap=debug");
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(|| Log).init();
    });
}

/// How many lines of the log say something.
fn logged(text: &str) -> usize {
    String::from_utf8_lossy(&LOG.lock().unwrap()).lines().filter(|line| line.contains(text)).count()
}

#[test]
fn brokers_that_are_away_at_the_start_are_waited_for() {
    let cluster = cluster();
    let run = run(&cluster);
    cluster.broker_down(-1).unwrap();
    let mut kafka = run.open().unwrap();
    publish(&mut kafka, 0..500);
    std::thread::sleep(Duration::from_millis(300));
    cluster.broker_up(-1).unwrap();
    let delivery = kafka.finish().unwrap();
    assert_eq!(delivery, Delivery { delivered: 500, ..Delivery::default() });
    assert_eq!(consume(&cluster), ((0..500).collect(), 500));
}

#[test]
fn a_full_queue_drops_the_oldest_counts_them_and_never_waits() {
    let cluster = cluster();
    let run = run(&cluster);
    let run = Run { waits: Waits { queue_bytes: 300_000, ..run.waits.clone() }, ..run };
    cluster.broker_down(-1).unwrap();
    let mut kafka = run.open().unwrap();
    let start = Instant::now();
    publish(&mut kafka, 0..5000);
    assert!(start.elapsed() < Duration::from_secs(10));
    let outage = Duration::from_secs(2);
    std::thread::sleep(outage.saturating_sub(start.elapsed()));
    publish(&mut kafka, 5000..5001);
    cluster.broker_up(-1).unwrap();
    let delivery = kafka.finish().unwrap();
    // Whoever waits for the brokers waits for as long as they are away; whoever is not given the processor, does not.
    let times = kafka.hand_over();
    assert!(times.chunks() > 10 && times.longest() < outage / 2, "{times}");
    let dropped = failed(&delivery, "queue_full");
    assert!(dropped > 1000, "{delivery:?}");
    assert_eq!(delivery.delivered + dropped, 5001, "{delivery:?}");
    let (numbers, _) = consume(&cluster);
    assert_eq!(numbers.len() as u64, delivery.delivered);
    assert!(numbers.contains(&5000));
}

#[test]
fn a_spool_keeps_what_cannot_be_sent_for_the_next_run() {
    let (cluster, folder) = (cluster(), tempfile::tempdir().unwrap());
    let first = run(&cluster).spooled(folder.path());
    cluster.broker_down(-1).unwrap();
    let mut kafka = first.open().unwrap();
    publish(&mut kafka, 0..5000);
    first.waits.stop.request();
    let delivery = kafka.finish().unwrap();
    assert_eq!((delivery.delivered, delivery.failed_total()), (0, 0), "{delivery:?}");
    assert_eq!(delivery.spool.unwrap().left, 5000);
    drop(kafka);

    cluster.broker_up(-1).unwrap();
    let mut kafka = run(&cluster).spooled(folder.path()).open().unwrap();
    publish(&mut kafka, 5000..5100);
    let delivery = kafka.finish().unwrap();
    assert_eq!((delivery.delivered, delivery.failed_total()), (5100, 0));
    let spool = delivery.spool.unwrap();
    assert_eq!((spool.recovered, spool.left), (5000, 0));
    assert_eq!(consume(&cluster).0, (0..5100).collect());
    assert_eq!(segments(folder.path()), 0);
}

/// What keeps the spool from its first file, as a full disk does.
fn full_disk(directory: &Path) -> PathBuf {
    let obstacle = directory.join("0000000000000001.segment");
    std::fs::create_dir(&obstacle).unwrap();
    obstacle
}

#[test]
fn a_disk_that_was_full_for_a_moment_takes_what_waits_as_soon_as_it_can() {
    let (cluster, folder) = (cluster(), tempfile::tempdir().unwrap());
    let run = run(&cluster).spooled(folder.path());
    let run = Run { waits: Waits { queue_bytes: 300_000, ..run.waits.clone() }, ..run };
    cluster.broker_down(-1).unwrap();
    let mut kafka = run.open().unwrap();
    let obstacle = full_disk(folder.path());
    publish(&mut kafka, 0..200);
    // Long enough for the first write to be refused.
    std::thread::sleep(Duration::from_millis(300));
    std::fs::remove_dir(obstacle).unwrap();
    wait_until(|| segments(folder.path()) > 0);
    // Ten times what the queue holds.
    for part in 0..100 {
        publish(&mut kafka, 200 + part * 100..300 + part * 100);
        std::thread::sleep(Duration::from_millis(10));
    }
    run.waits.stop.request();
    let delivery = kafka.finish().unwrap();
    // librdkafka had the first ones before they were on the disk.
    assert_eq!(delivery.failed, BTreeMap::from([("not_acknowledged_in_time".to_owned(), 100)]));
    let spool = delivery.spool.unwrap();
    assert_eq!((spool.bypassed, spool.left), (200, 10_100));
}

#[test]
fn what_the_disk_refused_is_tried_once_more_at_the_end() {
    let (cluster, folder) = (cluster(), tempfile::tempdir().unwrap());
    let run = run(&cluster).spooled(folder.path());
    cluster.broker_down(-1).unwrap();
    let mut kafka = run.open().unwrap();
    let obstacle = full_disk(folder.path());
    publish(&mut kafka, 0..200);
    std::thread::sleep(Duration::from_millis(300));
    publish(&mut kafka, 200..300);
    // The grace is over before the disk is asked again.
    run.waits.stop.request();
    std::fs::remove_dir(obstacle).unwrap();
    let delivery = kafka.finish().unwrap();
    assert_eq!((delivery.failed_total(), delivery.spool.unwrap().left), (100, 200), "{delivery:?}");
}

#[test]
fn a_spool_bridges_an_outage_within_a_run() {
    let (cluster, folder) = (cluster(), tempfile::tempdir().unwrap());
    let run = run(&cluster).spooled(folder.path());
    let mut kafka = run.open().unwrap();
    for round in 0..3 {
        publish(&mut kafka, round * 4000..round * 4000 + 2000);
        cluster.broker_down(-1).unwrap();
        publish(&mut kafka, round * 4000 + 2000..round * 4000 + 4000);
        std::thread::sleep(Duration::from_millis(200));
        cluster.broker_up(-1).unwrap();
    }
    let delivery = kafka.finish().unwrap();
    assert_eq!((delivery.delivered, delivery.failed_total()), (12_000, 0), "{delivery:?}");
    assert_eq!(consume(&cluster).0, (0..12_000).collect());
}

#[test]
fn a_spool_at_its_cap_drops_the_oldest_and_the_sum_is_exact() {
    let (cluster, folder) = (cluster(), tempfile::tempdir().unwrap());
    let mut run = run(&cluster).spooled(folder.path());
    (run.spool.max_bytes, run.spool.segment_bytes) = (ByteSize(2 << 20), ByteSize(1 << 20));
    cluster.broker_down(-1).unwrap();
    let mut kafka = run.open().unwrap();
    for part in 0..10 {
        publish(&mut kafka, part * 1000..part * 1000 + 1000);
        std::thread::sleep(Duration::from_millis(20));
    }
    cluster.broker_up(-1).unwrap();
    let delivery = kafka.finish().unwrap();
    let dropped = failed(&delivery, "spool_full");
    assert!(dropped > 1000, "{delivery:?}");
    assert_eq!(delivery.delivered + delivery.failed_total(), 10_000, "{delivery:?}");
    let (numbers, records) = consume(&cluster);
    assert_eq!((numbers.len() as u64, records as u64), (delivery.delivered, delivery.delivered));
}

#[test]
fn what_is_refused_for_a_reason_that_may_pass_is_sent_again() {
    let (cluster, folder) = (cluster(), tempfile::tempdir().unwrap());
    let refusals = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED];
    for spooled in [false, true] {
        cluster.request_errors(RDKafkaApiKey::Produce, &refusals);
        let run = run(&cluster);
        let mut kafka = if spooled { run.spooled(folder.path()).open() } else { run.open() }.unwrap();
        let from = if spooled { 100 } else { 0 };
        publish(&mut kafka, from..from + 100);
        let delivery = kafka.finish().unwrap();
        assert_eq!((delivery.delivered, delivery.failed_total()), (100, 0), "{delivery:?}");
    }
    assert_eq!(consume(&cluster).0, (0..200).collect());
    assert_eq!(segments(folder.path()), 0);
}

#[test]
fn a_topic_that_is_not_there_is_waited_for() {
    keep_log();
    let (cluster, folder) = (cluster(), tempfile::tempdir().unwrap());
    for spooled in [false, true] {
        cluster.topic_error(TOPIC, RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
        let mut run = run(&cluster);
        run.kafka.librdkafka_options.0.insert("topic.metadata.propagation.max.ms".to_owned(), "100".to_owned());
        let mut kafka = if spooled { run.spooled(folder.path()).open() } else { run.open() }.unwrap();
        let from = if spooled { 400 } else { 0 };
        publish(&mut kafka, from..from + 200);
        // Long enough to be known not to be there, and for another try.
        std::thread::sleep(Duration::from_secs(8));
        publish(&mut kafka, from + 200..from + 400);
        cluster.topic_error(TOPIC, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
        let delivery = kafka.finish().unwrap();
        assert_eq!((delivery.delivered, delivery.failed_total()), (400, 0), "{delivery:?}");
    }
    // What librdkafka had no room for, it does not even take.
    assert!(logged("nothing can be sent for now") > 0);
    assert_eq!(consume(&cluster).0, (0..800).collect());
    assert_eq!(segments(folder.path()), 0);
}

#[test]
fn after_a_fatal_error_another_producer_goes_on_with_what_there_is() {
    keep_log();
    let (cluster, folder) = (cluster(), tempfile::tempdir().unwrap());
    for spooled in [false, true] {
        let renewed = logged("another one goes on");
        // As a broker says that has lost what it knew of the producer: nothing that librdkafka goes on from.
        let lost = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
        cluster.request_errors(RDKafkaApiKey::Produce, &[lost]);
        let run = run(&cluster);
        let mut kafka = if spooled { run.spooled(folder.path()).open() } else { run.open() }.unwrap();
        let from = if spooled { 2000 } else { 0 };
        publish(&mut kafka, from..from + 1000);
        wait_until(|| logged("another one goes on") > renewed);
        publish(&mut kafka, from + 1000..from + 2000);
        let delivery = kafka.finish().unwrap();
        assert_eq!((delivery.delivered, delivery.failed_total()), (2000, 0), "{delivery:?}");
    }
    assert_eq!(consume(&cluster).0, (0..4000).collect());
    assert_eq!(segments(folder.path()), 0);
}

#[test]
fn a_topic_that_comes_later_is_noticed_where_librdkafka_had_taken_all_that_there_is() {
    let cluster = cluster();
    cluster.topic_error(TOPIC, RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let mut run = run(&cluster);
    run.kafka.librdkafka_options.0.insert("topic.metadata.propagation.max.ms".to_owned(), "100".to_owned());
    let mut kafka = run.open().unwrap();
    publish(&mut kafka, 0..10);
    // Long enough to be given back.
    std::thread::sleep(Duration::from_secs(3));
    cluster.topic_error(TOPIC, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    let delivery = kafka.finish().unwrap();
    assert_eq!((delivery.delivered, delivery.failed_total()), (10, 0), "{delivery:?}");
}

#[test]
fn while_a_topic_refuses_records_the_spool_takes_what_comes() {
    let (cluster, folder) = (cluster(), tempfile::tempdir().unwrap());
    let run = run(&cluster).spooled(folder.path());
    let run = Run { waits: Waits { queue_bytes: 300_000, ..run.waits.clone() }, ..run };
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    let mut kafka = run.open().unwrap();
    publish(&mut kafka, 0..10);
    std::thread::sleep(Duration::from_secs(1));
    // It is not tried again yet.
    for part in 0..50 {
        publish(&mut kafka, 10 + part * 100..110 + part * 100);
        std::thread::sleep(Duration::from_millis(20));
    }
    let delivery = kafka.finish().unwrap();
    assert_eq!((delivery.delivered, delivery.failed_total()), (5010, 0), "{delivery:?}");
    assert_eq!(consume(&cluster).0, (0..5010).collect());
}

/// Where each protocol has its topic, and that of one is not there.
#[test]
fn a_topic_that_takes_nothing_stops_no_other_and_is_used_once_it_does() {
    let (cluster, folder) = (MockCluster::new(1).unwrap(), tempfile::tempdir().unwrap());
    ["podtap.http", "podtap.mysql"].iter().for_each(|topic| cluster.create_topic(topic, 1, 1).unwrap());
    cluster.topic_error("podtap.mysql", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let runs = [run(&cluster), run(&cluster).spooled(folder.path())];
    let mut opened = runs.each_ref().map(|run| {
        let mut kafka = run.kafka.clone();
        kafka.topic = "podtap.{protocol}".to_owned();
        kafka.librdkafka_options.0.insert("topic.metadata.propagation.max.ms".to_owned(), "100".to_owned());
        Kafka::open(&kafka, Some(&run.spool), &run.waits).unwrap()
    });
    let mut publish = |protocol: &'static str, events: usize| {
        for kafka in &mut opened {
            for _ in 0..events {
                kafka.publish(Event::Exchange(&Exchange { protocol: protocol.into(), ..example_event() })).unwrap();
            }
            kafka.flush().unwrap();
        }
        opened.each_ref().map(|kafka| kafka.watched().unwrap().status())
    };
    // None of the other is known yet, and more than librdkafka has room for.
    publish("mysql", 500);
    std::thread::sleep(Duration::from_secs(2));
    publish("http", 300);
    // Its events are lost only once nothing else helps those that wait behind them.
    let status = publish("http", 0);
    assert!(status.iter().all(|it| it.failed.values().sum::<u64>() == 0), "{status:?}");
    let start = Instant::now();
    while publish("http", 0).iter().any(|it| it.delivered < 300) {
        assert!(start.elapsed() < Duration::from_secs(60), "the others do not go on");
        std::thread::sleep(Duration::from_millis(200));
    }
    // It is tried again now and then.
    cluster.topic_error("podtap.mysql", RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    let mut published = 500;
    while publish("mysql", 1).iter().any(|it| it.delivered < 310) {
        published += 1;
        assert!(start.elapsed() < Duration::from_secs(150), "the topic is not used again");
        std::thread::sleep(Duration::from_millis(200));
    }
    published += 1;
    for mut kafka in opened {
        let delivery = kafka.finish().unwrap();
        let lost = failed(&delivery, "topic_refused");
        assert!(lost >= 500, "{delivery:?}");
        assert_eq!((delivery.delivered + lost, delivery.failed_total()), (300 + published, lost), "{delivery:?}");
    }
    assert_eq!(segments(folder.path()), 0);
}

#[test]
fn what_is_refused_for_good_is_counted_and_the_spool_keeps_nothing_of_it() {
    let (cluster, folder) = (cluster(), tempfile::tempdir().unwrap());
    let mut run = run(&cluster).spooled(folder.path());
    run.kafka.librdkafka_options.0.insert("message.max.bytes".to_owned(), "2000".to_owned());
    let mut kafka = run.open().unwrap();
    let large = Exchange { summary: Some("x".repeat(4000).into()), ..example_event() };
    kafka.publish(Event::Exchange(&large)).unwrap();
    publish(&mut kafka, 0..1);
    let delivery = kafka.finish().unwrap();
    assert_eq!((delivery.delivered, failed(&delivery, "message_size_too_large")), (1, 1), "{delivery:?}");
    assert_eq!(segments(folder.path()), 0);
}

#[test]
fn an_idle_spool_is_empty() {
    let (cluster, folder) = (cluster(), tempfile::tempdir().unwrap());
    let mut kafka = run(&cluster).spooled(folder.path()).open().unwrap();
    publish(&mut kafka, 0..10);
    wait_until(|| segments(folder.path()) > 0);
    wait_until(|| segments(folder.path()) == 0);
    assert_eq!(kafka.finish().unwrap().delivered, 10);
}

#[test]
fn an_end_is_not_kept_waiting_beyond_its_grace() {
    let cluster = cluster();
    let run = run(&cluster);
    cluster.broker_down(-1).unwrap();
    let mut kafka = run.open().unwrap();
    publish(&mut kafka, 0..300);
    run.waits.stop.request();
    let start = Instant::now();
    let delivery = kafka.finish().unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!((delivery.delivered, failed(&delivery, "not_acknowledged_in_time")), (0, 300));
}
