//! Every capture at hand runs through without a panic, with no error but a named one, and with sums that add up:
//! with decoders and without.
//!
//! The shipped ones, and those of the folder that the environment variable PODTAP_CAPTURES names.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use podtap::config::Config;
use podtap::pipeline::{Replay, Report, replay};
use podtap::publish::{Colour, Outputs};

/// Replays files without any output, with the plugins that were built beside podtap or with none.
fn run(files: &[PathBuf], decoders: bool) -> Report {
    let plugins = Path::new(env!("CARGO_BIN_EXE_podtap")).with_file_name("plugins");
    let mut config = Config::default();
    if decoders {
        config.plugins.directories.push(plugins);
    }
    config.output.format = Some(podtap::config::OutputFormat::None);
    config.events.connections = true;
    let mut outputs = Outputs::open(&config, Colour::Never).expect("no output opens");
    let request = Replay { files, filter: None, config: &config, progress: &mut |_| () };
    let report = replay(request, &mut outputs).expect("plugins are built: `cargo xtask plugins`");
    let summary = outputs.summary();
    assert_eq!(summary.events() - summary.exchanges(), report.count("connections"), "one event a connection");
    report
}

fn captures(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            captures(&path, found);
        } else if path
            .extension()
            .is_some_and(|extension| ["pcap", "pcapng", "cap", "trace"].iter().any(|e| extension == *e))
        {
            found.push(path);
        }
    }
}

/// The report over all files; where its sums do not add up, those of the first file that is to blame.
fn check(files: &[PathBuf], decoders: bool) -> Report {
    let report = run(files, decoders);
    if !report.adds_up() {
        let mut one_by_one = files.iter().map(|file| (file, run(std::slice::from_ref(file), decoders)));
        let blame = one_by_one.find(|(_, one)| !one.adds_up());
        panic!("sums do not add up: {:#?}", blame.unwrap_or((&files[0], report)));
    }
    for problem in &report.problems {
        let named = ["is cut off at byte", "of link type", "is empty", "is damaged at byte"];
        assert!(named.iter().any(|name| problem.contains(name)), "{problem}");
    }
    report
}

#[test]
fn shipped_captures() {
    let mut files = Vec::new();
    for folder in ["../plugins", "tests/captures"] {
        captures(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut files);
    }
    assert!(!files.is_empty());
    for decoders in [true, false] {
        assert!(check(&files, decoders).problems.is_empty());
    }
}

#[test]
fn captures_of_other_projects() {
    let Some(folder) = std::env::var_os("PODTAP_CAPTURES") else {
        // Not `println`: what a test that passes prints is not shown.
        let skipped = "skipped: captures of other projects: PODTAP_CAPTURES does not name a folder with captures";
        writeln!(std::io::stderr(), "{skipped}").expect("standard error is open");
        return;
    };
    let mut files = Vec::new();
    captures(Path::new(&folder), &mut files);
    assert!(!files.is_empty(), "no capture in {}", Path::new(&folder).display());
    let report = check(&files, true);
    println!("{} captures, {} exchanges", files.len(), report.count("exchanges"));
    assert!(report.count("exchanges") > 0);
    let bare = check(&files, false);
    assert_eq!((bare.count("exchanges"), bare.count("packets")), (0, report.count("packets")));
}
