//! Peer exchange (BEP 11): who a peer is connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use riverrun_base::Time;
use riverrun_bencode::{Dict, Document, Limits, Writer};
use serde::{Deserialize, Serialize};

use crate::codec::reader::EXTENDED_LEN_MAX;
use crate::error::PeerMisbehaved;

/// How many addresses are added, and how many dropped, in one message at most (BEP 11). What a peer sends beyond it
/// is passed over.
pub const EXCHANGE_MAX: usize = 50;
/// Messages that come sooner than this after the last are passed over. BEP 11 says once a minute; clocks differ, and
/// lines hold messages up.
const INTERVAL_MIN: Duration = Duration::from_secs(45);
/// So many that were passed over in a row are a flood.
const EXCESS_MAX: u32 = 5;
/// Six keys and a value each.
const LIMITS: Limits = Limits {
    depth: 4,
    tokens: 64,
    bytes: EXTENDED_LEN_MAX as usize,
};

/// What has changed among a peer's connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerExchange {
    /// Peers to which there are connections now; at most [`EXCHANGE_MAX`].
    pub added: Vec<Contact>,
    /// Peers to which there are none any more; at most [`EXCHANGE_MAX`].
    pub dropped: Vec<SocketAddr>,
}

/// A peer that another one knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a bit of the message"
)]
pub struct Contact {
    /// Where it listens.
    pub addr: SocketAddr,
    /// It prefers encrypted connections.
    pub prefers_encryption: bool,
    /// It has everything, or takes nothing.
    pub is_seed: bool,
    /// It speaks uTP.
    pub has_utp: bool,
    /// It can be met through whoever tells of it (BEP 55).
    pub has_holepunch: bool,
    /// Whoever tells of it has dialled it.
    pub is_reachable: bool,
}

impl Contact {
    /// A peer of which nothing more is known.
    pub const fn new(addr: SocketAddr) -> Self {
        Self::from_flags(addr, 0)
    }

    const fn from_flags(addr: SocketAddr, flags: u8) -> Self {
        Self {
            addr,
            prefers_encryption: flags & 0x01 != 0,
            is_seed: flags & 0x02 != 0,
            has_utp: flags & 0x04 != 0,
            has_holepunch: flags & 0x08 != 0,
            is_reachable: flags & 0x10 != 0,
        }
    }

    fn flags(&self) -> u8 {
        u8::from(self.prefers_encryption)
            | u8::from(self.is_seed) << 1
            | u8::from(self.has_utp) << 2
            | u8::from(self.has_holepunch) << 3
            | u8::from(self.is_reachable) << 4
    }
}

impl PeerExchange {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.dropped.is_empty()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let (added, added6): (Vec<Contact>, Vec<Contact>) = self
            .added
            .iter()
            .partition(|contact| contact.addr.is_ipv4());
        let (dropped, dropped6): (Vec<SocketAddr>, Vec<SocketAddr>) =
            self.dropped.iter().partition(|addr| addr.is_ipv4());
        let mut writer = Writer::new();
        writer.dict();
        let mut put = |key: &[u8], value: Vec<u8>| {
            if !value.is_empty() {
                writer.key(key).bytes(&value);
            }
        };
        let compact_all =
            |contacts: &[Contact]| contacts.iter().flat_map(|c| compact(c.addr)).collect();
        let flags = |contacts: &[Contact]| contacts.iter().map(Contact::flags).collect();
        put(b"added", compact_all(&added));
        put(b"added.f", flags(&added));
        put(b"added6", compact_all(&added6));
        put(b"added6.f", flags(&added6));
        put(b"dropped", dropped.into_iter().flat_map(compact).collect());
        put(
            b"dropped6",
            dropped6.into_iter().flat_map(compact).collect(),
        );
        writer.end();
        writer.finish()
    }

    /// Reads a message. Addresses beyond the limit are passed over, and so is a rest that is no whole address.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, PeerMisbehaved> {
        let document = Document::parse(payload, LIMITS)
            .map_err(|_| PeerMisbehaved::Extended("the peer exchange is not bencode"))?;
        let dict = document.root().as_dict();
        let dict = dict.ok_or(PeerMisbehaved::Extended(
            "the peer exchange is no dictionary",
        ))?;
        let mut added = Vec::new();
        let mut dropped = Vec::new();
        for (len, keys) in [
            (6, [&b"added"[..], b"added.f", b"dropped"]),
            (18, [b"added6", b"added6.f", b"dropped6"]),
        ] {
            let [added_key, flags_key, dropped_key] = keys.map(|key| octets(&dict, key));
            let flags = flags_key.iter().copied().chain(std::iter::repeat(0));
            let contacts = addrs(added_key, len).zip(flags);
            added.extend(contacts.map(|(addr, flags)| Contact::from_flags(addr, flags)));
            dropped.extend(addrs(dropped_key, len));
        }
        added.truncate(EXCHANGE_MAX);
        dropped.truncate(EXCHANGE_MAX);
        Ok(Self { added, dropped })
    }
}

fn octets<'a>(dict: &Dict<'a, 'a>, key: &[u8]) -> &'a [u8] {
    dict.get(key)
        .and_then(|value| value.as_bytes())
        .unwrap_or_default()
}

/// At most [`EXCHANGE_MAX`] addresses of `len` bytes each.
fn addrs(bytes: &[u8], len: usize) -> impl Iterator<Item = SocketAddr> {
    bytes
        .chunks_exact(len)
        .take(EXCHANGE_MAX)
        .filter_map(|chunk| {
            let (ip, port) = chunk.split_last_chunk::<2>()?;
            let ip = match <[u8; 4]>::try_from(ip) {
                Ok(v4) => IpAddr::V4(Ipv4Addr::from(v4)),
                Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?)),
            };
            Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
        })
}

pub(crate) fn compact(addr: SocketAddr) -> Vec<u8> {
    let mut bytes = match addr.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    bytes.extend_from_slice(&addr.port().to_be_bytes());
    bytes
}

/// How often a peer may tell of others.
#[derive(Debug, Default)]
pub(crate) struct ExchangePace {
    last: Option<Time>,
    excess: u32,
}

impl ExchangePace {
    /// Whether a message that comes now is to be heard.
    pub(crate) fn admit(&mut self, now: Time) -> Result<bool, PeerMisbehaved> {
        if self.last.is_none_or(|last| now.since(last) >= INTERVAL_MIN) {
            *self = Self {
                last: Some(now),
                excess: 0,
            };
            return Ok(true);
        }
        self.excess += 1;
        if self.excess > EXCESS_MAX {
            return Err(PeerMisbehaved::ExchangeFlood);
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: u16) -> SocketAddr {
        if n.is_multiple_of(3) {
            SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, n], 7000 + n))
        } else {
            SocketAddr::from(([203, 0, 113, n.to_le_bytes()[0]], 7000 + n))
        }
    }

    #[test]
    fn what_is_told_is_understood_in_both_families() {
        let seed = Contact {
            is_seed: true,
            is_reachable: true,
            ..Contact::new(addr(1))
        };
        let other = Contact {
            prefers_encryption: true,
            has_utp: true,
            has_holepunch: true,
            ..Contact::new(addr(3))
        };
        let told = PeerExchange {
            added: vec![seed, other],
            dropped: vec![addr(2), addr(6)],
        };
        assert_eq!(PeerExchange::parse(&told.encode()), Ok(told));
        let nothing = PeerExchange::default();
        assert_eq!(nothing.encode(), b"de");
        assert!(nothing.is_empty());
    }

    #[test]
    fn flags_and_keys_may_be_absent_and_odd_rests_are_passed_over() {
        let heard =
            PeerExchange::parse(b"d5:added13:\x01\x02\x03\x04\x1b\x58\x05\x06\x07\x08\x1b\x59!e");
        let added = heard.unwrap().added;
        assert_eq!(
            added,
            [
                Contact::new(([1, 2, 3, 4], 7000).into()),
                Contact::new(([5, 6, 7, 8], 7001).into())
            ]
        );
        for odd in [&b"de"[..], b"d5:addedi5ee", b"d7:added.f3:abce"] {
            assert_eq!(PeerExchange::parse(odd), Ok(PeerExchange::default()));
        }
        for bad in [&b""[..], b"le", b"i1e", b"d5:added"] {
            assert!(PeerExchange::parse(bad).is_err());
        }
    }

    #[test]
    fn no_more_than_fifty_are_heard_of() {
        let many = PeerExchange {
            added: (0..200).map(|n| Contact::new(addr(n))).collect(),
            dropped: (0..200).map(addr).collect(),
        };
        let heard = PeerExchange::parse(&many.encode()).unwrap();
        assert_eq!((heard.added.len(), heard.dropped.len()), (50, 50));
    }

    #[test]
    fn more_than_one_a_minute_are_passed_over_and_a_flood_ends_it() {
        let mut pace = ExchangePace::default();
        for minute in 0..10 {
            assert_eq!(pace.admit(Time::from_secs(60 * minute)), Ok(true));
        }
        let at = Time::from_secs(541);
        for _ in 0..EXCESS_MAX {
            assert_eq!(pace.admit(at), Ok(false));
        }
        assert_eq!(pace.admit(at), Err(PeerMisbehaved::ExchangeFlood));
    }
}
