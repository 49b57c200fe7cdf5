//! The side that was dialled.
//!
//! ```text
//! Sniff ── no BitTorrent ──► Key ──► Knocked ── admit ──► Sync ── S ──► Name ──► Named ── unveil ──┐
//!   └───── BitTorrent ─────► in the clear              done ◄── len(IA) ── Pad ◄── VC ── Provide ◄─┘
//! ```

use riverrun_base::{InfoHash, Sha1Digest};

use super::dial::method_and_pad;
use super::key::{KEY_LEN, KeyPair, Secret};
use super::policy::{Encryption, Methods};
use super::stretch::{Search, Stretch};
use super::{
    Chance, Ciphers, EncryptionPolicy, Exchange, PAD_LEN_MAX, Sealed, Step, VC, hash, mask,
};
use crate::error::PeerMisbehaved;
use crate::handshake::PROTOCOL;

#[derive(Debug)]
pub(super) enum Listening {
    /// Whether it is encrypted at all is to be seen.
    Sniff {
        seen: Vec<u8>,
        policy: EncryptionPolicy,
    },
    /// The peer's key is to come.
    Key {
        theirs: Stretch,
        policy: EncryptionPolicy,
    },
    /// It is there; whether it is worth our arithmetic is to be decided.
    Knocked {
        theirs: Vec<u8>,
        policy: EncryptionPolicy,
    },
    /// The peer's word begins somewhere after its padding.
    Sync(Search<{ Sha1Digest::LEN }>, Box<Talk>),
    /// The name of the torrent is next.
    Name(Stretch, Box<Talk>),
    /// It is there; whose it is is to be found.
    Named(Box<Talk>),
    /// What the peer offers, and how much padding follows.
    Provide(Stretch, Ciphers, Box<Talk>),
    /// The padding, and how much of the handshake is encrypted whatever we select.
    Pad(Stretch, Ciphers, Box<Talk>, Encryption),
}

/// What we know once the dialer's key is there.
#[derive(Debug)]
pub(super) struct Talk {
    secret: Secret,
    chance: Chance,
    methods: Methods,
}

impl Listening {
    pub(super) const fn begin(policy: EncryptionPolicy) -> Self {
        Self::Sniff {
            seen: Vec::new(),
            policy,
        }
    }

    /// Whether bytes can be used now.
    pub(super) const fn wants_read(&self) -> bool {
        !matches!(self, Self::Knocked { .. } | Self::Named(_))
    }

    pub(super) fn receive(
        self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Step, PeerMisbehaved> {
        match self {
            Self::Sniff { seen, policy } => sniff(seen, policy, input, out),
            Self::Key { mut theirs, policy } => match theirs.take(input) {
                Some(key) => {
                    let theirs = key.to_vec();
                    let knocked = Self::Knocked { theirs, policy };
                    Ok(Step::KeyWork(Exchange::Listening(knocked)))
                }
                None => Ok(more(Self::Key { theirs, policy })),
            },
            Self::Sync(mut search, talk) => match search.take(input) {
                Some(true) => Self::Name(Stretch::new(Sha1Digest::LEN), talk).receive(input, out),
                Some(false) => Ok(more(Self::Sync(search, talk))),
                None => Err(PeerMisbehaved::KeyExchange("no word from the dialer")),
            },
            Self::Name(mut name, talk) => {
                match name
                    .take(input)
                    .and_then(|name| Sha1Digest::from_slice(name))
                {
                    Some(masked) => {
                        let name = mask(&talk.secret, masked);
                        Ok(Step::Named(Exchange::Listening(Self::Named(talk)), name))
                    }
                    None => Ok(more(Self::Name(name, talk))),
                }
            }
            Self::Knocked { .. } | Self::Named(_) => Ok(more(self)),
            Self::Provide(mut word, ciphers, talk) => match word.take(input) {
                Some(word) => offered(word, ciphers, talk)?.receive(input, out),
                None => Ok(more(Self::Provide(word, ciphers, talk))),
            },
            Self::Pad(mut pad, mut ciphers, talk, encryption) => match pad.take(input) {
                Some(bytes) => {
                    ciphers.inbound.apply(bytes);
                    let early = bytes.last_chunk().map_or(0, |len| u16::from_be_bytes(*len));
                    select(&mut ciphers, talk.chance, encryption, out);
                    Ok(Step::Done(Sealed::new(ciphers, encryption, early.into())))
                }
                None => Ok(more(Self::Pad(pad, ciphers, talk, encryption))),
            },
        }
    }

    /// The peer's key is worth an answer. Does nothing in other states than [`Listening::Knocked`].
    pub(super) fn admit(
        self,
        mut chance: Chance,
        out: &mut Vec<u8>,
    ) -> Result<Self, PeerMisbehaved> {
        let Self::Knocked { theirs, policy } = self else {
            return Ok(self);
        };
        let secret = KeyPair::agree(&chance.keys, &theirs)?;
        out.extend_from_slice(&chance.keys.public);
        chance.pad(out);
        let mark = hash(b"req1", &[secret.as_bytes()]).0;
        let talk = Box::new(Talk {
            secret,
            chance,
            methods: policy.methods(),
        });
        Ok(Self::Sync(Search::new(mark, PAD_LEN_MAX), talk))
    }

    /// The peer means this torrent. Does nothing in other states than [`Listening::Named`].
    pub(super) fn unveil(self, info_hash: InfoHash) -> Self {
        let Self::Named(talk) = self else {
            return self;
        };
        let ciphers = Ciphers::new(&talk.secret, info_hash, false);
        Self::Provide(Stretch::new(VC.len() + 4 + 2), ciphers, talk)
    }
}

const fn more(listening: Listening) -> Step {
    Step::More(Exchange::Listening(listening))
}

/// The protocol's name in the clear, or the start of a key: one in 2^160 keys begins like that name.
fn sniff(
    mut seen: Vec<u8>,
    policy: EncryptionPolicy,
    input: &mut &[u8],
    out: &mut Vec<u8>,
) -> Result<Step, PeerMisbehaved> {
    while let Some((byte, rest)) = input.split_first() {
        let next = PROTOCOL[seen.len()];
        if *byte != next {
            let theirs = Stretch::begun(seen, KEY_LEN);
            return Listening::Key { theirs, policy }.receive(input, out);
        }
        *input = rest;
        seen.push(*byte);
        if seen.len() == PROTOCOL.len() {
            return if policy.allows(false) {
                Ok(Step::Plain(seen))
            } else {
                Err(PeerMisbehaved::NotEncrypted)
            };
        }
    }
    Ok(more(Listening::Sniff { seen, policy }))
}

/// The peer has said what it offers.
fn offered(
    word: &mut [u8],
    mut ciphers: Ciphers,
    talk: Box<Talk>,
) -> Result<Listening, PeerMisbehaved> {
    ciphers.inbound.apply(word);
    let word = word
        .strip_prefix(&VC)
        .ok_or(PeerMisbehaved::KeyExchange("a word in another key"))?;
    let (offered, pad_len) = method_and_pad(word)?;
    let encryption = talk.methods.choose(offered)?;
    let pad = Stretch::new(pad_len + 2);
    Ok(Listening::Pad(pad, ciphers, talk, encryption))
}

fn select(ciphers: &mut Ciphers, mut chance: Chance, encryption: Encryption, out: &mut Vec<u8>) {
    let mut word = VC.to_vec();
    word.extend_from_slice(&Methods::of(encryption).0.to_be_bytes());
    chance.zeros(&mut word);
    ciphers.seal(&word, out);
}
