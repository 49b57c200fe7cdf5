//! How trackers are treated (S11).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use riverrun_base::{InfoHash, Time};
use riverrun_tracker::AnnounceEvent;

use super::{Findings, PerHost, Property, is_sound};
use crate::ids::HostId;
use crate::observe::Happening;
use crate::world::World;

/// Nobody says the same to a tracker more often than [`COUNT_MAX`] times in this time.
const WINDOW: Duration = Duration::from_secs(5);
/// A user may stop and start a torrent twice in that time.
const COUNT_MAX: usize = 2;
/// Nobody comes again by itself sooner than this, nor after a failure.
const PAUSE: Duration = Duration::from_secs(15);
/// Who has known a tracker for so long says goodbye to it.
const KNOWN: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Announces {
    hosts: PerHost<BTreeMap<Swarm, Talk>>,
}

/// A tracker's URL, and for what it is asked.
type Swarm = (String, InfoHash);

/// What one host has said to one tracker of one swarm, since its process began.
#[derive(Debug, Default)]
struct Talk {
    lately: VecDeque<(Time, AnnounceEvent)>,
    /// When it was told first that the host is there, unless it was told goodbye since.
    present: Option<Time>,
}

impl Announces {
    pub(super) fn see(&mut self, world: &World, happening: &Happening, findings: &mut Findings) {
        match happening {
            Happening::Announced {
                host,
                url,
                info_hash,
                event,
            } if is_sound(world, *host) => {
                let swarm = (url.clone(), *info_hash);
                self.announced(world.now_at(*host), *host, swarm, *event, findings);
            }
            Happening::Crashed { host, .. } => self.hosts.of(*host).clear(),
            Happening::Left { host } if is_sound(world, *host) => {
                self.left(world, *host, findings);
            }
            _ => {}
        }
    }

    fn announced(
        &mut self,
        now: Time,
        host: HostId,
        swarm: Swarm,
        event: AnnounceEvent,
        findings: &mut Findings,
    ) {
        let url = swarm.0.clone();
        let talk = self.hosts.of(host).entry(swarm).or_default();
        if event == AnnounceEvent::Stopped {
            talk.present = None;
        } else {
            talk.present.get_or_insert(now);
        }
        let plain = event == AnnounceEvent::None;
        if plain && talk.lately.back().is_some_and(|(at, _)| *at + PAUSE > now) {
            let what = format!("announces to {url} again without having waited");
            findings.add(Property::Announces, host, what);
        }
        while talk.lately.len() > 1 && talk.lately[0].0 + WINDOW <= now {
            talk.lately.pop_front();
        }
        talk.lately.push_back((now, event));
        let same = talk
            .lately
            .iter()
            .filter(|(at, said)| *said == event && *at + WINDOW > now);
        let count = same.count();
        if count > COUNT_MAX {
            let what = format!("has said {event:?} {count} times at once to {url}");
            findings.add(Property::Announces, host, what);
        }
    }

    fn left(&mut self, world: &World, host: HostId, findings: &mut Findings) {
        for ((url, _), talk) in std::mem::take(self.hosts.of(host)) {
            let known = talk
                .present
                .is_some_and(|since| world.now() >= since + KNOWN);
            if known && world.was_always_up(&url) {
                let what = format!("has left {url} without a goodbye");
                findings.add(Property::Announces, host, what);
            }
        }
    }
}
