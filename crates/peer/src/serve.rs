//! What the peer requests from us, up to the moment when it leaves.
//!
//! Every request that is admitted ends in exactly one answer, as the fast extension demands (BEP 6): its block
//! or a reject. Without the extension a reject is silence.

use std::collections::VecDeque;

use riverrun_base::{Block, BlockSpan, PieceIndex};

use crate::error::PeerMisbehaved;

/// How many times our queue's length a peer may request in vain, because the queue is full or because it is
/// choked, before that is an attack. Once its whole queue may be on the way when we choke it; a second time
/// while it does not know yet.
const FLOOD_FACTOR: u32 = 2;
/// How many pieces we allow fast at most; BEP 6 speaks of ten.
const ALLOWED_MAX: usize = 64;

/// The requests of one peer.
#[derive(Debug)]
pub(crate) struct Serving {
    queue_max: usize,
    choking: bool,
    /// Admitted, and the answer is to be decided or read.
    waiting: VecDeque<BlockSpan>,
    /// To be sent.
    ready: VecDeque<(BlockSpan, Block)>,
    ready_bytes: usize,
    /// Pieces that may be requested although choked.
    allowed: Vec<PieceIndex>,
    /// Requests in vain since the peer last did right.
    in_vain: u32,
}

impl Serving {
    pub(crate) fn new(queue_max: u16) -> Self {
        Self {
            queue_max: queue_max.into(),
            choking: true,
            waiting: VecDeque::new(),
            ready: VecDeque::new(),
            ready_bytes: 0,
            allowed: Vec::new(),
            in_vain: 0,
        }
    }

    /// A request that lies in the torrent has come; whether it is admitted, else it is to be rejected.
    pub(crate) fn admit(&mut self, span: BlockSpan) -> Result<bool, PeerMisbehaved> {
        let may = !self.choking || self.allowed.contains(&span.piece);
        if may && self.waiting.len() + self.ready.len() < self.queue_max {
            self.waiting.push_back(span);
            self.in_vain = 0;
            return Ok(true);
        }
        self.note_in_vain()?;
        Ok(false)
    }

    /// Something was requested that we do not give.
    pub(crate) fn note_in_vain(&mut self) -> Result<(), PeerMisbehaved> {
        let queue_max = u32::try_from(self.queue_max).unwrap_or(u32::MAX);
        let limit = queue_max.saturating_mul(FLOOD_FACTOR);
        self.in_vain += 1;
        if self.in_vain > limit {
            return Err(PeerMisbehaved::RequestFlood { limit });
        }
        Ok(())
    }

    /// The block for a request; dropped if that was answered or taken back before.
    pub(crate) fn serve(&mut self, span: BlockSpan, block: Block) {
        if remove(&mut self.waiting, &span) {
            self.ready_bytes += block.len();
            self.ready.push_back((span, block));
        }
    }

    /// We do not answer a request; whether it was still waiting.
    pub(crate) fn refuse(&mut self, span: BlockSpan) -> bool {
        remove(&mut self.waiting, &span)
    }

    /// The peer takes a request back; whether that was in time.
    pub(crate) fn cancel(&mut self, span: BlockSpan) -> bool {
        if remove(&mut self.waiting, &span) {
            return true;
        }
        let at = self.ready.iter().position(|(ready, _)| *ready == span);
        let block = at.and_then(|at| self.ready.remove(at));
        self.ready_bytes -= block.as_ref().map_or(0, |(_, block)| block.len());
        block.is_some()
    }

    /// From now on only allowed pieces are served; the requests that this refuses, or `None` if the peer is choked
    /// already.
    pub(crate) fn choke(&mut self) -> Option<Vec<BlockSpan>> {
        if self.choking {
            return None;
        }
        (self.choking, self.in_vain) = (true, 0);
        Some(self.refuse_all(|serving, span| !serving.allowed.contains(&span.piece)))
    }

    /// Whether the peer was choked.
    pub(crate) fn unchoke(&mut self) -> bool {
        self.in_vain = 0;
        std::mem::replace(&mut self.choking, false)
    }

    /// We no longer have a piece; the requests that this refuses.
    pub(crate) fn lose(&mut self, piece: PieceIndex) -> Vec<BlockSpan> {
        self.refuse_all(|_, span| span.piece == piece)
    }

    /// Allows a piece; whether there was room for it.
    pub(crate) fn allow(&mut self, piece: PieceIndex) -> bool {
        let new = self.allowed.len() < ALLOWED_MAX && !self.allowed.contains(&piece);
        if new {
            self.allowed.push(piece);
        }
        new
    }

    /// How many bytes of blocks wait to be sent.
    pub(crate) const fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }

    /// The next block to be sent.
    pub(crate) fn pop(&mut self) -> Option<(BlockSpan, Block)> {
        let (span, block) = self.ready.pop_front()?;
        self.ready_bytes -= block.len();
        Some((span, block))
    }

    fn refuse_all(&mut self, refused: impl Fn(&Self, BlockSpan) -> bool) -> Vec<BlockSpan> {
        let ready = std::mem::take(&mut self.ready);
        let waiting = std::mem::take(&mut self.waiting);
        let spans = ready.iter().map(|(span, _)| span).chain(&waiting);
        let spans = spans.copied().filter(|span| refused(self, *span)).collect();
        for (span, block) in ready {
            if refused(self, span) {
                self.ready_bytes -= block.len();
            } else {
                self.ready.push_back((span, block));
            }
        }
        self.waiting = waiting
            .into_iter()
            .filter(|span| !refused(self, *span))
            .collect();
        spans
    }
}

fn remove(spans: &mut VecDeque<BlockSpan>, span: &BlockSpan) -> bool {
    let at = spans.iter().position(|waiting| waiting == span);
    at.is_some_and(|at| spans.remove(at).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(piece: u32) -> BlockSpan {
        BlockSpan {
            piece: PieceIndex(piece),
            offset: 0,
            len: 3,
        }
    }

    fn block() -> Block {
        Block::unbudgeted(b"abc")
    }

    /// Unchoked, with a queue of four.
    fn serving() -> Serving {
        let mut serving = Serving::new(4);
        assert!(serving.unchoke() && !serving.unchoke());
        serving
    }

    #[test]
    fn a_request_is_answered_once() {
        let mut serving = serving();
        assert_eq!(serving.admit(span(1)), Ok(true));
        serving.serve(span(1), block());
        serving.serve(span(1), block());
        assert!(!serving.refuse(span(1)), "it is on its way");
        assert_eq!(serving.ready_bytes(), 3);
        assert_eq!(serving.pop().map(|(span, _)| span), Some(span(1)));
        assert!(serving.pop().is_none());
        assert!(!serving.cancel(span(1)), "it has left");
        assert_eq!(serving.ready_bytes(), 0);
    }

    #[test]
    fn a_choke_refuses_all_but_what_is_allowed() {
        let mut serving = serving();
        assert!(serving.allow(PieceIndex(9)) && !serving.allow(PieceIndex(9)));
        for piece in [1, 2, 9] {
            serving.admit(span(piece)).unwrap();
        }
        serving.serve(span(2), block());
        serving.serve(span(9), block());
        assert_eq!(serving.choke(), Some(vec![span(2), span(1)]));
        assert_eq!(serving.choke(), None);
        assert_eq!(serving.ready_bytes(), 3);
        assert_eq!(serving.admit(span(1)), Ok(false));
        assert_eq!(serving.admit(span(9)), Ok(true));
        serving.serve(span(1), block());
        assert_eq!(serving.pop().map(|(span, _)| span), Some(span(9)));
        assert!(serving.pop().is_none());
    }

    #[test]
    fn a_cancel_takes_back_what_has_not_left() {
        let mut serving = serving();
        serving.admit(span(1)).unwrap();
        serving.admit(span(2)).unwrap();
        serving.serve(span(2), block());
        assert!(serving.cancel(span(1)) && serving.cancel(span(2)));
        assert!(!serving.cancel(span(1)));
        assert!(serving.pop().is_none());
        assert_eq!(serving.ready_bytes(), 0);
    }

    #[test]
    fn requests_over_the_limit_are_refused_and_then_a_flood() {
        let mut serving = serving();
        for piece in 0..4 {
            assert_eq!(serving.admit(span(piece)), Ok(true));
        }
        for _ in 0..8 {
            assert_eq!(serving.admit(span(7)), Ok(false));
        }
        let flood = PeerMisbehaved::RequestFlood { limit: 8 };
        assert_eq!(serving.admit(span(7)), Err(flood.clone()));
        let mut choked = Serving::new(4);
        let outcomes: Vec<_> = (0..9).map(|_| choked.admit(span(1))).collect();
        assert_eq!(outcomes[8], Err(flood));
        assert!(outcomes[..8].iter().all(|outcome| *outcome == Ok(false)));
    }
}
