//! The text of the contract with decoders: what was released stays as it was.
//!
//! `wit/podtap-decoder.wit` is the contract as it is; `wit/released/podtap-decoder-VERSION.wit` is that of each version
//! podtap speaks, to the letter, for the meaning of the columns stands in the comments.

use std::path::{Path, PathBuf};

use podtap::decoder::CONTRACT_VERSIONS;

fn wit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit")
}

fn current() -> String {
    std::fs::read_to_string(wit().join("podtap-decoder.wit")).unwrap()
}

fn released(version: &str) -> Option<String> {
    std::fs::read_to_string(wit().join(format!("released/podtap-decoder-{version}.wit"))).ok()
}

/// The version that a text gives its package.
fn version_of(text: &str) -> &str {
    let package = text.lines().find_map(|line| line.strip_prefix("package podtap:decoder@")).unwrap();
    package.trim_end_matches(';')
}

#[test]
fn the_newest_version_is_that_of_the_text() {
    let (current, newest) = (current(), CONTRACT_VERSIONS.last().unwrap());
    assert_eq!(
        version_of(&current),
        *newest,
        "wit/podtap-decoder.wit has a version that podtap does not say it speaks: add it at the end of \
         CONTRACT_VERSIONS (host/src/decoder/contract.rs), and see there what else a new version takes"
    );
}

#[test]
fn a_version_keeps_its_text() {
    let current = current();
    let version = version_of(&current);
    let kept = released(version).unwrap_or_default();
    let line = current.lines().zip(kept.lines()).position(|(current, kept)| current != kept);
    let line = line.unwrap_or_else(|| current.lines().count().min(kept.lines().count())) + 1;
    assert!(
        current == kept,
        "wit/podtap-decoder.wit differs from wit/released/podtap-decoder-{version}.wit (first at line {line}). \
         Decoders that others have built rely on that text. If podtap has been released with {version}, give the new \
         text a new version, keep a copy of it as wit/released/podtap-decoder-NEW.wit, and leave the old copy alone. \
         Only while {version} is in no release (CHANGELOG.md: Unreleased), or for a comment that changes no meaning, \
         make the copy anew: cp wit/podtap-decoder.wit wit/released/podtap-decoder-{version}.wit"
    );
}

#[test]
fn every_version_that_podtap_speaks_has_its_text() {
    for version in CONTRACT_VERSIONS {
        let text = released(version).unwrap_or_else(|| panic!("no wit/released/podtap-decoder-{version}.wit"));
        assert_eq!(version_of(&text), *version);
    }
}
