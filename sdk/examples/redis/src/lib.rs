//! RESP2, the protocol of Redis: a command is an array of bulk strings, or a line of words; a reply is one value.
//!
//! ```text
//! *2\r\n$3\r\nGET\r\n$6\r\ncolour\r\n    ->    $4\r\nblue\r\n
//! LPUSH colour red\r\n                   ->    -WRONGTYPE Operation against a key holding ...\r\n
//! ```
//!
//! Published are names of commands, keys and codes of errors; never values, passwords, scripts or texts of errors.

#![forbid(unsafe_code)]

use podtap_sdk::{Break, Connection, Decoder, Descriptor, Exchanges, Outcome, Stream, Tasks, Verdict};

podtap_sdk::fields! {
    /// Always `redis`.
    pub SYSTEM: Text = "db.system.name";
    /// The command in upper case, with its subcommand: `GET`, `CONFIG GET`.
    pub OPERATION: Text = "db.operation.name";
    /// The first word of an error: `ERR`, `WRONGTYPE`.
    pub STATUS: Text = "db.response.status_code";
    /// Arguments of the command; a subcommand is one.
    pub ARGUMENTS: Uint = "redis.arguments";
}

/// Commands whose first argument is a key.
const KEYED: &str = "
    APPEND BITCOUNT BITFIELD BITFIELD_RO BITPOS BLMOVE BLPOP BRPOP BRPOPLPUSH BZPOPMAX BZPOPMIN COPY DECR DECRBY DEL
    DUMP EXISTS EXPIRE EXPIREAT EXPIRETIME GEOADD GEODIST GEOHASH GEOPOS GEORADIUS GEORADIUSBYMEMBER GEOSEARCH
    GEOSEARCHSTORE GET GETBIT GETDEL GETEX GETRANGE GETSET HDEL HEXISTS HGET HGETALL HINCRBY HINCRBYFLOAT HKEYS HLEN
    HMGET HMSET HRANDFIELD HSCAN HSET HSETNX HSTRLEN HVALS INCR INCRBY INCRBYFLOAT LCS LINDEX LINSERT LLEN LMOVE LPOP
    LPOS LPUSH LPUSHX LRANGE LREM LSET LTRIM MGET MOVE MSET MSETNX PERSIST PEXPIRE PEXPIREAT PEXPIRETIME PFADD PFCOUNT
    PFMERGE PSETEX PTTL RENAME RENAMENX RESTORE RPOP RPOPLPUSH RPUSH RPUSHX SADD SCARD SDIFF SDIFFSTORE SET SETBIT SETEX
    SETNX SETRANGE SINTER SINTERSTORE SISMEMBER SMEMBERS SMISMEMBER SMOVE SORT SORT_RO SPOP SRANDMEMBER SREM SSCAN
    STRLEN SUBSTR SUNION SUNIONSTORE TOUCH TTL TYPE UNLINK WATCH XACK XADD XAUTOCLAIM XCLAIM XDEL XLEN XPENDING XRANGE
    XREVRANGE XSETID XTRIM ZADD ZCARD ZCOUNT ZDIFFSTORE ZINCRBY ZINTERSTORE ZLEXCOUNT ZMSCORE ZPOPMAX ZPOPMIN
    ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANGESTORE ZRANK ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE
    ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE ZUNIONSTORE";

/// Commands whose first argument says which of them.
const CONTAINERS: &str = "ACL CLIENT CLUSTER COMMAND CONFIG FUNCTION MEMORY OBJECT PUBSUB SCRIPT SLOWLOG XGROUP XINFO";

/// Others that connections begin with: it is by commands that the protocol is recognised.
const OPENING: &str = "AUTH EVAL EVALSHA HELLO INFO KEYS MONITOR MULTI PING PSUBSCRIBE PUBLISH SCAN SELECT SUBSCRIBE";

/// Behind these, and all that end in `SUBSCRIBE`, a command has no longer one reply of RESP2.
const PUSHING: [&[u8]; 5] = [b"MONITOR", b"SYNC", b"PSYNC", b"CLIENT REPLY", b"HELLO 3"];

/// How messages of a subscription begin, behind the line of their array.
const MESSAGES: [&[u8]; 3] = [b"$7\r\nmess", b"$8\r\npmes", b"$8\r\nsmes"];

/// The longest line that is read, as in Redis itself; of longer names and keys so much is kept.
const MAX_LINE: usize = 64 << 10;

/// The decoder.
pub struct Redis;

impl Decoder for Redis {
    const DESCRIPTOR: Descriptor = Descriptor {
        name: "redis",
        version: env!("CARGO_PKG_VERSION"),
        doc: env!("CARGO_PKG_DESCRIPTION"),
        protocols: &["redis"],
        ports: &[6379],
        attributes: ATTRIBUTES,
        status: Some(STATUS.index()),
    };

    fn configure(config: &str) -> Result<Redis, String> {
        podtap_sdk::unconfigured(Redis, config)
    }

    /// A server's array may as well be a command, and lines of words, or with `+` and `-`, may be of other protocols.
    fn probe(&self, from_server: bool, head: &[u8]) -> Verdict {
        match head {
            [b'*', ..] if !from_server && find_request(head).is_some() => Verdict::Yes,
            [b'$', ..] if from_server && find_response(head).is_some() => Verdict::Yes,
            _ if from_server && (head.starts_with(b"+OK\r\n") || head.starts_with(b"+PONG\r\n")) => Verdict::Yes,
            [] | [b'*' | b'$' | b':' | b'+' | b'-', ..] => Verdict::NeedMore,
            _ if !from_server && words(head).next().is_some_and(is_name) => Verdict::NeedMore,
            _ => Verdict::No,
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

podtap_sdk::export!(Redis);

/// What a reply must know of its command is whether the server pushes behind it; none where it was not captured.
async fn request(client: &mut Stream, exchanges: &Exchanges<Option<bool>>) -> Result<(), Break> {
    client.message().await?;
    // An array of so many words, none of them read; or a line of words.
    let first_line = |line: &[u8]| match line {
        [b'*', ..] => follows(line).map(|(_, count)| (count, Vec::new())),
        _ => Some((0, words(line).map(<[u8]>::to_vec).collect())),
    };
    let (count, mut words) = client.until(b"\n", MAX_LINE, first_line).await?.ok_or(Break::Malformed)?;
    for _ in 0..count.min(2) {
        let (length, _) = client.until(b"\n", MAX_LINE, follows).await?.ok_or(Break::Malformed)?;
        let kept = length.min(MAX_LINE as u64);
        words.push(client.exact(kept as usize, |word| word.strip_suffix(b"\r\n").unwrap_or(word).to_vec()).await?);
        client.skip(length - kept).await?;
    }
    // A command of no words has no reply.
    let Some(name) = words.first() else { return Ok(()) };
    let argument = words.get(1).map(Vec::as_slice).unwrap_or_default();
    // `CONFIG GET`, but of `AUTH secret` only the name.
    let both = [name.as_slice(), argument].join(&b' ').to_ascii_uppercase();
    let operation = if is_in(CONTAINERS, name) && is_name(argument) { &both[..] } else { &both[..name.len()] };
    let pushing = PUSHING.iter().any(|start| both.starts_with(start)) || operation.ends_with(b"SUBSCRIBE");
    exchanges.request(|exchange| {
        exchange.state = Some(pushing);
        exchange.set(SYSTEM, "redis");
        exchange.set(ARGUMENTS, count.max(words.len() as u64) - 1);
        if is_name(name) {
            exchange.describe(operation, if is_in(KEYED, name) { argument } else { b"" }, b"");
            exchange.set(OPERATION, operation);
        }
    });
    for _ in 2..count {
        value(client, |_| ()).await?;
    }
    exchanges.request_end(client, |_| ());
    // What else the client says is not read: nobody knows any more which reply is whose.
    if pushing { Err(Break::End) } else { Ok(()) }
}

async fn response(server: &mut Stream, exchanges: &Exchanges<Option<bool>>) -> Result<(), Break> {
    server.message().await?;
    let first_line = |line: &[u8]| {
        exchanges.response(|exchange| {
            if let Some(error) = line.strip_prefix(b"-") {
                exchange.set(STATUS, words(error).next().filter(|code| is_name(code)).unwrap_or(b"ERR"));
            }
        });
    };
    let mut due = value(server, first_line).await?;
    let (pushing, failed) = exchanges.response(|exchange| (exchange.state, exchange.has(STATUS)));
    let is_message = pushing.is_none() && due > 2 && server.peek(8, |head| MESSAGES.contains(&head)).await?;
    while due > 0 {
        due = due - 1 + value(server, |_| ()).await?;
    }
    exchanges.finish(server, if failed { Outcome::Error } else { Outcome::Ok });
    if is_message || pushing == Some(true) {
        server.ignore_connection();
        server.rest().await;
    }
    Ok(())
}

/// Reads a value but for the values in it, and gives the number of those; `read` gets its first line.
async fn value(stream: &mut Stream, read: impl FnOnce(&[u8])) -> Result<u64, Break> {
    let first_line = |line: &[u8]| follows(line).inspect(|_| read(line));
    let (payload, values) = stream.until(b"\n", MAX_LINE, first_line).await?.ok_or(Break::Malformed)?;
    stream.skip(payload).await?;
    Ok(values)
}

/// What follows the first line of a value: payload with its line's end, and further values. Null has neither. `%` is of
/// RESP3: `HELLO 3` is answered so.
fn follows(line: &[u8]) -> Option<(u64, u64)> {
    let (kind, text) = line.strip_suffix(b"\r\n")?.split_first()?;
    let number = str::from_utf8(text).ok().and_then(|text| text.parse::<i32>().ok());
    match (kind, number) {
        (b'+' | b'-' | b':', _) | (b'$' | b'*', Some(-1)) => Some((0, 0)),
        (b'$', Some(length @ 0..)) => Some((length as u64 + 2, 0)),
        (b'*', Some(count @ 0..)) => Some((0, count as u64)),
        (b'%', Some(pairs @ 0..)) => Some((0, pairs as u64 * 2)),
        _ => None,
    }
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// Does a word look like the name of a command, rather than like data?
fn is_name(word: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    word.len() <= 32 && word.first().is_some_and(u8::is_ascii_alphabetic) && word.iter().all(is_allowed)
}

fn is_in(names: &str, name: &[u8]) -> bool {
    names.split_ascii_whitespace().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// After a loss: a segment that begins with a known command.
fn find_request(bytes: &[u8]) -> Option<usize> {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let (array, length, name) = (lines.next()?, lines.next()?, lines.next()?.strip_suffix(b"\r")?);
    let is_array = array.starts_with(b"*") && length == format!("${}\r", name.len()).as_bytes();
    (is_array && [KEYED, CONTAINERS, OPENING].iter().any(|names| is_in(names, name))).then_some(0)
}

/// After a loss: a segment that begins with a reply.
fn find_response(bytes: &[u8]) -> Option<usize> {
    follows(bytes.split_inclusive(|&byte| byte == b'\n').next()?).map(|_| 0)
}
