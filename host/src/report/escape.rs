//! Text from traffic in HTML.

use std::fmt::{self, Write as _};

use crate::publish::Printable;

/// Shows text as itself, in an element or in an attribute within quotation marks. What is invisible, or would make text read
/// as another, is shown as an escape (see [`Printable`]), for it would fool the reader of a page as well.
pub(super) struct Escaped<T>(pub(super) T);

impl<T: AsRef<str>> fmt::Display for Escaped<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(formatter), "{}", Printable(self.0.as_ref()))
    }
}

/// Escapes what means something in HTML, where text is expected.
struct Escaping<'f, 'a>(&'f mut fmt::Formatter<'a>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut plain = 0;
        for (index, byte) in text.bytes().enumerate() {
            let entity = match byte {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                b'\'' => "&#39;",
                _ => continue,
            };
            self.0.write_str(&text[plain..index])?;
            self.0.write_str(entity)?;
            plain = index + 1;
        }
        self.0.write_str(&text[plain..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_text_is_markup() {
        let text = "</title><script>alert('a&b')</script>\" onload=x \u{202e}\x1b[2J/größe";
        assert_eq!(
            Escaped(text).to_string(),
            "&lt;/title&gt;&lt;script&gt;alert(&#39;a&amp;b&#39;)&lt;/script&gt;&quot; onload=x \
             \\u{202e}\\u{1b}[2J/größe"
        );
    }
}
