//! A flash crowd, measured: `cargo run --release -p riverrun-sim --example crowd -- peers=1000 pieces=100 blocks=16
//! neighbours=50 slots=8 seed=1 latency=10 tcp=1 super=0 up=1000000 down=1000000 seedup=1000000 trace=0`. Time it from outside.
#![expect(
    clippy::print_stdout,
    reason = "an example prints what it has measured"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use riverrun_base::Time;
use riverrun_sim::recording::{Detail, Recorder};
use riverrun_sim::{Content, HostConfig, HostId, World, WorldConfig, fluid};

struct Settings(BTreeMap<String, u32>);

impl Settings {
    fn read() -> Self {
        let pairs = std::env::args().skip(1).map(|arg| {
            let (name, value) = arg.split_once('=').expect("name=number");
            (name.to_owned(), value.parse().expect("a number"))
        });
        Self(pairs.collect())
    }

    fn number(&self, name: &str, default: u32) -> u32 {
        self.0.get(name).copied().unwrap_or(default)
    }

    fn host(&self, mut config: HostConfig, up: u32) -> HostConfig {
        let slots = self.number("slots", 0);
        config.slots = (slots > 0).then_some(slots);
        config.connections_max = self.number("neighbours", 50);
        config.latency = Duration::from_millis(self.number("latency", 10).into());
        config.down = Some(self.number("down", 1_000_000).into()).filter(|down| *down > 0);
        config.up(up.into())
    }
}

fn main() {
    let settings = Settings::read();
    let number = |name, default| settings.number(name, default);
    let (peers, pieces, blocks) = (
        number("peers", 1000),
        number("pieces", 100),
        number("blocks", 16),
    );
    let (up, seed_up) = (number("up", 1_000_000), number("seedup", 1_000_000));
    let mut config = WorldConfig::default();
    config.seed = number("seed", 1).into();
    if number("tcp", 1) == 0 {
        config.tcp = None;
    }
    config.trace = number("trace", 0) > 0;
    config.trackers[0][0].latency = Duration::from_millis(number("latency", 10).into());
    let mut world = World::new(config);
    let content = world.add_content(Content::tokens(pieces, blocks));
    let mut seed = settings.host(HostConfig::seed(), seed_up);
    seed.super_seed = number("super", 0) > 0;
    let seed = world.add_host(content, seed);
    let leechers: Vec<HostId> = (0..peers)
        .map(|_| world.add_host(content, settings.host(HostConfig::leecher(), up)))
        .collect();
    let mut recorder = Recorder::new("crowd", Detail::Seconds);
    let all = |world: &World| {
        leechers
            .iter()
            .rev()
            .all(|host| world.host(*host).has_all())
    };
    let limit = Time::from_secs(100_000);
    assert!(world.observe_while(limit, &mut recorder, |world| !all(world)));
    let len = world.content(content).len_bytes();
    let down = match number("down", 1_000_000) {
        0 => f64::INFINITY,
        down => f64::from(down),
    };
    let crowd = fluid::Crowd::equal(len, seed_up.into(), leechers.len(), up.into(), down);
    let bound = crowd.makespan();
    let rounds = fluid::rounds(pieces, peers);
    let piece = f64::from(blocks) * 16384.0 / f64::from(up);
    let end = (world.now() - Time::ZERO).as_secs_f64();
    let mut times: Vec<f64> = leechers
        .iter()
        .filter_map(|host| world.host(*host).tally().completed_at)
        .map(|at| (at - Time::ZERO).as_secs_f64())
        .collect();
    times.sort_by(f64::total_cmp);
    let mean = times.iter().sum::<f64>() / f64::from(peers);
    let copies = u32::try_from(world.host(seed).tally().sent_bytes / (len / 1000)).unwrap_or(0);
    let counts = world.counts();
    println!(
        "last {end:.1} s = {:.3} of the fluid bound, {:.3} of {rounds} rounds; mean {mean:.1} s, median {:.1} s; seed copies {:.3}",
        end / bound,
        end / (f64::from(rounds) * piece),
        times[times.len() / 2],
        f64::from(copies) / 1000.0,
    );
    let recording = recorder.finish(&world, Some(bound));
    let capacity = f64::from(up) * f64::from(peers) + f64::from(seed_up);
    let use_of = |second: &riverrun_sim::recording::Second| {
        let bytes = u32::try_from(second.received_bytes / 1000).unwrap_or(u32::MAX);
        format!("{:.2}", f64::from(bytes) * 1000.0 / capacity)
    };
    let step = (recording.seconds.len() / 16).max(1);
    let uses: Vec<String> = recording.seconds.iter().step_by(step).map(use_of).collect();
    println!("uplinks used, every {step} s: {}", uses.join(" "));
    println!("{counts:?} {}", world.trace_hash().unwrap_or_default());
}
