//! A decoder that does on demand what a decoder must not do: each line of the client is an order, each line of the
//! server's an answer. Tests show with it that podtap holds.

mod twist;

use std::cell::Cell;
use std::rc::Rc;

pub use twist::Twisted;

use podtap_sdk::{Break, Connection, Decoder, Descriptor, Exchanges, Outcome, Stream, Tasks, Verdict};

podtap_sdk::fields! {
    /// The order, as sent.
    ORDER: Text = "misbehave.order";
}

/// The decoder.
#[derive(Debug)]
pub struct Misbehave;

impl Decoder for Misbehave {
    const DESCRIPTOR: Descriptor = Descriptor {
        name: "misbehave",
        version: env!("CARGO_PKG_VERSION"),
        doc: "Does on demand what a decoder must not do",
        protocols: &["misbehave"],
        ports: &[7],
        attributes: ATTRIBUTES,
        status: None,
    };

    fn configure(config: &str) -> Result<Misbehave, String> {
        match config {
            "{}" => Ok(Misbehave),
            r#"{"panic":true}"# => panic!("a panic in configure"),
            _ => Err("it has no key `mood`".into()),
        }
    }

    fn probe(&self, _from_server: bool, head: &[u8]) -> Verdict {
        match head {
            [b'!', ..] => panic!("a panic in probe"),
            [b'>', ..] => Verdict::Yes,
            [b'?', ..] => Verdict::NeedMore,
            _ => Verdict::No,
        }
    }

    fn connect(&self, connection: &mut Connection) -> Tasks {
        let exchanges = connection.exchanges();
        Tasks::new(orders(connection.client(), exchanges.clone()), answers(connection.server(), exchanges))
    }
}

#[cfg(target_arch = "wasm32")]
podtap_sdk::bindings::export_component!(Twisted with_types_in podtap_sdk::bindings);

/// Panics when its connection is over, once it was told to.
#[derive(Default)]
struct Grudge(Cell<bool>);

impl Drop for Grudge {
    fn drop(&mut self) {
        assert!(!self.0.get(), "a panic at the end");
    }
}

async fn orders(mut client: Stream, exchanges: Exchanges<()>) -> Result<(), Break> {
    let grudge = Rc::<Grudge>::default();
    loop {
        client.message().await?;
        let mut again = false;
        let order = |line: &[u8]| {
            exchanges.request(|exchange| {
                exchange.describe(b"order", line.trim_ascii(), b"");
                match line.trim_ascii() {
                    b"> long" => exchange.set(ORDER, vec![b'x'; 100_000].as_slice()),
                    order => exchange.set(ORDER, order),
                }
            });
            grudge.0.set(grudge.0.get() || line.trim_ascii() == b"> at the end");
            again = line.trim_ascii() == b"> again";
            obey(line.trim_ascii());
        };
        client.until(b"\n", 1024, order).await?;
        exchanges.request_end(&client, |_| ());
        if again {
            client.hand_over();
            return Ok(());
        }
    }
}

async fn answers(mut server: Stream, exchanges: Exchanges<()>) -> Result<(), Break> {
    loop {
        server.message().await?;
        server.until(b"\n", 1024, |_| ()).await?;
        exchanges.finish(&server, Outcome::Ok);
    }
}

#[allow(unconditional_recursion)]
fn recurse(depth: &mut u64) {
    *depth += 1;
    recurse(depth);
    *depth += 1;
}

fn obey(order: &[u8]) {
    match order {
        b"> loop" => loop {
            std::hint::black_box(order);
        },
        b"> panic" => panic!("as ordered"),
        // As where text of the traffic is sliced in the middle of a character.
        b"> quote" => panic!("it has {}{}", std::hint::black_box("hush"), "hush"),
        b"> recurse" => recurse(&mut 0),
        b"> grow" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(vec![1_u8; 1 << 20]);
                std::hint::black_box(&hoard);
            }
        }
        b"> log" => {
            for _ in 0..1_000 {
                podtap_sdk::log(podtap_sdk::Level::Warn, "a line\nthat \u{1b}[31mgoes on");
            }
        }
        order => twist::order(order),
    }
}
