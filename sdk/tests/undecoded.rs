//! Every byte is of an exchange, or counted as undecoded: what was read and made no sense, too.

use podtap_sdk::testing::Conversation;
use podtap_sdk::{
    Batch, Break, Connection, Decoder, Descriptor, Exchanges, Instance, OpenedConnection, Outcome, Stream, Tasks,
    Verdict,
};

/// Words, one a line. One that begins with `!` is nonsense, in the request and in the response.
struct Words;

impl Decoder for Words {
    const DESCRIPTOR: Descriptor = Descriptor {
        name: "words",
        version: "0.1.0",
        doc: "",
        protocols: &["words"],
        ports: &[],
        attributes: &[],
        status: None,
    };

    fn configure(config: &str) -> Result<Words, String> {
        podtap_sdk::unconfigured(Words, config)
    }

    fn probe(&self, _: bool, _: &[u8]) -> Verdict {
        Verdict::Yes
    }

    fn connect(&self, connection: &mut Connection) -> Tasks {
        let exchanges = connection.exchanges();
        Tasks::new(
            exchanges.requests(connection, |_| Some(0), request),
            exchanges.responses(connection, |_| Some(0), response),
        )
    }
}

async fn word(stream: &mut Stream) -> Result<Vec<u8>, Break> {
    let word = stream.until(b"\n", 64, <[u8]>::to_vec).await?;
    if word.starts_with(b"!") { Err(Break::Malformed) } else { Ok(word) }
}

async fn request(client: &mut Stream, exchanges: &Exchanges<()>) -> Result<(), Break> {
    client.message().await?;
    let word = word(client).await?;
    exchanges.request(|exchange| exchange.describe(word.trim_ascii(), b"", b""));
    exchanges.request_end(client, |_| ());
    Ok(())
}

async fn response(server: &mut Stream, exchanges: &Exchanges<()>) -> Result<(), Break> {
    server.message().await?;
    word(server).await?;
    exchanges.finish(server, Outcome::Ok);
    Ok(())
}

/// Words again. Nonsense is two bytes that are looked at only, a `!` and another, and a byte behind each word that is not
/// even looked at.
struct Glances;

impl Decoder for Glances {
    const DESCRIPTOR: Descriptor = Words::DESCRIPTOR;

    fn configure(config: &str) -> Result<Glances, String> {
        podtap_sdk::unconfigured(Glances, config)
    }

    fn probe(&self, _: bool, _: &[u8]) -> Verdict {
        Verdict::Yes
    }

    fn connect(&self, connection: &mut Connection) -> Tasks {
        let exchanges = connection.exchanges();
        let glance = async |client: &mut Stream, exchanges: &Exchanges<()>| {
            client.message().await?;
            if client.peek(2, |head| head.starts_with(b"!")).await? {
                return Err(Break::Malformed);
            }
            let word = client.until(b"\n", 64, <[u8]>::to_vec).await?;
            exchanges.request(|exchange| exchange.describe(word.trim_ascii(), b"", b""));
            exchanges.request_end(client, |_| ());
            client.message().await?;
            Err(Break::Malformed)
        };
        Tasks::new(
            exchanges.requests(connection, |_| Some(0), glance),
            exchanges.responses(connection, |_| Some(0), response),
        )
    }
}

#[test]
fn what_goes_wrong_before_it_is_read_is_passed_over() {
    let lines = Conversation::new().client("!!!?a\n.!!b\n.").close().exchanges::<Glances>();
    assert_eq!(lines, ["no_response a  request 1..1 (2 bytes)", "no_response b  request 1..1 (2 bytes)"]);
}

/// What is undecoded of a client's and a server's bytes, each in one segment, with a gap of the client's behind its.
fn undecoded(client: &str, server: &str) -> u64 {
    let mut instance = Instance::<Words>::new("{}").unwrap();
    let opened = OpenedConnection {
        id: 0,
        client_address: "192.0.2.1".into(),
        client_port: 49152,
        server_address: "192.0.2.2".into(),
        server_port: 7,
        midstream: false,
    };
    let output = instance.feed(Batch {
        opened: vec![opened],
        connections: vec![0, 0, 0],
        kinds: vec![0, 128, 1],
        times: vec![1, 2, 3],
        positions: vec![0, 0, client.len() as u64],
        lengths: vec![client.len() as u32, server.len() as u32, 10],
        data: [client, server].concat().into_bytes(),
    });
    output.undecoded_bytes
}

#[test]
fn what_is_of_an_exchange_is_decoded() {
    assert_eq!(undecoded("a\nb\n", "x\ny\n"), 0);
}

#[test]
fn what_was_read_and_made_no_sense_is_undecoded() {
    assert_eq!(undecoded("a\n!nonsense\nb\n", "x\ny\n"), 10);
    assert_eq!(undecoded("a\nb\n", "x\n!no\ny\n"), 4);
    // Nothing is counted twice.
    assert_eq!(undecoded("!a\n!b\n!c\n", "!d\n"), 12);
}

#[test]
fn a_piece_before_a_gap_is_undecoded() {
    assert_eq!(undecoded("a\nhalf", "x\n"), 4);
}

#[test]
fn a_decoder_that_cannot_be_configured_says_so() {
    assert_eq!(Instance::<Words>::new("{}").err(), None);
    let error = Instance::<Words>::new(r#"{"depth": 1}"#).err().unwrap();
    assert_eq!(error, "words takes no configuration: remove its section");
}

#[test]
fn messages_after_nonsense_are_found() {
    let conversation = Conversation::new().client("a\n!b\n").server("x\n").client("c\n").server("y\n").close();
    let exchanges = conversation.cut::<Words>(podtap_sdk::testing::Cut::Whole);
    assert!(exchanges[0].starts_with("ok a ") && exchanges.len() >= 2, "{exchanges:?}");
}
