//! A real memcached and a client that asks it all that the example decoders know, for their capture.
//!
//! The protocol is memcached's doc/protocol.txt, "text protocol".

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{self, Running};

const PORT: u16 = 11211;

/// A memcached on its usual port of 127.0.0.1; ends when dropped.
pub(crate) struct Server {
    _process: Running,
}

impl Server {
    /// Starts it; returns once it listens.
    pub(crate) fn start() -> Result<Server> {
        let program = process::find("memcached").context("memcached is not installed (Debian's package memcached)")?;
        if process::listens(PORT) {
            bail!("port {PORT} of 127.0.0.1 is taken");
        }
        let mut command = Command::new(program);
        command.args(["-l", "127.0.0.1", "-U", "0", "-t", "1", "-p", &PORT.to_string()]);
        if process::is_root() {
            command.args(["-u", "nobody"]);
        }
        let mut process = Running::start(command.stdin(Stdio::null()))?;
        process.wait_until(Duration::from_secs(10), || process::listens(PORT))?;
        Ok(Server { _process: process })
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        PORT
    }
}

/// A client's connection.
struct Client(TcpStream);

impl Client {
    fn connect(port: u16) -> Result<Client> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(Client(stream))
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        Ok(self.0.write_all(bytes.as_ref())?)
    }

    /// Sends, and reads until the answer ends so.
    fn ask(&mut self, request: impl AsRef<[u8]>, ending: &str) -> Result<()> {
        self.send(&request)?;
        self.answer(ending).with_context(|| format!("answer to {}", request.as_ref().escape_ascii()))
    }

    fn answer(&mut self, ending: &str) -> Result<()> {
        let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
        while !answer.ends_with(ending.as_bytes()) {
            match self.0.read(&mut buffer).with_context(|| format!("so far {}", answer.escape_ascii()))? {
                0 => bail!("the server closed after {}", answer.escape_ascii()),
                length => answer.extend_from_slice(&buffer[..length]),
            }
        }
        Ok(())
    }
}

/// Everything once, then pipelining, odd segments and a client that leaves.
pub(crate) fn converse(port: u16) -> Result<()> {
    let mut client = Client::connect(port)?;
    let end = "END\r\n";
    client.ask("set user:1 0 300 5\r\nalice\r\n", "STORED\r\n")?;
    client.ask("set user:2 7 0 0\r\n\r\n", "STORED\r\n")?;
    client.ask("get user:1\r\n", end)?;
    client.ask("get user:1 user:3 user:2\r\n", end)?;
    client.ask("get nobody\r\n", end)?;
    client.ask("gets user:1\r\n", end)?;
    client.ask("cas user:1 0 0 3 999\r\nbob\r\n", "EXISTS\r\n")?;
    client.ask("cas nobody 0 0 3 1\r\nbob\r\n", "NOT_FOUND\r\n")?;
    client.ask("add user:1 0 0 1\r\nx\r\n", "NOT_STORED\r\n")?;
    client.ask("replace user:1 0 0 4\r\ndave\r\n", "STORED\r\n")?;
    client.ask("append user:1 0 0 8\r\n\r\nEND\r\nx\r\n", "STORED\r\n")?;
    client.ask("prepend user:1 0 0 2\r\nx \r\n", "STORED\r\n")?;
    client.ask("get user:1\r\n", "x\r\nEND\r\n")?;
    client.ask("set visits 0 0 1\r\n9\r\n", "STORED\r\n")?;
    client.ask("incr visits 2\r\n", "11\r\n")?;
    client.ask("decr visits 5\r\n", "6\r\n")?;
    client.ask("incr nobody 1\r\n", "NOT_FOUND\r\n")?;
    client.ask("incr user:1 1\r\n", "non-numeric value\r\n")?;
    client.ask("touch visits 60\r\n", "TOUCHED\r\n")?;
    client.ask("gat 60 visits\r\n", end)?;
    client.send("set quiet 0 0 2 noreply\r\nhi\r\n")?;
    client.ask("delete quiet\r\n", "DELETED\r\n")?;
    client.ask("delete quiet\r\n", "NOT_FOUND\r\n")?;
    client.ask(format!("get {}\r\n", "k".repeat(251)), "format\r\n")?;
    client.ask("nonsense\r\n", "ERROR\r\n")?;
    client.ask(
        format!("set large 0 0 20000\r\n{}\r\n", "large ".repeat(20000 / 6 + 1).get(..20000).unwrap_or_default()),
        "STORED\r\n",
    )?;
    client.ask("get large visits\r\n", end)?;
    client.ask("version\r\n", "\r\n")?;
    client.ask("stats\r\n", end)?;
    client.ask("verbosity 1\r\n", "OK\r\n")?;
    client.ask("flush_all\r\n", "OK\r\n")?;
    client.send("quit\r\n")?;

    let mut pipelined = Client::connect(port)?;
    pipelined.ask(
        "set a 0 0 1\r\nA\r\nset b 0 0 2\r\nBB\r\nget a\r\nget b c\r\ndelete a\r\nget a\r\n",
        "DELETED\r\nEND\r\n",
    )?;

    let mut slow = Client::connect(port)?;
    for piece in ["se", "t slow 0 0 5 \r", "\nhe", "llo\r", "\nget sl", "ow\r\n"] {
        slow.send(piece)?;
        std::thread::sleep(Duration::from_millis(20));
    }
    slow.answer(end)?;

    let mut steady = Client::connect(port)?;
    for number in 0..40 {
        let value = "v".repeat(number * 3);
        steady.ask(format!("set key:{number} 0 0 {}\r\n{value}\r\n", value.len()), "STORED\r\n")?;
        steady.ask(format!("get key:{number}\r\n"), end)?;
    }

    // Half a value, and gone.
    Client::connect(port)?.send("set never 0 0 100\r\nhalf")
}
