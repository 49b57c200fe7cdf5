//! Addresses of peers, and which of them to dial next.

mod miss;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use riverrun_base::{Nearness, Rng, Time};

pub use self::miss::Misses;

pub(crate) use self::miss::Miss;
use crate::input::PeerSource;
use crate::priority::peer_priority;

/// How many addresses a torrent remembers: enough for any swarm's needs, a few hundred KiB at most.
const CANDIDATES_MAX: usize = 3000;
/// Failed dials of one address before it is left alone. One more and it is forgotten, for whoever named it to name it
/// again; only what the user or his link named is dialled for good.
const TRIES_MAX: u8 = 3;
/// Failed dials to one public IP address, whatever the port, before all of it is left alone: else a tracker could
/// point us at the thousand ports of a victim.
const IP_FAILURES_MAX: u8 = 3;
/// Candidates with one public IP address.
const PER_IP_MAX: u32 = 2;
/// The wait after the first failed dial; doubles each time.
const RETRY_FIRST: Duration = Duration::from_secs(30);
/// How long an address that failed too often is left alone: a victim gets three dials in this time.
const REST: Duration = Duration::from_mins(10);
/// How long to leave a peer alone after a connection that worked has ended.
const RECONNECT: Duration = Duration::from_secs(20);

/// Where we can be dialled ourselves, and how others see us.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OwnAddress {
    pub(crate) external_ip: Option<IpAddr>,
    pub(crate) listen_port: u16,
}

/// How a dialled connection ended, as far as dialling again is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DialEnd {
    /// The peer was not dialled at all, since the proxy did not let us.
    NotTried,
    /// It never came up.
    Failed(Miss),
    /// Somebody was there and hung up, or said nothing: perhaps it has to be dialled in the other manner, encrypted or
    /// in the clear.
    Refused(Miss),
    /// It was up, and neither side got anything of it.
    Useless,
    /// It was up, and of use.
    Ended,
    /// Never dial there again.
    Unwelcome,
}

/// A peer that is known by its address.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    source: PeerSource,
    failures: u8,
    /// Why it failed the last time.
    miss: Miss,
    rank: u32,
    state: State,
    /// It has everything: of no use to us once we have everything too.
    is_seed: bool,
    /// It is dialled in the clear, having refused to be dialled encrypted.
    is_plain: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Waiting(Time),
    /// Being dialled, or connected.
    Busy,
    /// Itself, or banned.
    Unwelcome,
}

#[derive(Clone, Copy, Debug, Default)]
struct IpRecord {
    candidates: u32,
    busy: u32,
    failures: u8,
    blocked_until: Time,
}

/// The address book of one torrent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Candidates {
    known: BTreeMap<SocketAddr, Candidate>,
    /// Those in [`State::Ready`], apart by [how far their source is trusted](trust): the fewest failures first, then by
    /// rank. They are dialled in turns, so that strangers, who choose what they name, cannot keep those away whom a
    /// tracker names.
    ready: [BTreeSet<(u8, u32, SocketAddr)>; 2],
    /// Whose turn it is.
    turn: usize,
    /// Those in [`State::Waiting`].
    waiting: BTreeSet<(Time, SocketAddr)>,
    /// Public addresses only.
    by_ip: BTreeMap<IpAddr, IpRecord>,
    per_source: BTreeMap<PeerSource, usize>,
    /// Nothing that is ready could be dialled when it was looked at last: no need to look at each again.
    dry: Option<Dry>,
}

/// What is ready, and cannot be dialled.
#[derive(Clone, Copy, Debug)]
struct Dry {
    /// Seeds were skipped.
    skips_seeds: bool,
    /// When the first IP address that is left alone may be dialled again.
    until: Option<Time>,
}

/// How many addresses of one source are remembered. Sources in which anybody can write get a share each.
const fn share_of(source: PeerSource) -> usize {
    match source {
        PeerSource::User | PeerSource::Link | PeerSource::Tracker | PeerSource::Incoming => {
            CANDIDATES_MAX
        }
        PeerSource::Dht => CANDIDATES_MAX / 2,
        PeerSource::Exchange | PeerSource::Local => CANDIDATES_MAX / 4,
    }
}

/// Where addresses of a source stand in [`Candidates::ready`]: before or behind others that anybody may have named.
const fn trust(source: PeerSource) -> usize {
    match source {
        PeerSource::User | PeerSource::Link | PeerSource::Tracker | PeerSource::Incoming => 0,
        PeerSource::Dht | PeerSource::Exchange | PeerSource::Local => 1,
    }
}

/// Whether an address may be dialled at all. `near` says that peers in our surroundings are known to be in this
/// swarm, so that strangers may name more of them.
pub(crate) fn is_dialable(
    addr: SocketAddr,
    source: PeerSource,
    own: OwnAddress,
    near: bool,
) -> bool {
    let ip = addr.ip().to_canonical();
    let is_own =
        addr.port() == own.listen_port && (own.external_ip == Some(ip) || ip.is_loopback());
    let is_host = Nearness::of(ip).is_some();
    let is_trusted = match source {
        PeerSource::User | PeerSource::Incoming => true,
        PeerSource::Link | PeerSource::Tracker => ip.is_loopback(),
        _ => false,
    };
    let port_ok = addr.port() >= 1024 || matches!(addr.port(), 80 | 443) || is_trusted;
    let strangers = matches!(source, PeerSource::Dht | PeerSource::Exchange);
    addr.port() != 0
        && !is_own
        && is_host
        && port_ok
        && (near || !strangers || !Nearness::is_local(ip))
}

impl Candidates {
    /// How many addresses are known.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// All addresses that may be dialled, and who named them.
    pub(crate) fn all(&self) -> impl Iterator<Item = (SocketAddr, PeerSource)> + '_ {
        let welcome = |known: &Candidate| !matches!(known.state, State::Unwelcome);
        let all = self.known.iter().filter(move |(_, known)| welcome(known));
        all.map(|(addr, known)| (*addr, known.source))
    }

    /// Whether some address is dialled sooner or later.
    pub(crate) fn any_to_dial(&self) -> bool {
        !self.waiting.is_empty() || self.ready.iter().any(|ready| !ready.is_empty())
    }

    /// How many addresses were dialled in vain the last time, and why.
    pub(crate) fn misses(&self) -> Misses {
        let mut misses = Misses::default();
        for known in self.known.values().filter(|known| known.failures > 0) {
            misses.count(known.miss);
        }
        misses
    }

    /// Takes in an address that [may be dialled](is_dialable). Whether it is new.
    pub(crate) fn add(
        &mut self,
        addr: SocketAddr,
        source: PeerSource,
        own: OwnAddress,
        rng: &mut Rng,
    ) -> bool {
        let addr = canonical(addr);
        if let Some(known) = self.known.get(&addr) {
            // Trust grows: a tracker that names an address that a stranger named vouches for it.
            let before = known.source;
            if source == PeerSource::Tracker {
                self.vouch(addr);
            }
            if source < before {
                move_count(&mut self.per_source, before, source);
                self.raise(addr, source);
            }
            return false;
        }
        let ip = addr.ip();
        let crowded = !Nearness::is_local(ip)
            && self
                .by_ip
                .get(&ip)
                .is_some_and(|record| record.candidates >= PER_IP_MAX);
        let count = self.per_source.get(&source).copied().unwrap_or(0);
        if crowded || count >= share_of(source) || !self.make_room(source) {
            return false;
        }
        *self.per_source.entry(source).or_default() += 1;
        if !Nearness::is_local(ip) {
            self.by_ip.entry(ip).or_default().candidates += 1;
        }
        let rank = rank(addr, own, rng);
        let candidate = Candidate {
            source,
            failures: 0,
            miss: Miss::Other,
            rank,
            state: State::Ready,
            is_seed: false,
            is_plain: false,
        };
        self.known.insert(addr, candidate);
        self.ready[trust(source)].insert((0, rank, addr));
        self.dry = None;
        true
    }

    /// Files an address under a source that is trusted more.
    fn raise(&mut self, addr: SocketAddr, source: PeerSource) {
        let Some(state) = self.known.get(&addr).map(|known| known.state) else {
            return;
        };
        self.set_state(addr, State::Busy);
        if let Some(known) = self.known.get_mut(&addr) {
            known.source = source;
        }
        self.set_state(addr, state);
    }

    /// A tracker names an address again: somebody reaches it. One failure is forgiven, and the wait for it. What is
    /// held against its IP address stays if it is named with other ports too, so that no tracker can point us at a
    /// victim; else it is forgiven too, for the only seed of a small swarm may have been away for a minute.
    fn vouch(&mut self, addr: SocketAddr) {
        let Some(candidate) = self.known.get_mut(&addr) else {
            return;
        };
        let State::Waiting(until) = candidate.state else {
            return;
        };
        let Some(fewer) = candidate.failures.checked_sub(1) else {
            return;
        };
        let saved = wait_after(candidate.failures).saturating_sub(wait_after(fewer));
        candidate.failures = fewer;
        let saved = u64::try_from(saved.as_micros()).unwrap_or(u64::MAX);
        let until = Time::from_micros(until.as_micros().saturating_sub(saved));
        self.set_state(addr, State::Waiting(until));
        let record = self.by_ip.get_mut(&addr.ip());
        if let Some(record) = record.filter(|record| record.candidates == 1) {
            record.blocked_until = Time::ZERO;
            record.failures = record.failures.saturating_sub(1);
        }
    }

    /// Takes in the address of a peer that is connected already, having dialled us.
    pub(crate) fn adopt(
        &mut self,
        addr: SocketAddr,
        source: PeerSource,
        own: OwnAddress,
        rng: &mut Rng,
    ) {
        self.add(addr, source, own, rng);
        let addr = canonical(addr);
        let Some(candidate) = self.known.get(&addr) else {
            return;
        };
        if matches!(candidate.state, State::Ready | State::Waiting(_)) {
            self.set_state(addr, State::Busy);
            if let Some(record) = self.by_ip.get_mut(&addr.ip()) {
                record.busy += 1;
            }
        }
    }

    /// How often dialling an address has failed in a row.
    pub(crate) fn failures(&self, addr: SocketAddr) -> u8 {
        self.known
            .get(&canonical(addr))
            .map_or(0, |known| known.failures)
    }

    /// Whether an address refused to be dialled encrypted, and is dialled in the clear.
    pub(crate) fn is_plain(&self, addr: SocketAddr) -> bool {
        self.known
            .get(&canonical(addr))
            .is_some_and(|known| known.is_plain)
    }

    /// Forgets the worst address if the book is full; false if none is worse than one from `source`.
    fn make_room(&mut self, source: PeerSource) -> bool {
        if self.known.len() < CANDIDATES_MAX {
            return true;
        }
        let waiting = self.waiting.iter().next_back().map(|(_, addr)| *addr);
        let worst = waiting.or_else(|| {
            let [trusted, strange] = &self.ready;
            let (_, _, addr) = strange.last().or_else(|| trusted.last())?;
            (self.known[addr].source >= source).then_some(*addr)
        });
        worst.inspect(|addr| self.remove(*addr)).is_some()
    }

    fn remove(&mut self, addr: SocketAddr) {
        self.set_state(addr, State::Busy);
        let Some(candidate) = self.known.remove(&addr) else {
            return;
        };
        if let Some(count) = self.per_source.get_mut(&candidate.source) {
            *count -= 1;
        }
        if let Some(record) = self.by_ip.get_mut(&addr.ip()) {
            record.candidates -= 1;
            if record.candidates == 0 && record.busy == 0 && record.failures == 0 {
                self.by_ip.remove(&addr.ip());
            }
        }
    }

    fn set_state(&mut self, addr: SocketAddr, state: State) {
        let Some(candidate) = self.known.get_mut(&addr) else {
            return;
        };
        match candidate.state {
            State::Ready => {
                self.ready[trust(candidate.source)].remove(&(
                    candidate.failures,
                    candidate.rank,
                    addr,
                ));
            }
            State::Waiting(until) => {
                self.waiting.remove(&(until, addr));
            }
            State::Busy | State::Unwelcome => {}
        }
        candidate.state = state;
        match state {
            State::Ready => {
                let place = (candidate.failures, candidate.rank, addr);
                self.ready[trust(candidate.source)].insert(place);
                self.dry = None;
            }
            State::Waiting(until) => {
                self.waiting.insert((until, addr));
            }
            State::Busy | State::Unwelcome => {}
        }
    }

    /// The best address to dial now; it counts as being dialled from here on. `skip_seeds` while we have
    /// everything ourselves.
    pub(crate) fn next(&mut self, now: Time, skip_seeds: bool) -> Option<(SocketAddr, PeerSource)> {
        let addr = self.find(now, skip_seeds)?;
        self.turn = 1 - trust(self.known[&addr].source);
        self.set_state(addr, State::Busy);
        if let Some(record) = self.by_ip.get_mut(&addr.ip()) {
            record.busy += 1;
        }
        Some((addr, self.known[&addr].source))
    }

    /// The best address to dial now, which counts as before.
    pub(crate) fn find(&mut self, now: Time, skip_seeds: bool) -> Option<SocketAddr> {
        while let Some((until, addr)) = self.waiting.first().copied()
            && until <= now
        {
            self.set_state(addr, State::Ready);
        }
        self.dry = self
            .dry
            .filter(|dry| dry.until.is_none_or(|until| until > now));
        if self.is_dry(skip_seeds) {
            return None;
        }
        let usable = |addr: &SocketAddr| {
            let record = self.by_ip.get(&addr.ip()).copied().unwrap_or_default();
            let is_free = record.blocked_until <= now && record.busy < PER_IP_MAX;
            is_free && !(skip_seeds && self.known[addr].is_seed)
        };
        let best = |turn: usize| {
            self.ready[turn]
                .iter()
                .map(|(_, _, addr)| *addr)
                .find(usable)
        };
        let found = best(self.turn).or_else(|| best(1 - self.turn));
        if found.is_none() {
            let until = self.next_unblocked(now);
            let skips_seeds = skip_seeds;
            self.dry = Some(Dry { skips_seeds, until });
        }
        found
    }

    /// Takes this address to be dialled now, out of its turn, if it is known and may be. It counts as being dialled from
    /// here on.
    pub(crate) fn take(&mut self, now: Time, addr: SocketAddr) -> bool {
        let addr = canonical(addr);
        let waits = |known: &Candidate| matches!(known.state, State::Ready | State::Waiting(_));
        let record = self.by_ip.get(&addr.ip()).copied().unwrap_or_default();
        let is_free = record.blocked_until <= now && record.busy < PER_IP_MAX;
        if !is_free || !self.known.get(&addr).is_some_and(waits) {
            return false;
        }
        self.set_state(addr, State::Busy);
        if let Some(record) = self.by_ip.get_mut(&addr.ip()) {
            record.busy += 1;
        }
        true
    }

    /// When the first IP address that is left alone may be dialled again, of those with something ready.
    fn next_unblocked(&self, now: Time) -> Option<Time> {
        let ready = self.ready.iter().flatten();
        let records = ready.filter_map(|(_, _, addr)| self.by_ip.get(&addr.ip()));
        let blocked = records.map(|record| record.blocked_until);
        blocked.filter(|until| *until > now).min()
    }

    /// When an address may be dialled that may not yet.
    pub(crate) fn next_ready(&self) -> Option<Time> {
        let waiting = self.waiting.first().map(|(until, _)| *until);
        let blocked = self.dry.and_then(|dry| dry.until);
        waiting.into_iter().chain(blocked).min()
    }

    /// Whether some address may be ready to be dialled.
    pub(crate) fn has_next(&self, skip_seeds: bool) -> bool {
        !self.is_dry(skip_seeds) && self.ready.iter().any(|ready| !ready.is_empty())
    }

    fn is_dry(&self, skip_seeds: bool) -> bool {
        self.dry.is_some_and(|dry| skip_seeds || !dry.skips_seeds)
    }

    /// A peer turned out to have everything, or not.
    pub(crate) fn set_seed(&mut self, addr: SocketAddr, is_seed: bool) {
        if let Some(candidate) = self.known.get_mut(&canonical(addr)) {
            candidate.is_seed = is_seed;
            self.dry = None;
        }
    }

    /// A dialled connection is over.
    pub(crate) fn closed(&mut self, now: Time, addr: SocketAddr, end: DialEnd) {
        let addr = canonical(addr);
        self.dry = None;
        if let Some(record) = self.by_ip.get_mut(&addr.ip()) {
            record.busy = record.busy.saturating_sub(1);
            match end {
                DialEnd::Failed(_) | DialEnd::Refused(_) => {
                    record.failures = record.failures.saturating_add(1);
                }
                DialEnd::NotTried => {}
                DialEnd::Useless | DialEnd::Ended | DialEnd::Unwelcome => record.failures = 0,
            }
            if record.failures >= IP_FAILURES_MAX {
                record.failures = 0;
                record.blocked_until = now + REST;
            }
        }
        let Some(candidate) = self.known.get_mut(&addr) else {
            return;
        };
        if candidate.state == State::Unwelcome {
            return;
        }
        let miss = match end {
            DialEnd::Failed(miss) | DialEnd::Refused(miss) => Some(miss),
            DialEnd::Useless => Some(Miss::Useless),
            DialEnd::NotTried | DialEnd::Ended | DialEnd::Unwelcome => None,
        };
        candidate.miss = miss.unwrap_or(candidate.miss);
        let state = match end {
            DialEnd::Unwelcome => State::Unwelcome,
            // Nothing is held against it.
            DialEnd::NotTried => State::Ready,
            DialEnd::Ended => {
                candidate.failures = 0;
                State::Waiting(now + RECONNECT)
            }
            DialEnd::Refused(_) if !candidate.is_plain => {
                candidate.is_plain = true;
                State::Ready
            }
            DialEnd::Failed(_) | DialEnd::Refused(_) | DialEnd::Useless => {
                // In turns, for it may have changed its mind.
                candidate.is_plain &= !matches!(end, DialEnd::Refused(_));
                candidate.failures = candidate.failures.saturating_add(1);
                State::Waiting(now + wait_after(candidate.failures))
            }
        };
        self.set_state(addr, state);
        let is_given_up = |known: &Candidate| {
            let stays = matches!(known.source, PeerSource::User | PeerSource::Link);
            known.failures > TRIES_MAX && !stays
        };
        if self.known.get(&addr).is_some_and(is_given_up) {
            self.remove(addr);
        }
    }

    /// Failures so far may have been our own: whoever waits is ready.
    pub(crate) fn forgive(&mut self) {
        for (_, addr) in self.waiting.clone() {
            if let Some(candidate) = self.known.get_mut(&addr) {
                candidate.failures = 0;
            }
            self.set_state(addr, State::Ready);
        }
        for record in self.by_ip.values_mut() {
            record.failures = 0;
            record.blocked_until = Time::ZERO;
        }
        self.dry = None;
    }

    /// An address is not to be dialled any more.
    pub(crate) fn bar(&mut self, addr: SocketAddr) {
        self.set_state(canonical(addr), State::Unwelcome);
    }

    /// All addresses with this IP are not to be dialled any more.
    pub(crate) fn bar_ip(&mut self, ip: IpAddr) {
        let of_ip = self
            .known
            .keys()
            .filter(|addr| addr.ip() == ip.to_canonical());
        for addr in of_ip.copied().collect::<Vec<_>>() {
            self.set_state(addr, State::Unwelcome);
        }
    }

    /// The metadata has come: forgets what a torrent with it must not have learnt.
    pub(crate) fn forget_forbidden(&mut self, is_private: bool) {
        let public = self
            .known
            .iter()
            .filter(|(_, known)| !known.source.may_serve(is_private));
        for addr in public.map(|(addr, _)| *addr).collect::<Vec<_>>() {
            self.remove(addr);
        }
    }

    /// A private torrent has switched trackers: forgets what the last one said (BEP 27).
    pub(crate) fn forget_tracker(&mut self) {
        let told = self
            .known
            .iter()
            .filter(|(_, known)| known.source == PeerSource::Tracker);
        for addr in told.map(|(addr, _)| *addr).collect::<Vec<_>>() {
            self.remove(addr);
        }
    }

    /// Our address as seen from outside has changed: everybody's rank with it.
    pub(crate) fn rank_again(&mut self, own: OwnAddress, rng: &mut Rng) {
        for addr in self.known.keys().copied().collect::<Vec<_>>() {
            let state = self.known[&addr].state;
            self.set_state(addr, State::Busy);
            if let Some(candidate) = self.known.get_mut(&addr) {
                candidate.rank = rank(addr, own, rng);
            }
            self.set_state(addr, state);
        }
    }

    /// Panics if the indices do not agree with the book.
    pub(crate) fn check_invariants(&self) {
        let mut ready = 0;
        let mut waiting = 0;
        for (addr, candidate) in &self.known {
            match candidate.state {
                State::Ready => {
                    ready += 1;
                    let place = (candidate.failures, candidate.rank, *addr);
                    assert!(self.ready[trust(candidate.source)].contains(&place));
                }
                State::Waiting(until) => {
                    waiting += 1;
                    assert!(self.waiting.contains(&(until, *addr)));
                }
                State::Busy | State::Unwelcome => {}
            }
        }
        let in_ready: usize = self.ready.iter().map(BTreeSet::len).sum();
        assert_eq!((ready, waiting), (in_ready, self.waiting.len()));
        assert_eq!(self.per_source.values().sum::<usize>(), self.known.len());
        assert!(self.known.len() <= CANDIDATES_MAX);
    }
}

fn move_count(counts: &mut BTreeMap<PeerSource, usize>, from: PeerSource, to: PeerSource) {
    if let Some(count) = counts.get_mut(&from) {
        *count -= 1;
    }
    *counts.entry(to).or_default() += 1;
}

/// An IPv4 address that hides in an IPv6 one is the same peer.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// How long to leave an address alone after so many failures in a row.
fn wait_after(failures: u8) -> Duration {
    match failures {
        0 => Duration::ZERO,
        TRIES_MAX.. => REST,
        _ => RETRY_FIRST * (1 << u32::from(failures - 1)),
    }
}

/// The order of dialling: the higher the priority of the pair (BEP 40) the lower the rank; a random one while we
/// do not know our address.
fn rank(addr: SocketAddr, own: OwnAddress, rng: &mut Rng) -> u32 {
    let known = own
        .external_ip
        .and_then(|ip| peer_priority(SocketAddr::new(ip, own.listen_port), addr));
    known.map_or_else(|| rng.next_u32(), |priority| !priority)
}

#[cfg(test)]
mod tests;
