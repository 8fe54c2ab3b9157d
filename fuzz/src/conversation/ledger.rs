//! Keeps book of what a decoder was given and what it made of it.

use podtap_sdk::{Descriptor, FieldKind, Output, Text};

const OK: u8 = 0;
const ERROR: u8 = 1;
const ABORTED: u8 = 3;
const UNMATCHED: u8 = 4;

/// What was given, and what came back. It must add up:
///
/// - every byte is in one exchange with a response at most, so that no request has two, and no more bytes are undecoded
///   than were given;
/// - requests and responses begin before they end, within the time that has passed, and no response has ended before its
///   request begins (that it begins before is seen where a capture is not in order);
/// - an exchange says whether its request was seen; columns, indices and texts are what podtap takes.
#[derive(Default)]
pub(super) struct Ledger {
    /// Time of the step that is given.
    pub(super) now_ns: u64,
    /// By side, its length: bytes, gaps and what was left out.
    pub(super) stream_bytes: [u64; 2],
    /// Bytes that were handed over.
    pub(super) given_bytes: u64,
    /// By side, in exchanges with a response.
    decoded_bytes: [u64; 2],
    /// Exchanges without one.
    unanswered: u64,
    undecoded_bytes: u64,
}

/// An exchange as a decoder reports it.
#[derive(Debug, PartialEq)]
pub(super) struct Exchange {
    protocol: u8,
    outcome: u8,
    times: [u64; 4],
    sizes: [u64; 3],
    texts: [String; 3],
    attributes: Vec<(&'static str, Value)>,
}

#[derive(Debug, PartialEq)]
enum Value {
    Text(String),
    Bits(u64),
}

impl Exchange {
    /// How much was read of a request or response that did not end depends on how it was given: bytes may be left out.
    pub(super) fn is_same(&self, other: &Exchange) -> bool {
        let texts = (&self.texts, &self.attributes) == (&other.texts, &other.attributes);
        texts && (self.protocol, self.outcome) == (other.protocol, other.outcome) && self.ends() == other.ends()
    }

    fn is_answered(&self) -> bool {
        self.outcome == OK || self.outcome == ERROR
    }

    /// First and last bytes and sizes, as far as they are certain.
    fn ends(&self) -> ([u64; 4], [u64; 3]) {
        let (mut times, mut sizes) = (self.times, self.sizes);
        let is_answered = self.is_answered();
        let is_asked = times[1] != 0 && self.outcome != ABORTED;
        if !is_asked {
            (times[1], sizes[0]) = (0, 0);
        }
        if !is_answered {
            (times[3], sizes[1]) = (0, 0);
        }
        if !is_asked || !is_answered {
            sizes[2] = 0;
        }
        (times, sizes)
    }
}

impl Ledger {
    /// The exchanges of an output.
    pub(super) fn read(&mut self, descriptor: &Descriptor, output: &Output) -> Vec<Exchange> {
        let number = output.exchange_connections.len();
        assert_eq!((output.protocols.len(), output.outcomes.len()), (number, number));
        assert_eq!((output.times.len(), output.sizes.len()), (number * 4, number * 3));
        assert_eq!((output.text_lengths.len(), output.attribute_counts.len()), (number * 3, number));
        assert_eq!(output.attribute_ids.len(), output.attribute_values.len());
        self.undecoded_bytes += output.undecoded_bytes;
        let mut columns = Columns { text: &output.text, attribute: 0, descriptor, output };
        let exchanges: Vec<Exchange> = (0..number).map(|index| columns.exchange(index)).collect();
        assert_eq!((columns.text.len(), columns.attribute), (0, output.attribute_ids.len()));
        for exchange in &exchanges {
            self.check_exchange(exchange);
            let ([request, response, _], is_answered) = (exchange.sizes, exchange.is_answered());
            self.unanswered += u64::from(!is_answered);
            if is_answered {
                self.decoded_bytes[0] += request;
                self.decoded_bytes[1] += response;
            }
        }
        exchanges
    }

    fn check_exchange(&self, exchange: &Exchange) {
        let Exchange { outcome, times: [asked, asked_end, answered, answered_end], sizes, .. } = *exchange;
        let ordered = |begin: u64, end: u64| end == 0 || (begin != 0 && begin <= end && end <= self.now_ns);
        assert!(ordered(asked, asked_end) && ordered(answered, answered_end), "{exchange:?}");
        assert!(asked == 0 || answered_end == 0 || asked <= answered_end, "answered before asked: {exchange:?}");
        assert!(asked != 0 || !exchange.is_answered(), "{exchange:?}");
        assert_eq!(outcome == UNMATCHED, asked == 0, "{exchange:?}");
        assert!(asked != 0 || sizes[0] == 0, "{exchange:?}");
        assert!(answered != 0 || sizes[1] == 0, "{exchange:?}");
    }

    /// Everything made sense: every byte is in an exchange with a response.
    pub(super) fn is_all_decoded(&self) -> bool {
        self.decoded_bytes == self.stream_bytes && self.unanswered == 0 && self.undecoded_bytes == 0
    }

    /// The sums, at the end of a connection.
    pub(super) fn check(&self) {
        let [client, server] = self.decoded_bytes;
        let streams = self.stream_bytes;
        assert!(client <= streams[0] && server <= streams[1], "{client} and {server} bytes decoded of {streams:?}");
        let undecoded = self.undecoded_bytes;
        assert!(undecoded <= self.given_bytes, "{undecoded} bytes undecoded of {}", self.given_bytes);
    }
}

/// What is left to read of an output.
struct Columns<'o> {
    text: &'o [u8],
    attribute: usize,
    descriptor: &'o Descriptor,
    output: &'o Output,
}

impl Columns<'_> {
    fn exchange(&mut self, index: usize) -> Exchange {
        let output = self.output;
        assert_eq!(output.exchange_connections[index], 0);
        assert!(usize::from(output.protocols[index]) < self.descriptor.protocols.len());
        assert!(output.outcomes[index] <= UNMATCHED);
        let texts = [0, 1, 2].map(|piece| self.take(output.text_lengths[index * 3 + piece].into()));
        let mut attributes: Vec<(&'static str, Value)> = Vec::new();
        for _ in 0..output.attribute_counts[index] {
            let declared = self.descriptor.attributes[usize::from(output.attribute_ids[self.attribute])];
            let bits = output.attribute_values[self.attribute];
            self.attribute += 1;
            assert!(attributes.iter().all(|(name, _)| *name != declared.name), "{}, twice", declared.name);
            let value = if declared.kind == Text::KIND { Value::Text(self.take(bits)) } else { Value::Bits(bits) };
            attributes.push((declared.name, value));
        }
        Exchange {
            protocol: output.protocols[index],
            outcome: output.outcomes[index],
            times: std::array::from_fn(|at| output.times[index * 4 + at]),
            sizes: std::array::from_fn(|at| output.sizes[index * 3 + at]),
            texts,
            attributes,
        }
    }

    fn take(&mut self, length: u64) -> String {
        let (piece, rest) = self.text.split_at(length as usize);
        self.text = rest;
        String::from_utf8_lossy(piece).into_owned()
    }
}
