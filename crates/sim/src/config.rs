//! What a world and its hosts are like: plain data.

use std::time::Duration;

use riverrun_base::{Bitfield, PeerId, PieceIndex, Rate};
use riverrun_swarm::{Config, Limits, TorrentOptions, UnchokeSlots};
use serde::{Deserialize, Serialize};

use crate::disk::DiskConfig;
use crate::link::TcpConfig;
use crate::manners::Manners;
use crate::seconds;
use crate::services::Service;
use crate::tracker::TrackerConfig;
use crate::web::WebServerConfig;

/// A world.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is something to look at or to keep, on its own"
)]
pub struct WorldConfig {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// How far a pair of hosts is from the sum of its hosts' latencies, at most; each pair has its own share.
    #[serde(with = "seconds")]
    pub pair_latency: Duration,
    /// How TCP behaves; without it a sender's uplink is filled at once, whatever the path.
    pub tcp: Option<TcpConfig>,
    /// How a UDP datagram may fare.
    pub udp: UdpConfig,
    /// Trackers, tier by tier (BEP 12).
    pub trackers: Vec<Vec<TrackerConfig>>,
    /// Web servers that have the files of all torrents (BEP 19).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub web_servers: Vec<WebServerConfig>,
    /// How long a dial to nobody takes to fail.
    #[serde(with = "seconds")]
    pub dial_timeout: Duration,
    /// How long a connection lives whose other end has gone without a word. The BEP 3 convention is two minutes.
    #[serde(with = "seconds")]
    pub idle_timeout: Duration,
    /// Look at every shard's invariants after each of its inputs: thorough, and slow with many pieces.
    pub check_invariants: bool,
    /// Keep every event of every shard.
    pub keep_events: bool,
    /// Keep a hash over everything that shards do, for [`World::trace_hash`](crate::World::trace_hash): slow.
    pub trace: bool,
    /// Record what every shard is given, for [`World::records`](crate::World::records).
    pub record: bool,
    /// Work out slowly what every shard may do, and hold against it what it does: slow with many pieces.
    pub models: bool,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            pair_latency: Duration::ZERO,
            tcp: Some(TcpConfig::default()),
            udp: UdpConfig::default(),
            trackers: vec![vec![TrackerConfig::default()]],
            web_servers: Vec::new(),
            dial_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(2),
            check_invariants: false,
            keep_events: false,
            trace: false,
            record: false,
            models: false,
        }
    }
}

/// How UDP datagrams fare between any two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UdpConfig {
    /// How much longer a datagram may take than the latency says, each drawn anew: they overtake each other.
    #[serde(with = "seconds")]
    pub jitter: Duration,
    /// How often a datagram comes twice, of 0 to 1.
    pub duplication: f64,
    /// How long the queue before a line may be; what would wait longer is dropped.
    #[serde(with = "seconds")]
    pub queue_max: Duration,
    /// The largest packet that gets through, headers counted, in bytes; larger ones vanish and nobody is told.
    pub packet_max: Option<u64>,
}

impl Default for UdpConfig {
    fn default() -> Self {
        Self {
            jitter: Duration::ZERO,
            duplication: 0.0,
            queue_max: Duration::from_millis(200),
            packet_max: None,
        }
    }
}

/// How the two ends of a connection are joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// What one shard tells its connection is what the other hears: fast.
    #[default]
    Direct,
    /// Two real connections, byte by byte. One end that wants this is enough.
    Bytes,
}

/// Where a host can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nat {
    /// From everywhere.
    #[default]
    Open,
    /// Cannot be dialled; datagrams come only from where it has sent one to lately.
    PortRestricted,
    /// As that, and it has another port for everyone it talks to.
    Symmetric,
}

/// What a host has at first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Nothing.
    #[default]
    Empty,
    /// Everything.
    Full,
    /// These pieces.
    Pieces(Vec<u32>),
    /// Nothing, not even the metadata.
    Magnet,
}

impl Start {
    /// What that is of a torrent of so many pieces; pieces past its end do not count.
    pub(crate) fn pieces(&self, count: u32) -> Bitfield {
        let mut have = Bitfield::new(count);
        match self {
            Self::Empty | Self::Magnet => {}
            Self::Full => have = Bitfield::full(count),
            Self::Pieces(list) => {
                for piece in list.iter().filter(|piece| **piece < count) {
                    have.set(PieceIndex(*piece));
                }
            }
        }
        have
    }
}

/// How long a host stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stay {
    /// To the end.
    #[default]
    Forever,
    /// Until this long after it is complete, in seconds; 0 is at once.
    AfterCompletion(f64),
    /// For this long after it has joined, in seconds.
    For(f64),
    /// Until it has sent so many times the torrent.
    Sent(f64),
    /// Until the others together have everything; then nothing depends on it any more.
    UntilSpread,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is something that a host may do or not"
)]
pub struct HostConfig {
    /// Its name in reports; by default its role and number.
    pub name: String,
    /// Payload that its uplink carries, in bytes per second; without it, at once.
    pub up: Option<u64>,
    /// Payload that its downlink carries, in bytes per second; without it, at once.
    pub down: Option<u64>,
    /// From it to the middle of the network, one way.
    #[serde(with = "seconds")]
    pub latency: Duration,
    /// How many of its packets are lost, in each direction, of 0 to 1.
    pub loss: f64,
    /// Where it can be reached.
    pub nat: Nat,
    /// Dials by uTP too, and meets peers through others (BEP 55).
    pub utp: bool,
    /// What it runs over UDP. With a node its torrent is looked for in the DHT.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub serves: Vec<Service>,
    /// How its connections run.
    pub level: Level,
    /// Whether it has the fast extension (BEP 6).
    pub fast: bool,
    /// What it has at first.
    pub start: Start,
    /// When it joins, in seconds.
    #[serde(with = "seconds")]
    pub join_at: Duration,
    /// How long it stays.
    pub stay: Stay,
    /// How it behaves.
    pub manners: Manners,
    /// Its disk.
    pub disk: DiskConfig,
    /// How many peers it unchokes; by default what the decisions choose.
    pub slots: Option<u32>,
    /// How many connections its torrent has.
    pub connections_max: u32,
    /// After how many seconds without a peer a complete torrent lets its metadata and its files go; by default never.
    pub doze_after: Option<u32>,
    /// Reveals its pieces one by one (BEP 16).
    pub super_seed: bool,
    /// Prefers pieces in order to rare ones.
    pub sequential: bool,
    /// Its own limit on what it sends, in bytes per second.
    pub upload_limit: Option<u64>,
    /// Its own limit on what it receives, in bytes per second.
    pub download_limit: Option<u64>,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            up: None,
            down: None,
            latency: Duration::from_millis(10),
            loss: 0.0,
            nat: Nat::Open,
            utp: false,
            serves: Vec::new(),
            level: Level::Direct,
            fast: true,
            start: Start::Empty,
            join_at: Duration::ZERO,
            stay: Stay::Forever,
            manners: Manners::default(),
            disk: DiskConfig::default(),
            slots: None,
            connections_max: TorrentOptions::default().connections_max,
            doze_after: None,
            super_seed: false,
            sequential: false,
            upload_limit: None,
            download_limit: None,
        }
    }
}

impl HostConfig {
    /// A host that has everything.
    pub fn seed() -> Self {
        Self {
            start: Start::Full,
            ..Self::default()
        }
    }

    /// A host that has nothing.
    pub fn leecher() -> Self {
        Self::default()
    }

    /// With an uplink of this many bytes per second.
    pub const fn up(mut self, bytes_per_second: u64) -> Self {
        self.up = Some(bytes_per_second);
        self
    }

    /// With a downlink of this many bytes per second.
    pub const fn down(mut self, bytes_per_second: u64) -> Self {
        self.down = Some(bytes_per_second);
        self
    }

    /// With these manners.
    pub fn manners(mut self, manners: Manners) -> Self {
        self.manners = manners;
        self
    }

    /// The configuration of its shard.
    pub(crate) fn shard(&self, peer_id: PeerId, key: u32, port: u16) -> Config {
        let mut config = Config::new(peer_id, key);
        config.listen_port = port;
        config.unchoke_slots = self.slots.map_or(UnchokeSlots::Auto, UnchokeSlots::Fixed);
        config.contain_panics = false;
        config.uses_dht = self.serves.contains(&Service::Node);
        let doze_after = self.doze_after.map(u64::from);
        config.doze_after = doze_after.map(Duration::from_secs);
        config
    }

    /// How it treats its torrent.
    pub(crate) fn options(&self) -> TorrentOptions {
        let mut options = TorrentOptions::default();
        options.super_seed = self.super_seed;
        options.sequential = self.sequential;
        options.connections_max = self.connections_max;
        options.limits = Limits {
            upload: self.upload_limit.map(Rate::from_bytes_per_second),
            download: self.download_limit.map(Rate::from_bytes_per_second),
        };
        options
    }
}
