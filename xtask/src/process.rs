//! Child processes: run one and insist on its success, ask whether a program is there, and end one for certain.

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A child process that is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    name: String,
    left: bool,
}

impl Running {
    /// Starts `command`.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let name = name(command);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, name, left: false })
    }

    /// The process number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_alive(&mut self) -> Result<bool> {
        Ok(self.status()?.is_none())
    }

    /// How it ended; none while it runs.
    pub(crate) fn status(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Lets it run on beyond this program's end.
    pub(crate) fn leave(mut self) {
        self.left = true;
    }

    /// Waits until `ready` says so; an error when the process ends before, or after `limit`.
    pub(crate) fn wait_until(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let start = Instant::now();
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended before it was ready: {status}", self.name);
            }
            if start.elapsed() > limit {
                bail!("{} was not ready within {} s", self.name, limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn stop(mut self, signal: Signal) -> Result<()> {
        send(signal, self.child.id())?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        // Both fail only where the process has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What can be sent to a process.
#[derive(Clone, Copy)]
pub(crate) enum Signal {
    /// As Ctrl-C does.
    Interrupt,
    /// Finish what is being done, then end; a kind request to nginx.
    Quit,
    Terminate,
    Kill,
    /// Stand still.
    Freeze,
    /// Go on.
    Thaw,
}

/// Sends a signal to a process of this user.
pub(crate) fn send(signal: Signal, process: u32) -> Result<()> {
    let signal = match signal {
        Signal::Interrupt => libc::SIGINT,
        Signal::Quit => libc::SIGQUIT,
        Signal::Terminate => libc::SIGTERM,
        Signal::Kill => libc::SIGKILL,
        Signal::Freeze => libc::SIGSTOP,
        Signal::Thaw => libc::SIGCONT,
    };
    let process = libc::pid_t::try_from(process)?;
    // SAFETY: kill takes two numbers and touches no memory of ours.
    if unsafe { libc::kill(process, signal) } != 0 {
        return Err(std::io::Error::last_os_error()).with_context(|| format!("cannot signal process {process}"));
    }
    Ok(())
}

/// Runs `command` with its output on the terminal; an error unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", name(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", line(command));
    }
    Ok(())
}

/// Runs `command` and returns its standard output; an error with its standard error unless it succeeds.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } = captured(command)?;
    if !status.success() {
        bail!("{} failed: {status}\n{}", line(command), String::from_utf8_lossy(&stderr).trim_end());
    }
    String::from_utf8(stdout).with_context(|| format!("{} wrote no UTF-8", name(command)))
}

/// Runs `command` with nothing on the terminal and returns all of its output, success or not.
pub(crate) fn captured(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", name(command)))
}

/// The program's path when it is in `PATH` or in the folders for administrators, which `PATH` often lacks.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A command as the superuser: as it is for root, else through sudo.
pub(crate) fn privileged(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

/// Whether `privileged` can work: as root, or by a sudo that asks nothing or has somebody to ask.
pub(crate) fn can_be_privileged() -> bool {
    let sudo = || captured(Command::new("sudo").args(["-n", "true"])).is_ok_and(|output| output.status.success());
    is_root() || sudo() || (find("sudo").is_some() && std::io::stdin().is_terminal())
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid takes nothing, cannot fail and touches no memory of ours.
    unsafe { libc::geteuid() == 0 }
}

/// A TCP port of 127.0.0.1 that nobody listens on just now.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Whether somebody listens on this port of 127.0.0.1.
pub(crate) fn listens(port: u16) -> bool {
    TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), Duration::from_millis(200)).is_ok()
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

/// The command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let set = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_string_lossy(), value?.to_string_lossy())));
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    set.chain(words.map(|word| word.to_string_lossy().into_owned())).collect::<Vec<_>>().join(" ")
}
