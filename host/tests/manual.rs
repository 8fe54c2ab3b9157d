//! Manual pages and completions are of every command there is.

mod support;

use std::collections::BTreeSet;
use std::fs;

use clap::CommandFactory as _;
use podtap::cli::Arguments;
use support::podtap;

#[test]
fn every_command_has_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man");
    let run = podtap(&["man", "--out", pages.to_str().unwrap()]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let found: BTreeSet<_> =
        fs::read_dir(&pages).unwrap().map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    let command = Arguments::command();
    let named = |name: &str| format!("podtap-{name}.1");
    let mut expected = BTreeSet::from(["podtap.1".to_owned()]);
    for command in command.get_subcommands() {
        expected.insert(named(command.get_name()));
        expected
            .extend(command.get_subcommands().map(|sub| named(&format!("{}-{}", command.get_name(), sub.get_name()))));
    }
    assert_eq!(found, expected);
    let page = fs::read_to_string(pages.join("podtap-report.1")).unwrap();
    assert!(page.contains(".TH podtap-report 1") && page.contains("\\-\\-output"), "{page}");
}

#[test]
fn shells_get_the_names_of_commands_and_flags() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = podtap(&["completion", shell]);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
        for word in ["replay", "report", "top", "kafka-brokers"] {
            assert!(run.stdout.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(podtap(&["completion", "nosh"]).code, Some(2));
}

#[test]
fn bash_takes_the_completion() {
    if std::process::Command::new("bash").arg("--version").output().is_err() {
        println!("skipped: no bash");
        return;
    }
    let script = podtap(&["completion", "bash"]).stdout;
    let asks = "\nCOMP_WORDS=(podtap rep); COMP_CWORD=1; _podtap podtap rep podtap; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let output = std::process::Command::new("bash").args(["--norc", "-c", &(script + asks)]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "replay\nreport\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
