//! The side that has dialled.
//!
//! ```text
//! Key ── S ──► Check ── VC ──► Select ── crypto_select ──► Pad ──► done
//! ```

use riverrun_base::InfoHash;

use super::envelope::Inbound;
use super::key::{KEY_LEN, KeyPair};
use super::policy::{Encryption, Methods};
use super::stretch::{Search, Stretch};
use super::{
    Chance, Ciphers, EncryptionPolicy, Exchange, PAD_LEN_MAX, Sealed, Step, VC, be16, hash, mask,
    veiled,
};
use crate::config::PeerConfig;
use crate::error::PeerMisbehaved;
use crate::handshake::Greeting;

/// What a dialer is out for.
#[derive(Debug)]
pub(crate) struct Intent {
    /// The torrent.
    info_hash: InfoHash,
    policy: EncryptionPolicy,
    /// The handshake, sent along.
    greeting: Vec<u8>,
}

impl Intent {
    #[cfg(test)]
    pub(super) const fn test(
        info_hash: InfoHash,
        policy: EncryptionPolicy,
        greeting: Vec<u8>,
    ) -> Self {
        Self {
            info_hash,
            policy,
            greeting,
        }
    }

    pub(crate) fn new(config: &PeerConfig, greeting: Greeting) -> Self {
        let mut bytes = Vec::new();
        greeting.encode(&mut bytes);
        Self {
            info_hash: greeting.info_hash,
            policy: config.encryption,
            greeting: bytes,
        }
    }
}

/// What we know once the listener's key is there.
#[derive(Debug)]
pub(super) struct Offer {
    ciphers: Ciphers,
    methods: Methods,
}

#[derive(Debug)]
pub(super) enum Dialing {
    /// Our key is sent; the peer's is to come.
    Key(Stretch, Box<(Chance, Intent)>),
    /// The peer knows all; its word begins somewhere after its padding.
    Check(Search<{ VC.len() }>, Offer),
    /// What it selects, and how much padding follows.
    Select(Stretch, Offer),
    Pad(Stretch, Ciphers, Encryption),
}

impl Dialing {
    /// Begins: our key goes out at once.
    pub(super) fn begin(intent: Intent, mut chance: Chance, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(&chance.keys.public);
        chance.pad(out);
        Self::Key(Stretch::new(KEY_LEN), Box::new((chance, intent)))
    }

    pub(super) fn receive(
        self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Step, PeerMisbehaved> {
        match self {
            Self::Key(mut theirs, ours) => match theirs.take(input) {
                Some(key) => {
                    let (chance, intent) = *ours;
                    answer_key(key, chance, &intent, out)?.receive(input, out)
                }
                None => Ok(more(Self::Key(theirs, ours))),
            },
            Self::Check(mut search, mut offer) => match search.take(input) {
                Some(true) => {
                    offer.ciphers.inbound.apply(&mut VC.clone());
                    Self::Select(Stretch::new(4 + 2), offer).receive(input, out)
                }
                Some(false) => Ok(more(Self::Check(search, offer))),
                None => Err(PeerMisbehaved::KeyExchange("no word from the listener")),
            },
            Self::Select(mut word, mut offer) => match word.take(input) {
                Some(word) => {
                    offer.ciphers.inbound.apply(word);
                    let (method, pad_len) = method_and_pad(word)?;
                    let encryption = offer.methods.accept(method)?;
                    Self::Pad(Stretch::new(pad_len), offer.ciphers, encryption).receive(input, out)
                }
                None => Ok(more(Self::Select(word, offer))),
            },
            Self::Pad(mut pad, mut ciphers, encryption) => match pad.take(input) {
                Some(bytes) => {
                    ciphers.inbound.apply(bytes);
                    Ok(Step::Done(Sealed::new(ciphers, encryption, 0)))
                }
                None => Ok(more(Self::Pad(pad, ciphers, encryption))),
            },
        }
    }
}

const fn more(dialing: Dialing) -> Step {
    Step::More(Exchange::Dialing(dialing))
}

/// The listener's key has come: all that the dialer has to say goes out.
fn answer_key(
    key: &[u8],
    mut chance: Chance,
    intent: &Intent,
    out: &mut Vec<u8>,
) -> Result<Dialing, PeerMisbehaved> {
    let secret = KeyPair::agree(&chance.keys, key)?;
    let mut ciphers = Ciphers::new(&secret, intent.info_hash, true);
    out.extend_from_slice(&hash(b"req1", &[secret.as_bytes()]).0);
    out.extend_from_slice(&mask(&secret, veiled(intent.info_hash)).0);
    let methods = intent.policy.methods();
    let mut word = VC.to_vec();
    word.extend_from_slice(&methods.0.to_be_bytes());
    chance.zeros(&mut word);
    word.extend_from_slice(&be16(intent.greeting.len()));
    word.extend_from_slice(&intent.greeting);
    ciphers.seal(&word, out);
    let mut mark = VC;
    ciphers.inbound.clone().apply(&mut mark);
    let search = Search::new(mark, PAD_LEN_MAX);
    Ok(Dialing::Check(search, Offer { ciphers, methods }))
}

/// Reads a `crypto_provide` or `crypto_select` and the length of the padding behind it.
pub(super) fn method_and_pad(word: &[u8]) -> Result<(Methods, usize), PeerMisbehaved> {
    let short = PeerMisbehaved::KeyExchange("a word that is too short");
    let (method, rest) = word.split_first_chunk::<4>().ok_or(short.clone())?;
    let (len, _) = rest.split_first_chunk::<2>().ok_or(short)?;
    let len = usize::from(u16::from_be_bytes(*len));
    if len > PAD_LEN_MAX {
        return Err(PeerMisbehaved::KeyExchange("padding that is too long"));
    }
    Ok((Methods(u32::from_be_bytes(*method)), len))
}

impl Sealed {
    /// `early` bytes of the peer's are encrypted whatever was selected.
    pub(super) fn new(ciphers: Ciphers, encryption: Encryption, early: u64) -> Self {
        let is_stream = encryption == Encryption::Stream;
        Self {
            inbound: Inbound::new(ciphers.inbound, (!is_stream).then_some(early)),
            outbound: is_stream.then_some(ciphers.outbound),
            encryption,
        }
    }
}
