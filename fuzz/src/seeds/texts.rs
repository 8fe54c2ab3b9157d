//! Seeds of the targets that read no packets: what the repository holds of configurations, filters and events.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use podtap::config::sections;
use podtap::event::{Encoder, Event, Format};
use podtap::reference::{example_connection_event, example_event};
use serde_json::Value;

use super::{search_for, write};
use crate::boundary::kind;
use crate::spool::op;

/// Longer files of events are cut into shorter ones.
const MAX_EVENTS_BYTES: usize = 4 << 10;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Files of the repository with these endings, below some of its folders.
fn files(folders: &[&str], endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in folders {
        search_for(&root().join(folder), endings, &mut found).expect("the sources are there");
    }
    found
}

/// Code blocks of these languages in the pages of docs/ and in the README.
fn blocks(languages: &[&str]) -> Vec<(String, String)> {
    let mut pages = files(&["docs"], &["md"]);
    pages.push(root().join("README.md"));
    let mut found = Vec::new();
    for page in pages {
        let text = fs::read_to_string(page).unwrap_or_default();
        for block in text.split("\n```").skip(1).step_by(2) {
            let (language, content) = block.split_once('\n').unwrap_or_default();
            if languages.contains(&language) {
                found.push((language.to_owned(), content.to_owned()));
            }
        }
    }
    found
}

/// Seeds of [`crate::boundary`].
pub fn boundary() {
    write(|| {
        // What is counted up or down gives all columns something, and texts a length.
        let patterns: [Vec<u8>; 3] = [(0..=255).collect(), (0..=255).rev().collect(), vec![3; 64]];
        let mut seeds = BTreeSet::new();
        for number in 0..kind::ALL {
            for pattern in &patterns {
                for count in [0, 1, 5] {
                    seeds.insert([&[number, 0, count, 2], &pattern[..]].concat());
                }
            }
        }
        let name = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
        let texts = [name("http"), name("1.2.3"), name("Decodes HTTP")].concat();
        let attributes = [name("http.route"), name("Of the request"), vec![0], name("url.query"), name(""), vec![0]];
        let rest = [vec![0, 0, 1, 2], name("http"), name("https"), name("P\0P\x1f"), vec![2, 0], attributes.concat()];
        seeds.insert([vec![kind::DESCRIPTOR, 0], texts, rest.concat()].concat());
        seeds.insert([vec![kind::REFUSAL, 0, 1, 20, 0], b"it has no key `mood`".to_vec()].concat());
        for verdict in 0..4 {
            seeds.insert(vec![kind::PROBE, verdict, b'G', b'E', b'T']);
        }
        seeds
    });
}

/// Seeds of [`crate::config`].
pub fn config() {
    write(|| {
        let mut seeds = BTreeSet::new();
        for path in files(&["deploy", "docs"], &["yaml", "yml", "toml"]) {
            let is_toml = path.extension().is_some_and(|extension| extension == "toml");
            let text = fs::read(path).unwrap_or_default();
            seeds.insert([&[u8::from(is_toml)], &text[..]].concat());
        }
        for (language, text) in blocks(&["yaml", "toml", "json"]) {
            let format = ["yaml", "toml", "json"].iter().position(|name| *name == language).unwrap_or_default();
            seeds.insert([&[format as u8], text.as_bytes()].concat());
        }
        // Each key by itself, with its default or its bounds, in the file and as a variable.
        let keys = sections().iter().flat_map(|section| section.keys.iter().map(move |key| (section, key)));
        for (number, (section, key)) in keys.enumerate() {
            let leaf = key.path.trim_start_matches(&section.name).trim_start_matches('.');
            let bounds = key.range.iter().flat_map(|(least, most)| [Value::from(&**least), Value::from(&**most)]);
            for value in [key.default.clone()].into_iter().chain(bounds) {
                seeds.insert(format!("\0{}:\n  {leaf}: {value}\n", section.name).into_bytes());
                seeds.insert(format!("\u{1}[{}]\n{leaf} = {value}\n", section.name).into_bytes());
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let number = (number as u16).to_le_bytes();
                let length = text.len().min(255);
                seeds.insert([&[4, number[0], number[1], length as u8], &text.as_bytes()[..length]].concat());
            }
        }
        seeds
    });
}

/// Seeds of [`crate::spool`].
pub fn spool() {
    write(|| {
        let record = |kinds: u8, value: &[u8]| {
            let length = (value.len() as u16).to_le_bytes();
            [&[kinds, 4][..], b"http", &[3], b"key", &[1, 0, 0, 0], &length, value].concat()
        };
        let mut value = Encoder::new(Format::Json);
        let value = value.encode(Event::Exchange(&example_event())).expect("an event").to_vec();
        let two = [record(130, &value), record(131, b"{}")].concat();
        let mut seeds = BTreeSet::new();
        for noted in [0, 1, 2, 3, 199] {
            seeds.insert([&[0, noted, 2], &two[..]].concat());
            seeds.insert([&[0, noted, 2], &two[..], &[noted, 3], &two, &[3, 1, 2, 3]].concat());
            seeds.insert([&[0, noted, 4], &two[..], &[5, 1, 2, 3, 4, 5], &record(128, b"behind")].concat());
        }
        let all = [op::APPEND, op::READ, op::SETTLE, op::REOPEN, op::KILL, op::DAMAGE, op::CUT, op::GROW];
        for traffic in 0..2 {
            for last in all {
                let steps: [&[u8]; 6] = [
                    &[op::APPEND + 16, 100, 0, op::APPEND, 20, 0, op::READ],
                    &[last, 0, 30, 0, 1],
                    &[op::APPEND + 32, 200, 3, op::APPEND + 32, 200, 3, op::READ + 32, op::SETTLE],
                    &[op::KILL],
                    &[last, 1, 90, 0, 7],
                    &[op::READ + 16, op::SETTLE, op::REOPEN],
                ];
                seeds.insert([&[1, traffic], &steps.concat()[..]].concat());
            }
        }
        seeds
    });
}

/// Seeds of [`crate::msgpack`].
pub fn msgpack() {
    write(|| {
        let mut seeds = BTreeSet::new();
        let (exchange, connection) = (example_event(), example_connection_event());
        for format in [Format::Json, Format::Msgpack] {
            for event in [Event::Exchange(&exchange), Event::Connection(&connection)] {
                seeds.insert(Encoder::new(format).encode(event).expect("an event").to_vec());
            }
        }
        for path in files(&["plugins", "host/tests/captures"], &["jsonl"]) {
            let text = fs::read_to_string(path).unwrap_or_default();
            let (mut json, mut packed) = (String::new(), Vec::new());
            for line in text.lines() {
                json += line;
                json.push('\n');
                if let Ok(value) = serde_json::from_str::<Value>(line) {
                    packed.extend(pack(&value));
                }
                if json.len() > MAX_EVENTS_BYTES {
                    seeds.insert(std::mem::take(&mut json).into_bytes());
                    seeds.insert(std::mem::take(&mut packed));
                }
            }
            seeds.insert(json.into_bytes());
            seeds.insert(packed);
        }
        seeds
    });
}

/// In MessagePack, with the longest of all headers: every length is there to be changed.
fn pack(value: &Value) -> Vec<u8> {
    let long = |marker: u8, length: usize| [&[marker][..], &(length as u32).to_be_bytes()].concat();
    match value {
        Value::Null => vec![0xc0],
        Value::Bool(flag) => vec![0xc2 | u8::from(*flag)],
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => [&[0xcf][..], &number.to_be_bytes()].concat(),
            (None, Some(number)) => [&[0xd3][..], &number.to_be_bytes()].concat(),
            _ => [&[0xcb][..], &number.as_f64().unwrap_or_default().to_be_bytes()].concat(),
        },
        Value::String(text) => [long(0xdb, text.len()), text.clone().into_bytes()].concat(),
        Value::Array(items) => [long(0xdd, items.len()), items.iter().flat_map(pack).collect()].concat(),
        Value::Object(fields) => {
            let entries = fields.iter().flat_map(|(name, value)| [pack(&Value::from(&**name)), pack(value)].concat());
            [long(0xdf, fields.len()), entries.collect()].concat()
        }
    }
}

/// Seeds of [`crate::filter`].
pub fn filter() {
    write(|| {
        let lines =
            blocks(&["cel"]).into_iter().flat_map(|(_, text)| text.lines().map(str::to_owned).collect::<Vec<_>>());
        let mut seeds: BTreeSet<Vec<u8>> = lines.map(String::into_bytes).collect();
        let others = [
            "attributes.all(name, attributes.exists(other, other == name))",
            "[1, 2, 3].map(x, [x, x]).filter(y, size(y) > 1).exists_one(z, z[0] == 2)",
            "{'a': 1, 'b': [true, null]}['b'][0] ? 1u : -2.5e3 == double('3')",
            "type(event) == map && string(duration) + target == '' && b'\\x00' != r'\\d'",
            "target.matches('^(a|b)*c{2,5}$') || size([0, 1] + [2]) == 3 % 2 // why",
            "\"\"\"\\u00e9 'x' \"\"\".contains('\\'') && !has(client.address) && -1 in [1, 2]",
        ];
        seeds.extend(others.map(|text| text.as_bytes().to_vec()));
        seeds
    });
}
