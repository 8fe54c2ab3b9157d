//! Values of metrics, and how they are written: as OpenMetrics 1.0 or in Prometheus' text format.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Scrape;
use super::metrics::{Kind, METRICS, Metric, Source};
use crate::requests::{BUCKETS_NS, Durations};

/// One value of a metric, with those of its labels in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    labels: Vec<String>,
    value: Value,
}

/// What a metric's value may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A count, or bytes.
    Whole(u64),
    /// Seconds, or a ratio.
    Real(f64),
    /// Durations in their buckets.
    Histogram(Box<Durations>),
}

impl From<u64> for Value {
    fn from(value: u64) -> Value {
        Value::Whole(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Real(value)
    }
}

impl Sample {
    /// With its labels.
    pub(super) fn of<const N: usize>(labels: [&str; N], value: impl Into<Value>) -> Sample {
        Sample { labels: labels.map(str::to_owned).into(), value: value.into() }
    }
}

/// A metric without labels has one value.
pub(super) fn one(value: impl Into<Value>) -> Vec<Sample> {
    vec![Sample { labels: Vec::new(), value: value.into() }]
}

impl Metric {
    /// Its values now.
    pub(super) fn samples(&self, scrape: &Scrape) -> Vec<Sample> {
        match self.source {
            Source::Count(name) => one(scrape.snapshot.report.count(name)),
            Source::Counts(counts) => {
                counts.iter().map(|(value, name)| Sample::of([value], scrape.snapshot.report.count(name))).collect()
            }
            Source::Of(samples) => samples(scrape),
        }
    }

    /// Writes it, unless it has no value.
    fn encode(&self, scrape: &Scrape, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let samples = self.samples(scrape);
        if samples.is_empty() {
            return Ok(());
        }
        let kind = match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        // Of a counter's name, the end is the encoder's.
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        let mut metric = encoder.encode_descriptor(name, self.help, None, kind)?;
        for Sample { labels, value } in &samples {
            let labels: Vec<(&str, &str)> =
                self.labels.iter().copied().zip(labels.iter().map(String::as_str)).collect();
            match labels.is_empty() {
                true => write(&mut metric, self.kind, value)?,
                false => write(&mut metric.encode_family(&labels)?, self.kind, value)?,
            }
        }
        Ok(())
    }
}

fn write(metric: &mut MetricEncoder<'_>, kind: Kind, value: &Value) -> fmt::Result {
    match (kind, value) {
        (Kind::Counter, Value::Whole(value)) => metric.encode_counter::<NoLabelSet, _, u64>(value, None),
        (Kind::Counter, Value::Real(value)) => metric.encode_counter::<NoLabelSet, _, u64>(value, None),
        (_, Value::Whole(value)) => metric.encode_gauge(value),
        (_, Value::Real(value)) => metric.encode_gauge(value),
        (_, Value::Histogram(durations)) => {
            let seconds = |ns: u64| ns as f64 / 1e9;
            let bounds = BUCKETS_NS.map(seconds).into_iter().chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(durations.buckets).collect();
            metric.encode_histogram::<NoLabelSet>(seconds(durations.sum_ns), durations.count, &buckets, None)
        }
    }
}

/// A format of `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextFormat {
    /// <https://prometheus.io/docs/specs/om/open_metrics_spec/>
    OpenMetrics,
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/>
    Prometheus,
}

impl TextFormat {
    pub(super) fn media_type(self) -> &'static str {
        match self {
            TextFormat::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            TextFormat::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// All metrics.
    pub(super) fn write(self, scrape: Scrape) -> Result<String, fmt::Error> {
        let mut page = String::new();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Page(scrape)));
        match self {
            TextFormat::OpenMetrics => text::encode(&mut page, &registry)?,
            TextFormat::Prometheus => prometheus_text::encode(&mut page, &registry)?,
        }
        Ok(page)
    }
}

#[derive(Debug)]
struct Page(Scrape);

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let metrics = METRICS.iter().flat_map(|(_, metrics)| *metrics);
        metrics.into_iter().try_for_each(|metric| metric.encode(&self.0, &mut encoder))
    }
}
