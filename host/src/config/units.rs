//! Durations and byte sizes as people write them.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A duration, written as `100ms`, `2s`, `1m 30s` or `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    /// Reads a duration; the error says what is wrong with the text.
    pub fn parse(text: &str) -> Result<HumanDuration, String> {
        let refuse = || format!("{text:?} is not a duration such as 100ms, 2s or 1m 30s");
        let span: jiff::SignedDuration = text.trim().parse().map_err(|_| refuse())?;
        Duration::try_from(span).map(HumanDuration).map_err(|_| refuse())
    }

    /// Nanoseconds, as packet times are counted.
    pub fn as_ns(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::SignedDuration::try_from(self.0) {
            Ok(duration) => write!(formatter, "{duration:#}"),
            Err(_) => write!(formatter, "{:?}", self.0),
        }
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HumanDuration, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = HumanDuration;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a duration with its unit, such as 100ms, 2s or 1m 30s")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HumanDuration, E> {
                HumanDuration::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-kind": "duration" })
    }
}

/// A number of bytes, written as an integer or as `64KiB`, `16MiB`, `1GiB` (also `kB`, `MB`, `GB`: powers of ten).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Units by their lower-case names; the binary ones first, for those are written out.
const UNITS: [(&str, &str, u64); 7] = [
    ("gib", "GiB", 1 << 30),
    ("mib", "MiB", 1 << 20),
    ("kib", "KiB", 1 << 10),
    ("gb", "GB", 1_000_000_000),
    ("mb", "MB", 1_000_000),
    ("kb", "kB", 1_000),
    ("b", "B", 1),
];

impl ByteSize {
    /// Reads a size; the error says what is wrong with the text.
    pub fn parse(text: &str) -> Result<ByteSize, String> {
        let refuse = || format!("{text:?} is not a size such as 65536, 64KiB or 16MiB");
        let lower = text.trim().to_ascii_lowercase();
        let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let unit = &lower[digits.len()..];
        let factor = match unit {
            "" => 1,
            unit => UNITS.iter().find(|(name, ..)| *name == unit).map(|(.., factor)| *factor).ok_or_else(refuse)?,
        };
        let number: u64 = digits.trim_end().parse().map_err(|_| refuse())?;
        number.checked_mul(factor).map(ByteSize).ok_or_else(refuse)
    }

    /// As a length in memory; on a target where it does not fit, all there is.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = UNITS.iter().take(3).find(|(.., factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        match binary {
            Some((_, name, factor)) => write!(formatter, "{}{name}", self.0 / factor),
            None => write!(formatter, "{}", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        struct TextOrNumber;
        impl Visitor<'_> for TextOrNumber {
            type Value = ByteSize;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a size such as 65536, 64KiB or 16MiB")
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                ByteSize::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(TextOrNumber)
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "x-kind": "size" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_show_the_same() {
        for (text, bytes, shown) in [
            ("0", 0, "0"),
            ("4096", 4096, "4KiB"),
            ("64KiB", 65_536, "64KiB"),
            ("64 kib", 65_536, "64KiB"),
            ("16MiB", 16 << 20, "16MiB"),
            ("2GiB", 2 << 30, "2GiB"),
            ("10kB", 10_000, "10000"),
            ("1500b", 1500, "1500"),
        ] {
            assert_eq!(ByteSize::parse(text), Ok(ByteSize(bytes)), "{text}");
            assert_eq!(ByteSize(bytes).to_string(), shown);
            assert_eq!(ByteSize::parse(shown), Ok(ByteSize(bytes)));
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "KiB", "-1", "1.5MiB", "16 XiB", "1é", "99999999999GiB"] {
            assert!(ByteSize::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_read_and_show_the_same() {
        for (text, ms, shown) in
            [("100ms", 100, "100ms"), ("2s", 2_000, "2s"), ("1m 30s", 90_000, "1m 30s"), ("1h", 3_600_000, "1h")]
        {
            let duration = HumanDuration(Duration::from_millis(ms));
            assert_eq!(HumanDuration::parse(text), Ok(duration), "{text}");
            assert_eq!(duration.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "5", "-2s", "2 parsecs", "s"] {
            assert!(HumanDuration::parse(text).is_err(), "{text}");
        }
    }
}
