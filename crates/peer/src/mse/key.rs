//! The Diffie-Hellman exchange: 768 bits, with exponents of 160.

use std::fmt;

use crypto_bigint::modular::ConstMontyForm;
use crypto_bigint::{U192, U768};
use riverrun_base::Sha1Digest;

use crate::error::PeerMisbehaved;

use modulus::Prime;

/// How long a public key is, in bytes.
pub(super) const KEY_LEN: usize = 96;

/// The macro makes it `pub`; nobody outside needs it.
mod modulus {
    use crypto_bigint::U768;

    crypto_bigint::const_monty_params!(
        Prime,
        U768,
        "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74\
         020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437\
         4fe1356d6d51c245e485b576625e7ec6f44c42e9a63a36210000000000090563"
    );
}

/// What one side keeps, and what it sends.
pub(super) struct KeyPair {
    exponent: U192,
    pub(super) public: [u8; KEY_LEN],
}

/// What both sides know in the end, `S`.
pub(super) struct Secret([u8; KEY_LEN]);

impl KeyPair {
    pub(super) fn new(exponent: Sha1Digest) -> Self {
        let mut padded = [0; 24];
        padded[4..].copy_from_slice(&exponent.0);
        let exponent = U192::from_be_slice(&padded);
        let public = power(U768::from(2_u32), &exponent);
        Self { exponent, public }
    }

    /// The secret that follows from the peer's key, of [`KEY_LEN`] bytes. Refuses keys from which everybody knows
    /// what follows.
    pub(super) fn agree(&self, theirs: &[u8]) -> Result<Secret, PeerMisbehaved> {
        let theirs = U768::from_be_slice(theirs);
        let most = modulus().wrapping_sub(&U768::from(2_u32));
        if theirs < U768::from(2_u32) || theirs > most {
            return Err(PeerMisbehaved::KeyExchange("a key that is none"));
        }
        Ok(Secret(power(theirs, &self.exponent)))
    }
}

impl Secret {
    pub(super) const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

fn modulus() -> U768 {
    use crypto_bigint::modular::ConstMontyParams as _;
    *Prime::PARAMS.modulus().as_ref()
}

fn power(base: U768, exponent: &U192) -> [u8; KEY_LEN] {
    let base = ConstMontyForm::<Prime, { U768::LIMBS }>::new(&base);
    let power = base.pow_bounded_exp(exponent, 8 * 20).retrieve();
    let mut bytes = [0; KEY_LEN];
    bytes.copy_from_slice(power.to_be_bytes().as_ref());
    bytes
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPair")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
