//! What hosts run over UDP: opened with the process, asked by its shard, and misused by those who forge.

use std::any::Any;
use std::net::SocketAddr;
use std::time::Duration;

use riverrun_bencode::Writer;
use riverrun_dht::PeersQuestion;
use riverrun_swarm::{Input, NetAction, PeerSource, Witness};

use super::World;
use crate::ids::HostId;
use crate::observe::Happening;
use crate::services::{Greeter, Liar, Node, NodeNews, Search, Service, Tracker};
use crate::streams::mix;

/// From how many nodes a new one begins.
const ROUTERS: usize = 3;
/// Addresses at which nobody is, in whose name others are asked.
const VICTIMS: u8 = 8;

impl World {
    /// Opens the sockets of a new process.
    pub(super) fn open_services(&mut self, host: HostId) {
        let now = self.now_at(host);
        let own = self.host(host);
        let seed = mix(own.seed ^ u64::from(own.incarnation) << 32);
        for service in own.config.serves.clone() {
            let port = service.port();
            let seed = mix(seed ^ u64::from(port));
            match service {
                Service::Utp => self.open_socket(host, port, Greeter::new(seed)),
                Service::Tracker => self.open_socket(host, port, Tracker::new(seed)),
                Service::Node if self.host(host).config.manners.node_liar => {
                    let mut kind = self.nodes(true);
                    let addr = node_at(self.host(host).addr);
                    kind.retain(|other| *other != addr);
                    kind.insert(0, addr);
                    let liar = Liar::new(now, &kind, self.nodes(false), seed);
                    self.open_socket(host, port, liar);
                }
                Service::Node => {
                    let addr = node_at(self.host(host).addr);
                    let mut routers = self.nodes(false);
                    routers.retain(|other| *other != addr);
                    routers.truncate(ROUTERS);
                    self.open_socket(host, port, Node::new(now, addr, &routers, seed));
                }
            }
        }
    }

    /// Where nodes of the DHT are, those that lie or those that do not.
    fn nodes(&self, lie: bool) -> Vec<SocketAddr> {
        let is_one = |config: &crate::HostConfig| {
            config.serves.contains(&Service::Node) && config.manners.node_liar == lie
        };
        let nodes = self.hosts.iter().filter(|host| is_one(&host.config));
        nodes.map(|host| node_at(host.addr)).collect()
    }

    /// A shard looks for peers in the DHT: without a node it finds nobody.
    pub(super) fn find_peers(&mut self, host: HostId, action: &NetAction) {
        let NetAction::FindPeers {
            torrent,
            info_hash,
            announce,
            no_seeds,
        } = *action
        else {
            return;
        };
        let question = PeersQuestion {
            no_seeds,
            ..PeersQuestion::new(info_hash)
        };
        let search = Search::new(self.now, torrent, question, announce);
        self.with_socket(host, Service::Node.port(), |now, node: &mut Node, out| {
            node.search(now, search, out);
        });
    }

    /// Hands on what a host's node has to tell.
    pub(super) fn hear_node(&mut self, host: HostId) {
        let sockets = &mut self.host_mut(host).sockets.open;
        let Some(socket) = sockets.get_mut(&Service::Node.port()) else {
            return;
        };
        let any: &mut dyn Any = &mut **socket;
        let Some(node) = any.downcast_mut::<Node>() else {
            return;
        };
        for news in node.take_news() {
            let input = match news {
                NodeNews::Found(torrent, peers) => Input::Found {
                    torrent,
                    source: PeerSource::Dht,
                    peers,
                },
                NodeNews::OwnAddress(ip) => Input::ExternalIp {
                    ip,
                    says: Witness::Dht,
                },
                NodeNews::Ended(search) => {
                    self.happen(|| Happening::Sought {
                        by: host,
                        began: search.began,
                        announced: search.question.announce.is_some() && search.answers > 0,
                        no_seeds: search.question.no_seeds,
                        found: search.found,
                    });
                    continue;
                }
            };
            self.input_later(host, Duration::ZERO, input);
        }
    }

    /// Asks some host's services something in the name of somebody else.
    pub(super) fn forge(&mut self, by: HostId) {
        let serving: Vec<(HostId, Service)> = self
            .hosts()
            .filter(|(host, _)| *host != by)
            .flat_map(|(host, own)| {
                own.config
                    .serves
                    .iter()
                    .map(move |service| (host, *service))
            })
            .collect();
        let rng = &mut self.streams.mischief;
        let Some((host, service)) = rng.choose(&serving).copied() else {
            return;
        };
        let victim = u8::try_from(rng.below(VICTIMS.into())).unwrap_or(0);
        let victim = SocketAddr::from(([198, 51, 100, victim], 40_000));
        let mut noise = [0; 20];
        rng.fill(&mut noise);
        let bytes = match service {
            Service::Node => ask_node(&noise),
            Service::Utp => syn(&noise),
            Service::Tracker => ask_tracker(&noise),
        };
        let to = SocketAddr::new(self.host(host).addr.ip(), service.port());
        self.send_datagram(by, victim, to, &bytes);
    }
}

/// Where a host's node is.
fn node_at(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip(), Service::Node.port())
}

/// One of the queries whose answers are long (BEP 5, 44, 51). All keys that one of them needs are there.
fn ask_node(noise: &[u8; 20]) -> Vec<u8> {
    let asks: [&[u8]; 4] = [b"get_peers", b"find_node", b"get", b"sample_infohashes"];
    let mut id = *noise;
    id.reverse();
    let mut out = Writer::new();
    out.dict().key(b"a").dict();
    out.key(b"id").bytes(&id);
    out.key(b"info_hash").bytes(noise);
    out.key(b"target").bytes(noise).end();
    out.key(b"q").bytes(asks[usize::from(noise[0] % 4)]);
    out.key(b"t").bytes(&noise[..2]);
    out.key(b"y").bytes(b"q").end();
    out.finish()
}

/// The first packet of a connection (BEP 29).
fn syn(noise: &[u8; 20]) -> Vec<u8> {
    let mut bytes = noise.to_vec();
    // Type 4, version 1, no extension.
    (bytes[0], bytes[1]) = (0x41, 0);
    bytes
}

/// A request for a connection id, or an announce with one that was guessed (BEP 15).
fn ask_tracker(noise: &[u8; 20]) -> Vec<u8> {
    const MAGIC: u64 = 0x417_2710_1980;
    let (connect, announce) = (0_u32, 1_u32);
    if noise[0].is_multiple_of(2) {
        [
            &MAGIC.to_be_bytes()[..],
            &connect.to_be_bytes(),
            &noise[..4],
        ]
        .concat()
    } else {
        [
            &noise[..8],
            &announce.to_be_bytes(),
            &noise[8..12],
            &[1; 82],
        ]
        .concat()
    }
}
