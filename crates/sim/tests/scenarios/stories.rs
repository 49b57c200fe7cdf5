//! Each built-in scenario is run, and comes to what its text says.

use riverrun_base::Time;
use riverrun_sim::check::{Property, Violation};
use riverrun_sim::report::steps;
use riverrun_sim::scenario::{Keep, Metric, Ran, Scenario, builtin, run};

fn load(name: &str) -> Scenario {
    let builtin = builtin(name).expect("a scenario of that name");
    Scenario::parse(builtin.toml).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Runs a scenario and holds it against its own expectations.
fn check(name: &str, seed: u64) -> Vec<Ran> {
    let scenario = load(name);
    let runs = run(&scenario, seed, Keep::Records);
    let missed: Vec<String> = scenario.missed(&runs).into_iter().map(|m| m.text).collect();
    assert!(missed.is_empty(), "{name}, seed {seed}: {missed:#?}");
    runs
}

fn told(ran: &Ran) -> Vec<String> {
    let recording = ran.recording.as_ref().expect("a record");
    steps(recording)
        .into_iter()
        .map(|step| step.caption)
        .collect()
}

#[test]
fn the_worked_example_goes_round_by_round() {
    for seed in 1..=10 {
        let runs = check("worked-example", seed);
        let told = told(&runs[0]);
        assert_eq!(
            told[0],
            "S has all four pieces. A, B and C have nothing yet."
        );
        assert!(told[1].starts_with("S hands piece "), "{told:#?}");
        assert!(
            told[1].ends_with(": three different pieces, not three copies of one."),
            "{told:#?}"
        );
        assert!(
            told[2].starts_with("A, B and C trade among themselves: "),
            "{told:#?}"
        );
        let end = "All have 4 of 4: one seeder became four, and S may leave.";
        assert!(
            told.last().is_some_and(|last| last.ends_with(end)),
            "{told:#?}"
        );
    }
}

#[test]
fn one_seeder_becomes_fifty() {
    let runs = check("one-becomes-many", 1);
    let last = told(&runs[0]).pop().unwrap_or_default();
    assert!(last.starts_with("All 49 have everything after "), "{last}");
}

#[test]
fn rarest_first_beats_chance_and_order() {
    check("rarest-first", 1);
}

#[test]
fn a_super_seeder_sends_little_twice() {
    check("super-seeding", 1);
}

#[test]
fn a_wrong_piece_goes_no_further_and_the_liar_is_found() {
    for seed in 1..=5 {
        let runs = check("wrong-piece", seed);
        let liars = runs[0].outcome.hosts.iter().filter(|host| !host.honest);
        assert_eq!(liars.count(), 1);
        // Only what the liar itself sent was ever wrong: what honest peers give, they have checked.
        let recording = runs[0].recording.as_ref().expect("a record");
        let liar = recording
            .peers
            .iter()
            .position(|card| card.role == "hostile");
        for moment in &recording.moments {
            if let riverrun_sim::recording::MomentKind::Sent {
                from, right: false, ..
            } = moment.kind
            {
                assert_eq!(Some(from as usize), liar);
            }
        }
    }
}

#[test]
fn a_swarm_carries_a_crowd_that_a_server_does_not() {
    check("flash-crowd", 1);
}

#[test]
fn the_seeder_may_leave_when_each_piece_is_out_and_not_before() {
    let runs = check("seed-leaves", 1);
    let early = told(&runs[1]).join(" ");
    assert!(early.contains("S leaves"), "{early}");
    assert_eq!(runs[1].figure(Metric::RarestCopies), Some(0.0));
}

#[test]
fn who_comes_late_is_as_fast_as_those_who_stayed() {
    check("late-peer", 1);
}

#[test]
fn whoever_only_takes_gets_less() {
    check("free-riders", 1);
}

#[test]
fn a_private_torrent_is_sought_nowhere_but_at_its_tracker() {
    let runs = check("private", 1);
    // What is not private shows that somebody was listening.
    assert!(runs[0].figure(Metric::Elsewhere) > Some(100.0));
}

#[test]
fn what_must_hold_in_any_world_must_hold_in_a_story() {
    let scenario = load("worked-example");
    let mut runs = run(&scenario, 1, Keep::Figures);
    assert_eq!(scenario.missed(&runs), []);
    runs[0].outcome.violations.push(Violation {
        property: Property::NobodyStarves,
        at: Time::from_secs(3),
        host: None,
        what: "lets somebody wait".to_owned(),
    });
    let missed = scenario.missed(&runs);
    assert!(missed[0].text.contains("S6"), "{missed:?}");
}

#[test]
fn one_seed_gives_one_run() {
    let scenario = load("wrong-piece");
    let once = run(&scenario, 3, Keep::Records);
    let again = run(&scenario, 3, Keep::Records);
    assert_eq!(once[0].recording, again[0].recording);
    let other = run(&scenario, 4, Keep::Records);
    assert_ne!(once[0].recording, other[0].recording);
}
