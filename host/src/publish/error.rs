//! Why events cannot be published, each with what to do about it.

use std::io;
use std::path::PathBuf;

use crate::event::EncodeError;

/// Events cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Whoever read standard output has gone. No fault: there is nothing more to do.
    #[error("standard output was closed")]
    ReaderGone,
    /// The output takes no more; why, another thread knows.
    #[error("it has ended")]
    Ended,
    /// MessagePack would garble the terminal.
    #[error("MessagePack is not for a terminal; give --output-file, or send standard output elsewhere")]
    BinaryTerminal,
    /// The output cannot be opened.
    #[error("{}: the output file cannot be written: {source}; check the path and its permissions", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A write failed.
    #[error("{name}: events cannot be written: {source}")]
    Write {
        /// The file, or `standard output`.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A fault of podtap's own.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A setting that librdkafka refuses.
    #[error("kafka: {0}; check kafka.librdkafka_options and the other keys of that section")]
    KafkaSetting(String),
    /// The password cannot be read.
    #[error("kafka: {}: the password cannot be read: {source}; check kafka.sasl_password_file", path.display())]
    KafkaPassword {
        /// As configured.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The token cannot be used.
    #[error("kafka: {}: {reason}; check kafka.sasl_token_file", path.display())]
    KafkaToken {
        /// As configured.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No broker answers.
    #[error(
        "kafka: no answer from {brokers} within {waited}{last}; check kafka.brokers, that the brokers run and can be \
         reached from here, and the security settings"
    )]
    KafkaUnreachable {
        /// As configured.
        brokers: String,
        /// How long.
        waited: String,
        /// What librdkafka said last, in brackets, or nothing.
        last: String,
    },
    /// The topic cannot be written to.
    #[error("kafka: topic {topic:?} on {brokers}: {reason}")]
    KafkaTopic {
        /// As configured.
        topic: String,
        /// As configured.
        brokers: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The broker stopped to acknowledge.
    #[error(
        "kafka: {brokers} acknowledged nothing for {waited} while {pending} events wait{last}; check the brokers, or \
         raise kafka.timeout"
    )]
    KafkaStalled {
        /// As configured.
        brokers: String,
        /// How long.
        waited: String,
        /// Events on their way.
        pending: u64,
        /// What librdkafka said last, in brackets, or nothing.
        last: String,
    },
    /// The spool's directory cannot be used.
    #[error("spool: {}: {source}; check spool.directory", directory.display())]
    Spool {
        /// As configured.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The producer can do no more.
    #[error("kafka: the producer had to stop: {0}")]
    KafkaFatal(String),
}
