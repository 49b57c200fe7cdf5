//! Links to whatever torrent a publisher names at the time (BEP 46).

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER_PERMISSIVE;
use riverrun_base::{InfoHashes, Sha1Digest, Sha256Digest};

use super::{Magnet, MagnetError, Parameters};

/// How long a salt may be (BEP 44).
const SALT_BYTES_MAX: usize = 64;

/// A link to a publisher: the torrent that it stands for is named by a mutable item of the DHT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublisherLink {
    /// The publisher's public key (`xs=urn:btpk:`).
    pub public_key: [u8; 32],
    /// Which of the publisher's torrents (`s`); may be empty.
    pub salt: Vec<u8>,
    /// All else that the link says. The info-hash in it is nobody's.
    rest: Magnet,
}

impl PublisherLink {
    /// A link with nothing but the key and the salt.
    pub const fn new(public_key: [u8; 32], salt: Vec<u8>) -> Self {
        Self {
            public_key,
            salt,
            rest: Magnet::new(InfoHashes::v1_only(Sha1Digest([0; 20]))),
        }
    }

    /// The link to the torrent that the publisher names, with this info-hash.
    pub fn torrent(&self, info_hash: Sha1Digest) -> Magnet {
        Magnet {
            hashes: InfoHashes::v1_only(info_hash),
            ..self.rest.clone()
        }
    }
}

impl FromStr for PublisherLink {
    type Err = MagnetError;

    fn from_str(text: &str) -> Result<Self, MagnetError> {
        let mut read = Parameters::read(text)?;
        let public_key = read.public_key.ok_or(MagnetError::NoKey)?;
        let hex = read.salt.take().unwrap_or_default();
        let salt = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok();
        let salt = salt
            .filter(|salt| salt.len() <= SALT_BYTES_MAX)
            .ok_or(MagnetError::InvalidSalt(hex))?;
        let nobody = InfoHashes::v1_only(Sha1Digest([0; 20]));
        Ok(Self {
            public_key,
            salt,
            rest: read.into_magnet(nobody),
        })
    }
}

impl fmt::Display for PublisherLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "magnet:?xs=urn:btpk:{}", Sha256Digest(self.public_key))?;
        if !self.salt.is_empty() {
            write!(f, "&s={}", HEXLOWER_PERMISSIVE.encode(&self.salt))?;
        }
        let rest = self.rest.to_string();
        match rest.split_once('&') {
            // What comes before is the info-hash.
            Some((_, rest)) => write!(f, "&{rest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "8543d3e6115f0f98c944077a4493dcd543e49c739fd998550a1f614ab36ed63e";

    #[test]
    fn a_link_to_a_publisher_reads_back() {
        for link in [
            format!("magnet:?xs=urn:btpk:{KEY}"),
            format!("magnet:?xs=urn:btpk:{KEY}&s=6e"),
            format!("magnet:?xs=urn:btpk:{KEY}&s=6e&dn=a&x.pe=192.0.2.1:5&dht=host:7"),
        ] {
            let read: PublisherLink = link.parse().unwrap();
            assert_eq!(read.to_string(), link);
            assert_eq!(read.public_key[..2], [0x85, 0x43]);
        }
        let read: PublisherLink = format!("magnet:?xs=urn:btpk:{KEY}&s=6e&dn=a")
            .parse()
            .unwrap();
        assert_eq!(read.salt, b"n");
        let torrent = read.torrent(Sha1Digest([7; 20]));
        assert_eq!(torrent.name.as_deref(), Some("a"));
        assert!(torrent.hashes.v1().is_some_and(|hash| hash.0 == [7; 20]));
    }

    #[test]
    fn what_is_no_link_to_a_publisher_says_why() {
        let check = |link: &str, error| assert_eq!(link.parse::<PublisherLink>(), Err(error));
        check("magnet:?dn=a", MagnetError::NoKey);
        check(
            "magnet:?xs=urn:btpk:12",
            MagnetError::InvalidKey("12".to_owned()),
        );
        check(
            &format!("magnet:?xs=urn:btpk:{KEY}&s=x"),
            MagnetError::InvalidSalt("x".to_owned()),
        );
        let long = "00".repeat(65);
        check(
            &format!("magnet:?xs=urn:btpk:{KEY}&s={long}"),
            MagnetError::InvalidSalt(long),
        );
    }
}
