//! What the dispatcher knows of a connection, under the id that plugins see.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use podtap_stream::{Closed, Connection, ConnectionId, Endpoint, OpenedBy, Side};

use super::batch::Place;
use crate::event::ConnectionIdentity;

/// A connection between its first payload and the report of its last exchange.
#[derive(Debug)]
pub struct Tracked {
    pub(super) stream: ConnectionId,
    pub(super) a: Endpoint,
    pub(super) b: Endpoint,
    /// Which side is the client; none while nobody knows.
    pub(super) client: Option<Side>,
    pub(super) state: State,
    /// Bytes went by before those that the decoder sees.
    pub midstream: bool,
    /// Capture time of the first packet, ns since epoch.
    pub start_ns: u64,
    /// It is podtap's own: its end is not told.
    pub(super) untold: bool,
    /// The engine has told its end.
    pub(super) over: bool,
    /// Who has its place since its plugin handed it over.
    pub(super) successor: Option<u32>,
    shared: Rc<Shared>,
    identity: Option<Box<ConnectionIdentity>>,
}

/// What is of the whole connection, whatever protocols follow each other on it.
#[derive(Debug, Default)]
struct Shared {
    /// Number of the next exchange.
    next_exchange: Cell<u32>,
    claim: RefCell<Option<Claim>>,
    /// Times that it was handed over.
    hand_overs: Cell<u32>,
    /// Where someone asks for it.
    end: RefCell<Option<Box<Ended>>>,
}

/// The protocol that a plugin found on a connection last; none where that is open yet.
type Claim = Option<Rc<str>>;

/// A connection that is over, and of which all exchanges were reported.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its ends.
    pub connection: Connection,
    /// Why it is over, and what was seen of it.
    pub closed: Closed,
    /// Which side is the client; none where nobody knew.
    pub client: Option<Side>,
    /// Exchanges reported; none where no plugin claimed it.
    pub exchanges: Option<u32>,
    /// The protocol that was found last, where one was.
    pub protocol: Option<Rc<str>>,
}

impl Ended {
    /// A connection that no plugin claimed.
    pub(super) fn new(connection: &Connection, closed: &Closed) -> Ended {
        let client = (connection.opened_by == OpenedBy::Handshake).then_some(Side::A);
        Ended { connection: *connection, closed: *closed, client, exchanges: None, protocol: None }
    }
}

#[derive(Debug)]
pub(super) enum State {
    /// Nobody has claimed it yet.
    Detecting(Option<Box<Detecting>>),
    /// Its payload goes to the instance of this lane, which was told of it (`opened`) or will be.
    Decoding { lane: usize, opened: bool },
    /// Of no interest; or failed, where its plugin did.
    Ignored { failed: bool },
}

/// Side, capture time, stream position and length of a piece of payload.
pub(super) type Piece = (Side, u64, u64, usize);

/// What waits for a verdict.
#[derive(Debug, Default)]
pub(super) struct Detecting {
    /// What each side sent, A first.
    pub(super) heads: [Vec<u8>; 2],
    /// In capture order.
    pub(super) pieces: Vec<Piece>,
    /// Position and time of the end of each side.
    pub(super) ends: [Option<(u64, u64)>; 2],
    /// Bit n: plugin n said no.
    pub(super) refused: u64,
    /// Times that detection began anew on a connection seen from its middle.
    pub(super) attempts: u32,
}

impl Tracked {
    pub(super) fn new(connection: &Connection) -> Tracked {
        let handshake = connection.opened_by == OpenedBy::Handshake;
        Tracked {
            stream: connection.id,
            a: connection.a,
            b: connection.b,
            client: handshake.then_some(Side::A),
            state: State::Detecting(None),
            midstream: !handshake,
            start_ns: connection.start_ns,
            untold: false,
            over: false,
            successor: None,
            shared: Rc::default(),
            identity: None,
        }
    }

    /// The connection as a new one behind a change of protocol.
    pub(super) fn handed_over(&self) -> Tracked {
        self.shared.hand_overs.set(self.shared.hand_overs.get().saturating_add(1));
        Tracked {
            state: State::Detecting(None),
            over: false,
            successor: None,
            identity: self.identity.clone(),
            shared: Rc::clone(&self.shared),
            ..*self
        }
    }

    /// Times that it was handed over.
    pub(super) fn hand_overs(&self) -> u32 {
        self.shared.hand_overs.get()
    }

    /// The number of an exchange that is being reported, from 0.
    pub fn number_exchange(&self) -> u32 {
        let number = self.shared.next_exchange.get();
        self.shared.next_exchange.set(number.wrapping_add(1));
        number
    }

    /// A plugin took it, or found an exchange of this protocol.
    pub(super) fn note_claim(&self, protocol: Option<&Rc<str>>) {
        let mut claim = self.shared.claim.borrow_mut();
        // An exchange mostly is of the protocol of the one before.
        let same = |known: &Rc<str>| protocol.is_some_and(|protocol| Rc::ptr_eq(known, protocol));
        if !matches!(&*claim, Some(Some(known)) if same(known)) {
            *claim = Some(protocol.cloned());
        }
    }

    /// The engine told its end.
    pub(super) fn note_end(&self, connection: &Connection, closed: &Closed) {
        let ended = Ended { client: self.client, ..Ended::new(connection, closed) };
        *self.shared.end.borrow_mut() = Some(Box::new(ended));
    }

    /// Its end, where it was noted and this is the last that was left of the connection.
    pub(super) fn into_ended(self) -> Option<Ended> {
        let Shared { next_exchange, claim, end, .. } = Rc::into_inner(self.shared)?;
        let claim = claim.into_inner();
        let exchanges = claim.as_ref().map(|_| next_exchange.get());
        end.into_inner().map(|end| Ended { exchanges, protocol: claim.flatten(), ..*end })
    }

    /// The client's address; side A's where nobody knows who is the client.
    pub fn client(&self) -> Endpoint {
        self.end(false)
    }

    /// The server's address.
    pub fn server(&self) -> Endpoint {
        self.end(true)
    }

    fn end(&self, of_server: bool) -> Endpoint {
        match self.side(of_server) {
            Side::A => self.a,
            Side::B => self.b,
        }
    }

    /// Its names, made when first asked for.
    pub fn identity(&mut self, agent: &str) -> &ConnectionIdentity {
        let (a, b, start_ns) = (self.a, self.b, self.start_ns);
        self.identity.get_or_insert_with(|| Box::new(ConnectionIdentity::new(agent, a, b, start_ns)))
    }

    /// The side of the server, or of the client.
    pub(super) fn side(&self, of_server: bool) -> Side {
        if of_server == (self.client == Some(Side::B)) { Side::A } else { Side::B }
    }

    /// Where and when something happened, as a batch has it.
    pub(super) fn place(&self, id: u32, side: Side, time_ns: u64, position: u64) -> Place {
        self.places(id)(side, time_ns, position)
    }

    /// As [`Tracked::place`], for several.
    pub(super) fn places(&self, id: u32) -> impl Fn(Side, u64, u64) -> Place + use<> {
        let client = self.client;
        move |side, time_ns, position| {
            let from_server = client.is_some_and(|client| client != side);
            Place { connection: id, from_server, time_ns, position }
        }
    }
}

/// Index of a side in pairs.
pub(super) fn index(side: Side) -> usize {
    match side {
        Side::A => 0,
        Side::B => 1,
    }
}

/// Connections under dense ids. An id is free again only when [`Table::remove`] is called, which is after the plugin has
/// heard of the connection's end.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Option<Tracked>>,
    free: Vec<u32>,
    /// The id of the connection in each slot of the stream engine.
    by_stream_index: Vec<u32>,
}

impl Table {
    pub(super) fn insert(&mut self, tracked: Tracked) -> u32 {
        let index = tracked.stream.index as usize;
        let id = self.insert_apart(tracked);
        if self.by_stream_index.len() <= index {
            self.by_stream_index.resize(index + 1, u32::MAX);
        }
        self.by_stream_index[index] = id;
        id
    }

    /// As [`Table::insert`], for a connection of which the engine will not speak.
    pub(super) fn insert_apart(&mut self, tracked: Tracked) -> u32 {
        let id = self.free.pop().unwrap_or(self.slots.len() as u32);
        match self.slots.get_mut(id as usize) {
            Some(slot) => *slot = Some(tracked),
            None => self.slots.push(Some(tracked)),
        }
        id
    }

    /// The id of a connection that the engine speaks of.
    pub(super) fn id(&self, stream: ConnectionId) -> Option<u32> {
        let id = *self.by_stream_index.get(stream.index as usize)?;
        (self.get(id)?.stream == stream).then_some(id)
    }

    pub(super) fn get(&self, id: u32) -> Option<&Tracked> {
        self.slots.get(id as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Tracked> {
        self.slots.get_mut(id as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Tracked> {
        let tracked = self.slots.get_mut(id as usize)?.take()?;
        self.free.push(id);
        Some(tracked)
    }

    /// Who waits for a verdict is asked about anew.
    pub(super) fn forget_refusals(&mut self) {
        for tracked in self.iter_mut() {
            if let State::Detecting(Some(waiting)) = &mut tracked.state {
                waiting.refused = 0;
            }
        }
    }

    /// Each with its id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Tracked)> {
        (0..).zip(&self.slots).filter_map(|(id, tracked)| Some((id, tracked.as_ref()?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Tracked> {
        self.slots.iter_mut().flatten()
    }
}
