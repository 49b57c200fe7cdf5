//! Trackers: riverrun's own table of swarms, at the end of a line that may be cut.

use std::net::SocketAddr;
use std::time::Duration;

use riverrun_base::Time;
use riverrun_tracker::server::{Announce, AnnounceReply, Families, Swarms, SwarmsConfig};
use riverrun_tracker::{
    AnnounceRequest, AnnounceResponse, INTERVAL_MAX, INTERVAL_MIN, TrackerFailure,
};
use serde::{Deserialize, Serialize};

use crate::seconds;

/// How many peers a reply costs to look at when old ones are forgotten.
const EXPIRE_BUDGET: usize = 64;

/// A tracker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrackerConfig {
    /// The first part of its host name.
    pub name: String,
    /// From it to the middle of the network, one way.
    #[serde(with = "seconds")]
    pub latency: Duration,
    /// How long it thinks.
    #[serde(with = "seconds")]
    pub slow: Duration,
    /// How often clients are to announce.
    #[serde(with = "seconds")]
    pub interval: Duration,
    /// How long at least they are to wait.
    #[serde(with = "seconds")]
    pub interval_min: Duration,
    /// How many peers it sends at most.
    pub peers_max: usize,
    /// When it answers nobody, in seconds.
    pub down: Vec<(f64, f64)>,
    /// While it is down its machine refuses at once; else nothing comes back.
    pub refuses: bool,
    /// What it says instead of the truth.
    pub lie: Option<Lie>,
}

impl Default for TrackerConfig {
    fn default() -> Self {
        Self {
            name: "tracker".to_owned(),
            latency: Duration::from_millis(10),
            slow: Duration::ZERO,
            interval: Duration::from_mins(30),
            interval_min: Duration::from_mins(1),
            peers_max: 200,
            down: Vec::new(),
            refuses: false,
            lie: None,
        }
    }
}

/// What a tracker says instead of the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lie {
    /// That there is nobody.
    Nobody,
    /// So many addresses at which nobody is.
    Dead(u16),
    /// So many ports of one address that has nothing to do with it.
    Victim(u16),
    /// That everybody come again at once.
    Hurry,
}

/// A tracker at work.
#[derive(Debug)]
pub(crate) struct Tracker {
    pub(crate) config: TrackerConfig,
    pub(crate) url: String,
    swarms: Swarms,
    /// Down by order, beside what the configuration says.
    is_down: bool,
    /// It was down at some time, by order or by its configuration.
    was_down: bool,
}

impl Tracker {
    pub(crate) fn new(config: TrackerConfig, seed: u64) -> Self {
        let swarms = SwarmsConfig {
            interval: config.interval,
            interval_min: config.interval_min,
            reply_peers_max: config.peers_max,
            ..SwarmsConfig::default()
        };
        Self {
            url: format!("http://{}.example/announce", config.name),
            swarms: Swarms::new(swarms, seed),
            was_down: !config.down.is_empty(),
            config,
            is_down: false,
        }
    }

    /// Whether everybody has had an answer so far.
    pub(crate) const fn was_always_up(&self) -> bool {
        !self.was_down
    }

    /// Lets it answer nobody, or everybody again.
    pub(crate) const fn set_down(&mut self, down: bool) {
        self.is_down = down;
        self.was_down |= down;
    }

    pub(crate) fn answers(&self, now: Time) -> bool {
        let secs = seconds::of(now);
        let is_out = |(from, until): &(f64, f64)| (*from..*until).contains(&secs);
        !self.is_down && !self.config.down.iter().any(is_out)
    }

    /// Answers an announce that came from `peer`.
    pub(crate) fn announce(
        &mut self,
        now: Time,
        peer: SocketAddr,
        request: &AnnounceRequest,
    ) -> Result<AnnounceResponse, TrackerFailure> {
        self.swarms.expire(now, EXPIRE_BUDGET);
        let announce = Announce {
            info_hash: request.info_hash,
            peer: SocketAddr::new(peer.ip(), request.port),
            event: request.event,
            left: request.left.unwrap_or(u64::MAX),
            num_want: request.num_want,
            families: Families::Both,
        };
        match self.swarms.announce(now, &announce) {
            Ok(reply) => Ok(self.response(reply)),
            Err(_) => Err(TrackerFailure::TimedOut),
        }
    }

    fn response(&self, reply: AnnounceReply) -> AnnounceResponse {
        let mut response = AnnounceResponse {
            interval: reply.interval.clamp(INTERVAL_MIN, INTERVAL_MAX),
            min_interval: Some(reply.interval_min.clamp(INTERVAL_MIN, INTERVAL_MAX)),
            peers: reply.peers,
            seeders: Some(reply.counts.seeders),
            leechers: Some(reply.counts.leechers),
            downloaded: Some(reply.counts.downloaded),
            external_ip: None,
            tracker_id: Some(b"id".to_vec()),
            warning: None,
        };
        match self.config.lie {
            None => {}
            Some(Lie::Nobody) => response.peers.clear(),
            Some(Lie::Dead(count)) => {
                response.peers = (0..count)
                    .map(|n| {
                        let [high, low] = n.to_be_bytes();
                        SocketAddr::from(([203, high, low, 1], 6881))
                    })
                    .collect();
            }
            Some(Lie::Victim(count)) => {
                let port = |n: u16| SocketAddr::from(([198, 51, 100, 7], 2000_u16.wrapping_add(n)));
                response.peers = (0..count).map(port).collect();
            }
            Some(Lie::Hurry) => {
                response.interval = INTERVAL_MIN;
                response.min_interval = Some(INTERVAL_MIN);
            }
        }
        response
    }
}
