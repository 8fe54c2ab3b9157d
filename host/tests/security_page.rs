//! Each test and each command that SECURITY.md names is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// What stands between backticks, outside of code blocks.
fn quoted(page: &str) -> Vec<&str> {
    page.split('`').skip(1).step_by(2).collect()
}

/// Is there a test of this name in a file?
fn has_test(source: &str, name: &str) -> bool {
    let test = source.split("#[test]").skip(1);
    let first_fn = |text: &str| {
        let (_, behind) = text.split_once("fn ")?;
        behind.split('(').next().map(str::to_owned)
    };
    test.filter_map(first_fn).any(|found| found == name)
}

#[test]
fn every_test_that_the_page_names_is_there() {
    let page = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let named: Vec<_> = quoted(&page).into_iter().filter_map(|word| word.split_once(".rs::")).collect();
    assert!(named.len() > 50, "{named:?}");
    for (file, name) in named {
        let source = fs::read_to_string(root().join(format!("{file}.rs"))).unwrap_or_default();
        assert!(has_test(&source, name), "{file}.rs has no test {name}");
    }
}

#[test]
fn every_command_that_the_page_names_is_there() {
    let page = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let commands: BTreeSet<_> =
        quoted(&page).into_iter().filter_map(|word| word.strip_prefix("cargo xtask ")).collect();
    assert!(commands.len() > 5, "{commands:?}");
    for command in commands {
        let (file, name) = match command.strip_prefix("e2e ") {
            Some(check) => ("e2e", check),
            None => ("main", command),
        };
        let source = fs::read_to_string(root().join(format!("xtask/src/{file}.rs"))).unwrap();
        let (first, rest) = name.split_at(1);
        let variant = format!("    {}{rest}", first.to_uppercase());
        let is_there = |line: &str| {
            let rest = line.strip_prefix(&variant);
            rest.is_some_and(|rest| rest == "," || rest.starts_with('('))
        };
        assert!(source.lines().any(is_there), "cargo xtask {command}");
    }
}

#[test]
fn every_claim_of_the_page_is_shown_by_something() {
    let page = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| ") && *line != "| claim | by | shown by |");
    let mut count = 0;
    for row in rows {
        let shown = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        assert!(shown.contains(".rs::") || shown.contains("cargo xtask "), "{row}");
        count += 1;
    }
    assert!(count > 30, "{count}");
}

#[test]
fn a_test_that_is_not_there_is_noticed() {
    let source = "#[test]\nfn a() {}\nfn b() {}\n#[test]\n#[should_panic]\nfn c(x: u8) {}\n";
    assert!(has_test(source, "a") && has_test(source, "c"));
    assert!(!has_test(source, "b") && !has_test(source, "d"));
}
