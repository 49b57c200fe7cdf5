//! Message stream encryption (MSE, also called PE): what stands before the handshake of a connection that is to look
//! like noise. There is no BEP; the specification is "Message Stream Encryption" in the wiki of Azureus.
//!
//! ```text
//! 1 dialer    Ya, PadA
//! 2 listener  Yb, PadB
//! 3 dialer    HASH("req1", S), HASH("req2", SKEY) xor HASH("req3", S),
//!             ENCRYPT(VC, crypto_provide, len(PadC), PadC, len(IA), IA)
//! 4 listener  ENCRYPT(VC, crypto_select, len(PadD), PadD), payload
//! ```
//!
//! `Ya` and `Yb` are Diffie-Hellman keys, `S` is what follows from them, `SKEY` is the info-hash, `VC` eight zeros, `IA`
//! the dialer's handshake. The payload is encrypted by RC4 or plain, as selected.
//!
//! It keeps boxes on the way from knowing BitTorrent by its first bytes. It is no secrecy: nobody proves who he is,
//! and RC4 is broken.

mod dial;
mod envelope;
mod key;
mod listen;
mod policy;
mod rc4;
mod stretch;
#[cfg(test)]
mod tests;

use riverrun_base::{InfoHash, Rng, Sha1Digest};
use riverrun_hash::sha1;

pub(crate) use dial::Intent;
pub(crate) use envelope::Envelope;
pub use policy::{Encryption, EncryptionPolicy, InvalidEncryptionPolicy};

use crate::error::PeerMisbehaved;
use dial::Dialing;
use envelope::Inbound;
use key::{KeyPair, Secret};
use listen::Listening;
use rc4::Rc4;

/// The longest padding, in bytes.
const PAD_LEN_MAX: usize = 512;
/// The verification constant: so many zeros, encrypted.
const VC: [u8; 8] = [0; 8];

/// By what a dialing peer names its torrent without showing it: `HASH("req2", SKEY)`. Whoever listens looks its torrents
/// up by this.
pub fn veiled(info_hash: InfoHash) -> Sha1Digest {
    hash(b"req2", &[info_hash.as_bytes()])
}

/// The name of a torrent as it travels: veiled, and different on each connection.
fn mask(secret: &Secret, name: Sha1Digest) -> Sha1Digest {
    let mask = hash(b"req3", &[secret.as_bytes()]);
    let mut masked = name;
    masked
        .0
        .iter_mut()
        .zip(mask.0)
        .for_each(|(byte, mask)| *byte ^= mask);
    masked
}

fn hash(tag: &[u8], parts: &[&[u8]]) -> Sha1Digest {
    sha1(&[tag, &parts.concat()].concat())
}

/// What a side needs of chance.
#[derive(Debug)]
struct Chance {
    keys: KeyPair,
    pads: Rng,
}

impl Chance {
    /// The same for the same arguments. What is sent tells nothing of the key: both come from hashes of what only we know.
    fn draw(entropy: &[u8; 32], seed: u64) -> Self {
        let parts = [&entropy[..], &seed.to_be_bytes()];
        let Sha1Digest(pads) = hash(b"pads", &parts);
        let pads = pads
            .first_chunk()
            .map_or(0, |bytes| u64::from_be_bytes(*bytes));
        Self {
            keys: KeyPair::new(hash(b"key", &parts)),
            pads: Rng::new(pads),
        }
    }

    /// Padding after a key: bytes by chance, as many as chance says.
    fn pad(&mut self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + self.pads.below(PAD_LEN_MAX + 1), 0);
        self.pads.fill(&mut out[start..]);
    }

    /// Padding that will be encrypted, its length before it.
    fn zeros(&mut self, out: &mut Vec<u8>) {
        let len = self.pads.below(PAD_LEN_MAX + 1);
        out.extend_from_slice(&be16(len));
        out.resize(out.len() + len, 0);
    }
}

fn be16(len: usize) -> [u8; 2] {
    // Paddings and greetings are far shorter.
    u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes()
}

/// The ciphers of both directions.
#[derive(Debug)]
struct Ciphers {
    inbound: Box<Rc4>,
    outbound: Box<Rc4>,
}

impl Ciphers {
    fn new(secret: &Secret, name: InfoHash, dialed: bool) -> Self {
        let cipher = |tag| {
            let key = hash(tag, &[secret.as_bytes(), name.as_bytes()]);
            Box::new(Rc4::new(&key.0))
        };
        let (dialer, listener) = (cipher(b"keyA"), cipher(b"keyB"));
        let (outbound, inbound) = if dialed {
            (dialer, listener)
        } else {
            (listener, dialer)
        };
        Self { inbound, outbound }
    }

    /// Appends `bytes` to `out`, encrypted.
    fn seal(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(bytes);
        self.outbound.apply(&mut out[start..]);
    }
}

/// An exchange of keys under way.
#[derive(Debug)]
enum Exchange {
    Dialing(Dialing),
    Listening(Listening),
}

/// What a step has led to.
#[derive(Debug)]
enum Step {
    /// More bytes are needed.
    More(Exchange),
    /// The peer wants keys to be exchanged, which costs us; [`Listening::admit`] goes on.
    KeyWork(Exchange),
    /// The peer has named its torrent; [`Listening::unveil`] goes on.
    Named(Exchange, Sha1Digest),
    /// The peer speaks in the clear; these are its first bytes.
    Plain(Vec<u8>),
    Done(Sealed),
}

/// What an exchange ends in.
#[derive(Debug)]
struct Sealed {
    inbound: Inbound,
    outbound: Option<Box<Rc4>>,
    encryption: Encryption,
}

impl Exchange {
    /// Takes from the front of `input` what belongs to the exchange; what is to be sent is appended to `out`.
    fn receive(self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<Step, PeerMisbehaved> {
        match self {
            Self::Dialing(dialing) => dialing.receive(input, out),
            Self::Listening(listening) => listening.receive(input, out),
        }
    }
}
