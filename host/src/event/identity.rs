//! Names of connections and exchanges that any two runs over the same packets agree on.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use podtap_stream::Endpoint;
use sha1::{Digest, Sha1};

/// What is the same for every exchange of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionIdentity {
    /// `connection.id`: community id v1 (seed 0) and start time, as `1:BASE64-NANOSECONDS`.
    pub id: Box<str>,
    /// 24 hex digits that name agent and connection.
    prefix: [u8; 24],
}

/// `id` of an exchange.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeId([u8; 32]);

impl ExchangeId {
    /// Its 32 hex digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl ConnectionIdentity {
    /// Of a TCP connection whose first packet was seen at `start_ns` by the agent `agent`.
    pub fn new(agent: &str, one: Endpoint, other: Endpoint, start_ns: u64) -> ConnectionIdentity {
        let id = format!("1:{}-{start_ns}", BASE64.encode(community_id_digest(one, other))).into_boxed_str();
        let mut hash = Sha1::new();
        // The length keeps (agent, id) apart from any other split of the same text.
        hash.update((agent.len() as u64).to_be_bytes());
        hash.update(agent.as_bytes());
        hash.update(id.as_bytes());
        let digest = hash.finalize();
        let mut prefix = [0; 24];
        write_hex(&digest[..12], &mut prefix);
        ConnectionIdentity { id, prefix }
    }

    /// `id` of the event of the connection itself: 24 hex digits that name agent and connection.
    pub fn event_id(&self) -> &str {
        std::str::from_utf8(&self.prefix).unwrap_or_default()
    }

    /// `id` of an exchange: those 24, then 8 with the number of the exchange.
    pub fn exchange_id(&self, exchange: u32) -> ExchangeId {
        let mut id = [0; 32];
        let (prefix, number) = id.split_at_mut(self.prefix.len());
        prefix.copy_from_slice(&self.prefix);
        write_hex(&exchange.to_be_bytes(), number);
        ExchangeId(id)
    }
}

/// Two digits of `text` for each byte.
fn write_hex(bytes: &[u8], text: &mut [u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for (byte, digits) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        digits.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

/// Community ID flow hash v1 with seed 0, for TCP (<https://github.com/corelight/community-id-spec>).
fn community_id_digest(one: Endpoint, other: Endpoint) -> [u8; 20] {
    const TCP: u8 = 6;
    let (small, large) =
        if (one.address, one.port) <= (other.address, other.port) { (one, other) } else { (other, one) };
    let mut hash = Sha1::new();
    hash.update(0_u16.to_be_bytes());
    for end in [small, large] {
        match end.address {
            IpAddr::V4(address) => hash.update(address.octets()),
            IpAddr::V6(address) => hash.update(address.octets()),
        }
    }
    hash.update([TCP, 0]);
    hash.update(small.port.to_be_bytes());
    hash.update(large.port.to_be_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str, port: u16) -> Endpoint {
        Endpoint { address: address.parse().unwrap(), port }
    }

    /// Baseline values of the specification's test vectors (baseline/baseline_deflt.json).
    #[test]
    fn community_ids_are_those_of_the_specification() {
        let identity = |a, b| ConnectionIdentity::new("", a, b, 7).id;
        let (client, server) = (endpoint("128.232.110.120", 34855), endpoint("66.35.250.204", 80));
        assert_eq!(&*identity(client, server), "1:LQU9qZlK+B5F3KDmev6m5PMibrg=-7");
        assert_eq!(identity(client, server), identity(server, client));
    }

    #[test]
    fn exchange_ids_depend_on_agent_connection_and_number() {
        let (a, b) = (endpoint("::1", 1), endpoint("::1", 2));
        let of =
            |agent, start, number| ConnectionIdentity::new(agent, a, b, start).exchange_id(number).as_str().to_owned();
        assert_eq!(of("x", 1, 0), of("x", 1, 0));
        assert_eq!(of("x", 1, 0).len(), 32);
        assert!(of("x", 1, 258).ends_with("00000102"));
        let identity = ConnectionIdentity::new("x", a, b, 1);
        assert_eq!(identity.event_id(), &of("x", 1, 0)[..24]);
        let distinct = [of("x", 1, 0), of("y", 1, 0), of("x", 2, 0), of("x", 1, 1)];
        let set: std::collections::HashSet<_> = distinct.iter().collect();
        assert_eq!(set.len(), distinct.len());
    }
}
