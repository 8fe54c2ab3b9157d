//! What the stream engine makes of real captures, against what other tools make of them: the same bytes and the same
//! gaps, per connection and direction.
//!
//! The captures are those of the folder that the environment variable PODTAP_CAPTURES names; tshark reads them in the
//! test, what Zeek and PcapPlusPlus made of them is in the folder. None of the three is always right. A difference that
//! is understood, with podtap not at fault, is in [`known`] with its reason. Every other one fails the test, and so
//! does a listed one that is no more.

mod engine;
mod known;
mod pcapplusplus;
mod stream;
mod tshark;
mod zeek;

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use known::List;
use stream::Difference;

/// A folder of captures.
struct Folder {
    root: PathBuf,
    /// The captures, by their paths within the folder, in order.
    captures: Vec<String>,
}

impl Folder {
    /// The folder that PODTAP_CAPTURES names; says that `test` is skipped where it names none.
    fn open(test: &str) -> Option<Folder> {
        let Some(root) = std::env::var_os("PODTAP_CAPTURES").map(PathBuf::from) else {
            skip(test, "PODTAP_CAPTURES does not name a folder with captures");
            return None;
        };
        let mut captures = Vec::new();
        find(&root, &mut |path| {
            if matches!(path.extension().and_then(OsStr::to_str), Some("pcap" | "pcapng" | "cap" | "trace")) {
                captures.push(path.strip_prefix(&root).expect("it is in the folder").display().to_string());
            }
        });
        assert!(!captures.is_empty(), "no capture in {}", root.display());
        captures.sort();
        Some(Folder { root, captures })
    }

    fn has(&self, file: &str) -> bool {
        self.captures.iter().any(|capture| capture == file)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }
}

/// All files in a folder and the folders in it.
fn find(folder: &Path, found: &mut dyn FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { find(&path, found) } else { found(&path) }
    }
}

/// Says that a test did not run. Not by `println`: what a test that passes prints is not shown.
fn skip(test: &str, why: &str) {
    writeln!(std::io::stderr(), "skipped: {test}: {why}").expect("standard error is open");
}

/// Fails on differences that are not listed, and on listed ones that are no more.
fn settle(folder: &Folder, name: &str, list: List, found: &[Difference]) {
    let mut new: Vec<&Difference> = found.iter().collect();
    let mut gone = String::new();
    for (reason, known) in list {
        let mut count = 0;
        for known in known.iter().filter(|known| folder.has(known.file())) {
            match new.iter().position(|difference| known.is(difference)) {
                Some(at) => {
                    new.remove(at);
                    count += 1;
                }
                None => gone += &format!("    {known} // {reason:?}\n"),
            }
        }
        println!("{reason:?}: {count}");
    }
    let new: String = new.iter().map(|difference| format!("    {difference}\n")).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "differences that {name} does not list:\n{new}\
         listed in {name}, and different no more or in another way:\n{gone}"
    );
}
