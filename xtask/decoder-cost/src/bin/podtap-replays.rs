//! Replays a capture again and again, from the file to events in MessagePack, for whoever counts the instructions of it.
//!
//! `podtap-replays PLUGIN CAPTURE ROUNDS [named]` prints how many exchanges there are in a round, and its process id, under
//! which the names of the decoder's functions are then found (see `Runtime::without_pool`). All that is to be counted happens
//! in `counted_rounds`, on the thread that calls it: compiling and loading come before, and a first round, which fills
//! what is filled once.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use podtap::config::{ByteSize, Config, OutputFormat};
use podtap::decoder::{Cache, ComponentFile, Limits, Runtime};
use podtap::pipeline::{Decoders, Replay, replay_with};
use podtap::publish::{Colour, Outputs};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [plugin, capture, rounds, named @ ..] = arguments.as_slice() else {
        bail!("usage: podtap-replays PLUGIN CAPTURE ROUNDS [named]");
    };
    let named = named.first().is_some_and(|word| word == "named");
    let rounds: u64 = rounds.parse().context("ROUNDS is a number")?;
    // Under Valgrind everything takes long.
    let limits = Limits { memory_bytes: 64 << 20, workers: 1, call_timeout: Duration::from_secs(600) };
    let runtime =
        Runtime::without_pool(limits, Cache::of_this_user(), named).map_err(|error| anyhow::anyhow!("{error}"))?;
    let plugin = runtime.load(&ComponentFile::read(plugin.as_ref(), ByteSize(16 << 20))?)?;
    let decoders = Decoders::only(runtime, plugin);
    let mut config = Config::default();
    (config.output.format, config.output.file) = (Some(OutputFormat::Msgpack), Some("/dev/null".into()));
    let files = [PathBuf::from(capture)];
    let exchanges = round(&decoders, &config, &files)?;
    ensure!(exchanges > 0, "{capture}: no exchange");
    let counted = counted_rounds(rounds, &decoders, &config, &files)?;
    ensure!(counted == rounds * exchanges, "{counted} exchanges in {rounds} rounds of {exchanges}");
    println!("{exchanges} {}", std::process::id());
    Ok(())
}

#[inline(never)]
fn counted_rounds(rounds: u64, decoders: &Decoders, config: &Config, files: &[PathBuf]) -> Result<u64> {
    (0..rounds).map(|_| round(decoders, config, files)).sum()
}

fn round(decoders: &Decoders, config: &Config, files: &[PathBuf]) -> Result<u64> {
    let mut outputs = Outputs::open(config, Colour::Never)?;
    let request = Replay { files, filter: None, config, progress: &mut |_| () };
    Ok(replay_with(decoders, request, &mut outputs)?.count("exchanges"))
}
