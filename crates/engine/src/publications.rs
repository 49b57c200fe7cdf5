//! What a publisher names, as it changes (BEP 46).

use std::time::Duration;

use riverrun_base::{InfoHash, Sha1Digest};
use riverrun_dht::{ItemName, Question, Stored};
use riverrun_metainfo::{Magnet, PublisherLink};
use tokio::time::Instant;

use crate::dht::DhtHandle;
use crate::error::EngineStopped;

/// What was found is put again after so long, so that it outlives a publisher who is away: nodes forget items after two
/// hours, and anybody may put them again (BEP 44).
const PUT_INTERVAL: Duration = Duration::from_hours(1);

/// The torrents that a publisher names, one after the other: [`Engine::publications`](crate::Engine::publications).
#[derive(Debug)]
pub struct Publications {
    dht: DhtHandle,
    link: PublisherLink,
    interval: Duration,
    latest: Option<Stored>,
    looked_at: Option<Instant>,
    put_at: Instant,
}

impl Publications {
    /// The least time between two looks: each asks some dozens of strangers.
    pub const INTERVAL_MIN: Duration = Duration::from_secs(1);

    pub(crate) fn new(dht: DhtHandle, link: PublisherLink, interval: Duration) -> Self {
        Self {
            dht,
            link,
            interval: interval.max(Self::INTERVAL_MIN),
            latest: None,
            looked_at: None,
            put_at: Instant::now(),
        }
    }

    /// Waits until the publisher names a torrent, and after that until it names another one. Looks at once for the first
    /// time, and then once an interval. While this is not awaited, nothing is looked for.
    pub async fn next(&mut self) -> Result<Magnet, EngineStopped> {
        loop {
            if let Some(at) = self.looked_at {
                tokio::time::sleep(self.interval.saturating_sub(at.elapsed())).await;
            }
            if let Some(magnet) = self.look().await? {
                return Ok(magnet);
            }
            self.keep_alive().await?;
        }
    }

    /// Looks once, now. `None` if there is nothing, or nothing newer than what was found before. What is found here,
    /// [`Publications::next`] does not name again; it looks an interval later.
    pub async fn look(&mut self) -> Result<Option<Magnet>, EngineStopped> {
        self.looked_at = Some(Instant::now());
        let name = ItemName::Mutable {
            key: self.link.public_key,
            salt: self.link.salt.clone(),
        };
        let found = self.dht.item(name).await?;
        let seen = self.latest.as_ref().and_then(Stored::seq);
        let Some(item) = found.filter(|item| item.seq() > seen) else {
            return Ok(None);
        };
        let before = self.latest.as_ref().and_then(Stored::info_hash);
        let named = item.info_hash();
        self.latest = Some(item);
        // A version with a higher number may name the same torrent, or none.
        let new = named.filter(|named| Some(*named) != before);
        Ok(new.map(|InfoHash(bytes)| self.link.torrent(Sha1Digest(bytes))))
    }

    async fn keep_alive(&mut self) -> Result<(), EngineStopped> {
        let Some(item) = self.latest.clone() else {
            return Ok(());
        };
        if self.put_at.elapsed() >= PUT_INTERVAL {
            self.put_at = Instant::now();
            let put = self.dht.search(Question::Put { item, cas: None }).await?;
            // Whoever refuses has a newer one, which the next look finds.
            let _ = put.report().await;
        }
        Ok(())
    }
}
