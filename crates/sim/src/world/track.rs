//! Announces on their way to trackers and back.

use std::time::Duration;

use riverrun_swarm::{Input, TorrentKey, TrackerKey};
use riverrun_tracker::{AnnounceRequest, TrackerFailure};

use super::{Announced, Asking, Pending, World};
use crate::ids::HostId;
use crate::observe::Happening;

/// How long a client waits for a tracker that does not answer.
const PATIENCE: Duration = Duration::from_secs(15);

impl World {
    /// The trackers of a torrent, tier by tier.
    pub(super) fn tiers(&self) -> Vec<Vec<String>> {
        let mut urls = self.trackers.iter().map(|tracker| tracker.url.clone());
        let tier = |tier: &Vec<_>| urls.by_ref().take(tier.len()).collect();
        self.config.trackers.iter().map(tier).collect()
    }

    pub(super) fn announce(
        &mut self,
        host: HostId,
        torrent: TorrentKey,
        key: TrackerKey,
        url: &str,
        request: AnnounceRequest,
    ) {
        let (info_hash, event) = (request.info_hash, request.event);
        self.happen(|| Happening::Announced {
            host,
            url: url.to_owned(),
            info_hash,
            event,
        });
        if self.config.keep_events {
            self.log.announces.push(Announced {
                host,
                at: self.now,
                url: url.to_owned(),
                request: request.clone(),
            });
        }
        let Some(tracker) = self.trackers.iter().position(|known| known.url == url) else {
            let failed = Input::Announced {
                torrent,
                tracker: key,
                result: Err(TrackerFailure::TimedOut),
            };
            self.input_later(host, PATIENCE, failed);
            return;
        };
        let at = self.now + self.way_to(host, tracker);
        let asking = Asking {
            host,
            incarnation: self.host(host).incarnation,
            torrent,
            key,
            tracker,
            request,
            result: None,
        };
        self.pend(at, Pending::Announce(Box::new(asking)));
    }

    fn way_to(&self, host: HostId, tracker: usize) -> Duration {
        self.host(host).config.latency + self.trackers[tracker].config.latency
    }

    /// An announce has arrived, or its answer.
    pub(super) fn handle_announce(&mut self, mut asking: Asking) {
        if let Some(result) = asking.result.take() {
            if self.host(asking.host).incarnation == asking.incarnation {
                let input = Input::Announced {
                    torrent: asking.torrent,
                    tracker: asking.key,
                    result,
                };
                self.input_later(asking.host, Duration::ZERO, input);
            }
            return;
        }
        let now = self.now;
        let peer = self.host(asking.host).addr;
        let tracker = &mut self.trackers[asking.tracker];
        let (result, wait) = if tracker.answers(now) {
            (
                tracker.announce(now, peer, &asking.request),
                tracker.config.slow,
            )
        } else {
            let wait = if tracker.config.refuses {
                Duration::ZERO
            } else {
                PATIENCE
            };
            (Err(TrackerFailure::TimedOut), wait)
        };
        asking.result = Some(result);
        let at = now + wait + self.way_to(asking.host, asking.tracker);
        self.pend(at, Pending::Announce(Box::new(asking)));
    }
}
