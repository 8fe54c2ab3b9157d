//! The README's tables of attributes and anomalies are those of the decoder.

use std::fmt::Write as _;

use podtap_http::{Anomaly, Http};
use podtap_sdk::Decoder;

#[test]
fn the_readme_lists_attributes_and_anomalies() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).expect("the README can be read");
    let (before, _) = readme.split_once("-->\n").expect("the README has the marker");
    let mut expected = format!("{before}-->\n\n| attribute | type | meaning |\n|---|---|---|\n");
    for attribute in Http::DESCRIPTOR.attributes {
        let kind = format!("{:?}", attribute.kind);
        let kind = kind.rsplit("::").next().unwrap_or_default().to_lowercase();
        let _ = writeln!(expected, "| `{}` | {kind} | {} |", attribute.name, attribute.doc);
    }
    expected.push_str("\n## Anomalies\n\nNames in `podtap.http.anomaly`:\n\n| name | meaning |\n|---|---|\n");
    for anomaly in Anomaly::ALL {
        let _ = writeln!(expected, "| `{}` | {} |", anomaly.name(), anomaly.doc());
    }
    if std::env::var_os("PODTAP_UPDATE_DOCS").is_some() {
        return std::fs::write(path, expected).expect("the README can be written");
    }
    assert_eq!(readme, expected, "PODTAP_UPDATE_DOCS=1 cargo test -p podtap-http --test reference writes it anew");
}
