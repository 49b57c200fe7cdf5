//! Who may use whom. The table is exact: a new arrow is a new line here, with its reason in the commit.

use std::collections::{BTreeMap, BTreeSet};

use crate::workspace::{assert_none, crates, list, metadata, string};

/// One crate: how high it stands, and on which crates of ours it stands.
struct Place {
    name: &'static str,
    level: u8,
    uses: &'static [&'static str],
}

const fn at(level: u8, name: &'static str, uses: &'static [&'static str]) -> Place {
    Place { name, level, uses }
}

/// From the ground up. Levels 0 to 2 are the pure row, 3 and 4 the core, 5 storage, above it the drivers and
/// faces. `swarm` stands one step above the protocols, for their vocabulary.
const HOUSE: &[Place] = &[
    at(0, "base", &[]),
    at(1, "bencode", &[]),
    at(1, "hash", &["base"]),
    at(2, "metainfo", &["base", "bencode", "hash"]),
    at(3, "peer", &["base", "bencode", "hash", "metainfo"]),
    at(3, "tracker", &["base", "bencode", "hash"]),
    at(3, "dht", &["base", "bencode", "hash"]),
    at(3, "utp", &["base"]),
    at(
        4,
        "swarm",
        &["base", "bencode", "hash", "metainfo", "peer", "tracker"],
    ),
    at(
        5,
        "storage",
        &["base", "bencode", "hash", "metainfo", "peer", "swarm"],
    ),
    at(
        5,
        "sim",
        &[
            "base", "bencode", "dht", "hash", "metainfo", "peer", "swarm", "tracker", "utp",
        ],
    ),
    at(
        6,
        "engine",
        &[
            "base", "bencode", "dht", "hash", "metainfo", "peer", "storage", "swarm", "tracker",
            "utp",
        ],
    ),
    at(6, "trackerd", &["base", "tracker"]),
    at(
        7,
        "cli",
        &["base", "engine", "metainfo", "sim", "storage", "trackerd"],
    ),
];

/// The first level that may touch the outside.
const OUTSIDE_LEVEL: u8 = 5;

/// Stands as high, and is a world of its own.
const INSIDE: &str = "sim";

/// Runtimes, sockets, files and HTTP: not below storage, not even through another package.
const OUTSIDE: &[&str] = &[
    "async-std",
    "crossbeam-channel",
    "futures-executor",
    "hyper",
    "mio",
    "nix",
    "quinn-udp",
    "reqwest",
    "rustix",
    "rustls",
    "smol",
    "socket2",
    "tempfile",
    "tokio",
    "tokio-util",
];

fn place(name: &str) -> Option<&'static Place> {
    HOUSE.iter().find(|place| place.name == name)
}

/// The crates of ours on which `package` depends, and whether only its tests do.
fn arrows(package: &serde_json::Value) -> impl Iterator<Item = (&str, bool)> {
    list(package, "dependencies")
        .iter()
        .filter_map(|dependency| {
            let name = string(dependency, "name").strip_prefix("riverrun-")?;
            Some((name, dependency["kind"] == "dev"))
        })
}

#[test]
fn every_arrow_points_down() {
    let mut findings = Vec::new();
    for (name, package) in crates() {
        let Some(from) = place(name) else {
            findings.push(format!("{name} has no place in the house: add it to HOUSE"));
            continue;
        };
        let upward =
            arrows(package).filter(|(to, _)| place(to).is_none_or(|to| to.level >= from.level));
        findings.extend(upward.map(|(to, _)| format!("{name} → {to} does not point down")));
    }
    assert_none("an arrow may only point down", &findings);
}

#[test]
fn the_arrows_are_those_of_the_table() {
    let mut findings = Vec::new();
    for (name, package) in crates() {
        let Some(from) = place(name) else { continue };
        let real: BTreeSet<&str> = arrows(package)
            .filter(|(_, dev)| !dev)
            .map(|(to, _)| to)
            .collect();
        let table: BTreeSet<&str> = from.uses.iter().copied().collect();
        findings.extend(
            real.difference(&table)
                .map(|to| format!("{name} → {to} is new")),
        );
        findings.extend(
            table
                .difference(&real)
                .map(|to| format!("{name} → {to} is gone")),
        );
    }
    assert_none(
        "HOUSE in xtask/tests/tidy/arrows.rs must say which arrows there are",
        &findings,
    );
}

#[test]
fn nothing_below_storage_reaches_the_outside() {
    let names = package_names();
    let graph = normal_dependencies();
    let mut findings = Vec::new();
    for (name, package) in crates() {
        let may_reach = place(name).is_some_and(|place| place.level >= OUTSIDE_LEVEL);
        if may_reach && name != INSIDE {
            continue;
        }
        let reached = reachable(string(package, "id"), &graph);
        let outside = reached
            .iter()
            .map(|id| names[id])
            .filter(|found| OUTSIDE.contains(found));
        findings.extend(outside.map(|found| format!("{name} reaches {found}")));
    }
    assert_none(
        "core and pure crates decide, they never touch the outside",
        &findings,
    );
}

fn package_names() -> BTreeMap<&'static str, &'static str> {
    let packages = list(metadata(), "packages").iter();
    packages
        .map(|package| (string(package, "id"), string(package, "name")))
        .collect()
}

/// Package id → ids of what it links, tests and build scripts left out.
fn normal_dependencies() -> BTreeMap<&'static str, Vec<&'static str>> {
    let nodes = list(&metadata()["resolve"], "nodes").iter();
    nodes
        .map(|node| {
            let normal = |dep: &&serde_json::Value| {
                list(dep, "dep_kinds").iter().any(|k| k["kind"].is_null())
            };
            let uses = list(node, "deps")
                .iter()
                .filter(normal)
                .map(|dep| string(dep, "pkg"));
            (string(node, "id"), uses.collect())
        })
        .collect()
}

fn reachable<'a>(from: &'a str, graph: &BTreeMap<&'a str, Vec<&'a str>>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            open.extend(graph.get(id).into_iter().flatten());
        }
    }
    seen
}
