//! What happened on connections, gathered in columns for one call.

use std::net::IpAddr;

use podtap_stream::Endpoint;

use super::bindings::podtap::decoder::types as contract;

const FROM_SERVER: u8 = 128;

/// `lengths` of an end that is none.
const CUT: u32 = 1;

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// Payload.
    Data(&'a [u8]),
    /// So many bytes will never come.
    Gap(u64),
    /// The side will send no more.
    End,
    /// The same, though it has not ended: the connection is over without its FIN.
    Cut,
    /// The connection is over; how, as the contract numbers it (0 finished, 1 reset, 2 no longer tracked).
    Closed(u32),
}

/// Where and when it happened.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The connection's id in the sandbox.
    pub connection: u32,
    /// On the server's side.
    pub from_server: bool,
    /// Capture time, ns since epoch.
    pub time_ns: u64,
    /// Stream position.
    pub position: u64,
}

#[derive(Debug)]
struct Opened {
    id: u32,
    client: (String, u16),
    server: (String, u16),
    midstream: bool,
}

/// Columns for one call of `feed`.
#[derive(Debug, Default)]
pub struct Batch {
    opened: Vec<Opened>,
    connections: Vec<u32>,
    kinds: Vec<u8>,
    times: Vec<u64>,
    positions: Vec<u64>,
    lengths: Vec<u32>,
    data: Vec<u8>,
}

impl Batch {
    /// The connection is spoken of for the first time.
    pub fn open(&mut self, id: u32, client: Endpoint, server: Endpoint, midstream: bool) {
        let text = |end: Endpoint| {
            let address = match end.address {
                IpAddr::V4(address) => address.to_string(),
                IpAddr::V6(address) => address.to_string(),
            };
            (address, end.port)
        };
        self.opened.push(Opened { id, client: text(client), server: text(server), midstream });
    }

    /// Adds an entry.
    pub fn push(&mut self, place: Place, entry: Entry<'_>) {
        match entry {
            Entry::Data(bytes) => {
                self.data.extend_from_slice(bytes);
                self.row(place, 0, place.position, bytes.len() as u32);
            }
            Entry::Gap(length) => {
                // Longer than the column holds: several entries.
                let (mut position, mut left) = (place.position, length);
                while left > 0 {
                    let piece = u32::try_from(left).unwrap_or(u32::MAX);
                    self.row(place, 1, position, piece);
                    position += u64::from(piece);
                    left -= u64::from(piece);
                }
            }
            Entry::End => self.row(place, 2, place.position, 0),
            Entry::Cut => self.row(place, 2, place.position, CUT),
            Entry::Closed(how) => self.row(Place { from_server: false, ..place }, 3, 0, how),
        }
    }

    fn row(&mut self, place: Place, kind: u8, position: u64, length: u32) {
        self.connections.push(place.connection);
        self.kinds.push(if place.from_server { kind | FROM_SERVER } else { kind });
        self.times.push(place.time_ns);
        self.positions.push(position);
        self.lengths.push(length);
    }

    /// Takes back every `open`, and gives the connections that the batch speaks of, with repetitions.
    pub(super) fn forget_opened(&mut self) -> Vec<u32> {
        self.opened.clear();
        self.connections.clone()
    }

    /// Capture time of the last entry; 0 where there is none.
    pub(super) fn last_time_ns(&self) -> u64 {
        self.times.last().copied().unwrap_or(0)
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Nothing to say.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.opened.is_empty()
    }

    /// Bytes of payload.
    pub fn data_len(&self) -> usize {
        self.data.len()
    }

    /// Empties it, with its memory kept.
    pub fn clear(&mut self) {
        self.opened.clear();
        self.connections.clear();
        self.kinds.clear();
        self.times.clear();
        self.positions.clear();
        self.lengths.clear();
        self.data.clear();
    }

    /// The entries one by one, as they were pushed, with their connection's `open` not included.
    pub fn entries(&self) -> impl Iterator<Item = (Place, Entry<'_>)> {
        let mut data = self.data.as_slice();
        (0..self.len()).map(move |index| {
            let kind = self.kinds[index];
            let (position, length) = (self.positions[index], self.lengths[index]);
            let place = Place {
                connection: self.connections[index],
                from_server: kind & FROM_SERVER != 0,
                time_ns: self.times[index],
                position,
            };
            let entry = match kind & !FROM_SERVER {
                0 => {
                    let (bytes, rest) = data.split_at(length as usize);
                    data = rest;
                    Entry::Data(bytes)
                }
                1 => Entry::Gap(length.into()),
                2 if length == CUT => Entry::Cut,
                2 => Entry::End,
                _ => Entry::Closed(length),
            };
            (place, entry)
        })
    }

    /// Calls `call` with the columns as the contract has them.
    pub(super) fn with_contract<R>(&self, call: impl FnOnce(contract::Batch<'_>) -> R) -> R {
        let opened: Vec<_> = self
            .opened
            .iter()
            .map(|opened| contract::OpenedConnection {
                id: opened.id,
                client_address: &opened.client.0,
                client_port: opened.client.1,
                server_address: &opened.server.0,
                server_port: opened.server.1,
                midstream: opened.midstream,
            })
            .collect();
        call(contract::Batch {
            opened: &opened,
            connections: &self.connections,
            kinds: &self.kinds,
            times: &self.times,
            positions: &self.positions,
            lengths: &self.lengths,
            data: &self.data,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_they_were_pushed() {
        let place = |connection, position| Place { connection, from_server: connection == 1, time_ns: 5, position };
        let mut batch = Batch::default();
        batch.push(place(0, 7), Entry::Data(b"abc"));
        batch.push(place(1, 0), Entry::Gap(u64::from(u32::MAX) + 2));
        batch.push(place(1, 9), Entry::Data(b"d"));
        batch.push(place(1, 10), Entry::End);
        batch.push(place(0, 10), Entry::Cut);
        batch.push(place(1, 3), Entry::Closed(1));
        let shown: Vec<_> = batch
            .entries()
            .map(|(place, entry)| format!("{} {} {entry:?}", place.from_server, place.position))
            .collect();
        assert_eq!(
            shown,
            [
                "false 7 Data([97, 98, 99])",
                "true 0 Gap(4294967295)",
                "true 4294967295 Gap(2)",
                "true 9 Data([100])",
                "true 10 End",
                "false 10 Cut",
                "false 0 Closed(1)",
            ]
        );
    }
}
