//! Which kernel to use for how many messages.

use std::time::{Duration, Instant};

use crate::block::{BLOCK_LEN, Block};
use crate::columns::{Columns, LANES_MAX, Step};
use crate::kernel::Kernel;

/// How an algorithm is done by each kernel.
pub(crate) struct Steps<const W: usize> {
    /// The state before the first block.
    pub(crate) initial: [u32; W],
    #[cfg(target_arch = "x86_64")]
    pub(crate) avx512: Step<W>,
    #[cfg(target_arch = "x86_64")]
    pub(crate) avx2: Step<W>,
    #[cfg(target_arch = "x86_64")]
    pub(crate) sha_pair: Step<W>,
    pub(crate) one_by_one: Step<W>,
}

/// One kernel's way to do one algorithm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Method<const W: usize> {
    pub(crate) kernel: Kernel,
    pub(crate) step: Step<W>,
}

/// Wide when there are messages enough, narrow for few.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<const W: usize> {
    pub(crate) wide: Method<W>,
    /// From how many messages on the wide method is the faster one.
    wide_min: usize,
    narrow: Method<W>,
}

/// What each kernel hashes in every lane to show how fast it is: 64 blocks, so that a trial of the slowest
/// takes about 0.2 ms and of the fastest 10 µs. One where an interpreter would need minutes, to learn nothing.
const TRIAL_BLOCKS: usize = if cfg!(miri) { 1 } else { 64 };

/// The shortest of so many trials counts: an interrupt may fall into some, hardly into all.
const TRIALS: usize = 5;

impl<const W: usize> Steps<W> {
    fn method(&self, kernel: Kernel) -> Method<W> {
        let step = match kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => self.avx512,
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => self.avx2,
            #[cfg(target_arch = "x86_64")]
            Kernel::ShaPair => self.sha_pair,
            _ => self.one_by_one,
        };
        Method { kernel, step }
    }

    /// That kernel for any number of messages, if the processor has it.
    pub(crate) fn only(&self, kernel: Kernel) -> Option<Plan<W>> {
        let method = self.method(kernel);
        kernel.is_available().then_some(Plan {
            wide: method,
            wide_min: 1,
            narrow: method,
        })
    }

    /// The fastest kernels by trial. One that does not agree with the plain implementation is left out.
    pub(crate) fn fastest(&self) -> Plan<W> {
        let plain = self.method(Kernel::OneByOne);
        if Kernel::available().eq([plain.kernel]) {
            // Nothing to compare, and such a platform may have no clock.
            return Plan {
                wide: plain,
                wide_min: 1,
                narrow: plain,
            };
        }
        let sample = sample();
        let (right, plain_cost) = self.trial(plain.step, &sample);
        let rivals = Kernel::available().filter(|kernel| *kernel != plain.kernel);
        let mut narrow = (plain, plain_cost);
        let mut wide = narrow;
        for method in rivals.map(|kernel| self.method(kernel)) {
            let (columns, cost) = self.trial(method.step, &sample);
            if columns != right {
                continue;
            }
            // By a tenth at least, so that noise does not decide between two that are nearly the same.
            if cost + cost / 10 < wide.1 {
                wide = (method, cost);
            }
            // A pair is narrow: it does one message alone as the plain way does it.
            if method.kernel == Kernel::ShaPair && cost < narrow.1 {
                narrow = (method, cost);
            }
        }
        let wide_min = break_even(wide.0.kernel, wide.1, narrow.1);
        Plan {
            wide: wide.0,
            wide_min,
            narrow: narrow.0,
        }
    }

    /// What a step makes of the sample in all lanes, and how long it takes.
    #[expect(
        clippy::disallowed_methods,
        reason = "how fast a processor is can only be found with a clock; no result depends on it"
    )]
    fn trial(&self, step: Step<W>, sample: &[Block]) -> (Columns<W>, Duration) {
        let runs: [&[Block]; LANES_MAX] = std::array::from_fn(|lane| &sample[lane..]);
        let mut columns = Columns::splat(&self.initial);
        let mut best = Duration::MAX;
        for _ in 0..TRIALS {
            columns = Columns::splat(&self.initial);
            let start = Instant::now();
            step(&mut columns, &runs, TRIAL_BLOCKS);
            best = best.min(start.elapsed());
        }
        (columns, best)
    }
}

impl<const W: usize> Plan<W> {
    /// The faster method for so many messages at once.
    pub(crate) const fn method_for(&self, live: usize) -> Method<W> {
        if live >= self.wide_min {
            self.wide
        } else {
            self.narrow
        }
    }
}

/// Blocks that differ, so that no lane can be taken for another.
fn sample() -> [Block; TRIAL_BLOCKS + LANES_MAX] {
    let mut blocks = [[0; BLOCK_LEN]; TRIAL_BLOCKS + LANES_MAX];
    let mut word = 1_u32;
    for byte in blocks.as_flattened_mut() {
        // The step of a linear congruential generator; its high bits vary best.
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = word.to_be_bytes()[0];
    }
    blocks
}

/// From how many messages on a wide step costs less than a narrow one. The costs are those of a trial, in which
/// the wide kernel steps as often as its lanes fit into all, and the narrow one does a message at a time.
fn break_even(wide: Kernel, wide_cost: Duration, narrow_cost: Duration) -> usize {
    let step = wide_cost.as_nanos() * wide.lanes() as u128;
    let messages = step.div_ceil(narrow_cost.as_nanos().max(1));
    usize::try_from(messages).map_or(LANES_MAX, |min| min.clamp(1, wide.lanes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_kernel_that_disagrees_is_not_chosen_however_fast() {
        let steps = Steps {
            avx512: |_, _, _| (),
            avx2: |_, _, _| (),
            sha_pair: |_, _, _| (),
            one_by_one: crate::sha1::one_by_one,
            initial: crate::sha1::STEPS.initial,
        };
        let plan = steps.fastest();
        assert_eq!(
            (plan.wide.kernel, plan.narrow.kernel),
            (Kernel::OneByOne, Kernel::OneByOne)
        );
    }

    #[test]
    fn few_messages_do_not_pay_for_many_lanes() {
        let step: Step<1> = |_, _, _| ();
        let wide = Method {
            kernel: Kernel::Avx512,
            step,
        };
        let narrow = Method {
            kernel: Kernel::OneByOne,
            step,
        };
        let plan = Plan {
            wide,
            wide_min: 5,
            narrow,
        };
        assert_eq!(plan.method_for(4).kernel, Kernel::OneByOne);
        assert_eq!(plan.method_for(5).kernel, Kernel::Avx512);
    }

    #[test]
    fn a_wide_step_wins_where_its_cost_is_that_of_the_messages_one_by_one() {
        let check = |kernel, wide, narrow, expect| {
            let found = break_even(
                kernel,
                Duration::from_nanos(wide),
                Duration::from_nanos(narrow),
            );
            assert_eq!(found, expect, "{kernel:?} {wide} {narrow}");
        };
        // All 16 lanes at a quarter of the cost: the step costs as much as four messages.
        check(Kernel::Avx512, 250, 1000, 4);
        check(Kernel::Avx512, 300, 1000, 5);
        check(Kernel::Avx2, 900, 1000, 8);
        check(Kernel::Avx2, 400, 1000, 4);
        check(Kernel::ShaPair, 500, 500, 2);
        // Without a clock that is fine enough.
        check(Kernel::Avx2, 0, 0, 1);
    }
}
