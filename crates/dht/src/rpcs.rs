//! Queries that wait for their answers.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::time::Duration;

use riverrun_base::{SeededState, Time};

use crate::id::NodeId;

/// How many queries wait at most; more are not sent.
const PENDING_MAX: usize = 2048;

/// After which time a query counts as lost. Answers that take longer than this are of no use to a lookup.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Within these bounds lies the time after which an answer is late.
const LATE_MIN: Duration = Duration::from_millis(100);
const LATE_MAX: Duration = Duration::from_secs(1);
/// The same before there were answers to learn from.
const LATE_FIRST: Duration = Duration::from_millis(500);

/// How far one answer moves the estimate of the 95th percentile; a twentieth of it in the other direction.
const STEP: u32 = 10;

/// A query that waits.
#[derive(Clone, Debug)]
pub(crate) struct Pending<P> {
    pub(crate) to: SocketAddr,
    /// Who is expected there, if that is known.
    pub(crate) id: Option<NodeId>,
    pub(crate) purpose: P,
    sent_at: Time,
    /// When it will be late, or lost if it is late already.
    due: Time,
    is_late: bool,
}

impl<P> Pending<P> {
    /// How long it has waited.
    pub(crate) fn age(&self, now: Time) -> Duration {
        now - self.sent_at
    }
}

/// What became of a query without an answer.
#[derive(Debug)]
pub(crate) enum Silence<P> {
    /// It is late, and may still come.
    Late { to: SocketAddr, purpose: P },
    /// It is lost.
    Lost(Pending<P>),
}

/// All queries that wait, by their transactions.
#[derive(Clone, Debug)]
pub(crate) struct Rpcs<P> {
    pending: BTreeMap<u32, Pending<P>>,
    deadlines: BTreeSet<(Time, u32)>,
    /// Makes transactions that strangers cannot guess.
    names: SeededState,
    count: u64,
    late_after: Duration,
}

impl<P: Clone> Rpcs<P> {
    pub(crate) const fn new(secret: u64) -> Self {
        Self {
            pending: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            names: SeededState::new(secret),
            count: 0,
            late_after: LATE_FIRST,
        }
    }

    /// Whether another query may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.pending.len() < PENDING_MAX
    }

    /// The waiting queries' purposes.
    pub(crate) fn purposes(&self) -> impl Iterator<Item = &P> {
        self.pending.values().map(|pending| &pending.purpose)
    }

    /// A query goes out now: its transaction.
    pub(crate) fn begin(
        &mut self,
        now: Time,
        to: SocketAddr,
        id: Option<NodeId>,
        purpose: P,
    ) -> [u8; 4] {
        let transaction = loop {
            self.count += 1;
            let name = self.names.hash_one(self.count);
            // Invariant: half of 64 bits.
            let name = u32::try_from(name >> 32).unwrap_or_default();
            if !self.pending.contains_key(&name) {
                break name;
            }
        };
        let due = now + self.late_after;
        self.deadlines.insert((due, transaction));
        let pending = Pending {
            to,
            id,
            purpose,
            sent_at: now,
            due,
            is_late: false,
        };
        self.pending.insert(transaction, pending);
        transaction.to_be_bytes()
    }

    /// The query that an answer from `from` is for; `None` if there is none, which is no answer then.
    pub(crate) fn end(
        &mut self,
        now: Time,
        from: SocketAddr,
        transaction: &[u8],
    ) -> Option<Pending<P>> {
        let transaction = u32::from_be_bytes(transaction.try_into().ok()?);
        if self.pending.get(&transaction)?.to != from {
            return None;
        }
        let pending = self.pending.remove(&transaction)?;
        self.deadlines.remove(&(pending.due, transaction));
        self.learn(pending.age(now));
        Some(pending)
    }

    /// The next query that is late or lost by now.
    pub(crate) fn expire(&mut self, now: Time) -> Option<Silence<P>> {
        let &(due, transaction) = self.deadlines.first().filter(|(due, _)| *due <= now)?;
        self.deadlines.remove(&(due, transaction));
        let pending = self.pending.get_mut(&transaction)?;
        if pending.is_late {
            return self.pending.remove(&transaction).map(Silence::Lost);
        }
        pending.is_late = true;
        pending.due = pending.sent_at + TIMEOUT;
        self.deadlines.insert((pending.due, transaction));
        Some(Silence::Late {
            to: pending.to,
            purpose: pending.purpose.clone(),
        })
    }

    /// When the next query will be late or lost.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    /// Follows the 95th percentile of what answers take: up a step for one above it, down a nineteenth of a step for
    /// one below it.
    fn learn(&mut self, rtt: Duration) {
        let step = self.late_after / STEP;
        let estimate = if rtt > self.late_after {
            self.late_after + step
        } else {
            self.late_after.saturating_sub(step / 19)
        };
        self.late_after = estimate.clamp(LATE_MIN, LATE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn only_who_was_asked_can_answer_and_only_once() {
        let mut rpcs = Rpcs::new(1);
        let transaction = rpcs.begin(Time::ZERO, addr(1), None, 'a');
        let later = Time::from_millis(50);
        assert!(rpcs.end(later, addr(2), &transaction).is_none());
        assert!(rpcs.end(later, addr(1), &transaction[..3]).is_none());
        let pending = rpcs.end(later, addr(1), &transaction).unwrap();
        assert_eq!(
            (pending.purpose, pending.age(later)),
            ('a', Duration::from_millis(50))
        );
        assert!(rpcs.end(later, addr(1), &transaction).is_none());
        assert_eq!(rpcs.next_deadline(), None);
    }

    #[test]
    fn silence_is_late_first_and_lost_then() {
        let mut rpcs = Rpcs::new(1);
        rpcs.begin(Time::ZERO, addr(1), None, 'a');
        assert!(rpcs.expire(Time::from_millis(499)).is_none());
        let late = rpcs.expire(Time::from_millis(500));
        assert!(matches!(late, Some(Silence::Late { purpose: 'a', .. })));
        assert_eq!(rpcs.next_deadline(), Some(Time::from_secs(4)));
        let lost = rpcs.expire(Time::from_secs(4));
        assert!(matches!(lost, Some(Silence::Lost(_))));
        assert_eq!(rpcs.next_deadline(), None);
    }

    #[test]
    fn what_counts_as_late_follows_the_95th_percentile() {
        let mut rpcs = Rpcs::new(1);
        let mut rng = riverrun_base::Rng::new(1);
        for n in 0..5000_u64 {
            let now = Time::from_secs(n * 10);
            let transaction = rpcs.begin(now, addr(1), None, ());
            let rtt = Duration::from_millis(rng.below(400) as u64);
            rpcs.end(now + rtt, addr(1), &transaction).unwrap();
        }
        let late = rpcs.late_after.as_millis();
        assert!((330..430).contains(&late), "{late}");
    }
}
