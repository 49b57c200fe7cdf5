//! How torrents are kept from run to run, and how those of the last run come back.

use std::fs::File;
use std::sync::OnceLock;

use riverrun_metainfo::HostPort;
use riverrun_swarm::Discovery;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::driver::shard::{NewTorrent, ShardMessage, Taken};
use crate::engine::Engine;
use crate::error::StartError;
use crate::intake::Batch;
use crate::known::decided_by;
use crate::session::{Claim, Keeper, Kept, KeptId, Seal, Session, Unreadable};
use crate::torrent::Times;

/// How many nodes of the DHT that torrents name are asked at the start: that many torrents are seldom of as many sources,
/// and one that answers is enough.
const NODES_MAX: usize = 64;

/// What an engine has that keeps its torrents.
#[derive(Debug)]
pub(crate) struct Keeping {
    pub(crate) keeper: Keeper,
    session: Session,
    /// While it is open, no other process keeps its torrents in the same place.
    _lock: File,
    unreadable: OnceLock<Vec<Unreadable>>,
    /// Keeps what changes.
    task: AbortHandle,
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeping {
    pub(crate) fn begin(
        claim: Claim,
        session: &Session,
        shard: &mpsc::Sender<ShardMessage>,
    ) -> Self {
        let keeper = Keeper::new(session.clone(), shard.clone(), claim.next_id);
        Self {
            _lock: claim.lock,
            task: tokio::spawn(keeper.clone().run()).abort_handle(),
            keeper,
            session: session.clone(),
            unreadable: OnceLock::new(),
        }
    }

    /// What could not be taken in.
    pub(crate) fn unreadable(&self) -> &[Unreadable] {
        self.unreadable.get().map_or(&[], Vec::as_slice)
    }
}

/// Adds the nodes of the DHT that a torrent names, as far as there is room for them.
fn collect_nodes(nodes: &mut Vec<HostPort>, kept: &Kept) {
    let digest = kept.standing.digest.as_ref();
    let metainfo = kept.metainfo.as_ref();
    let is_private = digest.is_some_and(|digest| digest.summary.is_private)
        || metainfo.is_some_and(|metainfo| metainfo.info.is_private());
    if !Discovery::Dht.allowed(is_private) {
        return;
    }
    for node in &kept.addition.nodes {
        if nodes.len() < NODES_MAX && !nodes.contains(node) {
            nodes.push(node.clone());
        }
    }
}

impl Engine {
    /// Takes in the torrents that were kept, if they are, in the order in which they were added, while the next ones
    /// are being read.
    pub(crate) async fn restore(&self) -> Result<(), StartError> {
        let Some(keeping) = &self.inner.keeping else {
            return Ok(());
        };
        let _paused = keeping.keeper.pause().await;
        let _batch = Batch::begin(&self.shard).await;
        let mut reading = keeping.session.torrents();
        let (mut unreadable, mut coming, mut nodes) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(found) = reading.torrents.recv().await {
            match found {
                Ok(kept) => {
                    collect_nodes(&mut nodes, &kept);
                    coming.push(self.bring_back(kept).await);
                }
                Err(lost) => {
                    tracing::error!(name = lost.name, why = lost.why, "a torrent is not read");
                    unreadable.push(lost);
                }
            }
        }
        // Without an answer the thread has panicked, which is no empty session either.
        let ended = reading
            .ended
            .await
            .unwrap_or_else(|_| Err("internal error".to_owned()));
        ended.map_err(|message| keeping.session.failure(&message))?;
        for (id, seal, answer) in coming {
            // The shard's task lives as long as the engine.
            if let Ok(taken) = answer.await {
                keeping.keeper.register(taken.torrent.key(), id, seal);
            }
        }
        self.meet_nodes(nodes);
        // This is done once.
        let _ = keeping.unreadable.set(unreadable);
        Ok(())
    }

    async fn bring_back(&self, kept: Kept) -> (KeptId, Option<Seal>, oneshot::Receiver<Taken>) {
        let Kept {
            id,
            addition,
            standing,
            seal,
            metainfo,
        } = kept;
        // Metadata that is in memory says more: a link may have named a hybrid by one of its names.
        let digest = standing.digest.filter(|_| metainfo.is_none());
        let said = metainfo.as_ref().map(|metainfo| metainfo.info.hashes());
        let said = said.or(digest.as_ref().map(|digest| digest.hashes));
        let torrent = riverrun_swarm::AddTorrent {
            request: 0,
            hashes: said.unwrap_or(addition.hashes),
            metadata: metainfo.as_ref().map(decided_by),
            summary: digest.as_ref().map(|digest| digest.summary),
            trackers: addition.trackers,
            peers: Vec::new(),
            web_seeds: addition.web_seeds,
            options: standing.options,
            uploaded_bytes: standing.uploaded_bytes,
            downloaded_bytes: standing.downloaded_bytes,
        };
        let (reply, answer) = oneshot::channel();
        let new = NewTorrent {
            torrent,
            root: addition.dir,
            storage: addition.storage,
            transports: addition.transports,
            times: Times {
                added: addition.added_at,
                completed: standing.completed_at,
            },
            name: digest.map(|digest| digest.name.into()),
            keep: None,
            reply,
        };
        // Without the shard's task there is no answer.
        let _ = self.shard.send(ShardMessage::Add(Box::new(new))).await;
        (id, seal, answer)
    }
}
