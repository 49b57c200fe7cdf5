//! What a shard is told once.

use std::time::Duration;

use riverrun_base::PeerId;
use riverrun_peer::EncryptionPolicy;
use serde::{Deserialize, Serialize};

use crate::input::Limits;
use crate::tuning::Tuning;

/// The configuration of a shard.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each turns something on, on its own"
)]
pub struct Config {
    /// Our id, in handshakes and announces.
    pub peer_id: PeerId,
    /// A random number by which trackers know us when our address changes (BEP 7); the same for all torrents.
    pub tracker_key: u32,
    /// The port where we listen at first; 0 while we do not.
    pub listen_port: u16,
    /// Look for peers in the local network (BEP 14).
    pub local_discovery: bool,
    /// Whether connections are to be encrypted.
    pub encryption: EncryptionPolicy,
    /// How many peers of a torrent are unchoked at a time.
    pub unchoke_slots: UnchokeSlots,
    /// How often slots are reconsidered while peers wait for one. Cohen's 10 s.
    pub rechoke_interval: Duration,
    /// How long a peer keeps the optimistic slot. Cohen's 30 s.
    pub optimistic_interval: Duration,
    /// How many connections all torrents have together, those being dialled counted.
    pub connections_max: u32,
    /// How many dials all torrents have under way together.
    pub half_open_max: u32,
    /// How many dials one torrent has under way, once it has a connection.
    pub half_open_per_torrent_max: u32,
    /// How many dials a second all torrents begin together.
    pub dials_per_second: u32,
    /// How many dials may begin at once after a pause: the first list of peers is dialled in one burst.
    pub dial_burst: u32,
    /// How many connections one public IP address may have to one torrent.
    pub connections_per_ip_max: u32,
    /// Look for peers in the distributed hash table.
    pub uses_dht: bool,
    /// Download from web seeds (BEP 19).
    pub uses_web_seeds: bool,
    /// Strangers may name peers in our surroundings: the whole network is our own.
    pub is_local_network: bool,
    /// How many peers a tracker is asked for.
    pub num_want: u32,
    /// Which piece comes next where nobody asked for an order.
    pub picking: Picking,
    /// How long a complete torrent that nobody uses keeps its metadata and its files open. `None` if metadata that is
    /// given up cannot be [loaded](crate::Outbox::loads) again.
    pub doze_after: Option<Duration>,
    /// What the decisions weigh.
    pub tuning: Tuning,
    /// The limits of all torrents together at first.
    pub limits: Limits,
    /// Turn a panic in the decisions of one torrent into its end, and let the others live. Tests let it through.
    pub contain_panics: bool,
    /// Tell why peers and pieces are chosen: [`Event::Picked`](crate::Event::Picked) and
    /// [`Event::Slot`](crate::Event::Slot). Costs nothing while it is off.
    pub explain: bool,
}

/// Which piece comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Picking {
    /// The one that the fewest peers have, and among such one that the seed suggests.
    #[default]
    RarestFirst,
    /// Any that the peer has. Only for experiments: it shows what rarest first is worth.
    Random,
}

/// How many peers of a torrent are unchoked at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnchokeSlots {
    /// Eight, fewer under an upload limit: a piece should go through one hop within seconds, and with many slots
    /// it takes slots × piece / uplink.
    Auto,
    /// This many; at least one.
    Fixed(u32),
}

impl Config {
    /// The defaults, for a client with this id and key.
    pub const fn new(peer_id: PeerId, tracker_key: u32) -> Self {
        Self {
            peer_id,
            tracker_key,
            listen_port: 0,
            local_discovery: false,
            encryption: EncryptionPolicy::Prefer,
            unchoke_slots: UnchokeSlots::Auto,
            rechoke_interval: Duration::from_secs(10),
            optimistic_interval: Duration::from_secs(30),
            connections_max: 500,
            half_open_max: 100,
            half_open_per_torrent_max: 25,
            dials_per_second: 30,
            dial_burst: 30,
            connections_per_ip_max: 2,
            uses_dht: false,
            uses_web_seeds: true,
            is_local_network: false,
            num_want: 100,
            picking: Picking::RarestFirst,
            doze_after: None,
            tuning: Tuning::DEFAULT,
            limits: Limits {
                upload: None,
                download: None,
            },
            contain_panics: true,
            explain: false,
        }
    }
}
