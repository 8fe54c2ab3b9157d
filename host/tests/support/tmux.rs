//! A real terminal.

use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A terminal that is not looked at: tmux with a server of its own.
pub(crate) struct Tmux(TempDir);

impl Tmux {
    /// With a shell in it. None where there is no tmux, which is said.
    pub(crate) fn start(columns: u16, lines: u16) -> Option<Tmux> {
        if Command::new("tmux").arg("-V").output().is_err() {
            println!("skipped: no tmux; apt-get install tmux");
            return None;
        }
        let tmux = Tmux(tempfile::tempdir().unwrap());
        let size = ["-x".to_owned(), columns.to_string(), "-y".to_owned(), lines.to_string()];
        let size: Vec<_> = size.iter().map(String::as_str).collect();
        tmux.run(&[&["-f", "/dev/null", "new-session", "-d"], &size[..], &["env PS1='$ ' sh"]].concat());
        Some(tmux)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux").arg("-S").arg(self.0.path().join("tmux")).args(arguments).output().unwrap();
        assert!(output.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn wait_for(&self, wanted: &str) -> String {
        let begun = Instant::now();
        loop {
            let shown = self.run(&["capture-pane", "-p", "-t", "0"]);
            if shown.contains(wanted) {
                return shown;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{wanted:?} does not come:\n{shown}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn keys(&self, keys: &[&str]) {
        self.run(&[&["send-keys", "-t", "0"], keys].concat());
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = Command::new("tmux").arg("-S").arg(self.0.path().join("tmux")).arg("kill-server").output();
    }
}
