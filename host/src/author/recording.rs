//! What a capture holds of its connections: payload in order, gaps and ends, as podtap's stream engine tells them.
//!
//! In: a capture file. Out: everything that happened, kept in memory, of at most [`MAX_PAYLOAD`] bytes. Never: a decoder.

use std::path::Path;

use podtap_stream::{
    Chunk, CloseReason, Closed, Connection, ConnectionId, Engine, Gap, Limits, LinkType, Packet, Side, Sink,
};

use crate::capture::{CaptureError, CaptureFile};

/// The payload of a capture that is used for tests, bytes.
const MAX_PAYLOAD: usize = 16 << 20;

/// A capture that cannot be used for tests.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It cannot be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// It is too long to be kept.
    #[error(
        "has more than {MAX_PAYLOAD} bytes of payload: take a shorter capture, or a part of this one (`editcap -c`)"
    )]
    TooLong,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A side sent bytes, from this position on.
    Data(Side, u64, Vec<u8>),
    /// Bytes of a side are missing, from this position on.
    Gap(Side, u64, u64),
    /// A side will send no more.
    End(Side, u64),
    /// The connection is over.
    Closed(CloseReason),
}

/// Something that happened on a connection.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Index of the connection.
    pub connection: usize,
    /// Capture time, ns since epoch.
    pub time_ns: u64,
    /// What.
    pub happening: Happening,
}

/// The connections of a capture that carried payload.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// In the order of their first payload.
    pub connections: Vec<Connection>,
    /// In capture order.
    pub recorded: Vec<Recorded>,
    payload_bytes: usize,
}

impl Recording {
    /// Reads a capture file.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn read(path: &Path) -> Result<Recording, RecordingError> {
        let (mut recording, mut engine) = (Recording::default(), Engine::new(Limits::default()));
        let mut file = CaptureFile::open(path)?;
        while let Some(record) = file.next_record()? {
            let link_type = LinkType::from_number(record.link_type);
            let packet =
                Packet { link_type, time_ns: record.time_ns, data: record.data, original_len: record.original_len };
            engine.packet(&packet, &mut recording);
            if recording.payload_bytes > MAX_PAYLOAD {
                return Err(RecordingError::TooLong);
            }
        }
        engine.finish(&mut recording);
        Ok(recording)
    }

    fn note(&mut self, id: ConnectionId, time_ns: u64, happening: Happening) {
        // The last one: the engine uses an index again, with another generation.
        if let Some(connection) = self.connections.iter().rposition(|connection| connection.id == id) {
            self.recorded.push(Recorded { connection, time_ns, happening });
        }
    }
}

impl Sink for Recording {
    fn opened(&mut self, connection: &Connection) {
        self.connections.push(*connection);
    }

    fn data(&mut self, connection: ConnectionId, side: Side, chunk: Chunk<'_>) {
        self.payload_bytes += chunk.bytes.len();
        self.note(connection, chunk.time_ns, Happening::Data(side, chunk.position, chunk.bytes.to_vec()));
    }

    fn gap(&mut self, connection: ConnectionId, side: Side, gap: Gap) {
        self.note(connection, gap.time_ns, Happening::Gap(side, gap.position, gap.length));
    }

    fn end(&mut self, connection: ConnectionId, side: Side, position: u64, time_ns: u64) {
        self.note(connection, time_ns, Happening::End(side, position));
    }

    fn closed(&mut self, connection: &Connection, closed: &Closed) {
        self.note(connection.id, closed.time_ns, Happening::Closed(closed.reason));
    }
}
