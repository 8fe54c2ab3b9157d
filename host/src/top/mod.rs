//! `podtap top`: a view on a terminal, live.
//!
//! A thread fills a view from a feed (see `feed`); here it is drawn some times a second, and keys are answered. The terminal is
//! left as it was found, at the end, after a signal and after a panic.

mod draw;
mod feed;
mod screen;

use std::io;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

pub use draw::{Status, draw};
pub use feed::{Feed, Feeding, Progress, Source};
pub use screen::{Column, List, Page, Screen, Wish};

use crate::stop::Stop;

/// Between two drawings while nobody presses a key.
const REDRAW: Duration = Duration::from_millis(200);

/// Shows a feed until the end is asked for. Returns what could not be read, a line each.
///
/// # Errors
/// The terminal's.
pub fn run(feed: &Feed, mut screen: Screen, stop: &Stop) -> io::Result<Vec<String>> {
    let mut feeding = feed.start(screen.filter.as_deref())?;
    // It puts the terminal back also where the program panics.
    let mut terminal = ratatui::try_init()?;
    let shown = show(&mut terminal, feed, &mut feeding, &mut screen, stop);
    ratatui::restore();
    feeding.stop();
    shown?;
    let mut problems = feeding.problems();
    if let Progress::Failed(error) = feeding.progress() {
        problems.push(error);
    }
    Ok(problems)
}

fn show(
    terminal: &mut DefaultTerminal,
    feed: &Feed,
    feeding: &mut Feeding,
    screen: &mut Screen,
    stop: &Stop,
) -> io::Result<()> {
    while !stop.is_requested() {
        let (progress, problems) = (feeding.progress(), feeding.problems());
        let status = Status { progress: &progress, problems: &problems };
        terminal.draw(|frame| draw(frame, screen, &feeding.view.lock(), status))?;
        if !event::poll(REDRAW)? {
            continue;
        }
        // All that is there at once, so that a key held down does not wait for drawings.
        while event::poll(Duration::ZERO)? {
            let Event::Key(key) = event::read()? else { continue };
            if key.kind == KeyEventKind::Release {
                continue;
            }
            let wish = screen.key(key, &feeding.view.lock());
            match wish {
                None => {}
                Some(Wish::Quit) => return Ok(()),
                Some(Wish::Filter(filter)) if feed.is_repeatable() => {
                    feeding.stop();
                    *feeding = feed.start(filter.as_deref())?;
                    screen.start_over(filter);
                }
                Some(Wish::Filter(_)) => {
                    screen.message =
                        Some("standard input cannot be read again; start with --filter instead".to_owned());
                }
            }
        }
    }
    Ok(())
}
