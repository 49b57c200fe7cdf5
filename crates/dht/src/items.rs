//! The items that others put here (BEP 44).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use riverrun_base::Time;
use thiserror::Error;

use crate::contact::network_of;
use crate::id::NodeId;
use crate::item::Stored;
use crate::krpc::code;

/// How many items are kept.
pub(crate) const ITEMS_MAX: usize = 700;

/// How many items of one network (/24, /64) are kept.
const PER_NETWORK_MAX: u16 = 100;

/// How long an item is kept that nobody puts again (BEP 44).
const ITEM_LIFE: Duration = Duration::from_hours(2);

/// Why an item was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    #[error("there is version {0}, not the one to be replaced")]
    CasMismatch(i64),
    #[error("there is version {0} already")]
    SeqTooLow(i64),
    #[error("no room")]
    Full,
}

impl Refusal {
    pub(crate) const fn code(self) -> i64 {
        match self {
            Self::CasMismatch(_) => code::CAS_MISMATCH,
            Self::SeqTooLow(_) => code::SEQ_TOO_LOW,
            Self::Full => 202,
        }
    }
}

#[derive(Clone, Debug)]
struct Kept {
    item: Stored,
    network: u64,
    put_at: Time,
}

/// Items by their targets.
#[derive(Clone, Debug, Default)]
pub(crate) struct ItemStore {
    items: BTreeMap<NodeId, Kept>,
    per_network: BTreeMap<u64, u16>,
}

impl ItemStore {
    /// The item at a target.
    pub(crate) fn find(&self, target: NodeId) -> Option<&Stored> {
        self.items.get(&target).map(|kept| &kept.item)
    }

    /// Keeps an item whose signature was verified.
    pub(crate) fn put(
        &mut self,
        now: Time,
        own: NodeId,
        from: SocketAddr,
        item: Stored,
        cas: Option<i64>,
    ) -> Result<(), Refusal> {
        let target = item.target();
        if let Some(known) = self.items.get_mut(&target) {
            check_version(&known.item, &item, cas)?;
            known.item = item;
            known.put_at = now;
            return Ok(());
        }
        let network = network_of(from.ip());
        let share = self.per_network.get(&network).copied().unwrap_or(0);
        if share >= PER_NETWORK_MAX {
            return Err(Refusal::Full);
        }
        if self.items.len() >= ITEMS_MAX {
            let distance = |target: &NodeId| own.distance(target);
            let farthest = self.items.keys().copied().max_by_key(distance);
            match farthest.filter(|farthest| distance(farthest) > distance(&target)) {
                Some(farthest) => self.remove(farthest),
                None => return Err(Refusal::Full),
            }
        }
        let kept = Kept {
            item,
            network,
            put_at: now,
        };
        self.items.insert(target, kept);
        *self.per_network.entry(network).or_default() += 1;
        Ok(())
    }

    /// Forgets what nobody has put again.
    pub(crate) fn expire(&mut self, now: Time) {
        let old: Vec<_> = self
            .items
            .iter()
            .filter(|(_, kept)| now - kept.put_at >= ITEM_LIFE)
            .map(|(target, _)| *target)
            .collect();
        for target in old {
            self.remove(target);
        }
    }

    fn remove(&mut self, target: NodeId) {
        let Some(kept) = self.items.remove(&target) else {
            return;
        };
        if let Some(count) = self.per_network.get_mut(&kept.network) {
            *count -= 1;
            if *count == 0 {
                self.per_network.remove(&kept.network);
            }
        }
    }
}

/// Whether `new` may stand where `known` stands (BEP 44, "CAS" and "put message").
fn check_version(known: &Stored, new: &Stored, cas: Option<i64>) -> Result<(), Refusal> {
    let (Some(known_seq), Some(seq)) = (known.seq(), new.seq()) else {
        // Immutable items with one target are one item.
        return Ok(());
    };
    if cas.is_some_and(|cas| cas != known_seq) {
        return Err(Refusal::CasMismatch(known_seq));
    }
    if seq < known_seq || (seq == known_seq && new.value != known.value) {
        return Err(Refusal::SeqTooLow(known_seq));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::Keypair;

    const OWN: NodeId = NodeId([0; 20]);

    fn from(n: u32) -> SocketAddr {
        let [_, a, b, c] = (n * 256 + 1).to_be_bytes();
        SocketAddr::from(([20, a, b, c], 1))
    }

    fn number(n: u32) -> Stored {
        Stored::immutable(format!("i{n}e").into_bytes()).unwrap()
    }

    #[test]
    fn only_a_later_version_or_the_same_again_replaces_an_item() {
        let pair = Keypair::from_secret([1; 32]);
        let version = |seq, value: &[u8]| pair.sign(value.to_vec(), Vec::new(), seq).unwrap();
        let mut store = ItemStore::default();
        let mut put = |item, cas| store.put(Time::ZERO, OWN, from(1), item, cas);
        assert_eq!(put(version(5, b"i1e"), Some(77)), Ok(()));
        assert_eq!(put(version(5, b"i1e"), None), Ok(()));
        assert_eq!(put(version(5, b"i2e"), None), Err(Refusal::SeqTooLow(5)));
        assert_eq!(put(version(4, b"i1e"), None), Err(Refusal::SeqTooLow(5)));
        assert_eq!(
            put(version(6, b"i2e"), Some(4)),
            Err(Refusal::CasMismatch(5))
        );
        assert_eq!(put(version(6, b"i2e"), Some(5)), Ok(()));
        assert_eq!(
            store.find(version(6, b"i2e").target()).unwrap().seq(),
            Some(6)
        );
    }

    #[test]
    fn a_full_store_keeps_what_is_nearest() {
        let mut store = ItemStore::default();
        let mut offered = Vec::new();
        for n in 0..2000 {
            offered.push(number(n).target());
            let _ = store.put(Time::ZERO, OWN, from(n), number(n), None);
        }
        offered.sort_unstable_by_key(|target| OWN.distance(target));
        let kept: Vec<_> = store.items.keys().copied().collect();
        assert_eq!(kept, offered[..ITEMS_MAX]);
        assert_eq!(store.per_network.len(), ITEMS_MAX);
    }

    #[test]
    fn one_network_cannot_fill_the_store() {
        let mut store = ItemStore::default();
        let stored = (0..700)
            .filter(|n| {
                store
                    .put(Time::ZERO, OWN, from(3), number(*n), None)
                    .is_ok()
            })
            .count();
        assert_eq!(stored, usize::from(PER_NETWORK_MAX));
    }

    #[test]
    fn what_nobody_puts_again_is_forgotten() {
        let mut store = ItemStore::default();
        for n in 0..2 {
            store
                .put(Time::ZERO, OWN, from(n), number(n), None)
                .unwrap();
        }
        store
            .put(Time::from_secs(3600), OWN, from(9), number(1), None)
            .unwrap();
        store.expire(Time::from_secs(7200));
        assert!(store.find(number(0).target()).is_none());
        assert!(store.find(number(1).target()).is_some());
    }
}
