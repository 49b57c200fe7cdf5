//! What is different in an engine from what it was.

use riverrun_swarm::{Revision, TorrentKey, TorrentStats};
use tokio::sync::{mpsc, oneshot};

use crate::driver::shard::ShardMessage;
use crate::error::EngineStopped;
use crate::torrent::TorrentHandle;

/// What has changed in an [`Engine`](crate::Engine) since a [`Revision`].
#[derive(Clone, Debug)]
pub struct Changes {
    /// Where to go on from the next time.
    pub revision: Revision,
    /// Everything is listed, and what is not listed is not there: who asks has missed too much.
    pub is_whole: bool,
    /// The torrents that are new or have changed, as they are now; the one that changed last is first.
    pub torrents: Vec<(TorrentHandle, TorrentStats)>,
    /// The torrents that are not there any more; empty if everything is listed.
    pub removed: Vec<TorrentKey>,
}

impl Changes {
    pub(crate) fn new(
        changes: riverrun_swarm::Changes,
        handle: impl Fn(TorrentKey) -> Option<TorrentHandle>,
    ) -> Self {
        let torrents = changes.torrents.into_iter();
        Self {
            revision: changes.revision,
            is_whole: changes.is_whole,
            torrents: torrents
                .filter_map(|(key, stats)| Some((handle(key)?, stats)))
                .collect(),
            removed: changes.removed,
        }
    }
}

/// Asks the shard's task.
pub(crate) async fn changes_since(
    shard: &mpsc::Sender<ShardMessage>,
    since: Revision,
) -> Result<Changes, EngineStopped> {
    let (reply, answer) = oneshot::channel();
    let asked = shard.send(ShardMessage::Changes { since, reply }).await;
    asked.map_err(|_| EngineStopped)?;
    answer.await.map_err(|_| EngineStopped)
}
