//! Who sent wrong data, told apart from who was beside it.
//!
//! A v1 piece has one hash: when it fails, and several peers had part in it, each of them may be the liar. So its
//! blocks' digests are remembered, and the piece comes again from one peer alone. If that fails too, that
//! peer is a liar; else the blocks that differ between the two are the wrong ones, and so are their senders.
//! Nobody is banned on suspicion.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use riverrun_base::{BlockDigest, Nearness, PeerId, PieceIndex};

use crate::key::ConnKey;
use crate::outbox::BlockDigests;
use crate::web_seeds::WebSeedIndex;

/// Pieces whose failures are remembered; the oldest is forgotten. Each may hold the digests of some thousand
/// blocks.
const FAILED_MAX: usize = 64;
/// Failures remembered of one piece.
const FAILURES_MAX: usize = 4;
/// Connections that have ended and whose blocks are still to be verified. Beyond it the oldest cannot be blamed.
const DEPARTED_MAX: usize = 1024;
/// Peers that are banned. Beyond it the oldest are forgiven.
const BANNED_MAX: usize = 4096;

/// Whom to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Culprit {
    /// An address, and in our surroundings, where many peers share one, also the peer's id.
    Peer { ip: IpAddr, peer_id: Option<PeerId> },
    /// A web seed.
    WebSeed(WebSeedIndex),
}

impl Culprit {
    pub(crate) fn new(ip: IpAddr, peer_id: Option<PeerId>) -> Self {
        let ip = ip.to_canonical();
        Self::Peer {
            ip,
            peer_id: peer_id.filter(|_| Nearness::is_local(ip)),
        }
    }

    /// Whether who is banned as this is banned as that.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Peer { ip, peer_id: None }, Self::Peer { ip: other, .. }) => ip == other,
            _ => self == other,
        }
    }
}

/// One block of a failed piece.
#[derive(Clone, Copy, Debug)]
struct Evidence {
    block: u32,
    sender: Culprit,
}

#[derive(Clone, Debug)]
struct Failure {
    evidence: Vec<Evidence>,
    digests: BlockDigests,
}

/// What is remembered of a piece that failed.
#[derive(Clone, Debug, Default)]
struct FailedPiece {
    failures: Vec<Failure>,
    /// What the blocks of the present attempt hash to.
    retry: BTreeMap<u32, BlockDigest>,
}

/// What follows from a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// One peer sent all of it.
    Liar(Culprit),
    /// It could be any of several.
    Unclear,
}

/// Failures, suspects and bans of one torrent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bans {
    banned: VecDeque<Culprit>,
    failed: BTreeMap<PieceIndex, FailedPiece>,
    /// Pieces in `failed`, the oldest first.
    order: VecDeque<PieceIndex>,
    suspects: BTreeSet<Culprit>,
    /// How often one of them could be asked for more than before.
    pardons: u64,
    /// Whether others give while they wait.
    others_give: bool,
    departed: VecDeque<(ConnKey, Culprit)>,
}

impl Bans {
    pub(crate) fn is_banned(&self, culprit: Culprit) -> bool {
        self.banned.iter().any(|banned| banned.covers(&culprit))
    }

    /// Whether nothing is held against anybody.
    pub(crate) fn is_empty(&self) -> bool {
        self.banned.is_empty() && self.failed.is_empty() && self.suspects.is_empty()
    }

    /// Whether anybody is under suspicion: mostly nobody is, and then nobody needs to be looked for.
    pub(crate) fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Whether others were seen to give, when last looked at.
    pub(crate) const fn others_give(&self) -> bool {
        self.others_give
    }

    /// Whether a peer had part in a failure that is not cleared up.
    pub(crate) fn is_suspect(&self, culprit: Culprit) -> bool {
        self.suspects.contains(&culprit)
    }

    /// How often suspects could be asked for more than before, because suspicion ended or nobody else gives any more.
    /// It only grows: who found nothing to ask of them looks again when it has.
    pub(crate) const fn pardons(&self) -> u64 {
        self.pardons
    }

    /// Notes whether peers that are under no suspicion give, so that suspects need not be asked for all that they have.
    pub(crate) fn note_others(&mut self, others_give: bool) {
        self.pardons += u64::from(self.others_give && !others_give);
        self.others_give = others_give;
    }

    /// Ends the suspicion against these.
    fn acquit(&mut self, is_clear: impl Fn(&Culprit) -> bool) {
        let before = self.suspects.len();
        self.suspects.retain(|suspect| !is_clear(suspect));
        self.pardons += u64::from(self.suspects.len() < before);
    }

    /// A peer whose blocks may still fail has gone.
    pub(crate) fn depart(&mut self, conn: ConnKey, culprit: Culprit) {
        self.departed.push_back((conn, culprit));
        if self.departed.len() > DEPARTED_MAX {
            self.departed.pop_front();
        }
    }

    /// Who a peer that has gone was.
    pub(crate) fn departed(&self, conn: ConnKey) -> Option<Culprit> {
        self.departed
            .iter()
            .find(|(gone, _)| *gone == conn)
            .map(|(_, culprit)| *culprit)
    }

    /// Whether the digests of the blocks of this piece should be remembered as they come, and of which kind.
    pub(crate) fn wants_digest(&self, piece: PieceIndex) -> Option<DigestKind> {
        let failure = self.failed.get(&piece)?.failures.first()?;
        Some(match failure.digests {
            BlockDigests::V1(_) => DigestKind::V1,
            BlockDigests::V2(_) => DigestKind::V2,
        })
    }

    /// A block of a piece that failed has come again.
    pub(crate) fn remember(&mut self, piece: PieceIndex, block: u32, digest: BlockDigest) {
        if let Some(failed) = self.failed.get_mut(&piece) {
            failed.retry.insert(block, digest);
        }
    }

    /// The present attempt at a piece begins from nothing.
    pub(crate) fn restart(&mut self, piece: PieceIndex) {
        if let Some(failed) = self.failed.get_mut(&piece) {
            failed.retry.clear();
        }
    }

    /// A piece has failed, whose blocks came from `senders`; who cannot be named any more is left out.
    pub(crate) fn failed(
        &mut self,
        piece: PieceIndex,
        senders: &[(u32, Option<Culprit>)],
        digests: BlockDigests,
    ) -> Verdict {
        self.restart(piece);
        let distinct: BTreeSet<_> = senders.iter().map(|(_, sender)| *sender).collect();
        if let (1, Some(Some(liar))) = (distinct.len(), distinct.first()) {
            return Verdict::Liar(*liar);
        }
        let evidence: Vec<_> = senders
            .iter()
            .filter_map(|(block, sender)| {
                Some(Evidence {
                    block: *block,
                    sender: (*sender)?,
                })
            })
            .collect();
        self.suspects
            .extend(evidence.iter().map(|evidence| evidence.sender));
        if !self.failed.contains_key(&piece) {
            self.order.push_back(piece);
            if self.order.len() > FAILED_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.failed.remove(&oldest);
            }
        }
        let failures = &mut self.failed.entry(piece).or_default().failures;
        if failures.len() < FAILURES_MAX {
            failures.push(Failure { evidence, digests });
        }
        self.forgive_unsuspected();
        Verdict::Unclear
    }

    /// A piece is right, and came from `senders`. Gives the peers that sent wrong blocks of it before.
    pub(crate) fn verified(
        &mut self,
        piece: PieceIndex,
        senders: &[(u32, Option<Culprit>)],
    ) -> BTreeSet<Culprit> {
        let distinct: BTreeSet<_> = senders.iter().map(|(_, sender)| *sender).collect();
        if let (1, Some(Some(honest))) = (distinct.len(), distinct.first()) {
            // It had the chance to lie undetected by others, and did not.
            self.acquit(|suspect| suspect == honest);
        }
        let Some(failed) = self.failed.remove(&piece) else {
            return BTreeSet::new();
        };
        self.order.retain(|other| *other != piece);
        let liars = failed
            .failures
            .iter()
            .flat_map(|failure| failure.liars(&failed.retry))
            .collect();
        self.forgive_unsuspected();
        liars
    }

    /// It is known who gave the wrong blocks of a piece: nobody else is under suspicion for it any more.
    pub(crate) fn cleared(&mut self, piece: PieceIndex) {
        if self.failed.remove(&piece).is_some() {
            self.order.retain(|other| *other != piece);
            self.forgive_unsuspected();
        }
    }

    /// Whoever has part in no open failure is no suspect.
    fn forgive_unsuspected(&mut self) {
        let open: BTreeSet<_> = self
            .failed
            .values()
            .flat_map(|failed| &failed.failures)
            .flat_map(|failure| failure.evidence.iter().map(|evidence| evidence.sender))
            .collect();
        self.acquit(|suspect| !open.contains(suspect));
    }

    /// Bans a peer. Whether it was not banned before.
    pub(crate) fn ban(&mut self, culprit: Culprit) -> bool {
        if self.is_banned(culprit) {
            return false;
        }
        self.acquit(|suspect| *suspect == culprit);
        self.banned.push_back(culprit);
        if self.banned.len() > BANNED_MAX {
            self.banned.pop_front();
        }
        true
    }
}

/// Which digest to take of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DigestKind {
    V1,
    V2,
}

impl Failure {
    /// Who sent blocks that differ from the right ones.
    fn liars<'a>(
        &'a self,
        right: &'a BTreeMap<u32, BlockDigest>,
    ) -> impl Iterator<Item = Culprit> + 'a {
        self.evidence.iter().filter_map(|evidence| {
            let right = right.get(&evidence.block)?;
            let at = evidence.block as usize;
            let sent = match &self.digests {
                BlockDigests::V1(digests) => BlockDigest::V1(*digests.get(at)?),
                BlockDigests::V2(digests) => BlockDigest::V2(*digests.get(at)?),
            };
            (sent != *right).then_some(evidence.sender)
        })
    }
}

#[cfg(test)]
mod tests {
    use riverrun_base::{Sha1Digest, Sha256Digest};

    use super::*;

    fn culprit(n: u8) -> Culprit {
        Culprit::new(IpAddr::from([203, 0, 113, n]), None)
    }

    fn digests(bytes: &[u8]) -> BlockDigests {
        BlockDigests::V1(bytes.iter().map(|byte| Sha1Digest([*byte; 20])).collect())
    }

    fn senders(by: &[u8]) -> Vec<(u32, Option<Culprit>)> {
        (0..)
            .zip(by)
            .map(|(block, n)| (block, Some(culprit(*n))))
            .collect()
    }

    #[test]
    fn a_single_source_is_the_liar() {
        let mut bans = Bans::default();
        let verdict = bans.failed(PieceIndex(0), &senders(&[1, 1]), digests(&[9, 9]));
        assert_eq!(verdict, Verdict::Liar(culprit(1)));
        assert!(bans.ban(culprit(1)) && !bans.ban(culprit(1)));
        assert!(bans.is_banned(culprit(1)) && !bans.is_banned(culprit(2)));
    }

    #[test]
    fn once_the_liar_is_known_nobody_else_is_under_suspicion() {
        let mut bans = Bans::default();
        let leaves = BlockDigests::V2(vec![Sha256Digest([1; 32]); 2]);
        let verdict = bans.failed(PieceIndex(3), &senders(&[1, 2]), leaves);
        assert_eq!(verdict, Verdict::Unclear);
        assert!(bans.is_suspect(culprit(1)) && bans.is_suspect(culprit(2)));
        bans.cleared(PieceIndex(3));
        assert!(!bans.is_suspect(culprit(1)) && !bans.is_suspect(culprit(2)));
    }

    #[test]
    fn the_end_of_suspicion_is_told_once_and_so_is_the_last_of_the_others() {
        let mut bans = Bans::default();
        bans.failed(PieceIndex(3), &senders(&[1, 2]), digests(&[1, 2]));
        bans.cleared(PieceIndex(4));
        assert_eq!(bans.pardons(), 0, "no suspicion has ended");
        bans.note_others(true);
        assert_eq!(bans.pardons(), 0, "others give, so suspects wait");
        bans.note_others(false);
        bans.note_others(false);
        assert_eq!(bans.pardons(), 1);
        bans.cleared(PieceIndex(3));
        bans.cleared(PieceIndex(3));
        assert_eq!(bans.pardons(), 2);
    }

    #[test]
    fn of_several_the_one_whose_block_differs_is_the_liar() {
        let mut bans = Bans::default();
        let piece = PieceIndex(3);
        let verdict = bans.failed(piece, &senders(&[1, 2, 3]), digests(&[1, 66, 3]));
        assert_eq!(verdict, Verdict::Unclear);
        assert!((1..=3).all(|n| bans.is_suspect(culprit(n))));
        assert_eq!(bans.wants_digest(piece), Some(DigestKind::V1));
        for block in 0..3_u8 {
            bans.remember(
                piece,
                block.into(),
                BlockDigest::V1(Sha1Digest([block + 1; 20])),
            );
        }
        let liars = bans.verified(piece, &senders(&[4, 4, 4]));
        assert_eq!(liars, [culprit(2)].into());
        assert!(!(1..=4).any(|n| bans.is_suspect(culprit(n))));
    }

    #[test]
    fn a_sender_that_cannot_be_named_is_no_single_source() {
        let mut bans = Bans::default();
        let mut senders = senders(&[1, 1]);
        senders[1].1 = None;
        let verdict = bans.failed(PieceIndex(0), &senders, digests(&[1, 2]));
        assert_eq!(verdict, Verdict::Unclear);
    }

    #[test]
    fn in_our_surroundings_peers_are_told_apart_by_id() {
        let local = |id: u8| Culprit::new(IpAddr::from([127, 0, 0, 1]), Some(PeerId([id; 20])));
        let mut bans = Bans::default();
        bans.ban(local(1));
        assert!(bans.is_banned(local(1)) && !bans.is_banned(local(2)));
        let public = Culprit::new(IpAddr::from([198, 51, 100, 7]), Some(PeerId([1; 20])));
        bans.ban(public);
        let other = Culprit::new(IpAddr::from([198, 51, 100, 7]), Some(PeerId([9; 20])));
        assert!(bans.is_banned(other), "a new id does not help");
    }
}
