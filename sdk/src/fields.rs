//! Typed fields of exchanges: declared once by [`crate::fields!`], checked where they are set.

use std::marker::PhantomData;

use crate::bindings::podtap::decoder::types::ValueKind;

/// A field as declared: its place in [`Attribute`]s and the type of its values.
#[derive(Clone, Copy, Debug)]
pub struct Field<K> {
    pub(crate) id: u16,
    kind: PhantomData<K>,
}

impl<K> Field<K> {
    /// For [`crate::fields!`].
    #[doc(hidden)]
    pub const fn new(id: u16) -> Field<K> {
        Field { id, kind: PhantomData }
    }

    /// The field's index in its decoder's attributes, as [`crate::Descriptor::status`] wants it.
    pub const fn index(&self) -> u16 {
        self.id
    }
}

/// A field in the decoder's descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    /// Dotted name: `http.request.method`.
    pub name: &'static str,
    /// What its values are.
    pub kind: ValueKind,
    /// One sentence for the reference.
    pub doc: &'static str,
}

/// A type of values.
pub trait FieldKind {
    /// Its name in the contract.
    const KIND: ValueKind;
}

/// Text, as bytes: podtap replaces what is not UTF-8.
#[derive(Clone, Copy, Debug)]
pub enum Text {}

/// Unsigned integers.
#[derive(Clone, Copy, Debug)]
pub enum Uint {}

/// Signed integers.
#[derive(Clone, Copy, Debug)]
pub enum Int {}

/// Doubles.
#[derive(Clone, Copy, Debug)]
pub enum Float {}

/// True or false.
#[derive(Clone, Copy, Debug)]
pub enum Flag {}

impl FieldKind for Text {
    const KIND: ValueKind = ValueKind::Text;
}
impl FieldKind for Uint {
    const KIND: ValueKind = ValueKind::Uint;
}
impl FieldKind for Int {
    const KIND: ValueKind = ValueKind::Int;
}
impl FieldKind for Float {
    const KIND: ValueKind = ValueKind::Float;
}
impl FieldKind for Flag {
    const KIND: ValueKind = ValueKind::Flag;
}

/// A value that a field of kind `K` takes.
pub trait Settable<K> {
    /// Appends text to `text` and gives the 64 bits of the contract.
    fn put(self, text: &mut Vec<u8>) -> u64;
}

impl Settable<Text> for &[u8] {
    #[inline(always)]
    fn put(self, text: &mut Vec<u8>) -> u64 {
        text.extend_from_slice(self);
        self.len() as u64
    }
}

impl Settable<Text> for &str {
    fn put(self, text: &mut Vec<u8>) -> u64 {
        self.as_bytes().put(text)
    }
}

impl<N: Into<u64>> Settable<Uint> for N {
    fn put(self, _: &mut Vec<u8>) -> u64 {
        self.into()
    }
}

impl Settable<Int> for i64 {
    fn put(self, _: &mut Vec<u8>) -> u64 {
        self.cast_unsigned()
    }
}

impl Settable<Float> for f64 {
    fn put(self, _: &mut Vec<u8>) -> u64 {
        self.to_bits()
    }
}

impl Settable<Flag> for bool {
    fn put(self, _: &mut Vec<u8>) -> u64 {
        self.into()
    }
}

/// Declares a decoder's fields: a constant of type [`Field`] for each, and `ATTRIBUTES` for the descriptor. A comment of
/// several lines is one sentence.
///
/// ```
/// podtap_sdk::fields! {
///     /// The command, as sent.
///     pub COMMAND: Text = "example.command";
///     /// Rows in the answer.
///     pub ROWS: Uint = "example.rows";
/// }
/// assert_eq!(ATTRIBUTES[usize::from(ROWS.index())].name, "example.rows");
/// ```
#[macro_export]
macro_rules! fields {
    ($($(#[doc = $doc:literal])+ $visibility:vis $name:ident: $kind:ident = $attribute:literal;)+) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        #[repr(u16)]
        enum FieldIndex { $($name),+ }

        $(
            $(#[doc = $doc])+
            $visibility const $name: $crate::Field<$crate::$kind> = $crate::Field::new(FieldIndex::$name as u16);
        )+

        /// Every field, for the descriptor.
        pub const ATTRIBUTES: &[$crate::Attribute] = &[$(
            $crate::Attribute {
                name: $attribute,
                kind: <$crate::$kind as $crate::FieldKind>::KIND,
                // Each line begins with the blank behind its slashes.
                doc: concat!($($doc),+).trim_ascii(),
            }
        ),+];
    };
}
