//! Random worlds with random faults, those that failed once, and mistakes planted to see that the checkers bite.

use riverrun_base::Time;
use riverrun_sim::chaos::{self, Plan};
use riverrun_sim::check::{Property, Violation};
use riverrun_sim::{Content, Planted};

use crate::arena::Arena;
use crate::say;

/// How many seeds the test command runs.
const SEEDS: u64 = 300;
/// Within how many seeds a planted mistake has to be seen.
const SEEDS_TO_CATCH: u64 = 120;

#[test]
fn nothing_that_goes_wrong_makes_a_sound_client_do_wrong() {
    let (mut searches, mut in_vain) = (0, 0);
    let mut failed = Vec::new();
    for seed in 0..SEEDS {
        let plan = chaos::draw(seed);
        let outcome = plan.run();
        searches += outcome.searches.count;
        in_vain += outcome.searches.in_vain;
        if let Some(first) = outcome.violations.first() {
            tell(&plan, first);
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "seeds {failed:?} failed");
    say(&format!(
        "{searches} searches in the DHT, {in_vain} in vain"
    ));
    assert!(searches > 100 && in_vain * 20 <= searches);
}

/// Says how to see a world again that went wrong, and what is left of it when made smaller.
fn tell(plan: &Plan, first: &Violation) {
    let seed = plan.seed;
    say(&format!(
        "seed {seed}: {first}\n  see it again: riverrun simulate chaos --seed {seed}"
    ));
    let (smaller, _) = chaos::shrink(plan, first.property);
    say(&toml::to_string(&smaller).expect("a plan is plain data"));
}

/// Plans of worlds in which something went wrong, each with what it was.
const FAILED_ONCE: &[(&str, &str)] = &[
    (
        "a-recheck-while-a-hash-is-taken",
        include_str!("../regressions/a-recheck-while-a-hash-is-taken.toml"),
    ),
    (
        "an-only-seed-that-is-away",
        include_str!("../regressions/an-only-seed-that-is-away.toml"),
    ),
    (
        "a-dial-to-one-who-is-killed",
        include_str!("../regressions/a-dial-to-one-who-is-killed.toml"),
    ),
    (
        "a-drain-in-its-turn",
        include_str!("../regressions/a-drain-in-its-turn.toml"),
    ),
    (
        "a-dht-cut-in-two",
        include_str!("../regressions/a-dht-cut-in-two.toml"),
    ),
    (
        "two-sleeps-at-once",
        include_str!("../regressions/two-sleeps-at-once.toml"),
    ),
    (
        "a-wrong-piece-between-two-silent-peers",
        include_str!("../regressions/a-wrong-piece-between-two-silent-peers.toml"),
    ),
    (
        "late-blocks-under-a-download-limit",
        include_str!("../regressions/late-blocks-under-a-download-limit.toml"),
    ),
    (
        "refusals-of-what-is-claimed",
        include_str!("../regressions/refusals-of-what-is-claimed.toml"),
    ),
    (
        "requests-to-a-closing-connection",
        include_str!("../regressions/requests-to-a-closing-connection.toml"),
    ),
    (
        "one-wrong-block-of-a-v2-piece",
        include_str!("../regressions/one-wrong-block-of-a-v2-piece.toml"),
    ),
    (
        "a-silent-magnet-at-a-super-seed",
        include_str!("../regressions/a-silent-magnet-at-a-super-seed.toml"),
    ),
    (
        "a-mute-seed-beside-a-super-seed",
        include_str!("../regressions/a-mute-seed-beside-a-super-seed.toml"),
    ),
    (
        "a-lone-magnet-at-a-super-seed",
        include_str!("../regressions/a-lone-magnet-at-a-super-seed.toml"),
    ),
    (
        "a-power-cut-during-a-sleep",
        include_str!("../regressions/a-power-cut-during-a-sleep.toml"),
    ),
    (
        "a-check-at-the-end",
        include_str!("../regressions/a-check-at-the-end.toml"),
    ),
    (
        "a-suspicion-that-ends",
        include_str!("../regressions/a-suspicion-that-ends.toml"),
    ),
    (
        "a-wrong-piece-and-only-silent-peers",
        include_str!("../regressions/a-wrong-piece-and-only-silent-peers.toml"),
    ),
    (
        "a-snubbed-peer-asked-first",
        include_str!("../regressions/a-snubbed-peer-asked-first.toml"),
    ),
    (
        "two-connections-to-one-host",
        include_str!("../regressions/two-connections-to-one-host.toml"),
    ),
    (
        "a-slow-magnet-at-a-super-seed",
        include_str!("../regressions/a-slow-magnet-at-a-super-seed.toml"),
    ),
    (
        "a-goodbye-in-sleep",
        include_str!("../regressions/a-goodbye-in-sleep.toml"),
    ),
];

#[test]
fn what_failed_once_does_not_fail_again() {
    for (name, text) in FAILED_ONCE {
        let plan: Plan = toml::from_str(text).expect("a plan");
        let violations = plan.run().violations;
        assert_eq!(violations, [], "{name}");
    }
}

#[test]
fn a_seed_is_one_run_of_chaos() {
    for seed in [3, 9, 28] {
        let [one, other] = [(); 2].map(|()| chaos::draw(seed).run());
        assert_eq!(one, other, "seed {seed}");
    }
    assert_ne!(chaos::draw(3).run().trace, chaos::draw(9).run().trace);
}

#[test]
fn every_planted_mistake_is_caught() {
    let mut missed = Vec::new();
    for planted in Planted::ALL {
        match caught(planted) {
            Some((seed, first)) => {
                say(&format!("{planted:?}, seed {seed}: {first}"));
                let expected = breaks(planted).unwrap_or(first.property);
                assert_eq!(first.property, expected, "{planted:?}");
            }
            None => missed.push(planted),
        }
    }
    assert!(missed.is_empty(), "{missed:?} went unseen");
}

/// What a mistake breaks that breaks nothing else.
fn breaks(planted: Planted) -> Option<Property> {
    match planted {
        Planted::RepeatsDatagrams | Planted::NodeRepeats => Some(Property::NoReflection),
        Planted::NeverAnnouncesToNodes => Some(Property::FoundInTheDht),
        Planted::PicksAtRandom
        | Planted::AsksTwice
        | Planted::RarelyReconsiders
        | Planted::LendsMore => Some(Property::Models),
        _ => None,
    }
}

fn caught(planted: Planted) -> Option<(u64, Violation)> {
    let run = |seed| {
        Plan {
            planted: Some(planted),
            ..chaos::draw(seed)
        }
        .run()
    };
    let first = |seed| Some((seed, run(seed).violations.into_iter().next()?));
    (0..SEEDS_TO_CATCH).find_map(first)
}

#[test]
fn a_failing_plan_is_made_smaller_and_still_fails() {
    let plan = Plan {
        planted: Some(Planted::NeverUnchokes),
        ..chaos::draw(0)
    };
    let (smaller, outcome) = chaos::shrink(&plan, Property::Completion);
    let told = |violation: &Violation| violation.property == Property::Completion;
    assert!(outcome.violations.iter().any(told));
    assert_eq!(
        (smaller.pieces, smaller.hosts.len(), smaller.faults.len()),
        (2, 2, 0)
    );
}

#[test]
#[should_panic(expected = "S11 Announces")]
fn the_worlds_of_tests_are_judged_as_well() {
    let mut world = Arena::new(1, &Content::tokens(8, 4));
    world.seed(1_000_000);
    world.mistaken(1_000_000, Planted::RepeatsAnnounces);
    world.run_until(Time::from_secs(10));
}
