//! Every way of reading a stream, over conversations that are cut anywhere.

use std::future::Future;

use podtap_sdk::testing::{Conversation, Cut};
use podtap_sdk::{Break, Connection, Decoder, Descriptor, Exchanges, Stream, Tasks, Verdict};

podtap_sdk::fields! {
    /// What was read,
    /// or why nothing was.
    READ: Text = "read";
}

/// A decoder whose client's side is read by a function that gives one line for each message.
macro_rules! reader {
    ($name:ident, $read:expr) => {
        struct $name;

        impl Decoder for $name {
            const DESCRIPTOR: Descriptor = Descriptor {
                name: "reader",
                version: "0.1.0",
                doc: "",
                protocols: &["reader"],
                ports: &[],
                attributes: ATTRIBUTES,
                status: None,
            };

            fn configure(_: &str) -> Result<$name, String> {
                Ok($name)
            }

            fn probe(&self, _: bool, _: &[u8]) -> Verdict {
                Verdict::Yes
            }

            fn connect(&self, connection: &mut Connection) -> Tasks {
                let exchanges = connection.exchanges();
                let mut server = connection.server();
                Tasks::new(messages(connection.client(), exchanges, $read), async move {
                    server.rest().await;
                    Ok(())
                })
            }
        }
    };
}

async fn messages<F: Future<Output = (Stream, Result<String, Break>)>>(
    mut client: Stream,
    exchanges: Exchanges<()>,
    read: impl Fn(Stream) -> F,
) -> Result<(), Break> {
    loop {
        client.message().await?;
        let (stream, result) = read(client).await;
        client = stream;
        let line = result.clone().unwrap_or_else(|why| format!("{why:?}"));
        exchanges.request(|exchange| exchange.set(READ, line.as_bytes()));
        exchanges.request_end(&client, |_| ());
        match result {
            Err(Break::End) => return Err(Break::End),
            Err(Break::Gap) => _ = client.resync(|_| Some(0)).await,
            _ => {}
        }
    }
}

#[track_caller]
fn check<D: Decoder>(conversation: Conversation, expected: &[&str]) {
    assert_eq!(conversation.close().exchanges::<D>(), expected);
}

#[test]
fn a_comment_of_several_lines_is_one_sentence() {
    assert_eq!(ATTRIBUTES[usize::from(READ.index())].doc, "What was read, or why nothing was.");
}

async fn integers(stream: &mut Stream) -> Result<String, Break> {
    let little = (stream.u16_le().await?, stream.u24_le().await?, stream.u32_le().await?, stream.u64_le().await?);
    let big = (stream.u16_be().await?, stream.u24_be().await?, stream.u32_be().await?, stream.u64_be().await?);
    Ok(format!("{:x} {little:x?} {big:x?}", stream.u8().await?))
}

reader!(Integers, |mut stream| async move {
    let read = integers(&mut stream).await;
    (stream, read)
});

#[test]
fn integers_of_either_order() {
    let mut bytes: Vec<u8> = (1..=17).collect();
    bytes.extend(1..=18);
    check::<Integers>(
        Conversation::new().client(&bytes).client(&bytes[..3]),
        &[
            "no_response request 1..1 (35 bytes) read=12 (201, 50403, 9080706, 11100f0e0d0c0b0a) \
             (102, 30405, 6070809, a0b0c0d0e0f1011)",
            "no_response request 2..2 (2 bytes) read=End",
        ],
    );
}

#[test]
fn a_message_of_many_segments_has_the_time_of_its_first_and_last_byte() {
    let bytes = [0_u8; 35];
    check::<Integers>(
        Conversation::new().client(&bytes[..1]).client(&bytes[1..34]).client(&bytes[34..]),
        &["no_response request 1..3 (35 bytes) read=0 (0, 0, 0, 0) (0, 0, 0, 0)"],
    );
}

/// A length of 2 bytes, then as many bytes; at most 12 in all.
async fn frame(stream: &mut Stream) -> Result<String, Break> {
    let length = |header: &[u8]| usize::from(u16::from_be_bytes([header[0], header[1]]));
    stream.frame(2, length, 12, |bytes| String::from_utf8_lossy(&bytes[2..]).into_owned()).await
}

reader!(Frames, |mut stream| async move {
    let read = frame(&mut stream).await;
    (stream, read)
});

#[test]
fn frames_are_read_whole_and_those_too_long_are_refused_at_their_header() {
    check::<Frames>(
        Conversation::new().client(b"\0\x03abc\0\0\0\x0a0123456789\0\x0b\0\x01z"),
        &[
            "no_response request 1..1 (5 bytes) read=abc",
            "no_response request 1..1 (2 bytes) read=",
            "no_response request 1..1 (12 bytes) read=0123456789",
            "no_response request 1..1 (2 bytes) read=Malformed",
            "no_response request 1..1 (3 bytes) read=z",
        ],
    );
}

/// Looks at 4 bytes, then reads 1, passes over 2, and reads a line.
async fn peek(stream: &mut Stream) -> Result<String, Break> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let seen = stream.peek(4, text).await?;
    let again = stream.peek(2, text).await?;
    let first = stream.piece(1, text).await?;
    stream.skip(2).await?;
    Ok(format!("{seen} {again} {first} {}", stream.until(b".", 8, text).await?))
}

reader!(Peeks, |mut stream| async move {
    let read = peek(&mut stream).await;
    (stream, read)
});

#[test]
fn what_was_looked_at_is_read_again() {
    check::<Peeks>(
        Conversation::new().client(b"abcdef.gh").client(b"ij.").client(b"klm."),
        &[
            "no_response request 1..1 (7 bytes) read=abcd ab a def.",
            "no_response request 1..2 (5 bytes) read=ghij gh g j.",
            "no_response request 3..3 (4 bytes) read=klm. kl k .",
        ],
    );
}

#[test]
fn a_look_shows_less_where_no_more_will_come() {
    let line = |stream: Conversation| {
        let exchanges = stream.close().cut::<Peeks>(Cut::Whole);
        exchanges.first().cloned().unwrap_or_default()
    };
    let conversation = Conversation::new().client(b"a").client(b".b").client_end();
    assert_eq!(line(conversation), "no_response request 1..3 (3 bytes) read=End");
    let conversation = Conversation::new().client(b"abc").client_gap(4).client(b"bcd.");
    // Two of the three were read before the gap: the third is passed over with two lost ones.
    assert_eq!(line(conversation), "no_response request 1..2 (3 bytes) read=Gap");
}

/// All pieces of a message of 6 bytes.
async fn pieces(stream: &mut Stream) -> Result<String, Break> {
    let mut read = Vec::new();
    while read.len() < 6 {
        let wanted = 6 - read.len();
        stream.piece(wanted, |bytes| read.extend_from_slice(bytes)).await?;
    }
    Ok(String::from_utf8_lossy(&read).into_owned())
}

reader!(Pieces, |mut stream| async move {
    let read = pieces(&mut stream).await;
    (stream, read)
});

#[test]
fn pieces_come_as_they_were_sent() {
    check::<Pieces>(
        Conversation::new().client(b"abcdefgh").client(b"ijkl"),
        &["no_response request 1..1 (6 bytes) read=abcdef", "no_response request 1..2 (6 bytes) read=ghijkl"],
    );
}

/// A length of two bytes, and as much that is passed over.
async fn passed_over(stream: &mut Stream) -> Result<String, Break> {
    let length = stream.u16_be().await?;
    stream.skip(length.into()).await?;
    Ok(length.to_string())
}

reader!(PassesOver, |mut stream| async move {
    let read = passed_over(&mut stream).await;
    (stream, read)
});

#[test]
fn what_was_left_out_before_a_gap_is_not_lost() {
    let conversation = Conversation::new().client(10_000_u16.to_be_bytes()).client([0; 5000]).client_gap(5000);
    check::<PassesOver>(
        conversation.client(b"\0\x01z"),
        &["no_response request 1..3 (10002 bytes) lost 5000 read=10000", "no_response request 4..4 (3 bytes) read=1"],
    );
}
