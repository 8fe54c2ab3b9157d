//! Events one after the other, for programs: JSON Lines, or MessagePack maps without anything between them.

use super::{Delivery, Output, PublishError, Sink};
use crate::event::{Encoder, Event, Format};

/// Writes events to a file or standard output.
pub struct EventStream {
    sink: Sink,
    encoder: Encoder,
}

impl EventStream {
    pub(crate) fn new(sink: Sink, format: Format) -> EventStream {
        EventStream { sink, encoder: Encoder::new(format) }
    }
}

impl Output for EventStream {
    fn publish(&mut self, event: Event<'_>) -> Result<(), PublishError> {
        let bytes = self.encoder.encode(event)?;
        self.sink.write(bytes)?;
        if self.encoder.format() == Format::Json {
            self.sink.write(b"\n")?;
        }
        self.sink.end_event()
    }

    fn flush(&mut self) -> Result<(), PublishError> {
        self.sink.flush()
    }

    fn finish(&mut self) -> Result<Delivery, PublishError> {
        self.sink.finish()
    }
}
