//! The shape of a command: keys and operators as sent, every value replaced by its type, as a server's own `$queryStats`
//! writes it: `{"find":"orders","filter":{"status":"?string"}}`.
//!
//! Never takes a value: [`Shape::leaf`] knows only types. Equal neighbours in an array are written once, so that a list
//! of any length has one shape.

use std::ops::Range;

/// Bytes of a shape; what is longer ends with `...`.
const MAX_SHAPE: usize = 4096;

/// Bytes of a key.
const MAX_KEY: usize = 128;

#[derive(Debug)]
struct Level {
    array: bool,
    count: u32,
    /// Where the element being written, and the comma before it, begin.
    element: usize,
    comma: usize,
    /// Text of the element before, in an array.
    previous: Range<usize>,
}

/// A shape being written.
#[derive(Debug)]
pub(crate) struct Shape {
    text: Vec<u8>,
    levels: Vec<Level>,
}

impl Default for Shape {
    fn default() -> Shape {
        // Room for most: to grow step by step takes longer than to write them.
        Shape { text: Vec::with_capacity(256), levels: Vec::with_capacity(8) }
    }
}

impl Shape {
    /// Nothing more will be written.
    pub(crate) fn is_full(&self) -> bool {
        self.text.len() > MAX_SHAPE
    }

    /// A value of a type; `{` and `[` of what is not gone into are types too.
    pub(crate) fn leaf(&mut self, key: &[u8], type_name: &str) {
        self.begin(key);
        self.text.extend_from_slice(b"\"?");
        self.text.extend_from_slice(type_name.as_bytes());
        self.text.push(b'"');
        self.end();
    }

    /// A name that is no value: of a collection.
    pub(crate) fn name(&mut self, key: &[u8], name: &[u8]) {
        self.begin(key);
        quote(&mut self.text, name);
        self.end();
    }

    /// A document or array is gone into.
    pub(crate) fn open(&mut self, key: &[u8], array: bool) {
        self.begin(key);
        self.text.push(if array { b'[' } else { b'{' });
        self.levels.push(Level { array, count: 0, element: 0, comma: 0, previous: 0..0 });
    }

    /// Its end.
    pub(crate) fn close(&mut self) {
        if let Some(level) = self.levels.pop() {
            self.text.push(if level.array { b']' } else { b'}' });
            self.end();
        }
    }

    /// Closes all but so many of the documents and arrays around.
    pub(crate) fn close_to(&mut self, levels: usize) {
        while self.levels.len() > levels {
            self.close();
        }
    }

    /// The text, with the document around it closed.
    pub(crate) fn finish(&mut self) -> &[u8] {
        self.close_to(0);
        if self.is_full() {
            self.text.truncate(MAX_SHAPE);
            // Not in the middle of a character.
            while self.text.last().is_some_and(|byte| !byte.is_ascii()) {
                self.text.pop();
            }
            self.text.extend_from_slice(b"...");
        }
        &self.text
    }

    fn begin(&mut self, key: &[u8]) {
        let Some(level) = self.levels.last_mut() else { return };
        level.comma = self.text.len();
        if level.count > 0 {
            self.text.push(b',');
        }
        level.element = self.text.len();
        if !level.array {
            quote(&mut self.text, key);
            self.text.push(b':');
        }
    }

    fn end(&mut self) {
        let Some(level) = self.levels.last_mut() else { return };
        let element = level.element..self.text.len();
        if level.array && level.count > 0 && self.text.get(element.clone()) == self.text.get(level.previous.clone()) {
            self.text.truncate(level.comma);
            return;
        }
        level.count = level.count.saturating_add(1);
        level.previous = element;
    }
}

/// As a JSON string; control characters become `?`.
fn quote(text: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = bytes.get(..MAX_KEY).unwrap_or(bytes);
    text.push(b'"');
    if bytes.iter().all(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)) {
        // As nearly all are.
        text.extend_from_slice(bytes);
    } else {
        for &byte in bytes {
            match byte {
                b'"' | b'\\' => text.extend([b'\\', byte]),
                0..0x20 => text.push(b'?'),
                _ => text.push(byte),
            }
        }
    }
    text.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::Shape;

    #[test]
    fn equal_neighbours_in_arrays_are_written_once() {
        let mut shape = Shape::default();
        shape.open(b"", false);
        shape.name(b"find", b"or\"ders");
        shape.open(b"$in", true);
        for kind in ["int", "int", "string", "int", "int"] {
            shape.leaf(b"", kind);
        }
        for key in [b"a", b"a", b"b"] {
            shape.open(b"", false);
            shape.leaf(key, "date");
            shape.close();
        }
        let text = br#"{"find":"or\"ders","$in":["?int","?string","?int",{"a":"?date"},{"b":"?date"}]}"#;
        assert_eq!(String::from_utf8_lossy(shape.finish()), String::from_utf8_lossy(text));
    }

    #[test]
    fn a_long_one_is_cut() {
        let mut shape = Shape::default();
        shape.open(b"", false);
        for n in 0..1000 {
            shape.leaf(format!("key{n}").as_bytes(), "int");
        }
        assert!(shape.is_full() && shape.finish().len() == 4099 && shape.finish().ends_with(b"..."));
    }
}
