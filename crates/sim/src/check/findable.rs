//! That who announces in the DHT is found there, in spite of liars (S9).

use std::net::SocketAddr;
use std::time::Duration;

use riverrun_base::Time;
use riverrun_swarm::TorrentState;

use super::{Findings, PerHost, Property, is_sound};
use crate::ids::HostId;
use crate::observe::Happening;
use crate::services::Service;
use crate::world::World;

/// Of how many nodes one may lie.
const LIARS_ONE_IN: usize = 5;
/// Of how many searches one may find nobody who was there.
const VAIN_ONE_IN: u32 = 20;
/// How long nodes need to know each other, after they have come or something has befallen them.
const SETTLE: Duration = Duration::from_secs(30);
/// A line that takes less than this, in bytes per second, is full for longer than datagrams wait while a block passes.
const LINE_LEAST: u64 = 500_000;

#[derive(Debug, Default)]
pub(super) struct Findable {
    hosts: PerHost<Presence>,
    /// When something was lost last of what nodes know, or nobody knew anything.
    upset_at: Time,
    is_split: bool,
    tally: Searches,
}

/// What one host has said of itself.
#[derive(Debug, Default)]
struct Presence {
    /// When it had told the nodes nearest to its torrent, the last time.
    announced: Option<Time>,
}

/// How searches went of which something can be said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Searches {
    /// How many there were.
    pub count: u32,
    /// How many have found nobody who was there.
    pub in_vain: u32,
}

impl Searches {
    /// Whether this is more than chance, if one in [`VAIN_ONE_IN`] may be in vain: three standard deviations.
    const fn are_bad(self) -> bool {
        let expected = self.count / VAIN_ONE_IN;
        self.in_vain > expected + 3 * expected.isqrt() + 1
    }
}

impl Findable {
    pub(super) const fn tally(&self) -> Searches {
        self.tally
    }

    pub(super) fn see(&mut self, world: &World, happening: &Happening) {
        match happening {
            Happening::Split { is_split } => {
                self.is_split = *is_split;
                self.upset_at = world.now();
            }
            Happening::Crashed { .. }
            | Happening::Restarted { .. }
            | Happening::Left { .. }
            | Happening::ClockMoved { .. } => self.upset_at = world.now(),
            Happening::Sought {
                by,
                began,
                announced,
                no_seeds,
                found,
            } => {
                let is_calm = !self.is_split && world.now() > self.upset_at + SETTLE;
                if !is_calm || !is_fit(world, *by) || !liars_are_few(world) {
                    return;
                }
                if !no_seeds {
                    self.judge(world, *by, *began, found);
                }
                if *announced {
                    self.hosts.of(*by).announced = Some(world.now());
                }
            }
            _ => {}
        }
    }

    /// Whether a search has found somebody, if somebody was there.
    fn judge(&mut self, world: &World, by: HostId, began: Time, found: &[SocketAddr]) {
        let mut there = Vec::new();
        for (other, host) in world.hosts().filter(|(other, _)| *other != by) {
            let announced = self.hosts.of(other).announced;
            let is_known = announced.is_some_and(|at| at > self.upset_at + SETTLE && at < began);
            if is_known && is_fit(world, other) {
                there.push(host.addr());
            }
        }
        if there.is_empty() {
            return;
        }
        self.tally.count += 1;
        let is_vain = there.iter().all(|addr| !found.contains(addr));
        self.tally.in_vain += u32::from(is_vain);
    }

    /// Once it is over: whether searches were worth their while.
    pub(super) fn finish(&self, world: &World, findings: &mut Findings) {
        let Searches { count, in_vain } = self.tally;
        let asker = world.hosts().find(|(id, _)| is_fit(world, *id));
        if let Some((id, _)) = asker.filter(|_| self.tally.are_bad()) {
            let what = format!("{in_vain} of {count} searches have found nobody who was there");
            findings.add(Property::FoundInTheDht, id, what);
        }
    }
}

/// Whether a host can do its part in the DHT: it is sound, there and awake, in a swarm, and its line has room.
fn is_fit(world: &World, id: HostId) -> bool {
    let host = world.host(id);
    let in_swarm = host
        .shard()
        .zip(host.torrent())
        .is_some_and(|(shard, own)| {
            let stats = shard.stats(world.now_at(id), own);
            stats.is_some_and(|stats| {
                !matches!(
                    stats.state,
                    TorrentState::Stopped | TorrentState::Opening | TorrentState::Checking
                )
            })
        });
    let lines = [host.config.up, host.config.down];
    let has_room = lines.into_iter().flatten().all(|rate| rate >= LINE_LEAST);
    in_swarm && has_room && is_sound(world, id) && !world.is_asleep(id)
}

fn liars_are_few(world: &World) -> bool {
    let nodes = world
        .hosts()
        .filter(|(_, host)| host.config.serves.contains(&Service::Node));
    let (mut all, mut liars) = (0, 0);
    for (_, host) in nodes {
        all += 1;
        liars += usize::from(host.config.manners.node_liar);
    }
    liars * LIARS_ONE_IN <= all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_searches_may_be_in_vain() {
        for (count, in_vain, are_bad) in [
            (0, 0, false),
            (5, 1, false),
            (5, 2, true),
            (20, 5, false),
            (20, 6, true),
            (2000, 132, true),
        ] {
            assert_eq!(
                Searches { count, in_vain }.are_bad(),
                are_bad,
                "{in_vain} of {count}"
            );
        }
    }
}
