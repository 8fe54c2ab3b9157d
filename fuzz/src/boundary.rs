//! The boundary to a decoder: what a guest returns, whatever that is.
//!
//! A real guest in the real sandbox (`guest.wat`) returns what an input puts into its memory: addresses and lengths that
//! are true, overlap, point nowhere or are too large. Where all of it is known, what the host makes of it is compared
//! with a reading by hand.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use podtap::config::{Config, Digest, OutputFormat};
use podtap::decoder::{
    Batch, Cache, ComponentFile, Descriptor, Entry, Failure, FailureKind, Instance, Limits, LoadError, Packing, Place,
    Plugin, Row, Rows, Runtime, ValueKind, Verdict,
};
use podtap::event::Value;
use podtap::pipeline::Decoders;
use podtap_stream::Endpoint;

use crate::capture::{Bench, plugins};
use crate::image::{self, Image};
use crate::memory::held_bytes;
use crate::script::Script;
use crate::wire::{ACK, Segment, Way};

/// What docs/limits.md says of a decoder's output.
const MAX_ATTRIBUTES: usize = 128;
const MAX_DEMANDS: usize = 131_072;
const MAX_TEXT: usize = 8 << 10;
const MAX_EXCHANGE_TEXT: usize = 64 << 10;
const MAX_RETURNED_BYTES: isize = 32 << 20;
/// Beside the lists, for one call.
const CALL_BYTES: isize = 1 << 20;
/// A byte that is no UTF-8 is shown as a letter of three.
const REPLACED: usize = 3;

thread_local! {
    static SANDBOX: std::cell::RefCell<Sandbox> = std::cell::RefCell::new(Sandbox::new());
}

/// Numbers of what is tried, of the first byte.
pub(crate) mod kind {
    pub(crate) const OUTPUT: u8 = 0;
    pub(crate) const DESCRIPTOR: u8 = 1;
    pub(crate) const REFUSAL: u8 = 2;
    pub(crate) const PROBE: u8 = 3;
    pub(crate) const PIPELINE: u8 = 4;
    pub(crate) const ALL: u8 = 5;
}

/// Has the guest return what an input says. It ends in a failure that is named, or in rows within every bound.
///
/// An input begins with a number of [`kind`]. Then come changes, behind their length, and what they change.
pub fn boundary(input: &[u8]) {
    let mut script = Script::new(input);
    let kind = script.u8() % kind::ALL;
    SANDBOX.with_borrow_mut(|sandbox| match kind {
        kind::PROBE => sandbox.probe(script.rest()),
        kind::PIPELINE => sandbox.pipeline(script),
        _ => {
            let twists = script.slice_of_u8();
            let mut image = match kind {
                kind::OUTPUT => image::output(&mut script),
                kind::DESCRIPTOR => image::descriptor(&mut script),
                _ => image::refusal(&mut script),
            };
            image.twist(twists);
            let survived = sandbox.feed(&image)
                && match kind {
                    kind::DESCRIPTOR => sandbox.describe(),
                    kind::REFUSAL => sandbox.configure(&image),
                    _ => true,
                };
            if !survived {
                sandbox.instance = None;
            }
        }
    });
}

/// A plugin, and an instance as long as it lives.
struct Sandbox {
    runtime: Runtime,
    plugin: Plugin,
    instance: Option<Instance>,
    bench: Bench,
}

impl Sandbox {
    fn new() -> Sandbox {
        let file = guest();
        let (runtime, plugin) = load(&file);
        let (other_runtime, other_plugin) = load(&file);
        let mut config = Config::default();
        config.decoder.batch_entries = 1;
        config.output.format = Some(OutputFormat::Json);
        config.output.file = Some("/dev/null".into());
        let bench = Bench::new(Decoders::only(other_runtime, other_plugin), vec![config]);
        Sandbox { runtime, plugin, instance: None, bench }
    }

    fn instance(&mut self) -> &mut Instance {
        let Sandbox { runtime, plugin, instance, .. } = self;
        instance.get_or_insert_with(|| runtime.instance(plugin).expect("an instance that was told nothing yet"))
    }

    /// False: the instance is lost.
    fn feed(&mut self, image: &Image) -> bool {
        let mut batch = Batch::default();
        let end = |last| Endpoint { address: Ipv4Addr::new(10, 0, 0, last).into(), port: 7 };
        batch.open(0, end(1), end(2), false);
        batch.push(Place { connection: 0, from_server: false, time_ns: 1, position: 0 }, Entry::Data(&image.0));
        let descriptor = self.plugin.descriptor.clone();
        let before = held_bytes();
        let found = self.instance().feed(&batch, &descriptor, |rows| {
            let held = held_bytes() - before;
            assert!(held <= MAX_RETURNED_BYTES + CALL_BYTES, "{held} bytes");
            check_bounds(&rows, &descriptor);
            if !image.is_armed() {
                check_rows(&rows, image);
            } else {
                assert!(rows.is_empty(), "an armed guest returns nothing: {rows:?}");
            }
        });
        match found {
            Ok(()) => true,
            Err(failure) => {
                check_failure(&failure);
                let is_fine = !image.is_armed() && !image.logs() && matches!(expected(image), Expected::Rows(_));
                assert!(!is_fine, "{failure}");
                false
            }
        }
    }

    fn describe(&mut self) -> bool {
        match self.instance().descriptor() {
            Ok(descriptor) => {
                check_descriptor(&descriptor);
                true
            }
            Err(error) => {
                let shown = error.to_string();
                assert!(!shown.contains(char::is_control) && shown.len() < 1_000, "{shown:?}");
                match error {
                    LoadError::Descriptor(_) => true,
                    LoadError::Failed { call: "describe", failure } => {
                        check_failure(&failure);
                        false
                    }
                    other => panic!("{other}"),
                }
            }
        }
    }

    fn configure(&mut self, image: &Image) -> bool {
        let answer = match image.answer(12, 4) {
            image::Place::Here(start) => Some((image.0[start], image.elements(start + 4, 1))),
            _ => None,
        };
        match (self.instance().configure("{}"), answer) {
            (Ok(None), Some((discriminant, _))) => assert_eq!(discriminant, 0),
            (Ok(Some(said)), Some((1, Ok(bytes)))) => assert_eq!(said.as_bytes(), bytes),
            (Ok(Some(_)), Some((discriminant, _))) => assert_eq!(discriminant, 1),
            (Ok(_), None) => {}
            (Err(failure), answer) => {
                check_failure(&failure);
                if image.is_armed() {
                    assert!(!matches!(answer, Some((0, _))), "{failure}");
                    let is_text = matches!(answer, Some((1, Ok(bytes))) if std::str::from_utf8(bytes).is_ok());
                    assert!(!is_text, "{failure}");
                }
                return false;
            }
        }
        true
    }

    fn probe(&mut self, head: &[u8]) {
        let expected = match head.first() {
            None | Some(2) => Some(Verdict::NeedMore),
            Some(0) => Some(Verdict::Yes),
            Some(1) => Some(Verdict::No),
            Some(_) => None,
        };
        match self.instance().probe(head.len().is_multiple_of(2), head) {
            Ok(verdict) => assert!(Some(verdict) == expected, "{verdict:?}"),
            Err(failure) => {
                check_failure(&failure);
                assert!(expected.is_none(), "{failure}");
                self.instance = None;
            }
        }
    }

    /// All the way from packets to events: two connections that take turns, an image in each packet.
    fn pipeline(&mut self, mut script: Script<'_>) {
        let way = Way::default();
        let mut capture = pcap();
        let mut positions = [1_u32; 2];
        for turn in 0..6_u16 {
            let twists = script.slice_of_u8();
            let mut image = image::output(&mut script);
            image.twist(twists);
            let connection = usize::from(turn) % positions.len();
            let length = image.0.len() as u32;
            let segment = Segment {
                direction: connection * 2,
                seq: positions[connection],
                ack: 1,
                flags: ACK,
                window: 1_000,
                window_scale: None,
                payload: image.0,
            };
            segment.packets(way, turn).iter().for_each(|packet| append(&mut capture, turn.into(), packet));
            positions[connection] += length;
            if script.is_over() {
                break;
            }
        }
        let report = self.bench.replay(&capture);
        assert!(report.adds_up(), "{report:#?}");
        assert!(report.problems.is_empty(), "{report:#?}");
    }
}

/// Its LINKTYPE_ number, which is that of [`Way::default`].
const ETHERNET: u32 = 1;

/// The header of a pcap file of version 2.4, with times in ns.
fn pcap() -> Vec<u8> {
    let header = [0xa1b2_3c4d, 2 | 4 << 16, 0, 0, 1 << 18, ETHERNET];
    header.iter().flat_map(|field| field.to_le_bytes()).collect()
}

/// A packet of the second that it says.
fn append(capture: &mut Vec<u8>, second: u32, packet: &[u8]) {
    let header = [second, 0, packet.len() as u32, packet.len() as u32];
    capture.extend(header.iter().flat_map(|field| field.to_le_bytes()));
    capture.extend(packet);
}

/// `guest.wat` as a component, with the contract as the stock decoders have it.
fn guest() -> ComponentFile {
    let mut module = wat::parse_str(include_str!("guest.wat")).expect("a module");
    let http = std::fs::read(plugins().join("http.wasm")).expect("was found");
    let Ok(wit_component::DecodedWasm::Component(resolve, world)) = wit_component::decode(&http) else {
        panic!("a decoder is a component")
    };
    wit_component::embed_component_metadata(&mut module, &resolve, world, wit_component::StringEncoding::UTF8)
        .expect("a module takes sections");
    let encoder = wit_component::ComponentEncoder::default().validate(true).module(&module);
    let component = encoder.and_then(|mut encoder| encoder.encode()).expect("a decoder");
    ComponentFile {
        path: PathBuf::from("echo.wasm"),
        packing: Packing::Plain,
        file_bytes: component.len(),
        digest: Digest::of(&component),
        component,
    }
}

fn load(file: &ComponentFile) -> (Runtime, Plugin) {
    // Of the machine: another process may have it for a while.
    let call_timeout = Duration::from_secs(5);
    let limits = Limits { memory_bytes: 8 << 20, workers: 1, call_timeout };
    let runtime = Runtime::new(limits, Cache::none()).expect("a sandbox");
    let plugin = runtime.load(file).expect("a decoder");
    (runtime, plugin)
}

/// It is one that the guest can give rise to, in one line.
fn check_failure(failure: &Failure) {
    let kinds = [FailureKind::Trap, FailureKind::TooMuch, FailureKind::Output];
    assert!(kinds.contains(&failure.kind()), "{failure}");
    let shown = failure.to_string();
    assert!(!shown.contains(char::is_control) && shown.len() < 2_000, "{shown:?}");
}

fn check_descriptor(descriptor: &Descriptor) {
    let Descriptor { name, version, label, doc, protocols, ports, attributes, status } = descriptor;
    let is_lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    for name in protocols.iter().chain([name]) {
        assert!((1..=32).contains(&name.len()) && name.bytes().all(is_lower), "{name:?}");
    }
    assert!((1..=32).contains(&version.len()) && version.is_ascii(), "{version:?}");
    assert!(*label == format!("{name}/{version}") && !label.contains(char::is_control), "{label:?}");
    assert!((1..=16).contains(&protocols.len()) && ports.len() <= 1024 && attributes.len() <= 256);
    assert!(status.is_none_or(|status| usize::from(status) < attributes.len()), "{status:?}");
    let mut names = std::collections::HashSet::new();
    for attribute in attributes {
        let is_part = |byte: u8| is_lower(byte) || b"_.".contains(&byte);
        let name = &attribute.name;
        assert!((1..=64).contains(&name.len()) && name.bytes().all(is_part) && names.insert(name), "{name:?}");
    }
    for doc in attributes.iter().map(|attribute| &attribute.doc).chain([doc]) {
        assert!(doc.len() <= 512 && !doc.contains(['\n', '\r', '\t']), "{doc:?}");
    }
}

/// What holds of rows whatever they were made of.
fn check_bounds(rows: &Rows<'_>, descriptor: &Descriptor) {
    assert!(rows.demands().count() <= MAX_DEMANDS);
    assert_eq!(rows.connections().count(), rows.len());
    let mut count = 0;
    for row in rows.each() {
        count += 1;
        assert!(row.protocol < descriptor.protocols.len());
        assert!(row.attributes.len() <= MAX_ATTRIBUTES);
        assert!(row.query.is_none_or(|query| query < row.attributes.len()));
        let values = row.attributes.iter().filter_map(|(_, value)| match value {
            Value::Text(text) => Some(text.len()),
            _ => None,
        });
        let lengths: Vec<_> = row.texts.iter().map(|text| text.len()).chain(values).collect();
        assert!(lengths.iter().all(|&length| length <= REPLACED * MAX_TEXT), "{lengths:?}");
        assert!(lengths.iter().sum::<usize>() <= REPLACED * MAX_EXCHANGE_TEXT, "{lengths:?}");
        for (index, (name, _)) in row.attributes.iter().enumerate() {
            assert!(descriptor.attributes.iter().any(|attribute| attribute.name == **name), "{name}");
            assert!(!row.attributes[..index].iter().any(|(other, _)| other == name), "{name} twice");
        }
    }
    assert_eq!(count, rows.len());
}

fn check_rows(rows: &Rows<'_>, image: &Image) {
    match expected(image) {
        Expected::Unknown => {}
        Expected::Refused(why) => panic!("was to be refused, as {why}: {rows:?}"),
        Expected::Rows(lists) => lists.check(rows),
    }
}

/// What an image is to the one who reads it by hand.
enum Expected<'i> {
    Unknown,
    Refused(&'static str),
    Rows(Box<Lists<'i>>),
}

/// The lists of an output, as the contract has them.
struct Lists<'i> {
    connections: Vec<u32>,
    outcomes: &'i [u8],
    times: Vec<u64>,
    sizes: Vec<u64>,
    text_lengths: Vec<u32>,
    attribute_counts: Vec<u16>,
    attribute_ids: Vec<u16>,
    attribute_values: Vec<u64>,
    text: &'i [u8],
    demand_connections: Vec<u32>,
    demand_kinds: &'i [u8],
    demand_positions: Vec<u64>,
    undecoded_bytes: u64,
}

/// Names and kinds of `guest.wat`'s attributes.
const ATTRIBUTES: [(&str, ValueKind); 5] = [
    ("a.text", ValueKind::Text),
    ("a.uint", ValueKind::Uint),
    ("a.int", ValueKind::Int),
    ("a.float", ValueKind::Float),
    ("a.flag", ValueKind::Flag),
];

fn expected(image: &Image) -> Expected<'_> {
    let (columns, undecoded_bytes) = match image.output() {
        Ok(columns) => columns,
        Err(image::Place::Outside) => return Expected::Refused("a list lies outside"),
        Err(_) => return Expected::Unknown,
    };
    fn numbers<const N: usize, T>(list: &[u8], number: fn([u8; N]) -> T) -> Vec<T> {
        list.chunks_exact(N).map(|bytes| number(bytes.try_into().expect("as many"))).collect()
    }
    let lists = Lists {
        connections: numbers(columns[0], u32::from_le_bytes),
        outcomes: columns[2],
        times: numbers(columns[3], u64::from_le_bytes),
        sizes: numbers(columns[4], u64::from_le_bytes),
        text_lengths: numbers(columns[5], u32::from_le_bytes),
        attribute_counts: numbers(columns[6], u16::from_le_bytes),
        attribute_ids: numbers(columns[7], u16::from_le_bytes),
        attribute_values: numbers(columns[8], u64::from_le_bytes),
        text: columns[9],
        demand_connections: numbers(columns[10], u32::from_le_bytes),
        demand_kinds: columns[11],
        demand_positions: numbers(columns[12], u64::from_le_bytes),
        undecoded_bytes,
    };
    match lists.fault(columns[1]) {
        Some(why) => Expected::Refused(why),
        None => Expected::Rows(Box::new(lists)),
    }
}

impl Lists<'_> {
    /// Which rule of the contract, or which bound, they break.
    fn fault(&self, protocols: &[u8]) -> Option<&'static str> {
        let count = self.connections.len();
        let columns = [
            (protocols.len(), 1),
            (self.outcomes.len(), 1),
            (self.times.len(), 4),
            (self.sizes.len(), 3),
            (self.text_lengths.len(), 3),
            (self.attribute_counts.len(), 1),
        ];
        if columns.iter().any(|(length, each)| *length != count * each) {
            return Some("columns differ");
        }
        if protocols.iter().any(|&protocol| protocol != 0) || self.outcomes.iter().any(|&outcome| outcome > 4) {
            return Some("there is one protocol, and there are five outcomes");
        }
        let attributes: usize = self.attribute_counts.iter().map(|&count| usize::from(count)).sum();
        if self.attribute_ids.len() != attributes || self.attribute_values.len() != attributes {
            return Some("attributes differ");
        }
        let demands = self.demand_connections.len();
        if self.demand_kinds.len() != demands || self.demand_positions.len() != demands {
            return Some("demands differ");
        }
        if self.demand_kinds.iter().any(|kind| kind & 0x7f > 2) {
            return Some("there are three demands");
        }
        let (mut from, mut text) = (0, self.text_lengths.iter().map(|&length| u128::from(length)).sum::<u128>());
        for &count in &self.attribute_counts {
            let until = from + usize::from(count);
            let ids = &self.attribute_ids[from..until];
            if ids.len() > MAX_ATTRIBUTES || ids.iter().any(|&id| usize::from(id) >= ATTRIBUTES.len()) {
                return Some("of no such attribute");
            }
            if (1..ids.len()).any(|index| ids[..index].contains(&ids[index])) {
                return Some("an attribute twice");
            }
            let values = ids.iter().zip(&self.attribute_values[from..until]);
            text += values.filter(|&(&id, _)| id == 0).map(|(_, &length)| u128::from(length)).sum::<u128>();
            from = until;
        }
        (text != self.text.len() as u128).then_some("its text has another length")
    }

    fn check(&self, rows: &Rows<'_>) {
        assert_eq!((rows.len(), rows.undecoded_bytes()), (self.connections.len(), self.undecoded_bytes));
        let (mut text, mut attribute) = (self.text, 0);
        for (index, row) in rows.each().enumerate() {
            let until = attribute + usize::from(self.attribute_counts[index]);
            self.check_row(index, &row, &mut text, attribute..until);
            attribute = until;
        }
        let demands: Vec<_> = rows.demands().collect();
        assert_eq!(demands.len(), self.demand_connections.len());
        for (index, demand) in demands.iter().enumerate() {
            assert_eq!(demand.connection, self.demand_connections[index]);
            assert_eq!(demand.position, self.demand_positions[index]);
            let kind = demand.kind as u8 | if demand.from_server { 0x80 } else { 0 };
            assert_eq!(kind, self.demand_kinds[index]);
        }
    }

    fn check_row(&self, index: usize, row: &Row<'_>, text: &mut &[u8], attributes: std::ops::Range<usize>) {
        assert_eq!((row.connection, row.protocol), (self.connections[index], 0));
        assert_eq!(row.outcome as u8, self.outcomes[index]);
        assert_eq!(row.times[..], self.times[index * 4..index * 4 + 4]);
        assert_eq!(row.sizes[..], self.sizes[index * 3..index * 3 + 3]);
        let (mut left, mut truncated) = (MAX_EXCHANGE_TEXT, false);
        let mut take = |length: usize| {
            let (piece, rest) = text.split_at(length);
            *text = rest;
            let kept = length.min(MAX_TEXT).min(left);
            left -= kept;
            truncated |= kept < length;
            (&piece[..kept], kept < length)
        };
        for (shown, &length) in row.texts.iter().zip(&self.text_lengths[index * 3..]) {
            let (piece, cut) = take(length as usize);
            assert!(is_shown_as(piece, cut, shown), "{piece:?} as {shown:?}");
        }
        let mut shown = row.attributes.iter();
        for (&id, &bits) in self.attribute_ids[attributes.clone()].iter().zip(&self.attribute_values[attributes]) {
            let (name, kind) = ATTRIBUTES[usize::from(id)];
            let is_right = |value: &Value<'_>| match (kind, value) {
                (ValueKind::Uint, Value::Uint(number)) => *number == bits,
                (ValueKind::Int, Value::Int(number)) => *number as u64 == bits,
                (ValueKind::Float, Value::Float(number)) => number.to_bits() == bits,
                (ValueKind::Flag, Value::Flag(flag)) => *flag == (bits != 0),
                _ => false,
            };
            if kind != ValueKind::Text {
                let (found, value) = shown.next().expect("an attribute");
                assert!(found == name && is_right(value), "{name}: {bits:#x} as {value:?}");
                continue;
            }
            let (piece, cut) = take(bits as usize);
            // Of a character that was cut, nothing may be left.
            let next = shown.clone().next().filter(|(found, _)| found == name);
            match next {
                Some((_, Value::Text(value))) => {
                    assert!(!value.is_empty() && is_shown_as(piece, cut, value), "{piece:?} as {value:?}");
                    shown.next();
                }
                Some((_, value)) => panic!("{name}: {piece:?} as {value:?}"),
                None => assert!(is_shown_as(piece, cut, ""), "{piece:?} is left out"),
            }
        }
        assert!(shown.next().is_none());
        assert_eq!(row.truncated, truncated);
    }
}

/// Is this how bytes are shown? Of what was cut, the beginning of a character may be missing.
fn is_shown_as(bytes: &[u8], cut: bool, shown: &str) -> bool {
    let missing = if cut { 0..=bytes.len().min(3) } else { 0..=0 };
    missing.into_iter().any(|missing| String::from_utf8_lossy(&bytes[..bytes.len() - missing]) == shown)
}
