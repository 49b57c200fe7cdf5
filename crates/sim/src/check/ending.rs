//! Whether all that should come to an end has (S8, S10).

use riverrun_swarm::TorrentState;

use super::{Property, Violation, is_sound};
use crate::host::Life;
use crate::ids::HostId;
use crate::world::World;

/// Which sound hosts are there and have not reached what they should, given time: each with what is wrong.
///
/// To be asked when faults are over and everybody has had the time that it needs.
pub fn unfinished(world: &World) -> Vec<Violation> {
    let there = world.hosts().filter(|(_, host)| host.life() == Life::Up);
    there
        .filter(|(id, host)| is_sound(world, *id) && host.has_torrents())
        .filter_map(|(id, _)| verdict(world, id))
        .collect()
}

fn verdict(world: &World, id: HostId) -> Option<Violation> {
    let host = world.host(id);
    let stats = host
        .shard()
        .zip(host.torrent())
        .and_then(|(shard, torrent)| shard.stats(world.now_at(id), torrent));
    let violation = |property, what| Violation {
        property,
        at: world.now(),
        host: Some(id),
        what,
    };
    let Some(stats) = stats else {
        let what = "its torrent was never added".to_owned();
        return Some(violation(Property::NoStateForEver, what));
    };
    match stats.state {
        TorrentState::Seeding | TorrentState::Finished => None,
        TorrentState::Downloading => {
            let what = format!(
                "has {} of {} pieces, {} connections, {} unchoke it",
                stats.verified, stats.pieces, stats.connected, stats.unchoking
            );
            Some(violation(Property::Completion, what))
        }
        state => {
            let what = format!("is still {state:?}");
            Some(violation(Property::NoStateForEver, what))
        }
    }
}
