//! The smallest plan that still fails.

use super::{Nodes, Outcome, Plan};
use crate::check::Property;
use crate::config::{HostConfig, Level};
use crate::content::Version;
use crate::manners::Manners;

/// How many smaller plans are tried.
const TRIES_MAX: usize = 400;

/// Makes a plan smaller as long as it goes on violating `property`: fewer faults, hosts and pieces, simpler hosts.
/// Gives the smallest found, and what became of it.
pub fn shrink(plan: &Plan, property: Property) -> (Plan, Outcome) {
    let mut best = plan.clone();
    let mut outcome = best.run();
    let mut tries = 0;
    'smaller: loop {
        for candidate in smaller(&best) {
            tries += 1;
            if tries > TRIES_MAX {
                return (best, outcome);
            }
            let found = candidate.run();
            if violates(&found, property) {
                best = candidate;
                outcome = found;
                continue 'smaller;
            }
        }
        return (best, outcome);
    }
}

fn violates(outcome: &Outcome, property: Property) -> bool {
    outcome
        .violations
        .iter()
        .any(|violation| violation.property == property)
}

/// Plans that are a little smaller, those that save most first.
fn smaller(plan: &Plan) -> Vec<Plan> {
    let fewer_faults = (0..plan.faults.len()).map(|at| {
        let mut smaller = plan.clone();
        smaller.faults.remove(at);
        smaller
    });
    let fewer_hosts = (1..plan.hosts.len()).map(|at| without_host(plan, at));
    let simpler_hosts = (0..plan.hosts.len()).flat_map(|at| {
        let hosts = simpler(&plan.hosts[at]);
        let of = move |host| {
            let mut smaller = plan.clone();
            smaller.hosts[at] = host;
            smaller
        };
        hosts.into_iter().map(of).collect::<Vec<_>>()
    });
    no_faults(plan)
        .into_iter()
        .chain(fewer_hosts)
        .chain(fewer_faults)
        .chain(less_content(plan))
        .chain(simpler_hosts)
        .filter(|smaller| smaller != plan)
        .collect()
}

fn no_faults(plan: &Plan) -> Option<Plan> {
    (plan.faults.len() > 1).then(|| Plan {
        faults: Vec::new(),
        ..plan.clone()
    })
}

fn without_host(plan: &Plan, at: usize) -> Plan {
    let mut smaller = plan.clone();
    smaller.hosts.remove(at);
    let gone = u32::try_from(at).unwrap_or(u32::MAX);
    smaller.faults.retain(|fault| fault.host != gone);
    for fault in &mut smaller.faults {
        fault.host -= u32::from(fault.host > gone);
    }
    smaller
}

fn less_content(plan: &Plan) -> Vec<Plan> {
    let with = |change: fn(&mut Plan)| {
        let mut smaller = plan.clone();
        change(&mut smaller);
        smaller
    };
    vec![
        with(|plan| plan.pieces = (plan.pieces / 2).max(2)),
        with(|plan| plan.blocks = (plan.blocks / 2).max(1)),
        with(|plan| plan.pieces = (plan.pieces - 1).max(2)),
        with(|plan| plan.tcp = false),
        with(|plan| plan.trackerless = false),
        with(|plan| plan.nodes = Nodes::default()),
        with(|plan| plan.nodes.honest /= 2),
        with(|plan| plan.nodes.liars = 0),
        with(|plan| plan.nodes.forger = false),
        with(|plan| {
            if plan.version == Version::Hybrid {
                plan.version = Version::V2;
            }
        }),
        with(|plan| plan.version = Version::V1),
    ]
}

/// A host with one peculiarity less.
fn simpler(host: &HostConfig) -> Vec<HostConfig> {
    let with = |change: fn(&mut HostConfig)| {
        let mut simpler = host.clone();
        change(&mut simpler);
        simpler
    };
    vec![
        with(|host| host.manners = Manners::default()),
        with(|host| host.level = Level::Direct),
        with(|host| {
            host.latency = HostConfig::default().latency;
            host.loss = 0.0;
        }),
        with(|host| host.disk = HostConfig::default().disk),
        with(|host| (host.upload_limit, host.download_limit) = (None, None)),
        with(|host| host.join_at = HostConfig::default().join_at),
        with(|host| host.nat = HostConfig::default().nat),
        with(|host| host.down = None),
        with(|host| host.slots = None),
        with(|host| host.fast = true),
        with(|host| host.super_seed = false),
        with(|host| host.serves = HostConfig::default().serves),
    ]
}
