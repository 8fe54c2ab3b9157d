//! Real traffic for captures: an nginx of our own, and tcpdump on the loopback interface around what happens to it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{self, Running, Signal};

/// An nginx as a child process, with configuration, files and logs in a folder of its own.
pub(crate) struct Nginx {
    process: Running,
    folder: PathBuf,
}

impl Nginx {
    /// Empties `folder` but for `site/`, writes the configuration there and starts nginx; returns once it listens.
    /// `@NAMES@` in the configuration are replaced by `ports`, the first of which is nginx's own.
    pub(crate) fn start(folder: &Path, configuration: &str, ports: &[(&str, u16)]) -> Result<Self> {
        let program = process::find("nginx").context("nginx is not installed: `cargo xtask setup --e2e`")?;
        let mut configuration = configuration.to_owned();
        for (name, port) in ports {
            configuration = configuration.replace(&format!("@{name}@"), &port.to_string());
        }
        fs::create_dir_all(folder.join("tmp"))?;
        for log in ["access.log", "error.log"] {
            fs::write(folder.join(log), "")?;
        }
        fs::write(folder.join("nginx.conf"), configuration)?;
        let port = ports.first().context("nginx needs a port")?.1;
        if process::listens(port) {
            bail!("port {port} of 127.0.0.1 is taken: give another one with --port");
        }
        let mut command = Command::new(program);
        command.current_dir(folder).arg("-p").arg(folder).args(["-c", "nginx.conf", "-e", "error.log"]);
        let mut process = Running::start(command.stdin(Stdio::null()))?;
        process
            .wait_until(Duration::from_secs(10), || process::listens(port))
            .with_context(|| fs::read_to_string(folder.join("error.log")).unwrap_or_default())?;
        Ok(Self { process, folder: folder.to_owned() })
    }

    /// How many exchanges it has logged so far.
    pub(crate) fn logged(&self) -> usize {
        let log = fs::read(self.folder.join("access.log")).unwrap_or_default();
        log.iter().filter(|&&byte| byte == b'\n').count()
    }

    /// Stops nginx and returns its whole access log.
    pub(crate) fn stop(self) -> Result<String> {
        self.process.stop(Signal::Quit)?;
        Ok(fs::read_to_string(self.folder.join("access.log"))?)
    }
}

/// tcpdump that writes a capture of the loopback interface.
pub(crate) struct Tcpdump {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Tcpdump {
    /// Starts tcpdump; returns once it listens, so that nothing that comes later is missed.
    pub(crate) fn start(file: &Path, filter: &str) -> Result<Self> {
        let program = process::find("tcpdump").context("tcpdump is not installed: `cargo xtask setup --e2e`")?;
        let mut command = process::privileged(program);
        // A kernel buffer of 128 MiB. Standard output, as tcpdump opens files as a user who may not write here.
        command.args(["-i", "lo", "-n", "-B", "131072", "-w", "-", filter]);
        let file = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
        let mut child = command.stdin(Stdio::null()).stdout(file).stderr(Stdio::piped()).spawn()?;
        let mut stderr = BufReader::new(child.stderr.take().context("standard error is piped")?);
        let mut said = String::new();
        while !said.contains("listening on") {
            if stderr.read_line(&mut said)? == 0 {
                bail!("tcpdump does not capture: {}", said.trim());
            }
        }
        Ok(Self { child, stderr })
    }

    /// Ends the capture, its last packets included; returns how many packets the kernel dropped.
    pub(crate) fn stop(mut self) -> Result<u64> {
        // Longer than packets wait in the kernel's buffer for company.
        std::thread::sleep(Duration::from_millis(1500));
        interrupt(self.child.id())?;
        let mut dropped = None;
        for line in self.stderr.by_ref().lines() {
            let line = line?;
            if let Some(number) = line.strip_suffix(" packets dropped by kernel") {
                dropped = Some(number.trim().parse().with_context(|| line.clone())?);
            }
        }
        self.child.wait()?;
        dropped.context("tcpdump does not say how many packets were dropped")
    }
}

impl Drop for Tcpdump {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = interrupt(self.child.id());
            let _ = self.child.wait();
        }
    }
}

/// Ends tcpdump, or the sudo around it, which passes the signal on.
fn interrupt(process: u32) -> Result<()> {
    if process::is_root() {
        return process::send(Signal::Interrupt, process);
    }
    process::run(process::privileged("kill").arg("-INT").arg(process.to_string()))
}
