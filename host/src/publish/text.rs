//! One line an event, for people.
//!
//! ```text
//! 21:14:03.123Z 10.1.0.5:51544 -> 10.1.0.9:80 http  200 1.24ms 5.1kB GET /api/users/42
//! 21:14:03.120Z 10.1.0.5:51544 -> 10.1.0.9:80 http    - 2.31ms 6.0kB connection closed, 2 exchanges
//! ```
//!
//! Time of day in UTC, client, server, protocol, status, duration, payload bytes of both directions, the outcome unless
//! it is ok, what was lost if anything was, and the summary, last because it is of any length. Of a connection whose
//! client is not known, the sender of the first packet comes first, with `--` between. Columns grow to the widest value
//! seen, within bounds.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthChar;

use super::{Delivery, Output, Printable, PublishError, Sink, Watched};
use crate::event::{ConnectionEvent, Event, Exchange, Loss, Opened, Outcome, Party, Reason, Role, Timestamp, Value};

/// Width of a terminal that does not tell its own.
const USUAL_TERMINAL_COLUMNS: usize = 120;
/// The summary gets at least this much, though the line may then wrap.
const LEAST_SUMMARY_COLUMNS: usize = 24;
/// Beyond these a value stands out of its column rather than widening it.
const WIDEST_PEER: usize = 21; // 255.255.255.255:65535
const WIDEST_PROTOCOL: usize = 10;
const WIDEST_STATUS: usize = 8;

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

/// Colours in text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Colour {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

/// Writes lines for people.
pub struct TextLines {
    sink: Sink,
    coloured: bool,
    status_attributes: HashMap<String, String>,
    widths: Widths,
    line: String,
}

impl TextLines {
    pub(crate) fn new(sink: Sink, colour: Colour) -> TextLines {
        let coloured = match colour {
            Colour::Always => true,
            Colour::Never => false,
            // Knows NO_COLOR, CLICOLOR, CLICOLOR_FORCE and TERM=dumb.
            Colour::Auto => anstream::AutoStream::choice(sink.target()) != anstream::ColorChoice::Never,
        };
        let line = String::with_capacity(512);
        TextLines { sink, coloured, status_attributes: HashMap::new(), widths: Widths::default(), line }
    }
}

impl Output for TextLines {
    fn publish(&mut self, event: Event<'_>) -> Result<(), PublishError> {
        // Asked each time: windows are resized, and a line on a terminal costs far more than this.
        let columns = self.sink.is_terminal.then(|| {
            let size = terminal_size::terminal_size_of(self.sink.target());
            size.map_or(USUAL_TERMINAL_COLUMNS, |(width, _)| usize::from(width.0))
        });
        self.line.clear();
        let layout = Layout { coloured: self.coloured, columns };
        // Writing to a String cannot fail.
        let _ = match event {
            Event::Exchange(exchange) => {
                let status = status(exchange, &self.status_attributes);
                layout.line(&mut self.line, exchange, status, &mut self.widths)
            }
            Event::Connection(connection) => layout.connection_line(&mut self.line, connection, &mut self.widths),
        };
        self.line.push('\n');
        self.sink.bytes().extend_from_slice(self.line.as_bytes());
        self.sink.end_event()
    }

    fn flush(&mut self) -> Result<(), PublishError> {
        self.sink.flush()
    }

    fn finish(&mut self) -> Result<Delivery, PublishError> {
        self.sink.finish()
    }

    fn branch(&self) -> Option<Box<dyn Output>> {
        Some(Box::new(TextLines {
            sink: self.sink.branch(),
            coloured: self.coloured,
            status_attributes: self.status_attributes.clone(),
            widths: Widths::default(),
            line: String::with_capacity(512),
        }))
    }

    fn watched(&self) -> Option<Arc<dyn Watched>> {
        Some(self.sink.watched())
    }

    fn learn_status_attributes(&mut self, attributes: &HashMap<String, String>) {
        self.status_attributes.clone_from(attributes);
    }
}

/// Lines of events whose decoders are not at hand: those that are read back.
pub(crate) struct Lines {
    coloured: bool,
    widths: Widths,
}

impl Lines {
    /// For a file, which may be a terminal.
    pub(crate) fn new(colour: Colour, file: &File) -> Lines {
        let on_terminal = || anstream::AutoStream::choice(file) != anstream::ColorChoice::Never;
        let coloured = colour == Colour::Always || colour == Colour::Auto && on_terminal();
        Lines { coloured, widths: Widths::default() }
    }

    /// Without colours.
    pub(crate) fn plain() -> Lines {
        Lines { coloured: false, widths: Widths::default() }
    }

    /// Appends the line of an event, without its end. `columns` of the terminal, if it is one.
    pub(crate) fn append(&mut self, out: &mut String, event: Event<'_>, columns: Option<usize>) {
        let layout = Layout { coloured: self.coloured, columns };
        // Writing to a String cannot fail.
        let _ = match event {
            Event::Exchange(exchange) => {
                layout.line(out, exchange, status(exchange, &HashMap::new()), &mut self.widths)
            }
            Event::Connection(connection) => layout.connection_line(out, connection, &mut self.widths),
        };
    }

    /// Appends a line for an event that is none of those: its time, its kind, and all of it.
    pub(crate) fn append_unknown(
        &self,
        out: &mut String,
        (time, kind, all): (Timestamp, &str, &str),
        columns: Option<usize>,
    ) {
        // Writing to a String cannot fail.
        let _ = Layout { coloured: self.coloured, columns }.unknown_line(out, time, kind, all);
    }
}

/// The columns of a terminal.
pub(crate) fn terminal_columns(file: &File) -> usize {
    terminal_size::terminal_size_of(file).map_or(USUAL_TERMINAL_COLUMNS, |(width, _)| usize::from(width.0))
}

/// The value of the attribute that the exchange's decoder marks as the status. Of a decoder that is not at hand, or marks
/// none, that which has the name of one by OpenTelemetry's conventions: `http.response.status_code`.
fn status<'a>(exchange: &'a Exchange<'_>, attributes: &HashMap<String, String>) -> Option<&'a Value<'a>> {
    let decoder = exchange.decoder.split('/').next().unwrap_or_default();
    match attributes.get(decoder) {
        Some(name) => exchange.attributes.find(name),
        None => exchange.attributes.0.iter().find_map(|(name, value)| name.ends_with(".status_code").then_some(value)),
    }
}

/// Widths of columns so far.
#[derive(Debug, Default)]
struct Widths {
    client: usize,
    server: usize,
    protocol: usize,
    status: usize,
}

/// How lines look.
struct Layout {
    coloured: bool,
    /// Of the terminal; none: lines are never cut.
    columns: Option<usize>,
}

impl Layout {
    fn line(
        &self,
        out: &mut String,
        exchange: &Exchange<'_>,
        status: Option<&Value<'_>>,
        widths: &mut Widths,
    ) -> fmt::Result {
        // Columns used so far; what is written before the summary has one column a letter, or nearly so.
        let mut used = 0;
        let colour = match exchange.outcome {
            Outcome::Ok => Style::new().fg_color(Some(AnsiColor::Green.into())),
            Outcome::Error => Style::new().fg_color(Some(AnsiColor::Red.into())).bold(),
            Outcome::NoResponse | Outcome::Aborted => Style::new().fg_color(Some(AnsiColor::Yellow.into())),
            Outcome::Unmatched => Style::new().fg_color(Some(AnsiColor::Magenta.into())),
        };
        let ends = [&exchange.client, &exchange.server].map(|peer| SocketAddr::new(peer.address, peer.port));
        let bytes = [exchange.client.bytes, exchange.server.bytes].into_iter().flatten().reduce(u64::saturating_add);
        let columns = Columns {
            time_ns: exchange.time.0,
            ends,
            arrow: "->",
            protocol: &exchange.protocol,
            status,
            duration_ns: exchange.duration,
            bytes,
        };
        used += self.columns(out, &columns, colour, widths)?;
        if exchange.outcome != Outcome::Ok {
            used += self.cell(out, colour, exchange.outcome.name(), &mut 0, 0, Align::Left)?;
        }
        if let Some(loss) = &exchange.loss {
            let lost = Style::new().fg_color(Some(AnsiColor::Yellow.into()));
            used += self.cell(out, lost, Lost(loss), &mut 0, 0, Align::Left)?;
        }
        if exchange.connection.midstream {
            used += self.cell(out, DIM, "midstream", &mut 0, 0, Align::Left)?;
        }
        let start = out.len();
        match (&exchange.summary, &exchange.operation, &exchange.target) {
            (Some(summary), ..) => write!(out, "{}", Printable(summary))?,
            (None, Some(operation), Some(target)) => write!(out, "{} {}", Printable(operation), Printable(target))?,
            (None, Some(one), None) | (None, None, Some(one)) => write!(out, "{}", Printable(one))?,
            (None, None, None) => out.push('-'),
        }
        self.cut(out, start, used);
        Ok(())
    }

    fn connection_line(&self, out: &mut String, event: &ConnectionEvent<'_>, widths: &mut Widths) -> fmt::Result {
        let style = match (event.opened, event.closed.reason) {
            (Opened::Refused, _) => Style::new().fg_color(Some(AnsiColor::Red.into())).bold(),
            (Opened::Unanswered, _) | (_, Reason::Reset) => Style::new().fg_color(Some(AnsiColor::Yellow.into())),
            _ => DIM,
        };
        let mut ends = event.ends().map(|end| SocketAddr::new(end.address, end.port));
        let (Some(first), Some(second)) = (ends.next(), ends.next()) else { return Ok(()) };
        let sum = |bytes: fn(&Party) -> u64| event.ends().map(bytes).fold(0, u64::saturating_add);
        let columns = Columns {
            time_ns: event.time.0,
            ends: [first, second],
            arrow: if event.client.is_some() { "->" } else { "--" },
            protocol: event.protocol.as_deref().unwrap_or("tcp"),
            status: None,
            duration_ns: Some(event.duration),
            bytes: Some(sum(|end| end.bytes)),
        };
        let used = self.columns(out, &columns, style, widths)?;
        let start = out.len();
        match (event.opened, event.closed.by) {
            (Opened::Refused, _) => out.push_str("connection refused"),
            (Opened::Unanswered, _) => out.push_str("connection unanswered"),
            (_, Some(Role::Client)) => out.push_str("connection reset by client"),
            (_, Some(Role::Server)) => out.push_str("connection reset by server"),
            (_, None) => write!(out, "connection {}", event.closed.reason.text())?,
        }
        match event.exchanges {
            Some(1) => out.push_str(", 1 exchange"),
            Some(exchanges) => write!(out, ", {exchanges} exchanges")?,
            None => {}
        }
        for (bytes, what) in [
            (sum(|end| end.retransmitted_bytes), "retransmitted"),
            (sum(|end| end.gap_bytes.unwrap_or_default()), "lost"),
        ] {
            if bytes > 0 {
                write!(out, ", {} {what}", Bytes(bytes))?;
            }
        }
        if event.opened == Opened::Midstream {
            out.push_str(", midstream");
        }
        self.cut(out, start, used);
        Ok(())
    }

    fn unknown_line(&self, out: &mut String, time: Timestamp, kind: &str, all: &str) -> fmt::Result {
        let mut used = self.cell(out, DIM, TimeOfDay(time.0), &mut 0, 0, Align::Left)?;
        used += self.cell(out, BOLD, Printable(kind), &mut 0, 0, Align::Left)?;
        let start = out.len();
        write!(out, "{}", Printable(all))?;
        self.cut(out, start, used);
        Ok(())
    }

    /// What every line begins with; returns the columns used.
    fn columns(
        &self,
        out: &mut String,
        columns: &Columns<'_>,
        colour: Style,
        widths: &mut Widths,
    ) -> Result<usize, fmt::Error> {
        let [first, second] = columns.ends;
        let mut used = self.cell(out, DIM, TimeOfDay(columns.time_ns), &mut 0, 0, Align::Left)?;
        used += self.cell(out, Style::new(), first, &mut widths.client, WIDEST_PEER, Align::Right)?;
        used += self.cell(out, DIM, columns.arrow, &mut 0, 0, Align::Left)?;
        used += self.cell(out, Style::new(), second, &mut widths.server, WIDEST_PEER, Align::Left)?;
        let protocol = Printable(columns.protocol);
        used += self.cell(out, BOLD, protocol, &mut widths.protocol, WIDEST_PROTOCOL, Align::Left)?;
        used += self.cell(out, colour, Status(columns.status), &mut widths.status, WIDEST_STATUS, Align::Right)?;
        let duration = columns.duration_ns.map(DisplayDuration);
        used += self.cell(out, Style::new(), OrDash(duration), &mut 7, 7, Align::Right)?;
        used += self.cell(out, Style::new(), OrDash(columns.bytes.map(Bytes)), &mut 7, 7, Align::Right)?;
        Ok(used)
    }

    /// Cuts what stands from `start` to what the terminal has left beside the columns used.
    fn cut(&self, out: &mut String, start: usize, used: usize) {
        if let Some(columns) = self.columns {
            cut(out, start, columns.saturating_sub(used).max(LEAST_SUMMARY_COLUMNS));
        }
    }

    /// A value, padded to its column, and a blank; returns the columns used.
    fn cell(
        &self,
        out: &mut String,
        style: Style,
        value: impl fmt::Display,
        width: &mut usize,
        widest: usize,
        align: Align,
    ) -> Result<usize, fmt::Error> {
        let start = out.len();
        write!(out, "{value}")?;
        let length = out[start..].chars().count();
        *width = (*width).max(length.min(widest));
        let padding = width.saturating_sub(length);
        if self.coloured && style != Style::new() {
            // Styles are inserted around the value once its width is known.
            let mut codes = String::new();
            write!(codes, "{style}")?;
            out.insert_str(start, &codes);
            write!(out, "{style:#}")?;
        }
        match align {
            Align::Left => out.extend(std::iter::repeat_n(' ', padding)),
            Align::Right => out.insert_str(start, &" ".repeat(padding)),
        }
        out.push(' ');
        Ok(length + padding + 1)
    }
}

/// What every line begins with.
struct Columns<'a> {
    time_ns: u64,
    ends: [SocketAddr; 2],
    arrow: &'static str,
    protocol: &'a str,
    status: Option<&'a Value<'a>>,
    duration_ns: Option<u64>,
    bytes: Option<u64>,
}

impl Reason {
    fn text(self) -> &'static str {
        match self {
            Reason::Fin => "closed",
            Reason::Reset => "reset",
            Reason::Idle => "idle",
            Reason::Evicted => "evicted",
            Reason::Replaced => "replaced",
            Reason::CaptureEnd => "open at the end of the capture",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

/// Cuts what stands from `start` to a number of columns; the last one then shows that something is missing.
fn cut(line: &mut String, start: usize, columns: usize) {
    let mut used = 0;
    let mut end_before_mark = start;
    for (index, letter) in line[start..].char_indices() {
        used += letter.width().unwrap_or(0);
        if used > columns {
            line.truncate(end_before_mark);
            line.push('…');
            return;
        }
        if used < columns {
            end_before_mark = start + index + letter.len_utf8();
        }
    }
}

struct TimeOfDay(u64);

impl fmt::Display for TimeOfDay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0 / 1_000_000 % 86_400_000;
        let (seconds, ms) = (ms / 1000, ms % 1000);
        write!(formatter, "{:02}:{:02}:{:02}.{ms:03}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }
}

struct Status<'a>(Option<&'a Value<'a>>);

impl fmt::Display for Status<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(Value::Flag(value)) => write!(formatter, "{value}"),
            Some(Value::Uint(value)) => write!(formatter, "{value}"),
            Some(Value::Int(value)) => write!(formatter, "{value}"),
            Some(Value::Float(value)) => write!(formatter, "{value}"),
            Some(Value::Text(value)) => write!(formatter, "{}", Printable(value)),
            None => formatter.write_str("-"),
        }
    }
}

struct Lost<'a>(&'a Loss);

impl fmt::Display for Lost<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.gap_bytes, self.0.truncated) {
            (Some(bytes), _) => write!(formatter, "[lost {}]", Bytes(bytes)),
            (None, true) => formatter.write_str("[text cut]"),
            (None, false) => formatter.write_str("[lost]"),
        }
    }
}

struct OrDash<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for OrDash<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(formatter),
            None => formatter.write_str("-"),
        }
    }
}

/// Nanoseconds with three digits that count: `1.24ms`.
pub(crate) struct DisplayDuration(pub(crate) u64);

impl fmt::Display for DisplayDuration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MINUTE: u64 = 60_000_000_000;
        match self.0 {
            ns @ 0..1_000 => write!(formatter, "{ns}ns"),
            ns @ 1_000..1_000_000 => three_digits(formatter, ns, 1_000, "us"),
            ns @ 1_000_000..1_000_000_000 => three_digits(formatter, ns, 1_000_000, "ms"),
            ns @ 1_000_000_000..MINUTE => three_digits(formatter, ns, 1_000_000_000, "s"),
            ns => write!(formatter, "{}m{:02}s", ns / MINUTE, ns % MINUTE / 1_000_000_000),
        }
    }
}

/// Bytes with three digits that count, in powers of ten: `5.12kB`.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ 0..1_000 => write!(formatter, "{bytes}B"),
            bytes @ 1_000..1_000_000 => three_digits(formatter, bytes, 1_000, "kB"),
            bytes @ 1_000_000..1_000_000_000 => three_digits(formatter, bytes, 1_000_000, "MB"),
            bytes => three_digits(formatter, bytes, 1_000_000_000, "GB"),
        }
    }
}

/// Cut, not rounded: 999.9 stays below 1000.
fn three_digits(formatter: &mut fmt::Formatter<'_>, value: u64, unit: u64, name: &str) -> fmt::Result {
    let (whole, hundredths) = (value / unit, value % unit * 100 / unit);
    match whole {
        0..10 => write!(formatter, "{whole}.{hundredths:02}{name}"),
        10..100 => write!(formatter, "{whole}.{}{name}", hundredths / 10),
        _ => write!(formatter, "{whole}{name}"),
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::event::{Attributes, End};
    use crate::reference::{example_connection_event, example_event};

    fn line(exchange: &Exchange<'_>, coloured: bool, columns: Option<usize>) -> String {
        let attributes = HashMap::from([("http".to_owned(), "http.response.status_code".to_owned())]);
        let mut out = String::new();
        let status = status(exchange, &attributes);
        Layout { coloured, columns }.line(&mut out, exchange, status, &mut Widths::default()).unwrap();
        out
    }

    fn check(change: impl FnOnce(&mut Exchange<'static>), expected: &str) {
        let mut exchange = example_event();
        change(&mut exchange);
        assert_eq!(line(&exchange, false, None), expected);
    }

    #[test]
    fn a_line_says_when_who_what_and_how() {
        check(|_| {}, "00:00:00.123Z 10.1.0.5:51544 -> 10.1.0.9:80 http 200  1.24ms    850B GET /api/users/42");
    }

    #[test]
    fn outcome_loss_and_midstream_show_where_there_are_any() {
        check(
            |exchange| {
                exchange.outcome = Outcome::NoResponse;
                exchange.attributes = Attributes::default();
                exchange.duration = None;
                exchange.server.bytes = None;
                exchange.connection.midstream = true;
                exchange.loss = Some(Loss { gap_bytes: Some(1460), ..Loss::default() });
            },
            "00:00:00.123Z 10.1.0.5:51544 -> 10.1.0.9:80 http -       -    120B no_response [lost 1.46kB] midstream \
             GET /api/users/42",
        );
    }

    #[test]
    fn without_a_summary_operation_and_target_stand_for_it() {
        let start = "00:00:00.123Z 10.1.0.5:51544 -> 10.1.0.9:80 http 200  1.24ms    850B ";
        check(|exchange| exchange.summary = None, &format!("{start}GET /api/users/42"));
        check(
            |exchange| {
                exchange.summary = None;
                exchange.target = None;
            },
            &format!("{start}GET"),
        );
    }

    #[test]
    fn a_line_of_a_connection_says_how_it_ended() {
        let shown = |change: fn(&mut ConnectionEvent<'static>)| {
            let (mut event, mut out) = (example_connection_event(), String::new());
            change(&mut event);
            let layout = Layout { coloured: false, columns: None };
            layout.connection_line(&mut out, &event, &mut Widths::default()).unwrap();
            out
        };
        let start = "00:00:00.120Z 10.1.0.5:51544 -> 10.1.0.9:80 http -  58.1ms  3.54kB connection ";
        assert_eq!(shown(|_| {}), format!("{start}closed, 4 exchanges, 120B retransmitted"));
        let reset = shown(|event| {
            event.closed = End { reason: Reason::Reset, by: Some(Role::Server) };
            event.exchanges = Some(1);
            event.client.as_mut().unwrap().gap_bytes = Some(1460);
        });
        assert_eq!(reset, format!("{start}reset by server, 1 exchange, 120B retransmitted, 1.46kB lost"));
        let unknown = shown(|event| {
            event.opened = Opened::Midstream;
            event.closed.reason = Reason::CaptureEnd;
            (event.protocol, event.exchanges) = (None, None);
            event.endpoints = event.client.take().zip(event.server.take()).map(|(client, server)| [client, server]);
        });
        let expected = "00:00:00.120Z 10.1.0.5:51544 -- 10.1.0.9:80 tcp -  58.1ms  3.54kB connection open at the \
                        end of the capture, 120B retransmitted, midstream";
        assert_eq!(unknown, expected);
        let refused = shown(|event| {
            (event.opened, event.protocol, event.exchanges) = (Opened::Refused, None, None);
            (event.client, event.server) = (event.client.map(quiet), event.server.map(quiet));
        });
        assert_eq!(refused, "00:00:00.120Z 10.1.0.5:51544 -> 10.1.0.9:80 tcp -  58.1ms      0B connection refused");
    }

    #[test]
    fn an_event_of_an_unknown_kind_is_shown_whole() {
        let (fields, mut out) = (serde_json::json!({ "kind": "later\u{1b}", "a": ["\u{202e}"] }), String::new());
        let layout = Layout { coloured: false, columns: None };
        layout.unknown_line(&mut out, Timestamp(123_000_000), "later\u{1b}", &fields.to_string()).unwrap();
        assert_eq!(out, r#"00:00:00.123Z later\u{1b} {"kind":"later\u001b","a":["\u{202e}"]}"#);
    }

    #[test]
    fn the_status_is_what_the_decoder_marks_or_what_is_called_so() {
        let mut exchange = example_event();
        let marked = |name: &str| HashMap::from([("http".to_owned(), name.to_owned())]);
        assert_eq!(status(&exchange, &HashMap::new()), Some(&Value::Uint(200)));
        assert_eq!(status(&exchange, &marked("url.path")), exchange.attributes.find("url.path"));
        assert_eq!(status(&exchange, &marked("none")), None);
        exchange.attributes.0.clear();
        assert_eq!(status(&exchange, &HashMap::new()), None);
    }

    fn quiet(end: Party) -> Party {
        Party { bytes: 0, retransmitted_bytes: 0, ..end }
    }

    #[test]
    fn nothing_captured_acts_on_the_terminal() {
        let hostile = "GET /\x1b[2J\x1b]0;owned\x07\r\n\u{202e}\u{9b}31m";
        let mut exchange = example_event();
        exchange.summary = Some(hostile.into());
        exchange.protocol = hostile.into();
        exchange.attributes.0[3].1 = Value::Text(Cow::Borrowed(hostile));
        let shown = line(&exchange, false, None);
        assert!(shown.chars().all(|letter| matches!(letter, ' '..='~')), "{shown:?}");
        assert!(shown.ends_with("GET /\\u{1b}[2J\\u{1b}]0;owned\\u{7}\\r\\n\\u{202e}\\u{9b}31m"), "{shown}");
        exchange.summary = None;
        exchange.operation = Some(hostile.into());
        exchange.target = Some(hostile.into());
        let shown = line(&exchange, false, None);
        assert!(shown.chars().all(|letter| matches!(letter, ' '..='~')), "{shown:?}");
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let mut exchange = example_event();
        exchange.outcome = Outcome::Error;
        let coloured = line(&exchange, true, None);
        assert!(coloured.contains("\x1b[1m\x1b[31m200\x1b[0m"), "{coloured:?}");
        assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), line(&exchange, false, None));
    }

    #[test]
    fn lines_are_cut_to_the_terminal() {
        let width = |text: &str| text.chars().map(|letter| letter.width().unwrap_or(0)).sum::<usize>();
        let mut exchange = example_event();
        for summary in ["GET /".to_owned() + &"long".repeat(100), "GET /日本".to_owned() + &"語".repeat(100)] {
            exchange.summary = Some(summary.into());
            for columns in [100, 101, 120] {
                let shown = line(&exchange, false, Some(columns));
                assert!(shown.ends_with('…'), "{shown}");
                assert!((columns - 1..=columns).contains(&width(&shown)), "{} {columns} {shown}", width(&shown));
            }
        }
        let all = line(&example_event(), false, None);
        assert_eq!(line(&example_event(), false, Some(width(&all))), all);
    }

    #[test]
    fn columns_grow_to_the_widest_value_within_bounds() {
        let mut widths = Widths::default();
        let mut exchange = example_event();
        let layout = Layout { coloured: false, columns: None };
        let mut show = |exchange: &Exchange<'_>| {
            let mut out = String::new();
            layout.line(&mut out, exchange, None, &mut widths).unwrap();
            out
        };
        show(&exchange);
        exchange.client.address = "2001:db8::1234:5678:9abc".parse().unwrap();
        assert!(show(&exchange).starts_with("00:00:00.123Z [2001:db8::1234:5678:9abc]:51544 -> 10.1.0.9:80 "));
        exchange.client.address = "10.1.0.5".parse().unwrap();
        assert!(show(&exchange).starts_with("00:00:00.123Z        10.1.0.5:51544 -> 10.1.0.9:80 "));
    }

    #[test]
    fn durations_and_sizes_have_three_digits_that_count() {
        for (ns, text) in [
            (0, "0ns"),
            (999, "999ns"),
            (1_000, "1.00us"),
            (12_345, "12.3us"),
            (999_999, "999us"),
            (1_500_000_000, "1.50s"),
            (61_000_000_000, "1m01s"),
        ] {
            assert_eq!(DisplayDuration(ns).to_string(), text);
        }
        for (bytes, text) in [(0, "0B"), (1_000, "1.00kB"), (5_123_456, "5.12MB"), (7_000_000_000_000, "7000GB")] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
