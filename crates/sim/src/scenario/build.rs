//! A world made from a scenario.

use riverrun_base::{BLOCK_LEN, Rng, Time};

use super::file::{Deed, Planned, RunFile, Scenario};
use super::group::{Group, secs};
use crate::action::Action;
use crate::config::{HostConfig, Start};
use crate::content::{Content, Version};
use crate::fluid::Crowd;
use crate::ids::{ContentId, HostId};
use crate::world::World;

/// Keeps what a scenario draws apart from what its world draws.
const JOINS: u64 = 0x6a6f_696e;

/// A world that is ready to begin.
pub(crate) struct Built {
    pub(crate) world: World,
    pub(crate) content: ContentId,
    /// Of each host, the place of its group.
    pub(crate) groups: Vec<usize>,
    /// When the last thing is done to it.
    pub(crate) last_action: Time,
    /// The least time in which any swarm could do it, in seconds, where that is known.
    pub(crate) bound: Option<f64>,
}

/// Makes the world of one run.
pub(crate) fn build(scenario: &Scenario, run: &RunFile, seed: u64) -> Built {
    let mut config = scenario.world.clone();
    config.seed = seed;
    let mut world = World::new(config);
    let is_private = run.private.unwrap_or(scenario.content.private);
    let content = world.add_content(content(scenario, is_private, seed));
    let mut rng = Rng::new(seed ^ JOINS);
    let mut groups = Vec::new();
    let mut hosts = Vec::new();
    let kinds = scenario.groups(run);
    for (place, group) in kinds.iter().enumerate() {
        for config in group.hosts(&mut rng) {
            let picking = group.picking();
            hosts.push((config.clone(), place));
            let host = world.add_host(content, config);
            let elsewhere = group.elsewhere.unwrap_or_default();
            world.setup(host).shard(|shard| {
                shard.picking = picking;
                (shard.uses_dht, shard.local_discovery) = (elsewhere, elsewhere);
            });
            groups.push(place);
        }
    }
    let mut last_action = Time::ZERO;
    for planned in scenario
        .actions
        .iter()
        .filter(|_| run.actions.unwrap_or(true))
    {
        let at = Time::ZERO + secs(planned.at);
        last_action = last_action.max(at);
        for action in actions(&planned.what, &kinds, &groups) {
            world.plan(at, action);
        }
    }
    let bound = bound(scenario, &kinds, &hosts);
    Built {
        world,
        content,
        groups,
        last_action,
        bound,
    }
}

fn content(scenario: &Scenario, is_private: bool, seed: u64) -> Content {
    let (pieces, blocks) = (scenario.content.pieces, scenario.content.blocks());
    match scenario.content.version {
        Version::V1 if is_private => Content::private(pieces, blocks),
        version => Content::of(version, pieces, blocks, seed),
    }
}

/// What a deed is to the hosts that it names.
fn actions(deed: &Deed, kinds: &[Group], groups: &[usize]) -> Vec<Action> {
    let named = |name: &str| named(name, kinds, groups);
    let each = |name: &str, action: &dyn Fn(HostId) -> Action| {
        named(name).into_iter().map(action).collect()
    };
    match deed {
        Deed::Leave(name) => each(name, &Action::Leave),
        Deed::Crash(name) => each(name, &|host| Action::Crash { host, power: false }),
        Deed::PowerCut(name) => each(name, &|host| Action::Crash { host, power: true }),
        Deed::Restart(name) => each(name, &Action::Restart),
        Deed::Spoil { host, piece } => each(host, &|host| {
            Action::Spoil(host, riverrun_base::PieceIndex(*piece))
        }),
        Deed::Rates { host, up, down } => {
            let (up, down) = (up.map(|size| size.0), down.map(|size| size.0));
            each(host, &|host| Action::Rates { host, up, down })
        }
        Deed::CutOff(name) => vec![Action::Split(
            named(name).into_iter().map(|host| (host, 1)).collect(),
        )],
        Deed::Heal => vec![Action::Heal],
        Deed::TrackerDown(index) => vec![Action::Tracker {
            index: *index,
            down: true,
        }],
        Deed::TrackerUp(index) => vec![Action::Tracker {
            index: *index,
            down: false,
        }],
        Deed::Note(text) => vec![Action::Note(text.clone())],
    }
}

/// The hosts of a group, or the one of that name.
fn named(name: &str, kinds: &[Group], groups: &[usize]) -> Vec<HostId> {
    let mut seen = vec![0; kinds.len()];
    let mut found = Vec::new();
    for (host, group) in (0..).map(HostId).zip(groups) {
        let place = seen[*group];
        seen[*group] += 1;
        if kinds[*group].name == name || kinds[*group].host_name(place) == name {
            found.push(host);
        }
    }
    found
}

/// The fluid bound, if all begin together with everything or nothing, and stay as they are.
#[expect(clippy::cast_precision_loss, reason = "rates are far below 2^52")]
fn bound(scenario: &Scenario, kinds: &[Group], hosts: &[(HostConfig, usize)]) -> Option<f64> {
    let at_once = |group: &Group| group.join.is_none_or(super::group::Join::is_at_once);
    let changes_rates = |planned: &Planned| matches!(planned.what, Deed::Rates { .. });
    let has_some = |(host, _): &(HostConfig, usize)| matches!(host.start, Start::Pieces(_));
    if !kinds.iter().all(at_once)
        || scenario.actions.iter().any(changes_rates)
        || hosts.iter().any(has_some)
    {
        return None;
    }
    let rate = |rate: Option<u64>| rate.map_or(f64::INFINITY, |rate| rate as f64);
    let (seeds, others): (Vec<_>, Vec<_>) = hosts
        .iter()
        .map(|(host, _)| host)
        .partition(|host| host.start == Start::Full);
    let wanting: Vec<_> = others
        .into_iter()
        .filter(|host| host.manners.is_honest())
        .collect();
    let crowd = Crowd {
        len_bytes: u64::from(scenario.content.pieces)
            * u64::from(scenario.content.blocks())
            * u64::from(BLOCK_LEN),
        seed_up: seeds.iter().map(|host| rate(host.up)).sum(),
        up: wanting.iter().map(|host| rate(host.up)).collect(),
        down: wanting.iter().map(|host| rate(host.down)).collect(),
    };
    let bound = crowd.makespan();
    (bound.is_finite() && bound > 0.0 && !wanting.is_empty()).then_some(bound)
}
