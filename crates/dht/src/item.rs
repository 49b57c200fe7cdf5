//! Items that anybody may store in the DHT (BEP 44), and torrents that change (BEP 46).

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use riverrun_base::{InfoHash, Sha1Digest};
use riverrun_bencode::{Document, Limits, Writer};
use riverrun_hash::{Sha1, sha1};
use thiserror::Error;

use crate::id::NodeId;
use crate::krpc::Put;

/// How long a value may be, as bencode (BEP 44).
pub const VALUE_BYTES_MAX: usize = 1000;

/// How long a salt may be (BEP 44).
pub const SALT_BYTES_MAX: usize = 64;

/// Why something is no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidItem {
    /// The value is too long.
    #[error("the value has {0} bytes, at most {VALUE_BYTES_MAX} are stored")]
    ValueTooLong(usize),
    /// The value is not bencode.
    #[error("the value is not bencode")]
    NotBencode,
    /// The salt is too long.
    #[error("the salt has {0} bytes, at most {SALT_BYTES_MAX} are allowed")]
    SaltTooLong(usize),
    /// The signature is not of this value by this key.
    #[error("the signature does not fit")]
    InvalidSignature,
}

/// An item as it is stored: a value, and if it can change, who signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The value, as bencode.
    pub value: Vec<u8>,
    /// What makes it mutable.
    pub signed: Option<Signed>,
}

/// What makes an item mutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The public key of its owner.
    pub key: [u8; 32],
    /// Tells the items of one owner apart; may be empty.
    pub salt: Vec<u8>,
    /// Which version it is.
    pub seq: i64,
    /// The signature of value, version and salt.
    pub signature: [u8; 64],
}

/// A key pair to sign items with.
pub struct Keypair(SigningKey);

impl std::fmt::Debug for Keypair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret half must not get into logs.
        f.debug_tuple("Keypair")
            .field(&self.0.verifying_key())
            .finish()
    }
}

impl Keypair {
    /// The pair that belongs to 32 secret bytes (RFC 8032, "private key").
    pub fn from_secret(secret: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&secret))
    }

    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Signs a value (bencode) as version `seq`.
    pub fn sign(&self, value: Vec<u8>, salt: Vec<u8>, seq: i64) -> Result<Stored, InvalidItem> {
        check_lengths(&value, &salt)?;
        let signature = self.0.sign(&signed_bytes(&value, &salt, seq)).to_bytes();
        Ok(Stored {
            value,
            signed: Some(Signed {
                key: self.public(),
                salt,
                seq,
                signature,
            }),
        })
    }
}

impl Stored {
    /// An item that cannot change, of a value (bencode).
    pub fn immutable(value: Vec<u8>) -> Result<Self, InvalidItem> {
        check_lengths(&value, &[])?;
        Ok(Self {
            value,
            signed: None,
        })
    }

    /// An item that came from elsewhere, if its signature is right.
    pub fn verified(value: Vec<u8>, signed: Signed) -> Result<Self, InvalidItem> {
        check_lengths(&value, &signed.salt)?;
        let message = signed_bytes(&value, &signed.salt, signed.seq);
        let signature = Signature::from_bytes(&signed.signature);
        VerifyingKey::from_bytes(&signed.key)
            .and_then(|key| key.verify_strict(&message, &signature))
            .map_err(|_| InvalidItem::InvalidSignature)?;
        Ok(Self {
            value,
            signed: Some(signed),
        })
    }

    /// Where it is stored.
    pub fn target(&self) -> NodeId {
        match &self.signed {
            None => NodeId(sha1(&self.value).0),
            Some(signed) => mutable_target(&signed.key, &signed.salt),
        }
    }

    /// Its version; `None` if it cannot change.
    pub fn seq(&self) -> Option<i64> {
        self.signed.as_ref().map(|signed| signed.seq)
    }

    /// The info-hash that the item names, if it is the pointer to a torrent (BEP 46).
    pub fn info_hash(&self) -> Option<InfoHash> {
        let document = Document::parse(&self.value, Limits::MESSAGE).ok()?;
        let hash = document.root().as_dict()?.get(b"ih")?.as_bytes()?;
        InfoHash::from_slice(hash)
    }

    /// As the arguments of a `put`.
    pub(crate) fn put<'a>(&'a self, token: &'a [u8], cas: Option<i64>) -> Put<'a> {
        let signed = self.signed.as_ref();
        Put {
            value: &self.value,
            token,
            signed: signed.map(|signed| crate::krpc::PutSigned {
                key: &signed.key,
                salt: &signed.salt,
                seq: signed.seq,
                signature: &signed.signature,
            }),
            cas,
        }
    }
}

/// Where the mutable item with this key and salt is stored.
pub fn mutable_target(key: &[u8; 32], salt: &[u8]) -> NodeId {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(salt);
    let Sha1Digest(target) = hash.finish();
    NodeId(target)
}

/// The value of a pointer to a torrent (BEP 46).
pub fn torrent_pointer(info_hash: InfoHash) -> Vec<u8> {
    let mut out = Writer::new();
    out.dict().key(b"ih").bytes(&info_hash.0).end();
    out.finish()
}

fn check_lengths(value: &[u8], salt: &[u8]) -> Result<(), InvalidItem> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(InvalidItem::ValueTooLong(value.len()));
    }
    if salt.len() > SALT_BYTES_MAX {
        return Err(InvalidItem::SaltTooLong(salt.len()));
    }
    Document::parse(value, Limits::MESSAGE).map_err(|_| InvalidItem::NotBencode)?;
    Ok(())
}

/// What is signed (BEP 44, "Signature Verification").
fn signed_bytes(value: &[u8], salt: &[u8], seq: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + salt.len() + 40);
    if !salt.is_empty() {
        out.extend(format!("4:salt{}:", salt.len()).as_bytes());
        out.extend(salt);
    }
    out.extend(format!("3:seqi{seq}e1:v").as_bytes());
    out.extend(value);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548";

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        let mut out = [0; N];
        for (at, byte) in out.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
        }
        out
    }

    fn vector(salt: &str, signature: &str) -> Result<Stored, InvalidItem> {
        let signed = Signed {
            key: bytes(KEY),
            salt: salt.into(),
            seq: 1,
            signature: bytes(signature),
        };
        Stored::verified(b"12:Hello World!".to_vec(), signed)
    }

    #[test]
    fn the_vectors_of_bep_44_hold() {
        let plain = vector(
            "",
            "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff\
             1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01",
        )
        .unwrap();
        assert_eq!(
            plain.target().to_string(),
            "4a533d47ec9c7d95b1ad75f576cffc641853b750"
        );
        let salted = "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d\
                      df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08";
        let item = vector("foobar", salted).unwrap();
        assert_eq!(
            item.target().to_string(),
            "411eba73b6f087ca51a3795d9c8c938d365e32c1"
        );
        assert_eq!(vector("foobaz", salted), Err(InvalidItem::InvalidSignature));
        let immutable = Stored::immutable(b"12:Hello World!".to_vec()).unwrap();
        assert_eq!(
            immutable.target().to_string(),
            "e5f96f6f38320f0f33959cb4d3d656452117aadb"
        );
    }

    #[test]
    fn the_vectors_of_bep_46_hold() {
        let key = bytes("8543d3e6115f0f98c944077a4493dcd543e49c739fd998550a1f614ab36ed63e");
        for (salt, target) in [
            (&b""[..], "cc3f9d90b572172053626f9980ce261a850d050b"),
            (b"n", "59ee7c2cb9b4f7eb1986ee2d18fd2fdb8a56554f"),
        ] {
            assert_eq!(mutable_target(&key, salt).to_string(), target);
        }
    }

    #[test]
    fn what_is_signed_verifies_and_nothing_else_does() {
        let pair = Keypair::from_secret([7; 32]);
        let hash = InfoHash([9; 20]);
        let item = pair
            .sign(torrent_pointer(hash), b"salt".to_vec(), 3)
            .unwrap();
        let signed = item.signed.clone().unwrap();
        assert_eq!(item.info_hash(), Some(hash));
        assert_eq!(
            Stored::verified(item.value.clone(), signed.clone()),
            Ok(item.clone())
        );
        let later = Signed { seq: 4, ..signed };
        assert_eq!(
            Stored::verified(item.value, later),
            Err(InvalidItem::InvalidSignature)
        );
    }

    #[test]
    fn an_item_is_bencode_within_its_limits() {
        let long = format!("{}:{}", 996, "x".repeat(996)).into_bytes();
        assert_eq!(long.len(), 1000);
        assert!(Stored::immutable(long).is_ok());
        let longer = format!("{}:{}", 997, "x".repeat(997)).into_bytes();
        assert_eq!(
            Stored::immutable(longer),
            Err(InvalidItem::ValueTooLong(1001))
        );
        assert_eq!(
            Stored::immutable(b"junk".to_vec()),
            Err(InvalidItem::NotBencode)
        );
        let salted = Keypair::from_secret([1; 32]).sign(b"i1e".to_vec(), vec![0; 65], 1);
        assert_eq!(salted, Err(InvalidItem::SaltTooLong(65)));
    }
}
