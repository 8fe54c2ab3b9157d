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

    /// To standard output.
    pub(crate) fn to_stdout(format: Format) -> Result<EventStream, PublishError> {
        let sink = Sink::stdout()?;
        if format == Format::Msgpack && sink.is_terminal {
            return Err(PublishError::BinaryTerminal);
        }
        Ok(EventStream::new(sink, format))
    }

    /// Of what is written.
    pub(crate) fn format(&self) -> Format {
        self.encoder.format()
    }

    /// Writes an event that is encoded already.
    pub(crate) fn write_encoded(&mut self, event: &[u8]) -> Result<(), PublishError> {
        write(&mut self.sink, self.encoder.format(), event)
    }
}

impl Output for EventStream {
    fn publish(&mut self, event: Event<'_>) -> Result<(), PublishError> {
        let format = self.encoder.format();
        write(&mut self.sink, format, self.encoder.encode(event)?)
    }

    fn flush(&mut self) -> Result<(), PublishError> {
        self.sink.flush()
    }

    fn finish(&mut self) -> Result<Delivery, PublishError> {
        self.sink.finish()
    }
}

fn write(sink: &mut Sink, format: Format, event: &[u8]) -> Result<(), PublishError> {
    sink.write(event)?;
    if format == Format::Json {
        sink.write(b"\n")?;
    }
    sink.end_event()
}
