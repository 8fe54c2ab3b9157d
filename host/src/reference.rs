//! The reference pages of the documentation, made from the types they describe: `docs/configuration.md` and
//! `docs/events.md`. A test holds the files to what is made here.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};

use schemars::generate::SchemaSettings;
use serde_json::Value as Json;

use crate::config::{self, Key, Kind};
use crate::event::{
    Attributes, Connection, Encoder, Exchange, Format, Outcome, Peer, Resource, SCHEMA, Timestamp, Timing, Value,
};

/// The JSON Schema of an event in its JSON form.
pub fn event_schema() -> Json {
    let generator = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true).into_generator();
    generator.into_root_schema_for::<Exchange<'static>>().to_value()
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

A key that podtap does not know is an error, and so is a value out of its range; `podtap validate FILE` lists all that
is wrong with a file. `podtap schema config` prints a JSON Schema, which editors use to complete and check.

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
        let default = match &key.default {
            Json::Null => "not set".to_owned(),
            Json::Array(items) if items.is_empty() => "none".to_owned(),
            Json::Object(entries) if entries.is_empty() => "none".to_owned(),
            Json::String(text) if text.is_empty() => "empty".to_owned(),
            Json::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        let (path, kind, environment, doc) = (&key.path, kind_of(key), key.environment_name(), cell(&key.doc));
        writeln!(page, "| `{path}` | {kind} | {default} | `{environment}` | {doc} |")?;
    }
    Ok(())
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

podtap publishes one event for each exchange, that is a request and its response. Standard output, files and Kafka
carry the same events, as JSON objects or as MessagePack maps with the same names.

- What is not known is absent: no field is ever empty, or zero, because podtap did not see it.
- The same packets give the same `id`. Delivery to Kafka is at least once; drop what has an `id` that was there before.
- Fields may be added to this schema; readers leave out those they do not know. Its version changes when a field goes
  or changes its meaning.

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

`podtap schema event` prints the JSON Schema of the JSON form.

## Kafka records

| Part | Content |
|---|---|
| value | the event, as `kafka.format` says |
| key | text: `connection.id`; or as `kafka.key` says |
| timestamp | when it was sent; or as `kafka.timestamp` says |
| header `content-type` | the media type above |
| header `podtap-schema` | `podtap.exchange/1` |
| header `podtap-protocol` | the event's `protocol` |
";

fn write_events_page(page: &mut String) -> fmt::Result {
    page.push_str(EVENTS_INTRODUCTION);
    let mut encoder = Encoder::new(Format::Json);
    let encoded = encoder.encode(&example_event()).unwrap_or_default();
    let example: Json = serde_json::from_slice(encoded).unwrap_or_default();
    writeln!(page, "{example:#}\n```\n\n## Fields of `{SCHEMA}`\n")?;
    page.push_str("| Field | Type | Present | Meaning |\n|---|---|---|---|\n");
    let schema = event_schema();
    let mut choices = Vec::new();
    fields(page, &schema, "", true, &mut choices)?;
    page.push_str("\nTimes are those of capture. Durations and offsets are in nanoseconds.\n");
    for (field, schema) in choices {
        write!(page, "\n### Values of `{field}`\n\n| Value | Meaning |\n|---|---|\n")?;
        for choice in schema["oneOf"].as_array().into_iter().flatten() {
            writeln!(page, "| `{}` | {} |", choice["const"].as_str().unwrap_or_default(), doc(choice))?;
        }
    }
    page.push_str(EVENTS_ENCODINGS);
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
            one.map_or("any", |name| if name == "object" { "map" } else { name })
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

/// The event that `docs/events.md` shows.
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
