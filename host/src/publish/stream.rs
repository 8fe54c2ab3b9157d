//! Events one after the other, for programs: JSON Lines, or MessagePack maps without anything between them.

use std::sync::Arc;

use super::{Delivery, Output, PublishError, Sink, Watched};
use crate::event::{self, Event, Format};

/// Writes events to a file or standard output.
pub struct EventStream {
    sink: Sink,
    format: Format,
}

impl EventStream {
    pub(crate) fn new(sink: Sink, format: Format) -> EventStream {
        EventStream { sink, format }
    }
}

impl Output for EventStream {
    fn publish(&mut self, event: Event<'_>) -> Result<(), PublishError> {
        let bytes = self.sink.bytes();
        let before = bytes.len();
        if let Err(error) = event::append(self.format, event, bytes) {
            bytes.truncate(before);
            return Err(error.into());
        }
        if self.format == Format::Json {
            bytes.push(b'\n');
        }
        self.sink.end_event()
    }

    fn flush(&mut self) -> Result<(), PublishError> {
        self.sink.flush()
    }

    fn finish(&mut self) -> Result<Delivery, PublishError> {
        self.sink.finish()
    }

    fn branch(&self) -> Option<Box<dyn Output>> {
        Some(Box::new(EventStream { sink: self.sink.branch(), format: self.format }))
    }

    fn watched(&self) -> Option<Arc<dyn Watched>> {
        Some(self.sink.watched())
    }
}
