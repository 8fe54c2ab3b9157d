//! The template protocol: the client sends a line, the server answers with a line.
//!
//! ```text
//! SET colour blue    ->    OK
//! GET colour         ->    OK blue
//! DEL shape          ->    ERROR no such key
//! ```

#![forbid(unsafe_code)]

use podtap_sdk::{Break, Connection, Decoder, Descriptor, Exchanges, Outcome, Stream, Tasks, Verdict};

podtap_sdk::fields! {
    /// The key that the request names.
    pub KEY: Text = "template.key";
    /// OK or ERROR, as the server says.
    pub STATUS: Text = "template.status";
    /// Why the server refuses.
    pub REASON: Text = "template.reason";
}

/// The commands of the protocol, each with the blank behind it.
const COMMANDS: [&[u8]; 3] = [b"GET ", b"SET ", b"DEL "];

/// The longest line that is read, its end included.
const MAX_LINE: usize = 8192;

/// The decoder.
pub struct Lines;

impl Decoder for Lines {
    const DESCRIPTOR: Descriptor = Descriptor {
        name: "template",
        version: env!("CARGO_PKG_VERSION"),
        doc: env!("CARGO_PKG_DESCRIPTION"),
        protocols: &["template"],
        ports: &[7070],
        attributes: ATTRIBUTES,
        status: Some(STATUS.index()),
    };

    fn configure(config: &str) -> Result<Lines, String> {
        podtap_sdk::unconfigured(Lines, config)
    }

    /// Errs towards no: what is not certainly this protocol is somebody else's.
    fn probe(&self, from_server: bool, head: &[u8]) -> Verdict {
        let starts: &[&[u8]] = if from_server { &[b"OK", b"ERROR "] } else { &COMMANDS };
        if starts.iter().any(|start| head.starts_with(start)) {
            Verdict::Yes
        } else if starts.iter().any(|start| start.starts_with(head)) {
            Verdict::NeedMore
        } else {
            Verdict::No
        }
    }

    fn connect(&self, connection: &mut Connection) -> Tasks {
        let exchanges = connection.exchanges();
        Tasks::new(
            exchanges.requests(connection, find_request, request),
            exchanges.responses(connection, find_response, response),
        )
    }
}

podtap_sdk::export!(Lines);

async fn request(client: &mut Stream, exchanges: &Exchanges<()>) -> Result<(), Break> {
    client.message().await?;
    let read = |line: &[u8]| {
        let mut words = line.trim_ascii_end().splitn(3, |&byte| byte == b' ');
        let (Some(command), Some(key)) = (words.next(), words.next()) else { return Err(Break::Malformed) };
        exchanges.request(|exchange| {
            // Not the value: what is stored stays where it is.
            exchange.describe(command, key, b"");
            exchange.set(KEY, key);
        });
        Ok(())
    };
    client.until(b"\n", MAX_LINE, read).await??;
    exchanges.request_end(client, |_| ());
    Ok(())
}

async fn response(server: &mut Stream, exchanges: &Exchanges<()>) -> Result<(), Break> {
    server.message().await?;
    let read = |line: &[u8]| {
        let line = line.trim_ascii_end();
        let reason = line.strip_prefix(b"ERROR ");
        if reason.is_none() && !line.starts_with(b"OK") {
            return Err(Break::Malformed);
        }
        exchanges.response(|exchange| {
            exchange.set(STATUS, if reason.is_some() { "ERROR" } else { "OK" });
            if let Some(reason) = reason {
                exchange.set(REASON, reason);
            }
        });
        Ok(if reason.is_some() { Outcome::Error } else { Outcome::Ok })
    };
    let outcome = server.until(b"\n", MAX_LINE, read).await??;
    exchanges.finish(server, outcome);
    Ok(())
}

fn find_request(bytes: &[u8]) -> Option<usize> {
    find_line(bytes, |line| COMMANDS.iter().any(|command| line.starts_with(command)))
}

fn find_response(bytes: &[u8]) -> Option<usize> {
    find_line(bytes, |line| line.starts_with(b"OK\n") || line.starts_with(b"OK ") || line.starts_with(b"ERROR "))
}

/// The offset of the first line that `is_start` accepts.
fn find_line(bytes: &[u8], is_start: impl Fn(&[u8]) -> bool) -> Option<usize> {
    let ends = bytes.iter().enumerate().filter(|&(_, &byte)| byte == b'\n');
    let mut starts = std::iter::once(0).chain(ends.map(|(at, _)| at + 1));
    starts.find(|&at| is_start(&bytes[at..]))
}
