//! Rate limits: buckets, and how what they hold is shared among connections.

use std::time::Duration;

use riverrun_base::{BLOCK_LEN, Rate, Time, TokenBucket};

/// How often credit is handed out while there is a limit and somebody wants more.
pub(crate) const QUANTUM: Duration = Duration::from_millis(100);

/// One limit in one direction: a bucket, or nothing.
///
/// Credit is paid for when it is handed out. A connection holds little of it at a time, so that one that never
/// uses it, or closes with it, does no harm.
#[derive(Clone, Debug, Default)]
pub(crate) struct Throttle {
    bucket: Option<TokenBucket>,
}

impl Throttle {
    /// Sets, changes or lifts the limit.
    pub(crate) fn set(&mut self, now: Time, rate: Option<Rate>) {
        // A new bucket, not an old one with a new rate: the burst depends on the rate.
        self.bucket = rate.map(|rate| {
            let mut bucket = TokenBucket::new(rate, burst_bytes(rate), now);
            // It starts empty: a limit that is set again and again must not let a burst through each time.
            bucket.take(now, burst_bytes(rate));
            bucket
        });
    }

    pub(crate) const fn is_limited(&self) -> bool {
        self.bucket.is_some()
    }

    /// How much credit may be handed out; `u64::MAX` without limit.
    pub(crate) fn room(&mut self, now: Time) -> u64 {
        self.bucket
            .as_mut()
            .map_or(u64::MAX, |bucket| bucket.available(now))
    }

    /// Credit was handed out, or bytes have moved without.
    pub(crate) fn pay(&mut self, now: Time, bytes: u64) {
        if let Some(bucket) = &mut self.bucket {
            bucket.take(now, bytes);
        }
    }
}

/// Two quanta, so that a late tick loses nothing; and room for a block, which is moved whole.
fn burst_bytes(rate: Rate) -> u64 {
    let quanta = rate.bytes_per_second() / 5;
    quanta.max(2 * u64::from(BLOCK_LEN))
}

/// Shares `room` among those who want: in whole blocks of theirs, one each at a time, beginning at `first`.
pub(crate) fn share(room: u64, wants: &[u64], first: usize) -> Vec<u64> {
    let mut shares = vec![0; wants.len()];
    let mut left = room;
    let mut satisfied = 0;
    let mut at = first;
    while satisfied < wants.len() {
        let index = at % wants.len();
        at += 1;
        let step = (wants[index] - shares[index]).min(u64::from(BLOCK_LEN));
        if step == 0 {
            satisfied += 1;
        } else if step > left {
            break;
        } else {
            shares[index] += step;
            left -= step;
            satisfied = 0;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_blocks_go_round_until_the_room_is_used() {
        let block = u64::from(BLOCK_LEN);
        assert_eq!(
            share(3 * block, &[5 * block, block, 0, 5 * block], 1),
            [block, block, 0, block]
        );
        assert_eq!(share(u64::MAX, &[5 * block, 7], 0), [5 * block, 7]);
        assert_eq!(share(block - 1, &[block], 0), [0]);
        assert_eq!(share(100, &[], 0), [] as [u64; 0]);
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_shared_that_is_not_there_or_not_wanted(
            room in 0_u64..500_000,
            wants in proptest::collection::vec(0_u64..100_000, 1..10),
            first in 0_usize..20,
        ) {
            let shares = share(room, &wants, first);
            let total: u64 = shares.iter().sum();
            proptest::prop_assert!(total <= room);
            for (share, want) in shares.iter().zip(&wants) {
                proptest::prop_assert!(share <= want);
            }
            let wanted: u64 = wants.iter().sum();
            let rest = room - total;
            proptest::prop_assert!(total == wanted || rest < u64::from(BLOCK_LEN));
        }
    }

    #[test]
    fn credit_over_ten_seconds_is_the_rate() {
        for rate in [5_000, 100_000, 30_000_000_u64] {
            let mut throttle = Throttle::default();
            throttle.set(Time::ZERO, Some(Rate::from_bytes_per_second(rate)));
            let mut paid = 0;
            for tick in 1..=1000_u64 {
                let now = Time::from_millis(tick * 100);
                let [taken] = share(throttle.room(now), &[u64::MAX], 0)[..] else {
                    panic!("one")
                };
                throttle.pay(now, taken);
                paid += taken;
            }
            let expected = rate * 100;
            let slack = burst_bytes(Rate::from_bytes_per_second(rate)) + expected / 1000;
            assert!(
                paid.abs_diff(expected) <= slack,
                "{rate}: {paid} for {expected}"
            );
        }
    }
}
