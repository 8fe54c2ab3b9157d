//! The screen, drawn: at 80 columns and 24 lines all that matters is there, wider and higher there is more.
//!
//! All text from traffic is made printable before it is measured, cut and drawn.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, Table, TableState, Wrap};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::feed::Progress;
use super::screen::{Column, List, Page, Screen};
use crate::event::{Outcome, Timestamp};
use crate::publish::{Bytes, DisplayDuration, Printable};
use crate::view::{Count, Rate, Row, Single, Slot, Timeline, View, meaning};

/// From this width on, there is a column for bytes, and names have more room.
const WIDE: u16 = 96;
/// Widths of columns of figures.
const FIGURE: usize = 6;
const SPARKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

const KEYS: [(&str, &str); 11] = [
    ("up, down, PgUp, PgDn", "select a line; j and k do as well"),
    ("Enter, Right", "single exchanges of an operation; all of an exchange"),
    ("Esc, Left", "back"),
    ("> and <", "sort by the next column, by the one before; s and S do as well"),
    ("r", "sort the other way round"),
    ("Tab", "the latest, the slowest, the failed exchanges"),
    ("/", "filter, in CEL: protocol == \"http\" && duration > duration(\"100ms\")"),
    ("l", "what was lost or left out, and what that means"),
    ("?", "this help"),
    ("q, Ctrl-C", "the end"),
    ("fail", "answered with an error, not answered, or cut off"),
];

/// What the screen needs to know of the feed.
#[derive(Clone, Copy, Debug)]
pub struct Status<'s> {
    /// How far it has come.
    pub progress: &'s Progress,
    /// What could not be read.
    pub problems: &'s [String],
}

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, screen: &mut Screen, view: &View, status: Status<'_>) {
    let [title, losses, body, line, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let paint = Paint { coloured: screen.coloured };
    frame.render_widget(paint.title(screen, view, status, title.width), title);
    frame.render_widget(paint.losses(view, status, losses.width), losses);
    match screen.page {
        Page::Operations => operations(frame, body, screen, view, paint),
        Page::Exchanges => exchanges(frame, body, screen, view, paint),
        Page::Exchange => scrolled(frame, body, screen, exchange(screen, view, paint)),
        Page::Losses => scrolled(frame, body, screen, all_losses(view, status, paint)),
        Page::Help => scrolled(frame, body, screen, help(paint)),
    }
    frame.render_widget(paint.line(screen, status, line.width), line);
    frame.render_widget(paint.keys(screen), keys);
}

/// Colours, or weight alone.
#[derive(Clone, Copy)]
struct Paint {
    coloured: bool,
}

impl Paint {
    fn colour(self, colour: Color) -> Style {
        if self.coloured { Style::new().fg(colour) } else { Style::new() }
    }

    fn bad(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn warning(self) -> Style {
        self.colour(Color::Yellow)
    }

    fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn outcome(self, outcome: Outcome) -> Style {
        match outcome {
            Outcome::Ok => self.colour(Color::Green),
            Outcome::Error => self.bad(),
            Outcome::NoResponse | Outcome::Aborted => self.warning(),
            Outcome::Unmatched => self.colour(Color::Magenta),
        }
    }

    fn title(self, screen: &Screen, view: &View, status: Status<'_>, width: u16) -> Line<'static> {
        let traffic = view.traffic();
        let mut figures = vec![
            Span::raw(format!("{} exchanges  ", Count(traffic.exchanges))),
            Span::styled(
                format!("{} failed", Count(traffic.failures)),
                if traffic.failures > 0 { self.bad() } else { self.quiet() },
            ),
        ];
        if let Some((first, last)) = view.span() {
            let rate = Rate(view.rate(traffic.exchanges));
            figures.push(Span::raw(format!("  {rate} over {}", DisplayDuration(last - first))));
        }
        figures.push(match status.progress {
            Progress::Reading => Span::styled("  reading", self.colour(Color::Green)),
            Progress::Over => Span::styled("  at the end", self.quiet()),
            Progress::Failed(_) => Span::styled("  ended early", self.bad()),
        });
        let used: usize = figures.iter().map(Span::width).sum();
        let name = fit(&screen.name, usize::from(width).saturating_sub(used + 2));
        let gap = usize::from(width).saturating_sub(used + name.width());
        let mut spans = vec![Span::styled(name, self.strong()), Span::raw(" ".repeat(gap))];
        spans.extend(figures);
        Line::from(spans)
    }

    /// The gravest of what was lost, as much as there is room for.
    fn losses(self, view: &View, status: Status<'_>, width: u16) -> Line<'static> {
        let losses = view.losses();
        let still_counted = *status.progress == Progress::Reading;
        if losses.is_empty() {
            let says = if still_counted { "nothing lost so far" } else { "nothing lost or left out" };
            return Line::styled(says, self.quiet());
        }
        let mut text = String::from("losses: ");
        let mut shown = 0;
        for (name, count) in &losses {
            let one = format!("{}{} {}", if shown == 0 { "" } else { ", " }, Count(*count), name.replace('_', " "));
            if text.width() + one.width() + ", 99 more: l".len() > usize::from(width) {
                break;
            }
            text += &one;
            shown += 1;
        }
        if shown < losses.len() {
            text += &format!(", {} more: l", losses.len() - shown);
        }
        Line::styled(fit(&text, usize::from(width)), self.warning())
    }

    /// What is typed in, what is to be said, or the filter.
    fn line(self, screen: &Screen, status: Status<'_>, width: u16) -> Line<'static> {
        let room = usize::from(width);
        if let Some(input) = &screen.input {
            let says = screen.message.as_ref().map_or(String::new(), |message| format!("   {message}"));
            let typed = format!("filter: {}_", Printable(input));
            let error = fit(&says, room.saturating_sub(typed.width()).max(room / 2));
            // The end of a long one is where one types.
            let left = room.saturating_sub(error.width());
            let skipped = typed.chars().count().saturating_sub(left);
            let typed: String = typed.chars().skip(skipped).collect();
            return Line::from(vec![Span::styled(typed, self.strong()), Span::styled(error, self.bad())]);
        }
        match (&screen.message, status.progress, status.problems.last(), &screen.filter) {
            (Some(message), ..) => Line::styled(fit(message, room), self.warning()),
            (None, Progress::Failed(error), ..) => Line::styled(fit(error, room), self.bad()),
            (None, _, Some(problem), _) => Line::styled(fit(problem, room), self.warning()),
            (None, _, None, Some(filter)) => Line::raw(fit(&format!("filter: {filter}"), room)),
            (None, _, None, None) => Line::default(),
        }
    }

    fn keys(self, screen: &Screen) -> Line<'static> {
        let keys: &[(&str, &str)] = match (screen.input.is_some(), screen.page) {
            (true, _) => &[("Enter", "apply"), ("Esc", "leave as it was")],
            (_, Page::Operations) => &[
                ("q", "end"),
                ("Enter", "exchanges"),
                ("< >", "sort"),
                ("/", "filter"),
                ("l", "losses"),
                ("?", "help"),
            ],
            (_, Page::Exchanges) => &[
                ("q", "end"),
                ("Esc", "back"),
                ("Enter", "attributes"),
                ("Tab", "latest, slowest, failed"),
                ("?", "help"),
            ],
            _ => &[("q", "end"), ("Esc", "back"), ("up, down", "scroll")],
        };
        let keys = keys.iter().flat_map(|(key, does)| {
            [
                Span::styled(format!(" {key} "), self.strong().add_modifier(Modifier::REVERSED)),
                Span::raw(format!(" {does}  ")),
            ]
        });
        Line::from_iter(keys)
    }
}

fn operations(frame: &mut Frame<'_>, area: Rect, screen: &mut Screen, view: &View, paint: Paint) {
    let rows = screen.rows(view);
    let is_wide = area.width >= WIDE;
    let longest = |text: fn(&Row) -> usize| rows.iter().map(|(_, row)| text(row)).max().unwrap_or(0);
    let server = longest(|row| server(row).len()).clamp(6, if is_wide { 30 } else { 14 });
    let protocol = longest(|row| Printable(&row.protocol).to_string().width()).clamp(5, if is_wide { 12 } else { 7 });
    let columns: Vec<_> = Column::ALL.into_iter().filter(|column| is_wide || *column != Column::Bytes).collect();
    let width = |column: Column| match column {
        Column::Protocol => protocol,
        Column::Server => server,
        Column::Failed => 4,
        Column::Operation => 0,
        _ => FIGURE,
    };
    let fixed: usize = columns.iter().map(|column| width(*column) + 1).sum();
    // What is left is for names of operations, and for what shows time.
    let left = usize::from(area.width).saturating_sub(fixed);
    let named = longest(|row| Printable(&row.operation).to_string().width());
    let operation = named.clamp(Column::Operation.name().len() + 1, 28).min(left / 2).max(6);
    let sparks = left.saturating_sub(operation).min(60);
    let mut widths: Vec<_> = columns
        .iter()
        .map(|column| Constraint::Length(if *column == Column::Operation { operation } else { width(*column) } as u16))
        .collect();
    widths.push(Constraint::Length(sparks as u16));
    let mut header: Vec<_> = columns
        .iter()
        .map(|column| {
            let arrow = match (*column == screen.sort, screen.ascending) {
                (false, _) => "",
                (true, false) => "▾",
                (true, true) => "▴",
            };
            let style =
                if *column == screen.sort { paint.strong().add_modifier(Modifier::UNDERLINED) } else { paint.strong() };
            let text = Line::styled(format!("{}{arrow}", column.name()), style);
            Cell::from(if column.is_text() { text } else { text.right_aligned() })
        })
        .collect();
    header.push(Cell::from(Line::styled(fit("over time", sparks), paint.strong())));
    screen.selected = screen.selected.min(rows.len().saturating_sub(1));
    let height = usize::from(area.height.saturating_sub(1)).max(1);
    let lines: Vec<_> = rows
        .iter()
        .enumerate()
        // Only what may be seen is worked out.
        .map(|(index, (_, row))| match index.abs_diff(screen.selected) {
            // Reversed, colours would be those of the ground.
            0 => operation_line(row, &columns, (protocol, server, operation, sparks), view, Paint { coloured: false }),
            away if away <= height => operation_line(row, &columns, (protocol, server, operation, sparks), view, paint),
            _ => TableRow::new([Cell::from("")]),
        })
        .collect();
    let table = Table::new(lines, widths)
        .header(TableRow::new(header))
        .column_spacing(1)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected((!rows.is_empty()).then_some(screen.selected));
    frame.render_stateful_widget(table, area, &mut state);
}

fn operation_line(
    row: &Row,
    columns: &[Column],
    (protocol, server_width, operation, sparks): (usize, usize, usize, usize),
    view: &View,
    paint: Paint,
) -> TableRow<'static> {
    let percentiles = row.latencies().percentiles();
    let traffic = row.traffic;
    let figure = |text: String| Cell::from(Line::from(text).right_aligned());
    let mut cells: Vec<_> = columns
        .iter()
        .map(|column| match column {
            Column::Protocol => Cell::from(fit(&row.protocol, protocol)),
            Column::Server => Cell::from(fit(&server(row), server_width)),
            Column::Operation => {
                Cell::from(fit(if row.operation.is_empty() { "-" } else { &row.operation }, operation))
            }
            Column::Count => figure(short(traffic.exchanges)),
            Column::Rate => figure(Rate(view.rate(traffic.exchanges)).to_string()),
            Column::Failed => {
                let style = if traffic.failures > 0 { paint.bad() } else { paint.quiet() };
                Cell::from(Line::styled(short(traffic.failures), style).right_aligned())
            }
            Column::P50 => figure(duration(percentiles[0])),
            Column::P95 => figure(duration(percentiles[1])),
            Column::P99 => figure(duration(percentiles[2])),
            Column::Bytes => figure(Bytes(traffic.bytes()).to_string()),
        })
        .collect();
    cells.push(Cell::from(sparkline(&row.timeline, view.timeline(), sparks, paint)));
    TableRow::new(cells)
}

/// Exchanges over the time of all, a letter for each part of it.
fn sparkline(part: &Timeline, whole: &Timeline, width: usize, paint: Paint) -> Line<'static> {
    let slots = part.beside(whole);
    let each = slots.len().div_ceil(width.max(1)).max(1);
    let parts: Vec<(u64, u64)> = slots
        .chunks(each)
        .map(|slots| {
            let sum = |count: fn(&Slot) -> u32| slots.iter().map(|slot| u64::from(count(slot))).sum::<u64>();
            (sum(|slot| slot.exchanges), sum(|slot| slot.failures))
        })
        .collect();
    let highest = parts.iter().map(|(all, _)| *all).max().unwrap_or(0).max(1);
    let spans = parts.iter().map(|&(all, failed)| {
        let letter = if all == 0 { ' ' } else { SPARKS[((all * 8 - 1) / highest) as usize] };
        let style = if failed > 0 { paint.bad() } else { paint.colour(Color::Cyan) };
        Span::styled(letter.to_string(), style)
    });
    Line::from_iter(spans)
}

fn exchanges(frame: &mut Frame<'_>, area: Rect, screen: &mut Screen, view: &View, paint: Paint) {
    let [head, body] = Layout::vertical([Constraint::Length(2), Constraint::Min(1)]).areas(area);
    let singles = screen.listed(view);
    screen.listed = screen.listed.min(singles.len().saturating_sub(1));
    if let Some(row) = view.rows().nth(screen.row) {
        let [p50, p95, p99] = row.latencies().percentiles().map(duration);
        let what = format!("{} {} {}", row.protocol, server(row), row.operation);
        let counts = format!("  {} exchanges, {} failed", Count(row.traffic.exchanges), Count(row.traffic.failures));
        let what = fit(&what, usize::from(head.width).saturating_sub(counts.width()));
        let lists = List::ALL.into_iter().flat_map(|list| {
            let style =
                if list == screen.list { paint.strong().add_modifier(Modifier::UNDERLINED) } else { paint.quiet() };
            [Span::styled(list.name(), style), Span::raw("  ")]
        });
        let percentiles = Span::raw(format!("  p50 {p50}  p95 {p95}  p99 {p99}"));
        let lines = vec![
            Line::from(vec![Span::styled(what, paint.strong()), Span::raw(counts)]),
            Line::from_iter(lists.chain([percentiles])),
        ];
        frame.render_widget(Paragraph::new(lines), head);
    }
    const OUTCOME: usize = 11;
    let client = singles.iter().map(|single| single.client.to_string().len()).max().unwrap_or(0).clamp(6, 21);
    let what = usize::from(body.width).saturating_sub(13 + client + OUTCOME + 2 * FIGURE + 5);
    let lines = singles.iter().map(|single| {
        let figure = |text: String| Cell::from(Line::from(text).right_aligned());
        let bytes = single.bytes.into_iter().flatten().reduce(u64::saturating_add);
        TableRow::new([
            Cell::from(Line::styled(time(single), paint.quiet())),
            Cell::from(fit(&single.client.to_string(), client)),
            Cell::from(Line::styled(words(single.outcome), paint.outcome(single.outcome))),
            figure(duration(single.duration)),
            figure(bytes.map_or_else(|| "-".to_owned(), |bytes| Bytes(bytes).to_string())),
            Cell::from(fit(&single.summary, what)),
        ])
    });
    let widths = [13, client, OUTCOME, FIGURE, FIGURE, what].map(|width| Constraint::Length(width as u16));
    let header = ["time", "client", "outcome", "took", "bytes", "what"];
    let header = header.map(|name| {
        let name = Line::styled(name, paint.strong());
        Cell::from(if matches!(name.to_string().as_str(), "took" | "bytes") { name.right_aligned() } else { name })
    });
    let table = Table::new(lines, widths)
        .header(TableRow::new(header))
        .column_spacing(1)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected((!singles.is_empty()).then_some(screen.listed));
    frame.render_stateful_widget(table, body, &mut state);
}

/// All that is known of an exchange.
fn exchange(screen: &Screen, view: &View, paint: Paint) -> Vec<Line<'static>> {
    let Some(single) = &screen.single else { return Vec::new() };
    let offset = |ns: Option<u64>| ns.map(|ns| DisplayDuration(ns).to_string());
    let end = |address: std::net::SocketAddr, bytes: Option<u64>| {
        let name = view.name(address.ip()).map_or(String::new(), |name| format!("{name} "));
        let bytes = bytes.map_or(String::new(), |bytes| format!(", {}", Bytes(bytes)));
        Some(format!("{name}{address}{bytes}"))
    };
    let lost = single.loss.as_ref().map(|loss| match (loss.gap_bytes, loss.truncated) {
        (Some(bytes), _) => format!("{} were not captured", Bytes(bytes)),
        (None, _) => "texts are cut".to_owned(),
    });
    let left_out =
        (single.attributes_left_out > 0).then(|| format!("{} further attributes", single.attributes_left_out));
    let fields = [
        ("time", Some(single.time.to_string())),
        ("protocol", Some(single.protocol.to_string())),
        ("outcome", Some(words(single.outcome).to_owned())),
        ("took", offset(single.duration)),
        ("request ended after", offset(single.timing.request_end)),
        ("response began after", offset(single.timing.response_start)),
        ("client", end(single.client, single.bytes[0])),
        ("server", end(single.server, single.bytes[1])),
        ("lost", lost),
        ("connection", Some(format!("{}, exchange {}", single.connection.0, single.connection.1))),
        ("id", Some(single.id.to_string())),
    ];
    let attributes = single.attributes.iter().map(|(name, value)| (&**name, Some(value.to_string())));
    let fields: Vec<_> = fields.into_iter().chain(attributes).chain([("left out", left_out)]).collect();
    let width = fields.iter().map(|(name, _)| Printable(name).to_string().width()).max().unwrap_or(0).min(32);
    let mut lines = vec![Line::styled(Printable(&single.summary).to_string(), paint.strong()), Line::default()];
    lines.extend(fields.into_iter().filter_map(|(name, value)| {
        let (name, value) = (fit(name, width), value?);
        let pad = " ".repeat(width + 2 - name.width().min(width));
        Some(Line::from(vec![Span::styled(name + &pad, paint.quiet()), Span::raw(Printable(&value).to_string())]))
    }));
    lines
}

fn all_losses(view: &View, status: Status<'_>, paint: Paint) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    match view.report() {
        Some(report) => lines.extend(report.sums().iter().filter(|sum| sum.total.1 > 0).map(|sum| {
            let counted = |&(name, count): &(&str, u64)| format!("{} {}", Count(count), name.replace('_', " "));
            let parts: Vec<_> = sum.parts.iter().filter(|(_, count)| *count > 0).map(counted).collect();
            let text = format!("{} = {}", counted(&sum.total), parts.join(" + "));
            if sum.holds() { Line::raw(text) } else { Line::styled(format!("{text}: does not add up"), paint.bad()) }
        })),
        None if *status.progress == Progress::Reading => {
            lines.push(Line::styled("What a capture lost is counted at its end.", paint.quiet()));
        }
        None => {}
    }
    lines.push(Line::default());
    let losses = view.losses();
    if losses.is_empty() {
        lines.push(Line::raw("Nothing was lost or left out."));
    }
    let digits = losses.iter().map(|(_, count)| Count(*count).to_string().len()).max().unwrap_or(0);
    for (name, count) in losses {
        let count = format!("{:>digits$}  ", Count(count));
        lines.push(Line::from(vec![
            Span::styled(count, paint.warning()),
            Span::styled(name.replace('_', " "), paint.strong()),
        ]));
        lines.push(Line::styled(format!("{:digits$}  {}", "", meaning(name)), paint.quiet()));
    }
    lines.extend(status.problems.iter().map(|problem| Line::styled(Printable(problem).to_string(), paint.bad())));
    lines
}

fn help(paint: Paint) -> Vec<Line<'static>> {
    KEYS.iter()
        .map(|(key, does)| Line::from(vec![Span::styled(format!("{key:<22}"), paint.strong()), Span::raw(*does)]))
        .collect()
}

/// Lines that wrap, from where the screen is scrolled to.
fn scrolled(frame: &mut Frame<'_>, area: Rect, screen: &mut Screen, lines: Vec<Line<'static>>) {
    let width = usize::from(area.width).max(1);
    // Wrapped at blanks a line may take one more than this; nothing is out of reach for that, for the last stay in sight.
    let height: usize = lines.iter().map(|line| line.width().div_ceil(width).max(1)).sum();
    let most = height.saturating_sub(usize::from(area.height) / 2);
    screen.scroll = screen.scroll.min(most.min(usize::from(u16::MAX)) as u16);
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).scroll((screen.scroll, 0)), area);
}

fn server(row: &Row) -> String {
    row.server.map_or_else(|| "other".to_owned(), |server| server.to_string())
}

fn duration(ns: Option<u64>) -> String {
    ns.map_or_else(|| "-".to_owned(), |ns| DisplayDuration(ns).to_string())
}

/// Up to six letters: `123456`, `1.23M`.
fn short(count: u64) -> String {
    match count {
        0..1_000_000 => count.to_string(),
        1_000_000..1_000_000_000 => format!("{:.2}M", count as f64 / 1e6),
        _ => format!("{:.1}G", count as f64 / 1e9),
    }
}

fn words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::NoResponse => "no response",
        other => other.name(),
    }
}

/// `16:33:28.821Z`.
fn time(single: &Single) -> String {
    let text = Timestamp(single.time.0).to_string();
    format!("{}Z", &text[11..23])
}

/// Text, printable, in no more than so many columns; what is cut off shows as such.
fn fit(text: &str, columns: usize) -> String {
    let shown = Printable(text).to_string();
    if shown.width() <= columns {
        return shown;
    }
    let mut used = 1;
    let end = shown.char_indices().find(|(_, letter)| {
        used += letter.width().unwrap_or(0);
        used > columns
    });
    match (columns, end) {
        (0, _) => String::new(),
        (_, Some((end, _))) => format!("{}…", &shown[..end]),
        (_, None) => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_fits_its_columns_and_is_printable() {
        for (text, columns, shown) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("\x1b[2J", 7, "\\u{1b}…"),
            ("abc", 1, "…"),
            ("abc", 0, ""),
        ] {
            assert_eq!(fit(text, columns), shown, "{text:?} in {columns}");
        }
    }

    #[test]
    fn counts_have_up_to_six_letters() {
        for (count, text) in [(0, "0"), (999_999, "999999"), (1_234_567, "1.23M"), (u64::MAX, "18446744073.7G")] {
            assert_eq!(short(count), text);
        }
    }
}
