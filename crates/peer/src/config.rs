//! What all connections of an engine share.

use std::time::Duration;

use riverrun_base::PeerId;

use crate::mse::EncryptionPolicy;

/// Settings of a connection. One `Arc` of it serves all connections.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeerConfig {
    /// Our id in handshakes (BEP 20).
    pub peer_id: PeerId,
    /// Our name and version in extended handshakes (BEP 10, `v`); `None` keeps quiet.
    pub client: Option<String>,
    /// The port where we listen, told to peers that we dialled (BEP 10, `p`).
    pub listen_port: Option<u16>,
    /// The UDP port of our DHT node, told to peers that have one too (BEP 5); `None` without a node.
    pub dht_port: Option<u16>,
    /// How many requests of a peer we keep waiting (BEP 10, `reqq`). More are rejected, or without the fast
    /// extension dropped. Bounds memory a connection.
    pub request_queue_max: u16,
    /// We speak uTP, so that peers can be met through others (BEP 55).
    pub holepunch: bool,
    /// In v2 torrents we hear of single blocks that are verified, and tell of ours.
    pub blocks: bool,
    /// Whether connections are to be encrypted: what is offered when we dial encrypted, and what is taken when we
    /// are dialled.
    pub encryption: EncryptionPolicy,
    /// What secrets are drawn from; random, and told to nobody. The same in each run of a simulation.
    pub entropy: [u8; 32],
    /// How long a handshake may take in all.
    pub handshake_timeout: Duration,
    /// A connection that has been silent for so long is closed. The BEP 3 convention is two minutes.
    pub idle_timeout: Duration,
    /// Having sent nothing for so long we send a keep-alive.
    pub keepalive_interval: Duration,
    /// A peer that owes us blocks and has sent nothing of any for so long is reported as snubbing.
    pub snub_timeout: Duration,
    /// The most requests that we have under way at one peer.
    pub request_window_max: u32,
    /// The most time's worth of data that we request ahead.
    pub request_window_time_max: Duration,
}

impl PeerConfig {
    /// The defaults, for an engine with this id.
    pub fn new(peer_id: PeerId) -> Self {
        Self {
            peer_id,
            client: None,
            listen_port: None,
            dht_port: None,
            // As libtorrent and Transmission: the latter asks once a second, so that with 512 it got 8 MiB/s.
            request_queue_max: 2000,
            holepunch: false,
            blocks: true,
            encryption: EncryptionPolicy::default(),
            entropy: [0; 32],
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(2),
            keepalive_interval: Duration::from_mins(1),
            snub_timeout: Duration::from_secs(20),
            request_window_max: 2000,
            request_window_time_max: Duration::from_secs(3),
        }
    }
}
