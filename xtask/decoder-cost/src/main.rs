//! What a stock decoder costs in its sandbox, and what the same decoder costs linked natively: a capture is replayed to both in
//! turn, batch by batch, each made just before it is fed, and what a decoder need not see is left out.
//!
//! `decoder-cost PLUGINS DECODER CAPTURE [ROUNDS]` prints CPU time for an exchange of both, in ns, and how many exchanges
//! there were. In the sandbox's time is all that the boundary takes: batches copied in, columns copied out and checked. In
//! neither is what comes before and after: packets, streams, events.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use podtap::config::ByteSize;
use podtap::decoder::{Cache, ComponentFile, Limits, Runtime};
use podtap_decoder_cost::{contract, demands, replay};
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
    let limits = Limits { memory_bytes: 64 << 20, workers: 1, call_timeout: Duration::from_secs(1) };
    let runtime = Runtime::new(limits, Cache::of_this_user()).map_err(|error| anyhow::anyhow!("{error}"))?;
    let plugin = runtime.load(&ComponentFile::read(plugin, ByteSize(16 << 20))?)?;
    let (mut native, mut sandboxed, mut exchanges) = (Vec::new(), Vec::new(), 0);
    for _ in 0..rounds.max(1) {
        let (mut instance, mut time, mut in_sandbox) = (runtime.instance(&plugin)?, Duration::ZERO, 0);
        replay(capture, |(batch, _)| {
            let start = cpu_time();
            let (rows, demands) =
                instance.feed(&batch, &plugin.descriptor, |rows| (rows.len(), rows.demands().collect()))?;
            time += cpu_time() - start;
            in_sandbox += rows;
            Ok(demands)
        })?;
        sandboxed.push(time);

        let (mut instance, mut time) = (Instance::<D>::new("{}").map_err(anyhow::Error::msg)?, Duration::ZERO);
        exchanges = 0;
        replay(capture, |(batch, opened)| {
            // The decoder owns what it is given, in the sandbox as well.
            let owned = contract(&batch, &opened);
            let start = cpu_time();
            let output = instance.feed(owned);
            time += cpu_time() - start;
            exchanges += output.exchange_connections.len();
            Ok(demands(&output))
        })?;
        native.push(time);
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
