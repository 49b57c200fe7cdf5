//! What is encrypted, and what is to be.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::error::PeerMisbehaved;

/// Whether connections are to be encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EncryptionPolicy {
    /// Dial in the clear, and refuse what is encrypted.
    Off,
    /// Dial encrypted at first and in the clear if that fails; take both. Behind the handshake payload is left plain
    /// where the peer has it so too: that hides as much from boxes that look at first bytes, and costs nothing.
    #[default]
    Prefer,
    /// Everything encrypted, payload too; peers that cannot are none.
    Require,
}

impl EncryptionPolicy {
    /// Whether a connection is worth dialling in this manner.
    pub const fn allows(self, encrypted: bool) -> bool {
        match self {
            Self::Off => !encrypted,
            Self::Prefer => true,
            Self::Require => encrypted,
        }
    }

    /// What we have to offer, or to choose from.
    pub(super) const fn methods(self) -> Methods {
        match self {
            Self::Off | Self::Prefer => Methods(Methods::PLAIN | Methods::RC4),
            Self::Require => Methods(Methods::RC4),
        }
    }
}

impl fmt::Display for EncryptionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Off => "off",
            Self::Prefer => "prefer",
            Self::Require => "require",
        })
    }
}

/// A text that is no policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected off, prefer or require, found {0:?}")]
pub struct InvalidEncryptionPolicy(String);

impl FromStr for EncryptionPolicy {
    type Err = InvalidEncryptionPolicy;

    fn from_str(text: &str) -> Result<Self, InvalidEncryptionPolicy> {
        [Self::Off, Self::Prefer, Self::Require]
            .into_iter()
            .find(|policy| policy.to_string() == text)
            .ok_or_else(|| InvalidEncryptionPolicy(text.to_owned()))
    }
}

/// How much of a connection is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encryption {
    /// Nothing.
    #[default]
    None,
    /// The handshake.
    Handshake,
    /// Everything.
    Stream,
}

/// Bits of `crypto_provide`, one of which is `crypto_select`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Methods(pub(super) u32);

impl Methods {
    const PLAIN: u32 = 1;
    const RC4: u32 = 2;

    /// What a listener selects from what it was offered: the cheapest that both have.
    pub(super) const fn choose(self, offered: Self) -> Result<Encryption, PeerMisbehaved> {
        let both = self.0 & offered.0;
        if both & Self::PLAIN != 0 {
            Ok(Encryption::Handshake)
        } else if both & Self::RC4 != 0 {
            Ok(Encryption::Stream)
        } else {
            Err(PeerMisbehaved::KeyExchange("no method that we have"))
        }
    }

    /// What a dialer is told was selected of what it offered.
    pub(super) const fn accept(self, selected: Self) -> Result<Encryption, PeerMisbehaved> {
        match selected.0 {
            Self::PLAIN if self.0 & Self::PLAIN != 0 => Ok(Encryption::Handshake),
            Self::RC4 if self.0 & Self::RC4 != 0 => Ok(Encryption::Stream),
            _ => Err(PeerMisbehaved::KeyExchange("a method that was not offered")),
        }
    }

    pub(super) const fn of(encryption: Encryption) -> Self {
        match encryption {
            Encryption::None | Encryption::Handshake => Self(Self::PLAIN),
            Encryption::Stream => Self(Self::RC4),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheapest_common_method_is_chosen() {
        use Encryption::{Handshake, Stream};
        for (policy, offered, expected) in [
            (EncryptionPolicy::Prefer, 1, Some(Handshake)),
            (EncryptionPolicy::Prefer, 2, Some(Stream)),
            (EncryptionPolicy::Prefer, 3, Some(Handshake)),
            (EncryptionPolicy::Prefer, 0xffff_fffc, None),
            (EncryptionPolicy::Prefer, 0, None),
            (EncryptionPolicy::Require, 1, None),
            (EncryptionPolicy::Require, 3, Some(Stream)),
        ] {
            let chosen = policy.methods().choose(Methods(offered));
            assert_eq!(chosen.ok(), expected, "{policy} {offered}");
        }
    }

    #[test]
    fn exactly_one_of_what_was_offered_may_be_selected() {
        let accept =
            |policy: EncryptionPolicy, selected| policy.methods().accept(Methods(selected));
        assert_eq!(
            accept(EncryptionPolicy::Prefer, 1),
            Ok(Encryption::Handshake)
        );
        assert_eq!(accept(EncryptionPolicy::Prefer, 2), Ok(Encryption::Stream));
        for (policy, wrong) in [
            (EncryptionPolicy::Prefer, 3),
            (EncryptionPolicy::Prefer, 0),
            (EncryptionPolicy::Prefer, 4),
            (EncryptionPolicy::Require, 1),
        ] {
            assert!(accept(policy, wrong).is_err(), "{policy} {wrong}");
        }
    }

    #[test]
    fn a_policy_reads_back() {
        for policy in [
            EncryptionPolicy::Off,
            EncryptionPolicy::Prefer,
            EncryptionPolicy::Require,
        ] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert!("Prefer".parse::<EncryptionPolicy>().is_err());
    }
}
