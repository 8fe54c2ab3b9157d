//! TCP sequence numbers: the only place where 32-bit sequence arithmetic is done (RFC 9293, section 3.4).

/// A sequence number. Comparable only by its distance from another one, which wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seq(pub(crate) u32);

impl Seq {
    /// How far `self` lies ahead of `origin`; negative when it lies behind. Right for distances below 2 GiB.
    pub(crate) fn distance_from(self, origin: Seq) -> i64 {
        i64::from(self.0.wrapping_sub(origin.0).cast_signed())
    }

    /// How far `self` lies ahead of `origin` if it cannot lie behind; below 4 GiB.
    pub(crate) fn forward_from(self, origin: Seq) -> u64 {
        u64::from(self.0.wrapping_sub(origin.0))
    }

    /// The number `bytes` further on. Truncation is the wrap.
    pub(crate) fn after(self, bytes: u64) -> Seq {
        Seq(self.0.wrapping_add(bytes as u32))
    }

    /// The number `bytes` before.
    pub(crate) fn before(self, bytes: u64) -> Seq {
        Seq(self.0.wrapping_sub(bytes as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::Seq;

    #[test]
    fn distance_is_signed_and_wraps() {
        assert_eq!(Seq(5).distance_from(Seq(3)), 2);
        assert_eq!(Seq(3).distance_from(Seq(5)), -2);
        assert_eq!(Seq(1).distance_from(Seq(u32::MAX)), 2);
        assert_eq!(Seq(u32::MAX).distance_from(Seq(1)), -2);
        assert_eq!(Seq(1 << 31).distance_from(Seq(0)), -(1 << 31));
        assert_eq!(Seq(0).forward_from(Seq(1)), u64::from(u32::MAX));
    }

    #[test]
    fn after_and_before_wrap_and_undo_each_other() {
        assert_eq!(Seq(u32::MAX).after(1), Seq(0));
        assert_eq!(Seq(7).after((5 << 32) + 9).before(9), Seq(7));
    }
}
