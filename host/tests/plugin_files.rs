//! Files of plugins that are packed, pinned, or not what they should be: one clear line for each fault, no memory beyond
//! the limit, and every other plugin is used all the same.

mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use podtap::config::{ByteSize, Digest};
use podtap::decoder::{ComponentFile, FileError, Packing};
use support::{Capture, Run, podtap};
use tempfile::TempDir;

const MEBIBYTE: usize = 1 << 20;

/// The component of a decoder that tests load, which is not beside podtap.
fn component() -> Vec<u8> {
    fs::read(support::plugins("test-plugins").join("misbehave.wasm")).expect("`cargo xtask plugins` has built it")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(bytes.len() + 1024);
    zstd_safe::compress(&mut packed, bytes, 19).unwrap();
    packed
}

/// Zeros, packed without ever being held.
fn gzip_bomb(mebibytes: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![0; MEBIBYTE];
    (0..mebibytes).for_each(|_| encoder.write_all(&zeros).unwrap());
    encoder.finish().unwrap()
}

/// The same as RLE blocks of 128 KiB, four bytes each (RFC 8878, 3.1.1.2), in a frame that tells no length.
fn zstd_bomb(mebibytes: usize) -> Vec<u8> {
    let window_of_128_kib = (17 - 10) << 3;
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0, window_of_128_kib];
    for block in (0..mebibytes * 8).rev() {
        let header = u32::from(block == 0) | 1 << 1 | (128 << 10) << 3;
        bomb.extend(&header.to_le_bytes()[..3]);
        bomb.push(0);
    }
    bomb
}

/// A folder of plugins, and one beside it with a capture and a configuration.
struct Place {
    plugins: TempDir,
    other: TempDir,
}

impl Place {
    fn new(files: &[(&str, &[u8])]) -> Place {
        let place = Place { plugins: tempfile::tempdir().unwrap(), other: tempfile::tempdir().unwrap() };
        files.iter().for_each(|(name, bytes)| fs::write(place.file(name), bytes).unwrap());
        let mut capture = Capture::default();
        capture.connection(1001, 80).client("GET /1 HTTP/1.1\r\n\r\n").server("HTTP/1.1 204 No\r\n\r\n").close();
        capture.connection(1002, 7).client("> a\n").server("a\n").close();
        fs::write(place.other.path().join("a.pcap"), capture.file(101)).unwrap();
        place
    }

    fn file(&self, name: &str) -> PathBuf {
        self.plugins.path().join(name)
    }

    /// Replays one exchange of HTTP and one of the decoder that tests load.
    fn replay(&self, settings: &str) -> Run {
        let [capture, config] = ["a.pcap", "podtap.yaml"].map(|name| self.other.path().join(name));
        fs::write(&config, settings).unwrap();
        let paths = [&capture, &config, self.plugins.path()].map(|path: &Path| path.to_str().unwrap());
        podtap(&["replay", paths[0], "--config", paths[1], "--plugins", paths[2], "--output", "json"])
    }
}

/// With such a file, HTTP is decoded as ever, and one line names the file and says what is wrong.
#[track_caller]
fn check(name: &str, bytes: &[u8], settings: &str, parts: &[&str]) {
    let place = Place::new(&[(name, bytes)]);
    let run = place.replay(settings);
    assert_eq!((run.code, run.exchanges().len()), (Some(1), 1), "{}", run.stderr);
    let errors = run.errors();
    let [error] = errors.as_slice() else { panic!("not one line: {errors:#?}") };
    for part in [place.file(name).to_str().unwrap()].iter().chain(parts) {
        assert!(error.contains(part), "no {part:?} in {error:?}");
    }
}

#[test]
fn packed_plugins_are_used_as_plain_ones() {
    let component = component();
    for (name, bytes) in
        [("a.wasm", component.clone()), ("a.wasm.gz", gzip(&component)), ("a.wasm.zst", zstd(&component))]
    {
        let run = Place::new(&[(name, &bytes)]).replay("");
        assert_eq!((run.code, run.exchanges().len()), (Some(0), 2), "{name}: {}", run.stderr);
    }
}

#[test]
fn packing_changes_no_digest() {
    let component = component();
    let place =
        Place::new(&[("a.wasm", &component), ("a.wasm.gz", &gzip(&component)), ("a.wasm.zst", &zstd(&component))]);
    let read = |name| ComponentFile::read(&place.file(name), ByteSize(16 << 20)).unwrap();
    for (name, packing) in [("a.wasm", Packing::Plain), ("a.wasm.gz", Packing::Gzip), ("a.wasm.zst", Packing::Zstd)] {
        let file = read(name);
        assert_eq!(
            (file.packing, file.digest, file.component.len()),
            (packing, Digest::of(&component), component.len())
        );
        assert_eq!(file.file_bytes as u64, place.file(name).metadata().unwrap().len());
    }
}

#[test]
fn a_bomb_is_given_up_at_the_limit() {
    let said = ["unpacks to more than plugins.max_bytes allows (16MiB)", "raise the limit"];
    check("bomb.wasm.gz", &gzip_bomb(64), "", &said);
    check("bomb.wasm.zst", &zstd_bomb(64), "", &said);
    let small = ["unpacks to more than plugins.max_bytes allows (512KiB)"];
    check("bomb.wasm.zst", &zstd_bomb(1), "plugins: {max_bytes: 512KiB}", &small);
    // One that tells its length.
    check("bomb.wasm.zst", &zstd(&vec![0; 17 * MEBIBYTE]), "", &["unpacks to more than plugins.max_bytes allows"]);
}

#[test]
fn a_file_that_is_too_long_is_not_read() {
    let place = Place::new(&[]);
    for name in ["long.wasm", "long.wasm.gz", "long.wasm.zst"] {
        fs::File::create(place.file(name)).unwrap().set_len(1 << 40).unwrap();
    }
    let run = place.replay("");
    assert_eq!((run.code, run.exchanges().len(), run.errors().len()), (Some(1), 1, 3), "{}", run.stderr);
    for (error, name) in run.errors().iter().zip(["long.wasm: ", "long.wasm.gz: ", "long.wasm.zst: "]) {
        assert!(error.contains(name) && error.contains("is longer than plugins.max_bytes allows (16MiB)"), "{error}");
    }
}

#[test]
fn what_is_cut_off_or_has_more_behind_it_is_named() {
    let (gzip, zstd) = (gzip(&component()), zstd(&component()));
    check("cut.wasm.gz", &gzip[..gzip.len() / 2], "", &["is damaged or cut off (gzip data ends early)"]);
    check("cut.wasm.gz", &gzip[..gzip.len() - 1], "", &["is damaged or cut off (gzip data ends early)"]);
    check("cut.wasm.zst", &zstd[..zstd.len() / 2], "", &["is damaged or cut off (zstd: "]);
    check("empty.wasm.gz", b"", "", &["is damaged or cut off (it has 0 bytes)"]);
    let mut wrong_checksum = gzip.clone();
    let at = gzip.len() - 8;
    wrong_checksum[at] ^= 1;
    check("torn.wasm.gz", &wrong_checksum, "", &["is damaged or cut off (gzip: corrupt gzip stream"]);
    check("more.wasm.gz", &[&gzip, &b"more"[..]].concat(), "", &["has 4 bytes behind the end of its gzip data"]);
    check("more.wasm.zst", &[&zstd, &b"more"[..]].concat(), "", &["has 4 bytes behind the end of its zstd data"]);
}

#[test]
fn a_name_that_does_not_fit_the_content_is_named() {
    let component = component();
    let (gzip, zstd) = (gzip(&component), zstd(&component));
    for (name, bytes, said) in [
        ("a.wasm.gz", &component, "its content is not packed so: name a component that is not packed *.wasm"),
        ("a.wasm.gz", &zstd, "its content is packed with zstd: name it *.wasm.zst"),
        ("a.wasm.zst", &component, "its content is not packed so: name a component that is not packed *.wasm"),
        ("a.wasm.zst", &gzip, "its content is packed with gzip: name it *.wasm.gz"),
        ("a.wasm", &gzip, "is named *.wasm but its content is packed with gzip: name it *.wasm.gz"),
        ("a.wasm", &zstd, "is named *.wasm but its content is packed with zstd: name it *.wasm.zst"),
    ] {
        check(name, bytes, "", &[said]);
    }
    check("a.wasm.gz", &self::gzip(b"#!/bin/sh"), "", &["is not a WebAssembly component"]);
    check("a.wasm.zst", &self::zstd(b"\0asm\x01\0\0\0"), "", &["is a core WebAssembly module"]);
}

/// The digests of the decoder beside podtap and of the one that tests load.
/// Pins of the decoders beside podtap, as a map in YAML has them.
fn stock_pins() -> String {
    let files = fs::read_dir(support::plugins("plugins")).unwrap().map(|entry| entry.unwrap());
    let pin = |file: fs::DirEntry| {
        format!("{}: '{}', ", file.file_name().to_string_lossy(), Digest::of(&fs::read(file.path()).unwrap()))
    };
    files.map(pin).collect()
}

fn digests() -> [Digest; 2] {
    let http = fs::read(support::plugins("plugins").join("http.wasm")).unwrap();
    [Digest::of(&http), Digest::of(&component())]
}

#[test]
fn what_is_pinned_is_used() {
    let [_, misbehave] = digests();
    let stock = stock_pins();
    let settings = format!("plugins: {{require_pins: true, pins: {{{stock}a.wasm: 'sha256:{misbehave}'}}}}");
    for (name, bytes) in [("a.wasm", component()), ("a.wasm.gz", gzip(&component())), ("b.wasm", component())] {
        let run = Place::new(&[(name, &bytes)]).replay(&settings);
        assert_eq!((run.code, run.exchanges().len()), (Some(0), 2), "{name}: {}", run.stderr);
    }
}

#[test]
fn another_component_than_the_pinned_one_is_refused() {
    let [http, misbehave] = digests();
    let settings = format!("plugins: {{pins: {{a.wasm: '{http}'}}}}");
    let said = format!("plugins.pins.a.wasm is {http}, but its SHA-256 is {misbehave}");
    for (name, bytes) in [("a.wasm", component()), ("a.wasm.zst", zstd(&component()))] {
        check(name, &bytes, &settings, &["is not the component that was pinned", &said]);
    }
}

#[test]
fn without_its_pin_a_component_is_not_looked_into_where_pins_are_required() {
    let [_, misbehave] = digests();
    let settings = format!("plugins: {{require_pins: true, pins: {{{}}}}}", stock_pins());
    let said = "is not pinned, and plugins.require_pins is set: if you trust it, add to plugins.pins `a.wasm: ";
    check("a.wasm", &component(), &settings, &[&format!("{said}{misbehave}`")]);
    check("a.wasm.gz", &gzip(&component()), &settings, &[&format!("{said}{misbehave}`")]);
    // Else it would be said that this is no component.
    check("a.wasm", b"#!/bin/sh", &settings, &[said]);
}

#[test]
fn a_pin_that_no_file_fits_is_named() {
    let [http, _] = digests();
    let pins = format!("plugins: {{pins: {{htpt.wasm: '{}', http.wasm: '{http}'}}}}", "0".repeat(64));
    let run = Place::new(&[("a.wasm", &component())]).replay(&pins);
    assert_eq!((run.code, run.exchanges().len(), run.errors().len()), (Some(1), 2, 1), "{}", run.stderr);
    assert!(run.errors()[0].contains("plugins.pins.htpt.wasm: no file has this name"), "{}", run.stderr);
}

/// A bomb is not to cost more than the limit: of 512 MiB, this process must not hold half as much.
#[test]
fn a_bomb_costs_no_memory_beyond_the_limit() {
    let kibibytes = |line: &str| {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let value = status.lines().find_map(|found| found.strip_prefix(line)).unwrap().trim();
        value.trim_end_matches(" kB").parse::<usize>().unwrap()
    };
    let place = Place::new(&[("a.wasm.gz", &gzip_bomb(512)), ("a.wasm.zst", &zstd_bomb(512))]);
    let before = kibibytes("VmRSS:");
    for name in ["a.wasm.gz", "a.wasm.zst"] {
        let error = ComponentFile::read(&place.file(name), ByteSize(16 << 20)).unwrap_err();
        assert!(matches!(error, FileError::UnpacksTooLong(_)), "{error}");
    }
    let grown = kibibytes("VmHWM:").saturating_sub(before);
    // Other tests of this file run meanwhile.
    assert!(grown < 256 << 10, "{grown} KiB");
}
