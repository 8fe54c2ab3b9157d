//! What the author of a decoder has: `podtap plugin new`, `build`, `test` and `trace`, and `podtap replay --plugin`.
//!
//! The template's component is built by `cargo xtask plugins`. The way from a new crate to events takes a compiler for
//! WebAssembly; where there is none it is skipped, and says so.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use podtap_toolchain::{TARGET, Toolchain};
use support::{Capture, Run, podtap};

fn template() -> PathBuf {
    let file = support::plugins("test-plugins").join("template.wasm");
    assert!(file.is_file(), "`cargo xtask plugins` builds {}", file.display());
    file
}

fn captures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk/template/tests/captures")
}

/// podtap with arguments and paths among them.
#[track_caller]
fn run(arguments: &[&dyn AsRef<Path>]) -> Run {
    podtap(&arguments.iter().map(|argument| argument.as_ref().to_str().unwrap()).collect::<Vec<_>>())
}

/// A folder with a copy of the template's capture and events.
fn copied() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["first.pcap", "first.jsonl"] {
        fs::copy(captures().join(file), folder.path().join(file)).unwrap();
    }
    folder
}

#[test]
fn test_tries_every_variant_and_the_contract() {
    let run = run(&[&"plugin", &"test", &template(), &"--captures", &captures(), &"--contract", &"--fuzz", &"1"]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{}", run.stdout);
    let lines: Vec<_> = run.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in [
        "contract describe is stable ok",
        "contract a large batch ok",
        "first.pcap whole ok 23 exchanges, 0 bytes undecoded",
        "first.pcap byte by byte ok the same exchanges",
        "first.pcap random splits ok the same exchanges, 8 times",
        "first.pcap reordered ok the same exchanges, 8 times",
        "23 checks passed",
    ] {
        assert!(lines.iter().any(|found| found == line), "{line}\n{}", run.stdout);
    }
    for (variant, least) in [("losses", 50), ("midstream", 20)] {
        let line = lines.iter().find_map(|line| line.strip_prefix(&format!("first.pcap {variant} ok "))).unwrap();
        let again: u32 = line.split(' ').next().unwrap().parse().unwrap();
        assert!(again >= least && line.ends_with("marked as partial, of 184"), "{line}");
    }
    assert!(lines.iter().any(|line| line.starts_with("fuzz 1 s ok ")), "{}", run.stdout);
}

#[test]
fn test_shows_the_difference_to_the_events_and_update_takes_it() {
    let folder = copied();
    let golden = folder.path().join("first.jsonl");
    let right = fs::read_to_string(&golden).unwrap();
    fs::write(&golden, right.replacen("colour", "color", 1)).unwrap();
    let bad = run(&[&"plugin", &"test", &template(), &"--captures", &folder.path()]);
    assert_eq!(bad.code, Some(1));
    assert!(
        bad.stdout.contains("FAILED\n    ") && bad.stdout.contains("first.jsonl, line 1:\n    expected {"),
        "{}",
        bad.stdout
    );
    assert!(bad.stdout.contains("--update` takes what was found"), "{}", bad.stdout);
    assert_eq!(bad.errors(), ["podtap: error: 1 of 6 checks failed; the lines above say how"]);
    let updated = run(&[&"plugin", &"test", &template(), &"--captures", &folder.path(), &"--update"]);
    assert_eq!(updated.code, Some(0), "{}", updated.stdout);
    assert_eq!(fs::read_to_string(&golden).unwrap(), right);
}

#[test]
fn test_says_what_is_missing() {
    let folder = copied();
    fs::write(folder.path().join("stray.jsonl"), "").unwrap();
    let stray = run(&[&"plugin", &"test", &template(), &"--captures", &folder.path()]);
    assert!(stray.stderr.contains("stray.jsonl: events without a capture"), "{}", stray.stderr);
    let none = run(&[&"plugin", &"test", &template()]);
    assert!(none.stderr.contains("name the directory of the captures with --captures"), "{}", none.stderr);
    let empty = tempfile::tempdir().unwrap();
    let empty = run(&[&"plugin", &"test", &template(), &"--captures", &empty.path()]);
    assert!(empty.stderr.contains("no capture in it"), "{}", empty.stderr);
    for run in [stray, none, empty] {
        assert_eq!((run.code, run.stderr.lines().count()), (Some(1), 1));
    }
}

/// A capture in which the decoder that misbehaves is asked to.
fn orders(order: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut capture = Capture::default();
    capture.connection(40000, 7).client(format!("{order}\n")).close();
    fs::write(folder.path().join("orders.pcap"), capture.file(101)).unwrap();
    folder
}

#[test]
fn test_sees_what_a_decoder_may_not_do() {
    let misbehave = support::plugins("test-plugins").join("misbehave.wasm");
    for (order, said) in [("> panic", "the decoder trapped"), ("> loop", "the decoder ran past its deadline")] {
        let folder = orders(order);
        let run = run(&[&"plugin", &"test", &misbehave, &"--captures", &folder.path()]);
        assert_eq!(run.code, Some(1), "{}", run.stdout);
        assert!(run.stdout.contains(said), "{order}: {}", run.stdout);
    }
}

#[test]
fn the_contract_names_the_rule_that_is_broken() {
    let misbehave = support::plugins("test-plugins").join("misbehave.wasm");
    for (order, said) in [("> panic", "trap: "), ("> foreign", "an exchange of connection ")] {
        let folder = orders(order);
        let run = run(&[&"plugin", &"test", &misbehave, &"--contract", &"--captures", &folder.path()]);
        let lines: Vec<_> = run.stdout.lines().collect();
        let failed = lines.iter().position(|line| line.starts_with("contract") && line.contains("every kind of entry"));
        let [line, fault, ..] = lines[failed.unwrap()..] else { panic!("{}", run.stdout) };
        assert!(line.ends_with("FAILED") && fault.contains(said), "{line}\n{fault}");
        assert!(fault.ends_with("; the rule: `batch.kinds`: data, gap, end, closed, of either side"), "{fault}");
        // What has nothing to do with what was sent still holds.
        assert!(lines.iter().any(|line| line.contains("describe is stable") && line.ends_with("ok")), "{}", run.stdout);
    }
}

#[test]
fn the_contract_counts_undecoded_bytes() {
    let misbehave = support::plugins("test-plugins").join("misbehave.wasm");
    let folder = orders("> undecoded");
    let run = run(&[&"plugin", &"test", &misbehave, &"--contract", &"--captures", &folder.path()]);
    assert!(run.stdout.contains("    18446744073709551615 bytes undecoded of "), "{}", run.stdout);
}

#[test]
fn fuzz_keeps_the_input_that_breaks_the_decoder() {
    let misbehave = support::plugins("test-plugins").join("misbehave.wasm");
    let folder = orders("> panic");
    let run = Command::new(env!("CARGO_BIN_EXE_podtap"))
        .current_dir(folder.path())
        .args(["plugin", "test", misbehave.to_str().unwrap(), "--captures", ".", "--fuzz", "20"])
        .output()
        .unwrap();
    let stdout = String::from_utf8(run.stdout).unwrap();
    let command =
        stdout.lines().find_map(|line| line.trim().strip_prefix("the input is kept: podtap replay --plugin "));
    let input = command.and_then(|command| command.rsplit(' ').next()).unwrap_or_else(|| panic!("{stdout}"));
    let again =
        podtap(&["replay", "--plugin", misbehave.to_str().unwrap(), folder.path().join(input).to_str().unwrap()]);
    assert!(again.count("decoder traps") > 0, "{}", again.stderr);
}

#[test]
fn trace_shows_what_goes_in_and_comes_out() {
    let capture = captures().join("first.pcap");
    let run = run(&[&"plugin", &"trace", &template(), &"--capture", &capture, &"--connection", &"1"]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    let wanted = [
        "probe as client's: yes",
        "\"SET colour blue\\n\"",
        "=> ok SET colour  request",
        "=> error GET shape ",
        "end",
        "closed: finished",
    ];
    let mut rest = run.stdout.as_str();
    for wanted in wanted {
        rest = rest.split_once(wanted).unwrap_or_else(|| panic!("{wanted} in order:\n{}", run.stdout)).1;
    }
}

#[test]
fn trace_shows_where_the_decoder_lost_its_way_and_escapes_payload() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("odd.pcap");
    let mut capture = Capture::default();
    capture.connection(40000, 7070).client("GET a\n").server("OK 1\n").client("\x1b[2Jnonsense\nmore of it\n").close();
    fs::write(&file, capture.file(101)).unwrap();
    let run = run(&[&"plugin", &"trace", &template(), &"--capture", &file]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(
        run.stdout.contains("\"\\x1b[2Jnonsense\\nmore of it\\n\"") && !run.stdout.contains('\x1b'),
        "{}",
        run.stdout
    );
    // Both lines: the one that was read and made no sense, and what was passed over behind it.
    assert!(run.stdout.contains("!! 24 bytes undecoded: the decoder has lost its way"), "{}", run.stdout);
}

#[test]
fn trace_lists_the_connections_to_choose_from() {
    let run = run(&[&"plugin", &"trace", &template(), &"--capture", &captures().join("first.pcap")]);
    assert_eq!((run.code, run.stderr.lines().count()), (Some(1), 1));
    assert!(run.stderr.contains("has 4 connections; choose one with --connection: 1 127.0.0.1:"), "{}", run.stderr);
}

#[test]
fn replay_uses_the_decoder_of_a_file_that_is_named_and_pins_still_apply() {
    let (file, capture) = (template(), captures().join("first.pcap"));
    let used = run(&[&"replay", &"--plugin", &file, &"--output", &"json", &capture]);
    assert_eq!((used.code, used.exchanges().len()), (Some(0), 23), "{}", used.stderr);
    assert_eq!(used.exchanges()[0]["decoder"], "template/0.1.0");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("podtap.yaml");
    fs::write(&config, "plugins: {require_pins: true}\nevents: {connections: true}").unwrap();
    let pinned = run(&[&"replay", &"--config", &config, &"--plugin", &file, &capture]);
    assert!(pinned.stderr.contains("template.wasm: is not pinned"), "{}", pinned.stderr);
    let missing = run(&[&"replay", &"--plugin", &"/nowhere.wasm", &capture]);
    assert!(missing.stderr.contains("/nowhere.wasm: cannot be read"), "{}", missing.stderr);
}

#[test]
fn of_two_with_one_name_the_file_that_is_named_wins() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.wasm");
    let mut component = fs::read(template()).unwrap();
    // A custom section behind it makes it another component that does the same.
    component.extend([0, 2, 1, b'x']);
    fs::write(&copy, component).unwrap();
    let config = folder.path().join("podtap.yaml");
    fs::write(&config, format!("plugins: {{files: [{}]}}", copy.display())).unwrap();
    let list = run(&[&"plugin", &"list", &"--config", &config, &"--plugins", &template().parent().unwrap()]);
    let state = |path: &Path| {
        let line = list.stdout.lines().find(|line| line.ends_with(path.to_str().unwrap())).unwrap();
        line.split(' ').next().unwrap().to_owned()
    };
    assert_eq!((state(&template()).as_str(), state(&copy).as_str()), ("replaced", "used"), "{}", list.stdout);
}

#[test]
fn new_refuses_names_and_places_that_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("there"), "").unwrap();
    let refused = run(&[&"plugin", &"new", &"mine", &"--dir", &folder.path()]);
    assert!(refused.code == Some(1) && refused.stderr.contains("is there already"), "{}", refused.stderr);
    let refused = run(&[&"plugin", &"new", &"My_Protocol"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("use 1 to 32 of a-z, 0-9 and -"), "{}", refused.stderr);
}

#[test]
fn build_says_where_there_is_no_crate() {
    let folder = tempfile::tempdir().unwrap();
    let refused = run(&[&"plugin", &"build", &folder.path()]);
    assert!(refused.code == Some(1) && refused.stderr.contains("no Cargo.toml"), "{}", refused.stderr);
}

#[test]
fn from_a_new_crate_to_events() {
    if !matches!(Toolchain::find(), Ok(Some(_))) {
        println!("skipped: no compiler for {TARGET}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("a/my-kv");
    // Kept from run to run, for the SDK's dependencies take longest.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("author");
    let run = |arguments: &[&str]| {
        let podtap = env!("CARGO_BIN_EXE_podtap");
        let mut command = Command::new(if arguments[0] == "cargo" { "cargo" } else { podtap });
        let arguments = if arguments[0] == "cargo" { &arguments[1..] } else { arguments };
        let output =
            command.current_dir(folder.path()).env("CARGO_TARGET_DIR", &target).args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        assert!(output.status.success(), "{arguments:?}\n{stdout}\n{stderr}");
        stdout
    };
    let said = run(&["plugin", "new", "my-kv", "--dir", "a/my-kv"]);
    assert!(said.contains("make it yours in a/my-kv/src/lib.rs"), "{said}");
    let tested = run(&["plugin", "test", "a/my-kv", "--contract"]);
    assert!(tested.contains("fits a ConfigMap (1 MiB)") && tested.contains("22 checks passed"), "{tested}");
    let decoder = made.join("my-kv.wasm");
    let capture = "a/my-kv/tests/captures/first.pcap";
    let events = run(&["replay", "--plugin", decoder.to_str().unwrap(), "--output", "json", capture]);
    assert!(events.lines().next().unwrap().contains("\"decoder\":\"my-kv/0.1.0\""), "{events}");
    // The crate's own tests, as native code.
    let manifest = made.join("Cargo.toml");
    let own = run(&["cargo", "test", "--quiet", "--offline", "--manifest-path", manifest.to_str().unwrap()]);
    assert!(own.contains("4 passed"), "{own}");
}

#[test]
fn what_is_empty_is_not_published() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("empty.pcap");
    let mut capture = Capture::default();
    capture.connection(40000, 7070).client("GET \n").server("OK 1\n").close();
    fs::write(&file, capture.file(101)).unwrap();
    let run = run(&[&"replay", &"--plugin", &template(), &file, &"--output", &"json"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stdout.contains(r#""attributes":{"template.status":"OK"}"#), "{}", run.stdout);
}

/// A decoder that an outsider wrote, with the guides alone: it is to stay as short as that.
#[test]
fn the_example_in_rust_is_short_and_stands_every_check() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk/examples/redis");
    let source = fs::read_to_string(example.join("src/lib.rs")).unwrap();
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
    let lines = source.lines().filter(is_code).count();
    assert!(lines <= 150, "{lines} lines of code");
    let component = support::plugins("example-plugins").join("redis.wasm");
    let captures = example.join("tests/captures");
    let run = run(&[&"plugin", &"test", &component, &"--captures", &captures, &"--contract"]);
    assert_eq!(run.code, Some(0), "{}\n{}", run.stdout, run.stderr);
}
