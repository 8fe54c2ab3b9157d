//! Filters of events: expressions that anybody may send who may read events.

use podtap::filter::Filter;
use podtap::reference::{example_connection_event, example_event};
use serde_json::{Map, Value, json};

use crate::memory::held_bytes;

/// What docs/limits.md says of a filter.
const MAX_BYTES: usize = 4096;
/// Of a filter that was understood.
const FILTER_BYTES: isize = 4 << 20;

thread_local! {
    static EVENTS: Vec<Map<String, Value>> = events();
}

/// Reads a filter, and applies it to a few events. It is refused with what is wrong and where, or it is taken; then it
/// decides the same each time, and as it does in brackets, and no event matches both it and its opposite.
pub fn filter(input: &[u8]) {
    let source = String::from_utf8_lossy(input);
    let before = held_bytes();
    let filter = match Filter::parse(&source) {
        Ok(filter) => filter,
        Err(error) => {
            let shown = error.to_string();
            assert!(!shown.contains('\n') && !error.what.is_empty(), "{shown:?}");
            assert!((1..=source.chars().count() + 1).contains(&error.column), "{shown:?}");
            let there: String = source.chars().skip(error.column - 1).take(error.excerpt.chars().count()).collect();
            assert_eq!(there, error.excerpt, "{shown:?}");
            return;
        }
    };
    let held = held_bytes() - before;
    assert!(source.len() <= MAX_BYTES && held <= FILTER_BYTES, "{held} bytes");
    // What ends with a comment needs an end of line. Each may be refused for being too long or too deep.
    let [same, opposite] = ["(", "!("].map(|open| Filter::parse(&format!("{open}{source}\n)")).ok());
    EVENTS.with(|events| {
        for event in events {
            let found = filter.matches(event);
            assert_eq!(filter.matches(event), found, "{source}");
            if let Some(same) = &same {
                assert_eq!(same.matches(event), found, "{source}");
            }
            if let Some(opposite) = &opposite {
                assert!(found != Ok(true) || opposite.matches(event) != Ok(true), "{source}");
            }
        }
    });
}

/// An exchange, a connection, and what has the same fields in other types.
fn events() -> Vec<Map<String, Value>> {
    let exchange = serde_json::to_value(example_event());
    let connection = serde_json::to_value(example_connection_event());
    let others = json!({
        "id": "1", "time": "2026-01-01T00:00:00Z", "duration": 1.5, "protocol": null, "target": ["a", 1],
        "client": "here", "attributes": { "a.flag": true, "a.int": -1, "a.uint": u64::MAX, "a.map": {} },
    });
    let all = [exchange.expect("an event is JSON"), connection.expect("an event is JSON"), others];
    let maps = all.into_iter().filter_map(|event| match event {
        Value::Object(fields) => Some(fields),
        _ => None,
    });
    maps.collect()
}
