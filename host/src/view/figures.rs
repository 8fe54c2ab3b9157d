//! Figures as people read them.

use std::fmt;

/// An integer with its thousands set apart: `1,234,567`.
#[derive(Clone, Copy, Debug)]
pub struct Count(pub u64);

impl fmt::Display for Count {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut text = String::with_capacity(digits.len() + digits.len() / 3);
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        formatter.pad(&text)
    }
}

/// So many in a second: `0.42/s`, `12.3/s`, `4.5k/s`; `-` where nobody knows.
#[derive(Clone, Copy, Debug)]
pub struct Rate(pub Option<f64>);

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            None => "-".to_owned(),
            Some(rate) if rate < 9.995 => format!("{rate:.2}/s"),
            Some(rate) if rate < 99.95 => format!("{rate:.1}/s"),
            Some(rate) if rate < 999.5 => format!("{rate:.0}/s"),
            Some(rate) if rate < 99_950.0 => format!("{:.1}k/s", rate / 1e3),
            Some(rate) if rate < 999_500.0 => format!("{:.0}k/s", rate / 1e3),
            Some(rate) => format!("{:.1}M/s", rate / 1e6),
        };
        formatter.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        for (count, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(Count(count).to_string(), text);
        }
        assert_eq!(format!("{:>6}", Count(1_000)), " 1,000");
    }

    #[test]
    fn rates_have_three_digits_that_count_or_fewer() {
        for (rate, text) in [
            (0.0, "0.00/s"),
            (0.424, "0.42/s"),
            (9.996, "10.0/s"),
            (12.34, "12.3/s"),
            (250.6, "251/s"),
            (4_512.0, "4.5k/s"),
            (123_456.0, "123k/s"),
            (5e9, "5000.0M/s"),
        ] {
            assert_eq!(Rate(Some(rate)).to_string(), text);
        }
        assert_eq!(Rate(None).to_string(), "-");
    }
}
