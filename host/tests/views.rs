//! Whoever looks at a capture sees the same figures: in the summary of `podtap replay`, on the page of `podtap report`, on the
//! screen of `podtap top`, on the page of a podtap that is running, on a screen that looks at that, and in its metrics.
//!
//! One more view gets one more function that reads its figures, and one more line in `views`.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use podtap::top::{Column, Feed, Feeding, Progress, Screen, Source, Status, draw};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use support::agent::{Agent, Metrics};
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

fn feed(source: Source) -> Feeding {
    Feed { source, config: Arc::new(support::config()), speed: None }.start(None).unwrap()
}

/// What `top` shows on a screen with room for all, once nothing more comes.
fn on_screen(feeding: &Feeding) -> Figures {
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

/// What a podtap that is running shows of a capture: on its page, on a screen, and its metrics.
fn of_agent(capture: &Path, exchanges: u64) -> (Figures, Figures, Metrics) {
    let mut agent = Agent::replay(&[], &[("PODTAP_ADMIN_EXCHANGES", "true")]);
    assert_eq!(agent.get("/", "*/*").0, 200);
    let screen = feed(Source::Agent(format!("http://{}", agent.address)));
    agent.metrics_with(|metrics| metrics.sum("podtap_exchanges_readers") == 2.0);
    agent.feed(&std::fs::read(capture).unwrap());
    // What is still open at the end of the input is told then, and so not to whoever asks before.
    let open = agent.metrics_with(|metrics| metrics.sum("podtap_exchanges_total") >= exchanges as f64);
    open.add_up();
    let begun = Instant::now();
    let page = loop {
        let page = agent.get("/", "*/*").2;
        if reported(&page).values().map(|row| row[0].parse::<u64>().unwrap()).sum::<u64>() >= exchanges {
            break page;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{page}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(!page.contains("does not add up"), "{page}");
    assert_eq!(agent.finish().code, Some(0));
    (reported(&page), on_screen(&screen), open)
}

/// Nanoseconds of a duration as it is shown.
fn ns(text: &str) -> f64 {
    let (number, unit) = text.split_at(text.find(|letter: char| letter.is_alphabetic()).unwrap());
    let unit = match unit {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        other => panic!("{other}"),
    };
    number.parse::<f64>().unwrap() * unit
}

/// Are the counts of a protocol's outcomes those of the summary, and its percentiles in the right buckets?
fn check_metrics(metrics: &Metrics, summary: &Outcomes, protocol: &str) {
    let label = format!("protocol=\"{protocol}\"");
    let of = |name: &str, outcome: &str| -> Vec<(f64, f64)> {
        let labels = format!("outcome=\"{outcome}\"");
        let samples = metrics.0.iter().filter(|(sample, _)| {
            sample.starts_with(&format!("{name}{{")) && sample.contains(&label) && sample.contains(&labels)
        });
        let bound = |sample: &str| match sample.split_once("le=\"")?.1.trim_end_matches("\"}") {
            "+Inf" => Some(f64::INFINITY),
            seconds => Some(seconds.parse::<f64>().unwrap() * 1e9),
        };
        let mut samples: Vec<_> = samples.map(|(sample, value)| (bound(sample).unwrap_or(0.0), *value)).collect();
        samples.sort_by(|one, other| one.0.total_cmp(&other.0));
        samples
    };
    let outcomes: std::collections::BTreeSet<_> =
        summary.keys().filter(|names| names[0] == protocol).map(|names| &names[2]).collect();
    assert!(!outcomes.is_empty());
    for outcome in outcomes {
        let rows: Vec<_> = summary
            .iter()
            .filter(|(names, _)| names[0] == protocol && names[2] == *outcome)
            .map(|(_, row)| row)
            .collect();
        let count: u64 = rows.iter().map(|row| row[0].parse::<u64>().unwrap()).sum();
        let counted: f64 = of("podtap_requests_total", outcome).iter().map(|(_, count)| count).sum();
        assert_eq!(counted, count as f64, "{protocol}: {outcome}");
        let buckets = of("podtap_request_duration_seconds_bucket", outcome);
        let [single] = rows.as_slice() else { continue };
        for (part, shown) in [0.5, 0.95, 0.99].into_iter().zip(&single[1..]).filter(|(_, shown)| *shown != "-") {
            let all = buckets.last().unwrap().1;
            let place = buckets.iter().position(|(_, count)| *count >= (all * part).ceil()).unwrap();
            let from = place.checked_sub(1).map_or(0.0, |before| buckets[before].0);
            // What is shown is exact to two digits, and so is what is counted.
            let percentile = ns(shown);
            assert!(
                percentile >= from * 0.98 && percentile <= buckets[place].0 * 1.02,
                "{protocol}: {outcome}: {part} of {all}: {shown} is not within {from} and {}",
                buckets[place].0
            );
        }
    }
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
        let top = on_screen(&feed(Source::Captures(vec![capture.clone()], None)));
        let (live_page, live_top, metrics) = of_agent(&capture, known);
        let views = [("report", reported(&page)), ("top", top), ("page", live_page), ("top of an agent", live_top)];
        check_metrics(&metrics, &summary, name.split('/').next().unwrap());
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
