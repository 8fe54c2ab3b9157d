//! Runs a [`Decoder`] under the contract: entries of a batch in, polled tasks, columns out.
//!
//! An instance holds any number of connections. Each has two tasks; an entry wakes the task of its side, which runs
//! until it needs more.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use crate::bindings::exports::podtap::decoder::decoder as contract;
use crate::bindings::podtap::decoder::types::{self, Batch, OpenedConnection, Output};
use crate::exchanges::by_id::ExchangesById;
use crate::exchanges::in_order::Exchanges;
use crate::exchanges::{Close, Exchange};
use crate::fields::Attribute;
use crate::stream::{Break, FROM_SERVER, Inbox, Stream};
use crate::{Level, Verdict};

const DATA: u8 = 0;
const GAP: u8 = 1;
const END: u8 = 2;
const CLOSED: u8 = 3;
/// `lengths` of an end entry: the connection is over without it.
const END_IS_CUT: u32 = 1;
/// `lengths` of a closed entry: both sides have ended.
const CLOSED_FINISHED: u32 = 0;
/// The same: the connection was reset.
const CLOSED_BY_RESET: u32 = 1;

/// What a decoder is.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// Lower-case name.
    pub name: &'static str,
    /// Semantic version.
    pub version: &'static str,
    /// One sentence for people.
    pub doc: &'static str,
    /// Names of the protocols it finds; the first is the usual one.
    pub protocols: &'static [&'static str],
    /// Usual server ports: who is asked first.
    pub ports: &'static [u16],
    /// `ATTRIBUTES` of [`crate::fields!`].
    pub attributes: &'static [Attribute],
    /// The field that holds a response's status, for one-line views.
    pub status: Option<u16>,
}

/// A protocol decoder.
pub trait Decoder: Sized + 'static {
    /// What it is.
    const DESCRIPTOR: Descriptor;

    /// Makes the decoder from its section of podtap's configuration, a JSON object (`{}` where there is none).
    ///
    /// # Errors
    /// One line that names the key at fault.
    fn configure(config: &str) -> Result<Self, String>;

    /// Is `head`, the first bytes of a side, the start of this protocol?
    fn probe(&self, from_server: bool, head: &[u8]) -> Verdict;

    /// A connection has come: the tasks that read its sides.
    fn connect(&self, connection: &mut Connection) -> Tasks;
}

/// For [`Decoder::configure`] of a decoder that has nothing to configure.
///
/// # Errors
/// There is a configuration.
pub fn unconfigured<D: Decoder>(decoder: D, config: &str) -> Result<D, String> {
    match config {
        "{}" => Ok(decoder),
        _ => Err(format!("{} takes no configuration: remove its section", D::DESCRIPTOR.name)),
    }
}

type Task = Pin<Box<dyn Future<Output = Result<(), Break>>>>;

/// The tasks of a connection, one for each side. What a task returns is of no consequence: it is done.
#[must_use]
pub struct Tasks {
    client: Option<Task>,
    server: Option<Task>,
}

impl Tasks {
    /// The client's and the server's.
    pub fn new(
        client: impl Future<Output = Result<(), Break>> + 'static,
        server: impl Future<Output = Result<(), Break>> + 'static,
    ) -> Tasks {
        Tasks { client: Some(Box::pin(client)), server: Some(Box::pin(server)) }
    }
}

/// A connection that a decoder is about to read.
pub struct Connection {
    facts: OpenedConnection,
    output: Rc<RefCell<Output>>,
    client: Rc<RefCell<Inbox>>,
    server: Rc<RefCell<Inbox>>,
    close: Option<Box<dyn Close>>,
    /// Exchanges that are open, of all connections of the instance.
    open: Rc<Cell<usize>>,
}

impl Connection {
    fn new(facts: OpenedConnection, output: &Rc<RefCell<Output>>, open: &Rc<Cell<usize>>) -> Connection {
        let inbox = |side| Rc::new(RefCell::new(Inbox::new(facts.id, side, Rc::clone(output))));
        let (client, server) = (inbox(0), inbox(FROM_SERVER));
        Connection { facts, output: Rc::clone(output), client, server, close: None, open: Rc::clone(open) }
    }

    /// The client's side.
    pub fn client(&self) -> Stream {
        Stream::of(Rc::clone(&self.client))
    }

    /// The server's side.
    pub fn server(&self) -> Stream {
        Stream::of(Rc::clone(&self.server))
    }

    /// The connection's exchanges, paired in order. One call per connection: those left open when it closes are then
    /// reported as `no_response` or `aborted`.
    pub fn exchanges<T: Default + 'static>(&mut self) -> Exchanges<T> {
        self.exchanges_completed_by(|_| ())
    }

    /// As [`Connection::exchanges`]; `complete` is called for each exchange right before it is reported, however it
    /// ended, to set what is known only then.
    pub fn exchanges_completed_by<T: Default + 'static>(&mut self, complete: fn(&mut Exchange<T>)) -> Exchanges<T> {
        let exchanges = Exchanges::new(
            self.facts.id,
            Rc::clone(&self.output),
            Rc::clone(&self.client),
            complete,
            Rc::clone(&self.open),
        );
        self.close = Some(Box::new(exchanges.clone()));
        exchanges
    }

    /// The connection's exchanges, paired by id, instead of [`Connection::exchanges`]: for protocols whose responses
    /// name the request that they answer. One call per connection, as there.
    pub fn exchanges_by_id<T: Default + 'static>(&mut self) -> ExchangesById<T> {
        let exchanges =
            ExchangesById::new(self.facts.id, Rc::clone(&self.output), Rc::clone(&self.client), Rc::clone(&self.open));
        self.close = Some(Box::new(exchanges.clone()));
        exchanges
    }

    /// Bytes were sent before those that will come: the first ones may be in the middle of a message.
    pub fn is_midstream(&self) -> bool {
        self.facts.midstream
    }

    /// Address and port of the client.
    pub fn client_address(&self) -> (&str, u16) {
        (&self.facts.client_address, self.facts.client_port)
    }

    /// Address and port of the server.
    pub fn server_address(&self) -> (&str, u16) {
        (&self.facts.server_address, self.facts.server_port)
    }
}

/// A side as the instance holds it: where entries go in, and the task that reads them.
struct Side {
    inbox: Rc<RefCell<Inbox>>,
    task: Option<Task>,
}

impl Side {
    fn run(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        if let Some(task) = &mut self.task
            && task.as_mut().poll(&mut context).is_ready()
        {
            self.task = None;
        }
        self.inbox.borrow_mut().release();
    }
}

struct Tracked {
    client: Side,
    server: Side,
    close: Option<Box<dyn Close>>,
    /// Another protocol has begun: podtap gives what follows to others.
    handed_over: bool,
}

/// A decoder with its connections: what the sandbox holds, and what native tests drive.
pub struct Instance<D> {
    decoder: D,
    /// By the id that podtap chose; ids are dense.
    connections: Vec<Option<Tracked>>,
    output: Rc<RefCell<Output>>,
    open_exchanges: Rc<Cell<usize>>,
}

impl<D: Decoder> Instance<D> {
    /// Without connections.
    ///
    /// # Errors
    /// The decoder's own words on its configuration.
    pub fn new(config: &str) -> Result<Instance<D>, String> {
        let output = Rc::new(RefCell::new(output_like(&EMPTY)));
        Ok(Instance { decoder: D::configure(config)?, connections: Vec::new(), output, open_exchanges: Rc::default() })
    }

    /// [`Decoder::probe`].
    pub fn probe(&self, from_server: bool, head: &[u8]) -> Verdict {
        self.decoder.probe(from_server, head)
    }

    /// `feed` of the contract. An entry of a connection that is not open is passed over.
    pub fn feed(&mut self, batch: Batch) -> Output {
        for opened in batch.opened {
            self.open(opened);
        }
        let data = Rc::new(batch.data);
        let mut start = 0;
        let entries = batch.connections.iter().zip(&batch.kinds).zip(&batch.times);
        let places = batch.positions.iter().zip(&batch.lengths);
        for (((&connection, &kind), &time), (&position, &length)) in entries.zip(places) {
            let end = if kind & !FROM_SERVER == DATA { start + length as usize } else { start };
            self.entry(connection, kind, time, position, length, &data, start..end);
            start = end;
        }
        let mut output = self.output.borrow_mut();
        // The next one will be about as long.
        let next = output_like(&output);
        std::mem::replace(&mut output, next)
    }

    fn open(&mut self, facts: OpenedConnection) {
        let index = facts.id as usize;
        let mut connection = Connection::new(facts, &self.output, &self.open_exchanges);
        let tasks = self.decoder.connect(&mut connection);
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, || None);
        }
        self.connections[index] = Some(Tracked {
            client: Side { inbox: connection.client, task: tasks.client },
            server: Side { inbox: connection.server, task: tasks.server },
            close: connection.close,
            handed_over: false,
        });
    }

    #[allow(clippy::too_many_arguments)]
    fn entry(
        &mut self,
        connection: u32,
        kind: u8,
        time: u64,
        position: u64,
        length: u32,
        data: &Rc<Vec<u8>>,
        bytes: std::ops::Range<usize>,
    ) {
        let Some(slot) = self.connections.get_mut(connection as usize) else { return };
        let Some(tracked) = slot else { return };
        let side = if kind & FROM_SERVER == 0 { &mut tracked.client } else { &mut tracked.server };
        match kind & !FROM_SERVER {
            DATA | GAP | END if tracked.handed_over => return,
            DATA => side.inbox.borrow_mut().data(data, bytes.start, bytes.end, position, time),
            GAP => side.inbox.borrow_mut().gap(length.into(), position, time),
            END => side.inbox.borrow_mut().ended(Some(position), time, length == END_IS_CUT),
            CLOSED => {
                for side in [&mut tracked.client, &mut tracked.server] {
                    side.inbox.borrow_mut().ended(None, time, length != CLOSED_FINISHED);
                    side.run();
                }
                if let Some(close) = &tracked.close {
                    close.close(length == CLOSED_BY_RESET, &tracked.server.inbox.borrow());
                }
                *slot = None;
                return;
            }
            _ => return,
        }
        side.run();
        if side.inbox.borrow().handed_over {
            (tracked.client.task, tracked.server.task) = (None, None);
            tracked.handed_over = true;
        }
    }
}

const EMPTY: Output = Output {
    exchange_connections: Vec::new(),
    protocols: Vec::new(),
    outcomes: Vec::new(),
    times: Vec::new(),
    sizes: Vec::new(),
    text_lengths: Vec::new(),
    attribute_counts: Vec::new(),
    attribute_ids: Vec::new(),
    attribute_values: Vec::new(),
    text: Vec::new(),
    demand_connections: Vec::new(),
    demand_kinds: Vec::new(),
    demand_positions: Vec::new(),
    undecoded_bytes: 0,
};

/// An output that nobody reads.
pub(crate) fn no_output() -> Output {
    output_like(&EMPTY)
}

/// Empty, with room for as much as `other` holds.
fn output_like(other: &Output) -> Output {
    Output {
        exchange_connections: Vec::with_capacity(other.exchange_connections.len()),
        protocols: Vec::with_capacity(other.protocols.len()),
        outcomes: Vec::with_capacity(other.outcomes.len()),
        times: Vec::with_capacity(other.times.len()),
        sizes: Vec::with_capacity(other.sizes.len()),
        text_lengths: Vec::with_capacity(other.text_lengths.len()),
        attribute_counts: Vec::with_capacity(other.attribute_counts.len()),
        attribute_ids: Vec::with_capacity(other.attribute_ids.len()),
        attribute_values: Vec::with_capacity(other.attribute_values.len()),
        text: Vec::with_capacity(other.text.len()),
        ..EMPTY
    }
}

/// The plugin that [`crate::export!`] makes of a decoder.
#[derive(Debug)]
pub struct Guest<D>(std::marker::PhantomData<D>);

/// The one instance in a sandbox.
struct Sandbox(Option<Box<dyn Feed>>);

trait Feed {
    fn probe(&self, from_server: bool, head: &[u8]) -> Verdict;
    fn feed(&mut self, batch: Batch) -> Output;
}

impl<D: Decoder> Feed for Instance<D> {
    fn probe(&self, from_server: bool, head: &[u8]) -> Verdict {
        Instance::probe(self, from_server, head)
    }

    fn feed(&mut self, batch: Batch) -> Output {
        Instance::feed(self, batch)
    }
}

thread_local! {
    static SANDBOX: RefCell<Sandbox> = const { RefCell::new(Sandbox(None)) };
}

/// Where, and what it says if the program itself says it: text that is put together may be of the traffic.
fn report_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let says = info.payload().downcast_ref::<&str>().copied().unwrap_or("(its text may be of the traffic)");
        crate::log(Level::Error, &format!("panicked at {place}: {says}"));
    }));
}

impl<D: Decoder> contract::Guest for Guest<D> {
    fn describe() -> types::Descriptor {
        report_panics();
        let descriptor = D::DESCRIPTOR;
        types::Descriptor {
            name: descriptor.name.into(),
            version: descriptor.version.into(),
            doc: descriptor.doc.into(),
            protocols: descriptor.protocols.iter().map(|&protocol| protocol.into()).collect(),
            ports: descriptor.ports.into(),
            attributes: descriptor
                .attributes
                .iter()
                .map(|attribute| types::Attribute {
                    name: attribute.name.into(),
                    kind: attribute.kind,
                    doc: attribute.doc.into(),
                })
                .collect(),
            status: descriptor.status,
        }
    }

    fn configure(config: String) -> Result<(), String> {
        report_panics();
        let instance = Instance::<D>::new(&config)?;
        SANDBOX.with_borrow_mut(|sandbox| sandbox.0 = Some(Box::new(instance)));
        Ok(())
    }

    fn probe(from_server: bool, head: Vec<u8>) -> Verdict {
        SANDBOX.with_borrow(|sandbox| sandbox.0.as_ref().map_or(Verdict::No, |it| it.probe(from_server, &head)))
    }

    fn feed(batch: Batch) -> Output {
        SANDBOX.with_borrow_mut(|sandbox| sandbox.0.as_mut().map_or_else(|| output_like(&EMPTY), |it| it.feed(batch)))
    }
}
