//! Whoever looks at a capture sees the same figures: in the summary of `podtap replay`, on the page of `podtap report` and on
//! the screen of `podtap top`.
//!
//! One more view gets one more function that reads its figures, and one more line in `views`.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use podtap::top::{Column, Feed, Progress, Screen, Source, Status, draw};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use support::{podtap, table};

/// Protocol, server and operation to what is known of it: count, failures, p50, p95, p99.
type Figures = BTreeMap<[String; 3], [String; 5]>;

/// Captures with what is known to be in them: exchanges.
const CAPTURES: [(&str, u64); 3] = [
    ("http/tests/captures/nginx-tour.pcap", 293),
    ("mysql/tests/captures/tour.pcap", 37),
    ("mongodb/tests/captures/pymongo-plain.pcap", 68),
];

fn capture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins").join(name)
}

/// A row of the summary of a replay: protocol, operation, outcome; count, p50, p95, p99.
type Outcomes = BTreeMap<[String; 3], [String; 4]>;

fn outcomes(rows: impl Iterator<Item = Vec<String>>) -> Outcomes {
    rows.map(|cells| match <[String; 7]>::try_from(cells) {
        Ok([protocol, operation, outcome, count, p50, p95, p99]) => {
            ([protocol, operation, outcome], [count, p50, p95, p99])
        }
        Err(cells) => panic!("{cells:?}"),
    })
    .collect()
}

/// The words of a line as so many cells: one that has several words is at this place.
fn cells(line: &str, cells: usize, place: usize) -> Vec<String> {
    let words: Vec<_> = line.split_whitespace().collect();
    let end = place + 1 + words.len() - cells;
    let long = words[place..end].join(" ");
    words[..place]
        .iter()
        .copied()
        .chain([long.as_str()])
        .chain(words[end..].iter().copied())
        .map(str::to_owned)
        .collect()
}

fn summary(capture: &Path) -> Outcomes {
    let run = podtap(&["replay", capture.to_str().unwrap(), "--output", "none"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let lines = run.stderr.lines().skip(1).take_while(|line| !line.is_empty());
    outcomes(lines.map(|line| cells(line, 7, 1)))
}

fn page(capture: &Path) -> String {
    let run = podtap(&["report", capture.to_str().unwrap(), "-o", "-"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    run.stdout
}

/// Of a report, by operation of a server.
fn reported(page: &str) -> Figures {
    let rows = table(page, "operations");
    let figures = rows.iter().map(|row| {
        let [protocol, server, operation, count, _, failed, p50, p95, p99, ..] = row.as_slice() else {
            panic!("{row:?}")
        };
        ([protocol, server, operation].map(Clone::clone), [count, failed, p50, p95, p99].map(Clone::clone))
    });
    figures.collect()
}

/// What `top` shows on a screen with room for all.
fn on_screen(capture: &Path) -> Figures {
    let config = Arc::new(support::config());
    let feed = Feed { source: Source::Captures(vec![capture.to_owned()], None), config, speed: None };
    let feeding = feed.start(None).unwrap();
    let begun = Instant::now();
    while feeding.progress() == Progress::Reading {
        assert!(begun.elapsed() < Duration::from_secs(120));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!((feeding.progress(), feeding.problems()), (Progress::Over, Vec::new()));
    let mut terminal = Terminal::new(TestBackend::new(160, 100)).unwrap();
    let mut screen = Screen::new("capture", None, false);
    let status = Status { progress: &Progress::Over, problems: &[] };
    terminal.draw(|frame| draw(frame, &mut screen, &feeding.view.lock(), status)).unwrap();
    let lines = support::lines(terminal.backend().buffer());
    let header = lines.iter().position(|line| line.contains(Column::Operation.name())).unwrap();
    let rows = lines[header + 1..].iter().take_while(|line| !line.trim().is_empty());
    rows.map(|line| {
        // What shows time, at the right, is no word; the operation ends before the first number.
        let words = line.split_whitespace().skip(2).take_while(|word| word.parse::<u64>().is_err()).count();
        let known: Vec<_> = line.split_whitespace().take(words + 8).collect();
        let row = cells(&known.join(" "), 9, 2);
        let [protocol, server, operation, count, _, failed, p50, p95, p99] = row.as_slice() else { panic!("{line}") };
        ([protocol, server, operation].map(Clone::clone), [count, failed, p50, p95, p99].map(Clone::clone))
    })
    .collect()
}

#[test]
fn every_view_of_a_capture_has_the_same_figures() {
    for (name, known) in CAPTURES {
        let capture = capture(name);
        let summary = summary(&capture);
        let count = |of: &dyn Fn(&[String; 3]) -> bool| -> u64 {
            summary.iter().filter(|(names, _)| of(names)).map(|(_, figures)| figures[0].parse::<u64>().unwrap()).sum()
        };
        assert_eq!(count(&|_| true), known, "{name}");
        let page = page(&capture);
        // By outcome: the very table.
        let rows = table(&page, "outcomes");
        let words = |cell: &String| if cell == "no response" { "no_response".to_owned() } else { cell.clone() };
        assert_eq!(outcomes(rows.iter().map(|row| row.iter().map(words).collect())), summary, "{name}");

        // By operation: the same on the page and on the screen, and the sums and percentiles of the summary.
        let views = [("report", reported(&page)), ("top", on_screen(&capture))];
        for (view, figures) in &views {
            assert!(figures.len() > 3, "{name}: {view}: {figures:?}");
            assert_eq!(figures, &views[0].1, "{name}: {view}");
            for [protocol, _, operation] in figures.keys() {
                let rows: Vec<_> =
                    figures.iter().filter(|(names, _)| names[0] == *protocol && names[2] == *operation).collect();
                let sum = |place: usize| rows.iter().map(|(_, row)| row[place].parse::<u64>().unwrap()).sum::<u64>();
                let is_of = |names: &[String; 3]| names[0] == *protocol && names[1] == *operation;
                let failures = |names: &[String; 3]| is_of(names) && !["ok", "unmatched"].contains(&names[2].as_str());
                assert_eq!(sum(0), count(&is_of), "{name}: {view}: {operation}");
                assert_eq!(sum(1), count(&failures), "{name}: {view}: {operation}");
                // Of one server and one outcome, the percentiles are those of that row of the summary.
                let known: Vec<_> = summary.iter().filter(|(names, _)| is_of(names)).collect();
                if let ([(_, row)], [(_, known)]) = (rows.as_slice(), known.as_slice()) {
                    assert_eq!(row[2..], known[1..], "{name}: {view}: {operation}");
                }
            }
        }
    }
}
