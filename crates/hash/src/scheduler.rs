//! Keeps lanes full: when a message ends, the next one takes its lane.

use std::array;

use crate::block::{Block, Feed};
use crate::columns::{Columns, LANES_MAX};
use crate::plan::Plan;

/// A message on its way through a lane.
pub(crate) struct Message<'a, const W: usize> {
    /// By which its owner knows it.
    pub(crate) index: usize,
    pub(crate) words: [u32; W],
    pub(crate) feed: Feed<'a>,
}

/// Where messages come from, and where they go when no block is left.
pub(crate) trait Messages<'a, const W: usize> {
    /// The next one; after the last, always `None`.
    fn next(&mut self) -> Option<Message<'a, W>>;

    fn finish(&mut self, message: Message<'a, W>);
}

/// Takes all messages to their ends.
pub(crate) fn run<'a, const W: usize>(plan: &Plan<W>, messages: &mut impl Messages<'a, W>) {
    let mut lanes = Lanes::new();
    loop {
        lanes.refill(plan.wide.kernel.lanes(), messages);
        if lanes.live == 0 {
            return;
        }
        let method = plan.method_for(lanes.live);
        let count = lanes.step(method.step);
        lanes.advance(count, messages);
    }
}

/// Lanes 0 to `live` carry messages.
struct Lanes<'a, const W: usize> {
    columns: Columns<W>,
    feeds: [(usize, Feed<'a>); LANES_MAX],
    live: usize,
}

impl<'a, const W: usize> Lanes<'a, W> {
    fn new() -> Self {
        Self {
            columns: Columns::splat(&[0; W]),
            feeds: array::from_fn(|_| (0, Feed::vacant())),
            live: 0,
        }
    }

    fn refill(&mut self, lanes: usize, messages: &mut impl Messages<'a, W>) {
        while self.live < lanes {
            let Some(message) = messages.next() else {
                return;
            };
            if message.feed.is_over() {
                messages.finish(message);
                continue;
            }
            self.columns.set(self.live, &message.words);
            self.feeds[self.live] = (message.index, message.feed);
            self.live += 1;
        }
    }

    /// Advances all live lanes by as many blocks as the shortest run has.
    fn step(&mut self, step: crate::columns::Step<W>) -> usize {
        let mut runs: [&[Block]; LANES_MAX] = [&[]; LANES_MAX];
        let mut count = usize::MAX;
        for (run, (_, feed)) in runs.iter_mut().zip(&self.feeds[..self.live]) {
            *run = feed.blocks();
            count = count.min(run.len());
        }
        step(&mut self.columns, &runs[..self.live], count);
        count
    }

    /// Moves the feeds on; lanes whose messages are over go to the last live lane.
    fn advance(&mut self, count: usize, messages: &mut impl Messages<'a, W>) {
        // From the last to the first, so that the lane that moves has been seen.
        for lane in (0..self.live).rev() {
            self.feeds[lane].1.advance(count);
            if !self.feeds[lane].1.is_over() {
                continue;
            }
            let words = self.columns.words(lane);
            self.live -= 1;
            self.columns.set(lane, &self.columns.words(self.live));
            self.feeds.swap(lane, self.live);
            let (index, feed) = std::mem::replace(&mut self.feeds[self.live], (0, Feed::vacant()));
            messages.finish(Message { index, words, feed });
        }
    }
}
