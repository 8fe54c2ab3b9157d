//! Where a piece of a stream ends.

/// Finds the end of a piece of the stream.
///
/// ```
/// # use podtap_sdk::{Break, Stream};
/// /// Up to the second `;`.
/// async fn pair(client: &mut Stream) -> Result<Vec<u8>, Break> {
///     let second = |bytes: &[u8], _scanned: usize| {
///         let mut ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b';');
///         ends.nth(1).map(|(at, _)| at + 1)
///     };
///     client.until(second, 256, <[u8]>::to_vec).await
/// }
/// ```
pub trait Delimiter {
    /// The length of the piece that `bytes` begin with, its delimiter included; none if it is not there yet. The first
    /// `scanned` bytes were given before, without success.
    fn end(&self, bytes: &[u8], scanned: usize) -> Option<usize>;
}

impl<const N: usize> Delimiter for &[u8; N] {
    fn end(&self, bytes: &[u8], scanned: usize) -> Option<usize> {
        let from = scanned.saturating_sub(N.saturating_sub(1));
        memchr::memmem::find(bytes.get(from..)?, *self).map(|at| from + at + N)
    }
}

impl<F: Fn(&[u8], usize) -> Option<usize>> Delimiter for F {
    fn end(&self, bytes: &[u8], scanned: usize) -> Option<usize> {
        self(bytes, scanned)
    }
}
