//! Events of a podtap that is running, as they are made: `GET /exchanges` of its admin server.
//!
//! In comes an address; out go the lines of the stream, of which each is an event or says how many are missing. Nothing
//! is changed in the agent; events from before the connection are not seen.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use serde::Deserialize;

use super::frames::Frames;
use super::{FrameError, ReadError, Reading};
use crate::admin;
use crate::event::Format;
use crate::pipeline::Report;

/// For the connection, and for the head of the answer.
const CONNECT: Duration = Duration::from_secs(10);
/// What is read of an answer that says why not.
const MAX_REFUSAL_BYTES: u64 = 4096;

/// A podtap that is running.
#[derive(Clone, Debug)]
pub struct Agent<'a> {
    /// Of its admin server: `http://127.0.0.1:19464`.
    pub url: &'a str,
    /// Only events that match, in CEL.
    pub filter: Option<&'a str>,
    /// What it has counted, too, about once a second.
    pub counts: bool,
}

/// The agent cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Nobody answers.
    #[error("{url}: {reason}; is podtap running there, with admin.listen set?")]
    Unreachable {
        /// As given.
        url: String,
        /// Why.
        reason: String,
    },
    /// It answers with something else than events.
    #[error("{url}: {reason}")]
    Refused {
        /// As given.
        url: String,
        /// Its words.
        reason: String,
    },
    /// The stream cannot be read on.
    #[error("{url}: the stream broke off: {error}")]
    Broken {
        /// As given.
        url: String,
        /// Why.
        error: FrameError,
    },
}

/// A line of the stream.
#[derive(Debug)]
pub enum Line<'b> {
    /// An event in JSON.
    Event(&'b [u8]),
    /// So many are missing here, because they were not read quickly enough.
    Lost(u64),
    /// What was counted since it was started, as far as the counts are known here.
    Counts(Report),
}

/// Events as they come.
pub struct Stream {
    url: String,
    frames: Frames<Box<dyn Read + Send>>,
    /// The agent said that it ends.
    ended: bool,
}

/// What is no event.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Notice {
    Lost { events: u64 },
    Counts { totals: BTreeMap<String, u64>, losses: BTreeMap<String, u64> },
    End,
}

/// Counts that are known here.
fn known(counts: BTreeMap<String, u64>) -> Vec<(&'static str, u64)> {
    counts.into_iter().filter_map(|(name, count)| Some((admin::known_count(&name)?, count))).collect()
}

impl Agent<'_> {
    /// Connects. Events come from then on.
    ///
    /// # Errors
    /// When there is no such agent, or it gives no events.
    pub fn connect(&self) -> Result<Stream, AgentError> {
        let url = format!("{}/exchanges", self.url.trim_end_matches('/'));
        let config = ureq::config::Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(CONNECT))
            .build();
        let mut request = ureq::Agent::new_with_config(config).get(&url);
        if let Some(filter) = self.filter {
            request = request.query("filter", filter);
        }
        if self.counts {
            request = request.query("counts", "true");
        }
        let unreachable = |error: ureq::Error| AgentError::Unreachable { url: url.clone(), reason: error.to_string() };
        let mut response = request.call().map_err(unreachable)?;
        if response.status() != 200 {
            let body = response.body_mut().with_config().limit(MAX_REFUSAL_BYTES).read_to_string().unwrap_or_default();
            let said = if body.trim().is_empty() { response.status().to_string() } else { body.trim().to_owned() };
            return Err(AgentError::Refused { url, reason: said });
        }
        let body: Box<dyn Read + Send> = Box::new(response.into_body().into_reader());
        Ok(Stream { url, frames: Frames::new(body), ended: false })
    }

    /// Reads to the end of the agent, or to the count.
    pub(super) fn read(&self, reading: &mut Reading<'_>) -> Result<(), ReadError> {
        let mut stream = self.connect()?;
        loop {
            if !stream.has_more_at_hand() {
                reading.pause()?;
            }
            let Some(line) = stream.next()? else { return Ok(()) };
            match line {
                Line::Lost(events) => {
                    reading.counts.lost += events;
                    reading.receiver.lost(events);
                }
                Line::Counts(report) => reading.receiver.counted(report),
                Line::Event(bytes) => {
                    let place = |at: usize| format!("{}: byte {at} of an event", self.url);
                    if reading.take(Some(Format::Json), bytes, place)?.is_break() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

impl Stream {
    /// Is a line, or a part of one, there without waiting?
    pub fn has_more_at_hand(&self) -> bool {
        self.frames.has_more_at_hand()
    }

    /// The next line; none when the agent has ended.
    ///
    /// # Errors
    /// When the connection breaks off.
    #[allow(clippy::should_implement_trait)] // A line borrows from the stream.
    pub fn next(&mut self) -> Result<Option<Line<'_>>, AgentError> {
        let broken = |error| AgentError::Broken { url: self.url.clone(), error };
        let Some(frame) = self.frames.next().map_err(broken)? else {
            return match self.ended {
                true => Ok(None),
                false => Err(AgentError::Broken {
                    url: self.url.clone(),
                    error: FrameError::Io(std::io::ErrorKind::UnexpectedEof.into()),
                }),
            };
        };
        // Events have an `id`, and notices have none.
        Ok(Some(match serde_json::from_slice(frame.bytes) {
            Ok(Notice::Lost { events }) => Line::Lost(events),
            Ok(Notice::Counts { totals, losses }) => {
                Line::Counts(Report { totals: known(totals), losses: known(losses), problems: Vec::new() })
            }
            Ok(Notice::End) => {
                self.ended = true;
                return Ok(None);
            }
            Err(_) => Line::Event(frame.bytes),
        }))
    }
}
