//! `podtap report`: the page of a known capture, of events in files, and of what cannot be read.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use podtap::config::{Config, OutputFormat};
use podtap::pipeline::{Replay, replay};
use podtap::publish::{Colour, Outputs};
use podtap::view;
use support::{podtap, table};

fn capture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins").join(name)
}

const TOUR: &str = "http/tests/captures/nginx-tour.pcap";

fn report(files: &[&Path], code: i32) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    let mut arguments = vec!["report", "-o", page.to_str().unwrap()];
    arguments.extend(files.iter().map(|file| file.to_str().unwrap()));
    let run = podtap(&arguments);
    assert_eq!(run.code, Some(code), "{}", run.stderr);
    assert_eq!(run.stdout, "");
    (fs::read_to_string(&page).unwrap_or_default(), run.stderr)
}

#[test]
fn the_page_of_a_capture_has_its_figures() {
    let (page, said) = report(&[&capture(TOUR)], 0);
    assert!(said.ends_with("report.html: 293 exchanges\n"), "{said}");
    assert!(page.contains("<h1>Traffic in nginx-tour.pcap</h1>"));
    // As the README has them, from the summary of a replay of the same capture.
    let operations: Vec<_> = table(&page, "operations").into_iter().map(|row| row[..9].join(" ")).collect();
    assert_eq!(operations.len(), 8, "{operations:?}");
    // 4 of the 267 GETs went by IPv6.
    assert_eq!(operations[0], "http 127.0.0.1:8080 GET 263 74.0/s 7 417us 21.1ms 201ms");
    assert!(operations.iter().any(|row| row.starts_with("http [::1]:8080 GET 4 ")), "{operations:?}");
    let outcomes: Vec<_> = table(&page, "outcomes").into_iter().map(|row| row.join(" ")).collect();
    assert_eq!(outcomes[0], "http GET ok 260 417us 17.1ms 109ms");
    assert_eq!(outcomes.len(), 9);
    let losses: Vec<_> = table(&page, "losses").into_iter().map(|row| row[..2].join(" ")).collect();
    let expected = ["10 payload bytes undetected", "1 connections undetected", "1 undetected refused by all decoders"];
    assert_eq!(losses, expected);
    assert!(page.contains("1,297 packets = 1,297 packets tracked"));
    assert!(
        page.contains("268,276 payload bytes = 198,396 payload bytes decoded + 69,870 payload bytes skipped + 10 ")
    );
    assert_eq!(table(&page, "slowest").len(), 25);
    assert_eq!(table(&page, "failed").len(), 7);
}

#[test]
fn the_same_capture_gives_the_same_page_and_so_do_its_events() {
    let (page, _) = report(&[&capture(TOUR)], 0);
    assert!(page == report(&[&capture(TOUR)], 0).0);
    let (of_events, _) = report(&[&capture(TOUR).with_extension("jsonl")], 0);
    for section in ["operations", "outcomes", "slowest", "failed", "map"] {
        assert_eq!(table(&of_events, section), table(&page, section), "{section}");
    }
    // Both are read where both are given.
    let both = report(&[&capture(TOUR), &capture("mysql/tests/captures/tour.jsonl")], 0).0;
    assert!(both.contains("<h1>Traffic in nginx-tour.pcap, tour.jsonl</h1>"));
    assert!(table(&both, "operations").iter().any(|row| row[0] == "mysql"));
}

#[test]
fn what_cannot_be_read_is_said_on_the_page_too() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken<b>.pcap");
    fs::write(&broken, "no capture at all").unwrap();
    let (page, said) = report(&[&capture(TOUR), &broken], 1);
    assert!(said.contains("podtap: error: ") && said.contains("is not a capture file"), "{said}");
    assert!(page.contains("Not everything could be read") && page.contains("broken&lt;b&gt;.pcap"));
    let events = folder.path().join("events.jsonl");
    fs::write(&events, "{\"id\":1}\n{\"id\":\"1\",\"time\":\"2027-01-01T00:00:00Z\",\"kind\":\"later\"}\n").unwrap();
    let (page, _) = report(&[&events], 1);
    let losses: Vec<_> = table(&page, "losses").into_iter().map(|row| row[..2].join(" ")).collect();
    assert_eq!(losses, ["1 records unreadable", "1 records of later versions"]);
}

#[test]
fn a_page_of_what_a_filter_wants_is_that_of_a_capture_and_of_its_events_alike() {
    let folder = tempfile::tempdir().unwrap();
    let (events, page) = (folder.path().join("events.jsonl"), folder.path().join("report.html"));
    let (capture, events, page) = (capture(TOUR), events.to_str().unwrap(), page.to_str().unwrap());
    let capture = capture.to_str().unwrap();
    assert_eq!(podtap(&["replay", capture, "--output", "json", "--output-file", events]).code, Some(0));
    let report = |more: &[&str]| {
        let run = podtap(&[&["report", "-o", page], more].concat());
        (run.code, run.stderr.trim_start_matches(page).trim().to_owned())
    };
    let posts = ["--filter", r#"operation == "POST""#];
    assert_eq!(report(&[&posts[..], &[capture]].concat()), (Some(0), ": 12 exchanges".to_owned()));
    assert_eq!(report(&[&posts[..], &[events]].concat()), (Some(0), ": 12 exchanges".to_owned()));
    let (code, said) = report(&["--filter", "complete nonsense (((", events]);
    assert!(code == Some(2) && said.starts_with("podtap: error: --filter: column "), "{said}");
    // Events have no packets.
    let (code, said) = report(&["--packet-filter", "tcp port 80", capture, events]);
    assert!(code == Some(2) && said.starts_with("podtap: error: --packet-filter: "), "{said}");
    let (code, said) = report(&["--packet-filter", r#"outcome != "ok""#, capture]);
    assert!(code == Some(1) && said.ends_with("it takes libpcap's language, such as `tcp port 80`"), "{said}");
}

#[test]
fn a_page_does_not_overwrite_what_it_is_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.pcap");
    fs::copy(capture(TOUR), &file).unwrap();
    let run = podtap(&["report", file.to_str().unwrap(), "-o", file.to_str().unwrap()]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("both read and written"), "{}", run.stderr);
    assert!(fs::read(&file).unwrap() == fs::read(capture(TOUR)).unwrap());
}

#[test]
fn every_count_of_a_loss_has_a_meaning_and_no_two_counts_of_a_kind_share_one() {
    let mut config = Config::default();
    config.events.connections = true;
    config.output.format = Some(OutputFormat::None);
    let mut outputs = Outputs::open(&config, Colour::Never).unwrap();
    let request = Replay { files: &[], filter: None, config: &config, progress: &mut |_| () };
    let report = replay(request, &mut outputs).unwrap();
    let meanings: Vec<_> = report.losses.iter().map(|(name, _)| (*name, view::meaning(name))).collect();
    for (name, meaning) in &meanings {
        assert!(meaning.ends_with('.'), "{name}: {meaning:?}");
    }
    // Ignored packets and ignored bytes are so for one reason.
    assert_eq!(meanings.iter().map(|(_, meaning)| meaning).collect::<BTreeSet<_>>().len(), meanings.len() - 1);
    assert_eq!(view::meaning("no_such_count"), "");
}
