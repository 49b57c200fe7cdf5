//! Who has dialled us and not named a torrent yet: so many at a time, and of one host not all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use riverrun_base::Nearness;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many there may be at one address where we listen.
const PLACES_MAX: usize = 256;

/// How many of them one host may have, or it alone would keep everybody else out with connections on which it says
/// nothing. Behind one address of IPv4 there may be many households, whose peers need a moment each; one network of IPv6
/// (/64) is one host.
const PER_HOST_MAX: usize = 32;

/// The places.
#[derive(Debug)]
pub(crate) struct Doorstep {
    free: Arc<Semaphore>,
    /// How many each host of the world has. Those near us are trusted.
    hosts: Mutex<HashMap<IpAddr, usize>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    host: Option<IpAddr>,
    doorstep: Arc<Doorstep>,
    _permit: OwnedSemaphorePermit,
}

impl Doorstep {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(PLACES_MAX)),
            hosts: Mutex::new(HashMap::new()),
        })
    }

    /// Waits until there is a place.
    pub(crate) async fn room(&self) {
        // Never closed. Only who waits here takes places that others wait for, so that it is there still.
        drop(self.free.acquire().await);
    }

    /// A place for a host, if there is one for it now.
    pub(crate) fn place(self: &Arc<Self>, ip: IpAddr) -> Option<Place> {
        let permit = self.free.clone().try_acquire_owned().ok()?;
        let host = (Nearness::of(ip) == Some(Nearness::World)).then(|| host_of(ip));
        if let Some(host) = host {
            let mut hosts = self.hosts();
            let count = hosts.entry(host).or_default();
            if *count >= PER_HOST_MAX {
                return None;
            }
            *count += 1;
        }
        Some(Place {
            host,
            doorstep: self.clone(),
            _permit: permit,
        })
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Each change is one step.
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(host) = self.host else { return };
        let mut hosts = self.doorstep.hosts();
        if let Some(count) = hosts.get_mut(&host) {
            *count -= 1;
            if *count == 0 {
                hosts.remove(&host);
            }
        }
    }
}

/// What counts as one host.
const fn host_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(doorstep: &Arc<Doorstep>, ip: &str) -> Vec<Place> {
        let ip = ip.parse().unwrap();
        (0..PLACES_MAX).map_while(|_| doorstep.place(ip)).collect()
    }

    #[test]
    fn one_host_leaves_room_for_others() {
        let doorstep = Doorstep::new();
        let one = places(&doorstep, "198.51.100.1");
        assert_eq!(one.len(), PER_HOST_MAX);
        let mut networks = places(&doorstep, "2001:db8:0:1::1");
        networks.extend(places(&doorstep, "2001:db8:0:1::2"));
        assert_eq!(networks.len(), PER_HOST_MAX, "one network of IPv6");
        networks.extend(places(&doorstep, "2001:db8:0:2::1"));
        assert_eq!(networks.len(), 2 * PER_HOST_MAX);
        drop(one);
        assert_eq!(places(&doorstep, "198.51.100.1").len(), PER_HOST_MAX);
        drop(networks);
        assert!(doorstep.hosts().is_empty());
    }

    #[test]
    fn who_is_near_may_have_all_of_it_and_no_more() {
        let doorstep = Doorstep::new();
        let near = places(&doorstep, "127.0.0.1");
        assert_eq!(near.len(), PLACES_MAX);
        assert!(places(&doorstep, "192.168.1.2").is_empty());
    }
}
