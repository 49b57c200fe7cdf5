//! Which HTTP connections may stay open.
//!
//! There is always room for a new one: the one that has gone longest without a request is closed for it. So
//! those who open connections and say nothing only close each other's.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// How many connections may be open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    pub(crate) total: usize,
    pub(crate) per_source: usize,
}

impl Default for ConnectionLimits {
    /// Connections live for a request; the limit of one source leaves room for a provider's shared address.
    fn default() -> Self {
        Self {
            total: 1024,
            per_source: 64,
        }
    }
}

/// The open connections.
#[derive(Debug)]
pub(crate) struct Connections {
    limits: ConnectionLimits,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// Grows with each connection and each request.
    clock: u64,
    slots: BTreeMap<u64, Slot>,
}

#[derive(Debug)]
struct Slot {
    source: IpAddr,
    /// When it was opened, or asked for something last, by the clock.
    active: u64,
    close: Arc<Notify>,
}

/// One open connection; not counted any more when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    connections: Arc<Connections>,
    id: u64,
    close: Arc<Notify>,
}

impl Connections {
    pub(crate) fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits,
            open: Mutex::default(),
        }
    }

    /// Counts a new connection; closes others if there are too many.
    pub(crate) fn open(self: &Arc<Self>, ip: IpAddr) -> Permit {
        let (source, close) = (source_of(ip), Arc::new(Notify::new()));
        let mut open = self.lock();
        open.make_room(self.limits.per_source, |slot| slot.source == source);
        open.make_room(self.limits.total, |_| true);
        open.clock += 1;
        let id = open.clock;
        open.slots.insert(
            id,
            Slot {
                source,
                active: id,
                close: Arc::clone(&close),
            },
        );
        Permit {
            connections: Arc::clone(self),
            id,
            close,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Closes the longest idle ones until fewer than `limit` are left of those that match.
    fn make_room(&mut self, limit: usize, matches: impl Fn(&Slot) -> bool) {
        let matching = || self.slots.iter().filter(|(_, slot)| matches(slot));
        if matching().count() < limit {
            return;
        }
        let idlest = matching()
            .min_by_key(|(_, slot)| slot.active)
            .map(|(id, _)| *id);
        if let Some(slot) = idlest.and_then(|id| self.slots.remove(&id)) {
            slot.close.notify_one();
        }
    }
}

impl Permit {
    /// Takes note of a request.
    pub(crate) fn request(&self) {
        let mut open = self.connections.lock();
        open.clock += 1;
        let clock = open.clock;
        if let Some(slot) = open.slots.get_mut(&self.id) {
            slot.active = clock;
        }
    }

    /// Waits until this connection has to make room for another.
    pub(crate) async fn closed(&self) {
        self.close.notified().await;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.connections.lock().slots.remove(&self.id);
    }
}

/// What counts as one source: whoever has an IPv6 address has 2^64 of them.
fn source_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(total: usize, per_source: usize) -> Arc<Connections> {
        Arc::new(Connections::new(ConnectionLimits { total, per_source }))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_open(permit: &Permit) -> bool {
        permit.connections.lock().slots.contains_key(&permit.id)
    }

    #[test]
    fn one_source_closes_its_own_idle_connections_first() {
        let connections = connections(4, 2);
        let other = connections.open(ip("192.0.2.9"));
        let [first, second] = [(); 2].map(|()| connections.open(ip("192.0.2.1")));
        first.request();
        let third = connections.open(ip("::ffff:192.0.2.1"));
        assert!(is_open(&other) && is_open(&first) && !is_open(&second) && is_open(&third));
    }

    #[test]
    fn over_the_total_the_longest_idle_goes() {
        let connections = connections(3, 2);
        let permits: Vec<_> = (1..=4)
            .map(|n| connections.open(IpAddr::from([0x2001, 0xdb8, 0, n, 0, 0, 0, 1])))
            .collect();
        assert_eq!(
            permits.iter().map(is_open).collect::<Vec<_>>(),
            [false, true, true, true]
        );
        drop(permits);
        assert!(connections.lock().slots.is_empty());
    }

    #[test]
    fn a_slash_64_is_one_source() {
        let connections = connections(9, 1);
        let first = connections.open(ip("2001:db8::1"));
        let second = connections.open(ip("2001:db8::ffff:0:0:1"));
        assert!(!is_open(&first) && is_open(&second));
    }

    #[tokio::test]
    async fn who_must_go_is_told() {
        let connections = connections(1, 1);
        let first = connections.open(ip("192.0.2.1"));
        let _second = connections.open(ip("192.0.2.2"));
        first.closed().await;
    }
}
