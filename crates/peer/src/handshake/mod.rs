//! How a connection begins, up to where both sides know the torrent and each other.
//!
//! ```text
//! Dialed ────── its hash is ours ──────────► Agreed ── its id ──► done
//! Listening ── its hash ──► Named ── attach ──┘
//! ```
//!
//! Each state consumes itself. What comes later in the stream is left in the input.

mod greeting;

use riverrun_base::{InfoHash, PeerId};

pub(crate) use greeting::{Greeting, PROTOCOL, Reserved};

use crate::command::Attach;
use crate::config::PeerConfig;
use crate::error::PeerMisbehaved;
use greeting::Received;

/// A handshake under way.
#[derive(Debug)]
pub(crate) enum Handshake {
    /// We have greeted under `info_hash`.
    Dialed {
        received: Received,
        info_hash: InfoHash,
        attach: Box<Attach>,
    },
    /// The peer is to name its torrent.
    Listening { received: Received },
    /// It has, and we are to find it.
    Named { received: Received },
    /// The torrent is agreed, both have said what they can do; the peer's id is outstanding.
    Agreed { received: Received, agreed: Agreed },
}

/// What both sides agree on.
#[derive(Debug)]
pub(crate) struct Agreed {
    pub(crate) attach: Box<Attach>,
    /// The hash under which the connection runs.
    pub(crate) info_hash: InfoHash,
    /// What both can do.
    pub(crate) reserved: Reserved,
    /// We dialled.
    pub(crate) dialed: bool,
}

/// What a step has led to.
#[derive(Debug)]
pub(crate) enum Progress {
    /// More bytes, or a command, are needed.
    More(Handshake),
    /// The peer has named its torrent.
    Named(Handshake, InfoHash),
    Done(Agreed, PeerId),
}

impl Handshake {
    /// Dials: the greeting goes out at once.
    pub(crate) fn dial(
        config: &PeerConfig,
        info_hash: InfoHash,
        attach: Box<Attach>,
    ) -> (Self, Greeting) {
        let greeting = greeting(config, &attach, info_hash);
        let received = Received::new();
        let state = Self::Dialed {
            received,
            info_hash,
            attach,
        };
        (state, greeting)
    }

    pub(crate) const fn listen() -> Self {
        Self::Listening {
            received: Received::new(),
        }
    }

    /// Takes from the front of `input` what belongs to the handshake.
    pub(crate) fn receive(
        self,
        config: &PeerConfig,
        input: &mut &[u8],
    ) -> Result<Progress, PeerMisbehaved> {
        match self {
            Self::Dialed {
                mut received,
                info_hash,
                attach,
            } => {
                received.take(input)?;
                let Some((theirs, answered)) = received.head() else {
                    return Ok(Progress::More(Self::Dialed {
                        received,
                        info_hash,
                        attach,
                    }));
                };
                let ours = greeting(config, &attach, info_hash).reserved;
                // BEP 52, "upgrade path": who is greeted under v1 may answer under v2.
                let upgraded = ours.v2 && attach.hashes.wire_v2() == Some(answered);
                if answered != info_hash && !upgraded {
                    return Err(PeerMisbehaved::WrongTorrent);
                }
                let agreed = Agreed {
                    attach,
                    info_hash: answered,
                    reserved: both(ours, theirs),
                    dialed: true,
                };
                Ok(finish(received, agreed))
            }
            Self::Listening { mut received } => {
                received.take(input)?;
                Ok(match received.head() {
                    Some((_, info_hash)) => Progress::Named(Self::Named { received }, info_hash),
                    None => Progress::More(Self::Listening { received }),
                })
            }
            Self::Named { mut received } => {
                received.take(input)?;
                Ok(Progress::More(Self::Named { received }))
            }
            Self::Agreed {
                mut received,
                agreed,
            } => {
                received.take(input)?;
                Ok(finish(received, agreed))
            }
        }
    }

    /// The torrent that the peer named is this one; also gives the greeting to answer with. Does nothing
    /// in other states than [`Handshake::Named`].
    pub(crate) fn attach(
        self,
        config: &PeerConfig,
        attach: Box<Attach>,
    ) -> Result<(Progress, Option<Greeting>), PeerMisbehaved> {
        let Self::Named { received } = self else {
            return Ok((Progress::More(self), None));
        };
        let Some((theirs, asked)) = received.head() else {
            return Ok((Progress::More(Self::Listening { received }), None));
        };
        if !attach.hashes.matches(asked) {
            return Err(PeerMisbehaved::WrongTorrent);
        }
        let info_hash = match attach.hashes.wire_v2() {
            Some(v2) if theirs.v2 => v2,
            _ => asked,
        };
        let answer = greeting(config, &attach, info_hash);
        let agreed = Agreed {
            info_hash,
            reserved: both(answer.reserved, theirs),
            attach,
            dialed: false,
        };
        Ok((finish(received, agreed), Some(answer)))
    }

    /// Whether bytes can be used now.
    pub(crate) const fn wants_read(&self) -> bool {
        !matches!(self, Self::Named { .. })
    }

    /// What is known of the torrent so far.
    pub(crate) fn attached(&mut self) -> Option<&mut Attach> {
        match self {
            Self::Dialed { attach, .. } => Some(attach),
            Self::Agreed { agreed, .. } => Some(&mut agreed.attach),
            Self::Listening { .. } | Self::Named { .. } => None,
        }
    }
}

fn finish(received: Received, agreed: Agreed) -> Progress {
    match received.peer_id() {
        Some(peer_id) => Progress::Done(agreed, peer_id),
        None => Progress::More(Handshake::Agreed { received, agreed }),
    }
}

fn greeting(config: &PeerConfig, attach: &Attach, info_hash: InfoHash) -> Greeting {
    let v2 = attach.hashes.wire_v2();
    let reserved = Reserved {
        extended: true,
        // A private torrent's peers come from its tracker alone (BEP 27).
        dht: config.dht_port.is_some() && !attach.private,
        fast: true,
        v2: v2.is_some() && v2 != Some(info_hash),
    };
    Greeting {
        reserved,
        info_hash,
        peer_id: config.peer_id,
    }
}

const fn both(ours: Reserved, theirs: Reserved) -> Reserved {
    Reserved {
        extended: ours.extended && theirs.extended,
        dht: ours.dht && theirs.dht,
        fast: ours.fast && theirs.fast,
        v2: ours.v2 && theirs.v2,
    }
}
