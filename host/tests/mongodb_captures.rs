//! A capture of MongoDB that holds nothing but what is left out unless it is asked for: Arkime's test has five
//! connections of an old shell, of which only the first message was captured (isMaster, getnonce), without an answer.
//!
//! It is in the folder that PODTAP_CAPTURES names; other projects' captures of MongoDB are read by the decoder's own tests.

mod support;

use std::path::PathBuf;

use support::podtap;

#[test]
fn handshakes_of_which_no_answer_was_captured_are_seen_where_they_are_asked_for() {
    let Some(folder) = std::env::var_os("PODTAP_CAPTURES").map(PathBuf::from) else {
        return println!("skipped: PODTAP_CAPTURES names no folder of captures");
    };
    let capture = folder.join("mongodb/arkime-mongo.pcap");
    if !capture.is_file() {
        return println!("skipped: no {}", capture.display());
    }
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("podtap.yaml");
    std::fs::write(&config, "plugins:\n  config:\n    mongodb:\n      report_monitoring: true\n")
        .expect("it is written");
    let [capture, config] = [&capture, &config].map(|path| path.to_str().expect("UTF-8"));
    let replay = |more: &[&str]| podtap(&[&["replay", capture, "--output", "json"], more].concat());

    let usual = replay(&[]);
    assert!(usual.exchanges().is_empty());
    assert_eq!((usual.count("connections detected"), usual.count("payload bytes decoded")), (5, 706));
    let all = replay(&["--config", config]).exchanges();
    let seen: Vec<_> =
        all.iter().map(|exchange| (exchange["operation"].clone(), exchange["outcome"].clone())).collect();
    let expected =
        ["ismaster", "getnonce", "isMaster", "isMaster", "getnonce"].map(|it| (it.into(), "no_response".into()));
    assert_eq!(seen, expected);
}
