//! What is left of a torrent that [dozes](super::doze), when nothing happens to it.
//!
//! Most of what decides about peers and pieces is empty then, and takes room all the same. A stub is what is not, and
//! all else is made anew whenever something happens.

use riverrun_base::{InfoHashes, Rng, Time};

use super::announce::Announcer;
use super::dht::DhtSchedule;
use super::doze::{Rest, Rested};
use super::rates::Totals;
use super::{Lifecycle, Rates, Torrent};
use crate::bans::Bans;
use crate::candidates::Candidates;
use crate::input::TorrentOptions;
use crate::key::TorrentKey;
use crate::local::LocalAnnouncer;
use crate::web_seeds::WebSeeds;

/// A torrent that dozes, put away.
#[derive(Clone)]
pub(crate) struct Stub {
    key: TorrentKey,
    hashes: InfoHashes,
    options: TorrentOptions,
    is_completed: bool,
    rest: Rested,
    /// Whom it knows, if it knows somebody.
    book: Option<Box<(Candidates, Bans, WebSeeds)>>,
    announcer: Announcer,
    dht: DhtSchedule,
    local: LocalAnnouncer,
    totals: Totals,
    /// For randomness from here on.
    seed: u64,
}

impl Torrent {
    /// Whether a [stub](Stub) says all that there is to say of it.
    pub(crate) fn can_be_put_away(&self) -> bool {
        self.life.is_dozing() && self.peers.is_empty() && !self.rest.has_callers()
    }

    /// Puts it away.
    pub(crate) fn put_away(mut self) -> Stub {
        self.announcer.shrink();
        let knows =
            self.candidates.len() > 0 || !self.bans.is_empty() || !self.web_seeds.is_empty();
        Stub {
            key: self.key,
            hashes: self.hashes,
            options: self.options,
            is_completed: self.life.is_completed,
            rest: self.rest.put_away(),
            book: knows.then(|| Box::new((self.candidates, self.bans, self.web_seeds))),
            announcer: self.announcer,
            dht: self.dht,
            local: self.local,
            totals: self.rates.all(),
            seed: self.rng.next_u64(),
        }
    }
}

impl Stub {
    /// What is known without the rest of it.
    pub(crate) const fn hashes(&self) -> InfoHashes {
        self.hashes
    }

    /// The torrent as it was put away.
    pub(crate) fn take_out(self, now: Time) -> Torrent {
        let (candidates, bans, web_seeds) = self.book.map_or_else(Default::default, |book| *book);
        Torrent {
            key: self.key,
            hashes: self.hashes,
            life: Lifecycle::dozing(self.is_completed),
            meta: None,
            rest: Rest::take_out(self.rest),
            fetch: super::MetadataFetch::default(),
            pieces: None,
            changes: super::Changes::default(),
            hash_fetch: super::HashFetch::default(),
            relay: super::Relay::default(),
            peers: super::Peers::default(),
            candidates,
            choker: super::Choker::default(),
            reveal: super::Reveal::default(),
            serving: super::Serving::default(),
            announcer: self.announcer,
            dht: self.dht,
            exchanger: super::Exchanger::default(),
            local: self.local,
            web_seeds,
            bans,
            rates: Rates::of(now, self.totals, self.options.limits),
            rng: Rng::new(self.seed),
            options: self.options,
        }
    }
}
