//! An end that talks in messages: what a `PeerConn` does for its shard, without bytes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use riverrun_base::{Bitfield, BlockSpan, PieceIndex, Time};
use riverrun_metainfo::Info;
use riverrun_peer::{Arrival, Attach, PeerConfig, Window};

use crate::content::Payload;

/// How many times its queue's length a peer may request in vain before that is an attack, as for a real connection.
const FLOOD_FACTOR: u32 = 2;

/// One end.
#[expect(clippy::struct_excessive_bools, reason = "as the protocol has it")]
pub(crate) struct DirectEnd {
    /// Until both handshakes are through.
    pub(crate) attach: Option<Box<Attach>>,
    pub(crate) info: Option<Arc<Info>>,
    /// What the other end was told that this one has.
    pub(crate) told: Bitfield,
    /// The other end knows that this one has no more than it was told.
    pub(crate) has_claimed: bool,
    /// The other end's pieces came before the metadata did.
    pub(crate) owes_pieces: bool,
    pub(crate) is_choking: bool,
    pub(crate) upload_only: bool,
    /// Pieces that the other end may take although choked.
    pub(crate) allowed: Vec<PieceIndex>,
    /// Requests that this end has sent and that are not answered, and when.
    requests: VecDeque<(BlockSpan, Time)>,
    /// Those that were taken back.
    cancelled: Vec<BlockSpan>,
    /// Requests of the other end that are not read yet.
    asked: VecDeque<BlockSpan>,
    /// Requests of the other end in vain since it last did right.
    in_vain: u32,
    /// Blocks to send.
    pub(crate) queue: VecDeque<(BlockSpan, Payload)>,
    /// The block that the uplink sends.
    pub(crate) sending: Option<(BlockSpan, Payload, Time)>,
    /// What may be sent; `None` is without limit.
    pub(crate) send_credit: Option<i64>,
    /// What may be received; `None` is without limit.
    pub(crate) receive_credit: Option<i64>,
    window: Window,
    /// When the last block came, or the first was requested after none was owed.
    last_block: Time,
    /// A look for a snub is scheduled.
    pub(crate) snub_planned: bool,
    has_poisoned: bool,
}

impl DirectEnd {
    pub(crate) fn new(config: &PeerConfig) -> Self {
        let mut window = Window::new(config.request_window_max, config.request_window_time_max);
        window.set_peer_queue_max(config.request_queue_max.into());
        Self {
            attach: None,
            info: None,
            told: Bitfield::new(0),
            has_claimed: false,
            owes_pieces: false,
            is_choking: true,
            upload_only: false,
            allowed: Vec::new(),
            requests: VecDeque::new(),
            cancelled: Vec::new(),
            asked: VecDeque::new(),
            in_vain: 0,
            queue: VecDeque::new(),
            sending: None,
            send_credit: None,
            receive_credit: None,
            window,
            last_block: Time::ZERO,
            snub_planned: false,
            has_poisoned: false,
        }
    }

    pub(crate) fn attach(&mut self, attach: Box<Attach>) {
        self.upload_only = attach.upload_only;
        self.info.clone_from(&attach.info);
        self.attach = Some(attach);
    }

    /// Requests go out; whether a look for a snub is to be scheduled.
    ///
    /// # Panics
    ///
    /// If one of them is under way, which the decisions never do.
    pub(crate) fn request(&mut self, now: Time, spans: &[BlockSpan]) -> bool {
        if self.requests.is_empty() {
            self.window.handle_start(now);
            self.last_block = now;
        }
        for span in spans {
            debug_assert!(
                self.requests.iter().all(|(other, _)| other != span),
                "{span} is requested twice"
            );
            self.requests.push_back((*span, now));
        }
        !std::mem::replace(&mut self.snub_planned, true)
    }

    /// Takes a request of ours back.
    ///
    /// # Panics
    ///
    /// If there is none, which the decisions never do.
    pub(crate) fn cancel(&mut self, span: BlockSpan) {
        assert!(
            self.take_request(span).is_some(),
            "{span} was not requested"
        );
        self.cancelled.push(span);
    }

    /// A request of ours was answered with no block; whether anybody waits for it.
    pub(crate) fn rejected(&mut self, span: BlockSpan) -> bool {
        !self.take_cancelled(span) && self.take_request(span).is_some()
    }

    /// All requests of ours, oldest first.
    pub(crate) fn requested(&self) -> Vec<BlockSpan> {
        self.requests.iter().map(|(span, _)| *span).collect()
    }

    /// A block has come; whether anybody waits for it.
    pub(crate) fn received(&mut self, now: Time, span: BlockSpan) -> bool {
        if let Some(credit) = &mut self.receive_credit {
            *credit -= i64::from(span.len);
        }
        if self.take_cancelled(span) {
            return false;
        }
        let under_way = self.requests.len();
        let Some(sent_at) = self.take_request(span) else {
            return false;
        };
        self.last_block = now;
        let arrival = Arrival {
            len: span.len,
            latency: now - sent_at,
            under_way,
        };
        self.window.handle_arrival(now, arrival);
        true
    }

    /// The window, if it has changed.
    pub(crate) fn window_change(&mut self) -> Option<u32> {
        self.window.take_change()
    }

    /// Looks for a snub: whether there is one, and when to look again.
    pub(crate) fn look_for_snub(&mut self, now: Time, timeout: Duration) -> (bool, Option<Time>) {
        if self.requests.is_empty() {
            self.snub_planned = false;
            return (false, None);
        }
        let timeout = self.window.patience(timeout);
        let due = self.last_block + timeout;
        if due > now {
            return (false, Some(due));
        }
        self.last_block = now;
        // Who does not read cannot complain of silence.
        let reads = self.receive_credit.is_none_or(|credit| credit > 0);
        if reads {
            self.window.handle_snub();
        }
        (reads, Some(now + timeout))
    }

    /// The other end asks for a block: whether that is admitted. `None` if it has asked in vain too often.
    pub(crate) fn admit(&mut self, span: BlockSpan, queue_max: u32) -> Option<bool> {
        let may = !self.is_choking || self.allowed.contains(&span.piece);
        if may && self.asked.len() + self.queue.len() < queue_max as usize {
            self.asked.push_back(span);
            self.in_vain = 0;
            return Some(true);
        }
        self.in_vain += 1;
        (self.in_vain <= queue_max * FLOOD_FACTOR).then_some(false)
    }

    /// A request of the other end is answered; whether it was still waiting.
    pub(crate) fn take_asked(&mut self, span: BlockSpan) -> bool {
        take(&mut self.asked, |other| *other == span).is_some()
    }

    /// The other end takes a request back; whether it was in time.
    pub(crate) fn take_back(&mut self, span: BlockSpan) -> bool {
        self.take_asked(span) || take(&mut self.queue, |(other, _)| *other == span).is_some()
    }

    /// Chokes the other end; gives what it will not get.
    pub(crate) fn choke(&mut self) -> Box<[BlockSpan]> {
        self.is_choking = true;
        self.in_vain = 0;
        let allowed = &self.allowed;
        let mut lost = Vec::new();
        self.asked.retain(|span| {
            let kept = allowed.contains(&span.piece);
            if !kept {
                lost.push(*span);
            }
            kept
        });
        self.queue.retain(|(span, _)| {
            let kept = allowed.contains(&span.piece);
            if !kept {
                lost.push(*span);
            }
            kept
        });
        lost.into()
    }

    pub(crate) fn unchoke(&mut self) {
        self.is_choking = false;
        self.in_vain = 0;
    }

    /// More may be sent and received.
    pub(crate) fn grant(&mut self, send_bytes: Option<u64>, receive_bytes: Option<u64>) {
        let add = |before: Option<i64>, more: Option<u64>| {
            let more = i64::try_from(more?).unwrap_or(i64::MAX);
            Some(before.unwrap_or(0).saturating_add(more))
        };
        self.send_credit = add(self.send_credit, send_bytes);
        self.receive_credit = add(self.receive_credit, receive_bytes);
    }

    pub(crate) fn may_send(&self) -> bool {
        !self.queue.is_empty() && self.send_credit.is_none_or(|credit| credit > 0)
    }

    pub(crate) fn may_receive(&self) -> bool {
        self.receive_credit.is_none_or(|credit| credit > 0)
    }

    /// Whether this is the first block that a poisoner poisons here.
    pub(crate) fn first_poison(&mut self) -> bool {
        !std::mem::replace(&mut self.has_poisoned, true)
    }

    /// Nothing is sent any more.
    pub(crate) fn end(&mut self) {
        self.queue = VecDeque::new();
        self.asked = VecDeque::new();
        self.requests = VecDeque::new();
        self.attach = None;
        self.info = None;
    }

    fn take_request(&mut self, span: BlockSpan) -> Option<Time> {
        take(&mut self.requests, |(other, _)| *other == span).map(|(_, at)| at)
    }

    fn take_cancelled(&mut self, span: BlockSpan) -> bool {
        let at = self.cancelled.iter().position(|other| *other == span);
        at.map(|at| self.cancelled.remove(at)).is_some()
    }
}

fn take<T>(list: &mut VecDeque<T>, is_it: impl Fn(&T) -> bool) -> Option<T> {
    let at = list.iter().position(is_it)?;
    list.remove(at)
}
