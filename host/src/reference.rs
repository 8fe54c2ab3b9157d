//! The reference pages of the documentation, made from the types they describe: `docs/configuration.md`,
//! `docs/events.md`, `docs/limits.md` and `docs/metrics.md`. A test holds the files to what is made here.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};

mod limits;
mod metrics;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value as Json;

use crate::config::{self, Key, Kind};
use crate::event::{
    Attributes, CONNECTION_SCHEMA, Connection, ConnectionEvent, EXCHANGE_SCHEMA, Encoder, End, Event, Exchange, Format,
    Kind as EventKind, Name, Opened, Outcome, Party, Peer, Reason, Resource, Timestamp, Timing, Value,
};

pub use limits::{Limit, limits, limits_page};
pub use metrics::metrics_page;

/// The JSON Schema of an exchange in its JSON form.
pub fn exchange_schema() -> Json {
    schema_of::<Exchange<'static>>()
}

/// The JSON Schema of the event of a connection in its JSON form.
pub fn connection_schema() -> Json {
    schema_of::<ConnectionEvent<'static>>()
}

fn schema_of<T: JsonSchema>() -> Json {
    let generator = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true).into_generator();
    generator.into_root_schema_for::<T>().to_value()
}

/// `docs/configuration.md`.
pub fn configuration_page() -> String {
    let mut page = String::from(CONFIGURATION_INTRODUCTION);
    for section in config::sections() {
        // Writing to a String cannot fail.
        let _ = configuration_section(&mut page, section);
    }
    page
}

/// `docs/events.md`.
pub fn events_page() -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write_events_page(&mut page);
    page
}

const CONFIGURATION_INTRODUCTION: &str = "\
<!-- Made from the types in host/src/config; `PODTAP_UPDATE_DOCS=1 cargo test -p podtap --test docs` writes it anew. -->

# Configuration

podtap needs no configuration. What there is comes from, each stronger than the one before:

1. the defaults below,
2. one file, given by `--config FILE` or the environment variable `PODTAP_CONFIG`: YAML, or TOML or JSON where its
   name ends in `.toml` or `.json`,
3. environment variables: `PODTAP_`, then the key in capitals with `_` for `.`, as listed below,
4. flags of the command line.

```yaml
# podtap.yaml
kafka:
  brokers: [kafka-0:9092, kafka-1:9092]
  topic: exchanges
detection:
  ports:
    8080: http
```

A key that podtap does not know is an error, and so is a value out of its range. `podtap validate FILE` lists all that is
wrong with a file and the variables that are set: decoders are asked about their part, the filter is compiled, librdkafka's
settings are tried. Where the file is for another machine, `--plugins DIR` has the decoders that will be there, and files that
are not here are warned of. `podtap schema config` prints a JSON Schema, which editors use to complete and check.

- Durations are text with units: `100ms`, `2s`, `1m 30s`, `1h`.
- Sizes are numbers of bytes, or text with a unit: `64KiB`, `16MiB`, `1GiB` (powers of 1024), `64kB` (powers of 1000).
- In environment variables, lists are separated by commas (`kafka-0:9092,kafka-1:9092`) and maps are written as
  `name=value,name=value` or as a JSON object. A map from the environment is added to that of the file, so that a
  password need not stand in the file:
  `PODTAP_KAFKA_LIBRDKAFKA_OPTIONS='{\"sasl.password\": \"...\"}'`.
- A `PODTAP_` variable that no key has is reported and not used, except for those that Kubernetes sets for services.
";

fn configuration_section(page: &mut String, section: &config::Section) -> fmt::Result {
    write!(page, "\n## {}\n\n{}\n\n", section.name, section.doc)?;
    page.push_str("| Key | Type | Default | Environment | Meaning |\n|---|---|---|---|---|\n");
    for key in &section.keys {
        let (path, kind, environment, doc) = (&key.path, kind_of(key), key.environment_name(), cell(&key.doc));
        let default = default_text(key);
        writeln!(page, "| `{path}` | {kind} | {default} | `{environment}` | {doc} |")?;
    }
    Ok(())
}

fn default_text(key: &Key) -> String {
    match &key.default {
        Json::Null => "not set".to_owned(),
        Json::Array(items) if items.is_empty() => "none".to_owned(),
        Json::Object(entries) if entries.is_empty() => "none".to_owned(),
        Json::String(text) if text.is_empty() => "empty".to_owned(),
        Json::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

/// The default of the key with this path.
fn default_of(path: &str) -> String {
    let keys = config::sections().iter().flat_map(|section| &section.keys);
    keys.filter(|key| key.path == path).map(default_text).collect()
}

fn kind_of(key: &Key) -> String {
    let kind = match &key.kind {
        Kind::Text => "text".to_owned(),
        Kind::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Kind::Integer => "integer".to_owned(),
        Kind::Flag => "`true`, `false`".to_owned(),
        Kind::Duration => "duration".to_owned(),
        Kind::Size => "size".to_owned(),
        Kind::List => "list of text".to_owned(),
        Kind::Map => "map of text".to_owned(),
        Kind::Objects => "map of maps".to_owned(),
    };
    match &key.range {
        Some((least, most)) => format!("{kind}, {least} to {most}"),
        None => kind,
    }
}

const EVENTS_INTRODUCTION: &str = "\
<!-- Made from the types in host/src/event; `PODTAP_UPDATE_DOCS=1 cargo test -p podtap --test docs` writes it anew. -->

# Events

podtap publishes one event for each exchange, that is a request and its response; where `events.connections` is set,
[one for each TCP connection](#connections) too. Standard output, files and Kafka carry the same events, as JSON objects
or as MessagePack maps with the same names.

- What is not known is absent: no field is ever empty, or zero, because podtap did not see it.
- The same packets give the same `id`. Delivery to Kafka is at least once; drop what has an `id` that was there before.
- What is lost under too much traffic, or while Kafka is away, is counted in podtap's metrics: [consumers.md](consumers.md).
- Fields may be added to a schema; readers leave out those they do not know. Its version changes when a field goes
  or changes its meaning.

## Exchanges

In JSON:

```json
";

const EVENTS_CONNECTIONS: &str = "
## Connections

With `events.connections` (`--connections`), a connection that has ended is an event, whether it carried anything or
not: a service that is down shows as connections refused, unanswered or reset. It comes after the exchanges of the
connection, which have the same `connection.id`. Where both stand side by side, as in a file, it has `kind`, and
exchanges have none.

What is said of loss and repetition is read off sequence numbers, in the order of the capture:

- Segments that come after the close are in no count: the last acknowledgement when both sides have sent FIN, a FIN sent
  again behind it, what still comes behind a RST.
- A packet that was captured twice, on the `any` device for one, counts as a retransmission. So do bytes that came after
  they had been given up as lost.
- A segment that was lost before it reached the capture, and was sent again, counts as out of order.
- Keep-alive and zero-window probes are told by their place, right before the next byte, and by their length, no or one
  byte. They count as packets only; so does a last segment of a single byte when it is sent again.
- Where no decoder follows the connection, gaps and segments out of order are not looked for, and what comes late counts
  as a retransmission.

In JSON:

```json
";

const EVENTS_ENCODINGS: &str = "
## Encodings

| | JSON | MessagePack |
|---|---|---|
| `--output`, `kafka.format` | `json` | `msgpack` |
| media type | `application/json` | `application/vnd.msgpack` |
| in a file | one event a line | one map after the other, with nothing between |
| `time` | text: RFC 3339, UTC, nine decimals | integer: ns since 1970-01-01 UTC |
| all else | the same | the same |

`podtap schema event` and `podtap schema connection` print the JSON Schemas of the JSON forms.

## Kafka records

| Part | Content |
|---|---|
| value | the event, as `kafka.format` says |
| key | text: `connection.id`; or as `kafka.key` says |
| timestamp | when it was sent; or as `kafka.timestamp` says |
| header `content-type` | the media type above |
| header `podtap-schema` | `podtap.exchange/1` or `podtap.connection/1` |
| header `podtap-protocol` | the event's `protocol`; there is none without |
";

fn write_events_page(page: &mut String) -> fmt::Result {
    page.push_str(EVENTS_INTRODUCTION);
    write_schema(page, Event::Exchange(&example_event()), EXCHANGE_SCHEMA, &exchange_schema())?;
    page.push_str(EVENTS_CONNECTIONS);
    write_schema(page, Event::Connection(&example_connection_event()), CONNECTION_SCHEMA, &connection_schema())?;
    page.push_str(EVENTS_ENCODINGS);
    Ok(())
}

/// The rest of an example that was begun, the fields and their values.
fn write_schema(page: &mut String, example: Event<'_>, name: &str, schema: &Json) -> fmt::Result {
    let mut encoder = Encoder::new(Format::Json);
    let encoded = encoder.encode(example).unwrap_or_default();
    let example: Json = serde_json::from_slice(encoded).unwrap_or_default();
    writeln!(page, "{example:#}\n```\n\n### Fields of `{name}`\n")?;
    page.push_str("| Field | Type | Present | Meaning |\n|---|---|---|---|\n");
    let mut choices = Vec::new();
    fields(page, schema, "", true, &mut choices)?;
    page.push_str("\nTimes are those of capture. Durations and offsets are in nanoseconds.\n");
    for (field, schema) in choices {
        write!(page, "\n#### Values of `{field}`\n\n| Value | Meaning |\n|---|---|\n")?;
        for choice in schema["oneOf"].as_array().into_iter().flatten() {
            writeln!(page, "| `{}` | {} |", choice["const"].as_str().unwrap_or_default(), doc(choice))?;
        }
    }
    Ok(())
}

/// One row a field, with those of maps below their map.
fn fields<'a>(
    page: &mut String,
    schema: &'a Json,
    prefix: &str,
    always: bool,
    choices: &mut Vec<(String, &'a Json)>,
) -> fmt::Result {
    let required = |name: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|one| one == name));
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let present = match (required(name), always || prefix.is_empty()) {
            (true, true) => "always".to_owned(),
            (true, false) => format!("with `{}`", prefix.trim_end_matches('.')),
            (false, _) => "when known".to_owned(),
        };
        let inner = without_null(field);
        let kind = if inner["oneOf"].is_array() {
            choices.push((path.clone(), inner));
            "string"
        } else {
            let one = inner["type"].as_str().or_else(|| inner["type"].as_array()?.first()?.as_str());
            one.map_or("any", |name| match name {
                "object" => "map",
                "array" => "list",
                other => other,
            })
        };
        writeln!(page, "| `{path}` | {kind} | {present} | {} |", doc(field))?;
        fields(page, inner, &format!("{path}."), required(name), choices)?;
    }
    Ok(())
}

/// The schema of an optional field's value.
fn without_null(schema: &Json) -> &Json {
    let some = schema["anyOf"].as_array().and_then(|all| all.iter().find(|one| one["type"] != "null"));
    some.unwrap_or(schema)
}

fn doc(schema: &Json) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    cell(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Text in a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The event of a connection that `docs/events.md` shows.
pub fn example_connection_event() -> ConnectionEvent<'static> {
    let party = |last, port, packets, bytes| Party {
        address: IpAddr::V4(Ipv4Addr::new(10, 1, 0, last)),
        port,
        packets,
        bytes,
        retransmitted_segments: 0,
        retransmitted_bytes: 0,
        out_of_order_segments: Some(0),
        zero_windows: 0,
        gaps: Some(0),
        gap_bytes: Some(0),
        syn: true,
        fin: true,
    };
    ConnectionEvent {
        kind: EventKind::Connection,
        id: "5f2b0c9d1e7a43b8a6c4d2e1".into(),
        time: Timestamp(1_767_225_600_120_000_000),
        duration: 58_123_456,
        opened: Opened::Handshake,
        connect_time: Some(212_000),
        handshake_time: Some(18_000),
        closed: End { reason: Reason::Fin, by: None },
        protocol: Some("http".into()),
        exchanges: Some(4),
        client: Some(Party { retransmitted_segments: 1, retransmitted_bytes: 120, ..party(5, 51_544, 12, 600) }),
        server: Some(party(9, 80, 10, 2_942)),
        endpoints: None,
        connection: Name { id: "1:LQU9qZlK+B5F3KDmev6m5PMibrg=-1767225600120000000".into() },
        resource: Cow::Owned(Resource::from([("service.name".to_owned(), "shop".to_owned())])),
    }
}

/// The exchange that `docs/events.md` shows.
pub fn example_event() -> Exchange<'static> {
    let text = |text: &'static str| Some(Cow::Borrowed(text));
    let peer =
        |last, port, bytes| Peer { address: IpAddr::V4(Ipv4Addr::new(10, 1, 0, last)), port, bytes: Some(bytes) };
    let attributes: [(&str, Value<'static>); 5] = [
        ("http.request.method", Value::Text("GET".into())),
        ("url.path", Value::Text("/api/users/42".into())),
        ("server.address", Value::Text("shop.example".into())),
        ("http.response.status_code", Value::Uint(200)),
        ("http.response.body.size", Value::Uint(512)),
    ];
    Exchange {
        id: "5f2b0c9d1e7a43b8a6c4d2e100000003".into(),
        time: Timestamp(1_767_225_600_123_456_789),
        duration: Some(1_240_000),
        timing: Timing { request_end: Some(0), response_start: Some(1_200_000), response_end: Some(1_240_000) },
        protocol: "http".into(),
        decoder: "http/0.1.0".into(),
        operation: text("GET"),
        target: text("/api/users/42"),
        summary: text("GET /api/users/42"),
        outcome: Outcome::Ok,
        client: peer(5, 51_544, 120),
        server: peer(9, 80, 730),
        vantage: None,
        connection: Connection {
            id: "1:LQU9qZlK+B5F3KDmev6m5PMibrg=-1767225600000000000".into(),
            exchange: 3,
            midstream: false,
        },
        loss: None,
        attributes: Attributes(attributes.map(|(name, value)| (name.into(), value)).into()),
        resource: Cow::Owned(Resource::from([("service.name".to_owned(), "shop".to_owned())])),
    }
}
