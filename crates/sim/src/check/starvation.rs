//! Whether seeds serve everybody who waits (S6).

use std::collections::BTreeMap;
use std::time::Duration;

use riverrun_base::Time;
use riverrun_swarm::{ConnKey, PeerStats, TorrentState};

use super::{Findings, PerHost, Property, is_sound};
use crate::host::Host;
use crate::ids::HostId;
use crate::world::World;

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long one turn in a slot lasts at most, with the round that ends it.
const TURN_MAX: Duration = Duration::from_secs(75);
/// Slots when nothing else is said; the fewest that an upload limit leaves is three.
const SLOTS_FEWEST: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Starvation {
    next: Time,
    hosts: PerHost<Queue>,
}

/// Since when peers of one host wait, and how many have waited at most since.
#[derive(Debug, Default)]
struct Queue {
    since: BTreeMap<ConnKey, Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    since: Time,
    rivals_max: u32,
    is_told: bool,
}

impl Starvation {
    /// Looks at everybody, if it is time to.
    pub(super) fn look(&mut self, world: &World, findings: &mut Findings) {
        if world.now() < self.next {
            return;
        }
        self.next = world.now() + LOOK_EVERY;
        for (id, host) in world.hosts() {
            let queue = self.hosts.of(id);
            match seed_peers(world, id, host) {
                Some(peers) => queue.look(world.now(), id, host, &peers, findings),
                None => queue.since.clear(),
            }
        }
    }
}

/// The peers of a sound host that only gives, and is awake.
fn seed_peers(world: &World, id: HostId, host: &Host) -> Option<Vec<PeerStats>> {
    let (shard, torrent) = (host.shard()?, host.torrent()?);
    let now = world.now_at(id);
    let is_seed = shard.stats(now, torrent)?.state == TorrentState::Seeding;
    let may_reveal = host.config.super_seed;
    let is_whole = is_sound(world, id) && !may_reveal && !world.is_asleep(id);
    (is_seed && is_whole).then(|| shard.peers(now, torrent))
}

impl Queue {
    fn look(
        &mut self,
        now: Time,
        id: HostId,
        host: &Host,
        peers: &[PeerStats],
        findings: &mut Findings,
    ) {
        let waits = |peer: &&PeerStats| peer.is_interested && !peer.is_unchoked;
        self.since
            .retain(|conn, _| peers.iter().filter(waits).any(|peer| peer.conn == *conn));
        let rivals = peers.iter().filter(|peer| peer.is_interested).count();
        let rivals = u32::try_from(rivals).unwrap_or(u32::MAX);
        let slots = host.config.slots.unwrap_or(SLOTS_FEWEST).max(1);
        for peer in peers.iter().filter(waits) {
            let waiting = self.since.entry(peer.conn).or_insert(Waiting {
                since: now,
                rivals_max: rivals,
                is_told: false,
            });
            waiting.rivals_max = waiting.rivals_max.max(rivals);
            let turns = waiting.rivals_max.div_ceil(slots) + 1;
            let waited = now.since(waiting.since);
            if waited > TURN_MAX * turns && !std::mem::replace(&mut waiting.is_told, true) {
                let what = format!(
                    "lets {} wait for {} s beside {} rivals for {slots} slots",
                    peer.addr,
                    waited.as_secs(),
                    waiting.rivals_max
                );
                findings.add(Property::NobodyStarves, id, what);
            }
        }
    }
}
