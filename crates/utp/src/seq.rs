//! Sequence numbers: 16 bits that wrap.

use riverrun_base::Rng;

/// The number of a packet. Two are compared by how far one is after the other, which is sound while less than
/// half of all numbers are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Seq(pub(crate) u16);

impl Seq {
    pub(crate) const fn next(self) -> Self {
        self.plus(1)
    }

    pub(crate) const fn previous(self) -> Self {
        Self(self.0.wrapping_sub(1))
    }

    pub(crate) const fn plus(self, count: u16) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// How far this is after `earlier`, going forward.
    pub(crate) const fn after(self, earlier: Self) -> u16 {
        self.0.wrapping_sub(earlier.0)
    }

    /// How far this is after `earlier`; negative if it is before.
    pub(crate) const fn offset_from(self, earlier: Self) -> i16 {
        self.after(earlier).cast_signed()
    }
}

/// 16 random bits: an id, or the number to begin with.
pub(crate) fn random_u16(rng: &mut Rng) -> u16 {
    u16::try_from(rng.next_u32() >> 16).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_go_through_the_wrap() {
        assert_eq!(Seq(2).after(Seq(65_534)), 4);
        assert_eq!(Seq(65_534).offset_from(Seq(2)), -4);
        assert_eq!(Seq(0).previous(), Seq(65_535));
        assert_eq!(Seq(65_535).next(), Seq(0));
    }
}
