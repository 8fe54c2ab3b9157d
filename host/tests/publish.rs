//! Outputs of a run, by way of the configuration: what is written is what was published.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use podtap::config::{Config, OutputFormat};
use podtap::event::{Event, Exchange, Loss, Outcome, Value};
use podtap::publish::{Colour, Outputs, PublishError};
use podtap::reference::example_event;
use serde::Deserialize;

/// Exchanges of several kinds: complete, with loss, with hostile text, with all kinds of values.
fn exchanges() -> Vec<Exchange<'static>> {
    let plain = example_event();
    let mut lossy = example_event();
    lossy.id = "00".into();
    lossy.duration = None;
    lossy.operation = None;
    lossy.target = None;
    lossy.summary = None;
    lossy.outcome = Outcome::NoResponse;
    lossy.server.bytes = None;
    lossy.server.address = "2001:db8::1".parse().unwrap();
    lossy.loss = Some(Loss { gap_bytes: Some(1460), ..Loss::default() });
    lossy.attributes.0.clear();
    lossy.resource = Cow::default();
    let mut hostile = example_event();
    hostile.summary = Some("a\n\"\\\u{0}\x1b[2J\u{202e}日本 \u{10ffff}".into());
    hostile.attributes.0.extend([
        ("x.flag".into(), Value::Flag(true)),
        ("x.int".into(), Value::Int(-5)),
        ("x.uint".into(), Value::Uint(u64::MAX)),
        ("x.float".into(), Value::Float(0.5)),
        ("x.text".into(), Value::Text("\u{7f}\n".into())),
    ]);
    vec![plain, lossy, hostile]
}

fn publish_to_file(file: &Path, format: Option<OutputFormat>) -> Vec<u8> {
    let mut config = Config::default();
    config.output.file = Some(file.to_owned());
    config.output.format = format;
    let mut outputs = Outputs::open(&config, Colour::Auto).unwrap();
    for exchange in exchanges() {
        outputs.publish(Event::Exchange(&exchange)).unwrap();
    }
    outputs.finish().unwrap();
    assert_eq!(outputs.delivery().unwrap().delivered, 3);
    assert_eq!(outputs.summary().exchanges(), 3);
    fs::read(file).unwrap()
}

#[test]
fn json_lines_read_back_equal() {
    let folder = tempfile::tempdir().unwrap();
    let written = publish_to_file(&folder.path().join("a.jsonl"), None);
    let text = String::from_utf8(written).unwrap();
    assert_eq!(text.lines().count(), 3);
    assert!(text.ends_with('\n'));
    let read: Vec<Exchange<'_>> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read, exchanges());
}

#[test]
fn messagepack_maps_read_back_equal() {
    let folder = tempfile::tempdir().unwrap();
    let written = publish_to_file(&folder.path().join("a"), Some(OutputFormat::Msgpack));
    let mut rest = written.as_slice();
    let mut read = Vec::new();
    while !rest.is_empty() {
        read.push(Exchange::deserialize(&mut rmp_serde::Deserializer::new(&mut rest)).unwrap());
    }
    assert_eq!(read, exchanges());
}

#[test]
fn text_in_a_file_has_no_colours_and_one_line_an_exchange() {
    let folder = tempfile::tempdir().unwrap();
    let text = String::from_utf8(publish_to_file(&folder.path().join("a.log"), None)).unwrap();
    assert_eq!(text.lines().count(), 3);
    assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text:?}");
}

#[test]
fn a_file_that_cannot_be_made_is_named() {
    let mut config = Config::default();
    config.output.file = Some("/nonexistent/events.jsonl".into());
    let error = Outputs::open(&config, Colour::Auto).unwrap_err();
    assert!(matches!(error, PublishError::Open { .. }));
    let text = error.to_string();
    assert!(text.starts_with("/nonexistent/events.jsonl: the output file cannot be written: No such file"), "{text}");
}

#[test]
fn a_write_that_fails_names_the_file() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let mut config = Config::default();
    config.output.file = Some("/dev/full".into());
    config.output.format = Some(OutputFormat::Json);
    let mut outputs = Outputs::open(&config, Colour::Auto).unwrap();
    outputs.publish(Event::Exchange(&example_event())).unwrap();
    let error = outputs.finish().unwrap_err().to_string();
    assert!(error.starts_with("/dev/full: events cannot be written: No space left"), "{error}");
}
