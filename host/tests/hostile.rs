//! What a hostile decoder does costs what it has, and nothing else: every other connection's exchanges are those of a run
//! without it, the loss is counted under its name, and podtap's time and memory stay bounded.

mod support;

use std::time::Duration;

use podtap::config::{ByteSize, Config, HumanDuration, OutputFormat};
use podtap::pipeline::{Decoders, Replay, replay_with};
use podtap::publish::{Colour, Outputs};
use support::{Capture, Run, podtap};

/// What podtap may take, with a decoder that uses all it can: its memory cap, and what it may return, twice.
const MOST_MEMORY: u64 = 256 << 20;

/// CPU time beyond that of a run without harm: calls that run into their deadline, and what they leave to do.
const MOST_TIME: Duration = Duration::from_secs(2);

fn replay(capture: &Capture, settings: &str, plugins: &[&std::path::Path]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let (file, config) = (folder.path().join("a.pcap"), folder.path().join("podtap.yaml"));
    std::fs::write(&file, capture.file(101)).unwrap();
    std::fs::write(&config, settings).unwrap();
    let mut arguments =
        vec!["replay", file.to_str().unwrap(), "--config", config.to_str().unwrap(), "--output", "json"];
    for folder in plugins {
        arguments.extend(["--plugins", folder.to_str().unwrap()]);
    }
    podtap(&arguments)
}

/// `order` on the third connection. The first and the fourth are of the same decoder, the second is HTTP's.
fn with_order(order: &[u8]) -> Capture {
    let mut capture = Capture::default();
    // It stays open, so that ids are given in order.
    capture.connection(1001, 7).client("> a\n").server("a\n").client("> b\n").server("b\n");
    capture.connection(1002, 80).client("GET /1 HTTP/1.1\r\n\r\n").server("HTTP/1.1 204 No\r\n\r\n");
    capture
        .connection(1003, 7)
        .client("> before\n")
        .server("y\n")
        .client([order, b"\n"].concat())
        .server("z\n")
        .close();
    capture.on(1002, 80, false).client("GET /2 HTTP/1.1\r\n\r\n").server("HTTP/1.1 204 No\r\n\r\n").close();
    capture.connection(1004, 7).client("> c\n").server("c\n").client("> d\n").server("d\n").close();
    capture
}

/// The events of all connections but the third, and those of HTTP alone.
fn others(run: &Run) -> [Vec<&str>; 2] {
    let mut lines: Vec<_> = run.stdout.lines().filter(|line| !line.contains("\"port\":1003")).collect();
    lines.sort_unstable();
    let http = lines.iter().filter(|line| line.contains("\"port\":80,")).copied().collect();
    [lines, http]
}

#[track_caller]
fn check_bounds(run: &Run, harmless: &Run) {
    assert!(run.memory_bytes < MOST_MEMORY, "{} bytes", run.memory_bytes);
    assert!(run.cpu < harmless.cpu + MOST_TIME, "{:?} beside {:?}", run.cpu, harmless.cpu);
    assert!(!run.stderr.contains("unknown connections"), "{}", run.stderr);
}

/// With an instance for each connection nothing else changes. With one for all, HTTP's exchanges do not.
#[track_caller]
fn check(order: &[u8], losses: &[&str]) {
    check_with("64MiB", "50ms", order, losses);
}

/// As [`check`], with so much memory for an instance and time for a call.
#[track_caller]
fn check_with(memory: &str, time: &str, order: &[u8], losses: &[&str]) {
    let plugins = support::plugins("test-plugins");
    // As long as the order, so that all else is the same.
    let mut fine = b"> fine".to_vec();
    fine.resize(order.len().max(fine.len()), b'.');
    let mut settings = "batch_entries: 1, connections_per_instance: 1";
    for alone in [true, false] {
        let config = format!("decoder: {{call_timeout: {time}, memory_bytes: {memory}, {settings}}}");
        let harmless = replay(&with_order(&fine), &config, &[&plugins]);
        let run = replay(&with_order(order), &config, &[&plugins]);
        let what = format!("{}: {}", order.escape_ascii(), run.stderr);
        assert_eq!(run.code, Some(0), "{what}");
        assert_eq!(harmless.exchanges().len(), 8, "{}", harmless.stderr);
        let [[all, http], [expected_all, expected_http]] = [others(&run), others(&harmless)];
        assert_eq!(http, expected_http, "{what}");
        if alone {
            assert_eq!(all, expected_all, "{what}");
        }
        for loss in losses {
            assert!(run.count(loss) > 0, "no {loss:?}: {what}");
        }
        check_bounds(&run, &harmless);
        settings = "batch_entries: 3";
    }
}

const BLAMED: &str = "connections blamed";

#[test]
fn an_endless_loop() {
    check(b"> loop", &["decoder deadlines", BLAMED]);
}

#[test]
fn endless_recursion() {
    check(b"> recurse", &["decoder traps", BLAMED]);
}

#[test]
fn a_panic() {
    check(b"> panic", &["decoder traps", BLAMED]);
}

#[test]
fn a_panic_at_the_end_of_a_connection() {
    check(b"> at the end", &["decoder traps"]);
}

#[test]
fn a_memory_bomb() {
    // Little, so that it is used up before the deadline, however busy the machine is.
    check_with("8MiB", "50ms", b"> grow", &["decoder memory breaches", BLAMED]);
}

#[test]
fn a_flood_of_exchanges() {
    // Time enough to return it, likewise.
    check_with("64MiB", "500ms", b"> flood", &["decoder oversized outputs", BLAMED]);
}

#[test]
fn a_giant_exchange() {
    check(b"> giant", &["decoder oversized outputs", BLAMED]);
}

#[test]
fn a_flood_of_demands() {
    check(b"> demands", &["decoder oversized outputs", BLAMED]);
}

#[test]
fn a_long_exchange_is_cut() {
    check(b"> long", &["exchanges truncated"]);
}

#[test]
fn exchanges_of_connections_of_others_and_of_nobody() {
    check(b"> foreign", &["decoder invalid outputs"]);
    check(b"> nobody", &["decoder invalid outputs"]);
}

#[test]
fn columns_that_do_not_match() {
    check(b"> columns", &["decoder invalid outputs"]);
}

#[test]
fn demands_for_connections_of_others_and_of_nobody() {
    check(b"> demand foreign", &["decoder demands ignored"]);
}

#[test]
fn a_demand_to_skip_all_there_will_ever_be() {
    check(b"> skip", &[]);
}

#[test]
fn a_false_count_of_undecoded_bytes() {
    check(b"> undecoded", &["payload bytes undecoded"]);
}

#[test]
fn text_that_is_not_utf_8() {
    check(b"> \xff\xfe\xc3", &[]);
    let plugins = support::plugins("test-plugins");
    let run = replay(&with_order(b"> \xff"), "", &[&plugins]);
    assert!(run.exchanges().iter().any(|exchange| exchange["target"] == "> \u{fffd}"), "{}", run.stdout);
}

#[test]
fn a_flood_of_log_lines() {
    check(b"> log", &["decoder log lines dropped"]);
}

#[test]
fn a_panic_a_few_calls_later() {
    // The order has been carried out by then; the call fails for whom it serves, or, given again, for nobody.
    check(b"> count down", &["decoder traps"]);
}

#[test]
fn hand_overs_in_circles_end() {
    let mut capture = Capture::default();
    capture.connection(1001, 7).client("> again\n".repeat(40)).client("> more\n").server("a\n").close();
    capture.connection(1002, 80).client("GET /1 HTTP/1.1\r\n\r\n").server("HTTP/1.1 204 No\r\n\r\n").close();
    let run = replay(&capture, "", &[&support::plugins("test-plugins")]);
    let handed_over = run.exchanges().iter().filter(|exchange| exchange["target"] == "> again").count();
    assert_eq!((run.code, handed_over), (Some(0), 17), "{}", run.stderr);
    assert_eq!(run.count("connections undetected"), 1, "{}", run.stderr);
}

#[test]
fn a_panic_in_configure_keeps_the_decoder_out() {
    let plugins = support::plugins("test-plugins");
    let capture = with_order(b"> fine");
    let harmless = replay(&capture, "", &[&plugins]);
    let run = replay(&capture, "plugins: {config: {misbehave: {panic: true}}}", &[&plugins]);
    let errors = run.errors().join("\n");
    assert!(errors.contains("misbehave.wasm") && errors.contains("failed in `configure`"), "{}", run.stderr);
    assert_eq!(others(&run)[1], others(&harmless)[1], "{}", run.stderr);
    check_bounds(&run, &harmless);
}

/// A decoder written without any help, as a core module, with parts of it replaced.
fn raw(replaced: &[(&str, &str)]) -> tempfile::TempDir {
    let mut source = RAW.to_owned();
    for (part, with) in replaced {
        assert!(source.contains(part), "{part}");
        source = source.replace(part, with);
    }
    let mut module = wat::parse_str(&source).unwrap();
    // The contract as another component has it.
    let http = std::fs::read(support::plugins("plugins").join("http.wasm")).unwrap();
    let wit_component::DecodedWasm::Component(resolve, world) = wit_component::decode(&http).unwrap() else {
        panic!("a decoder is a component")
    };
    wit_component::embed_component_metadata(&mut module, &resolve, world, wit_component::StringEncoding::UTF8).unwrap();
    let component =
        wit_component::ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("raw.wasm"), component).unwrap();
    folder
}

/// Takes what begins with `>` and makes nothing of it.
const RAW: &str = r#"
(module
  (memory (export "memory") 1)
  (table $table 1 funcref)
  (data (i32.const 1024) "raw")
  (data (i32.const 1032) "1.0.0")
  (data (i32.const 1040) "\00\04\00\00\03\00\00\00")
  ;; describe: name, version, doc, protocols, ports, attributes, status
  (data (i32.const 2048) "\00\04\00\00\03\00\00\00" "\08\04\00\00\05\00\00\00" "\00\04\00\00\03\00\00\00" "\10\04\00\00\01\00\00\00")
  (func (export "podtap:decoder/decoder@0.1.0#describe") (result i32)
    (; describe ;)
    i32.const 2048)
  (func (export "podtap:decoder/decoder@0.1.0#configure") (param i32 i32) (result i32)
    (; configure ;)
    i32.const 3072)
  (func (export "podtap:decoder/decoder@0.1.0#probe") (param i32 i32 i32) (result i32)
    (; probe ;)
    (i32.ne (i32.load8_u (local.get 1)) (i32.const 62)))
  (func (export "podtap:decoder/decoder@0.1.0#feed")
    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    (; feed ;)
    ;; What the batch was given is not needed any more.
    (global.set $free (i32.const 8192))
    i32.const 3072)
  (global $free (mut i32) (i32.const 8192))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (global.set $free (i32.add (local.get $at) (local.get 3)))
    (block $enough
      (loop $more
        (br_if $enough (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
        (drop (memory.grow (i32.const 1)))
        (br $more)))
    (local.get $at))
)"#;

/// Replays with it beside HTTP's, which finds what it finds without.
#[track_caller]
fn check_raw(replaced: &[(&str, &str)]) -> Run {
    let capture = with_order(b"> fine");
    let (fine, bad) = (raw(&[]), raw(replaced));
    let settings = "decoder: {call_timeout: 50ms}";
    let harmless = replay(&capture, settings, &[fine.path()]);
    assert_eq!((harmless.code, harmless.exchanges().len()), (Some(0), 2), "{}", harmless.stderr);
    assert!(harmless.stderr.contains("4  connections detected"), "{}", harmless.stderr);
    let run = replay(&capture, settings, &[bad.path()]);
    assert_eq!(others(&run)[1], others(&harmless)[1], "{}", run.stderr);
    check_bounds(&run, &harmless);
    run
}

#[test]
fn a_table_bomb() {
    let grow = "(loop $more (drop (table.grow $table (ref.null func) (i32.const 1000))) (br $more))";
    let run = check_raw(&[("(; feed ;)", grow)]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.count("decoder memory breaches") > 0, "{}", run.stderr);
}

#[test]
fn what_a_decoder_is_made_of_is_bounded() {
    for (part, with) in [
        ("(table $table 1 funcref)", "(table $table 20000 funcref)".to_owned()),
        ("(table $table 1 funcref)", "(table $table 1 funcref)".to_owned() + &"(table 1 funcref)".repeat(20)),
        ("(memory (export \"memory\") 1)", "(memory (export \"memory\") 60000)".to_owned()),
    ] {
        let run = check_raw(&[(part, &with)]);
        let errors = run.errors();
        assert!(errors.len() == 1 && errors[0].contains("raw.wasm"), "{}", run.stderr);
    }
}

#[test]
fn a_failure_in_describe_and_in_configure() {
    for call in ["describe", "configure"] {
        for (harm, what) in [("unreachable", "unreachable"), ("(loop $more (br $more))", "deadline")] {
            let run = check_raw(&[(&format!("(; {call} ;)"), harm)]);
            let errors = run.errors().join("\n");
            assert!(errors.contains(&format!("failed in `{call}`")) && errors.contains(what), "{}", run.stderr);
        }
    }
}

#[test]
fn a_failure_in_probe() {
    for (harm, loss) in [("unreachable", "decoder traps"), ("(loop $more (br $more))", "decoder deadlines")] {
        let run = check_raw(&[("(; probe ;)", harm)]);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        assert!(run.count(loss) > 0, "{}", run.stderr);
    }
}

/// Orders that a random conversation is made of; what ends at a deadline is rare, for it takes long.
const ORDERS: [&[u8]; 24] = [
    b"> a",
    b"> b",
    b"> c",
    b"> again",
    b"> again",
    b"> again\n> d",
    b"> panic",
    b"> at the end",
    b"> count down",
    b"> flood",
    b"> giant",
    b"> long",
    b"> foreign",
    b"> nobody",
    b"> columns",
    b"> undecoded",
    b"> demand foreign",
    b"> skip",
    b"> demands",
    b"> \xff",
    b"! panic in probe",
    b"?",
    b"nonsense",
    b"GET /up HTTP/1.1\r\nUpgrade: misbehave\r\n\r\n> e",
];

/// What the random conversations must lead to, to be worth anything.
const EXERCISED: [&str; 9] = [
    "connections_blamed",
    "connections_of_quarantined_decoders",
    "decoder_demands_ignored",
    "decoder_invalid_outputs",
    "decoder_oversized_outputs",
    "decoder_traps",
    "decoders_quarantined",
    "payload_bytes_in_failed_calls",
    "undetected_decoder_quarantined",
];

/// Every packet and byte is in one place, whatever happens between connections that are decoded side by side.
#[test]
fn whatever_decoders_do_the_counts_add_up() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below
    };
    let mut config = Config::default();
    config.plugins.directories = vec![support::plugins("test-plugins")];
    config.output.format = Some(OutputFormat::Json);
    config.output.file = Some("/dev/null".into());
    config.decoder.call_timeout = HumanDuration(Duration::from_millis(500));
    let decoders = Decoders::load(&config).expect("plugins are built: `cargo xtask plugins`");
    let folder = tempfile::tempdir().unwrap();
    let mut seen = std::collections::BTreeMap::<&str, u64>::new();
    for round in 0..60 {
        let mut capture = Capture::default();
        let connections = 1 + random(8);
        for step in 0..random(60) {
            let port = 1000 + random(connections) as u16;
            let server = [7, 80][usize::from(port).wrapping_mul(7) % 2];
            let mut conversation = capture.on(port, server, step < connections);
            match random(12) {
                0 => conversation.close(),
                1 => drop(conversation.server("HTTP/1.1 101 Yes\r\n\r\n> f\n")),
                2..5 => drop(conversation.server("z\n")),
                _ => drop(conversation.client([ORDERS[random(ORDERS.len())], b"\n"].concat())),
            }
            if random(20) == 0 {
                capture.pause(random(5000) as u32);
            }
        }
        let file = folder.path().join("a.pcap");
        std::fs::write(&file, capture.file(101)).unwrap();
        config.decoder.batch_entries = [1, 2, 3, 7, 512][random(5)];
        config.decoder.connections_per_instance = [1, 2, 65_536][random(3)];
        config.decoder.failures_allowed = [0, 1, 3, 1000][random(4)];
        config.decoder.exchanges_per_call = 50_000;
        config.detection.head_bytes = ByteSize(64);
        config.events.connections = random(2) == 0;
        config.detection.ports = if random(4) == 0 { [(7, "misbehave".to_owned())].into() } else { [].into() };
        let mut outputs = Outputs::open(&config, Colour::Never).unwrap();
        let files = [file.clone(), file];
        let request = Replay { files: &files, filter: None, config: &config, progress: &mut |_| () };
        let report = replay_with(&decoders, request, &mut outputs).unwrap();
        assert!(report.adds_up(), "round {round}: {report:#?}");
        assert_eq!(report.count("payload_bytes_of_unknown_connections"), 0, "round {round}: {report:#?}");
        assert_eq!(report.problems, Vec::<String>::new(), "round {round}");
        for &(name, count) in report.losses.iter().filter(|(_, count)| *count > 0) {
            *seen.entry(name).or_default() += count;
        }
    }
    for name in EXERCISED {
        assert!(seen.contains_key(name), "no {name}: {seen:#?}");
    }
}
