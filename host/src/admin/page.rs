//! `GET /`: what is seen now, for a browser.
//!
//! It is the page of `podtap report`, of what came since somebody began to look, and it renews itself. While nobody looks,
//! nothing is kept for it and nothing spent. Events come as to any other reader (see `exchanges`), and are taken into a
//! view on the server's thread: when there are too many for it, some are left out, and the page says how many.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Board, lock};
use crate::event::Format;
use crate::filter::Filter;
use crate::publish::{Chunk, Refused, Subscription};
use crate::read::Record;
use crate::report::{Live, Page};
use crate::view::{Shared, View};

/// The script that renews the page.
pub(super) const SCRIPT: &str = include_str!("../report/live.js");

/// When nobody has looked for so long, nobody looks any more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Pages with different filters at once: each has a view of its own.
pub(crate) const MAX_PAGES: usize = 2;

/// What is looked at, by filter.
#[derive(Default)]
pub(super) struct Pages(Mutex<HashMap<String, Arc<Watch>>>);

/// What came since somebody began to look.
struct Watch {
    view: Shared,
    looked: Mutex<Instant>,
}

impl Board {
    /// The page of events that match; an empty filter is none.
    pub(super) fn page(&self, filter: &str) -> Result<String, Refused> {
        let parsed = if filter.is_empty() { Ok(None) } else { Filter::parse(filter).map(Some) };
        let (watch, problem) = match parsed {
            Ok(parsed) => (self.watched(filter, parsed)?, None),
            Err(error) => (Arc::new(Watch::new()), Some(format!("filter: {error}"))),
        };
        let report = self.scrape().snapshot.report.clone();
        let mut view = watch.view.lock();
        view.set_report(report);
        let names = [self.0.name.clone()];
        let problems: Vec<_> = problem.into_iter().collect();
        Ok(Page { names: &names, view: &view, problems: &problems, live: Some(Live { filter }) }.html())
    }

    /// What is there of events that match, or a beginning.
    fn watched(&self, text: &str, filter: Option<Filter>) -> Result<Arc<Watch>, Refused> {
        let mut pages = lock(&self.0.pages.0);
        if let Some(watch) = pages.get(text) {
            *lock(&watch.looked) = Instant::now();
            return Ok(Arc::clone(watch));
        }
        if pages.len() >= MAX_PAGES {
            return Err(Refused::TooMany);
        }
        let subscription = self.subscribe()?;
        let watch = Arc::new(Watch::new());
        pages.insert(text.to_owned(), Arc::clone(&watch));
        let (board, text, filled) = (self.clone(), text.to_owned(), Arc::clone(&watch));
        tokio::spawn(async move {
            filled.fill(subscription, filter).await;
            lock(&board.0.pages.0).remove(&text);
        });
        Ok(watch)
    }
}

impl Watch {
    fn new() -> Watch {
        Watch { view: Shared::default(), looked: Mutex::new(Instant::now()) }
    }

    /// Takes events in until nobody looks any more, or none come.
    async fn fill(&self, mut subscription: Subscription, filter: Option<Filter>) {
        loop {
            let left = PATIENCE.saturating_sub(lock(&self.looked).elapsed());
            if left.is_zero() {
                return;
            }
            let next = poll_fn(|context| subscription.poll(context));
            match tokio::time::timeout(left, next).await {
                Ok(Some(chunk)) => {
                    let mut view = self.view.lock();
                    take(&mut view, &chunk, filter.as_ref());
                    view.left_out().missed = subscription.lost();
                }
                Ok(None) => return,
                Err(_) => {}
            }
            // One chunk at a time: others have requests too.
            tokio::task::yield_now().await;
        }
    }
}

fn take(view: &mut View, chunk: &Chunk, filter: Option<&Filter>) {
    for line in chunk.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Ok(record) = Record::decode(Format::Json, line) else {
            view.left_out().unreadable += 1;
            continue;
        };
        match filter.map_or(Ok(true), |filter| filter.matches(record.fields())) {
            Ok(true) => view.record_read(&record),
            Ok(false) => {}
            Err(_) => view.left_out().unfiltered += 1,
        }
    }
}
