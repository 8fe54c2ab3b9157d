//! A digest that is the same everywhere and always.

/// FNV-1a of 64 bits as 16 hex digits, for the attribute `db.query.digest` and the like: short enough for a column, the
/// same for equal texts in every version of every decoder. No secret is safe behind it: whoever has the digest can try
/// texts.
///
/// ```
/// assert_eq!(&podtap_sdk::digest(b"foobar"), b"85944171f73967e8");
/// ```
pub fn digest(text: &[u8]) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let hash = text
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut digits = [0; 16];
    for (digits, byte) in digits.as_chunks_mut().0.iter_mut().zip(hash.to_be_bytes()) {
        *digits = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
    digits
}
