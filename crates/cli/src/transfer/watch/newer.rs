//! Torrents that come in the place of the one that is watched.

use riverrun_engine::TorrentHandle;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::Watched;
use crate::failure::Outcome;
use crate::transfer::progress::{Progress, hashes_json, joined};
use crate::values::PathGlob;

/// What a publisher names after the torrent that is watched, which is removed before; or why a newer one cannot be had.
pub(crate) struct Newer {
    incoming: mpsc::Receiver<Outcome<TorrentHandle>>,
    /// What is wanted of each.
    select: Vec<PathGlob>,
    /// The one before is removed already.
    is_due: bool,
}

impl Newer {
    pub(crate) const fn new(
        incoming: mpsc::Receiver<Outcome<TorrentHandle>>,
        select: Vec<PathGlob>,
    ) -> Self {
        Self {
            incoming,
            select,
            is_due: false,
        }
    }
}

impl Watched {
    /// Others will come in its place.
    pub(crate) fn replaced_by(&mut self, newer: Newer) {
        self.newer = Some(newer);
    }

    /// It is removed: that is its end, unless another one comes.
    pub(super) fn removed(&mut self) {
        match &mut self.newer {
            Some(newer) => {
                newer.is_due = true;
                self.stats = None;
            }
            None => self.end(Ok(())),
        }
    }

    /// Watches the one that has come in its place. Whether one has.
    pub(super) fn replace(&mut self, progress: &mut Progress<'_>) -> Outcome<bool> {
        let Some(newer) = &mut self.newer else {
            return Ok(false);
        };
        let torrent = match newer.incoming.try_recv() {
            Ok(Ok(torrent)) => torrent,
            Ok(Err(failure)) => {
                self.end(Err(failure));
                return Ok(false);
            }
            Err(TryRecvError::Disconnected) if newer.is_due => {
                self.end(Ok(()));
                return Ok(false);
            }
            Err(_) => return Ok(false),
        };
        let (old, new) = (self.torrent.name(), torrent.name());
        let event = json!({ "event": "newer", "replaces": old, "name": new });
        progress.event(&joined(event, hashes_json(torrent.info_hashes())))?;
        progress.say(format!("{old}: its publisher names a newer torrent"));
        self.line.finish();
        let newer = self.newer.take();
        *self = Self::new(torrent, progress);
        if let Some(Newer {
            incoming, select, ..
        }) = newer
        {
            self.select_later(select.clone());
            self.newer = Some(Newer::new(incoming, select));
        }
        Ok(true)
    }
}
