//! The parts of podtap by themselves: `cargo xtask plugins --release && cargo bench --workspace --bench parts`.
//!
//! Times of one run on one machine, to see where a change acts. What a change costs on the whole way is for `cargo xtask bench`,
//! and whether it costs more than before for `cargo xtask bench instructions`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use podtap::capture::CaptureFile;
use podtap::config::{ByteSize, Config};
use podtap::decoder::{Batch, Cache, ComponentFile, Instance, Limits, Plugin, Runtime};
use podtap::event::{Encoder, Event, Format};
use podtap::reference::example_event;
use podtap_decoder_cost::{Filled, batches};
use podtap_stream::{Chunk, Closed, Connection, ConnectionId, Engine, Gap, LinkType, Packet, Side, Sink};

/// A decoder, and a capture that is of its protocol.
const DECODERS: [(&str, &str); 3] =
    [("http", "nginx-tour.pcap"), ("mysql", "session.pcap"), ("mongodb", "pymongo-plain.pcap")];

fn main() {
    divan::main();
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn capture(decoder: &str) -> PathBuf {
    let (_, name) = DECODERS.iter().find(|(name, _)| *name == decoder).expect("a stock decoder");
    root().join("plugins").join(decoder).join("tests/captures").join(name)
}

/// The decoder as it was built last.
fn load(decoder: &str) -> (Runtime, Plugin) {
    let limits = Limits { memory_bytes: 64 << 20, workers: 1, call_timeout: Duration::from_secs(1) };
    let runtime = Runtime::new(limits, Cache::of_this_user()).expect("a runtime");
    let file = root().join("target/release/plugins").join(decoder).with_extension("wasm");
    let file = ComponentFile::read(&file, ByteSize(16 << 20)).expect("cargo xtask plugins --release");
    let plugin = runtime.load(&file).expect("a decoder");
    (runtime, plugin)
}

struct Nobody;

impl Sink for Nobody {
    fn opened(&mut self, _: &Connection) {}

    fn data(&mut self, _: ConnectionId, _: Side, chunk: Chunk<'_>) {
        black_box(chunk.bytes);
    }

    fn gap(&mut self, _: ConnectionId, _: Side, _: Gap) {}

    fn end(&mut self, _: ConnectionId, _: Side, _: u64, _: u64) {}

    fn closed(&mut self, _: &Connection, _: &Closed) {}
}

/// From packets to streams.
#[divan::bench(args = DECODERS.map(|(decoder, _)| decoder))]
fn stream_engine(bencher: Bencher<'_, '_>, decoder: &str) {
    let mut file = CaptureFile::open(&capture(decoder)).expect("a capture");
    let mut packets = Vec::new();
    while let Some(record) = file.next_record().expect("a whole capture") {
        packets.push((record.link_type, record.time_ns, record.data.to_vec(), record.original_len));
    }
    bencher.counter(ItemsCount::new(packets.len())).bench_local(|| {
        let mut engine = Engine::new(Config::default().stream.limits());
        for (link_type, time_ns, data, original_len) in &packets {
            let link_type = LinkType::from_number(*link_type);
            engine.packet(&Packet { link_type, time_ns: *time_ns, data, original_len: *original_len }, &mut Nobody);
        }
        engine.finish(&mut Nobody);
    });
}

/// Into the sandbox and back, with nothing to decode.
#[divan::bench]
fn boundary_call(bencher: Bencher<'_, '_>) {
    let (runtime, plugin) = load("http");
    let mut instance = runtime.instance(&plugin).expect("an instance");
    let batch = Batch::default();
    bencher.bench_local(|| instance.feed(&batch, &plugin.descriptor, |rows| rows.len()).expect("no failure"));
}

/// A capture's payload through a decoder in its sandbox, the making of its instance left out.
#[divan::bench(args = DECODERS.map(|(decoder, _)| decoder))]
fn decode(bencher: Bencher<'_, '_>, decoder: &str) {
    let (runtime, plugin) = load(decoder);
    let batches = batches(&capture(decoder)).expect("a capture");
    let bytes: usize = batches.iter().map(|(batch, _)| batch.data_len()).sum();
    let feed = |instance: &mut Instance, batches: &[Filled]| -> usize {
        let feed = |(batch, _): &Filled| instance.feed(batch, &plugin.descriptor, |rows| rows.len());
        batches.iter().map(feed).sum::<Result<_, _>>().expect("no failure")
    };
    assert!(feed(&mut runtime.instance(&plugin).expect("an instance"), &batches) > 0, "no exchange");
    bencher
        .with_inputs(|| runtime.instance(&plugin).expect("an instance"))
        .input_counter(move |_| BytesCount::new(bytes))
        .bench_local_values(|mut instance| feed(&mut instance, &batches));
}

/// An event of usual size into bytes.
#[divan::bench(args = [Format::Msgpack, Format::Json])]
fn encode(bencher: Bencher<'_, '_>, format: Format) {
    let event = example_event();
    let mut encoder = Encoder::new(format);
    bencher.bench_local(|| encoder.encode(black_box(Event::Exchange(&event))).map(<[u8]>::len).expect("an event"));
}
