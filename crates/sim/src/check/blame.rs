//! Who is banned, and who should be (S3).

use std::collections::{BTreeMap, BTreeSet};

use riverrun_base::PieceIndex;

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
    /// Who has sent what of pieces that are not verified.
    senders: BTreeMap<PieceIndex, Senders>,
    banned: BTreeSet<HostId>,
}

#[derive(Debug, Default)]
struct Senders {
    all: BTreeSet<HostId>,
    has_wrong: bool,
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
                senders.all.insert(*from);
                senders.has_wrong |= *payload != Payload::Right;
            }
            Happening::Verified { host, piece } => {
                self.hosts.of(*host).senders.remove(piece);
            }
            Happening::Failed { host, piece } => self.failed.push((*host, *piece)),
            Happening::Banned {
                by,
                host: Some(host),
            } => self.bans.push((*by, *host)),
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
        let Some(senders) = case.senders.remove(&piece) else {
            return;
        };
        let only = senders.all.first().filter(|_| senders.all.len() == 1);
        let Some(liar) = only.copied().filter(|_| senders.has_wrong) else {
            return;
        };
        if !case.banned.contains(&liar) && is_sound(world, host) {
            let what = format!("has not banned {liar}, which alone gave {piece}, wrong");
            findings.add(Property::LiarsBanned, host, what);
        }
    }
}
