//! What stands in docs/authors/ is true: files that the guides show are written, commands are run in their order, and what
//! they print is what the guides say.
//!
//! A block behind `<!-- file: PATH -->` is a file; every block of Rust is one, and is compiled with the crate it lies in.
//! In a `console` block each `$ ` begins a command, and what follows is its standard output: `...` stands for anything, as
//! a line for any number of lines. Behind `<!-- as root -->` commands capture.

use std::fs;
use std::path::Path;
use std::process::Command;

use podtap_toolchain::{TARGET, Toolchain};

/// In the order in which they build on each other.
const GUIDES: [&str; 3] = ["your-first-decoder.md", "testing.md", "how-a-decoder-is-called.md"];

/// Whose commands `cargo xtask examples` runs, and what other tests write.
const ELSEWHERE: [&str; 2] = ["other-languages.md", "the-sdk.md"];

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/authors")
}

/// A fenced block: the comment before it, its language, its text and the line it begins at.
struct Block {
    marker: String,
    language: String,
    text: String,
    line: usize,
}

fn blocks(guide: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let (mut marker, mut open): (String, Option<Block>) = (String::new(), None);
    for (number, line) in guide.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                let marker = std::mem::take(&mut marker);
                open = Some(Block { marker, language: language.to_owned(), text: String::new(), line: number + 1 });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, None) => {
                let comment = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
                marker = comment.unwrap_or_default().to_owned();
            }
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// Is `line` what `pattern` says, `...` being anything?
fn line_fits(pattern: &str, line: &str) -> bool {
    let mut pieces = pattern.split("...");
    let Some(mut rest) = pieces.next().and_then(|first| line.strip_prefix(first)) else { return false };
    let mut open = false;
    for piece in pieces {
        open = true;
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.is_empty() || (open && pattern.ends_with("..."))
}

/// Is `found` what `expected` says?
fn fits(expected: &[&str], found: &[&str]) -> bool {
    match expected {
        [] => found.is_empty(),
        ["...", rest @ ..] => (0..=found.len()).any(|skipped| fits(rest, &found[skipped..])),
        [first, rest @ ..] => {
            found.split_first().is_some_and(|(line, left)| line_fits(first, line) && fits(rest, left))
        }
    }
}

/// Commands of a console block with what each prints.
fn commands(block: &str) -> Vec<(&str, Vec<&str>)> {
    let mut commands: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command, Vec::new())),
            (None, Some((_, output))) => output.push(line),
            (None, None) => panic!("output before a command: {line}"),
        }
    }
    commands
}

/// Why the commands cannot be run here.
fn cannot_run() -> Option<String> {
    let starts = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !matches!(Toolchain::find(), Ok(Some(_))) {
        return Some(format!("no compiler for {TARGET}"));
    }
    if let Some(program) = ["tcpdump", "python3", "bash"].into_iter().find(|program| !starts(program)) {
        return Some(format!("no {program}"));
    }
    (!rustix::process::geteuid().is_root()).then(|| "a capture needs root".to_owned())
}

#[test]
fn every_block_is_of_a_kind_that_is_tested() {
    for guide in GUIDES {
        for block in blocks(&fs::read_to_string(folder().join(guide)).unwrap()) {
            let is_file = block.marker.starts_with("file: ");
            let tested = is_file || matches!(block.language.as_str(), "console" | "text");
            assert!(tested, "{guide}, line {}: a block of {:?} that nothing tests", block.line, block.language);
        }
    }
    let on_disk = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut known = GUIDES.iter().chain(&ELSEWHERE);
    assert!(on_disk.into_iter().all(|name| known.clone().any(|guide| name == *guide)), "a guide that nothing tests");
    assert!(known.all(|guide| folder().join(guide).is_file()));
}

#[test]
fn patterns_fit_what_they_say() {
    assert!(line_fits("a...c", "abc") && line_fits("...", "") && line_fits("a...", "ab") && line_fits("a", "a"));
    assert!(!line_fits("a", "ab") && !line_fits("a...c", "abd") && !line_fits("a...c", "abcd"));
    assert!(fits(&["a", "...", "b"], &["a", "x", "y", "b"]) && fits(&["..."], &[]) && !fits(&["a"], &["a", "b"]));
}

#[test]
fn what_the_guides_show_is_what_happens() {
    if let Some(why) = cannot_run() {
        println!("skipped: {why}");
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let beside = Path::new(env!("CARGO_BIN_EXE_podtap")).parent().unwrap();
    let path = format!("{}:{}", beside.display(), std::env::var("PATH").unwrap());
    let bash = |command: &str| {
        let mut bash = Command::new("bash");
        bash.current_dir(work.path()).args(["-c", command]).env("PATH", &path);
        // With that of host/tests/author.rs: the same dependencies.
        bash.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("author"));
        let output = bash.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    for guide in GUIDES {
        for block in blocks(&fs::read_to_string(folder().join(guide)).unwrap()) {
            if let Some(file) = block.marker.strip_prefix("file: ") {
                fs::write(work.path().join(file), &block.text).unwrap();
            } else if block.language == "console" {
                for (command, expected) in commands(&block.text) {
                    let (_, stdout, stderr) = bash(command);
                    let found: Vec<_> = stdout.lines().map(str::trim_end).collect();
                    assert!(
                        fits(&expected, &found),
                        "{guide}, line {}: $ {command}\nexpected:\n{}\nfound:\n{stdout}\n{stderr}",
                        block.line,
                        expected.join("\n")
                    );
                }
            }
        }
    }
    let (passed, stdout, stderr) = bash("cargo test --quiet --manifest-path sensors/Cargo.toml");
    assert!(passed, "{stdout}\n{stderr}");
}
