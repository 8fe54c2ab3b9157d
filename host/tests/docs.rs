//! The reference pages are what the library makes of its types.

use std::path::Path;

fn check(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    if std::env::var_os("PODTAP_UPDATE_DOCS").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let line = found.lines().zip(made.lines()).position(|(found, made)| found != made);
    assert!(
        found == made,
        "docs/{name} is not what the types say (first at line {}); \
         PODTAP_UPDATE_DOCS=1 cargo test -p podtap --test docs writes it anew",
        line.unwrap_or_else(|| found.lines().count().min(made.lines().count())) + 1
    );
}

#[test]
fn configuration_page_is_current() {
    check("configuration.md", &podtap::reference::configuration_page());
}

#[test]
fn events_page_is_current() {
    check("events.md", &podtap::reference::events_page());
}
