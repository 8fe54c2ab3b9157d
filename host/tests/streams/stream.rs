//! What a connection carried, and how two accounts of it differ.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

/// What one side sent, as far as the capture has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stream {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Bytes(Vec<u8>),
    Gap(u64),
}

impl Stream {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        match self.pieces.last_mut() {
            Some(Piece::Bytes(last)) => last.extend_from_slice(bytes),
            _ if bytes.is_empty() => {}
            _ => self.pieces.push(Piece::Bytes(bytes.to_vec())),
        }
    }

    pub(crate) fn push_gap(&mut self, length: u64) {
        match self.pieces.last_mut() {
            Some(Piece::Gap(last)) => *last += length,
            _ => self.pieces.push(Piece::Gap(length)),
        }
    }

    /// Bytes that the capture has.
    pub(crate) fn captured(&self) -> u64 {
        self.pieces.iter().map(|piece| if let Piece::Bytes(bytes) = piece { bytes.len() as u64 } else { 0 }).sum()
    }

    /// Bytes that it has not.
    pub(crate) fn missing(&self) -> u64 {
        self.pieces.iter().map(|piece| if let Piece::Gap(length) = piece { *length } else { 0 }).sum()
    }

    /// In which way another stream differs whose pieces are as long as ours.
    fn conflict(&self, other: &Stream) -> String {
        let (mut position, mut count, mut first) = (0, 0, None);
        for pair in self.pieces.iter().zip(&other.pieces) {
            match pair {
                (Piece::Bytes(ours), Piece::Bytes(theirs)) if ours.len() == theirs.len() => {
                    for (our, their) in ours.iter().zip(theirs) {
                        if our != their {
                            count += 1;
                            first = first.or(Some(position));
                        }
                        position += 1;
                    }
                }
                (Piece::Gap(ours), Piece::Gap(theirs)) if ours == theirs => position += ours,
                _ => return format!("other pieces from {position}"),
            }
        }
        format!("{count} bytes not the same, from {}", first.unwrap_or(position))
    }
}

/// The lengths of the pieces, those of gaps in brackets; of a long stream only the start.
impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        for (index, piece) in self.pieces.iter().take(SHOWN).enumerate() {
            let space = if index > 0 { " " } else { "" };
            match piece {
                Piece::Bytes(bytes) => write!(f, "{space}{}", bytes.len())?,
                Piece::Gap(length) => write!(f, "{space}[{length}]")?,
            }
        }
        if self.pieces.len() > SHOWN {
            write!(f, " ... {} [{}]", self.captured(), self.missing())?;
        }
        if self.pieces.is_empty() { f.write_str("0") } else { Ok(()) }
    }
}

/// A connection that carried something.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    /// The ends, the smaller address first.
    pub(crate) ends: [SocketAddr; 2],
    /// What each of them sent.
    pub(crate) streams: [Stream; 2],
}

impl Connection {
    /// A connection of which nothing is known yet, and at which index each of the ends given is.
    pub(crate) fn new(first: SocketAddr, second: SocketAddr) -> (Connection, [usize; 2]) {
        let turned = second < first;
        let ends = if turned { [second, first] } else { [first, second] };
        (Connection { ends, streams: Default::default() }, if turned { [1, 0] } else { [0, 1] })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.streams.iter().all(|stream| stream.pieces.is_empty())
    }
}

/// Two accounts of the same stream.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    /// The capture, by its path within the folder.
    pub(crate) file: String,
    /// The ends and which of their connections; sender first where it is of one direction.
    pub(crate) stream: String,
    /// What podtap has.
    pub(crate) podtap: String,
    /// What the other tool has.
    pub(crate) other: String,
}

/// As it stands in a list.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { file, stream, podtap, other } = self;
        write!(f, "Known({file:?}, {stream:?}, {podtap:?}, {other:?}),")
    }
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Compared {
    pub(crate) connections: u64,
    /// Directions with something in them.
    pub(crate) directions: u64,
    pub(crate) equal: u64,
    pub(crate) equal_bytes: u64,
    pub(crate) equal_gaps: u64,
}

impl std::ops::AddAssign for Compared {
    fn add_assign(&mut self, other: Compared) {
        self.connections += other.connections;
        self.directions += other.directions;
        self.equal += other.equal;
        self.equal_bytes += other.equal_bytes;
        self.equal_gaps += other.equal_gaps;
    }
}

/// Compares two accounts of a capture: per pair of ends, connection by connection in their order.
pub(crate) fn compare(
    file: &str,
    podtap: Vec<Connection>,
    other: Vec<Connection>,
    differences: &mut Vec<Difference>,
) -> Compared {
    let mut compared = Compared::default();
    let mut pairs: BTreeMap<[SocketAddr; 2], [Vec<Connection>; 2]> = BTreeMap::new();
    for (index, connections) in [podtap, other].into_iter().enumerate() {
        for connection in connections.into_iter().filter(|connection| !connection.is_empty()) {
            pairs.entry(connection.ends).or_default()[index].push(connection);
        }
    }
    for ([a, b], [podtap, other]) in pairs {
        compared.connections += podtap.len().max(other.len()) as u64;
        if podtap.len() != other.len() {
            // Which is which cannot be told: all of them, both directions of each.
            let all = |connections: &[Connection]| {
                let shapes: Vec<_> =
                    connections.iter().map(|c| format!("{}, {}", c.streams[0], c.streams[1])).collect();
                shapes.join("; ")
            };
            compared.directions += 2 * podtap.len().max(other.len()) as u64;
            let (podtap, other) = (all(&podtap), all(&other));
            differences.push(Difference { file: file.to_owned(), stream: format!("{a} - {b}"), podtap, other });
            continue;
        }
        for (count, (podtap, other)) in podtap.iter().zip(&other).enumerate() {
            let nth = if count == 0 { String::new() } else { format!(" #{}", count + 1) };
            for (index, arrow) in [(0, format!("{a} > {b}{nth}")), (1, format!("{b} > {a}{nth}"))] {
                let (ours, theirs) = (&podtap.streams[index], &other.streams[index]);
                compared.directions += u64::from(ours.pieces.len() + theirs.pieces.len() > 0);
                if ours == theirs {
                    compared.equal += u64::from(!ours.pieces.is_empty());
                    compared.equal_bytes += ours.captured();
                    compared.equal_gaps += ours.pieces.iter().filter(|p| matches!(p, Piece::Gap(_))).count() as u64;
                    continue;
                }
                let mut other = theirs.to_string();
                if ours.to_string() == other {
                    other = format!("{other}, {}", ours.conflict(theirs));
                }
                differences.push(Difference { file: file.to_owned(), stream: arrow, podtap: ours.to_string(), other });
            }
        }
    }
    compared
}
