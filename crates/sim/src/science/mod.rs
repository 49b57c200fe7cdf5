//! Published results and physical bounds, measured against these decisions.
//!
//! Each [`Experiment`] is a world, or a few, and what must come of it: [claims](Claim), each with the range in which its
//! figure is expected and where that is from. The ranges are those of the sources, not of what was measured: a claim
//! that does not hold is shown as one that does not.

mod classes;
mod open;
mod spread;

use std::fmt;

use crate::config::WorldConfig;
use crate::world::World;

/// A result of others, to be found again.
pub struct Experiment {
    /// Its number, as `V3`.
    pub id: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// Where the expectation is from.
    pub source: &'static str,
    /// Whether it is a matter of seconds.
    pub is_quick: bool,
    /// What is expected.
    pub claims: &'static [Claim],
    /// Gives one figure for each claim.
    measure: fn(u64) -> Vec<f64>,
}

/// A figure, and the range in which it is expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Claim {
    /// What is measured.
    pub what: &'static str,
    /// The least that is expected; negative infinity if anything is little enough.
    pub least: f64,
    /// The most that is expected; infinity if nothing is too much.
    pub most: f64,
}

/// A claim and what was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finding {
    /// What was expected.
    pub claim: Claim,
    /// What came.
    pub measured: f64,
}

impl Claim {
    const fn from_to(what: &'static str, least: f64, most: f64) -> Self {
        Self { what, least, most }
    }

    const fn at_most(what: &'static str, most: f64) -> Self {
        Self::from_to(what, f64::NEG_INFINITY, most)
    }

    const fn at_least(what: &'static str, least: f64) -> Self {
        Self::from_to(what, least, f64::INFINITY)
    }
}

impl fmt::Display for Claim {
    /// The range.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.least.is_finite(), self.most.is_finite()) {
            (true, true) => write!(f, "{} to {}", self.least, self.most),
            (true, false) => write!(f, "at least {}", self.least),
            _ => write!(f, "at most {}", self.most),
        }
    }
}

impl Finding {
    /// Whether it is as expected.
    pub fn holds(&self) -> bool {
        (self.claim.least..=self.claim.most).contains(&self.measured)
    }
}

impl Experiment {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 18] = [
        spread::ROUNDS_10,
        spread::ROUNDS_100,
        spread::ROUNDS_1000,
        spread::FLUID_1,
        spread::FLUID_10,
        spread::FLUID_100,
        spread::FLUID_1000,
        spread::SEED_LIMITED,
        classes::MIX,
        open::STABLE,
        open::UNSTABLE,
        open::SEEDS_STAY,
        open::SEEDS_GO,
        classes::CLUSTERS,
        classes::TURNS,
        spread::SUPER_SEED,
        classes::FREE_RIDERS,
        spread::ONE_SEED_ONE_RUN,
    ];

    /// Measures it with a seed: a finding for each claim.
    pub fn run(&self, seed: u64) -> Vec<Finding> {
        let figures = (self.measure)(seed);
        let found = self.claims.iter().zip(figures);
        found
            .map(|(claim, measured)| Finding {
                claim: *claim,
                measured,
            })
            .collect()
    }
}

/// Seconds since the world began.
fn seconds(world: &World) -> f64 {
    crate::seconds::of(world.now())
}

/// An ordinary world of a seed.
fn world_of(seed: u64) -> World {
    World::new(WorldConfig {
        seed,
        ..WorldConfig::default()
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts and bytes of worlds, far below 2^52"
)]
const fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_experiment_has_its_own_number_and_claims_that_can_fail() {
        for (at, experiment) in Experiment::ALL.iter().enumerate() {
            assert!(
                Experiment::ALL[..at]
                    .iter()
                    .all(|other| other.id != experiment.id)
            );
            assert!(!experiment.claims.is_empty());
            for claim in experiment.claims {
                assert!(
                    claim.least.is_finite() || claim.most.is_finite(),
                    "{}",
                    claim.what
                );
                assert!(claim.least <= claim.most);
            }
        }
    }

    #[test]
    fn a_figure_holds_within_its_range_and_not_if_there_is_none() {
        let claim = Claim::from_to("", 1.0, 2.0);
        let holds = |measured| Finding { claim, measured }.holds();
        assert!(holds(1.0) && holds(2.0));
        assert!(!holds(0.9) && !holds(2.1) && !holds(f64::NAN) && !holds(f64::INFINITY));
    }
}
