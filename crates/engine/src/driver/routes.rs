//! From a connection's key to its task.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use riverrun_base::Block;
use riverrun_peer::{Attach, PeerCommand};
use riverrun_swarm::{ConnKey, StorageFault};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

/// How many batches of commands wait for a connection's task. The task always receives, so that a batch waits
/// for no longer than one turn of its loop.
pub(crate) const CONN_INBOX_BATCHES: usize = 64;

/// Keys with this index name reads of the engine's own, not connections: a shard's slab never grows so far.
const READER_INDEX: u32 = u32::MAX;

/// What a connection's task is told.
#[derive(Debug)]
pub(crate) enum ConnMessage {
    /// The peer that dialled us is welcome.
    Accepted { conn: ConnKey, attach: Box<Attach> },
    /// What the decisions say, in order.
    Commands(Vec<PeerCommand>),
}

/// The answer to one read of the engine's own.
pub(crate) type ReadReply = Result<Block, StorageFault>;

/// Who receives what is addressed to a connection: shared by the shard's task, which adds and removes, and
/// the disk threads, which deliver blocks.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    conns: Mutex<HashMap<ConnKey, mpsc::Sender<ConnMessage>>>,
    reads: Mutex<Reads>,
}

#[derive(Debug, Default)]
struct Reads {
    next: u32,
    waiting: HashMap<ConnKey, oneshot::Sender<ReadReply>>,
}

impl Routes {
    pub(crate) fn add(&self, conn: ConnKey, inbox: mpsc::Sender<ConnMessage>) {
        lock(&self.conns).insert(conn, inbox);
    }

    pub(crate) fn remove(&self, conn: ConnKey) {
        lock(&self.conns).remove(&conn);
    }

    pub(crate) fn find(&self, conn: ConnKey) -> Option<mpsc::Sender<ConnMessage>> {
        lock(&self.conns).get(&conn).cloned()
    }

    /// Drops every route: the connections' tasks see their inbox closed, and end.
    pub(crate) fn clear(&self) {
        lock(&self.conns).clear();
        lock(&self.reads).waiting.clear();
    }

    /// A name for a read of the engine's own, and where its answer will come.
    pub(crate) fn open_read(&self) -> (ConnKey, oneshot::Receiver<ReadReply>) {
        let (reply, answer) = oneshot::channel();
        let mut reads = lock(&self.reads);
        reads.next = reads.next.wrapping_add(1);
        let key = ConnKey::new(READER_INDEX, reads.next);
        reads.waiting.insert(key, reply);
        (key, answer)
    }

    /// Whether a key names a read of the engine's own.
    pub(crate) const fn is_read(key: ConnKey) -> bool {
        key.index() == READER_INDEX
    }

    /// Answers a read of the engine's own.
    pub(crate) fn answer_read(&self, key: ConnKey, answer: ReadReply) {
        if let Some(reply) = lock(&self.reads).waiting.remove(&key) {
            // The reader may have been dropped: then nobody waits.
            let _ = reply.send(answer);
        }
    }

    /// Gives blocks that were read to their connection, if its inbox has room now; else gives them back. Never
    /// waits: storage calls from its threads and, for what it has in memory, from the shard's own task.
    pub(crate) fn serve(
        &self,
        conn: ConnKey,
        commands: Vec<PeerCommand>,
    ) -> Option<Vec<PeerCommand>> {
        let inbox = self.find(conn)?;
        match inbox.try_send(ConnMessage::Commands(commands)) {
            Err(TrySendError::Full(ConnMessage::Commands(commands))) => Some(commands),
            _ => None,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic elsewhere leaves these maps whole: each change is one call.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
