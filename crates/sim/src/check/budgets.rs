//! Slots, connections, dials, rates (S5, S6).

use std::collections::BTreeSet;
use std::time::Duration;

use riverrun_swarm::ConnKey;

use super::{Findings, PerHost, Property, is_sound};
use crate::ids::HostId;
use crate::observe::Happening;
use crate::world::World;

/// Over how long limits are judged.
const WINDOW: Duration = Duration::from_secs(10);
/// How much more than a limit may move in that time, in percent.
const TOLERANCE_PERCENT: u64 = 5;
/// What may move at once beyond that: a block that each of some connections sends whole, on whatever credit is left.
const BURST_BYTES: u64 = 16 * 16_384;

#[derive(Debug, Default)]
pub(super) struct Budgets {
    hosts: PerHost<Account>,
}

/// What is known of one host.
#[derive(Debug, Default)]
struct Account {
    /// Two hosts may have two connections for a moment: each has a slot of its own, or none.
    unchoked: BTreeSet<ConnKey>,
    /// Payload by the second in which it began to leave, and in which it has come.
    sent: Vec<u64>,
    received: Vec<u64>,
}

impl Budgets {
    pub(super) fn see(&mut self, world: &World, happening: &Happening, findings: &mut Findings) {
        match happening {
            Happening::Choked {
                by, conn, choked, ..
            } => {
                let account = self.hosts.of(*by);
                if *choked {
                    account.unchoked.remove(conn);
                } else {
                    account.unchoked.insert(*conn);
                    self.count_slots(world, *by, findings);
                }
            }
            Happening::Crashed { host, .. } | Happening::Left { host } => {
                self.hosts.of(*host).unchoked.clear();
            }
            Happening::Connected { from, to } => {
                for host in [*from, *to] {
                    count_connections(world, host, findings);
                }
            }
            Happening::Received {
                from,
                to,
                span,
                began,
                ..
            } => {
                let len = u64::from(span.len);
                add(&mut self.hosts.of(*from).sent, began.as_micros(), len);
                add(
                    &mut self.hosts.of(*to).received,
                    world.now().as_micros(),
                    len,
                );
            }
            _ => {}
        }
    }

    fn count_slots(&mut self, world: &World, host: HostId, findings: &mut Findings) {
        let own = world.host(host);
        let usual = own.swarm_config.tuning.slots;
        let slots = own.config.slots.unwrap_or(usual).max(1);
        let unchoked = &mut self.hosts.of(host).unchoked;
        if unchoked.len() <= slots as usize || !is_sound(world, host) {
            return;
        }
        // A connection may be over for the decisions before the other side hears of it, and the other way round.
        let peers = own
            .shard()
            .zip(own.torrent())
            .map_or_else(Vec::new, |(shard, torrent)| {
                shard.peers(world.now_at(host), torrent)
            });
        let met = |conn: &ConnKey| {
            let is_known = peers.iter().any(|peer| peer.conn == *conn);
            is_known && world.other_end(host, *conn).is_some()
        };
        unchoked.retain(met);
        let unchoked = unchoked.len();
        if unchoked > slots as usize {
            let what = format!("has unchoked {unchoked} peers, and has {slots} slots");
            findings.add(Property::Budgets, host, what);
        }
    }

    /// Once it is over: whether limits were kept over every ten seconds.
    pub(super) fn finish(&mut self, world: &World, findings: &mut Findings) {
        for (id, host) in world.hosts().filter(|(id, _)| is_sound(world, *id)) {
            let account = self.hosts.of(id);
            let limited = [
                ("sent", host.config.upload_limit, &account.sent),
                ("received", host.config.download_limit, &account.received),
            ];
            for (verb, limit, seconds) in limited {
                let Some(limit) = limit else { continue };
                let window = WINDOW.as_secs();
                let most = limit * window * (100 + TOLERANCE_PERCENT) / 100 + BURST_BYTES;
                let moved = heaviest(seconds, usize::try_from(window).unwrap_or(usize::MAX));
                if moved > most {
                    let what = format!("has {verb} {moved} bytes in {window} s, limit {limit} B/s");
                    findings.add(Property::RateLimits, id, what);
                }
            }
        }
    }
}

fn count_connections(world: &World, host: HostId, findings: &mut Findings) {
    let own = world.host(host);
    let (open, most) = (own.connections(), own.config.connections_max as usize);
    if open > most && is_sound(world, host) {
        let what = format!("has {open} connections, of {most}");
        findings.add(Property::Budgets, host, what);
    }
}

fn add(seconds: &mut Vec<u64>, at_micros: u64, len: u64) {
    let Ok(second) = usize::try_from(at_micros / 1_000_000) else {
        return;
    };
    if seconds.len() <= second {
        seconds.resize(second + 1, 0);
    }
    seconds[second] += len;
}

/// The most that any `window` seconds in a row have.
fn heaviest(seconds: &[u64], window: usize) -> u64 {
    let windows = seconds.windows(window.min(seconds.len().max(1)));
    windows
        .map(|window| window.iter().sum())
        .max()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_window_is_found_wherever_it_lies() {
        assert_eq!(heaviest(&[], 3), 0);
        assert_eq!(heaviest(&[5, 1], 3), 6);
        assert_eq!(heaviest(&[5, 1, 0, 4, 4, 4, 1], 3), 12);
    }
}
