//! `podtap top`: what it draws of known traffic, what keys do, and that a real terminal is left as it was found.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use podtap::event::{Event, Outcome};
use podtap::publish::{Kafka, Output as _, Waits};
use podtap::read::From;
use podtap::reference::example_event;
use podtap::top::{Column, Feed, Feeding, Page, Progress, Screen, Source, Status, Wish, draw};
use podtap::view::View;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use rdkafka::mocking::MockCluster;
use support::tmux::Tmux;

const TOUR: &str = "http/tests/captures/nginx-tour.pcap";

fn capture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins").join(name)
}

/// All that a source has, with a filter.
fn fed(source: Source, filter: Option<&str>) -> Feeding {
    let feed = Feed { source, config: Arc::new(support::config()), speed: None };
    ended(&feed.start(filter).unwrap())
}

/// A feed that has come to its end.
fn ended(feeding: &Feeding) -> Feeding {
    let begun = Instant::now();
    while feeding.progress() == Progress::Reading {
        assert!(begun.elapsed() < Duration::from_secs(120));
        std::thread::sleep(Duration::from_millis(10));
    }
    feeding.clone()
}

/// The lines of a screen of that size.
fn drawn(screen: &mut Screen, view: &View, (width, height): (u16, u16)) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let status = Status { progress: &Progress::Over, problems: &[] };
    terminal.draw(|frame| draw(frame, screen, view, status)).unwrap();
    support::lines(terminal.backend().buffer())
}

fn press(screen: &mut Screen, view: &View, code: KeyCode) -> Option<Wish> {
    screen.key(KeyEvent::new(code, KeyModifiers::NONE), view)
}

fn type_in(screen: &mut Screen, view: &View, text: &str) {
    for letter in text.chars() {
        assert_eq!(press(screen, view, KeyCode::Char(letter)), None);
    }
}

#[test]
fn the_screen_of_a_capture_shows_its_known_figures_and_losses() {
    let feeding = fed(Source::Captures(vec![capture(TOUR)], None), None);
    let view = feeding.view.lock();
    let mut screen = Screen::new("nginx-tour.pcap", None, false);
    let lines = drawn(&mut screen, &view, (80, 24));
    assert_eq!(lines.len(), 24);
    assert!(lines[0].starts_with("nginx-tour.pcap ") && lines[0].contains("293 exchanges  7 failed"), "{lines:#?}");
    assert!(lines[0].trim_end().ends_with("at the end"), "{lines:#?}");
    assert!(
        lines[1].starts_with("losses: 10 payload bytes undetected, 1 connections undetected, 1 more: l"),
        "{lines:#?}"
    );
    assert!(lines[2].starts_with("proto server"), "{lines:#?}");
    for heading in ["operation", "count▾", "rate", "fail", "p50", "p95", "p99", "over time"] {
        assert!(lines[2].contains(heading), "{heading}: {lines:#?}");
    }
    // The summary of a replay has GET ok 260, error 6, no response 1; 4 of these went by IPv6.
    let words: Vec<_> = lines[3].split_whitespace().take(9).collect();
    assert_eq!(words, ["http", "127.0.0.1:8080", "GET", "263", "74.0/s", "7", "417us", "21.1ms", "201ms"]);
    assert!(lines[4].contains("POST") && lines[4].contains("1.10ms") && lines[4].contains("102ms"), "{lines:#?}");
    assert!(lines[23].contains("end") && lines[23].contains("filter") && lines[23].contains("help"), "{lines:#?}");

    let lines = drawn(&mut screen, &view, (120, 24));
    assert!(lines[2].contains("bytes"), "{lines:#?}");
    // However small, it is drawn, and nothing breaks.
    for size in [(1, 1), (5, 3), (20, 5), (300, 2), (40, 100)] {
        drawn(&mut screen, &view, size);
    }
}

#[test]
fn keys_sort_open_and_go_back() {
    let feeding = fed(Source::Captures(vec![capture(TOUR)], None), None);
    let view = feeding.view.lock();
    let mut screen = Screen::new("nginx-tour.pcap", None, false);
    let first = |screen: &Screen| screen.rows(&view)[0].1.operation.to_string();
    assert_eq!(first(&screen), "GET");
    press(&mut screen, &view, KeyCode::Char('r'));
    assert!(["OPTIONS", "PATCH"].contains(&first(&screen).as_str()));
    for column in Column::ALL {
        (screen.sort, screen.ascending) = (column, false);
        assert_eq!(screen.rows(&view).len(), 8, "{column:?}");
    }
    screen.sort = Column::Operation;
    assert_eq!(first(&screen), "DELETE");
    press(&mut screen, &view, KeyCode::Char('>'));
    assert_eq!(screen.sort, Column::Count);

    press(&mut screen, &view, KeyCode::Enter);
    let lines = drawn(&mut screen, &view, (80, 24));
    assert!(lines[2].starts_with("http 127.0.0.1:8080 GET  263 exchanges, 7 failed"), "{lines:#?}");
    press(&mut screen, &view, KeyCode::Tab);
    press(&mut screen, &view, KeyCode::Tab);
    let lines = drawn(&mut screen, &view, (80, 24));
    assert_eq!(
        lines.iter().filter(|line| line.contains(" error ") || line.contains("no response")).count(),
        7,
        "{lines:#?}"
    );
    press(&mut screen, &view, KeyCode::Enter);
    assert_eq!(screen.page, Page::Exchange);
    let text = drawn(&mut screen, &view, (80, 40)).join("\n");
    for word in ["http.request.method", "url.path", "127.0.0.1:8080", "connection"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    press(&mut screen, &view, KeyCode::Char('l'));
    let text = drawn(&mut screen, &view, (80, 24)).join("\n");
    assert!(text.contains("1,297 packets = 1,297 packets tracked"), "{text}");
    assert!(text.contains("No decoder recognised their protocol"), "{text}");
    press(&mut screen, &view, KeyCode::Char('?'));
    assert!(drawn(&mut screen, &view, (80, 24)).join("\n").contains("sort the other way round"));
    for page in [Page::Exchange, Page::Exchanges, Page::Operations, Page::Operations] {
        press(&mut screen, &view, KeyCode::Esc);
        assert_eq!(screen.page, page);
    }
    assert_eq!(press(&mut screen, &view, KeyCode::Char('q')), Some(Wish::Quit));
    assert_eq!(screen.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), &view), Some(Wish::Quit));
}

#[test]
fn a_filter_is_checked_as_it_is_typed_and_leaves_what_matches() {
    let view = View::default();
    let mut screen = Screen::new("a", None, false);
    press(&mut screen, &view, KeyCode::Char('/'));
    type_in(&mut screen, &view, "protocl == 'http'");
    assert_eq!(press(&mut screen, &view, KeyCode::Enter), None);
    let lines = drawn(&mut screen, &view, (120, 24));
    assert!(lines[22].contains("no event has a field protocl; did you mean protocol?"), "{lines:#?}");
    assert_eq!(press(&mut screen, &view, KeyCode::Esc), None);
    assert_eq!((&screen.input, &screen.filter), (&None, &None));
    press(&mut screen, &view, KeyCode::Char('/'));
    type_in(&mut screen, &view, "outcome == 'error'q");
    press(&mut screen, &view, KeyCode::Backspace);
    let wish = press(&mut screen, &view, KeyCode::Enter);
    assert_eq!(wish, Some(Wish::Filter(Some("outcome == 'error'".to_owned()))));

    // The same of a capture as of its events.
    for source in [Source::Captures(vec![capture(TOUR)], None), Source::Events(capture(TOUR).with_extension("jsonl"))] {
        let feeding = fed(source, Some("outcome == 'error' && operation == 'GET'"));
        let view = feeding.view.lock();
        assert_eq!((view.traffic().exchanges, view.traffic().failures), (6, 6));
    }
    let feeding = fed(Source::Events(capture(TOUR).with_extension("jsonl")), Some("duration > 'x'"));
    let line = drawn(&mut screen, &feeding.view.lock(), (120, 24))[1].clone();
    assert!(line.contains("records unfiltered"), "{line}");
}

#[test]
fn what_cannot_be_read_is_said() {
    let feeding = fed(Source::Captures(vec!["/nonexistent.pcap".into()], None), None);
    assert_eq!(feeding.progress(), Progress::Over);
    assert!(feeding.problems()[0].starts_with("/nonexistent.pcap: "), "{:?}", feeding.problems());
    let feeding = fed(Source::Events("/nonexistent.jsonl".into()), None);
    assert!(
        matches!(feeding.progress(), Progress::Failed(error) if error.starts_with("/nonexistent.jsonl: cannot be read"))
    );
}

#[test]
fn a_topic_is_shown_to_its_end_and_followed_until_nobody_looks() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("exchanges", 3, 1).unwrap();
    let mut config = support::config();
    config.kafka.brokers = cluster.bootstrap_servers().split(',').map(str::to_owned).collect();
    config.kafka.topic = "exchanges".to_owned();
    let mut kafka = Kafka::open(&config.kafka, None, &Waits::recorded(&config)).unwrap();
    for number in 0..50_u32 {
        let mut exchange = example_event();
        // Over all partitions.
        exchange.connection.id = number.to_string().into();
        kafka.publish(Event::Exchange(&exchange)).unwrap();
    }
    kafka.finish().unwrap();

    let feed =
        |follow| Feed { source: Source::Topic(From::Beginning, follow), config: Arc::new(config.clone()), speed: None };
    let feeding = ended(&feed(false).start(None).unwrap());
    assert_eq!((feeding.progress(), feeding.view.lock().traffic().exchanges), (Progress::Over, 50));
    let feeding = feed(true).start(Some("connection.id == '7'")).unwrap();
    let begun = Instant::now();
    while feeding.view.lock().traffic().exchanges < 1 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(feeding.progress(), Progress::Reading);
    feeding.stop();
    assert_eq!(ended(&feeding).view.lock().traffic().exchanges, 1);
}

#[test]
fn text_of_traffic_does_nothing_to_the_screen() {
    let mut view = View::default();
    let mut exchange = example_event();
    let hostile = "\x1b[2J\x1b]0;x\x07\u{202e}\n\t日本語";
    (exchange.operation, exchange.summary) = (Some(hostile.into()), Some(hostile.into()));
    (exchange.protocol, exchange.outcome) = (hostile.into(), Outcome::Error);
    exchange.attributes.0.push((hostile.into(), podtap::event::Value::Text(hostile.into())));
    view.record(Event::Exchange(&exchange));
    let mut screen = Screen::new(hostile, Some(hostile.to_owned()), true);
    for _ in 0..3 {
        let text = drawn(&mut screen, &view, (160, 24)).concat();
        assert!(text.chars().all(|letter| !letter.is_control() && letter != '\u{202e}'), "{text:?}");
        assert!(text.contains("\\u{1b}[2J"), "{text}");
        press(&mut screen, &view, KeyCode::Enter);
    }
    assert_eq!(screen.page, Page::Exchange);
}

#[test]
fn a_real_terminal_shows_it_and_is_left_as_it_was() {
    let Some(tmux) = Tmux::start(80, 24) else { return };
    let podtap = env!("CARGO_BIN_EXE_podtap");
    let start = format!("echo before; {podtap} top {}; echo code $?", capture(TOUR).display());
    tmux.keys(&[&start, "Enter"]);
    let shown = tmux.wait_for("at the end");
    assert!(shown.contains("293 exchanges  7 failed") && shown.contains("10 payload bytes undetected"), "{shown}");
    tmux.keys(&["Down", "Enter"]);
    tmux.wait_for("POST  12 exchanges, 0 failed");
    tmux.keys(&["Escape", "/"]);
    tmux.wait_for("filter: _");
    tmux.keys(&["operation == 'HEAD'", "Enter"]);
    tmux.wait_for("6 exchanges  0 failed");
    tmux.run(&["resize-window", "-t", "0", "-x", "120", "-y", "30"]);
    tmux.wait_for("bytes");
    tmux.keys(&["q"]);
    // The screen of before, and a line that is edited and shown as ever.
    let shown = tmux.wait_for("code 0");
    assert!(shown.contains("before"), "{shown}");
    tmux.keys(&["stty -a | grep -o ' echo ' && echo still$((1+1))", "Enter"]);
    tmux.wait_for("still2");

    // A signal ends it as well, and leaves the terminal as it was.
    tmux.keys(&["clear", "Enter"]);
    tmux.keys(&[&format!("{podtap} top {} ; echo code $?", capture(TOUR).display()), "Enter"]);
    tmux.wait_for("at the end");
    // Of this shell: other tests run one, too.
    let shell = tmux.run(&["display-message", "-p", "-t", "0", "#{pane_pid}"]);
    let top = Command::new("pgrep").args(["-P", shell.trim(), "-x", "podtap"]).output();
    let Ok(top) = top else { return println!("skipped: the signal: no pgrep") };
    let top = String::from_utf8(top.stdout).unwrap();
    assert!(Command::new("kill").arg(top.trim()).status().unwrap().success(), "{top}");
    tmux.wait_for("code 0");
}

#[test]
fn what_is_no_terminal_is_told_so_and_a_command_line_without_sense_too() {
    let run = support::podtap(&["top", capture(TOUR).to_str().unwrap()]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("standard output is no terminal"), "{}", run.stderr);
    for (arguments, expected) in [
        (&["top"][..], "nothing to show; give files"),
        (&["top", "--from", "end", "--brokers", "a:1", "--topic", "t"], "--from end without --follow reads nothing"),
        (&["top", "-", "--filter", "nonsense == 1"], "--filter: column 1"),
        (&["top", "-", "--speed", "0"], "must be more than 0"),
    ] {
        let run = support::podtap(arguments);
        assert_eq!(run.code, Some(2), "{arguments:?}");
        assert!(run.stderr.contains(expected), "{arguments:?}: {}", run.stderr);
    }
}
