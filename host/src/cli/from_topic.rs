//! Flags of the commands that read events back from a topic.

use clap::Args;

use super::common::list;
use crate::config::{self, Flag};
use crate::read::From;

#[derive(Debug, Args)]
pub(super) struct FromTopic {
    /// Read from Kafka through these brokers, comma-separated
    #[arg(long, value_name = "HOST:PORT,...")]
    brokers: Option<String>,

    /// Kafka topic of the events
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,

    /// At the end of the topic, wait for more
    #[arg(long)]
    pub(super) follow: bool,

    /// Where in the topic to begin; end needs --follow
    #[arg(long, value_enum, default_value_t, value_name = "WHERE")]
    pub(super) from: From,
}

impl FromTopic {
    /// What they say over the configuration.
    pub(super) fn flags(&self) -> Vec<Flag> {
        let brokers =
            self.brokers.as_deref().map(|text| Flag { name: "--brokers", key: "kafka.brokers", value: list(text) });
        let topic = self.topic.clone().map(|name| Flag { name: "--topic", key: "kafka.topic", value: name.into() });
        brokers.into_iter().chain(topic).collect()
    }

    /// Why there is nothing to read, if there is not; `instead`: what else there could have been.
    pub(super) fn problem(&self, kafka: &config::Kafka, instead: &str) -> Option<String> {
        if self.from == From::End && !self.follow {
            return Some("--from end without --follow reads nothing; add --follow".to_owned());
        }
        if kafka.brokers.is_empty() {
            return Some(format!("{instead}, or --brokers and --topic"));
        }
        kafka.topic.contains('{').then(|| "kafka.topic stands for several topics; name one with --topic".to_owned())
    }
}
