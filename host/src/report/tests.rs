//! The page is well-formed whatever is in it, holds text of traffic as text, and is the same for the same view.

use super::*;
use crate::event::{Attributes, Event, Loss, Outcome, Value};
use crate::pipeline::Report;
use crate::reference::example_event;

fn html(view: &View, problems: &[&str]) -> String {
    let problems: Vec<_> = problems.iter().map(|&problem| problem.to_owned()).collect();
    Page { names: &["a.pcap".to_owned()], view, problems: &problems, live: None }.html()
}

/// Every element that is opened is closed, in order; every attribute is in quotation marks. Returns all text between.
fn check_markup(html: &str) -> String {
    const VOID: [&str; 2] = ["meta", "!doctype"];
    let (mut open, mut text, mut rest) = (Vec::new(), String::new(), html);
    while let Some((before, after)) = rest.split_once('<') {
        text.push_str(before);
        let (tag, after) = after.split_once('>').expect("a tag ends");
        assert!(!tag.contains('<') && tag.matches('"').count().is_multiple_of(2), "<{tag}>");
        let name = tag.trim_start_matches('/').trim_end_matches('/').split_whitespace().next().expect("a name");
        match (tag.starts_with('/'), tag.ends_with('/')) {
            (true, _) => assert_eq!(open.pop(), Some(name), "</{name}>"),
            (false, true) => {}
            (false, false) if VOID.contains(&name) => {}
            (false, false) => open.push(name),
        }
        rest = after;
    }
    assert_eq!(open, Vec::<&str>::new());
    text
}

fn hostile_view() -> View {
    let mut view = View::default();
    let hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&lt;\u{202e}\x1b]0;x\x07";
    let mut exchange = example_event();
    exchange.protocol = hostile.into();
    exchange.operation = Some(hostile.into());
    exchange.summary = Some(hostile.into());
    exchange.outcome = Outcome::Error;
    exchange.loss = Some(Loss { gap_bytes: Some(10), truncated: true });
    exchange.attributes = Attributes(vec![(hostile.into(), Value::Text(hostile.into()))]);
    view.record(Event::Exchange(&exchange));
    view
}

#[test]
fn text_of_traffic_is_text() {
    let page = html(&hostile_view(), &["<b>bold</b>.pcap: damaged"]);
    check_markup(&page);
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<b>"), "{page}");
    assert!(!page.contains(['\u{202e}', '\x1b', '\x07']));
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && page.contains("&lt;b&gt;bold&lt;/b&gt;.pcap"));
}

#[test]
fn nothing_is_loaded_and_nothing_runs() {
    let page = html(&hostile_view(), &[]);
    for word in ["src=\"", "href=\"http", "url(", "@import", "<link", "<iframe", "<object"] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("default-src &#39;none&#39;") || page.contains("default-src 'none'"));
}

#[test]
fn a_capture_without_exchanges_has_a_page() {
    let page = html(&View::default(), &[]);
    let text = check_markup(&page);
    assert!(text.contains("No exchange was found.") && text.contains("Nothing was lost or left out."), "{text}");
}

#[test]
fn a_page_of_very_much_is_bounded() {
    let mut view = View::default();
    for number in 0..5000_u32 {
        let mut exchange = example_event();
        exchange.operation = Some(format!("OP{number}").into());
        exchange.client.address = std::net::Ipv4Addr::from(number).into();
        exchange.summary = Some("x".repeat(100_000).into());
        exchange.time.0 += u64::from(number) << (number % 40);
        exchange.duration = Some(u64::from(number) << (number % 50));
        view.record(Event::Exchange(&exchange));
    }
    let page = html(&view, &[]);
    let text = check_markup(&page);
    assert!(text.contains("157 further rows are not shown."), "rows: {}", text.len());
    assert!(page.len() < 1 << 20, "{}", page.len());
    assert_eq!(page, html(&view, &[]));
}

#[test]
fn losses_add_up_or_the_page_says_so() {
    let mut view = View::default();
    let report = |tracked| Report {
        totals: vec![("packets", 12), ("packets_tracked", tracked)],
        losses: vec![("packets_stray", 2)],
        problems: Vec::new(),
    };
    view.set_report(report(10));
    let text = check_markup(&html(&view, &[]));
    assert!(text.contains("12 packets = 10 packets tracked + 2 packets stray") && !text.contains("does not add up"));
    assert!(text.contains(view::meaning("packets_stray")));
    view.set_report(report(9));
    assert!(check_markup(&html(&view, &[])).contains("does not add up"));
}

#[test]
fn every_heading_has_its_place_in_the_outline_and_every_anchor_is_there_once() {
    let page = html(&hostile_view(), &["x"]);
    assert_eq!(page.matches("<h1>").count(), 1);
    for (id, _) in SECTIONS {
        assert_eq!(page.matches(&format!(" id=\"{id}\"")).count(), 1, "{id}");
        assert!(page.contains(&format!("href=\"#{id}\"")));
    }
    assert_eq!(page.matches("<table").count(), page.matches("<caption>").count());
    assert_eq!(
        page.matches("role=\"img\"").count(),
        page.matches("aria-labelledby=\"").count() - page.matches("<section").count()
    );
}
