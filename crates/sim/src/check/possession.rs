//! What hosts hold for right, claim, and send (S1, S2, S4).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use riverrun_base::{Bitfield, BlockSpan, PieceIndex};
use riverrun_swarm::TorrentState;

use super::{Findings, PerHost, Property, is_sound};
use crate::content::Payload;
use crate::ids::HostId;
use crate::observe::Happening;
use crate::world::World;

/// What a power cut may cost beyond the time that a disk takes to sync: pieces of the last seconds.
const LOSS_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Possession {
    hosts: PerHost<Holding>,
}

/// What is known of one host's pieces.
#[derive(Debug, Default)]
struct Holding {
    /// Pieces whose bytes have rotted on disk: nobody can know before somebody looks.
    rotten: BTreeSet<PieceIndex>,
    /// Pieces that were held for right at some time since the process began.
    trusted: BTreeSet<PieceIndex>,
    /// When pieces were verified, in the time that the host was awake: a disk syncs nothing while its machine is
    /// suspended. Those found at the start are not here.
    verified: BTreeMap<PieceIndex, Duration>,
    /// Storage has reported a fault since the pieces were verified, or the disk has no room.
    was_faulted: bool,
    is_checking: bool,
}

impl Possession {
    pub(super) fn see(&mut self, world: &World, happening: &Happening, findings: &mut Findings) {
        match happening {
            Happening::Spoiled { host, piece } => {
                self.hosts.of(*host).rotten.insert(*piece);
            }
            Happening::Verified { host, piece } => {
                let holding = self.hosts.of(*host);
                holding.rotten.remove(piece);
                holding.verified.insert(*piece, world.awake(*host));
                self.look_at(world, *host, *piece, findings);
            }
            Happening::Durable { host, pieces } => {
                for piece in pieces {
                    self.look_at(world, *host, *piece, findings);
                }
            }
            Happening::State { host, state } => self.see_state(world, *host, state, findings),
            Happening::Crashed { host, power } => {
                self.see_crash(world, *host, *power, findings);
            }
            Happening::Serving {
                from,
                span,
                payload,
                ..
            } if is_sound(world, *from) => {
                self.look_at(world, *from, span.piece, findings);
                self.see_serving(world, *from, *span, *payload, findings);
            }
            _ => {}
        }
    }

    /// Looks at all pieces of a host.
    fn look(&mut self, world: &World, id: HostId, findings: &mut Findings) {
        let host = world.host(id);
        let held = [host.have(), host.durable()].into_iter().flatten();
        let held: BTreeSet<PieceIndex> = held.flat_map(Bitfield::ones).collect();
        for piece in held {
            self.look_at(world, id, piece, findings);
        }
    }

    /// S1: what is held for right is right.
    fn look_at(&mut self, world: &World, id: HostId, piece: PieceIndex, findings: &mut Findings) {
        if !is_sound(world, id) {
            return;
        }
        let host = world.host(id);
        let holding = self.hosts.of(id);
        let has = |pieces: Option<&Bitfield>| pieces.is_some_and(|pieces| pieces.has(piece));
        let is_rotten = holding.rotten.contains(&piece);
        if has(host.have()) {
            holding.trusted.insert(piece);
            if !host.is_right(piece) && !is_rotten {
                let what = format!("has {piece}, whose bytes are wrong");
                findings.add(Property::NoFalseHave, id, what);
            }
        }
        if has(host.durable()) && !host.is_on_disk(piece) && !is_rotten {
            let what = format!("claims {piece} in its journal, whose bytes are not on disk");
            findings.add(Property::NoFalseHave, id, what);
        }
    }

    /// S2: what is sent is right and was verified.
    fn see_serving(
        &mut self,
        world: &World,
        from: HostId,
        span: BlockSpan,
        payload: Payload,
        findings: &mut Findings,
    ) {
        let piece = span.piece;
        let holding = self.hosts.of(from);
        if holding.rotten.contains(&piece) {
            return;
        }
        if !holding.trusted.contains(&piece) && !world.host(from).passes_on(span) {
            let what = format!("sends of {piece}, which it has never verified");
            findings.add(Property::NothingUnverifiedSent, from, what);
        } else if payload != Payload::Right {
            let what = format!("sends wrong bytes of {piece}");
            findings.add(Property::NothingUnverifiedSent, from, what);
        }
    }

    fn see_state(
        &mut self,
        world: &World,
        id: HostId,
        state: &TorrentState,
        findings: &mut Findings,
    ) {
        let holding = self.hosts.of(id);
        match state {
            TorrentState::Faulted(_) => holding.was_faulted = true,
            TorrentState::Checking => holding.is_checking = true,
            _ if std::mem::take(&mut holding.is_checking) => {
                // Everything was looked at: what has rotted is known now.
                let have = world.host(id).have();
                let overlooked = holding
                    .rotten
                    .iter()
                    .find(|piece| have.is_some_and(|have| have.has(**piece)));
                if let Some(piece) = overlooked.filter(|_| is_sound(world, id)) {
                    let what = format!("has checked {piece}, which has rotted, and not seen it");
                    findings.add(Property::NoFalseHave, id, what);
                }
            }
            _ => {}
        }
        self.look(world, id, findings);
    }

    /// S4: what was verified long enough ago is on disk and in the journal.
    fn see_crash(&mut self, world: &World, id: HostId, power: bool, findings: &mut Findings) {
        let host = world.host(id);
        let holding = self.hosts.of(id);
        holding.trusted.clear();
        holding.is_checking = false;
        let verified = std::mem::take(&mut holding.verified);
        if std::mem::take(&mut holding.was_faulted) || !is_sound(world, id) {
            return;
        }
        let patience = host.config.disk.sync + LOSS_MAX;
        let old = |at: &Duration| power && *at + patience <= world.awake(id);
        let claimed = |piece: PieceIndex| host.durable().is_some_and(|have| have.has(piece));
        for (piece, _) in verified.iter().filter(|(_, at)| old(at)) {
            if !claimed(*piece) && !holding.rotten.contains(piece) {
                let what = format!("has lost {piece}, verified long before the power cut");
                findings.add(Property::CrashesCostLittle, id, what);
            }
        }
    }
}
