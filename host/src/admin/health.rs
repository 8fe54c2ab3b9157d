//! Is podtap alive, and does it do its work?
//!
//! Alive: the thread that decodes still says something of itself. It errs towards yes, for Kubernetes ends a container that
//! is not alive. Ready: nothing keeps events from being made and delivered.

use std::time::Duration;

use super::{Inner, Scrape};

/// A worker that said nothing for so long is not ready.
pub(super) const LATE: Duration = Duration::from_secs(10);
/// A worker that said nothing for so long is stuck.
pub(super) const STUCK: Duration = Duration::from_secs(60);

/// Why it is not alive, if it is not.
pub(super) fn stuck(scrape: &Scrape) -> Option<String> {
    // Of the start, only the end is awaited: decoders may take a while to compile.
    is_silent(scrape, STUCK).then(|| silence(scrape))
}

/// Why it is not ready: one line each.
pub(super) fn complaints(scrape: &Scrape, board: &Inner) -> Vec<String> {
    if !scrape.has_begun {
        return vec!["starting: decoders are compiled, outputs are opened".to_owned()];
    }
    let mut complaints = Vec::new();
    if is_silent(scrape, LATE) {
        complaints.push(silence(scrape));
    }
    let snapshot = &scrape.snapshot;
    for (name, _) in snapshot.interfaces.iter().filter(|(_, is_open)| !is_open) {
        complaints.push(format!("capture: interface {name} has gone; it is tried again each second"));
    }
    if board.needs_decoders && !snapshot.decoders.values().any(|decoder| decoder.usable == Some(true)) {
        let names: Vec<_> = snapshot.decoders.keys().map(String::as_str).collect();
        complaints.push(match names.is_empty() {
            true => "decoders: there is none".to_owned(),
            false => format!("decoders: none can be used; set aside or gone: {}", names.join(", ")),
        });
    }
    complaints.extend(snapshot.failed_outputs.iter().map(|why| format!("output: {why}")));
    for kafka in scrape.outputs.iter().filter_map(|output| output.kafka.as_ref()) {
        if kafka.silent_for >= board.kafka_patience {
            let seconds = kafka.silent_for.as_secs();
            let (in_flight, last) = (kafka.in_flight, &kafka.last_error);
            complaints.push(format!(
                "kafka: nothing was acknowledged for {seconds} s, {in_flight} events are on their way{last}"
            ));
        }
    }
    complaints
}

fn is_silent(scrape: &Scrape, time: Duration) -> bool {
    scrape.has_begun && !scrape.waits && scrape.age >= time
}

fn silence(scrape: &Scrape) -> String {
    format!("worker: the thread that decodes has said nothing for {} s", scrape.age.as_secs())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::admin::{Board, Snapshot};
    use crate::config::Config;
    use crate::decoder::DecoderStatus;
    use crate::publish::{KafkaStatus, OutputStatus, Target};

    fn check(change: impl FnOnce(&mut Snapshot, &mut Scrape), expected: &[&str]) {
        let mut config = Config::default();
        config.admin.listen = Some("127.0.0.1:0".to_owned());
        let board = Board::of(&config).unwrap();
        let usable = DecoderStatus { usable: Some(true), ..DecoderStatus::default() };
        let mut snapshot = Snapshot { decoders: [("http".to_owned(), usable)].into(), ..Snapshot::default() };
        let mut scrape = board.scrape();
        scrape.has_begun = true;
        change(&mut snapshot, &mut scrape);
        scrape.snapshot = Arc::new(snapshot);
        assert_eq!(complaints(&scrape, &board.0), expected);
    }

    #[test]
    fn every_reason_not_to_be_ready_is_said() {
        check(|_, _| (), &[]);
        check(|_, scrape| scrape.has_begun = false, &["starting: decoders are compiled, outputs are opened"]);
        check(|_, scrape| scrape.age = LATE, &["worker: the thread that decodes has said nothing for 10 s"]);
        check(|_, scrape| (scrape.age, scrape.waits) = (STUCK, true), &[]);
        check(
            |snapshot, _| snapshot.interfaces = vec![("lo".to_owned(), true), ("eth1".to_owned(), false)],
            &["capture: interface eth1 has gone; it is tried again each second"],
        );
        check(|snapshot, _| snapshot.decoders = BTreeMap::new(), &["decoders: there is none"]);
        check(
            |snapshot, _| snapshot.decoders.values_mut().for_each(|decoder| decoder.usable = Some(false)),
            &["decoders: none can be used; set aside or gone: http"],
        );
        check(
            |snapshot, _| snapshot.failed_outputs.push("x: events cannot be written: full".to_owned()),
            &["output: x: events cannot be written: full"],
        );
        let silent = |seconds| OutputStatus {
            target: Target::Kafka,
            queue_bytes: 0,
            queue_events: 0,
            delivered: 0,
            failed: BTreeMap::new(),
            kafka: Some(KafkaStatus {
                in_flight: 7,
                silent_for: Duration::from_secs(seconds),
                last_error: " (refused)".to_owned(),
                spool: None,
            }),
        };
        check(|_, scrape| scrape.outputs.push(silent(29)), &[]);
        check(
            |_, scrape| scrape.outputs.push(silent(30)),
            &["kafka: nothing was acknowledged for 30 s, 7 events are on their way (refused)"],
        );
    }

    #[test]
    fn a_worker_is_stuck_only_where_it_should_have_said_something_long_ago() {
        let mut config = Config::default();
        config.admin.listen = Some("127.0.0.1:0".to_owned());
        let mut scrape = Board::of(&config).unwrap().scrape();
        scrape.age = STUCK;
        assert_eq!(stuck(&scrape), None);
        scrape.has_begun = true;
        assert!(stuck(&scrape).is_some());
        scrape.waits = true;
        assert_eq!(stuck(&scrape), None);
    }
}
