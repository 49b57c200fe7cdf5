//! What reaches shards, and what they want done.

use std::net::IpAddr;
use std::time::Duration;

use riverrun_base::Time;
use riverrun_peer::PeerEvent;
use riverrun_swarm::{ConnKey, Event, Input, NetAction, Outbox, StorageDone, TorrentState};

use super::connect::Dial;
use super::{Pending, World};
use crate::host::Life;
use crate::ids::{EndId, HostId};
use crate::observe::Happening;
use crate::planted::Planted;
use crate::schedule::What;

impl World {
    /// Hands an input to a host's shard at once.
    pub fn input(&mut self, host: HostId, input: Input) {
        let target = self.host_mut(host);
        if target.is_busy {
            target.backlog.push_back(input);
        } else if self.handle(host, input) {
            self.drain(host);
        }
    }

    /// Lets a shard take an input; `false` if there is none.
    fn handle(&mut self, host: HostId, mut input: Input) -> bool {
        let now = self.now_at(host);
        let target = self.host_mut(host);
        if let Some(model) = &mut target.model {
            model.hear(now, &input);
        }
        if let Some(planted) = target.planted
            && !planted.bend_input(&mut input)
        {
            return false;
        }
        let taken = self.hosts[host.as_usize()].decide(now, input);
        self.counts.inputs += u64::from(taken);
        taken
    }

    /// The time as a host's clock has it.
    pub fn now_at(&self, host: HostId) -> Time {
        self.now + self.hosts[host.as_usize()].clock.ahead
    }

    /// For how long a host was not suspended since the world began.
    pub fn awake(&self, host: HostId) -> Duration {
        self.host(host).clock.awake(self.now)
    }

    /// Whether a host is suspended.
    pub fn is_asleep(&self, host: HostId) -> bool {
        self.asleep(host).is_some()
    }

    /// When something at a host is to go on, if the host is asleep.
    pub(super) fn asleep(&self, host: HostId) -> Option<Time> {
        if self.awake_from <= self.now {
            return None;
        }
        let until = self.hosts[host.as_usize()].clock.asleep_until;
        until.filter(|until| *until > self.now)
    }

    pub(super) fn input_later(&mut self, host: HostId, wait: Duration, input: Input) {
        let incarnation = self.host(host).incarnation;
        let pending = Pending::Input {
            host,
            incarnation,
            input,
        };
        self.pend(self.now + wait, pending);
    }

    pub(super) fn handle_pending(&mut self, pending: Pending) {
        match pending {
            Pending::Input {
                host,
                incarnation,
                input,
            } => self.handle_input(host, incarnation, input),
            Pending::Serve {
                host,
                incarnation,
                torrent,
                conn,
                span,
                payload,
            } => {
                if self.host(host).incarnation == incarnation {
                    self.serve(host, torrent, conn, span, payload);
                }
            }
            Pending::Announce(asking) => self.handle_announce(*asking),
            Pending::Datagram(datagram) => self.datagram_comes(*datagram),
            Pending::Web {
                host,
                incarnation,
                conn,
            } => self.web_seed_answers(host, incarnation, conn),
            Pending::DiskRecovers(host) => self.recover_disk(host),
            Pending::Forget(end) => self.forget(end),
            Pending::ForgetCut => self.forget_cut(),
            Pending::Action(action) => self.act_awake(action),
        }
    }

    fn handle_input(&mut self, host: HostId, incarnation: u32, input: Input) {
        if self.host(host).incarnation != incarnation {
            return;
        }
        if let Some(until) = self.asleep(host) {
            let pending = Pending::Input {
                host,
                incarnation,
                input,
            };
            self.pend(until, pending);
            return;
        }
        if let Input::Storage {
            torrent,
            done: StorageDone::Durable(pieces),
        } = &input
        {
            self.make_durable(host, *torrent, pieces);
        }
        self.input(host, input);
    }

    /// A host's timeout is due.
    pub(super) fn wake(&mut self, host: HostId) {
        if let Some(until) = self.asleep(host) {
            self.schedule.add(until, What::Wake(host));
            return;
        }
        let now = self.now_at(host);
        let target = &mut self.hosts[host.as_usize()];
        target.wakes_at = None;
        if target.shard.is_none() || target.planted == Some(Planted::NeverWakes) {
            return;
        }
        if let Some(model) = &mut target.model {
            model.hear_timeout(now);
        }
        self.counts.inputs += u64::from(target.decide_timeout(now));
        self.drain(host);
    }

    /// Does everything that a host's shard wants done. What its connections report meanwhile waits until that is done, as
    /// it does between two tasks.
    fn drain(&mut self, host: HostId) {
        self.host_mut(host).is_busy = true;
        loop {
            self.drain_once(host);
            let Some(next) = self.host_mut(host).backlog.pop_front() else {
                break;
            };
            self.handle(host, next);
        }
        self.host_mut(host).is_busy = false;
        self.set_alarm(host);
    }

    fn drain_once(&mut self, host: HostId) {
        let mut out = std::mem::take(&mut self.host_mut(host).out);
        if let Some(trace) = &mut self.trace {
            trace.update(format!("{} {} {out:?}", self.now, host.0).as_bytes());
        }
        if self.config.check_invariants
            && let Some(shard) = self.host(host).shard()
        {
            shard.check_invariants();
        }
        if let Some(planted) = self.host(host).planted {
            let torrent = self.host(host).torrent();
            planted.bend_outbox(&mut out, torrent, &self.peer_ips(host));
        }
        self.compare(host, &out);
        if !is_empty(&out) {
            self.carry_out(host, &mut out);
        }
        self.host_mut(host).out = out;
    }

    /// Holds what a host's shard wants done against its model.
    fn compare(&mut self, host: HostId, out: &Outbox) {
        let times = (self.now_at(host), self.now);
        let own = self.host_mut(host);
        let Some(mut model) = own.model.take() else {
            return;
        };
        model.see(times, out, own.have());
        own.model = Some(model);
    }

    /// Who is at the other ends of a host's connections, those that are being dialled counted.
    fn neighbours(&self, host: HostId) -> impl Iterator<Item = HostId> + '_ {
        let conns = self.host(host).conns.iter();
        conns.filter_map(move |(conn, _)| self.other_end(host, conn))
    }

    fn peer_ips(&self, host: HostId) -> Vec<IpAddr> {
        let others = self.neighbours(host);
        others.map(|other| self.host(other).addr().ip()).collect()
    }

    fn carry_out(&mut self, host: HostId, out: &mut Outbox) {
        let is_stopped = |event: &Event| {
            matches!(
                event,
                Event::State {
                    state: TorrentState::Stopped,
                    ..
                }
            )
        };
        let has_stopped = out.events.iter().any(is_stopped);
        for event in out.events.drain(..) {
            self.event(host, event);
        }
        // What is told to web seeds follows at once.
        for action in &out.net {
            if let NetAction::OpenWebSeed { conn, seed, info } = action {
                self.open_web_seed(host, *conn, (seed, info));
            }
        }
        for (conn, command) in out.peers.drain(..) {
            self.tell(host, conn, command);
        }
        for (torrent, job) in out.storage.drain(..) {
            self.storage(host, torrent, job);
        }
        for torrent in out.loads.drain(..) {
            self.load(host, torrent);
        }
        for action in out.net.drain(..) {
            self.net(host, action);
        }
        // Goodbyes are said by then.
        if has_stopped {
            self.go_if_stopped(host);
        }
    }

    fn set_alarm(&mut self, host: HostId) {
        let target = &mut self.hosts[host.as_usize()];
        let due = target.shard.as_ref().and_then(|shard| shard.poll_timeout());
        let Some(due) = due else { return };
        let ahead = u64::try_from(target.clock.ahead.as_micros()).unwrap_or(u64::MAX);
        let at = Time::from_micros(due.as_micros().saturating_sub(ahead));
        // Never in the same instant again, or a shard that is always due would stop the clock.
        let at = at.max(self.now + Duration::from_micros(1));
        if target.wakes_at.is_none_or(|wakes| at < wakes) {
            target.wakes_at = Some(at);
            self.schedule.add(at, What::Wake(host));
        }
    }

    fn net(&mut self, host: HostId, action: NetAction) {
        match action {
            NetAction::Dial {
                conn,
                addr,
                info_hash,
                attach,
                encrypted,
                ..
            } => {
                let dial = Dial {
                    info_hash,
                    attach,
                    encrypted,
                };
                self.dial(host, conn, addr, dial);
            }
            NetAction::Accept {
                token,
                conn,
                attach,
            } => self.accept(host, token, conn, attach),
            NetAction::Refuse { token, .. } => self.refuse(EndId::from_token(token)),
            // No two hosts share a local network: who asks there finds nobody.
            NetAction::AnnounceLocal { .. } => self.counts.elsewhere += 1,
            action @ NetAction::FindPeers { .. } => {
                self.counts.elsewhere += 1;
                self.find_peers(host, &action);
            }
            // Web seeds are open already.
            NetAction::OpenWebSeed { .. } | NetAction::MeetNode(_) => {}
            NetAction::Announce {
                torrent,
                tracker,
                url,
                request,
            } => self.announce(host, torrent, tracker, url.as_str(), request),
        }
    }

    fn event(&mut self, host: HostId, event: Event) {
        match &event {
            Event::Added {
                request, torrent, ..
            } => {
                let at = usize::try_from(*request).unwrap_or(usize::MAX);
                if let Some(own) = self.host_mut(host).torrents.get_mut(at) {
                    own.key = Some(*torrent);
                }
            }
            Event::PieceVerified { torrent, piece } => {
                if let Some(at) = self.host(host).torrent_at(*torrent) {
                    let content = self.host(host).torrents[at].content;
                    self.note_spread(content, *piece);
                }
                let piece = *piece;
                let now = self.now;
                self.host_mut(host).tally.first_piece_at.get_or_insert(now);
                self.happen(|| Happening::Verified { host, piece });
                self.note_completion(host);
            }
            Event::PieceFailed { piece, .. } => {
                let piece = *piece;
                self.happen(|| Happening::Failed { host, piece });
            }
            Event::State { state, .. } => {
                self.happen(|| Happening::State {
                    host,
                    state: state.clone(),
                });
            }
            Event::Completed { .. } => self.leave_after_completion(host),
            Event::PeerBanned { ip, .. } => {
                let banned = self
                    .hosts()
                    .find(|(_, other)| other.addr().ip() == *ip)
                    .map(|(id, _)| id);
                self.happen(|| Happening::Banned {
                    by: host,
                    host: banned,
                });
            }
            Event::Removed { torrent } => {
                if let Some(at) = self.host(host).torrent_at(*torrent) {
                    self.host_mut(host).torrents[at].key = None;
                }
            }
            Event::Picked {
                conn, piece, why, ..
            } => self.explain_pick(host, *conn, *piece, *why),
            Event::Slot {
                conn,
                unchoked,
                why,
                ..
            } => self.explain_slot(host, *conn, *unchoked, *why),
            _ => {}
        }
        if self.config.keep_events {
            self.host_mut(host).events.push(event);
        }
    }

    /// A host has verified a piece: whether it was the last.
    fn note_completion(&mut self, host: HostId) {
        if self.host(host).tally.completed_at.is_some() || !self.host(host).has_all() {
            return;
        }
        let now = self.now;
        self.host_mut(host).tally.completed_at = Some(now);
        self.happen(|| Happening::Completed { host });
    }

    /// A connection of a host reports.
    pub(super) fn peer(&mut self, host: HostId, conn: ConnKey, event: PeerEvent) {
        self.input(host, Input::Peer { conn, event });
    }

    /// A connection reports at an end.
    pub(super) fn peer_at(&mut self, end: EndId, event: PeerEvent) {
        let Some(wire) = &self.wires[end.wire()] else {
            return;
        };
        let end = &wire.ends[end.side()];
        if let Some(conn) = end.key {
            let host = end.host;
            self.peer(host, conn, event);
        }
    }

    /// Who is at the other end of a connection.
    pub fn other_end(&self, host: HostId, conn: ConnKey) -> Option<HostId> {
        let end = self.host(host).conns.get(conn)?;
        let wire = self.wires[end.wire()].as_deref()?;
        Some(wire.ends[end.other().side()].host)
    }

    /// Whether a host takes part.
    pub(super) fn is_up(&self, host: HostId) -> bool {
        matches!(self.host(host).life, Life::Up | Life::Leaving)
    }
}

/// Most of what happens leads to nothing.
fn is_empty(out: &Outbox) -> bool {
    out.events.is_empty()
        && out.peers.is_empty()
        && out.storage.is_empty()
        && out.loads.is_empty()
        && out.net.is_empty()
}
