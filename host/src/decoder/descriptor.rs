//! What a plugin says of itself, checked once.

use super::bindings::podtap::decoder::types as contract;
pub use super::bindings::podtap::decoder::types::ValueKind;
use crate::event::Redaction;

const MAX_NAME: usize = 32;
const MAX_ATTRIBUTE_NAME: usize = 64;
pub(crate) const MAX_ATTRIBUTES: usize = 256;
pub(crate) const MAX_PROTOCOLS: usize = 16;
pub(crate) const MAX_PORTS: usize = 1024;
/// What is kept of a sentence for people, bytes.
const MAX_DOC: usize = 512;

/// A checked descriptor.
#[derive(Clone, Debug)]
pub struct Descriptor {
    /// Name of the decoder.
    pub name: String,
    /// Version of the decoder.
    pub version: String,
    /// Name and version as events carry them: `http/0.1.0`.
    pub label: String,
    /// One sentence, in the decoder's own words: not fit for a terminal as it is.
    pub doc: String,
    /// Protocols that exchanges can have.
    pub protocols: Vec<String>,
    /// Usual server ports.
    pub ports: Vec<u16>,
    /// Fields of exchanges.
    pub attributes: Vec<Attribute>,
    /// Index of the attribute that holds the status.
    pub status: Option<u16>,
}

/// A field of exchanges.
#[derive(Clone, Debug)]
pub struct Attribute {
    /// Dotted name.
    pub name: String,
    /// Type of its values.
    pub kind: ValueKind,
    /// One sentence, as [`Descriptor::doc`].
    pub doc: String,
    /// Its text is a URL query, which is redacted.
    pub is_query: bool,
}

impl Descriptor {
    /// Checks what a plugin said; an error says what breaks which rule.
    pub(super) fn check(said: contract::Descriptor) -> Result<Descriptor, String> {
        let contract::Descriptor { name, version, doc, protocols, ports, attributes, status } = said;
        let is_lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_name = |name: &str| !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(is_lower);
        let quoted = |text: &str| text.chars().take(MAX_ATTRIBUTE_NAME + 1).collect::<String>();
        if !is_name(&name) {
            return Err(format!("its name {:?} is not 1 to {MAX_NAME} of a-z, 0-9 and -", quoted(&name)));
        }
        let is_version = |byte: u8| byte.is_ascii_alphanumeric() || b".-+".contains(&byte);
        if version.is_empty() || version.len() > MAX_NAME || !version.bytes().all(is_version) {
            return Err(format!("its version {:?} is not a semantic version", quoted(&version)));
        }
        if protocols.is_empty() || protocols.len() > MAX_PROTOCOLS {
            return Err(format!("it names {} protocols; 1 to {MAX_PROTOCOLS} are allowed", protocols.len()));
        }
        if let Some(bad) = protocols.iter().find(|protocol| !is_name(protocol)) {
            return Err(format!("its protocol {:?} is not 1 to {MAX_NAME} of a-z, 0-9 and -", quoted(bad)));
        }
        if ports.len() > MAX_PORTS {
            return Err(format!("it names {} ports; at most {MAX_PORTS} are allowed", ports.len()));
        }
        if attributes.len() > MAX_ATTRIBUTES {
            return Err(format!("it has {} attributes; at most {MAX_ATTRIBUTES} are allowed", attributes.len()));
        }
        let mut seen = std::collections::HashSet::new();
        for attribute in &attributes {
            let is_part = |byte: u8| is_lower(byte) || byte == b'_' || byte == b'.';
            let name = &attribute.name;
            if name.is_empty() || name.len() > MAX_ATTRIBUTE_NAME || !name.bytes().all(is_part) {
                let name = quoted(name);
                return Err(format!("its attribute {name:?} is not 1 to {MAX_ATTRIBUTE_NAME} of a-z, 0-9, _, - and ."));
            }
            if !seen.insert(name) {
                return Err(format!("its attribute {name:?} is declared twice"));
            }
        }
        if status.is_some_and(|status| usize::from(status) >= attributes.len()) {
            return Err("its status is none of its attributes".to_owned());
        }
        let attributes = attributes
            .into_iter()
            .map(|contract::Attribute { name, kind, doc }| Attribute {
                is_query: kind == ValueKind::Text && Redaction::is_query(&name),
                kind,
                doc: sentence(&doc),
                name,
            })
            .collect();
        let (label, doc) = (format!("{name}/{version}"), sentence(&doc));
        Ok(Descriptor { name, version, label, doc, protocols, ports, attributes, status })
    }

    /// Name of the attribute that holds the status.
    pub fn status_attribute(&self) -> Option<&str> {
        self.attributes.get(usize::from(self.status?)).map(|attribute| attribute.name.as_str())
    }
}

/// The beginning of a text, on one line.
fn sentence(text: &str) -> String {
    let text = &text[..text.floor_char_boundary(MAX_DOC)];
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
