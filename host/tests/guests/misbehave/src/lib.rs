//! A decoder that does on demand what a decoder must not do: each line of the client is an order, each line of the
//! server's an answer. Tests show with it that podtap holds.

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
        if config == "{}" { Ok(Misbehave) } else { Err("it has no key `mood`".into()) }
    }

    fn probe(&self, _from_server: bool, head: &[u8]) -> Verdict {
        match head {
            [b'!', ..] => panic!("a panic in probe"),
            [b'>', ..] => Verdict::Yes,
            _ => Verdict::No,
        }
    }

    fn connect(&self, connection: &mut Connection) -> Tasks {
        let exchanges = connection.exchanges();
        Tasks::new(orders(connection.client(), exchanges.clone()), answers(connection.server(), exchanges))
    }
}

podtap_sdk::export!(Misbehave);

async fn orders(mut client: Stream, exchanges: Exchanges<()>) -> Result<(), Break> {
    loop {
        client.message().await?;
        let order = |line: &[u8]| {
            exchanges.request(|exchange| {
                exchange.describe(b"order", line.trim_ascii(), b"");
                exchange.set(ORDER, line.trim_ascii());
            });
            obey(line.trim_ascii());
        };
        client.until(b"\n", 1024, order).await?;
        exchanges.request_end(&client, |_| ());
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
        _ => {}
    }
}
