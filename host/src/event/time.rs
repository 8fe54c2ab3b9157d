//! Capture time in events: RFC 3339 with nanoseconds where people read it, a number where programs do.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nanoseconds since 1970-01-01 UTC. MessagePack carries the integer, JSON the RFC 3339 text with nine decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// `2026-11-23T21:08:01.123456789Z`, as ASCII. By hand, as every JSON event has one: a date library takes ten times
    /// as long.
    pub(super) fn text(self) -> [u8; 30] {
        const DAY: u64 = 86_400;
        let (seconds, nanoseconds) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let (days, second) = (seconds / DAY, seconds % DAY);
        // Days to a date of the Gregorian calendar, in eras of 400 years that begin on 1 March of year 0
        // (H. Hinnant, "chrono-compatible low-level date algorithms", civil_from_days).
        let days = days + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);

        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        let fields = [(year, 0..4), (month, 5..7), (day, 8..10), (second / 3600, 11..13), (second / 60 % 60, 14..16)];
        for (mut number, place) in fields.into_iter().chain([(second % 60, 17..19), (nanoseconds, 20..29)]) {
            for digit in text[place].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
        text
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(std::str::from_utf8(&self.text()).unwrap_or_default())
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        use serde::de::Error;
        if !deserializer.is_human_readable() {
            return u64::deserialize(deserializer).map(Timestamp);
        }
        let text = Cow::<str>::deserialize(deserializer)?;
        let time: jiff::Timestamp = text.parse().map_err(D::Error::custom)?;
        u64::try_from(time.as_nanosecond()).map(Timestamp).map_err(|_| D::Error::custom("a time before 1970"))
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "date-time",
            "description": "RFC 3339, UTC, nine decimals. In MessagePack: an integer, ns since 1970-01-01 UTC."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ns: u64, text: &str) {
        assert_eq!(Timestamp(ns).to_string(), text);
        let json = serde_json::to_string(&Timestamp(ns)).unwrap();
        assert_eq!(json, format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), Timestamp(ns));
        let packed = rmp_serde::to_vec(&Timestamp(ns)).unwrap();
        assert_eq!(rmp_serde::from_slice::<Timestamp>(&packed).unwrap(), Timestamp(ns));
    }

    #[test]
    fn text_has_nine_decimals_and_reads_back() {
        check(0, "1970-01-01T00:00:00.000000000Z");
        check(1_700_000_000_000_000_001, "2023-11-14T22:13:20.000000001Z");
        check(u64::MAX, "2554-07-21T23:34:33.709551615Z");
    }

    #[test]
    fn every_day_is_that_of_a_date_library() {
        // An odd step, so that every hour, minute and second comes by.
        for ns in (0..u64::MAX).step_by(86_399_999_999_983 * 7) {
            let expected = jiff::Timestamp::from_nanosecond(i128::from(ns)).unwrap();
            assert_eq!(Timestamp(ns).to_string(), format!("{expected:.9}"));
        }
    }

    #[test]
    fn a_time_before_1970_is_refused() {
        assert!(serde_json::from_str::<Timestamp>("\"1969-12-31T23:59:59Z\"").is_err());
    }
}
