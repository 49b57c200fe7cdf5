//! Who is banned, and who should be (S3).

use std::collections::{BTreeMap, BTreeSet};

use riverrun_base::PieceIndex;
use riverrun_swarm::TorrentState;

use super::{Findings, PerHost, Property, is_sound};
use crate::content::Payload;
use crate::ids::HostId;
use crate::observe::Happening;
use crate::world::World;

#[derive(Debug, Default)]
pub(super) struct Blame {
    hosts: PerHost<Case>,
    /// Bans and failures of the event that is looked at.
    bans: Vec<(HostId, HostId)>,
    failed: Vec<(HostId, PieceIndex)>,
}

/// What one host has received.
#[derive(Debug, Default)]
struct Case {
    /// Who has sent which block of pieces that are not verified, the last time, and whether it was wrong. After a
    /// failure those that are known to be right stay (BEP 52), and the others come again.
    senders: BTreeMap<PieceIndex, BTreeMap<u32, (HostId, bool)>>,
    banned: BTreeSet<HostId>,
}

impl Blame {
    pub(super) fn see(&mut self, world: &World, happening: &Happening) {
        match happening {
            Happening::Received {
                from,
                to,
                span,
                payload,
                ..
            } if is_sound(world, *to) => {
                let case = self.hosts.of(*to);
                let senders = case.senders.entry(span.piece).or_default();
                senders.insert(span.offset, (*from, *payload != Payload::Right));
            }
            Happening::Verified { host, piece } => {
                self.hosts.of(*host).senders.remove(piece);
            }
            Happening::Failed { host, piece } => self.failed.push((*host, *piece)),
            Happening::Banned {
                by,
                host: Some(host),
            } => self.bans.push((*by, *host)),
            // Who begins anew forgets what was begun, even if its hash is just being taken.
            Happening::State {
                host,
                state: TorrentState::Checking,
            } => self.hosts.of(*host).senders.clear(),
            Happening::Crashed { host, .. } => *self.hosts.of(*host) = Case::default(),
            _ => {}
        }
    }

    /// After all that an event consists of.
    pub(super) fn judge(&mut self, world: &World, findings: &mut Findings) {
        for (by, host) in std::mem::take(&mut self.bans) {
            if is_sound(world, by) && is_sound(world, host) {
                let what = format!("has banned {host}, which sent nothing wrong");
                findings.add(Property::NoSoundPeerBanned, by, what);
            }
            self.hosts.of(by).banned.insert(host);
        }
        for (host, piece) in std::mem::take(&mut self.failed) {
            self.judge_failure(world, host, piece, findings);
        }
    }

    fn judge_failure(
        &mut self,
        world: &World,
        host: HostId,
        piece: PieceIndex,
        findings: &mut Findings,
    ) {
        let case = self.hosts.of(host);
        let Some(senders) = case.senders.get(&piece) else {
            return;
        };
        let hosts: BTreeSet<HostId> = senders.values().map(|(host, _)| *host).collect();
        let has_wrong = senders.values().any(|(_, wrong)| *wrong);
        let only = hosts.first().filter(|_| hosts.len() == 1 && has_wrong);
        let Some(liar) = only.copied() else {
            return;
        };
        if !case.banned.contains(&liar) && is_sound(world, host) {
            let what = format!("has not banned {liar}, which alone gave {piece}, wrong");
            findings.add(Property::LiarsBanned, host, what);
        }
    }
}
