//! `cargo xtask examples`: builds the example decoders that are not in Rust (sdk/examples/), replays a capture of a real
//! memcached through each, and compares the events with the golden beside the capture. All speak the same contract, so
//! all must find the same; and once more without every seventh segment, where no response may go to another's request.
//!
//! A language whose tools are not here is skipped, with the reason; `cargo xtask setup --e2e` installs them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;

use crate::traffic::Tcpdump;
use crate::{memcached, process, release, workspace};

/// What turns JavaScript into a component: QuickJS, as `jco componentize --backend quickjs` uses it, without the rest.
const COMPONENTIZE: &str = "componentize-qjs@0.4.5";

/// A Kubernetes ConfigMap holds so much in all.
const CONFIG_MAP_BYTES: u64 = 1 << 20;

/// What to do beside the comparison.
#[derive(clap::Args, Clone, Copy, Default)]
pub(crate) struct Args {
    /// Make the capture anew with a real memcached, and the golden with it
    #[arg(long)]
    capture: bool,
    /// Write the golden anew from what the first decoder finds; read the difference
    #[arg(long)]
    update: bool,
}

/// A language that decoders are written in, and how one is built.
struct Language {
    name: &'static str,
    unavailable: fn() -> Option<String>,
    build: fn(&Path) -> Result<PathBuf>,
    /// It has 64-bit numbers. Without, times are off by less than 256 ns, and are compared as whole microseconds, which
    /// are those of the capture.
    exact: bool,
}

const LANGUAGES: [Language; 2] = [
    Language { name: "c", unavailable: c_unavailable, build: build_c, exact: true },
    Language { name: "js", unavailable: js_unavailable, build: build_js, exact: false },
];

/// Why no example can be built here; none when one can.
pub(crate) fn unavailable() -> Option<String> {
    let reasons: Option<Vec<String>> = LANGUAGES.iter().map(|language| (language.unavailable)()).collect();
    reasons.map(|reasons| reasons.join("; "))
}

/// Builds, replays and compares.
pub(crate) fn run(args: &Args) -> Result<()> {
    let captures = workspace::root().join("sdk/examples/captures");
    let capture = captures.join("memcached.pcap");
    if args.capture {
        make_capture(&capture)?;
    }
    let lossy = workspace::target().join("examples/memcached-lossy.pcap");
    fs::create_dir_all(workspace::target().join("examples"))?;
    fs::write(&lossy, without_every_seventh(&fs::read(&capture)?)?)?;
    let cases = [(capture, captures.join("memcached.jsonl")), (lossy, captures.join("memcached-lossy.jsonl"))];
    let podtap = release::build()?;
    let mut update = args.capture || args.update;
    for language in &LANGUAGES {
        if let Some(why) = (language.unavailable)() {
            println!("skipped: {}: {why}", language.name);
            continue;
        }
        let folder = workspace::target().join("examples").join(language.name);
        let plugins = folder.join("plugins");
        fs::create_dir_all(&plugins)?;
        let component = (language.build)(&folder).with_context(|| format!("the decoder in {}", language.name))?;
        let packed = pack(&component)?;
        let plugin = plugins.join("memcached.wasm.gz");
        fs::rename(&packed, &plugin)?;
        for (capture, golden) in &cases {
            let events = folder.join(golden.file_name().context("a golden is a file")?);
            let mut replay = release::command(podtap.clone());
            replay.arg("replay").arg(capture).arg("--plugins").arg(&plugins);
            process::output(replay.args(["--output", "json", "--output-file"]).arg(&events))?;
            if update {
                fs::copy(&events, golden)?;
            }
            compare(&fs::read_to_string(golden)?, &fs::read_to_string(&events)?, language.exact)
                .with_context(|| format!("{} differs from {}", workspace::short(&events), workspace::short(golden)))?;
        }
        update = false;
        let bytes = |file: &Path| fs::metadata(file).map(|metadata| metadata.len());
        let (size, packed) = (bytes(&component)?, bytes(&plugin)?);
        ensure!(packed <= CONFIG_MAP_BYTES, "{packed} bytes packed: a ConfigMap holds {CONFIG_MAP_BYTES}");
        println!("{}: the goldens' events; {size} bytes, {packed} by gzip", language.name);
    }
    Ok(())
}

/// An error with the first line that differs.
fn compare(expected: &str, found: &str, exact: bool) -> Result<()> {
    let (mut expected, mut found) = (expected.lines(), found.lines());
    for line in 1.. {
        let (expected, found) = (expected.next(), found.next());
        if expected.is_none() && found.is_none() {
            break;
        }
        let read =
            |line: Option<&str>| line.map(|line| if exact { Ok(line.into()) } else { whole_us(line) }).transpose();
        if read(expected)? != read(found)? {
            let shown = |line: Option<&str>| line.unwrap_or("(nothing)").to_owned();
            bail!("line {line}\nexpected {}\nfound    {}", shown(expected), shown(found));
        }
    }
    Ok(())
}

/// An event with its times rounded to whole microseconds.
fn whole_us(line: &str) -> Result<Value> {
    let mut event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
    let round = |ns: u64| ns.saturating_add(500) / 1000 * 1000;
    for pointer in ["/duration", "/timing/request_end", "/timing/response_start", "/timing/response_end"] {
        if let Some(value) = event.pointer_mut(pointer)
            && let Some(ns) = value.as_u64()
        {
            *value = round(ns).into();
        }
    }
    let time = event["time"].as_str().and_then(|time| time.strip_suffix('Z')).and_then(|time| time.rsplit_once('.'));
    let (seconds, fraction) = time.context("no time of nine digits after the second")?;
    event["time"] = format!("{seconds}.{:09}Z", round(fraction.parse()?)).into();
    Ok(event)
}

/// A capture of tcpdump's on the loopback interface (pcap in this machine's order, Ethernet, IPv4) without every seventh
/// TCP segment that carries payload.
fn without_every_seventh(capture: &[u8]) -> Result<Vec<u8>> {
    let (mut rest, mut kept, mut segments) = (capture, Vec::new(), 0);
    let mut take = |length: usize| -> Result<&[u8]> {
        let (piece, after) = rest.split_at_checked(length).context("the capture is cut off")?;
        rest = after;
        Ok(piece)
    };
    kept.extend_from_slice(take(24)?);
    while let Ok(header) = take(16) {
        let length = header.get(8..12).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes);
        let frame = take(length as usize)?;
        // IPv4: header length in 32-bit words and total length (RFC 791); TCP: data offset (RFC 9293).
        let byte = |at: usize| frame.get(at).copied().map(usize::from).context("a frame is cut off");
        let ip_header = (byte(14)? & 15) * 4;
        let headers = ip_header + (byte(14 + ip_header + 12)? >> 4) * 4;
        segments += usize::from(byte(16)? * 256 + byte(17)? > headers);
        if byte(16)? * 256 + byte(17)? == headers || segments % 7 != 0 {
            kept.extend_from_slice(header);
            kept.extend_from_slice(frame);
        }
    }
    Ok(kept)
}

/// The component by gzip, which podtap unpacks.
fn pack(component: &Path) -> Result<PathBuf> {
    let packed = component.with_extension("wasm.gz");
    let file = File::create(&packed).with_context(|| format!("cannot write {}", packed.display()))?;
    process::run(Command::new("gzip").args(["-9", "-n", "-c"]).arg(component).stdout(Stdio::from(file)))?;
    Ok(packed)
}

fn contract() -> PathBuf {
    workspace::root().join("wit/podtap-decoder.wit")
}

fn c_unavailable() -> Option<String> {
    let missing: Vec<&str> =
        ["clang", "wasm-ld"].into_iter().filter(|program| process::find(program).is_none()).collect();
    (!missing.is_empty()).then(|| format!("no {} (`cargo xtask setup --e2e` installs it)", missing.join(", ")))
}

/// Bindings by wit-bindgen, then clang, then wit-component.
fn build_c(folder: &Path) -> Result<PathBuf> {
    let (sources, bindings) = (workspace::root().join("sdk/examples/c"), folder.join("bindings"));
    fs::create_dir_all(&bindings)?;
    let mut resolve = Resolve::default();
    let package = resolve.push_file(contract())?;
    let world = resolve.select_world(&[package], Some("plugin"))?;
    let mut files = Files::default();
    wit_bindgen_c::Opts::default().build().generate(&mut resolve, world, &mut files)?;
    for (name, content) in files.iter() {
        fs::write(bindings.join(name), content)?;
    }
    let module = folder.join("module.wasm");
    let mut clang = Command::new("clang");
    clang.args(["--target=wasm32-unknown-unknown", "-std=c11", "-O3", "-Wall", "-Wextra", "-Werror"]);
    // No libc: the few functions that are needed are in runtime.c, the headers that name them in libc/.
    clang.args(["-ffreestanding", "-nostdlib", "-isystem"]).arg(sources.join("libc"));
    clang
        .args(["-mbulk-memory", "-Wl,--no-entry", "-Wl,--strip-debug", "-Wl,-z,stack-size=65536", "-I"])
        .arg(&bindings);
    clang.args(["memcached.c", "columns.c", "runtime.c"].map(|file| sources.join(file)));
    clang.args(["plugin.c", "plugin_component_type.o"].map(|file| bindings.join(file)));
    process::run(clang.arg("-o").arg(&module))?;
    let component = folder.join("memcached.wasm");
    fs::write(&component, podtap_toolchain::component(&module)?)?;
    Ok(component)
}

/// Where npm puts what turns JavaScript into components.
fn npm_folder() -> PathBuf {
    workspace::target().join("examples/npm")
}

fn componentize() -> PathBuf {
    npm_folder().join("node_modules/.bin/componentize-qjs")
}

fn js_unavailable() -> Option<String> {
    let missing = process::find("node").is_none() || !componentize().is_file();
    missing.then(|| format!("no {COMPONENTIZE} (`cargo xtask setup --e2e` installs it)"))
}

/// Installs what the example in JavaScript needs below the target folder, unless it is there.
pub(crate) fn install_js_tools() -> Result<()> {
    if componentize().is_file() || process::find("npm").is_none() {
        return Ok(());
    }
    println!("Installing by npm into {}: {COMPONENTIZE}", workspace::short(&npm_folder()));
    fs::create_dir_all(npm_folder())?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"]).arg(npm_folder());
    process::output(npm.arg(COMPONENTIZE)).map(drop)
}

/// QuickJS with the source in it. podtap gives no WASI: calls to it trap, and QuickJS makes none while it decodes.
fn build_js(folder: &Path) -> Result<PathBuf> {
    let component = folder.join("memcached.wasm");
    let mut componentize = Command::new(componentize());
    componentize.arg("--wit").arg(contract()).args([
        "--world",
        "plugin",
        "--stub-wasi",
        "--sync",
        "--opt-size",
        "--js",
    ]);
    componentize.arg(workspace::root().join("sdk/examples/js/memcached.js")).arg("--output").arg(&component);
    process::output(&mut componentize)?;
    Ok(component)
}

/// A conversation with a real memcached.
fn make_capture(file: &Path) -> Result<()> {
    let server = memcached::Server::start()?;
    let tcpdump = Tcpdump::start(file, &format!("tcp port {}", server.port()))?;
    memcached::converse(server.port())?;
    let dropped = tcpdump.stop()?;
    ensure!(dropped == 0, "the kernel dropped {dropped} packets: try again on a quieter machine");
    Ok(())
}
