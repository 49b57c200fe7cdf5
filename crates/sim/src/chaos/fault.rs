//! What goes wrong in a plan.

use std::time::Duration;

use riverrun_base::{PieceIndex, Time};
use riverrun_swarm::TorrentCommand;
use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::ids::HostId;
use crate::seconds;
use crate::world::World;

/// Something that goes wrong at a time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When.
    #[serde(with = "seconds")]
    pub at: Duration,
    /// For how long, if it is something that lasts.
    #[serde(with = "seconds")]
    pub lasts: Duration,
    /// At which host, by its number; for what befalls several, the first of them.
    pub host: u32,
    /// What.
    pub what: Accident,
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Accident {
    /// The process is killed, and started again.
    Kill,
    /// The power fails, and comes again.
    PowerCut,
    /// The machine sleeps.
    Sleep,
    /// The clock leaps ahead by that time.
    Leap,
    /// All hosts with this number's parity are cut off from the others.
    Split,
    /// The tracker answers nobody.
    TrackerDown,
    /// The disk fails every read and write.
    DiskFails,
    /// The disk is full.
    DiskFull,
    /// A piece rots on the disk; checked when the time is over.
    Rot,
    /// The user stops the torrent, and starts it again.
    Pause,
    /// The user has everything checked.
    Recheck,
    /// The user has pieces in order for that time.
    Sequential,
    /// The user gives only, for that time.
    UploadOnly,
    /// The line is a tenth as fast.
    Slow,
    /// The host leaves for good.
    Leave,
}

impl Fault {
    /// Puts it into the plan of a world whose torrent has that many pieces.
    pub(super) fn plan(&self, world: &mut World, pieces: u32) {
        let host = HostId(self.host);
        let (begin, end) = (Time::ZERO + self.at, Time::ZERO + self.at + self.lasts);
        let command = |command| Action::Command(host, command);
        let (first, last) = match self.what {
            Accident::Kill => (
                Action::Crash { host, power: false },
                Some(Action::Restart(host)),
            ),
            Accident::PowerCut => (
                Action::Crash { host, power: true },
                Some(Action::Restart(host)),
            ),
            Accident::Sleep => (Action::Sleep(host, self.lasts), None),
            Accident::Leap => (Action::Leap(host, self.lasts), None),
            Accident::Split => (Action::Split(self.sides(world)), Some(Action::Heal)),
            Accident::TrackerDown => (tracker(true), Some(tracker(false))),
            Accident::DiskFails => (Action::DiskFails(host, self.lasts), None),
            Accident::DiskFull => (
                Action::DiskSpace(host, Some(0)),
                Some(Action::DiskSpace(host, None)),
            ),
            Accident::Rot => {
                let piece = PieceIndex(u32::try_from(self.lasts.as_millis()).unwrap_or(0) % pieces);
                (
                    Action::Spoil(host, piece),
                    Some(command(TorrentCommand::Recheck)),
                )
            }
            Accident::Pause => (
                command(TorrentCommand::Stop),
                Some(command(TorrentCommand::Start)),
            ),
            Accident::Recheck => (command(TorrentCommand::Recheck), None),
            Accident::Sequential => (
                command(TorrentCommand::Sequential(true)),
                Some(command(TorrentCommand::Sequential(false))),
            ),
            Accident::UploadOnly => (
                command(TorrentCommand::UploadOnly(true)),
                Some(command(TorrentCommand::UploadOnly(false))),
            ),
            Accident::Slow => slow(world, host),
            Accident::Leave => (Action::Leave(host), None),
        };
        world.plan(begin, first);
        if let Some(last) = last {
            world.plan(end, last);
        }
    }

    fn sides(&self, world: &World) -> Vec<(HostId, u32)> {
        let far = world.hosts().filter(|(id, _)| id.0 % 2 == self.host % 2);
        far.map(|(id, _)| (id, 1)).collect()
    }
}

/// A line becomes slow, and what it was.
fn slow(world: &World, host: HostId) -> (Action, Option<Action>) {
    let config = &world.host(host).config;
    let (up, down) = (config.up, config.down);
    let tenth = |rate: Option<u64>| rate.map(|rate| rate / 10 + 1);
    let slow = Action::Rates {
        host,
        up: tenth(up),
        down: tenth(down),
    };
    (slow, Some(Action::Rates { host, up, down }))
}

const fn tracker(down: bool) -> Action {
    Action::Tracker { index: 0, down }
}
