//! The README's table of attributes is that of the descriptor.

use std::fmt::Write as _;

use podtap_mysql::MySql;
use podtap_sdk::Decoder;

#[test]
fn the_readme_lists_the_attributes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).expect("the README can be read");
    let (before, _) = readme.split_once("-->\n").expect("the README has the marker");
    let mut expected = format!("{before}-->\n\n| attribute | type | meaning |\n|---|---|---|\n");
    for attribute in MySql::DESCRIPTOR.attributes {
        let kind = format!("{:?}", attribute.kind);
        let kind = kind.rsplit("::").next().unwrap_or_default().to_lowercase();
        let _ = writeln!(expected, "| `{}` | {kind} | {} |", attribute.name, attribute.doc);
    }
    if std::env::var_os("PODTAP_UPDATE_DOCS").is_some() {
        return std::fs::write(path, expected).expect("the README can be written");
    }
    assert_eq!(readme, expected, "PODTAP_UPDATE_DOCS=1 cargo test -p podtap-mysql --test reference writes it anew");
}
