//! Configuration from files, environment and flags: what wins, and what each mistake is told.

use std::path::PathBuf;
use std::time::Duration;

use podtap::config::{Compression, Config, ConfigError, Flag, HumanDuration, LogLevel, OutputFormat, RecordKey};
use serde_json::json;
use tempfile::TempDir;

/// A file of a name and content.
fn file(name: &str, content: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    (folder, path)
}

fn load(name: &str, content: &str) -> Result<Config, ConfigError> {
    let (_folder, path) = file(name, content);
    Config::load(Some(&path), [], &[]).map(|loaded| loaded.config)
}

/// Every problem of a file, with the folder's name taken out.
fn problems(name: &str, content: &str) -> Vec<String> {
    let (folder, path) = file(name, content);
    let folder = format!("{}/", folder.path().display());
    let error = Config::load(Some(&path), [], &[]).unwrap_err();
    error.0.iter().map(|problem| problem.to_string().replace(&folder, "")).collect()
}

/// One problem, of a YAML file.
fn check(content: &str, expected: &str) {
    assert_eq!(problems("podtap.yaml", content), [expected], "{content}");
}

fn with_environment(variables: &[(&str, &str)]) -> Result<podtap::config::Loaded, ConfigError> {
    Config::load(None, variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())), &[])
}

#[test]
fn nothing_configured_is_the_default_and_valid() {
    let loaded = Config::load(None, [], &[]).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.warnings.is_empty());
    assert!(loaded.config.validate().is_empty());
}

#[test]
fn the_three_formats_say_the_same() {
    let yaml = "
# a comment
agent:
  id: node-1
  resource: { service.name: shop }
plugins:
  directories: [/etc/podtap/plugins]
  config:
    http:
      headers: [x-request-id]
detection:
  ports:
    8080: http
stream:
  gap_timeout: 500ms
  total_buffer_bytes: 8MiB
kafka:
  brokers:
    - a:9092
    - b:9092
  topic: exchanges
  key: server
  librdkafka_options:
    socket.timeout.ms: 1000
    ssl.endpoint.identification.algorithm: none
output:
log:
  level: debug
";
    let toml = "
[agent]
id = \"node-1\"
resource = { \"service.name\" = \"shop\" }
[plugins]
directories = [\"/etc/podtap/plugins\"]
config.http.headers = [\"x-request-id\"]
[detection.ports]
8080 = \"http\"
[stream]
gap_timeout = \"500ms\"
total_buffer_bytes = 8388608
[kafka]
brokers = [\"a:9092\", \"b:9092\"]
topic = \"exchanges\"
key = \"server\"
[kafka.librdkafka_options]
\"socket.timeout.ms\" = 1000
\"ssl.endpoint.identification.algorithm\" = \"none\"
[log]
level = \"debug\"
";
    let json = json!({
        "agent": { "id": "node-1", "resource": { "service.name": "shop" } },
        "plugins": {
            "directories": ["/etc/podtap/plugins"],
            "config": { "http": { "headers": ["x-request-id"] } }
        },
        "detection": { "ports": { "8080": "http" } },
        "stream": { "gap_timeout": "500ms", "total_buffer_bytes": "8MiB" },
        "kafka": {
            "brokers": ["a:9092", "b:9092"], "topic": "exchanges", "key": "server",
            "librdkafka_options": {
                "socket.timeout.ms": "1000", "ssl.endpoint.identification.algorithm": "none"
            }
        },
        "log": { "level": "debug" }
    });
    let config = load("podtap.yaml", yaml).unwrap();
    assert_eq!(config.agent.resource["service.name"], "shop");
    assert_eq!(config.detection.ports[&8080], "http");
    assert_eq!(config.stream.limits().gap_timeout_ns, 500_000_000);
    assert_eq!(config.stream.limits().total_buffer_bytes, 8 << 20);
    assert_eq!(config.kafka.key, RecordKey::Server);
    assert_eq!(config.kafka.librdkafka_options.0["socket.timeout.ms"], "1000");
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!(load("podtap.yml", yaml).unwrap(), config);
    assert_eq!(load("podtap.toml", toml).unwrap(), config);
    assert_eq!(load("podtap.json", &format!("{json:#}")).unwrap(), config);
    assert_eq!(load("podtap.json", &json.to_string()).unwrap(), config);
}

#[test]
fn an_empty_file_is_the_default() {
    for content in ["", "\n", "# nothing\n", "kafka:\n", "kafka:\n  # topic: x\nlog: {}\n", "{}"] {
        assert_eq!(load("podtap.yaml", content).unwrap(), Config::default(), "{content:?}");
    }
    assert_eq!(load("podtap.toml", "# nothing\n").unwrap(), Config::default());
}

#[test]
fn environment_wins_over_file_and_flags_over_both() {
    let (_folder, path) = file("podtap.yaml", "kafka: {brokers: [file:1], topic: file, client_id: file}\n");
    let environment = [("PODTAP_KAFKA_TOPIC", "env"), ("PODTAP_KAFKA_CLIENT_ID", "env")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let flags = [Flag { name: "--kafka-topic", key: "kafka.topic", value: json!("flag") }];
    let kafka = Config::load(Some(&path), environment, &flags).unwrap().config.kafka;
    assert_eq!(
        (kafka.brokers, kafka.topic, kafka.client_id),
        (vec!["file:1".to_owned()], "flag".to_owned(), "env".to_owned())
    );
}

#[test]
fn every_kind_of_key_can_be_set_by_the_environment() {
    let loaded = with_environment(&[
        ("PODTAP_AGENT_ID", "007"),
        ("PODTAP_AGENT_RESOURCE", "service.name=shop, zone = a"),
        ("PODTAP_DETECTION_HEAD_BYTES", "1024"),
        ("PODTAP_DETECTION_PORTS", "8080=http,3306=mysql"),
        ("PODTAP_KAFKA_BROKERS", "a:9092, b:9092"),
        ("PODTAP_KAFKA_COMPRESSION", "zstd"),
        ("PODTAP_KAFKA_LIBRDKAFKA_OPTIONS", "{\"sasl.password\": \"a,b=c\"}"),
        ("PODTAP_KAFKA_TIMEOUT", "1m"),
        ("PODTAP_KAFKA_TOPIC", "exchanges"),
        ("PODTAP_OUTPUT_FILE", "/tmp/events"),
        ("PODTAP_OUTPUT_FORMAT", "json"),
        ("PODTAP_PLUGINS_CACHE", "false"),
        ("PODTAP_PLUGINS_CONFIG", "{\"http\": {\"headers\": []}}"),
        (
            "PODTAP_PLUGINS_PINS",
            concat!("http.wasm=sha256:00112233445566778899AABBCCDDEEFF", "00112233445566778899AABBCCDDEEFF"),
        ),
        ("PODTAP_STREAM_MAX_CONNECTIONS", "5"),
    ])
    .unwrap();
    assert!(loaded.warnings.is_empty());
    let config = loaded.config;
    assert_eq!(config.agent.id, "007");
    assert_eq!(config.agent.resource["zone"], "a");
    assert_eq!(config.detection.head_bytes.0, 1024);
    assert_eq!(config.detection.ports[&3306], "mysql");
    assert_eq!(config.kafka.brokers, ["a:9092", "b:9092"]);
    assert_eq!(config.kafka.compression, Compression::Zstd);
    assert_eq!(config.kafka.librdkafka_options.0["sasl.password"], "a,b=c");
    assert_eq!(config.kafka.timeout, HumanDuration(Duration::from_secs(60)));
    assert_eq!(config.output.file, Some("/tmp/events".into()));
    assert_eq!(config.output.format, Some(OutputFormat::Json));
    assert!(!config.plugins.cache);
    assert!(config.plugins.config.contains_key("http"));
    assert_eq!(config.plugins.pins["http.wasm"].to_string(), "00112233445566778899aabbccddeeff".repeat(2));
    assert_eq!(config.stream.max_connections, 5);
}

#[test]
fn maps_of_the_environment_add_to_those_of_the_file() {
    let (_folder, path) = file("a.yaml", "kafka:\n  librdkafka_options: {sasl.username: me, sasl.password: x}\n");
    let secret = ("PODTAP_KAFKA_LIBRDKAFKA_OPTIONS".to_owned(), "sasl.password=hunter2".to_owned());
    let options = Config::load(Some(&path), [secret], &[]).unwrap().config.kafka.librdkafka_options.0;
    assert_eq!(options["sasl.username"], "me");
    assert_eq!(options["sasl.password"], "hunter2");
}

#[test]
fn a_label_that_a_pod_lacks_makes_no_empty_field() {
    let loaded = with_environment(&[("PODTAP_AGENT_RESOURCE", "service.name=,k8s.pod.name=web-1")]).unwrap();
    assert_eq!(loaded.config.agent.resource, [("k8s.pod.name".to_owned(), "web-1".to_owned())].into());
    assert_eq!(loaded.warnings, ["agent.resource: service.name is empty; events do without it"]);
}

#[test]
fn unknown_variables_are_reported_but_not_those_of_kubernetes() {
    let loaded = with_environment(&[
        ("PATH", "/bin"),
        ("PODTAP_KAFKA_BROKER", "a:1"),
        ("PODTAP_PORT", "tcp://10.0.0.1:9090"),
        ("PODTAP_PORT_9090_TCP_ADDR", "10.0.0.1"),
        ("PODTAP_SERVICE_HOST", "10.0.0.1"),
    ])
    .unwrap();
    assert_eq!(
        loaded.warnings,
        ["PODTAP_KAFKA_BROKER: unknown variable; did you mean PODTAP_KAFKA_BROKERS?; it is not used"]
    );
    assert_eq!(loaded.config, Config::default());
}

#[test]
fn a_bad_variable_is_named() {
    let one = |name, value| with_environment(&[(name, value)]).unwrap_err().to_string();
    assert_eq!(
        one("PODTAP_STREAM_MAX_CONNECTIONS", "many"),
        "PODTAP_STREAM_MAX_CONNECTIONS: stream.max_connections: \"many\" is not a whole number"
    );
    assert_eq!(
        one("PODTAP_KAFKA_TIMEOUT", "5"),
        "PODTAP_KAFKA_TIMEOUT: kafka.timeout: \"5\" is not a duration such as 100ms, 2s or 1m 30s"
    );
    assert_eq!(one("PODTAP_PLUGINS_CACHE", "no"), "PODTAP_PLUGINS_CACHE: plugins.cache: \"no\" is not true or false");
    let secret = one("PODTAP_KAFKA_LIBRDKAFKA_OPTIONS", "{\"sasl.password\": hunter2}");
    assert!(!secret.contains("hunter"), "{secret}");
    let secret = one("PODTAP_KAFKA_LIBRDKAFKA_OPTIONS", "hunter2");
    assert!(!secret.contains("hunter"), "{secret}");
}

#[test]
fn a_bad_flag_is_named() {
    let flags = [Flag { name: "--kafka-brokers", key: "kafka.brokers", value: json!(["kafka"]) }];
    let error = Config::load(None, [], &flags).unwrap_err();
    let found: Vec<_> = error.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "kafka.topic: not set, but kafka.brokers is; name the topic of the events",
            "--kafka-brokers: kafka.brokers: \"kafka\" is no broker: write host:port, such as kafka:9092",
        ]
    );
}

#[test]
fn unknown_keys_are_named_with_the_nearest_known_one() {
    check("kafka:\n  topics: a\n", "podtap.yaml:2: kafka.topics: unknown key; did you mean kafka.topic?");
    check("\nkafak: {}\n", "podtap.yaml:2: kafak: unknown section; did you mean kafka?");
    check(
        "kafka:\n  batch_bytes: 5\n",
        "podtap.yaml:2: kafka.batch_bytes: unknown key; did you mean decoder.batch_bytes?",
    );
    check(
        "kafka:\n  xyzzy: 5\n",
        "podtap.yaml:2: kafka.xyzzy: unknown key; docs/configuration.md and `podtap schema config` list all",
    );
}

#[test]
fn values_out_of_range_are_named_with_the_range() {
    check(
        "stream:\n  max_connections: 0\n",
        "podtap.yaml:2: stream.max_connections: 0 is out of range: allowed are 1 to 16777216",
    );
    check(
        "stream:\n\n  gap_timeout: 2h\n",
        "podtap.yaml:3: stream.gap_timeout: \"2h\" is out of range: allowed are 1ms to 1h",
    );
    check(
        "decoder:\n  memory_bytes: 1024\n",
        "podtap.yaml:2: decoder.memory_bytes: 1024 is out of range: allowed are 1MiB to 4GiB",
    );
    check(
        "decoder: {memory_bytes: 8GiB}\n",
        "podtap.yaml:1: decoder.memory_bytes: \"8GiB\" is out of range: allowed are 1MiB to 4GiB",
    );
}

#[test]
fn values_of_another_type_are_named_with_what_is_expected() {
    check(
        "kafka:\n  timeout: soon\n",
        "podtap.yaml:2: kafka.timeout: \"soon\" is not a duration such as 100ms, 2s or 1m 30s",
    );
    check(
        "kafka:\n  timeout: 30\n",
        "podtap.yaml:2: kafka.timeout: invalid type: integer `30`, expected a duration with its unit, such as 100ms, \
         2s or 1m 30s",
    );
    check(
        "agent:\n  id: 7\n",
        "podtap.yaml:2: agent.id: invalid type: integer `7`, expected a string; put the value into quotes",
    );
    check(
        "agent:\n  resource:\n    a: b\n    version: 1.10\n",
        "podtap.yaml:4: agent.resource.version: invalid type: floating point `1.1`, expected a string; put the value \
         into quotes",
    );
    check(
        "kafka:\n  compression: lz5\n",
        "podtap.yaml:2: kafka.compression: unknown variant `lz5`, expected one of `lz4`, `zstd`, `gzip`, `snappy`, \
         `none`",
    );
    check("kafka: [a]\n", "podtap.yaml:1: kafka: a list where a map of keys is expected");
    check("- a\n", "podtap.yaml:1: a map of sections is expected, such as `kafka:`");
    check(
        "detection:\n  ports:\n    http: '80'\n",
        "podtap.yaml:2: detection.ports: \"http\" is no port: allowed are 1 to 65535",
    );
    check(
        "detection:\n  ports:\n    80: 80\n",
        "podtap.yaml:3: detection.ports.80: invalid type: integer `80`, expected a string; put the value into quotes",
    );
}

#[test]
fn values_that_contradict_others_are_named() {
    check("kafka:\n  brokers: [a:1]\n", "kafka.topic: not set, but kafka.brokers is; name the topic of the events");
    check(
        "kafka:\n  topic: a/b\n",
        "podtap.yaml:2: kafka.topic: \"a/b\" is no topic: allowed are 1 to 249 letters, digits, `.`, `_` and `-`",
    );
    check(
        "stream:\n  side_buffer_bytes: 32MiB\n  total_buffer_bytes: 1MiB\n",
        "podtap.yaml:3: stream.total_buffer_bytes: 1MiB is less than stream.side_buffer_bytes (32MiB); allowed is that \
         or more",
    );
}

#[test]
fn pins_that_guard_nothing_are_refused() {
    check(
        "plugins:\n  pins:\n    http.wasm: 5ca1ab1e\n",
        "podtap.yaml:3: plugins.pins.http.wasm: \"5ca1ab1e\" is no SHA-256 digest: write its 64 hexadecimal digits",
    );
    check(
        "plugins:\n  pins:\n    http.wasm: 12345678\n",
        "podtap.yaml:3: plugins.pins.http.wasm: invalid type: integer `12345678`, expected a string; put the value into \
         quotes",
    );
    let digest = "0".repeat(64);
    for name in ["http", "/etc/podtap/http.wasm", ".wasm", "http.wasm.bz2"] {
        check(
            &format!("plugins:\n  pins:\n    {name}: '{digest}'\n"),
            &format!(
                "podtap.yaml:2: plugins.pins: {name:?} is no name of a decoder's file: write it as in http.wasm, without \
                 the directory"
            ),
        );
    }
}

#[test]
fn every_problem_is_found_at_once_with_its_line_in_every_format() {
    let yaml = "kafka:\n  topics: a\n  timeout: 5d\nlogs: {}\nstream:\n  max_connections: -1\n";
    let toml = "[kafka]\ntopics = 'a'\ntimeout = '5d'\n[logs]\n[stream]\nmax_connections = -1\n";
    let json = "{\"kafka\": {\n\"topics\": \"a\",\n\"timeout\": \"5d\"},\n\"logs\": {}, \"stream\": {\n\
                \t\"max_connections\": -1}\n}\n";
    for (name, content, lines) in
        [("a.yaml", yaml, [2, 3, 4, 6]), ("a.toml", toml, [2, 3, 4, 6]), ("a.json", json, [2, 3, 4, 5])]
    {
        let expected = [
            format!("{name}:{}: kafka.topics: unknown key; did you mean kafka.topic?", lines[0]),
            format!("{name}:{}: kafka.timeout: \"5d\" is not a duration such as 100ms, 2s or 1m 30s", lines[1]),
            format!("{name}:{}: logs: unknown section; did you mean log?", lines[2]),
            format!("{name}:{}: stream.max_connections: invalid value: integer `-1`, expected u32", lines[3]),
        ];
        let mut found = problems(name, content);
        found.sort();
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(found, expected, "{name}");
    }
    let error = load("a.yaml", yaml).unwrap_err().to_string();
    assert!(error.ends_with("(and 3 more: `podtap validate FILE` lists those of a file)"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_or_parsed_is_named() {
    let error = Config::load(Some("/nonexistent/podtap.yaml".as_ref()), [], &[]).unwrap_err().to_string();
    assert!(
        error.starts_with("/nonexistent/podtap.yaml: the configuration file cannot be read: No such file"),
        "{error}"
    );
    let one = |name, content| problems(name, content).join("\n");
    let text = one("podtap.yaml", "kafka:\n  topic: [a\nlog: {}\n");
    assert!(text.starts_with("podtap.yaml:") && text.contains("not YAML: ") && !text.contains('\n'), "{text}");
    let text = one("podtap.yaml", "log: {}\nlog: {}\n");
    assert!(text.starts_with("podtap.yaml:2: not YAML: "), "{text}");
    let text = one("podtap.toml", "[kafka]\ntopic = \n");
    assert!(text.starts_with("podtap.toml:2: not TOML: "), "{text}");
    let text = one("podtap.json", "{\n\"kafka\": }");
    assert!(text.starts_with("podtap.json:2: not JSON: "), "{text}");
    assert_eq!(
        one("podtap.ini", "x"),
        "podtap.ini: configuration in .ini is not supported; use .yaml, .yml, .toml or .json"
    );
}

#[test]
fn a_configuration_made_by_hand_is_checked_too() {
    let mut config = Config::default();
    config.stream.max_connections = 0;
    config.decoder.call_timeout = HumanDuration(Duration::from_secs(3600));
    let found: Vec<_> = config.validate().iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "stream.max_connections: 0 is out of range: allowed are 1 to 16777216",
            "decoder.call_timeout: \"1h\" is out of range: allowed are 1ms to 1m",
        ]
    );
}
