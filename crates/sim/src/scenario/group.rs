//! Hosts that are alike.

use std::time::Duration;

use riverrun_base::Rng;
use riverrun_swarm::Picking;
use serde::Deserialize;

use super::file::Size;
use crate::config::{HostConfig, Level, Nat, Start, Stay};
use crate::disk::DiskConfig;
use crate::manners::Manners;

/// How soon what is verified is durable, unless a disk is described: stories are about networks.
const SYNC: Duration = Duration::from_millis(10);

/// Hosts that are alike, or what is different about them in a run. What is not said is as [`HostConfig`] has it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Group {
    /// Its name, for runs, actions and expectations.
    pub(crate) name: String,
    /// How many there are; by default as many as there are names, or one.
    pub(crate) count: Option<usize>,
    /// What they are called; the others are called by the group and their number.
    pub(crate) names: Option<Vec<String>>,
    /// What they have at first.
    pub(crate) start: Option<Start>,
    /// Uplink, a second.
    pub(crate) up: Option<Size>,
    /// Downlink, a second.
    pub(crate) down: Option<Size>,
    /// To the middle of the network, in seconds.
    pub(crate) latency: Option<f64>,
    /// Share of packets that are lost.
    pub(crate) loss: Option<f64>,
    /// Where they can be reached.
    pub(crate) nat: Option<Nat>,
    /// How their connections run.
    pub(crate) level: Option<Level>,
    /// When they come.
    pub(crate) join: Option<Join>,
    /// How long they stay.
    pub(crate) stay: Option<Stay>,
    /// How they behave.
    pub(crate) manners: Option<Manners>,
    /// Their disks; by default what is verified is durable soon.
    pub(crate) disk: Option<DiskConfig>,
    /// How many each gives to at a time.
    pub(crate) slots: Option<u32>,
    /// How many connections each has at most.
    pub(crate) connections_max: Option<u32>,
    /// Reveal pieces one by one (BEP 16).
    pub(crate) super_seed: Option<bool>,
    /// Which piece they ask for next.
    pub(crate) picker: Option<Picker>,
    /// They look for peers in the distributed hash table and in the local network as well, where nobody answers.
    pub(crate) elsewhere: Option<bool>,
}

/// Which piece is asked for next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Picker {
    /// The rarest.
    Rarest,
    /// Any.
    Random,
    /// The first that is missing.
    Sequential,
}

/// When hosts come.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Join {
    /// All at this time, in seconds.
    At(f64),
    /// Each at a random time before this one, in seconds.
    Within(f64),
    /// One after the other, so many a second on average (a Poisson process).
    Rate(f64),
    /// One after the other, so many seconds apart.
    Every(f64),
}

impl Join {
    /// When the next of a group comes, `last` being when the one before it came.
    fn next(self, place: usize, last: f64, rng: &mut Rng) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "far below 2^52 hosts; 53 random bits"
        )]
        let (place, chance) = (
            place as f64,
            (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64,
        );
        match self {
            Self::At(at) => at,
            Self::Within(time) => chance * time,
            Self::Rate(rate) if rate > 0.0 => last - (1.0 - chance).ln() / rate,
            Self::Rate(_) => last,
            Self::Every(time) => place * time,
        }
    }

    /// Whether all come at the beginning.
    pub(crate) fn is_at_once(self) -> bool {
        matches!(self, Self::At(at) if at <= 0.0)
    }
}

impl Group {
    /// How many hosts it has.
    pub(crate) fn count(&self) -> usize {
        self.count
            .unwrap_or_else(|| self.names.as_ref().map_or(1, Vec::len))
    }

    /// Whether it, or a host of it, has this name.
    pub(crate) fn answers_to(&self, name: &str) -> bool {
        self.name == name || (0..self.count()).any(|place| self.host_name(place) == name)
    }

    /// What a host of it is called.
    pub(crate) fn host_name(&self, place: usize) -> String {
        let named = self.names.as_ref().and_then(|names| names.get(place));
        named
            .cloned()
            .unwrap_or_else(|| format!("{} {}", self.name, place + 1))
    }

    /// With what is different put in the place of what was.
    pub(crate) fn changed(self, other: Option<&Self>) -> Self {
        let Some(other) = other.cloned() else {
            return self;
        };
        Self {
            name: self.name,
            count: other.count.or(self.count),
            names: other.names.or(self.names),
            start: other.start.or(self.start),
            up: other.up.or(self.up),
            down: other.down.or(self.down),
            latency: other.latency.or(self.latency),
            loss: other.loss.or(self.loss),
            nat: other.nat.or(self.nat),
            level: other.level.or(self.level),
            join: other.join.or(self.join),
            stay: other.stay.or(self.stay),
            manners: other.manners.or(self.manners),
            disk: other.disk.or(self.disk),
            slots: other.slots.or(self.slots),
            connections_max: other.connections_max.or(self.connections_max),
            super_seed: other.super_seed.or(self.super_seed),
            picker: other.picker.or(self.picker),
            elsewhere: other.elsewhere.or(self.elsewhere),
        }
    }

    /// Its hosts. Chance decides when they come.
    pub(crate) fn hosts(&self, rng: &mut Rng) -> Vec<HostConfig> {
        let mut last = 0.0;
        let mut host = |place| {
            last = self.join.unwrap_or(Join::At(0.0)).next(place, last, rng);
            HostConfig {
                name: self.host_name(place),
                join_at: secs(last),
                ..self.host()
            }
        };
        (0..self.count()).map(&mut host).collect()
    }

    fn host(&self) -> HostConfig {
        let default = HostConfig::default();
        HostConfig {
            up: self.up.map(|size| size.0),
            down: self.down.map(|size| size.0),
            latency: self.latency.map_or(default.latency, secs),
            loss: self.loss.unwrap_or(default.loss),
            nat: self.nat.unwrap_or_default(),
            level: self.level.unwrap_or_default(),
            start: self.start.clone().unwrap_or_default(),
            stay: self.stay.unwrap_or_default(),
            manners: self.manners.clone().unwrap_or_default(),
            disk: self.disk.clone().unwrap_or(DiskConfig {
                sync: SYNC,
                ..default.disk
            }),
            slots: self.slots,
            connections_max: self.connections_max.unwrap_or(default.connections_max),
            super_seed: self.super_seed.unwrap_or_default(),
            sequential: self.picker == Some(Picker::Sequential),
            ..default
        }
    }

    /// How its shards pick where the order is free.
    pub(crate) fn picking(&self) -> Picking {
        match self.picker {
            Some(Picker::Random) => Picking::Random,
            _ => Picking::RarestFirst,
        }
    }
}

/// Seconds of a scenario; what is no time is none.
pub(crate) fn secs(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_come_as_they_are_told() {
        let times = |join: Join, count: usize| -> Vec<f64> {
            let group = Group {
                count: Some(count),
                join: Some(join),
                ..Group::default()
            };
            group
                .hosts(&mut Rng::new(1))
                .iter()
                .map(|host| host.join_at.as_secs_f64())
                .collect()
        };
        assert_eq!(times(Join::At(2.0), 3), [2.0; 3]);
        assert_eq!(times(Join::Every(2.0), 3), [0.0, 2.0, 4.0]);
        assert!(
            times(Join::Within(5.0), 100)
                .iter()
                .all(|at| (0.0..5.0).contains(at))
        );
        let poisson = times(Join::Rate(2.0), 1000);
        assert!(poisson.is_sorted());
        let last = poisson.last().copied().unwrap_or(0.0);
        assert!(
            (450.0..550.0).contains(&last),
            "1000 at two a second: {last}"
        );
    }

    #[test]
    fn what_is_different_takes_the_place_of_what_was() {
        let base = Group {
            name: "g".to_owned(),
            count: Some(3),
            up: Some(Size(5)),
            ..Group::default()
        };
        let other = Group {
            count: Some(7),
            ..Group::default()
        };
        let changed = base.clone().changed(Some(&other));
        assert_eq!(
            (changed.count(), changed.up, changed.name.as_str()),
            (7, Some(Size(5)), "g")
        );
        assert_eq!(base.clone().changed(None), base);
    }
}
