//! Our address as seen from outside, by a vote of those who see it.
//!
//! Anybody can lie, so that nobody decides alone once others have spoken: each witness has one vote, hosts that are near
//! each other have one together, and the address with the most wins. Until a second one speaks the first is believed.

use std::collections::VecDeque;
use std::net::IpAddr;

use riverrun_base::Nearness;
use serde::{Deserialize, Serialize};

/// Witnesses that are remembered in a family; the oldest make room, as addresses change.
const WITNESSES_MAX: usize = 32;

/// Who says what our address is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Witness {
    /// The router that forwards our port.
    Router,
    /// A tracker, by the name of its host.
    Tracker(String),
    /// The DHT, after a vote of its own.
    Dht,
    /// A peer.
    Host(IpAddr),
}

/// A witness, as far as it counts as one of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Voter {
    Router,
    Dht,
    Tracker(String),
    /// The first 16 bits of an IPv4 address.
    V4([u8; 2]),
    /// The first 32 bits of an IPv6 address.
    V6([u8; 4]),
}

impl From<Witness> for Voter {
    fn from(witness: Witness) -> Self {
        match witness {
            Witness::Router => Self::Router,
            Witness::Dht => Self::Dht,
            Witness::Tracker(host) => Self::Tracker(host),
            Witness::Host(ip) => match ip.to_canonical() {
                IpAddr::V4(ip) => {
                    let [a, b, ..] = ip.octets();
                    Self::V4([a, b])
                }
                IpAddr::V6(ip) => {
                    let [a, b, c, d, ..] = ip.octets();
                    Self::V6([a, b, c, d])
                }
            },
        }
    }
}

/// The votes, by family, and what they amount to.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExternalIps {
    v4: Poll,
    v6: Poll,
}

#[derive(Clone, Debug, Default)]
struct Poll {
    votes: VecDeque<(Voter, IpAddr)>,
    winner: Option<IpAddr>,
}

impl ExternalIps {
    /// Takes a vote. Whether [`ExternalIps::winner`] is another now.
    pub(crate) fn vote(&mut self, witness: Witness, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        // A host of our surroundings sees the address that we have there; anybody else has to see one of the world.
        let is_seen = match (&witness, Nearness::of(ip)) {
            (_, Some(Nearness::World)) => true,
            (Witness::Host(host), Some(Nearness::Network)) => Nearness::is_local(*host),
            _ => false,
        };
        if !is_seen {
            return false;
        }
        let before = self.winner();
        let poll = if ip.is_ipv4() {
            &mut self.v4
        } else {
            &mut self.v6
        };
        poll.vote(witness.into(), ip);
        self.winner() != before
    }

    /// Our address, if anybody told: that of IPv4 if both are known.
    pub(crate) fn winner(&self) -> Option<IpAddr> {
        self.v4.winner.or(self.v6.winner)
    }

    /// We are somewhere else: what was seen there counts no more.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Poll {
    fn vote(&mut self, voter: Voter, ip: IpAddr) {
        self.votes.retain(|(known, _)| *known != voter);
        if self.votes.len() == WITNESSES_MAX {
            self.votes.pop_front();
        }
        self.votes.push_back((voter, ip));
        let count = |ip: IpAddr| self.votes.iter().filter(|(_, voted)| *voted == ip).count();
        let best = self
            .votes
            .iter()
            .map(|(_, ip)| *ip)
            .max_by_key(|ip| count(*ip));
        // Who is equal does not replace who is there.
        let holds = self.winner.map_or(0, count);
        if let Some(best) = best.filter(|best| count(*best) > holds) {
            self.winner = Some(best);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn host(text: &str) -> Witness {
        Witness::Host(ip(text))
    }

    #[test]
    fn the_first_is_believed_until_more_say_otherwise() {
        let mut ips = ExternalIps::default();
        assert!(ips.vote(Witness::Tracker("t".to_owned()), ip("198.51.100.1")));
        assert!(!ips.vote(host("192.0.2.1"), ip("203.0.113.9")));
        assert_eq!(ips.winner(), Some(ip("198.51.100.1")));
        assert!(ips.vote(host("10.1.2.3"), ip("203.0.113.9")));
        assert_eq!(ips.winner(), Some(ip("203.0.113.9")));
    }

    #[test]
    fn a_crowd_from_one_network_is_one_voice() {
        let mut ips = ExternalIps::default();
        ips.vote(Witness::Router, ip("198.51.100.1"));
        for number in 0..200 {
            ips.vote(host(&format!("192.0.2.{number}")), ip("203.0.113.9"));
            ips.vote(host(&format!("2001:db8:{number}::1")), ip("203.0.113.9"));
        }
        // Two voices: that of each network.
        assert_eq!(ips.winner(), Some(ip("203.0.113.9")));
        ips.vote(Witness::Tracker("a".to_owned()), ip("198.51.100.1"));
        ips.vote(Witness::Tracker("b".to_owned()), ip("198.51.100.1"));
        assert_eq!(ips.winner(), Some(ip("198.51.100.1")));
    }

    #[test]
    fn a_witness_that_changes_its_mind_has_one_vote_still() {
        let mut ips = ExternalIps::default();
        ips.vote(Witness::Router, ip("198.51.100.1"));
        for _ in 0..5 {
            ips.vote(host("192.0.2.1"), ip("203.0.113.9"));
        }
        assert_eq!(ips.winner(), Some(ip("198.51.100.1")));
        assert!(ips.vote(Witness::Router, ip("203.0.113.9")));
    }

    #[test]
    fn families_are_told_apart_and_nonsense_is_none() {
        let mut ips = ExternalIps::default();
        let nobody = [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "::",
            "::1",
            "ff02::1",
            "224.0.0.1",
            "255.255.255.255",
            "169.254.1.1",
            "192.168.1.2",
        ];
        for nonsense in nobody {
            assert!(!ips.vote(Witness::Router, ip(nonsense)), "{nonsense}");
            assert!(!ips.vote(host("192.0.2.1"), ip(nonsense)), "{nonsense}");
        }
        assert!(ips.vote(Witness::Router, ip("2001:db8::1")));
        assert!(ips.vote(Witness::Router, ip("::ffff:198.51.100.1")));
        assert_eq!(ips.winner(), Some(ip("198.51.100.1")));
        ips.clear();
        assert_eq!(ips.winner(), None);
    }

    #[test]
    fn votes_are_bounded_and_old_ones_fade() {
        let mut ips = ExternalIps::default();
        for number in 0..100_u8 {
            ips.vote(host(&format!("{number}.1.0.1")), ip("198.51.100.1"));
        }
        for number in 0..20_u8 {
            ips.vote(host(&format!("{number}.2.0.1")), ip("203.0.113.9"));
        }
        assert_eq!(ips.v4.votes.len(), WITNESSES_MAX);
        assert_eq!(ips.winner(), Some(ip("203.0.113.9")));
    }
}
