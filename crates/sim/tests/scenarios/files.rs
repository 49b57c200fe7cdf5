//! What is a scenario file, and what is told of one that is none.

use riverrun_sim::scenario::{Builtin, Keep, Scenario, chart, report, run, table};

const SMALL: &str = r#"
title = "Small"
limit = 60.0

[content]
pieces = 4
piece_size = "64KiB"

[[hosts]]
name = "seeder"
names = ["S"]
start = "full"
up = "1MB"

[[hosts]]
name = "peer"
count = 3
up = "1MB"
"#;

fn with(more: &str) -> String {
    format!("{SMALL}\n{more}")
}

#[test]
fn each_built_in_scenario_has_a_story_and_expectations() {
    for builtin in Builtin::ALL {
        let scenario =
            Scenario::parse(builtin.toml).unwrap_or_else(|e| panic!("{}: {e}", builtin.name));
        assert!(!scenario.about.is_empty(), "{}", builtin.name);
        assert!(builtin.toml.contains("[[expect]]"), "{}", builtin.name);
    }
}

#[test]
fn a_mistake_is_named_with_its_line() {
    let cases = [
        (with("colour = 3"), "unknown field `colour`"),
        (SMALL.replace("up = \"1MB\"", "upp = 1"), "line 13"),
        (SMALL.replace("\"64KiB\"", "\"64 frogs\""), "unknown unit"),
        (SMALL.replace("\"64KiB\"", "\"60kB\""), "multiple of 16 KiB"),
        (
            SMALL.replace("pieces = 4", "pieces = 0"),
            "0 is not between 1 and",
        ),
        (
            SMALL.replace("count = 3", "count = 3000000"),
            "are not between 1 and",
        ),
        (
            SMALL.replace("limit = 60.0", "limit = nan"),
            "must be a time",
        ),
        (
            with("[[expect]]\nmetric = \"slowest\""),
            "needs min, max or both",
        ),
        (
            with("[[expect]]\nmetric = \"slowest\"\nmax = 1\nrun = \"x\""),
            "there is no run \"x\"",
        ),
        (
            with("[[expect]]\nmetric = \"slowest\"\nmax = 1\ngroup = \"x\""),
            "there is no group \"x\"",
        ),
        (
            with("[[actions]]\nat = 1\ndo = { leave = \"Q\" }"),
            "there is no host or group \"Q\"",
        ),
        (
            with("[[actions]]\nat = 1\ndo = { tracker_down = 7 }"),
            "there is no tracker 7",
        ),
        (
            with("[[actions]]\nat = 1\ndo = { spoil = { host = \"S\", piece = 4 } }"),
            "there is no piece 4",
        ),
        (
            with("[[actions]]\nat = 1\ndo = { explode = \"S\" }"),
            "unknown variant `explode`",
        ),
        (
            with("[[runs]]\nlabel = \"a\"\nhosts.x = { count = 1 }"),
            "there is no group \"x\"",
        ),
    ];
    for (text, expected) in cases {
        let error = Scenario::parse(&text).expect_err(expected).to_string();
        assert!(error.contains(expected), "{expected:?} in {error}");
    }
}

#[test]
fn what_is_done_to_hosts_is_done() {
    let text = with(
        "[[actions]]\nat = 0.0\ndo = { rates = { host = \"S\", up = \"10kB\" } }\n\
         [[actions]]\nat = 5.0\ndo = { crash = \"peer 2\" }\n\
         [[actions]]\nat = 6.0\ndo = { note = \"S wakes up\" }\n\
         [[actions]]\nat = 6.0\ndo = { rates = { host = \"S\", up = \"1MB\" } }\n\
         [[actions]]\nat = 7.0\ndo = { restart = \"peer 2\" }\n",
    );
    let scenario = Scenario::parse(&text).expect("a scenario");
    let runs = run(&scenario, 1, Keep::Records);
    let hosts = &runs[0].outcome.hosts;
    assert!(
        hosts
            .iter()
            .filter(|host| !host.seed)
            .all(|host| host.completed > Some(6.0)),
        "{hosts:#?}"
    );
    let page = riverrun_sim::report::page(&report(&scenario, &runs, String::new()));
    for expected in ["S wakes up", "peer 2 crashes", "peer 2 starts again"] {
        assert!(page.contains(expected), "{expected}");
    }
}

#[test]
fn runs_stand_beside_each_other() {
    let text = with(
        "[[runs]]\nlabel = \"few\"\ncurve = \"c\"\nx = 3.0\n\
         [[runs]]\nlabel = \"many\"\ncurve = \"c\"\nx = 6.0\nhosts.peer = { count = 6 }\n\
         [chart]\ntitle = \"t\"\nx = \"peers\"\ny = \"s\"\nmetric = \"slowest\"\n\
         [[expect]]\nrun = \"many\"\nmetric = \"complete\"\nover_run = \"few\"\nmin = 2\nmax = 2\n\
         [[expect]]\nrun = \"many\"\nmetric = \"complete\"\nmax = 5\n",
    );
    let scenario = Scenario::parse(&text).expect("a scenario");
    let runs = run(&scenario, 1, Keep::Figures);
    let missed: Vec<String> = scenario
        .missed(&runs)
        .into_iter()
        .map(|missed| missed.text)
        .collect();
    assert_eq!(missed, ["many: complete is 6.000, not at most 5"]);
    let table = table(&scenario, &runs);
    assert_eq!(
        table
            .rows
            .iter()
            .map(|row| row[1].as_str())
            .collect::<Vec<_>>(),
        ["3", "6"]
    );
    let chart = chart(&scenario, &runs).expect("a chart");
    assert_eq!(chart.x, [3.0, 6.0]);
    assert!(chart.curves[0].1.iter().all(Option::is_some));
}
