//! Reads podtap's events from a topic, MessagePack or JSON, and prints each exchange once:
//! `podtap-consumer BROKERS TOPIC GROUP [--until-end]`.
//!
//! Offsets are committed once what they stand for is done, so after a crash some events come again; an id that was there
//! before is left out. Only the fields that are wanted are declared: serde leaves out the others, those of later
//! versions too.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use serde::Deserialize;

const IDS_KEPT: usize = 100_000;
const COMMIT_EVERY: u32 = 1_000;

/// What is wanted of an event.
#[derive(Deserialize)]
struct Event {
    id: String,
    /// Events of connections have one; exchanges have none.
    kind: Option<String>,
    /// Nanoseconds.
    duration: Option<u64>,
    #[serde(default)]
    protocol: String,
    #[serde(default)]
    outcome: String,
    summary: Option<String>,
    #[serde(default)]
    attributes: BTreeMap<String, serde_json::Value>,
}

fn main() -> anyhow::Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let until_end = arguments.iter().position(|argument| argument == "--until-end").map(|at| arguments.remove(at));
    let [brokers, topic, group] = arguments.as_slice() else {
        bail!("arguments: BROKERS TOPIC GROUP [--until-end]");
    };
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()?;
    consumer.subscribe(&[topic])?;
    let (mut ids, mut ended, mut since_commit) = (Ids::default(), HashSet::new(), 0);
    loop {
        let message = match consumer.poll(Duration::from_secs(1)) {
            None => continue,
            Some(Ok(message)) => message,
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
                if until_end.is_some() && ended.len() == consumer.assignment()?.count() {
                    break;
                }
                continue;
            }
            Some(Err(error)) => return Err(error).context("Kafka"),
        };
        match decode(&message) {
            Ok(event) if event.kind.is_none() && ids.is_new(&event.id) => show(&event),
            Ok(_) => {}
            Err(error) => eprintln!("partition {}, offset {}: {error}", message.partition(), message.offset()),
        }
        since_commit += 1;
        if since_commit >= COMMIT_EVERY {
            consumer.commit_consumer_state(CommitMode::Sync)?;
            since_commit = 0;
        }
    }
    if since_commit > 0 {
        consumer.commit_consumer_state(CommitMode::Sync)?;
    }
    Ok(())
}

/// The event of a record, in the format that its header names.
fn decode(message: &BorrowedMessage<'_>) -> anyhow::Result<Event> {
    let value = message.payload().context("no value")?;
    let headers = message.headers();
    let content_type = headers.and_then(|headers| headers.iter().find(|header| header.key == "content-type")?.value);
    match content_type {
        Some(name) if name.starts_with(b"application/json") => Ok(serde_json::from_slice(value)?),
        _ => Ok(rmp_serde::from_slice(value)?),
    }
}

fn show(event: &Event) {
    let status = event.attributes.iter().find(|(name, _)| name.ends_with(".response.status_code"));
    let status = status.map_or(String::new(), |(_, status)| status.to_string());
    let ms = event.duration.map_or("-".to_owned(), |ns| format!("{:.3}", ns as f64 / 1e6));
    let summary = event.summary.as_deref().unwrap_or_default();
    println!("{} {} {status} {} {ms} ms {summary:?}", event.id, event.protocol, event.outcome);
}

/// The last ids.
#[derive(Default)]
struct Ids {
    known: HashSet<String>,
    order: VecDeque<String>,
}

impl Ids {
    fn is_new(&mut self, id: &str) -> bool {
        if !self.known.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > IDS_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}
