//! Alerts and dashboard name metrics and labels that podtap has.

use std::collections::BTreeSet;
use std::path::Path;

use podtap::admin::{Kind, METRICS, Metric};
use serde_json::Value;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names of metrics in an expression.
fn names(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    words.filter(|word| word.starts_with("podtap_")).collect()
}

/// The metric that a series is of.
fn metric(series: &str) -> Option<&'static Metric> {
    let mut all = METRICS.iter().flat_map(|(_, metrics)| *metrics);
    all.find(|metric| match metric.kind {
        Kind::Histogram => {
            series.strip_prefix(metric.name).is_some_and(|rest| ["_bucket", "_sum", "_count"].contains(&rest))
        }
        Kind::Counter | Kind::Gauge => series == metric.name,
    })
}

#[track_caller]
fn check(of: &str, expression: &str) {
    let names = names(expression);
    assert!(!names.is_empty(), "{of}: {expression}: of no metric");
    // What the expression may select and group by: the labels of its metrics, those of the scrape, and that of buckets.
    let mut labels: BTreeSet<&str> = ["instance", "namespace", "pod", "le"].into();
    for name in names {
        let metric = metric(name).unwrap_or_else(|| panic!("{of}: {expression}: there is no {name}"));
        labels.extend(metric.labels);
        // A rate is of a counter or a histogram, and these two mean nothing without one.
        let is_rated = expression.contains(&format!("rate({name}")) || expression.contains(&format!("increase({name}"));
        assert_eq!(metric.kind != Kind::Gauge, is_rated, "{of}: {expression}: {name}");
    }
    let grouped = expression.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
    let selected = expression.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let selected = selected.flat_map(|rest| rest.split(',')).filter_map(|one| one.split(['=', '!']).next());
    for label in grouped.flat_map(|list| list.split(',')).chain(selected).map(str::trim) {
        assert!(labels.contains(label), "{of}: {expression}: there is no label {label}");
    }
}

#[test]
fn alerts_are_of_metrics_that_there_are() {
    let text = read("prometheus/rules.yaml");
    let rules: Value = serde_saphyr::from_str(&text).unwrap();
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    assert!(!rules.is_empty());
    for rule in rules {
        let name = rule["alert"].as_str().unwrap();
        check(name, rule["expr"].as_str().unwrap());
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
        for text in ["summary", "description"] {
            assert!(rule["annotations"][text].as_str().is_some_and(|text| !text.is_empty()), "{name}: no {text}");
        }
    }
}

#[test]
fn the_component_and_the_chart_have_the_same_alerts() {
    let text = read("prometheus/rules.yaml");
    assert_eq!(read("helm/podtap/files/rules.yaml"), text);
    let of = |text: &str| serde_saphyr::from_str::<Value>(text).unwrap();
    let component = of(&read("kubernetes/components/monitoring/rules.yaml"));
    assert_eq!(component["spec"]["groups"], of(&text)["groups"]);
}

#[test]
fn the_dashboard_is_of_metrics_that_there_are() {
    let dashboard: Value = serde_json::from_str(&read("grafana/podtap.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "two panels have one id");
    let mut expressions = 0;
    for panel in panels {
        for target in panel["targets"].as_array().into_iter().flatten() {
            check(panel["title"].as_str().unwrap(), target["expr"].as_str().unwrap());
            expressions += 1;
        }
    }
    assert!(expressions > 20, "{expressions}");
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        for name in names(&variable["query"].to_string()) {
            assert!(metric(name).is_some(), "there is no {name}");
        }
    }
}
