//! Which versions of the contract this podtap speaks, and which one a component is made for.
//!
//! In: the names that a component imports and exports. Out: its version of `podtap:decoder`, or what to do about it.
//! wasmtime would take any version that semantic versioning calls compatible, and give every other one the same error as
//! a file that is no decoder at all; here a version is spoken or it is not.

use super::sandbox::LoadError;

/// Versions of `podtap:decoder` that this podtap speaks, the oldest first. Each has its text, which no longer changes, in
/// `wit/released/`; the newest is that of `wit/podtap-decoder.wit`, and the only one that `bindings.rs` knows: to
/// speak an older one beside it takes bindings of that one's text.
pub const CONTRACT_VERSIONS: &[&str] = &["0.1.0"];

/// The package of the contract, as the names of its interfaces begin.
const PACKAGE: &str = "podtap:decoder/";

/// What a decoder may import.
const IMPORTS: [&str; 2] = ["types", "host"];

/// What it must export.
const EXPORT: &str = "decoder";

/// Longest version that is repeated in an error.
const MAX_VERSION: usize = 32;

/// Of names, joined, that are repeated in an error; bytes.
const MAX_NAMES: usize = 512;

/// The version of the contract that a component with these names is made for.
///
/// # Errors
/// When podtap does not speak it, gives it less than it asks for, or the component is no decoder.
pub(super) fn version(imports: &[String], exports: &[String]) -> Result<&'static str, LoadError> {
    // First of all, for another version may have other imports too, and what helps then is the version.
    let other = imports.iter().chain(exports).filter_map(|name| interface(name)).find_map(|(_, version)| {
        (!CONTRACT_VERSIONS.contains(&version)).then(|| version.chars().take(MAX_VERSION).collect::<String>())
    });
    if let Some(wanted) = other {
        return Err(LoadError::ContractVersion { wanted });
    }
    let is_given = |name: &str| interface(name).is_some_and(|(interface, _)| IMPORTS.contains(&interface));
    let foreign: Vec<_> = imports.iter().filter(|name| !is_given(name)).map(String::as_str).collect();
    if !foreign.is_empty() {
        let mut names = foreign.join(", ");
        names.truncate(names.floor_char_boundary(MAX_NAMES));
        return Err(LoadError::Imports(names));
    }
    let exported = exports.iter().filter_map(|name| interface(name)).find(|(interface, _)| *interface == EXPORT);
    let spoken = |wanted: &str| CONTRACT_VERSIONS.iter().find(|spoken| **spoken == wanted).copied();
    exported.and_then(|(_, version)| spoken(version)).ok_or(LoadError::NoDecoder)
}

/// Interface and version of a name of the contract: `podtap:decoder/host@0.1.0`.
fn interface(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(PACKAGE)?.split_once('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(imports: &[&str], exports: &[&str], expected: &str) {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let said = match version(&owned(imports), &owned(exports)) {
            Ok(version) => version.to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(said.starts_with(expected), "{said}");
    }

    const TYPES: &str = "podtap:decoder/types@0.1.0";
    const HOST: &str = "podtap:decoder/host@0.1.0";
    const DECODER: &str = "podtap:decoder/decoder@0.1.0";

    #[test]
    fn a_decoder_of_a_spoken_version() {
        check(&[TYPES, HOST], &[DECODER], "0.1.0");
        check(&[], &[DECODER], "0.1.0");
        // QuickJS components bring further exports.
        check(&[TYPES], &["init", DECODER], "0.1.0");
    }

    #[test]
    fn another_version_is_named_whatever_else_is_wrong() {
        check(&["podtap:decoder/types@0.2.0"], &["podtap:decoder/decoder@0.2.0"], "is made for podtap:decoder@0.2.0");
        // Compatible by semantic versioning, and yet not spoken.
        check(&[TYPES, HOST], &["podtap:decoder/decoder@0.1.1"], "is made for podtap:decoder@0.1.1");
        check(&["wasi:io/poll@0.2.0", "podtap:decoder/time@9.0.0"], &[], "is made for podtap:decoder@9.0.0");
    }

    #[test]
    fn more_than_the_world_gives() {
        check(&[TYPES, "wasi:io/poll@0.2.0"], &[DECODER], "asks for imports that podtap does not give (wasi:io/poll");
        check(
            &["podtap:decoder/files@0.1.0"],
            &[DECODER],
            "asks for imports that podtap does not give (podtap:decoder",
        );
        check(&["podtap:decoder/host"], &[DECODER], "asks for imports that podtap does not give (podtap:decoder/host)");
    }

    #[test]
    fn no_decoder() {
        check(&[], &[], "is not a decoder for this podtap");
        check(&[TYPES], &["podtap:decoder/decoder", "podtap:decoder/other@0.1.0"], "is not a decoder for this podtap");
    }
}
