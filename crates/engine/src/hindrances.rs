//! What holds torrents up that decisions know nothing of: payload that waits for the disk, and walls around us.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use riverrun_base::{BlockPool, Time};
use riverrun_storage::Disk;
use riverrun_swarm::Why;
use tokio::sync::watch;

use crate::driver::callers::Callers;
use crate::driver::conn::ConnContext;
use crate::driver::identity::Identity;
use crate::driver::port_map::{PortMapper, PortMapping};

/// All of it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Hindrances {
    /// The memory for payload that comes: connections stop reading when there is none.
    blocks: Arc<BlockPool>,
    callers: Callers,
    identity: Identity,
    /// What routers forward, if they are asked to.
    mappings: Option<watch::Receiver<Vec<PortMapping>>>,
}

impl fmt::Debug for Hindrances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hindrances").finish_non_exhaustive()
    }
}

impl Hindrances {
    pub(crate) fn of(
        conns: &ConnContext,
        disk: &Disk,
        port_mapper: Option<&PortMapper>,
    ) -> Arc<Self> {
        Arc::new(Self {
            blocks: disk.blocks(),
            callers: conns.callers.clone(),
            identity: conns.identity.clone(),
            mappings: port_mapper.map(PortMapper::mappings),
        })
    }

    /// Why a torrent that is downloading does not get on, or no faster, where decisions have `why` to say.
    pub(crate) fn explain(&self, now: Time, why: Option<Why>) -> Option<Why> {
        match why {
            None | Some(Why::NothingComes { .. }) => self.disk_bound().or(why),
            Some(Why::PeersUnreachable { tried, misses, .. }) if misses.are_walls() => {
                let shut = self.shut(now).map(|(port, silent)| Why::NotConnectable {
                    tried,
                    misses,
                    port,
                    silent,
                });
                shut.or(why)
            }
            why => why,
        }
    }

    fn disk_bound(&self) -> Option<Why> {
        let waiting_bytes = self.blocks.shortage_bytes()? as u64;
        Some(Why::DiskBound { waiting_bytes })
    }

    /// Where we listen, and for how long nobody has come there, if that is long and nothing is done about it.
    fn shut(&self, now: Time) -> Option<(u16, Duration)> {
        let is_mapped = |mappings: &watch::Receiver<Vec<_>>| !mappings.borrow().is_empty();
        if self.mappings.as_ref().is_some_and(is_mapped) {
            return None;
        }
        Some((self.identity.ports().any()?, self.callers.silence(now)?))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use riverrun_base::{Blocks as _, PeerId};
    use riverrun_peer::{EncryptionPolicy, PeerConfig};
    use riverrun_swarm::Misses;

    use super::*;
    use crate::driver::identity::Ports;

    const NOW: Time = Time::from_secs(1000);

    fn hindrances() -> Hindrances {
        let ports = Ports {
            v4: Some(7000),
            v6: None,
        };
        let identity = Identity::new(PeerConfig::new(PeerId([1; 20])), false, ports);
        Hindrances {
            blocks: Arc::new(BlockPool::new(100, || {})),
            callers: Callers::default(),
            identity,
            mappings: None,
        }
    }

    #[test]
    fn what_comes_too_fast_for_the_disk_is_held_against_no_peer() {
        let hindrances = hindrances();
        let blocks: Vec<_> = (0..10).map(|_| hindrances.blocks.allocate(10)).collect();
        let silent = Some(Why::NothingComes { unchoking: 3 });
        assert_eq!(hindrances.explain(NOW, silent.clone()), silent, "just full");
        assert!(hindrances.blocks.allocate(10).is_none());
        let disk = Some(Why::DiskBound { waiting_bytes: 100 });
        assert_eq!(hindrances.explain(NOW, silent.clone()), disk);
        assert_eq!(hindrances.explain(NOW, None), disk, "no faster");
        assert_eq!(
            hindrances.explain(NOW, Some(Why::Offline)),
            Some(Why::Offline)
        );
        drop(blocks);
        assert_eq!(hindrances.explain(NOW, silent.clone()), silent);
        assert_eq!(hindrances.explain(NOW, None), None);
    }

    #[test]
    fn walls_between_us_and_all_peers_are_said_to_be_ours_if_nobody_comes_either() {
        let mut hindrances = hindrances();
        let listening = || std::iter::once(IpAddr::from([0, 0, 0, 0]));
        hindrances.callers.listen(Time::ZERO, listening());
        let unreachable = |misses: Misses| Why::PeersUnreachable {
            tried: misses.total(),
            misses,
            encryption: EncryptionPolicy::Prefer,
        };
        let (mut silent, mut reached) = (Misses::default(), Misses::default());
        (silent.no_answer, silent.no_way) = (3, 1);
        (reached.no_answer, reached.hung_up) = (3, 1);
        let (walls, others) = (unreachable(silent), unreachable(reached));
        let code = |hindrances: &Hindrances, why: &Why| {
            let why = hindrances.explain(NOW, Some(why.clone())).unwrap();
            why.code()
        };
        assert_eq!(code(&hindrances, &walls), "not_connectable");
        assert_eq!(code(&hindrances, &others), "peers_unreachable");
        let (open, mappings) = watch::channel(Vec::new());
        hindrances.mappings = Some(mappings);
        assert_eq!(code(&hindrances, &walls), "not_connectable");
        open.send_replace(vec![PortMapping {
            ip: [192, 168, 1, 5].into(),
            port: 7000,
            external_port: 7000,
            external_ip: None,
            by: "PCP",
        }]);
        assert_eq!(code(&hindrances, &walls), "peers_unreachable");
        hindrances.mappings = None;
        hindrances.callers.came([192, 0, 2, 1].into());
        assert_eq!(code(&hindrances, &walls), "peers_unreachable");
    }
}
