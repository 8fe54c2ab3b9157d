//! What a plugin returned, checked as a whole before any of it is used.

use std::borrow::Cow;

use super::bindings::podtap::decoder::types as contract;
use super::descriptor::{Descriptor, ValueKind};
use super::sandbox::Failure;
use crate::event::{Outcome, Value};

const FROM_SERVER: u8 = 128;

/// Attributes of one exchange.
pub(crate) const MAX_ATTRIBUTES: usize = 128;

/// Demands in one output. An entry of a batch, of which there are 65,536 at most, gives rise to two (SDK: a skip and an end).
pub(crate) const MAX_DEMANDS: usize = 131_072;

/// The longest text kept of one piece; the rest is cut off, and the exchange says so.
pub(crate) const MAX_TEXT: usize = 8 * 1024;

/// The longest text kept of one exchange, cut likewise: an event is to fit in a record of Kafka, 1 MB by default, even
/// where JSON takes six bytes for one.
pub(crate) const MAX_EXCHANGE_TEXT: usize = 64 * 1024;

/// One exchange, as slices of what the plugin returned.
#[derive(Debug)]
pub struct Row<'a> {
    /// The connection's id in the sandbox.
    pub connection: u32,
    /// Index into the descriptor's protocols.
    pub protocol: usize,
    /// How it ended.
    pub outcome: Outcome,
    /// First and last byte of the request, first and last byte of the response, ns since epoch; 0 for not seen.
    pub times: [u64; 4],
    /// Bytes of the request, of the response, and lost.
    pub sizes: [u64; 3],
    /// Operation, target, summary; empty for none.
    pub texts: [Cow<'a, str>; 3],
    /// Name and value of each attribute; an empty text says nothing, and is left out.
    pub attributes: Vec<(Cow<'a, str>, Value<'a>)>,
    /// Which of the attributes is the query of a URL.
    pub query: Option<usize>,
    /// A text was longer than podtap keeps.
    pub truncated: bool,
}

/// What a plugin asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The connection's id in the sandbox.
    pub connection: u32,
    /// On the server's side.
    pub from_server: bool,
    /// What.
    pub kind: DemandKind,
    /// Up to which stream position of the side.
    pub position: u64,
}

/// Kinds of demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DemandKind {
    /// Leave out what comes before the position.
    Skip,
    /// Send no more of the connection.
    Ignore,
    /// Detect the protocol anew.
    Detect,
}

/// A checked output.
#[derive(Debug)]
pub struct Rows<'a> {
    output: &'a contract::Output,
    descriptor: &'a Descriptor,
}

impl<'a> Rows<'a> {
    /// Checks every count, length and index; an error says which is wrong.
    pub(super) fn check(output: &'a contract::Output, descriptor: &'a Descriptor) -> Result<Rows<'a>, Failure> {
        if output.attribute_counts.iter().any(|&count| usize::from(count) > MAX_ATTRIBUTES) {
            return Err(Failure::TooMuch("an exchange with more than 128 attributes"));
        }
        if output.demand_connections.len() > MAX_DEMANDS {
            return Err(Failure::TooMuch("more than 131,072 demands"));
        }
        let rows = Rows { output, descriptor };
        rows.check_columns().and_then(|()| rows.check_texts()).map_err(Failure::Output)?;
        Ok(rows)
    }

    fn check_columns(&self) -> Result<(), &'static str> {
        let Rows { output, descriptor } = *self;
        let exchanges = output.exchange_connections.len();
        let columns = [
            (output.protocols.len(), 1),
            (output.outcomes.len(), 1),
            (output.attribute_counts.len(), 1),
            (output.times.len(), 4),
            (output.sizes.len(), 3),
            (output.text_lengths.len(), 3),
        ];
        if columns.iter().any(|&(length, each)| Some(length) != exchanges.checked_mul(each)) {
            return Err("columns of exchanges differ in length");
        }
        if output.protocols.iter().any(|&index| usize::from(index) >= descriptor.protocols.len()) {
            return Err("an exchange of a protocol that is not in the descriptor");
        }
        if output.outcomes.iter().any(|&outcome| outcome_of(outcome).is_none()) {
            return Err("an unknown outcome");
        }
        let attributes: usize = output.attribute_counts.iter().map(|&count| usize::from(count)).sum();
        if output.attribute_ids.len() != attributes || output.attribute_values.len() != attributes {
            return Err("columns of attributes differ in length");
        }
        if output.attribute_ids.iter().any(|&id| usize::from(id) >= descriptor.attributes.len()) {
            return Err("an attribute that is not in the descriptor");
        }
        let demands = output.demand_connections.len();
        if output.demand_kinds.len() != demands || output.demand_positions.len() != demands {
            return Err("columns of demands differ in length");
        }
        if output.demand_kinds.iter().any(|&kind| demand_of(kind).is_none()) {
            return Err("an unknown demand");
        }
        Ok(())
    }

    /// Walks the texts as [`Rows::each`] will: every piece lies within the text, and all of it is used.
    fn check_texts(&self) -> Result<(), &'static str> {
        let output = self.output;
        let (mut attribute, mut at) = (0, 0_usize);
        for (lengths, &count) in output.text_lengths.chunks_exact(3).zip(&output.attribute_counts) {
            let until = attribute + usize::from(count);
            let ids = output.attribute_ids.get(attribute..until).unwrap_or_default();
            let values = output.attribute_values.get(attribute..until).unwrap_or_default();
            attribute = until;
            let mut seen = [0_u64; 4];
            for &id in ids {
                let (word, bit) = (usize::from(id) / 64, 1 << (id % 64));
                let word = seen.get_mut(word).ok_or("an attribute that is not in the descriptor")?;
                if *word & bit != 0 {
                    return Err("an attribute twice in one exchange");
                }
                *word |= bit;
            }
            let heads = lengths.iter().map(|&length| u64::from(length));
            let texts = ids.iter().zip(values).filter(|&(&id, _)| self.kind(id) == ValueKind::Text).map(|(_, &v)| v);
            for length in heads.chain(texts) {
                at = usize::try_from(length).ok().and_then(|length| at.checked_add(length)).ok_or("a text too long")?;
                if at > output.text.len() {
                    return Err("a text that ends outside the text");
                }
            }
        }
        if at == output.text.len() { Ok(()) } else { Err("text that belongs to no exchange") }
    }

    fn kind(&self, id: u16) -> ValueKind {
        self.descriptor.attributes.get(usize::from(id)).map_or(ValueKind::Uint, |attribute| attribute.kind)
    }

    /// Number of exchanges.
    pub fn len(&self) -> usize {
        self.output.exchange_connections.len()
    }

    /// No exchange.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The connection of each exchange.
    pub fn connections(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.output.exchange_connections.iter().copied()
    }

    /// Bytes that the plugin could make nothing of.
    pub fn undecoded_bytes(&self) -> u64 {
        self.output.undecoded_bytes
    }

    /// The exchanges, in order.
    pub fn each(&self) -> impl Iterator<Item = Row<'a>> + use<'a> {
        let (output, descriptor) = (self.output, self.descriptor);
        // Whole at once, because that is far faster than piece by piece; lossy only where it must be.
        let valid = std::str::from_utf8(&output.text).ok();
        let mut at = 0;
        let mut attribute = 0;
        (0..output.exchange_connections.len()).map(move |index| {
            let (mut truncated, mut left) = (false, MAX_EXCHANGE_TEXT);
            let mut take = |length: u64| {
                // Lengths were checked: they lie within the text.
                let (from, until) = (at, at + length as usize);
                at = until;
                let most = MAX_TEXT.min(left);
                let cut = until - from > most;
                let kept = if cut { from + most } else { until };
                left -= kept - from;
                truncated |= cut;
                match valid.and_then(|text| text.get(from..kept)) {
                    Some(text) => Cow::Borrowed(text),
                    None => lossy(output.text.get(from..kept).unwrap_or_default(), cut),
                }
            };
            let texts = [0, 1, 2].map(|n| take(output.text_lengths[index * 3 + n].into()));
            let until = attribute + usize::from(output.attribute_counts[index]);
            let mut attributes = Vec::with_capacity(until - attribute);
            let mut query = None;
            for (&id, &bits) in
                output.attribute_ids[attribute..until].iter().zip(&output.attribute_values[attribute..until])
            {
                let declared = &descriptor.attributes[usize::from(id)];
                let value = match declared.kind {
                    ValueKind::Text => match take(bits) {
                        text if text.is_empty() => continue,
                        text => Value::Text(text),
                    },
                    ValueKind::Uint => Value::Uint(bits),
                    ValueKind::Int => Value::Int(bits.cast_signed()),
                    ValueKind::Float => Value::Float(f64::from_bits(bits)),
                    ValueKind::Flag => Value::Flag(bits != 0),
                };
                if declared.is_query {
                    query = Some(attributes.len());
                }
                attributes.push((Cow::Borrowed(declared.name.as_str()), value));
            }
            attribute = until;
            let four = |column: &[u64], n| column[index * 4 + n];
            Row {
                connection: output.exchange_connections[index],
                protocol: usize::from(output.protocols[index]),
                outcome: outcome_of(output.outcomes[index]).unwrap_or(Outcome::Ok),
                times: [0, 1, 2, 3].map(|n| four(&output.times, n)),
                sizes: [0, 1, 2].map(|n| output.sizes[index * 3 + n]),
                texts,
                attributes,
                query,
                truncated,
            }
        })
    }

    /// The demands, in order.
    pub fn demands(&self) -> impl Iterator<Item = Demand> + use<'a> {
        let output = self.output;
        let places = output.demand_connections.iter().zip(&output.demand_positions);
        places.zip(&output.demand_kinds).filter_map(|((&connection, &position), &kind)| {
            Some(Demand { connection, from_server: kind & FROM_SERVER != 0, kind: demand_of(kind)?, position })
        })
    }
}

/// Text with what is not UTF-8 replaced; a character that a cut left incomplete goes without a trace.
#[cold]
fn lossy(bytes: &[u8], cut: bool) -> Cow<'_, str> {
    let incomplete = |error: std::str::Utf8Error| error.error_len().is_none().then(|| error.valid_up_to());
    let whole = match std::str::from_utf8(bytes) {
        Err(error) if cut => incomplete(error).unwrap_or(bytes.len()),
        _ => bytes.len(),
    };
    String::from_utf8_lossy(bytes.get(..whole).unwrap_or(bytes))
}

fn outcome_of(number: u8) -> Option<Outcome> {
    [Outcome::Ok, Outcome::Error, Outcome::NoResponse, Outcome::Aborted, Outcome::Unmatched]
        .get(usize::from(number))
        .copied()
}

fn demand_of(kind: u8) -> Option<DemandKind> {
    [DemandKind::Skip, DemandKind::Ignore, DemandKind::Detect].get(usize::from(kind & !FROM_SERVER)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor() -> Descriptor {
        let attribute = |name: &str, kind| contract::Attribute { name: name.into(), kind, doc: String::new() };
        Descriptor::check(contract::Descriptor {
            name: "t".into(),
            version: "1".into(),
            doc: String::new(),
            protocols: vec!["t".into()],
            ports: vec![],
            attributes: vec![attribute("a.text", ValueKind::Text), attribute("a.int", ValueKind::Int)],
            status: None,
        })
        .unwrap()
    }

    fn valid() -> contract::Output {
        contract::Output {
            exchange_connections: vec![3],
            protocols: vec![0],
            outcomes: vec![1],
            times: vec![1, 2, 3, 4],
            sizes: vec![5, 6, 7],
            text_lengths: vec![1, 2, 0],
            attribute_counts: vec![2],
            attribute_ids: vec![1, 0],
            attribute_values: vec![u64::MAX, 2],
            text: "oté".into(),
            demand_connections: vec![3],
            demand_kinds: vec![FROM_SERVER],
            demand_positions: vec![9],
            undecoded_bytes: 0,
        }
    }

    #[test]
    fn a_valid_output_gives_its_rows() {
        let (mut output, descriptor) = (valid(), descriptor());
        output.text = "otté".into();
        output.text_lengths = vec![1, 1, 0];
        output.attribute_values = vec![u64::MAX, 3];
        let rows = Rows::check(&output, &descriptor).unwrap();
        let row = rows.each().next().unwrap();
        assert_eq!(row.texts, ["o", "t", ""]);
        assert_eq!(row.attributes, [("a.int".into(), Value::Int(-1)), ("a.text".into(), Value::Text("té".into()))]);
        assert_eq!(row.query, None);
        assert_eq!((row.outcome, row.times, row.sizes), (Outcome::Error, [1, 2, 3, 4], [5, 6, 7]));
        let demand = Demand { connection: 3, from_server: true, kind: DemandKind::Skip, position: 9 };
        assert_eq!(rows.demands().collect::<Vec<_>>(), [demand]);
    }

    #[test]
    fn what_is_not_utf_8_is_replaced_in_its_own_piece() {
        let (mut output, descriptor) = (valid(), descriptor());
        output.text = b"o\xfftt\xc3\xa9".into();
        output.text_lengths = vec![2, 1, 0];
        output.attribute_values = vec![0, 3];
        let rows = Rows::check(&output, &descriptor).unwrap();
        let row = rows.each().next().unwrap();
        assert_eq!(row.texts, ["o\u{fffd}", "t", ""]);
        assert_eq!(row.attributes[1].1, Value::Text("té".into()));
        // Cut within a character by the decoder.
        output.text = "oé".into();
        output.text_lengths = vec![2, 0, 0];
        output.attribute_values = vec![0, 1];
        let rows = Rows::check(&output, &descriptor).unwrap();
        assert_eq!(rows.each().next().unwrap().texts[0], "o\u{fffd}");
    }

    #[test]
    fn a_long_text_is_cut_on_a_character_and_said_so() {
        let (mut output, descriptor) = (valid(), descriptor());
        output.text = format!("{}é", "x".repeat(MAX_TEXT - 1)).into();
        output.text_lengths = vec![output.text.len() as u32, 0, 0];
        output.attribute_values = vec![0, 0];
        let rows = Rows::check(&output, &descriptor).unwrap();
        let row = rows.each().next().unwrap();
        assert!(row.truncated);
        assert_eq!(row.texts[0].len(), MAX_TEXT - 1);
    }

    #[test]
    fn the_texts_of_an_exchange_are_cut_together() {
        let attribute =
            |n: usize| contract::Attribute { name: format!("a.{n}"), kind: ValueKind::Text, doc: String::new() };
        let descriptor = Descriptor { attributes: Vec::new(), ..descriptor() };
        let declared = contract::Descriptor {
            name: "t".into(),
            version: "1".into(),
            doc: String::new(),
            protocols: vec!["t".into()],
            ports: vec![],
            attributes: (0..20).map(attribute).collect(),
            status: None,
        };
        let descriptor = Descriptor { attributes: Descriptor::check(declared).unwrap().attributes, ..descriptor };
        let output = contract::Output {
            text_lengths: vec![0; 3],
            text: vec![b'x'; 20 * MAX_TEXT],
            attribute_counts: vec![20],
            attribute_ids: (0..20).collect(),
            attribute_values: vec![MAX_TEXT as u64; 20],
            ..valid()
        };
        let rows = Rows::check(&output, &descriptor).unwrap();
        let row = rows.each().next().unwrap();
        let kept = |value: &Value<'_>| if let Value::Text(text) = value { text.len() } else { 0 };
        assert!(row.truncated);
        assert_eq!(row.attributes.iter().map(|(_, value)| kept(value)).sum::<usize>(), MAX_EXCHANGE_TEXT);
        assert_eq!(kept(&row.attributes[7].1), MAX_TEXT);
    }

    #[test]
    fn an_output_that_does_not_add_up_is_refused() {
        let descriptor = descriptor();
        let check = |what: &str, change: &dyn Fn(&mut contract::Output)| {
            let mut output = valid();
            output.text_lengths = vec![1, 0, 0];
            output.text = "oab".into();
            output.attribute_values = vec![0, 2];
            assert!(Rows::check(&output, &descriptor).is_ok());
            change(&mut output);
            let error = Rows::check(&output, &descriptor).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        };
        check("exchanges differ", &|output| output.times.truncate(3));
        check("exchanges differ", &|output| output.sizes.push(0));
        check("protocol", &|output| output.protocols = vec![1]);
        check("outcome", &|output| output.outcomes = vec![5]);
        check("attributes differ", &|output| output.attribute_counts = vec![1]);
        check("not in the descriptor", &|output| output.attribute_ids = vec![1, 2]);
        check("twice", &|output| output.attribute_ids = vec![1, 1]);
        check("outside the text", &|output| output.attribute_values = vec![0, 99]);
        check("too long", &|output| output.attribute_values = vec![0, u64::MAX]);
        check("no exchange", &|output| output.text.push(b'x'));
        check("demands differ", &|output| output.demand_positions.clear());
        check("unknown demand", &|output| output.demand_kinds = vec![3]);
        check("more than 128 attributes", &|output| output.attribute_counts = vec![129]);
        check("demands", &|output| output.demand_connections = vec![3; MAX_DEMANDS + 1]);
    }
}
