//! What is on the screen, and what keys do to it. Nothing here writes to a terminal.

use std::sync::Arc;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::filter::Filter;
use crate::view::{Kept, Row, Single, View};

/// Letters of a filter that is typed in; the parser has a bound of its own.
const MAX_INPUT: usize = crate::filter::MAX_BYTES;

/// What the table is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// By name.
    Protocol,
    /// By address.
    Server,
    /// By name.
    Operation,
    /// Exchanges; the rate has the same order.
    Count,
    /// Exchanges in a second.
    Rate,
    /// Failed exchanges.
    Failed,
    /// Median.
    P50,
    /// 95th percentile.
    P95,
    /// 99th percentile.
    P99,
    /// Payload of both directions.
    Bytes,
}

impl Column {
    /// All, from left to right.
    pub const ALL: [Column; 10] = [
        Column::Protocol,
        Column::Server,
        Column::Operation,
        Column::Count,
        Column::Rate,
        Column::Failed,
        Column::P50,
        Column::P95,
        Column::P99,
        Column::Bytes,
    ];

    /// Its heading.
    pub fn name(self) -> &'static str {
        match self {
            Column::Protocol => "proto",
            Column::Server => "server",
            Column::Operation => "operation",
            Column::Count => "count",
            Column::Rate => "rate",
            Column::Failed => "fail",
            Column::P50 => "p50",
            Column::P95 => "p95",
            Column::P99 => "p99",
            Column::Bytes => "bytes",
        }
    }

    /// Are names in it, which begin with the first letter?
    pub fn is_text(self) -> bool {
        matches!(self, Column::Protocol | Column::Server | Column::Operation)
    }
}

/// Which page is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// The table of operations.
    Operations,
    /// Single exchanges of one of them.
    Exchanges,
    /// One exchange.
    Exchange,
    /// What was lost.
    Losses,
    /// The keys.
    Help,
}

/// Which exchanges are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// The last that came.
    Latest,
    /// Those that took longest.
    Slowest,
    /// The last that failed.
    Failed,
}

impl List {
    /// All, in the order in which a key goes through them.
    pub const ALL: [List; 3] = [List::Latest, List::Slowest, List::Failed];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            List::Latest => "latest",
            List::Slowest => "slowest",
            List::Failed => "failed",
        }
    }

    /// Its exchanges.
    pub fn of(self, kept: &Kept) -> Vec<Arc<Single>> {
        match self {
            List::Latest => kept.latest().cloned().collect(),
            List::Slowest => kept.slowest().cloned().collect(),
            List::Failed => kept.failed().cloned().collect(),
        }
    }
}

/// What a key asks for that is not done by the screen alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The end.
    Quit,
    /// All from the beginning, with this filter.
    Filter(Option<String>),
}

/// What is on the screen.
#[derive(Debug)]
pub struct Screen {
    /// Of the source.
    pub name: String,
    /// The filter in effect.
    pub filter: Option<String>,
    /// What is typed in, while it is.
    pub input: Option<String>,
    /// What is to be said, until the next key.
    pub message: Option<String>,
    /// Which page.
    pub page: Page,
    /// Where the page was come from, for those that can be opened anywhere.
    before: Page,
    /// Sorted by.
    pub sort: Column,
    /// The other way round.
    pub ascending: bool,
    /// Line of the table that is selected.
    pub selected: usize,
    /// Row of the view (in the order of [`View::rows`]) whose exchanges are shown.
    pub row: usize,
    /// Which of them.
    pub list: List,
    /// Line of the list that is selected.
    pub listed: usize,
    /// The exchange that is shown. It stays, though it may not be kept by the view any more.
    pub single: Option<Arc<Single>>,
    /// Lines of the page that are above what is shown.
    pub scroll: u16,
    /// Colours, or weight alone.
    pub coloured: bool,
}

impl Screen {
    /// The table, by count.
    pub fn new(name: &str, filter: Option<String>, coloured: bool) -> Screen {
        Screen {
            name: name.to_owned(),
            filter,
            input: None,
            message: None,
            page: Page::Operations,
            before: Page::Operations,
            sort: Column::Count,
            ascending: false,
            selected: 0,
            row: 0,
            list: List::Latest,
            listed: 0,
            single: None,
            scroll: 0,
            coloured,
        }
    }

    /// Rows in the order in which they are shown, each with its place in the view.
    pub fn rows<'v>(&self, view: &'v View) -> Vec<(usize, &'v Row)> {
        // Percentiles are put together for each row once, not for each comparison.
        let percentile = match self.sort {
            Column::P50 => Some(0.5),
            Column::P95 => Some(0.95),
            Column::P99 => Some(0.99),
            _ => None,
        };
        let key = |row: &Row| match (self.sort, percentile) {
            (_, Some(share)) => row.latencies().quantile(share).unwrap_or(0),
            (Column::Failed, _) => row.traffic.failures,
            (Column::Bytes, _) => row.traffic.bytes(),
            _ => row.traffic.exchanges,
        };
        let mut rows: Vec<_> = view.rows().enumerate().map(|(place, row)| (key(row), place, row)).collect();
        rows.sort_by(|(one_key, _, one), (other_key, _, other)| {
            let order = match self.sort {
                Column::Protocol => one.protocol.cmp(&other.protocol),
                Column::Server => one.server.cmp(&other.server),
                Column::Operation => one.operation.cmp(&other.operation),
                _ => other_key.cmp(one_key),
            };
            let order = if self.ascending { order.reverse() } else { order };
            order.then(other.traffic.exchanges.cmp(&one.traffic.exchanges))
        });
        rows.into_iter().map(|(_, place, row)| (place, row)).collect()
    }

    /// The exchanges that are listed.
    pub fn listed(&self, view: &View) -> Vec<Arc<Single>> {
        view.rows().nth(self.row).map(|row| self.list.of(&row.kept)).unwrap_or_default()
    }

    /// What a key does.
    pub fn key(&mut self, key: KeyEvent, view: &View) -> Option<Wish> {
        self.message = None;
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return matches!(key.code, KeyCode::Char('c' | 'd')).then_some(Wish::Quit);
        }
        if let Some(input) = self.input.take() {
            return self.type_in(input, key.code);
        }
        match key.code {
            KeyCode::Char('q') => return Some(Wish::Quit),
            KeyCode::Char('?' | 'h') => self.open(Page::Help),
            KeyCode::Char('l') => self.open(Page::Losses),
            KeyCode::Char('/') => self.input = Some(self.filter.clone().unwrap_or_default()),
            KeyCode::Esc | KeyCode::Backspace | KeyCode::Left => self.back(),
            KeyCode::Enter | KeyCode::Right => self.enter(view),
            KeyCode::Char('>' | 's') if self.page == Page::Operations => self.sort_by(1),
            KeyCode::Char('<' | 'S') if self.page == Page::Operations => self.sort_by(Column::ALL.len() - 1),
            KeyCode::Char('r') if self.page == Page::Operations => self.ascending = !self.ascending,
            KeyCode::Tab if self.page == Page::Exchanges => {
                let place = List::ALL.iter().position(|list| *list == self.list).unwrap_or(0);
                (self.list, self.listed) = (List::ALL[(place + 1) % List::ALL.len()], 0);
            }
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::PageDown | KeyCode::Char(' ') => self.go(10),
            KeyCode::PageUp => self.go(-10),
            KeyCode::Home | KeyCode::Char('g') => self.go(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.go(isize::MAX),
            _ => {}
        }
        None
    }

    /// A key while a filter is typed in.
    fn type_in(&mut self, mut input: String, code: KeyCode) -> Option<Wish> {
        match code {
            KeyCode::Esc => return None,
            KeyCode::Enter => {
                let wanted = Some(input.trim()).filter(|text| !text.is_empty());
                if let Some(Err(error)) = wanted.map(Filter::parse) {
                    self.message = Some(format!("column {}: {}", error.column, error.what));
                } else {
                    return Some(Wish::Filter(wanted.map(str::to_owned)));
                }
            }
            KeyCode::Backspace => drop(input.pop()),
            KeyCode::Char(letter) if input.len() < MAX_INPUT => input.push(letter),
            _ => {}
        }
        self.input = Some(input);
        None
    }

    /// The view is another one: nothing of it is selected.
    pub fn start_over(&mut self, filter: Option<String>) {
        self.filter = filter;
        (self.page, self.selected, self.row, self.listed, self.scroll) = (Page::Operations, 0, 0, 0, 0);
        self.single = None;
    }

    fn open(&mut self, page: Page) {
        if matches!(self.page, Page::Help | Page::Losses) {
            self.page = if self.page == page { self.before } else { page };
        } else {
            (self.before, self.page) = (self.page, page);
        }
        self.scroll = 0;
    }

    fn back(&mut self) {
        self.page = match self.page {
            Page::Operations | Page::Exchanges => Page::Operations,
            Page::Exchange => Page::Exchanges,
            Page::Losses | Page::Help => self.before,
        };
        self.scroll = 0;
    }

    fn enter(&mut self, view: &View) {
        match self.page {
            Page::Operations => {
                if let Some(&(place, _)) = self.rows(view).get(self.selected) {
                    (self.row, self.listed, self.page) = (place, 0, Page::Exchanges);
                }
            }
            Page::Exchanges => {
                if let Some(single) = self.listed(view).get(self.listed) {
                    (self.single, self.page, self.scroll) = (Some(Arc::clone(single)), Page::Exchange, 0);
                }
            }
            Page::Exchange | Page::Losses | Page::Help => {}
        }
    }

    fn sort_by(&mut self, step: usize) {
        let place = Column::ALL.iter().position(|column| *column == self.sort).unwrap_or(0);
        (self.sort, self.ascending) = (Column::ALL[(place + step) % Column::ALL.len()], false);
    }

    /// So many lines on. What is beyond the end, drawing brings back.
    fn go(&mut self, lines: isize) {
        match self.page {
            Page::Operations => self.selected = self.selected.saturating_add_signed(lines),
            Page::Exchanges => self.listed = self.listed.saturating_add_signed(lines),
            Page::Exchange | Page::Losses | Page::Help => {
                let lines = lines.clamp(i16::MIN as isize, i16::MAX as isize) as i16;
                self.scroll = self.scroll.saturating_add_signed(lines);
            }
        }
    }
}
