//! Searches in a large network of nodes, in virtual time: how quick they are, what they cost, whom they find.
//!
//! ```text
//! cargo run --release -p riverrun-dht --example network -- nodes=10000 dead=200 searches=300
//! cargo run --release -p riverrun-dht --example network -- nodes=1000 hostile=428 prefixes=64
//! ```
//!
//! The world is that of the tests: nodes join one after the other through three that are there, by searches like any
//! other; nobody's table is made up. `dead` of a thousand nodes go without a word just before the searches, so that
//! they are in everybody's table; `hostile` nodes live in `prefixes` networks of 256 addresses.

#![expect(clippy::print_stdout, reason = "it is what the program is for")]

#[path = "../tests/network/hostile.rs"]
mod hostile;
#[path = "../tests/network/world.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod world;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use riverrun_base::InfoHash;
use riverrun_dht::{NodeId, PeersQuestion, Question};

use crate::world::{Outcome, Plan, World, percentile};

/// How long the nodes have been there when the searches begin.
const SETTLE: Duration = Duration::from_mins(2);

/// What was asked for, with these values if nothing is said.
const DEFAULTS: [(&str, usize); 6] = [
    ("nodes", 1000),
    ("dead", 0),
    ("hostile", 0),
    ("prefixes", 64),
    ("searches", 200),
    ("seed", 1),
];

fn main() -> Result<(), String> {
    let given = arguments()?;
    let plan = Plan {
        hostile: given["hostile"],
        hostile_networks: given["prefixes"].max(1),
        ..Plan::honest(given["seed"] as u64, given["nodes"])
    };
    let mut world = World::grow(plan, SETTLE);
    println!("{} datagrams until all nodes were there", world.datagrams);
    let announced: Vec<_> = (0..given["searches"])
        .map(|_| {
            let (hash, who) = (NodeId::random(&mut world.rng), world.someone());
            (hash, who, world.announce(who, hash).report)
        })
        .collect();
    world.kill(given["dead"]);
    let searches: Vec<_> = announced
        .iter()
        .map(|(hash, who, _)| {
            let question = Question::Peers(PeersQuestion::new(InfoHash(hash.0)));
            let someone = world.someone();
            let outcome = world.find(someone, &question);
            (outcome, SocketAddr::new(world.addr(*who).ip(), 7000))
        })
        .collect();
    let stored = announced.iter().map(|(.., report)| report.stored).sum();
    println!("stored on {} nodes each", mean(stored, announced.len()));
    tell(&searches);
    Ok(())
}

fn arguments() -> Result<BTreeMap<&'static str, usize>, String> {
    let mut given = BTreeMap::from(DEFAULTS);
    for argument in std::env::args().skip(1) {
        let wrong = || format!("{argument:?}: expected NAME=NUMBER with a name of {DEFAULTS:?}");
        let (name, number) = argument.split_once('=').ok_or_else(wrong)?;
        let value = given.get_mut(name).ok_or_else(wrong)?;
        *value = number.parse().map_err(|_| wrong())?;
    }
    Ok(given)
}

/// What came of searches for peers at these addresses.
fn tell(searches: &[(Outcome, SocketAddr)]) {
    let finds = |(outcome, peer): &&(Outcome, SocketAddr)| outcome.peers().contains(peer);
    let found = searches.iter().filter(finds).count();
    println!("{found} of {} found", searches.len());
    let queries = searches.iter().map(|(outcome, _)| outcome.report.queries);
    println!("{} queries each", mean(queries.sum(), searches.len()));
    let times = |of: fn(&Outcome) -> Option<Duration>| -> Vec<_> {
        let outcomes = searches.iter().map(|(outcome, _)| outcome);
        outcomes.filter_map(of).collect()
    };
    let first = times(|outcome| outcome.first_value);
    let end = times(|outcome| outcome.ended);
    for (what, mut times) in [("first value", first), ("end", end)] {
        if times.is_empty() {
            continue;
        }
        let [half, most, nearly_all] = [0.5, 0.95, 0.99].map(|part| percentile(&mut times, part));
        println!("{what} after {half:.0?}, {most:.0?}, {nearly_all:.0?} (p50, p95, p99)");
    }
}

/// In tenths.
fn mean(sum: usize, count: usize) -> String {
    let tenths = sum * 10 / count.max(1);
    format!("{}.{}", tenths / 10, tenths % 10)
}
