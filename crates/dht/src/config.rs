//! What a node is told once.

use riverrun_base::Rate;

/// The configuration of a [`Dht`](crate::Dht).
#[derive(Clone, Debug)]
pub struct Config {
    /// Secret bytes from the system, behind write tokens and transaction ids.
    pub secret: [u8; 32],
    /// Ask, but do not answer, and tell others so (BEP 43): for short visits, and for hosts that cannot be reached.
    pub is_read_only: bool,
    /// The network is one of our own, on local addresses: many nodes may share an address or a prefix there, and
    /// their number of queries is not limited. Public addresses are treated as ever.
    pub is_local_network: bool,
    /// Store only on nodes whose ids suit their addresses (BEP 42).
    pub enforce_ids: bool,
    /// How many queries of a lookup are under way at once at the top of its list.
    pub parallel_queries: usize,
    /// How many bytes of replies are sent in a second, to all askers together.
    pub reply_rate: Rate,
    /// How many queries a second one address is answered.
    pub queries_per_ip: u32,
    /// How many queries a second one network (/24, /64) is answered.
    pub queries_per_network: u32,
}

impl Config {
    /// The defaults, with these secret bytes.
    pub const fn new(secret: [u8; 32]) -> Self {
        Self {
            secret,
            is_read_only: false,
            is_local_network: false,
            enforce_ids: true,
            parallel_queries: 6,
            reply_rate: Rate::from_bytes_per_second(64 * 1024),
            queries_per_ip: 10,
            queries_per_network: 50,
        }
    }
}
