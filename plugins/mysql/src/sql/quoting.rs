//! How a session and its character set decide where quotation marks and backslashes are.

/// How strings end, which the session decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quoting {
    /// A backslash takes the meaning from the next byte (not so in the SQL mode NO_BACKSLASH_ESCAPES). None: the server has not
    /// said it yet.
    pub(crate) backslash: Option<bool>,
    pub(crate) pairs: Pairs,
}

impl Default for Quoting {
    fn default() -> Quoting {
        Quoting { backslash: None, pairs: Pairs::None }
    }
}

/// The lowest byte that begins a character of two.
pub(super) const FIRST_LEAD: u8 = 0x81;

/// Characters of two bytes, the second of which may look like a backslash or a backtick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pairs {
    None,
    /// sjis and cp932.
    Sjis,
    Big5,
    /// gbk, and gb18030: those of its characters that have four bytes hold no such byte.
    Gbk,
}

impl Pairs {
    /// Do two bytes make a character (`ismbchar_sjis` and the like in MySQL's strings/ctype-*.c)? A quotation mark or a
    /// digit is never the second one.
    pub(super) fn pair(self, lead: u8, trail: u8) -> bool {
        match self {
            Pairs::None => false,
            Pairs::Sjis => matches!(lead, 0x81..=0x9f | 0xe0..=0xfc) && matches!(trail, 0x40..=0x7e | 0x80..=0xfc),
            Pairs::Big5 => matches!(lead, 0xa1..=0xf9) && matches!(trail, 0x40..=0x7e | 0xa1..=0xfe),
            Pairs::Gbk => matches!(lead, 0x81..=0xfe) && matches!(trail, 0x40..=0x7e | 0x80..=0xfe),
        }
    }
}
