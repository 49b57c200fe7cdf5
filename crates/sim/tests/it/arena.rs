//! A world for tests: hosts of equal lines, by one call each, every shard's invariants checked after each input, and all
//! that [must hold](riverrun_sim::check) in any world after each event.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use riverrun_base::{Bitfield, Time};
use riverrun_peer::{CloseReason, EncryptionPolicy};
use riverrun_sim::check::Checker;
use riverrun_sim::{
    Action, Content, ContentId, HostConfig, HostId, Manners, Planted, Poison, Start, TrackerConfig,
    World, WorldConfig,
};
use riverrun_swarm::{Config, Event, TorrentKey, TorrentOptions, TorrentState, TorrentStats};

pub(crate) struct Arena {
    world: World,
    checker: Checker,
    /// What new hosts get.
    content: ContentId,
}

impl Deref for Arena {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Arena {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

/// At the end of a test, if nothing else has failed: whether all held that must.
impl Drop for Arena {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let found = std::mem::take(&mut self.checker).finish(&self.world);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "{found:#?}");
    }
}

impl Arena {
    pub(crate) fn new(seed: u64, content: &Content) -> Self {
        Self::with(seed, content, |_| {})
    }

    /// Without a look at every shard's invariants after each input, which takes long with many pieces.
    pub(crate) fn unchecked(seed: u64, content: &Content) -> Self {
        Self::with(seed, content, |config| {
            config.check_invariants = false;
            config.models = false;
        })
    }

    /// With these trackers, tier by tier.
    pub(crate) fn tracked(seed: u64, content: &Content, tiers: &[&[&str]]) -> Self {
        let tracker = |name: &&str| {
            let mut config = TrackerConfig::default();
            (*name).clone_into(&mut config.name);
            config.refuses = true;
            config
        };
        let tier = |names: &&[&str]| names.iter().map(tracker).collect();
        let tiers = tiers.iter().map(tier).collect();
        Self::with(seed, content, |config| {
            config.check_invariants = false;
            config.trackers = tiers;
        })
    }

    pub(crate) fn with(
        seed: u64,
        content: &Content,
        change: impl FnOnce(&mut WorldConfig),
    ) -> Self {
        let mut config = WorldConfig::default();
        config.seed = seed;
        config.keep_events = true;
        config.check_invariants = true;
        config.models = true;
        // What is under test are decisions: lines that are full at once show them clearer.
        config.tcp = None;
        config.trackers[0][0].refuses = true;
        change(&mut config);
        let mut world = World::new(config);
        let content = world.add_content(content.clone());
        Self {
            world,
            checker: Checker::new(),
            content,
        }
    }

    /// A host with an uplink of `rate` bytes per second that treats its torrent as it is told.
    pub(crate) fn host_with(
        &mut self,
        mut config: HostConfig,
        rate: u64,
        options: &TorrentOptions,
    ) -> HostId {
        config.up = Some(rate);
        config.slots = config.slots.or(Some(4));
        let host = self.world.add_host(self.content, config);
        self.world.setup(host).options(|own| *own = options.clone());
        self.settle();
        host
    }

    /// Lets what is planned for now happen: hosts join.
    pub(crate) fn settle(&mut self) {
        self.run_until(self.world.now());
    }

    /// Runs to a time.
    pub(crate) fn run_until(&mut self, end: Time) {
        self.world.observe_until(end, &mut self.checker);
    }

    pub(crate) fn seed(&mut self, rate: u64) -> HostId {
        self.host_with(HostConfig::seed(), rate, &TorrentOptions::default())
    }

    pub(crate) fn leech(&mut self, rate: u64) -> HostId {
        self.host_with(HostConfig::leecher(), rate, &TorrentOptions::default())
    }

    pub(crate) fn leech_with(&mut self, rate: u64, options: &TorrentOptions) -> HostId {
        self.host_with(HostConfig::leecher(), rate, options)
    }

    /// A leecher whose shard weighs things in its own way.
    pub(crate) fn leech_tuned(&mut self, rate: u64, tune: impl FnOnce(&mut Config)) -> HostId {
        let mut config = HostConfig::leecher().up(rate);
        config.slots = Some(4);
        let host = self.world.add_host(self.content, config);
        self.world.setup(host).shard(tune);
        self.settle();
        host
    }

    /// A leecher whose shard turns a panic in one torrent into its end, as in production.
    pub(crate) fn leech_that_contains_panics(&mut self, rate: u64) -> HostId {
        let host = self
            .world
            .add_host(self.content, HostConfig::leecher().up(rate));
        let contain = |config: &mut riverrun_swarm::Config| config.contain_panics = true;
        self.world.setup(host).shard(contain);
        self.settle();
        host
    }

    /// A leecher that makes a mistake.
    pub(crate) fn mistaken(&mut self, rate: u64, planted: Planted) -> HostId {
        let host = self
            .world
            .add_host(self.content, HostConfig::leecher().up(rate));
        self.world.setup(host).plant(planted);
        self.settle();
        host
    }

    /// A host whose connections are encrypted, or not.
    pub(crate) fn encrypting(
        &mut self,
        config: HostConfig,
        rate: u64,
        policy: EncryptionPolicy,
    ) -> HostId {
        let host = self.world.add_host(self.content, config.up(rate));
        self.world.setup(host).encryption(policy);
        self.settle();
        host
    }

    pub(crate) fn leech_without_layers(&mut self, rate: u64) -> HostId {
        let host = self
            .world
            .add_host(self.content, HostConfig::leecher().up(rate));
        self.world.setup(host).without_layers();
        self.settle();
        host
    }

    pub(crate) const fn own_content(&self) -> ContentId {
        self.content
    }

    /// Gives this arena's torrent to a host that has none.
    pub(crate) fn give_own(&mut self, host: HostId) {
        self.world.give(host, self.content);
    }

    pub(crate) fn magnet(&mut self, rate: u64) -> HostId {
        let mut config = HostConfig::leecher();
        config.start = Start::Magnet;
        self.host_with(config, rate, &TorrentOptions::default())
    }

    /// A seed or leecher with these manners.
    pub(crate) fn bad(&mut self, config: HostConfig, rate: u64, manners: Manners) -> HostId {
        self.host_with(config.manners(manners), rate, &TorrentOptions::default())
    }

    /// A seed that sends every n-th block wrong.
    pub(crate) fn poisoner(&mut self, rate: u64, every: u32) -> HostId {
        self.bad(HostConfig::seed(), rate, poison(every))
    }

    /// A host's process ends without a word.
    pub(crate) fn kill(&mut self, host: HostId) {
        self.world.act(Action::Crash { host, power: false });
    }

    /// A tracker, by its place among all, answers nobody, or again.
    pub(crate) fn set_down(&mut self, index: usize, down: bool) {
        self.world.act(Action::Tracker { index, down });
    }

    pub(crate) fn torrent(&self, host: HostId) -> TorrentKey {
        self.world.host(host).torrent().expect("a torrent")
    }

    pub(crate) fn stats(&self, host: HostId) -> TorrentStats {
        let shard = self.world.host(host).shard().expect("it is up");
        shard
            .stats(self.world.now(), self.torrent(host))
            .expect("its torrent")
    }

    pub(crate) fn state(&self, host: HostId) -> TorrentState {
        self.stats(host).state
    }

    /// The pieces that a host has.
    pub(crate) fn pieces(&self, host: HostId) -> Bitfield {
        let have = self.world.host(host).have().cloned();
        have.unwrap_or_else(|| Bitfield::new(self.world.content(self.content).pieces()))
    }

    /// How many.
    pub(crate) fn have(&self, host: HostId) -> u32 {
        self.pieces(host).count_ones()
    }

    pub(crate) fn events(&self, host: HostId) -> &[Event] {
        self.world.host(host).events()
    }

    /// Those whom a host has banned.
    pub(crate) fn banned(&self, host: HostId) -> Vec<HostId> {
        let met: BTreeMap<_, _> = self.world.met(host).collect();
        let banned = self.events(host).iter().filter_map(|event| match event {
            Event::PeerDisconnected {
                conn,
                why: CloseReason::Banned,
                ..
            } => Some(met[conn]),
            _ => None,
        });
        banned.collect()
    }

    pub(crate) fn sent_bytes(&self, host: HostId) -> u64 {
        self.world.host(host).tally().sent_bytes
    }

    /// Whether every piece has reached somebody who lacked it.
    pub(crate) fn is_all_out(&self) -> bool {
        self.world.is_spread(self.content)
    }

    /// The events that a host announced, plain ones left out.
    pub(crate) fn announced(&self, host: HostId) -> Vec<&'static str> {
        let own = self.world.announces().iter();
        own.filter(|announce| announce.host == host)
            .filter_map(|announce| announce.request.event.as_str())
            .collect()
    }

    /// Runs for a while.
    pub(crate) fn run_for(&mut self, time: Duration) {
        self.run_until(self.world.now() + time);
    }

    /// Runs while something holds; panics at `limit`.
    pub(crate) fn run_while(&mut self, limit: Time, mut going_on: impl FnMut(&Self) -> bool) {
        while going_on(self) {
            let now = self.world.now();
            assert!(now < limit, "not done at {limit}: {}", self.summary());
            assert!(
                self.world.step_observed(&mut self.checker),
                "nothing happens any more: {}",
                self.summary()
            );
        }
    }

    /// Runs until all of `hosts` have everything; gives when the last had.
    pub(crate) fn run_to_completion(&mut self, hosts: &[HostId], limit: Time) -> Time {
        let done = self.world.observe_while(limit, &mut self.checker, |world| {
            !hosts.iter().all(|host| world.host(*host).has_all())
        });
        assert!(done, "not done at {limit}: {}", self.summary());
        self.world.now()
    }

    /// Who is where, for a test that fails.
    pub(crate) fn summary(&self) -> String {
        let line = |(id, host): (HostId, &riverrun_sim::Host)| match host.torrent() {
            Some(_) if host.shard().is_some() => {
                let stats = self.stats(id);
                format!(
                    "{id}: {:?} {}/{} up {} down {} wasted {} conns {} unchoked {} by {}\n",
                    stats.state,
                    stats.verified,
                    stats.pieces,
                    stats.uploaded_bytes,
                    stats.downloaded_bytes,
                    stats.wasted_bytes,
                    stats.connected,
                    stats.unchoked,
                    stats.unchoking
                )
            }
            _ => format!("{id}: {:?}\n", host.life()),
        };
        self.world.hosts().map(line).collect()
    }
}

/// Of one that sends every n-th block wrong.
pub(crate) fn poison(every: u32) -> Manners {
    Manners {
        poison: Poison::Every(every),
        ..Manners::default()
    }
}
