//! Faults planted in a client on purpose, to show that the checkers see them.
//!
//! Each stands for a mistake that somebody could make in storage, in the decisions, or in what joins them. The
//! decisions themselves stay as they are: what they hear and what they want done is bent on the way.

use std::net::{IpAddr, SocketAddr};

use riverrun_base::{Bitfield, Time};
use riverrun_peer::{PeerCommand, PeerEvent};
use riverrun_swarm::{
    Config, ConnKey, Event, Input, NetAction, Outbox, Picking, Shard, StorageDone, StorageJob,
    TorrentKey,
};
use riverrun_tracker::AnnounceEvent;
use serde::{Deserialize, Serialize};

use crate::services::Service;

/// What is in a query that announces a peer (BEP 5).
const ANNOUNCE_PEER: &[u8] = b"13:announce_peer";

/// A mistake of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Planted {
    /// Takes every piece for right.
    SkipsHashCheck,
    /// Claims pieces in the journal before they are synced.
    ClaimsBeforeSync,
    /// Writes and never syncs, nor claims.
    NeverSyncs,
    /// Takes a write that failed for one that did not.
    IgnoresWriteErrors,
    /// Believes on start that every byte is there.
    BelievesAllIsThere,
    /// Finds every piece right when it checks.
    ChecksNothing,
    /// Does not notice that its disk works again.
    MissesRecovery,
    /// Does not notice that a check is through.
    MissesCheckEnd,
    /// Does not notice that a piece was wrong.
    MissesFailure,
    /// Does not notice that a piece was right.
    MissesVerified,
    /// Does not hear that it is unchoked.
    MissesUnchokes,
    /// Does not hear that requests were turned down.
    MissesRejections,
    /// Does not hear what peers have.
    MissesHaves,
    /// Does not hear that connections have ended.
    MissesEnds,
    /// Does not hear what trackers answer.
    MissesAnnounces,
    /// Never chokes anybody.
    NeverChokes,
    /// Never unchokes anybody.
    NeverUnchokes,
    /// Never says that it is interested.
    NeverInterested,
    /// Does not ask for blocks that it means to ask for.
    NeverRequests,
    /// Reads for a peer whatever it asks for.
    ServesAnything,
    /// Bans the next best peer when a piece is wrong.
    BansInnocents,
    /// Does not ban.
    NeverBans,
    /// Sends without regard to limits.
    IgnoresUploadLimit,
    /// Receives without regard to limits.
    IgnoresDownloadLimit,
    /// Says everything six times to trackers.
    RepeatsAnnounces,
    /// Leaves trackers without a word.
    NeverSaysGoodbye,
    /// Never wakes up by itself.
    NeverWakes,
    /// Sends everything twice that goes over UDP.
    RepeatsDatagrams,
    /// Says everything twenty times as a node of the DHT.
    NodeRepeats,
    /// Never says in the DHT where it is.
    NeverAnnouncesToNodes,
    /// Breaks an assertion when a piece is wrong.
    Panics,
    /// Decides by something that it was not told.
    DecidesByMore,
    /// Begins any piece rather than the rarest.
    PicksAtRandom,
    /// Asks two peers for each block.
    AsksTwice,
    /// Reconsiders its slots six times as rarely as it should.
    RarelyReconsiders,
    /// Lends a bit more than a limit allows.
    LendsMore,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 36] = [
        Self::SkipsHashCheck,
        Self::ClaimsBeforeSync,
        Self::NeverSyncs,
        Self::IgnoresWriteErrors,
        Self::BelievesAllIsThere,
        Self::ChecksNothing,
        Self::MissesRecovery,
        Self::MissesCheckEnd,
        Self::MissesFailure,
        Self::MissesVerified,
        Self::MissesUnchokes,
        Self::MissesRejections,
        Self::MissesHaves,
        Self::MissesEnds,
        Self::MissesAnnounces,
        Self::NeverChokes,
        Self::NeverUnchokes,
        Self::NeverInterested,
        Self::NeverRequests,
        Self::ServesAnything,
        Self::BansInnocents,
        Self::NeverBans,
        Self::IgnoresUploadLimit,
        Self::IgnoresDownloadLimit,
        Self::RepeatsAnnounces,
        Self::NeverSaysGoodbye,
        Self::NeverWakes,
        Self::RepeatsDatagrams,
        Self::NodeRepeats,
        Self::NeverAnnouncesToNodes,
        Self::Panics,
        Self::DecidesByMore,
        Self::PicksAtRandom,
        Self::AsksTwice,
        Self::RarelyReconsiders,
        Self::LendsMore,
    ];

    /// Bends what a shard is made with.
    pub(crate) fn bend_config(self, config: &mut Config) {
        match self {
            Self::PicksAtRandom => config.picking = Picking::Random,
            Self::RarelyReconsiders => config.rechoke_interval *= 6,
            _ => {}
        }
    }

    /// Bends an input; whether it is heard at all.
    ///
    /// # Panics
    ///
    /// If that is the mistake.
    pub(crate) fn bend_input(self, input: &mut Input) -> bool {
        match input {
            Input::Peer { event, .. } => self.hears(event),
            Input::PeerClosed { .. } => self != Self::MissesEnds,
            Input::Announced { .. } => self != Self::MissesAnnounces,
            Input::Storage { done, .. } => self.bend_done(done),
            _ => true,
        }
    }

    /// Bends the decisions themselves, after an input.
    pub(crate) fn bend_mind(self, now: Time, shard: &mut Shard) {
        if self == Self::DecidesByMore {
            let port = u16::try_from(now.as_micros() % 1000).unwrap_or_default();
            shard.handle(now, Input::ListenPort(7000 + port), &mut Outbox::default());
        }
    }

    fn hears(self, event: &PeerEvent) -> bool {
        !matches!(
            (self, event),
            (Self::MissesUnchokes, PeerEvent::Unchoked)
                | (Self::MissesRejections, PeerEvent::Rejected(_))
                | (Self::MissesHaves, PeerEvent::Has(_))
        )
    }

    fn bend_done(self, done: &mut StorageDone) -> bool {
        match (self, &mut *done) {
            (Self::BelievesAllIsThere, StorageDone::Opened { have, .. }) => {
                *have = Bitfield::full(have.len());
            }
            (Self::ChecksNothing, StorageDone::Checked { ok, .. }) => *ok = true,
            (Self::Panics, StorageDone::Failed { piece, .. }) => {
                panic!("{piece} is wrong, which cannot be");
            }
            (Self::MissesRecovery, StorageDone::Recovered)
            | (Self::MissesCheckEnd, StorageDone::CheckEnded)
            | (Self::MissesFailure, StorageDone::Failed { .. })
            | (Self::MissesVerified, StorageDone::Verified(_)) => return false,
            _ => {}
        }
        true
    }

    /// Bends what a shard wants done for its torrent. `others` are addresses of its peers.
    pub(crate) fn bend_outbox(
        self,
        out: &mut Outbox,
        torrent: Option<TorrentKey>,
        others: &[IpAddr],
    ) {
        let served = self.bend_commands(out);
        if let Some(torrent) = torrent {
            let jobs = served
                .into_iter()
                .map(|(conn, span)| (torrent, StorageJob::Read { conn, span }));
            out.storage.extend(jobs);
        }
        self.bend_events(out, others);
        self.bend_net(out);
    }

    /// Bends what the service at a port sends.
    pub(crate) fn bend_datagrams(self, port: u16, all: &mut Vec<(SocketAddr, Vec<u8>)>) {
        match self {
            Self::RepeatsDatagrams => all.extend(all.clone()),
            Self::NodeRepeats if Service::at(port) == Some(Service::Node) => {
                *all = std::iter::repeat_n(all.clone(), 20).flatten().collect();
            }
            Self::NeverAnnouncesToNodes => {
                let says = |bytes: &[u8]| {
                    let mut windows = bytes.windows(ANNOUNCE_PEER.len());
                    windows.any(|window| window == ANNOUNCE_PEER)
                };
                all.retain(|(_, bytes)| !says(bytes));
            }
            _ => {}
        }
    }

    fn bend_commands(self, out: &mut Outbox) -> Vec<(ConnKey, riverrun_base::BlockSpan)> {
        let mut served = Vec::new();
        out.peers
            .retain_mut(|(conn, command)| match (self, command) {
                (Self::NeverChokes, PeerCommand::Choke)
                | (Self::NeverUnchokes, PeerCommand::Unchoke)
                | (Self::NeverInterested, PeerCommand::Interested)
                | (Self::NeverRequests, PeerCommand::Request(_)) => false,
                (Self::ServesAnything, PeerCommand::Reject(span)) => {
                    served.push((*conn, *span));
                    false
                }
                (Self::LendsMore, PeerCommand::Credit(credit)) => {
                    credit.send_bytes = credit.send_bytes.map(|bytes| bytes + bytes / 32);
                    true
                }
                (Self::IgnoresUploadLimit, PeerCommand::Credit(credit)) => {
                    credit.send_bytes = None;
                    true
                }
                (Self::IgnoresDownloadLimit, PeerCommand::Credit(credit)) => {
                    credit.receive_bytes = None;
                    true
                }
                _ => true,
            });
        if self == Self::AsksTwice {
            ask_twice(out);
        }
        served
    }

    fn bend_events(self, out: &mut Outbox, others: &[IpAddr]) {
        match self {
            Self::NeverBans => {
                let stays = |event: &Event| !matches!(event, Event::PeerBanned { .. });
                out.events.retain(stays);
            }
            Self::BansInnocents => {
                let failed = out.events.iter().find_map(|event| match event {
                    Event::PieceFailed { torrent, .. } => Some(*torrent),
                    _ => None,
                });
                if let (Some(torrent), Some(ip)) = (failed, others.first()) {
                    let ip = *ip;
                    out.events.push(Event::PeerBanned { torrent, ip });
                }
            }
            _ => {}
        }
    }

    fn bend_net(self, out: &mut Outbox) {
        let is_goodbye = |action: &NetAction| {
            matches!(action, NetAction::Announce { request, .. }
                if request.event == AnnounceEvent::Stopped)
        };
        match self {
            Self::NeverSaysGoodbye => out.net.retain(|action| !is_goodbye(action)),
            Self::RepeatsAnnounces => {
                let is_announce =
                    |action: &&NetAction| matches!(action, NetAction::Announce { .. });
                let announces: Vec<_> = out.net.iter().filter(is_announce).cloned().collect();
                for _ in 0..5 {
                    out.net.extend(announces.iter().cloned());
                }
            }
            _ => {}
        }
    }
}

/// Asks whoever is asked for something next for what the one before was asked for, too.
fn ask_twice(out: &mut Outbox) {
    let mut before = Vec::new();
    for (_, command) in &mut out.peers {
        if let PeerCommand::Request(spans) = command {
            let own = spans.clone();
            spans.append(&mut before);
            before = own;
        }
    }
}
