//! `podtap plugin inspect` and `podtap plugin list`: what they show, and what does not get out of a decoder.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use podtap::config::Digest;
use serde_json::Value;
use support::{Run, podtap};
use tempfile::TempDir;

fn misbehave() -> PathBuf {
    support::plugins("test-plugins").join("misbehave.wasm")
}

fn digest(path: &Path) -> String {
    Digest::of(&fs::read(path).unwrap()).to_string()
}

/// podtap with arguments and paths behind them.
fn run(arguments: &[&str], paths: &[&Path]) -> Run {
    let paths = paths.iter().map(|path| path.to_str().unwrap());
    podtap(&arguments.iter().copied().chain(paths).collect::<Vec<_>>())
}

/// A copy of a component in which one text is another of the same length.
fn with_text(file: &Path, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut component = fs::read(file).unwrap();
    let at = component.windows(from.len()).position(|window| window == from.as_bytes()).expect("it has the text");
    component[at..at + to.len()].copy_from_slice(to.as_bytes());
    component
}

/// Lines, with what differs from run to run and from compiler to compiler left out.
fn steady(text: &str) -> Vec<String> {
    let line = |line: &str| match line.split_once("  ") {
        Some((name @ ("file" | "size" | "sha256" | "compiled" | "memory"), _)) => name.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect()
}

#[test]
fn inspect_shows_what_a_decoder_is() {
    let run = run(&["plugin", "inspect"], &[&misbehave()]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    let version = format!("version    {}", env!("CARGO_PKG_VERSION"));
    let expected = [
        "file",
        "name       misbehave",
        &version,
        "about      Does on demand what a decoder must not do",
        "contract   podtap:decoder@0.1.0",
        "protocols  misbehave",
        "ports      7",
        "imports    podtap:decoder/host@0.1.0, podtap:decoder/types@0.1.0",
        "size",
        "sha256",
        "compiled",
        "memory",
        "",
        "attribute        type   meaning",
        "misbehave.order  text   The order, as sent.",
    ];
    assert_eq!(steady(&run.stdout), expected);
    assert!(run.stdout.contains(&format!("sha256     {}\n", digest(&misbehave()))));
    assert!(run.stdout.contains(" when fresh, at most 64MiB\n"));
}

#[test]
fn inspect_says_which_attribute_is_the_status() {
    let run = run(&["plugin", "inspect"], &[&support::plugins("plugins").join("http.wasm")]);
    let status = run.stdout.lines().find(|line| line.contains("(the status)")).unwrap();
    let words: Vec<_> = status.split_whitespace().take(2).collect();
    assert_eq!(words, ["http.response.status_code", "uint"], "{status}");
}

#[test]
fn inspect_gives_the_same_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let packed = folder.path().join("mine.wasm.gz");
    let gzip = Command::new("gzip").arg("-c").arg(misbehave()).output().expect("gzip is there").stdout;
    fs::write(&packed, &gzip).unwrap();
    let run = run(&["plugin", "inspect", "--json"], &[&packed]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    let said: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&said["name"], &said["ports"][0]), (&"misbehave".into(), &7.into()));
    assert_eq!((&said["packing"], &said["file_bytes"]), (&"gzip".into(), &gzip.len().into()));
    assert_eq!(said["component_bytes"], misbehave().metadata().unwrap().len());
    assert_eq!(said["sha256"], digest(&misbehave()));
    assert_eq!((&said["contract_version"], &said["max_memory_bytes"]), (&"0.1.0".into(), &(64 << 20).into()));
    assert_eq!(said["attributes"][0]["type"], "text");
    let memory = said["memory_bytes"].as_u64().unwrap();
    assert!(memory > 0 && memory.is_multiple_of(64 << 10), "{memory}");
    assert!(said["compile_ns"].as_u64().unwrap() > 0);
}

#[test]
fn what_a_decoder_says_of_itself_does_nothing_to_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("evil\x1b[2J.wasm");
    let (said, evil) =
        ("Does on demand what a decoder must not do", "\x1b[2Jdemand \u{9b}2J\u{202e}a decoder must never\x7fdo");
    fs::write(&file, with_text(&misbehave(), said, evil)).unwrap();
    for arguments in [&["plugin", "inspect"][..], &["plugin", "inspect", "--json"], &["plugin", "list", "--plugins"]] {
        let path = if arguments.contains(&"list") { folder.path() } else { &file };
        let run = run(arguments, &[path]);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        let acts = |letter: char| letter != '\n' && (letter.is_control() || letter == '\u{202e}');
        assert!(!run.stdout.contains(acts) && !run.stderr.contains(acts), "{:?}", run.stdout);
    }
    let shown = run(&["plugin", "inspect"], &[&file]).stdout;
    assert!(shown.contains("about      \\u{1b}[2Jdemand \\u{9b}2J\\u{202e}a decoder must never\\u{7f}do\n"), "{shown}");
    let json: Value = serde_json::from_str(&run(&["plugin", "inspect", "--json"], &[&file]).stdout).unwrap();
    assert_eq!(json["doc"], evil);
}

#[test]
fn inspect_of_what_is_no_decoder_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.wasm");
    fs::write(&bad, "#!/bin/sh").unwrap();
    for (path, said) in
        [(bad.as_path(), "is not a WebAssembly component"), ("/nowhere.wasm".as_ref(), "cannot be read")]
    {
        for arguments in [&["plugin", "inspect"][..], &["plugin", "inspect", "--json"]] {
            let run = run(arguments, &[path]);
            assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
            let expected = format!("podtap: error: {}: {said}", path.display());
            assert!(run.stderr.starts_with(&expected) && run.stderr.lines().count() == 1, "{}", run.stderr);
        }
    }
}

#[test]
fn inspect_looks_into_nothing_that_is_not_pinned_where_that_is_required() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("podtap.yaml");
    fs::write(&config, "plugins: {require_pins: true}").unwrap();
    let refused = run(&["plugin", "inspect", "--config"], &[&config, &misbehave()]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    assert!(refused.stderr.contains(&format!("`misbehave.wasm: {}`", digest(&misbehave()))), "{}", refused.stderr);
}

#[test]
fn validate_asks_the_decoders_about_their_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("podtap.yaml");
    let check = |decoder: &str, problem: &str| {
        let directory = support::plugins("test-plugins");
        let settings = format!("plugins: {{directories: [{directory:?}], config: {{{decoder}: {{mood: bad}}}}}}");
        std::fs::write(&config, settings).unwrap();
        let run = run(&["validate"], &[&config]);
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
        assert!(run.stderr.contains(problem), "{}", run.stderr);
    };
    check("misbehave", "refuses its configuration (plugins.config.misbehave): it has no key `mood`");
    check("mishebave", "plugins.config: there is no decoder `mishebave`; there are: http, ");
}

#[test]
fn inspect_says_when_a_decoder_refuses_its_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("podtap.yaml");
    fs::write(&config, "plugins: {config: {misbehave: {mood: bad}}}").unwrap();
    let refused = run(&["plugin", "inspect", "--config"], &[&config, &misbehave()]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stdout.contains("name       misbehave\n"));
    assert!(refused.stderr.contains("refuses its configuration"), "{}", refused.stderr);
}

/// A folder with a decoder in place of the one beside podtap, another one, and a file that is none.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(support::plugins("plugins").join("http.wasm"), folder.path().join("http.wasm")).unwrap();
    fs::copy(misbehave(), folder.path().join("misbehave.wasm")).unwrap();
    fs::write(folder.path().join("none.wasm.gz"), "no gzip").unwrap();
    folder
}

#[test]
fn list_shows_every_file_in_the_order_of_the_search_path() {
    let folder = folder();
    let run = run(&["plugin", "list", "--plugins"], &[folder.path()]);
    let beside = support::plugins("plugins");
    let lines: Vec<_> = run.stdout.lines().skip_while(|line| !line.contains(beside.to_str().unwrap())).collect();
    // What else may be installed on this machine stands between.
    let [beside_line, replaced, .., used, other, refused, reason] = lines.as_slice() else { panic!("{}", run.stdout) };
    let http = digest(&beside.join("http.wasm"));
    let version = env!("CARGO_PKG_VERSION");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let line = |state: &str, decoder: &str, digest: &str, path: &str| {
        format!("{state:<8}  {decoder:<15}  {digest:<64}  {path}")
    };
    let (http_label, misbehave_label) = (format!("http/{version}"), format!("misbehave/{version}"));
    assert_eq!(*beside_line, line("replaced", &http_label, &http, beside.join("http.wasm").to_str().unwrap()));
    assert_eq!(*replaced, format!("          by {}, which is found later", at("http.wasm")));
    assert_eq!(*used, line("used", &http_label, &http, &at("http.wasm")));
    assert_eq!(*other, line("used", &misbehave_label, &digest(&misbehave()), &at("misbehave.wasm")));
    assert_eq!(*refused, line("refused", "-", "-", &at("none.wasm.gz")));
    assert!(reason.starts_with("          is named *.wasm.gz but its content is not packed so"), "{reason}");
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.starts_with("podtap: error: 1 of ") && run.stderr.lines().count() == 1, "{}", run.stderr);
}

#[test]
fn list_is_no_failure_where_every_file_is_a_decoder() {
    let run = run(&["plugin", "list"], &[]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    assert!(run.stdout.starts_with("state  decoder  "), "{}", run.stdout);
}

#[test]
fn list_shows_the_digests_that_pins_want() {
    let folder = folder();
    fs::remove_file(folder.path().join("none.wasm.gz")).unwrap();
    let config = folder.path().join("podtap.yaml");
    let list = |settings: &str| {
        fs::write(&config, settings).unwrap();
        run(&["plugin", "list", "--config"], &[&config, "--plugins".as_ref(), folder.path()])
    };
    let none = list("plugins: {require_pins: true}");
    assert_eq!(none.code, Some(1));
    let unpinned = none.stdout.matches("is not pinned, and plugins.require_pins is set").count();
    assert_eq!(unpinned, fs::read_dir(support::plugins("plugins")).unwrap().count() + 2, "{}", none.stdout);
    // What it says can be copied; the HTTP decoder is there twice.
    let pins: BTreeSet<_> = none.stdout.lines().filter_map(|line| line.split('`').nth(1)).collect();
    let pins: String = pins.iter().map(|pin| format!("    {pin}\n")).collect();
    let all = list(&format!("plugins:\n  require_pins: true\n  pins:\n{pins}"));
    assert_eq!((all.code, all.stderr.as_str()), (Some(0), ""), "{}", all.stdout);
    let wrong = list(&format!("plugins: {{pins: {{gone.wasm: '{}'}}}}", "0".repeat(64)));
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.stderr.contains("plugins.pins.gone.wasm: no file has this name, or this digest"), "{}", wrong.stderr);
}

#[test]
fn list_names_a_directory_that_is_not_there_and_a_decoder_that_refuses_its_configuration() {
    let folder = folder();
    fs::remove_file(folder.path().join("none.wasm.gz")).unwrap();
    let config = folder.path().join("podtap.yaml");
    fs::write(&config, "plugins: {config: {misbehave: {mood: bad}}}").unwrap();
    let paths = [config.as_path(), "--plugins".as_ref(), folder.path(), "--plugins".as_ref(), "/nowhere".as_ref()];
    let run = run(&["plugin", "list", "--config"], &paths);
    assert_eq!(run.code, Some(1));
    assert!(run.stdout.contains("refuses its configuration (plugins.config.misbehave)"), "{}", run.stdout);
    assert!(run.stderr.contains("podtap: error: /nowhere: is not a directory of plugins\n"), "{}", run.stderr);
}
