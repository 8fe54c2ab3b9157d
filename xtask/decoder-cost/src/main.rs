//! What a stock decoder costs in its sandbox, and what the same decoder costs linked natively: the same batches, made of a
//! capture, are fed to both in turn.
//!
//! `decoder-cost PLUGINS DECODER CAPTURE [ROUNDS]` prints CPU time for an exchange of both, in ns, and how many exchanges
//! there were. In the sandbox's time is all that the boundary takes: batches copied in, columns copied out and checked. In
//! neither is what comes before and after: packets, streams, events.
//!
//! Demands are not carried out: what a decoder need not see is given to both.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use podtap::config::ByteSize;
use podtap::decoder::{Cache, ComponentFile, Limits, Runtime};
use podtap_decoder_cost::{batches, contract};
use podtap_http::Http;
use podtap_mongodb::Mongodb;
use podtap_mysql::MySql;
use podtap_sdk::{Decoder, Instance};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [plugins, decoder, capture, rest @ ..] = arguments.as_slice() else {
        bail!("usage: decoder-cost PLUGINS DECODER CAPTURE [ROUNDS]");
    };
    let rounds = rest.first().map_or(Ok(7), |rounds| rounds.parse()).context("ROUNDS is a number")?;
    let plugin = Path::new(plugins).join(decoder).with_extension("wasm");
    let capture = Path::new(capture);
    match decoder.as_str() {
        "http" => compare::<Http>(&plugin, capture, rounds),
        "mysql" => compare::<MySql>(&plugin, capture, rounds),
        "mongodb" => compare::<Mongodb>(&plugin, capture, rounds),
        _ => bail!("{decoder}: not a stock decoder (http, mysql, mongodb)"),
    }
}

fn compare<D: Decoder>(plugin: &Path, capture: &Path, rounds: usize) -> Result<()> {
    let batches = batches(capture).with_context(|| capture.display().to_string())?;
    let limits = Limits { memory_bytes: 64 << 20, workers: 1, call_timeout: Duration::from_secs(1) };
    let runtime = Runtime::new(limits, Cache::of_this_user()).map_err(|error| anyhow::anyhow!("{error}"))?;
    let plugin = runtime.load(&ComponentFile::read(plugin, ByteSize(16 << 20))?)?;
    let (mut native, mut sandboxed, mut exchanges) = (Vec::new(), Vec::new(), 0);
    for _ in 0..rounds.max(1) {
        let mut instance = runtime.instance(&plugin)?;
        let start = cpu_time();
        let mut in_sandbox = 0;
        for (batch, _) in &batches {
            in_sandbox += instance.feed(batch, &plugin.descriptor, |rows| rows.len())?;
        }
        sandboxed.push(cpu_time() - start);

        let mut instance = Instance::<D>::new("{}").map_err(anyhow::Error::msg)?;
        // The decoder owns what it is given, in the sandbox as well.
        let owned: Vec<_> = batches.iter().map(|(batch, opened)| contract(batch, opened)).collect();
        let start = cpu_time();
        exchanges = owned.into_iter().map(|batch| instance.feed(batch).exchange_connections.len()).sum();
        native.push(cpu_time() - start);
        ensure!(exchanges == in_sandbox, "{exchanges} exchanges natively, {in_sandbox} in the sandbox");
    }
    ensure!(exchanges > 0, "{}: no exchange", capture.display());
    let each = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2].as_nanos() as f64 / exchanges as f64
    };
    println!("{:.0} {:.0} {exchanges}", each(&mut native), each(&mut sandboxed));
    Ok(())
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
