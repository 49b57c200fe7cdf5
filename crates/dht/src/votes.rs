//! Our own address as other nodes see it (BEP 42, "Bootstrapping"): believed when enough of them agree.

use std::collections::BTreeMap;
use std::net::IpAddr;

use riverrun_base::Nearness;

use crate::contact::network_of;

/// How many networks have to name an address before it is ours.
const VOTES_NEEDED: usize = 5;

/// How many votes are held; the count begins anew after that, so that a new address wins within as many answers.
const VOTES_MAX: usize = 64;

/// The votes for our address; one a network, so that nobody has many.
#[derive(Clone, Debug, Default)]
pub(crate) struct Votes {
    by_network: BTreeMap<u64, IpAddr>,
    ours: Option<IpAddr>,
}

impl Votes {
    /// The address that was believed last.
    pub(crate) const fn ours(&self) -> Option<IpAddr> {
        self.ours
    }

    /// A node tells the address that it sees. Gives our address if that is news.
    pub(crate) fn cast(&mut self, voter: IpAddr, ip: IpAddr) -> Option<IpAddr> {
        let ip = ip.to_canonical();
        if Nearness::is_local(ip)
            || Nearness::is_local(voter)
            || ip.is_ipv4() != voter.to_canonical().is_ipv4()
        {
            return None;
        }
        if self.by_network.len() >= VOTES_MAX {
            self.by_network.clear();
        }
        self.by_network.insert(network_of(voter), ip);
        let votes = self.by_network.values().filter(|vote| **vote == ip).count();
        let is_most = votes * 2 > self.by_network.len();
        if votes < VOTES_NEEDED || !is_most || self.ours == Some(ip) {
            return None;
        }
        self.ours = Some(ip);
        self.by_network.clear();
        Some(ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voter(network: u8) -> IpAddr {
        IpAddr::from([20, 0, network, 1])
    }

    #[test]
    fn five_networks_decide_and_one_does_not() {
        let (ours, wrong) = (
            IpAddr::from([198, 51, 100, 1]),
            IpAddr::from([198, 51, 100, 2]),
        );
        let mut votes = Votes::default();
        for _ in 0..20 {
            assert_eq!(votes.cast(voter(0), wrong), None);
        }
        for network in 1..5 {
            assert_eq!(votes.cast(voter(network), ours), None);
        }
        assert_eq!(votes.cast(voter(5), ours), Some(ours));
        assert_eq!(votes.cast(voter(6), ours), None);
        assert_eq!(votes.ours(), Some(ours));
    }

    #[test]
    fn a_new_address_wins_in_time() {
        let (old, new) = (
            IpAddr::from([198, 51, 100, 1]),
            IpAddr::from([198, 51, 100, 2]),
        );
        let mut votes = Votes::default();
        for network in 0..100 {
            votes.cast(voter(network), old);
        }
        let won = (100..200).find_map(|network| votes.cast(voter(network), new));
        assert_eq!(won, Some(new));
    }

    #[test]
    fn local_addresses_neither_vote_nor_win() {
        let mut votes = Votes::default();
        for network in 0..50 {
            assert_eq!(
                votes.cast(voter(network), IpAddr::from([192, 168, 0, 1])),
                None
            );
            let local = IpAddr::from([10, 0, network, 1]);
            assert_eq!(votes.cast(local, IpAddr::from([198, 51, 100, 1])), None);
        }
    }
}
