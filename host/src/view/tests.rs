//! What a view makes of events.

use super::*;
use crate::event::{End, Loss, Resource, Role, Timestamp};
use crate::reference::{example_connection_event, example_event};

const MS: u64 = 1_000_000;

fn exchange(operation: &str, outcome: Outcome, ms: Option<u64>) -> Exchange<'static> {
    let mut exchange = example_event();
    exchange.operation = (!operation.is_empty()).then(|| operation.to_owned().into());
    (exchange.outcome, exchange.duration) = (outcome, ms.map(|ms| ms * MS));
    exchange
}

#[test]
fn rows_are_of_protocol_server_and_operation_and_hold_every_outcome() {
    let mut view = View::default();
    for ms in 1..=100 {
        view.record(Event::Exchange(&exchange("GET", Outcome::Ok, Some(ms))));
    }
    view.record(Event::Exchange(&exchange("GET", Outcome::Error, Some(1000))));
    view.record(Event::Exchange(&exchange("GET", Outcome::NoResponse, None)));
    view.record(Event::Exchange(&exchange("", Outcome::Unmatched, None)));
    let mut elsewhere = exchange("GET", Outcome::Ok, Some(3));
    elsewhere.server.port = 8080;
    view.record(Event::Exchange(&elsewhere));

    let rows: Vec<_> = view.rows().map(|row| (&*row.operation, row.server.unwrap().port(), row.traffic)).collect();
    let traffic = |exchanges, failures| Traffic {
        exchanges,
        failures,
        request_bytes: 120 * exchanges,
        response_bytes: 730 * exchanges,
    };
    assert_eq!(rows, [("GET", 80, traffic(102, 2)), ("", 80, traffic(1, 0)), ("GET", 8080, traffic(1, 0))]);
    assert_eq!(view.traffic(), traffic(104, 2));
    let first = view.rows().next().unwrap();
    let [p50, p95, p99] = first.latencies().percentiles().map(|ns| ns.unwrap() / MS);
    assert_eq!((p50, p95, p99), (51, 96, 100));
    assert_eq!(view.rows().nth(1).unwrap().latencies().percentiles(), [None; 3]);
    let found: Vec<_> = first.outcomes().map(|(outcome, ended)| (outcome, ended.count)).collect();
    assert_eq!(found, [(Outcome::Ok, 100), (Outcome::Error, 1), (Outcome::NoResponse, 1)]);
    // Over both servers, as the summary has it.
    let of_all: Vec<_> = view.outcomes().iter().map(|row| (row.operation, row.outcome, row.ended.count)).collect();
    assert_eq!(of_all[0], ("GET", Outcome::Ok, 101));
    assert_eq!(of_all.iter().map(|row| row.2).sum::<u64>(), 104);
}

#[test]
fn rows_and_edges_are_bounded_and_what_is_beyond_is_counted_together() {
    let mut view = View::default();
    for number in 0..MAX_ROWS as u16 + 50 {
        let mut exchange = exchange(&format!("OP{number}"), Outcome::Error, Some(1));
        exchange.client.address = [10, 0, (number >> 8) as u8, number as u8].into();
        view.record(Event::Exchange(&exchange));
    }
    let rows: Vec<_> = view.rows().collect();
    assert_eq!(rows.len(), MAX_ROWS + 1);
    let other = rows[MAX_ROWS];
    assert_eq!((&*other.protocol, other.server, other.traffic.failures), (OTHER, None, 50));
    assert_eq!(rows.iter().map(|row| row.traffic.exchanges).sum::<u64>(), view.traffic().exchanges);
    let edges = view.edges();
    assert_eq!((edges.len(), edges[MAX_EDGES].client, edges[MAX_EDGES].traffic.exchanges), (MAX_EDGES + 1, None, 50));
    assert_eq!(view.outcomes().last().map(|row| (row.protocol, row.ended.count)), Some((OTHER, 50)));
    assert_eq!(view.kept().failed().len(), MAX_KEPT);
    // A name of any length is one of these, too.
    view.record(Event::Exchange(&exchange(&"ä".repeat(1 << 20), Outcome::Ok, None)));
    assert!(view.places.keys().all(|key| key.operation.len() <= MAX_NAME_BYTES));
}

#[test]
fn rates_are_of_the_time_from_the_first_byte_to_the_last() {
    let mut view = View::default();
    assert_eq!(view.rate(1), None);
    let mut exchange = exchange("GET", Outcome::Ok, Some(500));
    view.record(Event::Exchange(&exchange));
    exchange.time = Timestamp(exchange.time.0 + 4_500 * MS);
    view.record(Event::Exchange(&exchange));
    assert_eq!(view.rate(view.traffic().exchanges), Some(0.4));
}

#[test]
fn names_are_those_that_agents_give_to_the_side_they_are_on() {
    let mut view = View::default();
    let mut exchange = example_event();
    let (client, server) = (exchange.client.address, exchange.server.address);
    let resource = |name: &str| Cow::Owned(Resource::from([("service.name".to_owned(), name.to_owned())]));
    view.record(Event::Exchange(&exchange));
    assert_eq!((view.name(client), view.name(server)), (None, None));
    (exchange.vantage, exchange.resource) = (Some(Vantage::Server), resource("shop"));
    view.record(Event::Exchange(&exchange));
    (exchange.vantage, exchange.resource) = (Some(Vantage::Client), resource("front"));
    view.record(Event::Exchange(&exchange));
    assert_eq!((view.name(client), view.name(server)), (Some("front"), Some("shop")));
}

#[test]
fn losses_are_those_of_the_capture_and_of_the_exchanges() {
    let mut view = View::default();
    assert_eq!(view.losses(), []);
    let mut exchange = example_event();
    exchange.loss = Some(Loss { gap_bytes: Some(1460), truncated: false });
    view.record(Event::Exchange(&exchange));
    view.left_out().unreadable = 2;
    view.set_report(Report { losses: vec![("gaps", 0), ("packets_malformed", 3)], ..Report::default() });
    let expected = [
        ("packets_malformed", 3),
        ("exchanges_incomplete", 1),
        ("exchange_bytes_lost", 1460),
        ("records_unreadable", 2),
    ];
    assert_eq!(view.losses(), expected);
}

#[test]
fn connections_are_counted_by_what_became_of_them() {
    let mut view = View::default();
    let mut event = example_connection_event();
    view.record(Event::Connection(&event));
    event.closed = End { reason: Reason::Reset, by: Some(Role::Server) };
    view.record(Event::Connection(&event));
    event.opened = Opened::Refused;
    view.record(Event::Connection(&event));
    event.opened = Opened::Unanswered;
    view.record(Event::Connection(&event));
    let Connections { all, refused, unanswered, reset, .. } = view.connections();
    assert_eq!((all, refused, unanswered, reset), (4, 1, 1, 1));
}
