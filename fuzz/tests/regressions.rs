//! Each input that broke a promise once keeps it now: `regressions/TARGET/` holds them, by names that say what it was.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(target);
    let files = match fs::read_dir(&folder) {
        Ok(entries) => entries.map(|entry| entry.expect("an entry").path()).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => panic!("{}: {error}", folder.display()),
    };
    for file in files {
        // Shown when the test fails.
        println!("{}", file.display());
        run(&fs::read(&file).expect("a file"));
    }
}

#[test]
fn packet() {
    replay("packet", podtap_fuzz::packet);
}

#[test]
fn packets() {
    replay("packets", podtap_fuzz::packets);
}

#[test]
fn capture() {
    replay("capture", podtap_fuzz::capture);
}

#[test]
fn http() {
    replay("http", podtap_fuzz::http);
}

#[test]
fn mysql() {
    replay("mysql", podtap_fuzz::mysql);
}

#[test]
fn mongodb() {
    replay("mongodb", podtap_fuzz::mongodb);
}

#[test]
fn boundary() {
    replay("boundary", podtap_fuzz::boundary);
}

#[test]
fn config() {
    replay("config", podtap_fuzz::config);
}

#[test]
fn spool() {
    replay("spool", podtap_fuzz::spool);
}

#[test]
fn msgpack() {
    replay("msgpack", podtap_fuzz::msgpack);
}

#[test]
fn filter() {
    replay("filter", podtap_fuzz::filter);
}
