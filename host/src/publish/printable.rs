//! Captured text on a terminal.
//!
//! Whoever sends traffic chooses what stands in it. Shown raw, an escape sequence could move the cursor, rename the
//! window or rewrite lines above, and a direction override could make text read as another; so whatever is not plainly
//! visible is shown as an escape of its own. Errs towards escaping.

use std::fmt;

/// Shows text with everything invisible escaped.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut plain = 0;
        for (index, letter) in self.0.char_indices().filter(|(_, letter)| !is_visible(*letter)) {
            formatter.write_str(&self.0[plain..index])?;
            write!(formatter, "{}", letter.escape_default())?;
            plain = index + letter.len_utf8();
        }
        formatter.write_str(&self.0[plain..])
    }
}

/// Does a terminal show this as a mark of its own, and do nothing else?
fn is_visible(letter: char) -> bool {
    if letter.is_ascii() {
        return matches!(letter, ' '..='~');
    }
    // C1 controls begin escape sequences too; the others are Unicode's format characters (direction, joining, tags),
    // line and paragraph separators, private use and noncharacters.
    !letter.is_control()
        && !matches!(letter,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{e000}'..='\u{f8ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{fff0}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}' | '\u{e0000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, shown: &str) {
        assert_eq!(Printable(text).to_string(), shown);
    }

    #[test]
    fn visible_text_is_left_alone() {
        check("GET /api/users/42?q=a%20b", "GET /api/users/42?q=a%20b");
        check("/grüße/日本語/🦀", "/grüße/日本語/🦀");
        check("", "");
    }

    #[test]
    fn what_acts_on_a_terminal_is_escaped() {
        check("a\x1b[2J\x1b]0;x\x07b", "a\\u{1b}[2J\\u{1b}]0;x\\u{7}b");
        check("a\r\nb\tc\x08\x7f", "a\\r\\nb\\tc\\u{8}\\u{7f}");
        check("\u{9b}2J", "\\u{9b}2J");
        check("exe.\u{202e}fdp", "exe.\\u{202e}fdp");
        check("a\u{2028}b\u{200b}\u{feff}", "a\\u{2028}b\\u{200b}\\u{feff}");
    }
}
