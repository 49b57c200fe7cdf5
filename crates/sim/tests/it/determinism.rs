//! One seed is one run, whatever comes of it: what must hold is for other tests.

use riverrun_base::Time;
use riverrun_sim::{Action, Content, HostConfig, Level, Manners, Poison, World, WorldConfig};

fn trace(seed: u64) -> String {
    let mut config = WorldConfig::default();
    (config.seed, config.trace) = (seed, true);
    let mut world = World::new(config);
    let content = world.add_content(Content::tokens(32, 8));
    world.add_host(content, HostConfig::seed().up(1_000_000));
    for n in 0..6 {
        let mut host = HostConfig::leecher().up(1_000_000).down(2_000_000);
        host.loss = 0.01;
        if n == 0 {
            host.level = Level::Bytes;
        }
        let host = world.add_host(content, host);
        if n == 1 {
            let power = true;
            world.plan(Time::from_secs(3), Action::Crash { host, power });
            world.plan(Time::from_secs(6), Action::Restart(host));
        }
    }
    let mut liar = HostConfig::leecher().up(1_000_000);
    liar.manners = Manners {
        poison: Poison::Every(5),
        ..Manners::default()
    };
    world.add_host(content, liar);
    world.run_until(Time::from_secs(30));
    world.trace_hash().unwrap()
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_another() {
    assert_eq!(trace(1), trace(1));
    assert_ne!(trace(1), trace(2));
}

#[test]
fn another_process_runs_the_same() {
    const CHILD: &str = "RIVERRUN_SIM_CHILD";
    if std::env::var_os(CHILD).is_some() {
        crate::say(&format!("trace {}", trace(1)));
        return;
    }
    let test = "determinism::another_process_runs_the_same";
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stderr);
    let expected = format!("trace {}", trace(1));
    assert!(told.contains(&expected), "{expected} and {told}");
}
