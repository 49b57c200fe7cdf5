//! The ways to hash many messages, and which of them this processor has.

/// SHA-1 or SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// Of v1 pieces and info dictionaries.
    Sha1,
    /// Of v2 blocks, merkle trees and info dictionaries (BEP 52).
    Sha256,
}

/// A way to advance many messages. All give the same digests; they differ in speed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kernel {
    /// 16 messages at once, a 512-bit vector for a word of each (x86-64 with AVX-512 F and BW).
    Avx512,
    /// 8 messages at once, 256-bit vectors (x86-64 with AVX2).
    Avx2,
    /// 2 messages at once with the SHA extensions of x86-64: one alone waits for its own results half of the
    /// time.
    ShaPair,
    /// One message after the other, with the SHA instructions of the processor if it has them (x86, ARM).
    OneByOne,
}

impl Kernel {
    /// Every kernel, the widest first.
    pub const ALL: [Self; 4] = [Self::Avx512, Self::Avx2, Self::ShaPair, Self::OneByOne];

    /// Those that this processor can run, the widest first; [`Self::OneByOne`] is always the last.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|kernel| kernel.is_available())
    }

    /// Whether this processor can run it.
    pub fn is_available(self) -> bool {
        match self {
            Self::OneByOne => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => crate::x86::avx512::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => crate::x86::avx2::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::ShaPair => crate::x86::sha_pair::is_available(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The fastest one here for many messages.
    ///
    /// Measured at the first call, in about a millisecond: which of two is the faster depends on the core (the
    /// SHA instructions of one maker overlap, those of another do not), not on what it says of itself.
    pub fn best(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha1 => crate::sha1::best().wide.kernel,
            Algorithm::Sha256 => crate::sha256::best().wide.kernel,
        }
    }

    /// How many messages it advances at once.
    pub const fn lanes(self) -> usize {
        match self {
            Self::Avx512 => 16,
            Self::Avx2 => 8,
            Self::ShaPair => 2,
            Self::OneByOne => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_by_one_is_always_there_and_last() {
        assert_eq!(Kernel::available().last(), Some(Kernel::OneByOne));
    }

    #[test]
    fn the_best_is_one_that_is_there_and_stays() {
        for algorithm in [Algorithm::Sha1, Algorithm::Sha256] {
            let best = Kernel::best(algorithm);
            assert!(best.is_available());
            assert_eq!(best, Kernel::best(algorithm));
        }
    }
}
