//! Licences and duplicates of all packages in the lock, against the lists of `deny.toml`.

use std::collections::{BTreeMap, BTreeSet};

use spdx::{Expression, Licensee, ParseMode};

use crate::workspace::{assert_none, list, metadata, read, root, string};

fn deny() -> toml::Table {
    read(&root().join("deny.toml"))
        .parse()
        .expect("deny.toml is TOML")
}

fn strings<'a>(values: Option<&'a toml::Value>, key: &str) -> Vec<&'a str> {
    let items = values
        .and_then(|v| v.get(key))
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten();
    items
        .filter_map(|item| item.as_str().or_else(|| item.get("crate")?.as_str()))
        .collect()
}

#[test]
fn every_licence_is_allowed() {
    let deny = deny();
    let allowed: Vec<Licensee> = strings(deny.get("licenses"), "allow")
        .into_iter()
        .map(|text| Licensee::parse(text).unwrap_or_else(|e| panic!("deny.toml, {text:?}: {e}")))
        .collect();
    let findings: Vec<_> = list(metadata(), "packages")
        .iter()
        .filter(|package| !is_allowed(package["license"].as_str(), &allowed))
        .map(|package| format!("{}: {}", string(package, "id"), package["license"]))
        .collect();
    assert_none("licences that deny.toml does not allow", &findings);
}

fn is_allowed(licence: Option<&str>, allowed: &[Licensee]) -> bool {
    let parsed = licence.and_then(|text| Expression::parse_mode(text, ParseMode::LAX).ok());
    parsed.is_some_and(|expression| {
        expression.evaluate(|requirement| allowed.iter().any(|one| one.satisfies(requirement)))
    })
}

#[test]
fn alternatives_need_one_allowed_licence_and_conjunctions_all() {
    let allowed = [
        Licensee::parse("MIT").unwrap(),
        Licensee::parse("ISC").unwrap(),
    ];
    for (licence, expected) in [
        (Some("MIT OR GPL-3.0-only"), true),
        (Some("Unlicense/MIT"), true),
        (Some("MIT AND ISC"), true),
        (Some("MIT AND GPL-3.0-only"), false),
        (Some("MPL-2.0"), false),
        (None, false),
    ] {
        assert_eq!(is_allowed(licence, &allowed), expected, "{licence:?}");
    }
}

#[test]
fn a_second_version_of_a_package_has_a_reason() {
    let deny = deny();
    let skips: BTreeSet<&str> = strings(deny.get("bans"), "skip").into_iter().collect();
    let mut used = BTreeSet::new();
    let mut findings = Vec::new();
    for (name, mut versions) in versions().into_iter().filter(|(_, all)| all.len() > 1) {
        versions.retain(|version| {
            let skip = skips.iter().find(|skip| covers(skip, name, version));
            used.extend(skip);
            skip.is_none()
        });
        if versions.len() > 1 {
            findings.push(format!("{name} {}", versions.join(", ")));
        }
    }
    findings.extend(
        skips
            .difference(&used)
            .map(|skip| format!("{skip} is skipped for nothing")),
    );
    assert_none("duplicates: see [bans] in deny.toml", &findings);
}

/// Name → its versions in the lock.
fn versions() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut versions: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for package in list(metadata(), "packages") {
        versions
            .entry(string(package, "name"))
            .or_default()
            .push(string(package, "version"));
    }
    versions
}

/// Whether the entry `name@1.2` covers this version of this package.
fn covers(skip: &str, name: &str, version: &str) -> bool {
    let Some((wanted, prefix)) = skip.split_once('@') else {
        return skip == name;
    };
    wanted == name && (version == prefix || version.starts_with(&format!("{prefix}.")))
}

#[test]
fn every_package_comes_from_the_registry_or_from_here() {
    let findings: Vec<_> = list(metadata(), "packages")
        .iter()
        .filter(|package| {
            package["source"]
                .as_str()
                .is_some_and(|from| !from.starts_with("registry+"))
        })
        .map(|package| string(package, "id").to_owned())
        .collect();
    assert_none("no git dependencies", &findings);
}
