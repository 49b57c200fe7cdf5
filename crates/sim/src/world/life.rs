//! Hosts come, go, crash, sleep; and what operators do.

use std::sync::Arc;
use std::time::Duration;

use riverrun_base::PieceIndex;
use riverrun_metainfo::{Info, PieceHashes, PieceLayers};
use riverrun_swarm::{AddTorrent, Config, Input, Summary, TorrentCommand, TorrentKey};

use super::{Pending, World};
use crate::action::Action;
use crate::config::Stay;
use crate::host::{Conns, Life};
use crate::ids::{ContentId, EndId, HostId};
use crate::observe::Happening;
use crate::schedule::What;
use crate::socket::Sockets;
use crate::streams::{happens, mix};
use crate::wire::{Message, Wire};

/// How long it takes to read metadata from a disk that is not busy.
const LOAD_TIME: Duration = Duration::from_millis(5);

impl World {
    /// Does something to the world, or once a machine is awake that has to be for it.
    pub(super) fn act_awake(&mut self, action: Action) {
        match action.user().and_then(|host| self.asleep(host)) {
            Some(until) => self.plan(until, action),
            None => self.act(action),
        }
    }

    /// Does something to the world, now.
    pub fn act(&mut self, action: Action) {
        match action {
            Action::Join(host) => self.join(host),
            Action::Leave(host) => self.leave(host),
            Action::Crash { host, power } => self.crash(host, power),
            Action::Restart(host) => self.restart(host),
            Action::Command(host, command) => self.command(host, command),
            Action::Limits(host, limits) => self.input(host, Input::Limits(limits)),
            Action::Rates { host, up, down } => {
                let own = self.host_mut(host);
                (own.config.up, own.config.down) = (up, down);
                own.up.gate.set_rate(up);
                own.down.set_rate(down);
            }
            Action::Manners(host, manners) => {
                self.host_mut(host).config.manners = manners;
                self.plan_mischief(host);
            }
            Action::Split(groups) => self.split(&groups),
            Action::Heal => {
                self.is_split = false;
                self.happen(|| Happening::Split { is_split: false });
            }
            Action::Tracker { index, down } => {
                if let Some(tracker) = self.trackers.get_mut(index) {
                    tracker.set_down(down);
                }
            }
            Action::Leap(host, by) => {
                self.host_mut(host).clock.ahead += by;
                self.happen(|| Happening::ClockMoved { host });
                self.schedule.add(self.now, What::Wake(host));
            }
            Action::Sleep(host, time) => self.sleep(host, time),
            Action::DiskFails(host, time) => {
                let until = self.now + time;
                self.host_mut(host).disk.fails_until = Some(until);
                self.pend(until, Pending::DiskRecovers(host));
            }
            Action::DiskSpace(host, space) => {
                self.host_mut(host).disk.config.space = space;
                self.pend(self.now, Pending::DiskRecovers(host));
            }
            Action::Spoil(host, piece) => self.spoil(host, piece),
            Action::Note(text) => self.happen(|| Happening::Note { text }),
        }
    }

    /// A host's user wants something of its torrent.
    pub fn command(&mut self, host: HostId, command: TorrentCommand) {
        if let Some(torrent) = self.host(host).torrent() {
            self.input(host, Input::Torrent { torrent, command });
        }
    }

    fn join(&mut self, host: HostId) {
        if self.host(host).life != Life::Coming {
            return;
        }
        self.start(host);
        let now = self.now;
        self.host_mut(host).tally.joined_at = Some(now);
        self.happen(|| Happening::Joined { host });
        if let Stay::For(secs) = self.host(host).config.stay {
            self.plan(now + secs_of(secs), Action::Leave(host));
        }
        self.plan_mischief(host);
    }

    /// A new process.
    fn start(&mut self, host: HostId) {
        let (explain, record) = (self.watch.reasons, self.config.record);
        let models = self.config.models;
        let own = self.host_mut(host);
        own.life = Life::Up;
        own.incarnation += 1;
        let seed = mix(own.seed ^ u64::from(own.incarnation));
        let mut config = Config::clone(&own.swarm_config);
        config.explain |= explain;
        if let Some(planted) = own.planted {
            planted.bend_config(&mut config);
        }
        own.start_shard(config, seed, record);
        if models && own.config.manners.is_honest() {
            own.start_model();
        }
        own.wakes_at = None;
        self.open_services(host);
        for at in 0..self.host(host).torrents.len() {
            self.add_torrent(host, at);
        }
    }

    /// Has a host's shard take in a torrent, if the host is up.
    pub(super) fn add_torrent(&mut self, host: HostId, at: usize) {
        let trackers = self.tiers();
        let own = self.host(host);
        let torrent = &own.torrents[at];
        let content = self.content(torrent.content);
        let layout = content.info().layout();
        let dozes = own.config.doze_after.is_some() && own.incarnation > 1;
        let summary = (dozes && torrent.store.durable.all()).then(|| Summary {
            is_complete: true,
            is_private: content.info().is_private(),
            pieces: layout.piece_count(),
            wanted: layout.piece_count(),
            total_bytes: layout.payload_len(),
            wanted_bytes: layout.payload_len(),
        });
        let is_known = summary.is_none() && !torrent.is_magnet;
        let add = AddTorrent {
            request: at as u64,
            hashes: content.info().hashes(),
            metadata: is_known.then(|| self.metadata(host, at)),
            summary,
            trackers,
            peers: Vec::new(),
            web_seeds: self.web.seeds(),
            options: torrent.options.clone(),
            uploaded_bytes: 0,
            downloaded_bytes: 0,
        };
        self.input(host, Input::Add(Box::new(add)));
    }

    /// What is kept of a torrent's metadata where its decisions do not have it.
    fn metadata(&self, host: HostId, at: usize) -> (Arc<Info>, PieceHashes) {
        let torrent = &self.host(host).torrents[at];
        let content = self.content(torrent.content);
        let hashes = if torrent.bare {
            PieceHashes::new(content.info(), &PieceLayers::new())
        } else {
            content.hashes().clone()
        };
        (content.info().clone(), hashes)
    }

    /// Loads metadata for a host's shard.
    pub(super) fn load(&mut self, host: HostId, torrent: TorrentKey) {
        let own = self.host(host);
        let Some(at) = own.torrent_at(torrent) else {
            return;
        };
        let metadata = (!own.has_lost_metadata).then(|| self.metadata(host, at));
        let loaded = Input::Loaded { torrent, metadata };
        self.input_later(host, LOAD_TIME, loaded);
    }

    /// A host says goodbye and goes.
    fn leave(&mut self, host: HostId) {
        match self.host(host).life {
            Life::Up => {
                self.host_mut(host).life = Life::Leaving;
                self.input(host, Input::Shutdown);
            }
            Life::Coming | Life::Crashed => self.go(host),
            Life::Leaving | Life::Gone => {}
        }
    }

    /// Goes once nothing is left to do.
    pub(super) fn go_if_stopped(&mut self, host: HostId) {
        let own = self.host(host);
        if own.life != Life::Leaving {
            return;
        }
        let now = self.now_at(host);
        let is_stopped = own.shard().is_some_and(|shard| {
            shard.torrents().all(|torrent| {
                shard
                    .stats(now, torrent)
                    .is_none_or(|stats| stats.state == riverrun_swarm::TorrentState::Stopped)
            })
        });
        if is_stopped {
            self.go(host);
        }
    }

    fn go(&mut self, host: HostId) {
        let now = self.now;
        let own = self.host_mut(host);
        own.life = Life::Gone;
        own.tally.left_at = Some(now);
        self.end_process(host);
        self.happen(|| Happening::Left { host });
    }

    /// The process has ended: its memory is gone.
    fn end_process(&mut self, host: HostId) {
        self.web.forget(host);
        let own = self.host_mut(host);
        own.shard = None;
        own.incarnation += 1;
        own.wakes_at = None;
        own.backlog.clear();
        own.disk.unwritten.clear();
        own.disk.is_faulted = false;
        own.sockets = Sockets::default();
        for torrent in &mut own.torrents {
            torrent.key = None;
            torrent.store.crash();
        }
    }

    fn crash(&mut self, host: HostId, power: bool) {
        if !self.is_up(host) {
            return;
        }
        let conns = std::mem::take(&mut self.host_mut(host).conns);
        self.drop_conns(&conns, power);
        self.drop_callers(host, power);
        self.lose_unsynced(host, power);
        self.end_process(host);
        let own = self.host_mut(host);
        own.life = Life::Crashed;
        own.up.turns.clear();
        self.happen(|| Happening::Crashed { host, power });
    }

    /// A kernel says that its process is gone; nobody says so for one without power.
    fn drop_conns(&mut self, conns: &Conns, power: bool) {
        let silence = self.config.idle_timeout;
        for (_, end) in conns.iter() {
            if power {
                self.pend(self.now + silence, Pending::Forget(end.other()));
            } else {
                self.send(end, Message::Closed);
            }
            self.end_silently(end);
        }
    }

    /// Whoever is about to connect hears of the end as those do who are connected: it is in no host's list yet.
    fn drop_callers(&mut self, host: HostId, power: bool) {
        let silence = self.config.dial_timeout;
        let called = |wire: &Wire| {
            let [dials, listens] = &wire.ends;
            !wire.is_ready && listens.host == host && listens.key.is_none() && dials.key.is_some()
        };
        let ends = (0..).zip(&self.wires).filter_map(|(at, wire)| {
            let called = wire.as_deref().is_some_and(called);
            called.then(|| EndId::new(at, 1))
        });
        for end in ends.collect::<Vec<_>>() {
            if power {
                self.pend(self.now + silence, Pending::Forget(end.other()));
            } else {
                self.send(end, Message::Closed);
            }
        }
    }

    /// An end is over, and there is nobody to report that to.
    fn end_silently(&mut self, end_id: EndId) {
        let Some(wire) = self.wires[end_id.wire()].as_deref_mut() else {
            return;
        };
        wire.ends[end_id.side()].key = None;
        let (from, to) = (wire.ends[0].host, wire.ends[1].host);
        let told = std::mem::take(&mut wire.is_ready);
        if wire.is_over() {
            self.wires[end_id.wire()] = None;
        }
        if told {
            self.happen(|| Happening::Disconnected { from, to });
        }
    }

    fn lose_unsynced(&mut self, host: HostId, power: bool) {
        if !power {
            return;
        }
        let own = &mut self.hosts[host.as_usize()];
        let torn = own.disk.config.torn;
        for torrent in &mut own.torrents {
            let store = &mut torrent.store;
            let unsynced: Vec<PieceIndex> = store
                .written
                .ones()
                .filter(|piece| !store.durable.has(*piece))
                .collect();
            for piece in unsynced {
                if happens(&mut self.streams.disks, torn) {
                    store.spoil(piece);
                }
            }
        }
    }

    fn restart(&mut self, host: HostId) {
        if self.host(host).life != Life::Crashed {
            return;
        }
        self.start(host);
        self.happen(|| Happening::Restarted { host });
    }

    fn sleep(&mut self, host: HostId, time: Duration) {
        if self.asleep(host).is_some() {
            // Nobody puts a machine to sleep that sleeps; what waits for it to wake would come in another order.
            return;
        }
        let (now, until) = (self.now, self.now + time);
        self.awake_from = self.awake_from.max(until);
        self.happen(|| Happening::ClockMoved { host });
        let own = self.host_mut(host);
        own.clock.sleep(now, until);
        // What stood still while others went on is behind them; its clock is not.
        let conns: Vec<EndId> = own.conns.iter().map(|(_, end)| end).collect();
        self.schedule.add(until, What::Wake(host));
        if time < self.config.idle_timeout {
            return;
        }
        let silence = self.config.idle_timeout;
        for end in conns {
            self.pend(self.now + silence, Pending::Forget(end.other()));
            self.pend(until, Pending::Forget(end));
        }
    }

    fn split(&mut self, groups: &[(HostId, u32)]) {
        self.is_split = true;
        for host in &mut self.hosts {
            host.group = 0;
        }
        for (host, group) in groups {
            self.host_mut(*host).group = *group;
        }
        self.happen(|| Happening::Split { is_split: true });
        let silence = self.config.idle_timeout;
        self.pend(self.now + silence, Pending::ForgetCut);
    }

    fn spoil(&mut self, host: HostId, piece: PieceIndex) {
        let own = self.host_mut(host);
        if let Some(torrent) = own.torrents.first_mut() {
            torrent.store.spoil(piece);
            own.has_rotted = true;
            self.happen(|| Happening::Spoiled { host, piece });
        }
    }

    /// Somebody has received a piece of a torrent.
    pub(super) fn note_spread(&mut self, content: ContentId, piece: PieceIndex) {
        let state = &mut self.contents[content.0 as usize];
        if !state.spread.set(piece) || !state.spread.all() {
            return;
        }
        let leaving: Vec<HostId> = self
            .hosts()
            .filter(|(_, host)| {
                host.config.stay == Stay::UntilSpread
                    && host.contents().any(|(own, _)| own == content)
            })
            .map(|(id, _)| id)
            .collect();
        for host in leaving {
            self.plan(self.now, Action::Leave(host));
        }
    }

    pub(super) fn leave_after_completion(&mut self, host: HostId) {
        if let Stay::AfterCompletion(secs) = self.host(host).config.stay
            && self.host(host).has_all()
        {
            self.plan(self.now + secs_of(secs), Action::Leave(host));
        }
    }

    pub(super) fn leave_after_giving(&mut self, host: HostId) {
        let own = self.host(host);
        let (Stay::Sent(times), Some(torrent)) = (own.config.stay, own.torrents.first()) else {
            return;
        };
        #[expect(clippy::cast_precision_loss, reason = "a threshold, not an account")]
        let (sent, len) = (
            own.tally.sent_bytes as f64,
            self.content(torrent.content).len_bytes() as f64,
        );
        if sent >= times * len && own.life == Life::Up {
            self.plan(self.now, Action::Leave(host));
        }
    }
}

/// Seconds of a scenario; what is no time is none.
fn secs_of(secs: f64) -> Duration {
    Duration::try_from_secs_f64(secs).unwrap_or_default()
}
