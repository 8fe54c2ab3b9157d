//! Which components the operator trusts.
//!
//! In: a component as its file holds it, before anything looks into it, and the pins of the configuration. Out: whether
//! it may be compiled and run. What counts is the digest of the component, which packing does not change; the names of
//! pins only say which file is meant to be what, so that a file that was exchanged is told from one that is new.

use std::path::Path;

use super::directory::Found;
use super::packed::{ComponentFile, Packing};
use super::sandbox::LoadError;
use crate::config::Plugins;

/// May the component be compiled and run?
///
/// # Errors
/// When its file is pinned to another component, or is not pinned where that is required.
pub fn check_pin(file: &ComponentFile, config: &Plugins) -> Result<(), LoadError> {
    if config.pins.values().any(|pinned| *pinned == file.digest) {
        return Ok(());
    }
    let name = component_name(&file.path);
    match config.pins.iter().find(|(pin, _)| component_name(Path::new(pin)) == name) {
        Some((pin, pinned)) => {
            Err(LoadError::PinnedToAnother { pin: pin.clone(), pinned: *pinned, found: file.digest })
        }
        None if config.require_pins => Err(LoadError::Unpinned { name, found: file.digest }),
        None => Ok(()),
    }
}

/// Pins that neither the name nor the digest of any file fits. One with a typing error in its name guards nothing.
pub(super) fn idle<'c>(config: &'c Plugins, files: &'c [Found]) -> impl Iterator<Item = &'c str> {
    let fits = |pin: &str, found: &Found| component_name(Path::new(pin)) == component_name(&found.path);
    let pins = config.pins.iter().filter(move |(pin, digest)| {
        !files.iter().any(|found| found.digest.is_some_and(|found| found == **digest) || fits(pin, found))
    });
    pins.map(|(pin, _)| pin.as_str())
}

/// A file's name without what says how it is packed: `http.wasm` of `http.wasm.gz`.
fn component_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let packed = Packing::of(path).map_or("", Packing::packed_ending);
    name.strip_suffix(packed).unwrap_or(&name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Digest;

    /// Whether a file of this name and content passes, with pins of names to contents.
    #[track_caller]
    fn check(name: &str, content: &str, pins: &[(&str, &str)], required: bool, refused: Option<&str>) {
        let pins = pins.iter().map(|(pin, content)| ((*pin).to_owned(), Digest::of(content.as_bytes())));
        let config = Plugins { pins: pins.collect(), require_pins: required, ..Plugins::default() };
        let file = ComponentFile {
            path: Path::new("/plugins").join(name),
            packing: Packing::Plain,
            file_bytes: 0,
            component: Vec::new(),
            digest: Digest::of(content.as_bytes()),
        };
        let said = check_pin(&file, &config).map_err(|error| error.to_string());
        match refused {
            None => assert_eq!(said, Ok(()), "{name}"),
            Some(part) => assert!(said.as_ref().is_err_and(|error| error.contains(part)), "{name}: {said:?}"),
        }
    }

    #[test]
    fn without_pins_everything_passes_unless_they_are_required() {
        check("a.wasm", "a", &[], false, None);
        check("b.wasm", "b", &[("a.wasm", "a")], false, None);
        check("b.wasm", "b", &[("a.wasm", "a")], true, Some("b.wasm: 3e23e8160039594a33894f6564e1b1348bbd7a0088d4"));
    }

    #[test]
    fn what_is_pinned_must_be_what_was_pinned() {
        for required in [false, true] {
            check("a.wasm", "a", &[("a.wasm", "a")], required, None);
            check("a.wasm", "b", &[("a.wasm", "a")], required, Some("plugins.pins.a.wasm"));
        }
    }

    #[test]
    fn packing_is_no_part_of_the_name() {
        for name in ["a.wasm", "a.wasm.gz", "a.wasm.zst"] {
            for pin in ["a.wasm", "a.wasm.gz", "a.wasm.zst"] {
                check(name, "a", &[(pin, "a")], true, None);
                check(name, "b", &[(pin, "a")], false, Some("plugins.pins.a.wasm"));
            }
        }
    }

    #[test]
    fn a_trusted_component_may_have_any_name() {
        check("mine.wasm", "a", &[("a.wasm", "a")], true, None);
        // Two of one name in two directories, the later in place of the earlier.
        check("a.wasm", "old", &[("a.wasm", "new"), ("old.wasm", "old")], true, None);
    }
}
