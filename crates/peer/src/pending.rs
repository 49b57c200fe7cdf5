//! The requests that we have under way, and what becomes of each.
//!
//! A request ends in exactly one of: its block, a rejection, our own cancel. What the peer still sends after
//! the last two is expected and swallowed.

use std::collections::VecDeque;
use std::time::Duration;

use riverrun_base::{BlockSpan, PieceIndex, Time};

/// How many requests are remembered for which the peer may still send a block although we gave them up: as many
/// as are ever under way at once.
const DROPPED_MAX: usize = 2048;

/// Our requests at one peer, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending {
    queue: VecDeque<Request>,
    /// The request whose block is coming in.
    receiving: Option<Request>,
    /// Given up lately, without a promise of the peer to answer.
    dropped: VecDeque<BlockSpan>,
    /// How many of `queue` were cancelled.
    cancelled: usize,
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) span: BlockSpan,
    pub(crate) sent_at: Time,
    /// We took it back, and the peer's answer is outstanding (BEP 6).
    cancelled: bool,
}

/// What to do with the bytes of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// It was requested.
    Wanted,
    /// It was requested once.
    Unwanted,
    /// It was never requested.
    Unknown,
}

/// What a cancel has met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancelled {
    /// A request; the peer is to be told.
    Request,
    /// A block that is coming in.
    Receiving,
    Nothing,
}

impl Pending {
    /// Notes a request. The same twice is two requests, with an answer each.
    pub(crate) fn push(&mut self, span: BlockSpan, now: Time) {
        self.queue.push_back(Request {
            span,
            sent_at: now,
            cancelled: false,
        });
    }

    /// How many blocks the peer owes us.
    pub(crate) fn wanted(&self) -> usize {
        self.queue.len() - self.cancelled + usize::from(self.receiving.is_some())
    }

    /// The head of a `piece` message has come.
    pub(crate) fn start(&mut self, span: BlockSpan) -> Incoming {
        if let Some(request) = self.take(span, false) {
            self.receiving = Some(request);
            return Incoming::Wanted;
        }
        if self.take(span, true).is_some() || self.take_dropped(span) {
            return Incoming::Unwanted;
        }
        Incoming::Unknown
    }

    /// All bytes of the block that was coming in are there.
    pub(crate) fn finish(&mut self) -> Option<Request> {
        self.receiving.take()
    }

    /// We take a request back. With `answered` the peer has promised an answer to every request.
    pub(crate) fn cancel(&mut self, span: BlockSpan, answered: bool) -> Cancelled {
        if self.receiving.is_some_and(|request| request.span == span) {
            self.receiving = None;
            return Cancelled::Receiving;
        }
        let Some(at) = self.find(span, false) else {
            return Cancelled::Nothing;
        };
        if answered {
            self.queue[at].cancelled = true;
            self.cancelled += 1;
        } else {
            self.queue.remove(at);
            self.drop_span(span);
        }
        Cancelled::Request
    }

    /// The peer rejects a request; whether we wanted it.
    pub(crate) fn reject(&mut self, span: BlockSpan) -> bool {
        // The answer to a cancel comes before that to a later request for the same.
        if self.take(span, true).is_some() {
            return false;
        }
        let wanted = self.take(span, false).is_some();
        // What was rejected after we gave it up will not come late.
        if !wanted {
            self.take_dropped(span);
        }
        wanted
    }

    /// The request for the block that begins there, whatever its length.
    pub(crate) fn beginning(&self, piece: PieceIndex, offset: u32) -> Option<BlockSpan> {
        let begins = |span: &BlockSpan| span.piece == piece && span.offset == offset;
        self.queue.iter().map(|request| request.span).find(begins)
    }

    /// Gives up the requests for which `lost` holds; those that we wanted, oldest first. Their blocks may come
    /// all the same.
    pub(crate) fn give_up(&mut self, lost: impl Fn(&Request) -> bool) -> Vec<BlockSpan> {
        let mut given_up = Vec::new();
        let queue = std::mem::take(&mut self.queue);
        let mut dropped = Vec::new();
        for request in queue {
            if !lost(&request) {
                self.queue.push_back(request);
                continue;
            }
            dropped.push(request.span);
            if request.cancelled {
                self.cancelled -= 1;
            } else {
                given_up.push(request.span);
            }
        }
        for span in dropped {
            self.drop_span(span);
        }
        given_up
    }

    /// Gives up the requests that were sent more than `patience` before one, sent at `answered`, that has been
    /// answered; those that we wanted. Peers answer in another order than they were asked, but not so much.
    pub(crate) fn give_up_older(&mut self, answered: Time, patience: Duration) -> Vec<BlockSpan> {
        let mut given_up = Vec::new();
        while let Some(oldest) = self.queue.front()
            && oldest.sent_at + patience < answered
        {
            let Request {
                span, cancelled, ..
            } = *oldest;
            self.queue.pop_front();
            self.drop_span(span);
            if cancelled {
                self.cancelled -= 1;
            } else {
                given_up.push(span);
            }
        }
        given_up
    }

    fn find(&self, span: BlockSpan, cancelled: bool) -> Option<usize> {
        let is_it = |request: &Request| request.span == span && request.cancelled == cancelled;
        self.queue.iter().position(is_it)
    }

    fn take(&mut self, span: BlockSpan, cancelled: bool) -> Option<Request> {
        if cancelled && self.cancelled == 0 {
            return None;
        }
        let at = self.find(span, cancelled)?;
        self.cancelled -= usize::from(cancelled);
        self.queue.remove(at)
    }

    fn drop_span(&mut self, span: BlockSpan) {
        if self.dropped.len() == DROPPED_MAX {
            self.dropped.pop_front();
        }
        self.dropped.push_back(span);
    }

    fn take_dropped(&mut self, span: BlockSpan) -> bool {
        let at = self.dropped.iter().position(|dropped| *dropped == span);
        at.is_some_and(|at| self.dropped.remove(at).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(piece: u32) -> BlockSpan {
        BlockSpan {
            piece: PieceIndex(piece),
            offset: 0,
            len: 5,
        }
    }

    fn pending(pieces: &[u32]) -> Pending {
        let mut pending = Pending::default();
        for piece in pieces {
            pending.push(span(*piece), Time::ZERO);
        }
        pending
    }

    #[test]
    fn a_block_is_wanted_once() {
        let mut pending = pending(&[1, 2]);
        assert_eq!(pending.start(span(2)), Incoming::Wanted);
        assert_eq!(pending.wanted(), 2);
        assert_eq!(pending.finish().map(|request| request.span), Some(span(2)));
        assert_eq!(pending.start(span(2)), Incoming::Unknown);
        assert_eq!(pending.wanted(), 1);
    }

    #[test]
    fn the_answer_to_a_cancel_is_swallowed_once() {
        let mut pending = pending(&[1]);
        assert_eq!(pending.cancel(span(1), true), Cancelled::Request);
        assert_eq!(pending.wanted(), 0);
        pending.push(span(1), Time::ZERO);
        assert!(!pending.reject(span(1)), "the answer to the cancel");
        assert!(pending.reject(span(1)));
        assert_eq!(pending.start(span(1)), Incoming::Unknown);
        assert_eq!(pending.cancel(span(1), true), Cancelled::Nothing);
    }

    #[test]
    fn a_block_serves_the_request_that_still_wants_it() {
        let mut pending = pending(&[1]);
        pending.cancel(span(1), true);
        pending.push(span(1), Time::ZERO);
        assert_eq!(pending.start(span(1)), Incoming::Wanted);
        assert!(pending.finish().is_some());
        assert_eq!(pending.start(span(1)), Incoming::Unwanted);
        assert_eq!(pending.start(span(1)), Incoming::Unknown);
    }

    #[test]
    fn what_was_given_up_may_come_late() {
        let mut pending = pending(&[1, 2, 3]);
        pending.cancel(span(3), true);
        let lost = pending.give_up(|request| request.span != span(2));
        assert_eq!(lost, [span(1)], "the cancelled one was not wanted");
        assert_eq!(pending.wanted(), 1);
        assert_eq!(pending.start(span(3)), Incoming::Unwanted);
        assert!(!pending.reject(span(1)));
        assert_eq!(pending.start(span(1)), Incoming::Unknown);
    }

    #[test]
    fn what_is_passed_over_for_long_is_given_up() {
        let mut pending = Pending::default();
        for (piece, at) in [(1, 0), (2, 1), (3, 2), (4, 30)] {
            pending.push(span(piece), Time::from_secs(at));
        }
        pending.cancel(span(2), true);
        let patience = Duration::from_secs(20);
        let mut answered = |at| pending.give_up_older(Time::from_secs(at), patience);
        assert!(answered(20).is_empty());
        assert_eq!(answered(22), [span(1)], "and the cancelled one");
        assert_eq!(pending.wanted(), 2);
        assert_eq!(pending.start(span(2)), Incoming::Unwanted);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut pending = Pending::default();
        for piece in 0..5000 {
            pending.push(span(piece), Time::ZERO);
            pending.cancel(span(piece), false);
        }
        assert_eq!(pending.dropped.len(), DROPPED_MAX);
        assert_eq!(pending.start(span(4999)), Incoming::Unwanted);
        assert_eq!(pending.start(span(0)), Incoming::Unknown);
    }
}
