//! What must hold in every world, whatever happens in it.
//!
//! A [`Checker`] is an [`Observer`]: it looks after each event and keeps what it finds wrong. The properties are
//! those that a user relies on, and are said of a host whose owner has done nothing to deserve worse: one that is
//! [sound](is_sound).

mod announces;
mod blame;
mod budgets;
mod ending;
mod findable;
mod possession;
mod reflection;
mod sameness;
mod starvation;

use std::fmt;

use riverrun_base::Time;
use serde::{Deserialize, Serialize};

use self::announces::Announces;
use self::blame::Blame;
use self::budgets::Budgets;
use self::findable::Findable;
use self::possession::Possession;
use self::reflection::Reflection;
use self::starvation::Starvation;
use crate::ids::HostId;
use crate::observe::{Happening, Observer};
use crate::world::World;

pub use self::ending::unfinished;
pub use self::findable::Searches;
pub use self::sameness::unlike;

/// Violations beyond this many are not kept: the first ones tell.
const VIOLATIONS_MAX: usize = 100;

/// Something that must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Property {
    /// S1: no piece is held for right, in memory or in the journal, whose bytes are not.
    NoFalseHave,
    /// S2: nothing is sent of a piece that is not verified.
    NothingUnverifiedSent,
    /// S3: no sound peer is banned.
    NoSoundPeerBanned,
    /// S3: who alone gave a piece that is wrong is banned.
    LiarsBanned,
    /// S4: a power cut costs the pieces of the last seconds, and a crash none.
    CrashesCostLittle,
    /// S5: slots, connections and dials stay within their budgets.
    Budgets,
    /// S5: the decisions' own assertions hold.
    Invariants,
    /// S6: rate limits hold within 5 % over any ten seconds.
    RateLimits,
    /// S6: a seed serves everybody who waits, in turn.
    NobodyStarves,
    /// S7: who asks in another's name over UDP does not have that one flooded.
    NoReflection,
    /// S8: every sound leecher completes once faults are over.
    Completion,
    /// S9: who has announced in the DHT is found there, though one node in five lies.
    FoundInTheDht,
    /// S10: no state that should pass stays for ever.
    NoStateForEver,
    /// S11: trackers are asked no more often than they want, and are told goodbye.
    Announces,
    /// S12: one seed is one run.
    Determinism,
    /// S13: picker, choker and limiter do what slow models of them may do.
    Models,
}

impl Property {
    /// Its number in the list of properties that the suite is judged by.
    pub const fn number(self) -> &'static str {
        match self {
            Self::NoFalseHave => "S1",
            Self::NothingUnverifiedSent => "S2",
            Self::NoSoundPeerBanned | Self::LiarsBanned => "S3",
            Self::CrashesCostLittle => "S4",
            Self::Budgets | Self::Invariants => "S5",
            Self::RateLimits | Self::NobodyStarves => "S6",
            Self::NoReflection => "S7",
            Self::Completion => "S8",
            Self::FoundInTheDht => "S9",
            Self::NoStateForEver => "S10",
            Self::Announces => "S11",
            Self::Determinism => "S12",
            Self::Models => "S13",
        }
    }
}

/// Something that should have held and did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What.
    pub property: Property,
    /// When it was seen.
    pub at: Time,
    /// At which host, if at one.
    pub host: Option<HostId>,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            property, at, what, ..
        } = self;
        write!(f, "{} {property:?} at {at}", property.number())?;
        if let Some(host) = self.host {
            write!(f, ", {host}")?;
        }
        write!(f, ": {what}")
    }
}

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    now: Time,
    found: Vec<Violation>,
}

impl Findings {
    pub(crate) fn add(&mut self, property: Property, host: HostId, what: impl Into<String>) {
        if self.found.len() < VIOLATIONS_MAX {
            self.found.push(Violation {
                property,
                at: self.now,
                host: Some(host),
                what: what.into(),
            });
        }
    }
}

/// Looks after each event whether all that must hold does.
#[derive(Debug, Default)]
pub struct Checker {
    findings: Findings,
    possession: Possession,
    blame: Blame,
    budgets: Budgets,
    starvation: Starvation,
    announces: Announces,
    reflection: Reflection,
    findable: Findable,
}

impl Checker {
    /// For a world in which nothing has happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How searches in the DHT went, of which something can be said.
    pub const fn searches(&self) -> Searches {
        self.findable.tally()
    }

    /// What was found in all, with what shows only when it is over.
    pub fn finish(mut self, world: &World) -> Vec<Violation> {
        self.findings.now = world.now();
        self.budgets.finish(world, &mut self.findings);
        self.findable.finish(world, &mut self.findings);
        let mut found = self.findings.found;
        found.extend(disagreements(world));
        found
    }
}

impl Observer for Checker {
    fn observe(&mut self, world: &World, happenings: &[Happening]) {
        self.findings.now = world.now();
        self.starvation.look(world, &mut self.findings);
        for happening in happenings {
            self.possession.see(world, happening, &mut self.findings);
            self.blame.see(world, happening);
            self.budgets.see(world, happening, &mut self.findings);
            self.announces.see(world, happening, &mut self.findings);
            self.reflection.see(world, happening, &mut self.findings);
            self.findable.see(world, happening);
        }
        self.blame.judge(world, &mut self.findings);
    }
}

/// Where decisions are others than their models allow, if the world has models.
fn disagreements(world: &World) -> impl Iterator<Item = Violation> {
    world.hosts().flat_map(|(id, host)| {
        host.disagreements().map(move |(at, what)| Violation {
            property: Property::Models,
            at: *at,
            host: Some(id),
            what: what.clone(),
        })
    })
}

/// Whether a host does its part: it is honest, and its disk gives back what was written. Only for such hosts, and
/// only towards such hosts, anything is promised.
pub fn is_sound(world: &World, host: HostId) -> bool {
    let config = &world.host(host).config;
    // A disk that writes where it should not has rotted once it has.
    let gives_back = config.disk.corrupt_reads <= 0.0 && !world.host(host).has_rotted();
    config.manners.is_honest() && gives_back
}

/// One thing for each host, made when it is first asked for.
#[derive(Debug)]
pub(crate) struct PerHost<T>(Vec<T>);

impl<T> Default for PerHost<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Default> PerHost<T> {
    pub(crate) fn of(&mut self, host: HostId) -> &mut T {
        if self.0.len() <= host.as_usize() {
            self.0.resize_with(host.as_usize() + 1, T::default);
        }
        &mut self.0[host.as_usize()]
    }
}
