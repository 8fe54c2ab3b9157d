//! docs/authors/the-sdk.md is what the SDK's own documentation says, in short: each type's methods and the first sentence of
//! each.

use std::fmt::Write as _;
use std::path::Path;

const HEAD: &str = "\
# The SDK at a glance

Every method that a decoder may call, and the first sentence on each; `cargo doc -p podtap-sdk --open` in your crate has all
of it, with examples. This page is written by a test, from the SDK itself.

A read gives a value or a `Break`: `Gap` (bytes were not captured), `End` (the side has ended), `Malformed` (what came is not
what was asked for; your own code may say so too). Pass all three on with `?`: `requests` and `responses` know what to do.

| what you want | how |
|---|---|
| the same connection's responses in order, or by an id | `Connection::exchanges`, `Connection::exchanges_by_id` |
| something remembered from a request to its response | `Exchange::state`, of the type `T` of `Exchanges<T>` |
| something remembered for the whole connection | an `Rc<RefCell<...>>` of your own, in the closures that you give to `requests` and `responses`; compare `Stream::losses` to know whether it can still be trusted |
| large payload passed over | `Stream::skip`: podtap then leaves it out |
| nothing more of a connection, as when a server begins to push behind a certain command | remember that in `Exchange::state`; the function that reads requests returns `Err(Break::End)`, which ends that side's task; the one that reads responses finishes the exchange, calls `Stream::ignore_connection`, and awaits `Stream::rest` |
| another protocol from here on, as after an upgrade | `Stream::hand_over` |
| payload that is compressed | `Stream::unpack` |
| a request that is not worth an event | `Exchange::leave_out` |
| a decoder without configuration | `podtap_sdk::unconfigured` |
| a configuration of its own | `Decoder::configure` is given its section of `plugins.config` as JSON; read it with `serde_json`, as `plugins/http` does, and let the error name the key at fault |
| fields that are no text | the kinds of `fields!`: `Text`, `Uint`, `Int`, `Float`, `Flag` (true or false) |
| a line in podtap's log | `podtap_sdk::log`, rate-limited; never with payload in it, for that is a secret of those who sent it |
| a short, stable stand-in for a long text, to group by | `podtap_sdk::digest` |
";

/// Types with their sources.
const TYPES: [(&str, &[&str]); 7] = [
    ("Connection", &["instance.rs"]),
    ("Stream", &["stream.rs", "packed.rs"]),
    ("Losses", &["stream.rs"]),
    ("Exchanges", &["exchanges/in_order.rs"]),
    ("ExchangesById", &["exchanges/by_id.rs"]),
    ("Exchange", &["exchanges.rs"]),
    ("Unpacked", &["packed.rs"]),
];

/// The methods of a type in one of its sources, as rows.
fn rows(source: &str, name: &str, rows: &mut String) {
    let (mut inside, mut doc) = (false, String::new());
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("impl").filter(|_| line.ends_with('{')) {
            inside = !rest.contains(" for ") && rest.split([' ', '<']).any(|word| word == name);
        }
        let code = line.trim_start();
        if let Some(text) = code.strip_prefix("///") {
            doc += text;
            doc += "\n";
            continue;
        }
        if code.starts_with("#[") {
            continue;
        }
        let signature = code.strip_prefix("pub async fn ").or(code.strip_prefix("pub fn "));
        if let Some(signature) = signature.filter(|_| inside && line.starts_with("    p")) {
            let mut whole = signature.to_owned();
            while !whole.contains('{') {
                whole += lines.next().expect("a function has a body").trim();
            }
            writeln!(rows, "| `{}` | {} |", call(&whole), sentence(&doc)).unwrap();
        }
        doc.clear();
    }
}

/// `name(parameters)`, without types.
fn call(signature: &str) -> String {
    let signature = signature.replace("->", "");
    let name = signature.split(['<', '(']).next().unwrap_or_default();
    let (mut parameters, mut depth, mut word) = (Vec::new(), 0, String::new());
    // What stands between the parentheses: names end at a colon, and begin behind a comma that is in no brackets.
    let start =
        signature.find(&format!("{name}(")).map_or_else(|| signature.find(">(").map(|at| at + 1), |_| Some(name.len()));
    for letter in signature[start.unwrap_or_default()..].chars() {
        match letter {
            '(' | '<' | '[' => depth += 1,
            ')' | '>' | ']' => depth -= 1,
            _ => {}
        }
        match letter {
            ':' if depth == 1 => parameters.push(std::mem::take(&mut word)),
            ',' | '(' if depth == 1 => word.clear(),
            _ if depth == 0 => break,
            _ => word.push(letter),
        }
    }
    let parameters: Vec<_> = parameters.iter().map(|word| word.trim().trim_start_matches("mut ")).collect();
    format!("{name}({})", parameters.join(", "))
}

/// The first sentence of a documentation comment, its links as plain code.
fn sentence(doc: &str) -> String {
    let paragraph = doc.split("\n\n").next().unwrap_or_default();
    let text = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = text.match_indices(". ").map(|(at, _)| at + 1).next().unwrap_or(text.len());
    text[..end].replace("[`", "`").replace("`]", "`").replace("crate::", "")
}

#[test]
fn the_page_says_what_the_sdk_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut page = HEAD.to_owned();
    for (name, sources) in TYPES {
        let mut methods = String::new();
        for source in sources {
            rows(&std::fs::read_to_string(root.join("sdk/src").join(source)).unwrap(), name, &mut methods);
        }
        assert!(!methods.is_empty(), "{name} has no methods");
        write!(page, "\n## `{name}`\n\n| method | what it does |\n|---|---|\n{methods}").unwrap();
    }
    let path = root.join("docs/authors/the-sdk.md");
    if std::env::var_os("PODTAP_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == page,
        "docs/authors/the-sdk.md is not what the SDK says; \
         PODTAP_UPDATE_DOCS=1 cargo test -p podtap --test sdk_page writes it anew"
    );
}
