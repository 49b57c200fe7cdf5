//! Every way for one host to get a torrent from others, combined with every other (S14): after the matrix of libtorrent's
//! simulations (`simulation/transfer_sim.cpp`).

use std::time::Duration;

use riverrun_base::{Bitfield, PieceIndex, Time};
use riverrun_sim::{Action, Content, HostConfig, HostId, Level, Start, WebServerConfig};
use riverrun_swarm::{TorrentCommand, TorrentOptions};

use crate::arena::Arena;
use crate::say;

const RATE: u64 = 1_000_000;
const PIECES: u32 = 11;

/// What the torrent is like.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    OneFile,
    Files,
    V2,
}

/// What is on the disk at first.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Disk {
    Nothing,
    /// Some pieces.
    Parts,
    /// Every byte, and all of them wrong.
    Wrong,
}

/// One way.
#[derive(Clone, Copy, Debug)]
struct Way {
    blocks: u32,
    kind: Kind,
    disk: Disk,
    level: Level,
    /// Without metadata at first.
    is_magnet: bool,
    /// One of two who have everything sends every third block wrong.
    is_poisoned: bool,
    /// The process is killed half-way.
    is_killed: bool,
    web: Web,
}

/// Which web servers there are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Web {
    None,
    /// One, beside the peers.
    Beside,
    /// One that lies beside one that does not, and no peer but for the metadata.
    Alone,
}

/// All of them. Who has no metadata has no pieces either.
fn ways() -> Vec<Way> {
    let mut ways = Vec::new();
    for blocks in [1, 2, 4] {
        for kind in [Kind::OneFile, Kind::Files, Kind::V2] {
            for disk in [Disk::Nothing, Disk::Parts, Disk::Wrong] {
                for level in [Level::Direct, Level::Bytes] {
                    for flags in 0..24_u8 {
                        let flag = |bit: u8| flags & bit != 0;
                        ways.push(Way {
                            web: [Web::None, Web::Beside, Web::Alone][usize::from(flags / 8)],
                            blocks,
                            kind,
                            disk,
                            level,
                            is_magnet: flag(1),
                            is_poisoned: flag(2),
                            is_killed: flag(4),
                        });
                    }
                }
            }
        }
    }
    ways.retain(|way| !way.is_magnet || way.disk == Disk::Nothing);
    // Who is to blame is checked among peers: what comes from a server as well is not seen there.
    ways.retain(|way| !way.is_poisoned || way.web == Web::None);
    ways
}

impl Way {
    fn content(self) -> Content {
        match self.kind {
            Kind::OneFile => Content::tokens(PIECES, self.blocks),
            Kind::Files => Content::files(&[1, 3, PIECES - 4], self.blocks),
            // With one block a piece, the last one is left out.
            Kind::V2 => Content::v2(PIECES, self.blocks, 1),
        }
    }

    fn leech(self) -> HostConfig {
        let mut config = HostConfig::leecher();
        config.level = self.level;
        config.start = match self.disk {
            _ if self.is_magnet => Start::Magnet,
            Disk::Nothing => Start::Empty,
            Disk::Parts => Start::Pieces(vec![0, 4, 5, PIECES - 1]),
            Disk::Wrong => Start::Full,
        };
        config
    }

    fn world(self, seed: u64, content: &Content) -> Arena {
        let mut honest = WebServerConfig::default();
        honest.up = Some(RATE / 8);
        let mut liar = honest.clone();
        liar.lies = true;
        Arena::with(seed, content, |config| {
            config.web_servers = match self.web {
                Web::None => Vec::new(),
                Web::Beside => vec![honest],
                Web::Alone => vec![liar, honest],
            };
        })
    }

    /// Has somebody get everything in this way.
    fn go(self, seed: u64) -> Time {
        let content = self.content();
        let pieces = content.pieces();
        let mut world = self.world(seed, &content);
        if self.web != Web::Alone || self.is_magnet {
            world.seed(RATE / 8);
        }
        if self.is_poisoned {
            world.poisoner(RATE / 8, 3);
        }
        let leech = world.host_with(self.leech(), RATE, &TorrentOptions::default());
        if self.disk == Disk::Wrong {
            let opened = Time::from_secs(10);
            world.run_while(opened, |world| world.have(leech) < pieces);
            for piece in 0..pieces {
                world.act(Action::Spoil(leech, PieceIndex(piece)));
            }
            world.command(leech, TorrentCommand::Recheck);
            world.run_while(Time::from_secs(30), |world| world.have(leech) > 0);
        }
        if self.is_killed {
            kill_half_way(&mut world, leech);
        }
        let end = world.run_to_completion(&[leech], Time::from_secs(300));
        let written = world.host(leech).written();
        assert!(written.is_some_and(Bitfield::all), "{self:?}");
        end
    }
}

/// The process of somebody who has half of the torrent ends without a word, and comes again.
fn kill_half_way(world: &mut Arena, leech: HostId) {
    let half = Time::from_secs(120);
    world.run_while(half, |world| world.have(leech) < PIECES / 2);
    world.kill(leech);
    world.run_for(Duration::from_secs(1));
    world.act(Action::Restart(leech));
}

#[test]
fn everything_arrives_in_every_way() {
    let ways = ways();
    let mut last = Time::ZERO;
    for (seed, way) in (0..).zip(&ways) {
        last = last.max(way.go(seed));
    }
    say(&format!("{} ways, the slowest takes {last}", ways.len()));
    assert_eq!(ways.len(), 576);
}
