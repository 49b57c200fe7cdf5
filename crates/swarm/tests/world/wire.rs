//! One connection of the world: what two `PeerConn`s and the line between them would do, without bytes.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use riverrun_base::{BLOCK_LEN, Bitfield, Block, BlockSpan, InfoHash, PieceIndex, Time};
use riverrun_peer::Attach;
use riverrun_swarm::ConnKey;

use crate::world::Message;

/// A side of a wire: 0 has dialled.
pub(crate) type Side = usize;

pub(crate) struct Wire {
    pub(crate) ends: [End; 2],
    pub(crate) info_hash: InfoHash,
    /// Both handshakes are through.
    pub(crate) is_ready: bool,
}

/// One end of a wire.
#[expect(clippy::struct_excessive_bools, reason = "as the protocol has it")]
pub(crate) struct End {
    pub(crate) node: usize,
    /// `None` once its end was reported.
    pub(crate) key: Option<ConnKey>,
    pub(crate) attach: Option<Box<Attach>>,
    /// What the other end was told that this one has.
    pub(crate) told: Bitfield,
    /// The other end's pieces came before the metadata did.
    pub(crate) owes_pieces: bool,
    pub(crate) is_choking: bool,
    pub(crate) allowed: BTreeSet<PieceIndex>,
    /// Requests that this end has sent and that are not answered.
    pub(crate) requests: Vec<BlockSpan>,
    /// Those of them that were taken back.
    pub(crate) cancelled: Vec<BlockSpan>,
    /// Requests of the other end.
    pub(crate) asked: Vec<BlockSpan>,
    /// Blocks to send.
    pub(crate) queue: VecDeque<(BlockSpan, Block)>,
    /// What may be sent; `None` is without limit.
    pub(crate) credit_bytes: Option<i64>,
    /// What may be received; `None` is without limit.
    pub(crate) receive_credit: Option<i64>,
    /// What has arrived and is not read, for lack of credit.
    pub(crate) unread: VecDeque<Message>,
    pub(crate) upload_only: bool,
    pub(crate) window: u32,
    rate: f64,
    last_block: Time,
    pub(crate) snub_check: bool,
}

impl End {
    pub(crate) fn new(node: usize, key: Option<ConnKey>, attach: Option<Box<Attach>>) -> Self {
        let told = Bitfield::new(0);
        Self {
            node,
            key,
            upload_only: attach.as_ref().is_some_and(|attach| attach.upload_only),
            attach,
            told,
            owes_pieces: false,
            is_choking: true,
            allowed: BTreeSet::new(),
            requests: Vec::new(),
            cancelled: Vec::new(),
            asked: Vec::new(),
            queue: VecDeque::new(),
            credit_bytes: None,
            receive_credit: None,
            unread: VecDeque::new(),
            window: 4,
            rate: 0.0,
            last_block: Time::ZERO,
            snub_check: false,
        }
    }

    /// A block has come: the window that follows, if it is another.
    pub(crate) fn measure(&mut self, now: Time, len: u32, rtt: Duration) -> Option<u32> {
        let gap = now.since(self.last_block).as_secs_f64().max(1e-3);
        self.last_block = now;
        let weight = (gap / 2.0).min(1.0);
        self.rate = self.rate * (1.0 - weight) + f64::from(len) / gap * weight;
        let depth = self.rate * (rtt.as_secs_f64() + 0.5) * 1.5 / f64::from(BLOCK_LEN);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped"
        )]
        let window = depth.clamp(4.0, 500.0) as u32;
        (window != self.window).then(|| {
            self.window = window;
            window
        })
    }

    pub(crate) fn take_request(&mut self, span: BlockSpan) -> bool {
        take(&mut self.requests, span)
    }

    pub(crate) fn take_cancelled(&mut self, span: BlockSpan) -> bool {
        take(&mut self.cancelled, span)
    }

    pub(crate) fn take_asked(&mut self, span: BlockSpan) -> bool {
        take(&mut self.asked, span)
    }

    pub(crate) fn may_send(&self) -> bool {
        !self.queue.is_empty() && self.credit_bytes.is_none_or(|credit| credit > 0)
    }

    pub(crate) fn silence(&self, now: Time) -> Duration {
        now.since(self.last_block)
    }

    pub(crate) fn touch(&mut self, now: Time) {
        self.last_block = now;
    }
}

fn take(list: &mut Vec<BlockSpan>, span: BlockSpan) -> bool {
    let at = list.iter().position(|other| *other == span);
    at.map(|at| list.remove(at)).is_some()
}
