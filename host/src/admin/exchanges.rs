//! `/exchanges`: events as they are made, one JSON object a line, until the reader goes or podtap ends.
//!
//! ```text
//! {"id":"...","time":"...", ...}        an event, as `--output json` has it
//! {"kind":"lost","events":12}           here so many are missing: the reader is too slow
//! {"kind":"counts","totals":{...},...}  what was counted since podtap was started, a second apart, where that is asked for
//! {"kind":"end","lost":12}              podtap ends; so many were missing in all
//! ```
//!
//! An empty line now and then tells a reader that podtap is there, and podtap that the reader is. The filter is applied
//! here, on the server's thread: what does not match costs whoever decodes no more than what does.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use serde_json::json;
use tokio::time::{Interval, MissedTickBehavior};

use super::{Board, INTERVAL};
use crate::filter::Filter;
use crate::publish::{Chunk, Subscription};

/// Between two signs of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// The body of a response.
pub(super) struct Events {
    subscription: Subscription,
    filter: Option<Filter>,
    /// Lost events that were told.
    told: u64,
    signs: Interval,
    /// Where what was counted is read from, if it is wanted.
    counts: Option<Board>,
    over: bool,
}

impl Events {
    pub(super) fn new(subscription: Subscription, filter: Option<Filter>, counts: Option<Board>) -> Events {
        let mut signs = tokio::time::interval(if counts.is_some() { INTERVAL } else { SIGN_OF_LIFE });
        signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Events { subscription, filter, told: 0, signs, counts, over: false }
    }

    /// A line now and then.
    fn sign_of_life(&self) -> Bytes {
        let Some(board) = &self.counts else { return Bytes::from_static(b"\n") };
        let scrape = board.scrape();
        let named = |counts: &[(&'static str, u64)]| counts.iter().copied().collect::<BTreeMap<_, _>>();
        let report = &scrape.snapshot.report;
        let counts = json!({"kind": "counts", "totals": named(&report.totals), "losses": named(&report.losses)});
        format!("{counts}\n").into()
    }

    /// What matches. Events that the filter cannot be applied to do not.
    fn wanted(&self, chunk: Chunk) -> Bytes {
        let Some(filter) = &self.filter else { return chunk.lines };
        let matches =
            |line: &&[u8]| serde_json::from_slice(line).is_ok_and(|fields| filter.matches(&fields).unwrap_or(false));
        chunk.lines.split_inclusive(|byte| *byte == b'\n').filter(matches).flatten().copied().collect()
    }

    /// The line that says how many are missing here, if any are.
    fn missing(&mut self) -> Vec<u8> {
        let lost = self.subscription.lost();
        let more = lost - std::mem::replace(&mut self.told, lost);
        if more > 0 { format!("{{\"kind\":\"lost\",\"events\":{more}}}\n").into() } else { Vec::new() }
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = |bytes| Poll::Ready(Some(Ok(Frame::data(bytes))));
        if self.over {
            return Poll::Ready(None);
        }
        match self.subscription.poll(context) {
            Poll::Ready(Some(chunk)) => {
                // What is lost is lost behind all that waited when it was.
                let wanted = self.wanted(chunk);
                if !wanted.is_empty() {
                    return frame(wanted);
                }
                // One chunk at a time: others have requests too.
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(None) => {
                self.over = true;
                let mut last = self.missing();
                last.extend(format!("{{\"kind\":\"end\",\"lost\":{}}}\n", self.told).into_bytes());
                frame(last.into())
            }
            // The reader has caught up.
            Poll::Pending => {
                let missing = self.missing();
                if !missing.is_empty() {
                    return frame(missing.into());
                }
                match self.signs.poll_tick(context) {
                    Poll::Ready(_) => {
                        let sign = self.sign_of_life();
                        frame(sign)
                    }
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }
}
