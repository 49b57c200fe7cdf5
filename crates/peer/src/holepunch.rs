//! Meeting through a third peer that both are connected to (BEP 55).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::error::PeerMisbehaved;
use crate::exchange::compact;

/// A message about a meeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holepunch {
    /// To the one in the middle: have that peer and me dial each other.
    Rendezvous(SocketAddr),
    /// From the one in the middle: dial that peer now, it dials you.
    Connect(SocketAddr),
    /// From the one in the middle: it will not be.
    Error(SocketAddr, HolepunchError),
}

/// Why a meeting will not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HolepunchError {
    /// The address is none.
    NoSuchPeer,
    /// The one in the middle is not connected to that peer.
    NotConnected,
    /// That peer cannot meet.
    NoSupport,
    /// That peer is the one in the middle.
    NoSelf,
    /// Something else.
    Other(u32),
}

impl HolepunchError {
    const fn code(self) -> u32 {
        match self {
            Self::NoSuchPeer => 1,
            Self::NotConnected => 2,
            Self::NoSupport => 3,
            Self::NoSelf => 4,
            Self::Other(code) => code,
        }
    }

    const fn from_code(code: u32) -> Self {
        match code {
            1 => Self::NoSuchPeer,
            2 => Self::NotConnected,
            3 => Self::NoSupport,
            4 => Self::NoSelf,
            code => Self::Other(code),
        }
    }
}

impl Holepunch {
    pub(crate) fn encode(self) -> Vec<u8> {
        let (kind, addr, code) = match self {
            Self::Rendezvous(addr) => (0, addr, 0),
            Self::Connect(addr) => (1, addr, 0),
            Self::Error(addr, error) => (2, addr, error.code()),
        };
        let mut bytes = vec![kind, u8::from(addr.is_ipv6())];
        bytes.extend(compact(addr));
        // Of no meaning but in errors, and always there.
        bytes.extend_from_slice(&code.to_be_bytes());
        bytes
    }

    /// Reads a message; `None` for kinds that we do not know.
    pub(crate) fn parse(payload: &[u8]) -> Result<Option<Self>, PeerMisbehaved> {
        let short = PeerMisbehaved::Extended("a holepunch message that is too short");
        let ([kind, family], rest) = payload.split_first_chunk().ok_or(short.clone())?;
        let (ip, rest) = match family {
            0 => {
                let (ip, rest) = rest.split_first_chunk::<4>().ok_or(short.clone())?;
                (IpAddr::V4(Ipv4Addr::from(*ip)), rest)
            }
            1 => {
                let (ip, rest) = rest.split_first_chunk::<16>().ok_or(short.clone())?;
                (IpAddr::V6(Ipv6Addr::from(*ip)), rest)
            }
            _ => return Ok(None),
        };
        let (port, rest) = rest.split_first_chunk().ok_or(short)?;
        let addr = SocketAddr::new(ip, u16::from_be_bytes(*port));
        // Some leave the code out where it means nothing.
        let code = rest
            .first_chunk()
            .map_or(0, |code| u32::from_be_bytes(*code));
        Ok(match kind {
            0 => Some(Self::Rendezvous(addr)),
            1 => Some(Self::Connect(addr)),
            2 => Some(Self::Error(addr, HolepunchError::from_code(code))),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_back_and_is_laid_out_as_the_bep_has_it() {
        let v4 = SocketAddr::from(([203, 0, 113, 5], 6881));
        let v6 = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7], 6881));
        for message in [
            Holepunch::Rendezvous(v4),
            Holepunch::Connect(v6),
            Holepunch::Error(v4, HolepunchError::NotConnected),
            Holepunch::Error(v6, HolepunchError::Other(9)),
        ] {
            assert_eq!(Holepunch::parse(&message.encode()), Ok(Some(message)));
        }
        let wire = Holepunch::Error(v4, HolepunchError::NoSupport).encode();
        assert_eq!(wire, [2, 0, 203, 0, 113, 5, 0x1a, 0xe1, 0, 0, 0, 3]);
    }

    #[test]
    fn a_missing_code_is_none_and_what_is_unknown_is_passed_over() {
        let wire = [1, 0, 203, 0, 113, 5, 0x1a, 0xe1];
        let addr = SocketAddr::from(([203, 0, 113, 5], 6881));
        assert_eq!(Holepunch::parse(&wire), Ok(Some(Holepunch::Connect(addr))));
        assert_eq!(Holepunch::parse(&[7, 0, 1, 2, 3, 4, 5, 6]), Ok(None));
        assert_eq!(Holepunch::parse(&[0, 7, 1, 2, 3, 4, 5, 6]), Ok(None));
        for len in 0..wire.len() {
            assert!(Holepunch::parse(&wire[..len]).is_err(), "{len}");
        }
    }
}
