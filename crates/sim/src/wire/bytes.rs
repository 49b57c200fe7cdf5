//! An end that is a real connection: handshake, codec, timers, byte by byte.

use riverrun_base::{BlockMut, Blocks, Time};
use riverrun_peer::{PeerConn, SendBatch};

/// How many bytes of one connection pass an uplink in one turn: about a block.
pub(crate) const CHUNK_BYTES: usize = 16 * 1024 + 13;

/// Memory for payload without end: what bounds a real engine's is not under test here.
pub(crate) struct Plenty;

impl Blocks for Plenty {
    fn allocate(&self, len: usize) -> Option<BlockMut> {
        Some(BlockMut::unbudgeted(len))
    }
}

/// One end.
pub(crate) struct BytesEnd {
    pub(crate) conn: PeerConn,
    pub(crate) batch: SendBatch,
    /// What has come and was not taken yet.
    pub(crate) inbox: Vec<u8>,
    /// What the uplink sends.
    pub(crate) sending: Option<(Vec<u8>, Time)>,
    /// When the next timer is scheduled.
    pub(crate) timer_at: Option<Time>,
    /// When what came last had begun to leave the other end.
    pub(crate) began: Time,
    pub(crate) has_poisoned: bool,
}

impl BytesEnd {
    pub(crate) fn new(conn: PeerConn) -> Self {
        Self {
            conn,
            batch: SendBatch::new(),
            inbox: Vec::new(),
            sending: None,
            timer_at: None,
            began: Time::ZERO,
            has_poisoned: false,
        }
    }

    /// Puts together what is to be sent.
    pub(crate) fn fill(&mut self, now: Time) {
        if self.batch.is_empty() {
            let _ = self.conn.poll_transmit(now, &mut self.batch);
        }
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.batch.is_empty()
    }

    /// The next bytes for the uplink.
    pub(crate) fn take_chunk(&mut self) -> Vec<u8> {
        let mut chunk = Vec::with_capacity(self.batch.len_bytes().min(CHUNK_BYTES));
        for slice in self.batch.slices() {
            let room = CHUNK_BYTES - chunk.len();
            chunk.extend_from_slice(&slice[..slice.len().min(room)]);
            if chunk.len() == CHUNK_BYTES {
                break;
            }
        }
        self.batch.advance(chunk.len());
        self.conn.handle_written(&mut self.batch);
        chunk
    }
}
