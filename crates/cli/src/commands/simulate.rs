//! `riverrun simulate`: a swarm of this program's own decisions under a virtual clock.

mod chaos;
mod replay;
mod science;

use std::fs;
use std::path::{Path, PathBuf};

use riverrun_sim::report::{Table, page, steps};
use riverrun_sim::scenario::{
    Builtin, Keep, Metric, Missed, Ran, Scenario, builtin, report, run, table,
};
use serde_json::{Value, json};

use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::screen::{Screen, Surroundings};
use crate::summary::count;

/// The longest scenario file, in bytes.
const SCENARIO_BYTES_MAX: u64 = 1 << 20;

/// The arguments of `simulate`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
A scenario says who takes part, what each can send, who comes when, what goes wrong, and what must come of it. The
decisions are those of `get` and `seed`, unchanged; time, network and disks are made up, and one seed gives one run
on any machine. --list names the scenarios that come with the program; any other is a TOML file. If a run does not
come to what its scenario expects, the exit code is 1, and the command that replays it is printed.

The scenario `chaos` draws a world with random faults from each seed, and judges it by what must always hold; what is
left of one that fails is printed as a plan, which is a file that `simulate` takes as well.

The scenario `science` measures published results and physical bounds, and prints what was measured beside what was
expected; the exit code is 1 if something does not hold.

`replay FILE` gives what `get --record` or `seed --record` has recorded to the decisions of this program, and says
whether they decide the same; if not, the exit code is 1. -v and --json tell each step.")]
pub(crate) struct Simulate {
    /// The name of a scenario, or a file
    #[arg(required_unless_present = "list")]
    scenario: Option<String>,
    /// Of `replay`, the recording
    #[arg(value_name = "FILE")]
    recording: Option<PathBuf>,
    /// Decides all that is left to chance [default: that of the scenario]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Run it with so many seeds, one after the other from --seed on, and tell how the results spread
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    seeds: Option<u32>,
    /// Write a page to look at, for a browser, with the run of the first seed
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Of `science`, only the experiments whose numbers begin so, like V3
    #[arg(long, value_name = "NUMBER")]
    only: Option<String>,
    /// List the scenarios that come with the program
    #[arg(long, exclusive = true)]
    list: bool,
}

impl Simulate {
    /// Makes the decisions of a recording again.
    fn replay(&self, name: &str, around: &Surroundings, screen: &mut Screen) -> Outcome {
        self.refuse_for(name, &["--seed", "--seeds", "--report", "--only"])?;
        match &self.recording {
            Some(file) if name == replay::NAME => replay::run(file, around, screen),
            Some(file) => {
                let text = "only `replay` takes a recording";
                Err(Failure::say(ExitCode::Usage, text).about(file.display()))
            }
            None => Err(Failure::say(ExitCode::Usage, "needs a recording").about(name)),
        }
    }

    /// Fails if one of these flags was given, which do nothing with `name`.
    fn refuse_for(&self, name: &str, flags: &[&str]) -> Outcome {
        let given = [
            ("--seed", self.seed.is_some()),
            ("--seeds", self.seeds.is_some()),
            ("--report", self.report.is_some()),
            ("--only", self.only.is_some()),
        ];
        let is_wrong = |(flag, is_given): &(&str, bool)| *is_given && flags.contains(flag);
        let Some((flag, _)) = given.into_iter().find(is_wrong) else {
            return Ok(());
        };
        Err(Failure::say(ExitCode::Usage, format!("{flag} does not go with it")).about(name))
    }
}

/// A scenario and the name by which it was asked for.
struct Named {
    name: String,
    scenario: Scenario,
}

impl Named {
    /// The command that gives the runs of a seed again.
    fn replay(&self, seed: u64) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        let name = if self.name.chars().all(plain) {
            self.name.clone()
        } else {
            format!("'{}'", self.name.replace('\'', r"'\''"))
        };
        format!("riverrun simulate {name} --seed {seed}")
    }
}

/// Runs the command.
pub(crate) fn run_command(args: &Simulate, around: &Surroundings, screen: &mut Screen) -> Outcome {
    let Some(name) = args.scenario.as_ref().filter(|_| !args.list) else {
        return list(screen);
    };
    if name == replay::NAME || args.recording.is_some() {
        return args.replay(name, around, screen);
    }
    let seeds = u64::from(args.seeds.unwrap_or(1));
    if name == science::NAME {
        args.refuse_for(name, &["--seeds", "--report"])?;
        return science::run(args.only.as_deref(), args.seed.unwrap_or(1), screen);
    }
    args.refuse_for(name, &["--only"])?;
    if name == chaos::NAME {
        args.refuse_for(name, &["--report"])?;
        return chaos::run(args.seed.unwrap_or_default(), seeds, screen);
    }
    let text = read(name, around)?;
    if let Some(plan) = chaos::plan(&text) {
        args.refuse_for(name, &["--seed", "--seeds", "--report"])?;
        return chaos::run_plan(name, &plan, screen);
    }
    let named = Named {
        scenario: parse(name, &text)?,
        name: name.clone(),
    };
    let first = args.seed.unwrap_or(named.scenario.seed);
    tell(&named, screen);
    let mut results: Vec<Vec<Ran>> = Vec::new();
    let mut missed = Vec::new();
    for seed in (0..seeds).map(|n| first.wrapping_add(n)) {
        let keep = if results.is_empty() {
            Keep::Records
        } else {
            Keep::Figures
        };
        let runs = run(&named.scenario, seed, keep);
        missed.extend(
            named
                .scenario
                .missed(&runs)
                .into_iter()
                .map(|missed| (seed, missed)),
        );
        for ran in &runs {
            screen.event(&event(&named, ran))?;
        }
        results.push(runs);
    }
    // Invariant: there is at least one seed.
    let runs = results.first().map_or(&[][..], Vec::as_slice);
    if !screen.is_json() {
        show(&named.scenario, runs, screen)?;
        if results.len() > 1 {
            show_table(&spread(&results), screen)?;
        }
    }
    if let Some(path) = &args.report {
        write_report(&named, runs, &around.path(path), screen)?;
    }
    conclude(&named, &missed, results.len(), screen)
}

fn list(screen: &mut Screen) -> Outcome {
    for builtin in Builtin::ALL {
        let scenario = Scenario::parse(builtin.toml)
            .map_err(|e| Failure::new(ExitCode::Other, e).about(builtin.name))?;
        screen
            .event(&json!({"event": "scenario", "name": builtin.name, "title": scenario.title}))?;
        let note = if scenario.long {
            " (takes minutes)"
        } else {
            ""
        };
        screen.finding(&format!("{:<18} {}{note}", builtin.name, scenario.title))?;
    }
    for (name, title) in [
        (chaos::NAME, "Random worlds in which random things go wrong"),
        (
            science::NAME,
            "Published results and physical bounds, measured",
        ),
    ] {
        screen.event(&json!({"event": "scenario", "name": name, "title": title}))?;
        screen.finding(&format!("{name:<18} {title}"))?;
    }
    Ok(())
}

/// The text of the scenario that comes with the program under that name, or else of the file.
fn read(name: &str, around: &Surroundings) -> Outcome<String> {
    if let Some(builtin) = builtin(name) {
        return Ok(builtin.toml.to_owned());
    }
    let path = around.path(Path::new(name));
    let read = || -> std::io::Result<String> {
        if fs::metadata(&path)?.len() > SCENARIO_BYTES_MAX {
            return Err(std::io::Error::other(format!(
                "is longer than {SCENARIO_BYTES_MAX} bytes"
            )));
        }
        fs::read_to_string(&path)
    };
    read().map_err(|e| {
        Failure::io(Path::new(name), e)
            .hint("riverrun simulate --list names those that come with the program")
    })
}

fn parse(name: &str, text: &str) -> Outcome<Scenario> {
    let code = if builtin(name).is_some() {
        ExitCode::Other
    } else {
        ExitCode::Config
    };
    Scenario::parse(text).map_err(|e| Failure::new(code, e).about(name))
}

fn tell(named: &Named, screen: &mut Screen) {
    screen.say(&named.scenario.title);
    for paragraph in &named.scenario.about {
        screen.say(paragraph);
    }
}

/// What came of the runs of one seed: the story of each that was recorded, and the figures of all.
fn show(scenario: &Scenario, runs: &[Ran], screen: &mut Screen) -> Outcome {
    for ran in runs {
        let Some(recording) = &ran.recording else {
            continue;
        };
        if runs.len() > 1 {
            screen.line(&format!("{}:", ran.label))?;
        }
        for step in steps(recording) {
            screen.line(&format!(
                "  {:>7.2} s  {}: {}",
                step.until, step.title, step.caption
            ))?;
        }
    }
    show_table(&table(scenario, runs), screen)
}

fn show_table(table: &Table, screen: &mut Screen) -> Outcome {
    let columns = table.heads.len();
    let cells = |column: usize| {
        std::iter::once(&table.heads[column])
            .chain(table.rows.iter().filter_map(move |row| row.get(column)))
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            cells(column)
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    screen.line("")?;
    for row in std::iter::once(&table.heads).chain(&table.rows) {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = width - cell.chars().count();
            // Words to the left, numbers to the right.
            let padded = if column == 0 {
                format!("{cell}{}", " ".repeat(gap))
            } else {
                format!("  {}{cell}", " ".repeat(gap))
            };
            line.push_str(&padded);
        }
        screen.line(line.trim_end())?;
    }
    Ok(())
}

/// How each figure spreads over the seeds.
fn spread(results: &[Vec<Ran>]) -> Table {
    let mut rows = Vec::new();
    for place in 0..results.first().map_or(0, Vec::len) {
        for metric in Metric::ALL {
            let mut values: Vec<f64> = results
                .iter()
                .filter_map(|runs| runs[place].figure(metric))
                .collect();
            values.sort_by(f64::total_cmp);
            let (Some(least), Some(most)) = (values.first(), values.last()) else {
                continue;
            };
            // Nothing ever went wrong: that needs no line.
            if metric.is_trouble() && *most <= 0.0 {
                continue;
            }
            let show = |value: f64| metric.show(Some(value));
            let label = [results[0][place].label.as_str(), metric.name()].join(" ");
            rows.push(vec![
                label.trim_start().to_owned(),
                show(*least),
                show(values[values.len() / 2]),
                show(*most),
            ]);
        }
    }
    let heads = [
        &format!("over {}", count(results.len(), "seed")),
        "min",
        "median",
        "max",
    ];
    Table {
        title: String::new(),
        heads: heads.map(str::to_owned).to_vec(),
        rows,
    }
}

fn event(named: &Named, ran: &Ran) -> Value {
    let figures: serde_json::Map<String, Value> = Metric::ALL
        .iter()
        .filter_map(|metric| Some((metric.name().to_owned(), json!(ran.figure(*metric)?))))
        .collect();
    let steps = ran.recording.as_ref().map(steps);
    json!({
        "event": "run", "scenario": named.name, "run": ran.label, "seed": ran.seed, "figures": figures,
        "hosts": ran.outcome.hosts, "steps": steps,
    })
}

fn write_report(named: &Named, runs: &[Ran], path: &Path, screen: &mut Screen) -> Outcome {
    let seed = runs.first().map_or(0, |ran| ran.seed);
    let page = page(&report(&named.scenario, runs, named.replay(seed)));
    fs::write(path, &page).map_err(|e| Failure::io(path, e))?;
    screen.done(format!("{} written: open it in a browser", path.display()));
    Ok(())
}

/// Says what was not as expected, and how to see it again.
fn conclude(named: &Named, missed: &[(u64, Missed)], seeds: usize, screen: &mut Screen) -> Outcome {
    for (seed, missed) in missed {
        screen.warn(format!("seed {seed}: {}", missed.text));
        screen.event(&json!({"event": "missed", "seed": seed, "text": missed.text, "replay": named.replay(*seed)}))?;
    }
    screen.event(&json!({"event": "done", "seeds": seeds, "missed": missed.len()}))?;
    let Some((seed, _)) = missed.first() else {
        return Ok(());
    };
    let text = format!("{} not met", count(missed.len(), "expectation"));
    Err(Failure::say(ExitCode::Other, text)
        .about(&named.name)
        .hint(format!("see it again: {}", named.replay(*seed))))
}
