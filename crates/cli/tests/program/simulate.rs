//! `riverrun simulate`.

use crate::run::Program;

const SMALL: &str = r#"
title = "A <small> swarm"
limit = 60.0
content = { pieces = 4, piece_size = "64KiB" }

[[hosts]]
name = "S"
start = "full"
up = "1MB"

[[hosts]]
name = "peer"
count = 3
up = "1MB"

[[expect]]
metric = "complete"
min = 3
"#;

fn dir(scenario: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("small.toml"), scenario).unwrap();
    dir
}

#[test]
fn a_scenario_is_told_step_by_step() {
    let dir = dir(SMALL);
    let ran = Program::new(&["simulate", "worked-example"]).run_in(dir.path());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.stdout_has("Round 1: S hands piece ");
    ran.stdout_has("three different pieces, not three copies of one");
    ran.stderr_has("How four pieces become four copies");
    let again = Program::new(&["simulate", "worked-example"]).run_in(dir.path());
    assert_eq!(ran.stdout, again.stdout, "one seed is one run");
}

#[test]
fn a_file_gives_a_page_that_needs_nothing_else() {
    let dir = dir(SMALL);
    let ran = Program::new(&["simulate", "small.toml", "--report", "out.html"]).run_in(dir.path());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let page = std::fs::read_to_string(dir.path().join("out.html")).unwrap();
    assert!(page.contains("<h1>A &lt;small&gt; swarm</h1>"));
    assert!(page.contains("riverrun simulate small.toml --seed 1"));
    assert!(!page.contains(" src="));
}

#[test]
fn many_seeds_give_a_distribution() {
    let dir = dir(SMALL);
    let ran =
        Program::new(&["simulate", "small.toml", "--seed", "5", "--seeds", "3"]).run_in(dir.path());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.stdout_has("over 3 seeds");
    let slowest = ran
        .stdout
        .lines()
        .find(|line| line.starts_with("slowest "))
        .expect("a line");
    assert_eq!(slowest.split_whitespace().count(), 4, "{slowest}");
}

#[test]
fn events_are_json_one_a_line() {
    let dir = dir(SMALL);
    let ran =
        Program::new(&["simulate", "small.toml", "--seeds", "2", "--json"]).run_in(dir.path());
    let events: Vec<serde_json::Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<_> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["run", "run", "done"]);
    assert_eq!(events[0]["figures"]["complete"], 3.0);
    assert_eq!(events[0]["seed"], 1);
}

#[test]
fn what_is_not_as_expected_fails_with_the_command_that_shows_it() {
    let dir = dir(&SMALL.replace("min = 3", "min = 4"));
    let ran = Program::new(&["simulate", "small.toml", "--seed", "9"]).run_in(dir.path());
    assert_eq!(ran.code, 1);
    ran.stderr_has("seed 9: complete is 3.000, not at least 4");
    ran.stderr_has("riverrun simulate small.toml --seed 9");
}

#[test]
fn a_bad_scenario_is_told_with_its_line() {
    let dir = dir(&SMALL.replace("count = 3", "conut = 3"));
    let ran = Program::new(&["simulate", "small.toml"]).run_in(dir.path());
    assert_eq!(ran.code, 3);
    ran.stderr_has("conut");
    ran.stderr_has("line 13");
    let ran = Program::new(&["simulate", "nothing"]).run_in(dir.path());
    assert_eq!(ran.code, 5);
    ran.stderr_has("--list");
}

#[test]
fn the_list_names_what_comes_with_the_program() {
    let dir = dir(SMALL);
    let ran = Program::new(&["simulate", "--list"]).run_in(dir.path());
    assert_eq!(ran.code, 0);
    assert!(
        ran.stdout
            .lines()
            .any(|line| line.starts_with("worked-example ")),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.lines().count() >= 9);
}

#[test]
fn chaos_is_judged_and_a_plan_that_fails_says_why() {
    let dir = dir(SMALL);
    let ran = Program::new(&["simulate", "chaos", "--seeds", "3"]).run_in(dir.path());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.stdout_has("3 worlds");
    let plan = "seed = 1\npieces = 2\nblocks = 1\nversion = \"v1\"\ntcp = false\nheal_at = 5.0\n\
        planted = \"never-unchokes\"\n[[hosts]]\nstart = \"full\"\n[[hosts]]\n";
    std::fs::write(dir.path().join("plan.toml"), plan).unwrap();
    let ran = Program::new(&["simulate", "plan.toml"]).run_in(dir.path());
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    ran.stderr_has("S8 Completion");
}

#[test]
fn science_tells_what_was_measured_beside_what_was_expected() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let all = [&["simulate", "science"], args].concat();
        Program::new(&all).run_in(dir.path())
    };
    let ran = run(&["--only", "V13"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.stdout_has("V13: one seed is one run");
    ran.stdout_has("2.000, expected 2 to 2: holds");
    let ran = run(&["--only", "V13", "--json"]);
    ran.stdout_has(r#""event":"finding""#);
    ran.stdout_has(r#""holds":true"#);
    assert_eq!(run(&["--only", "V99"]).code, 2);
    let ran = Program::new(&["simulate", "worked-example", "--only", "V3"]).run_in(dir.path());
    assert_eq!(ran.code, 2, "{}", ran.stderr);
}

#[test]
fn what_is_no_recording_is_not_replayed() {
    let dir = dir(SMALL);
    for (args, code, said) in [
        (
            &["simulate", "replay", "small.toml"][..],
            3,
            "not a recording",
        ),
        (&["simulate", "replay", "none"], 5, "none"),
        (&["simulate", "replay"], 2, "needs a recording"),
        (
            &["simulate", "small.toml", "other"],
            2,
            "only `replay` takes a recording",
        ),
    ] {
        let ran = Program::new(args).run_in(dir.path());
        assert_eq!(ran.code, code, "{}", ran.stderr);
        ran.stderr_has(said);
    }
}

#[test]
fn a_flag_that_does_nothing_is_refused() {
    let dir = dir(SMALL);
    let check = |args: &[&str], flag: &str| {
        let ran = Program::new(&[&["simulate"], args].concat()).run_in(dir.path());
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        ran.stderr_has(&format!("{}: {flag} does not go with it", args[0]));
    };
    check(&["chaos", "--report", "x.html"], "--report");
    check(&["chaos", "--only", "V1"], "--only");
    check(&["science", "--seeds", "3"], "--seeds");
    check(&["science", "--report", "x.html"], "--report");
    check(&["small.toml", "--only", "V1"], "--only");
}
