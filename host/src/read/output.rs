//! Events that were read, on standard output.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;

use super::Form;
use super::record::{Known, Record};
use crate::event::{Event, Format};
use crate::publish::{Colour, Lines, PublishError, terminal_columns};

/// Bytes collected before a write.
const WRITE_BUFFER_BYTES: usize = 64 << 10;

/// Standard output and the form of what is written to it.
pub(super) struct Output {
    writer: BufWriter<File>,
    is_terminal: bool,
    form: Encoding,
    /// Reused.
    line: String,
    bytes: Vec<u8>,
}

enum Encoding {
    Text(Lines),
    Encoded(Format),
}

impl Output {
    pub(super) fn open(form: Form, colour: Colour) -> Result<Output, PublishError> {
        // Not std's `Stdout`: that looks for line ends in what it writes.
        let stdout: File = io::stdout().as_fd().try_clone_to_owned().map_err(failure)?.into();
        let is_terminal = stdout.is_terminal();
        let form = match form {
            Form::Text => Encoding::Text(Lines::new(colour, &stdout)),
            Form::Json => Encoding::Encoded(Format::Json),
            Form::Msgpack if is_terminal => return Err(PublishError::BinaryTerminal),
            Form::Msgpack => Encoding::Encoded(Format::Msgpack),
        };
        let writer = BufWriter::with_capacity(WRITE_BUFFER_BYTES, stdout);
        Ok(Output { writer, is_terminal, form, line: String::new(), bytes: Vec::new() })
    }

    /// Writes an event, which was read in a format from these bytes. The outer error: it has no form in the format that is
    /// asked for.
    pub(super) fn show(
        &mut self,
        record: &mut Record,
        read_as: Format,
        bytes: &[u8],
    ) -> Result<Result<(), PublishError>, String> {
        match &mut self.form {
            Encoding::Text(lines) => {
                // Asked each time: windows are resized.
                let columns = self.is_terminal.then(|| terminal_columns(self.writer.get_ref()));
                self.line.clear();
                append_line(lines, &mut self.line, record, columns)?;
                self.line.push('\n');
                Ok(write(&mut self.writer, self.is_terminal, self.line.as_bytes(), b""))
            }
            Encoding::Encoded(format) => {
                let (format, line) = (*format, bytes.trim_ascii());
                let end: &[u8] = if format == Format::Json { b"\n" } else { b"" };
                // As it came in, byte by byte, where that is a line.
                let event = match (read_as == format, format) {
                    (true, Format::Msgpack) => bytes,
                    (true, Format::Json) if !line.contains(&b'\n') => line,
                    _ => {
                        record.encode(format, &mut self.bytes)?;
                        &self.bytes
                    }
                };
                Ok(write(&mut self.writer, self.is_terminal, event, end))
            }
        }
    }

    /// What was shown is to be seen now.
    pub(super) fn flush(&mut self) -> Result<(), PublishError> {
        self.writer.flush().map_err(failure)
    }
}

/// Appends the line of an event, without its end. `columns` of the terminal, if it is one.
pub(super) fn append_line(
    lines: &mut Lines,
    line: &mut String,
    record: &Record,
    columns: Option<usize>,
) -> Result<(), String> {
    match record.known() {
        Some(Known::Exchange(exchange)) => lines.append(line, Event::Exchange(&exchange), columns),
        Some(Known::Connection(event)) => lines.append(line, Event::Connection(&event), columns),
        None => {
            let all = serde_json::to_string(record.fields()).map_err(|error| error.to_string())?;
            lines.append_unknown(line, (record.time(), record.kind(), &all), columns);
        }
    }
    Ok(())
}

/// A person sees an event at once.
fn write(writer: &mut BufWriter<File>, at_once: bool, event: &[u8], end: &[u8]) -> Result<(), PublishError> {
    let written = writer.write_all(event).and_then(|()| writer.write_all(end));
    written.and_then(|()| if at_once { writer.flush() } else { Ok(()) }).map_err(failure)
}

fn failure(source: io::Error) -> PublishError {
    match source.kind() {
        io::ErrorKind::BrokenPipe => PublishError::ReaderGone,
        _ => PublishError::Write { name: "standard output".to_owned(), source },
    }
}
