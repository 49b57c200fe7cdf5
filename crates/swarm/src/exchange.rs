//! What peers tell each other of other peers (BEP 11): what each was told, and what each has named.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use riverrun_base::Time;
use riverrun_peer::{Contact, EXCHANGE_MAX, PeerExchange};

use crate::key::ConnKey;

/// How long after its handshake a peer is told of others for the first time: by then some are there to tell of.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// How often it is told (BEP 11: "no more than 1 PEX message per minute").
const INTERVAL: Duration = Duration::from_mins(1);
/// How many peers one peer may have named and not taken back. So it takes many tellers to fill the share of the
/// address book that is for what strangers tell.
const NAMED_MAX: usize = 50;

/// Who was told what.
#[derive(Debug, Default)]
pub(crate) struct Exchanger {
    peers: BTreeMap<ConnKey, Tale>,
    due: BTreeSet<(Time, ConnKey)>,
}

/// Of one connection.
#[derive(Debug)]
struct Tale {
    due: Time,
    /// What it was told, and is still to be taken back.
    told: BTreeSet<SocketAddr>,
    /// Whom it has named; whether it can introduce us, and was not asked to.
    named: BTreeMap<SocketAddr, bool>,
}

impl Exchanger {
    /// A peer wants to hear of others.
    pub(crate) fn begin(&mut self, now: Time, conn: ConnKey) {
        let due = now + FIRST_WAIT;
        self.peers.entry(conn).or_insert_with(|| {
            self.due.insert((due, conn));
            Tale {
                due,
                told: BTreeSet::new(),
                named: BTreeMap::new(),
            }
        });
    }

    /// A connection is over.
    pub(crate) fn gone(&mut self, conn: ConnKey) {
        if let Some(tale) = self.peers.remove(&conn) {
            self.due.remove(&(tale.due, conn));
        }
    }

    /// When somebody is to be told the next time.
    pub(crate) fn next_due(&self) -> Option<Time> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Who is to be told now; its next time is in a minute.
    pub(crate) fn take_due(&mut self, now: Time) -> Option<ConnKey> {
        let (due, conn) = self.due.first().copied().filter(|(due, _)| *due <= now)?;
        self.due.remove(&(due, conn));
        if let Some(tale) = self.peers.get_mut(&conn) {
            tale.due = now + INTERVAL;
            self.due.insert((tale.due, conn));
        }
        Some(conn)
    }

    /// What has changed for a peer, now that these are what it may know.
    pub(crate) fn news(
        &mut self,
        conn: ConnKey,
        known: &BTreeMap<SocketAddr, Contact>,
    ) -> PeerExchange {
        let Some(tale) = self.peers.get_mut(&conn) else {
            return PeerExchange::default();
        };
        let gone = tale.told.iter().filter(|addr| !known.contains_key(addr));
        let dropped: Vec<_> = gone.take(EXCHANGE_MAX).copied().collect();
        for addr in &dropped {
            tale.told.remove(addr);
        }
        let new = known
            .values()
            .filter(|contact| !tale.told.contains(&contact.addr));
        let added: Vec<_> = new.take(EXCHANGE_MAX).copied().collect();
        tale.told.extend(added.iter().map(|contact| contact.addr));
        PeerExchange { added, dropped }
    }

    /// A peer has told; what of it is to be considered.
    pub(crate) fn hear(&mut self, conn: ConnKey, heard: PeerExchange) -> Vec<Contact> {
        let Some(tale) = self.peers.get_mut(&conn) else {
            return Vec::new();
        };
        for addr in &heard.dropped {
            tale.named.remove(addr);
        }
        let room = |tale: &Tale| tale.named.len() < NAMED_MAX;
        let mut added = heard.added;
        added.retain(|contact| {
            let is_new = room(tale) && !tale.named.contains_key(&contact.addr);
            if is_new {
                tale.named.insert(contact.addr, contact.has_holepunch);
            }
            is_new
        });
        added
    }

    /// One that has named an address, and can arrange a meeting there (BEP 55). Gives nobody twice.
    pub(crate) fn who_can_introduce(&mut self, addr: SocketAddr) -> Option<ConnKey> {
        self.peers.iter_mut().find_map(|(conn, tale)| {
            let can = tale.named.get_mut(&addr)?;
            std::mem::take(can).then_some(*conn)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

    use super::*;

    const CONN: ConnKey = ConnKey::new(1, 0);

    fn addr(n: u8) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, n], 6881))
    }

    fn known(peers: impl IntoIterator<Item = u8>) -> BTreeMap<SocketAddr, Contact> {
        let contact = |n| (addr(n), Contact::new(addr(n)));
        peers.into_iter().map(contact).collect()
    }

    #[test]
    fn each_is_told_after_five_seconds_and_then_once_a_minute() {
        let mut exchanger = Exchanger::default();
        exchanger.begin(Time::ZERO, CONN);
        exchanger.begin(Time::from_secs(3), CONN);
        let mut told = Vec::new();
        for second in 0..200 {
            while exchanger.take_due(Time::from_secs(second)).is_some() {
                told.push(second);
            }
        }
        assert_eq!(told, [5, 65, 125, 185]);
        exchanger.gone(CONN);
        assert_eq!(exchanger.next_due(), None);
    }

    #[test]
    fn a_peer_names_fifty_and_more_only_for_what_it_takes_back() {
        let mut exchanger = Exchanger::default();
        let tell = |added: std::ops::Range<u8>, dropped: std::ops::Range<u8>| PeerExchange {
            added: added.map(|n| Contact::new(addr(n))).collect(),
            dropped: dropped.map(addr).collect(),
        };
        assert!(
            exchanger.hear(CONN, tell(0..5, 0..0)).is_empty(),
            "never asked"
        );
        exchanger.begin(Time::ZERO, CONN);
        assert_eq!(exchanger.hear(CONN, tell(0..40, 0..0)).len(), 40);
        assert_eq!(exchanger.hear(CONN, tell(30..80, 0..0)).len(), 10);
        assert_eq!(exchanger.hear(CONN, tell(100..150, 0..7)).len(), 7);
    }

    #[test]
    fn who_has_named_a_peer_that_can_be_met_is_asked_once() {
        let mut exchanger = Exchanger::default();
        exchanger.begin(Time::ZERO, CONN);
        let meets = Contact {
            has_holepunch: true,
            ..Contact::new(addr(1))
        };
        let added = vec![meets, Contact::new(addr(2))];
        exchanger.hear(
            CONN,
            PeerExchange {
                added,
                dropped: Vec::new(),
            },
        );
        assert_eq!(exchanger.who_can_introduce(addr(2)), None);
        assert_eq!(exchanger.who_can_introduce(addr(1)), Some(CONN));
        assert_eq!(exchanger.who_can_introduce(addr(1)), None);
    }

    proptest! {
        #[test]
        fn whoever_adds_up_what_it_is_told_knows_what_is_there(
            rounds in prop::collection::vec(prop::collection::btree_set(0_u8..120, 0..110), 1..12),
        ) {
            let mut exchanger = Exchanger::default();
            exchanger.begin(Time::ZERO, CONN);
            let mut heard = BTreeSet::new();
            let settled = std::iter::repeat_n(rounds.last().unwrap(), 3);
            for peers in rounds.iter().chain(settled) {
                let news = exchanger.news(CONN, &known(peers.iter().copied()));
                prop_assert!(news.added.len() <= 50 && news.dropped.len() <= 50);
                for gone in &news.dropped {
                    prop_assert!(heard.remove(gone), "taken back, never told");
                }
                for new in &news.added {
                    prop_assert!(!news.dropped.contains(&new.addr));
                    prop_assert!(heard.insert(new.addr), "told twice");
                }
            }
            let last: BTreeSet<_> = rounds.last().unwrap().iter().map(|n| addr(*n)).collect();
            prop_assert_eq!(heard, last);
        }
    }
}
