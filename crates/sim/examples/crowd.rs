//! A flash crowd, measured: `cargo run --release -p riverrun-sim --example crowd -- peers=1000 pieces=100 blocks=16
//! neighbours=50 slots=8 seed=1 latency=10 tcp=1 super=0 up=1000000 down=1000000 seedup=1000000 limit=0 mute=0 bytes=0 trace=0`. Time it from outside.
//!
//! With several values for a name, as in `t.slots=3,4,8 seed=1,2,3`, every combination is run, and a table has one row for
//! each, over its seeds.
#![expect(
    clippy::print_stdout,
    reason = "an example prints what it has measured"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use riverrun_base::{Bitfield, Time};
use riverrun_peer::PeerConfig;
use riverrun_sim::{
    Content, ContentId, HostConfig, HostId, Level, Manners, Tally, World, WorldConfig, fluid,
};
use riverrun_swarm::Config;

#[derive(Clone)]
struct Settings(BTreeMap<String, u32>);

/// What is to be run: the values of each name.
struct Sweep(BTreeMap<String, Vec<u32>>);

impl Sweep {
    fn read() -> Self {
        let pairs = std::env::args().skip(1).map(|arg| {
            let (name, values) = arg
                .split_once('=')
                .expect("name=number or name=number,number");
            let values = values
                .split(',')
                .map(|value| value.parse().expect("a number"));
            (name.to_owned(), values.collect())
        });
        Self(pairs.collect())
    }

    /// The one crowd that is meant, unless there are several.
    fn single(&self) -> Option<Settings> {
        let is_single = self.0.values().all(|values| values.len() == 1);
        is_single.then(|| self.all("").remove(0))
    }

    /// Every combination of all values but those of one name.
    fn all(&self, but: &str) -> Vec<Settings> {
        let mut all = vec![Settings(BTreeMap::new())];
        for (name, values) in self.0.iter().filter(|(name, _)| *name != but) {
            let with = |settings: &Settings, value: u32| {
                let mut settings = settings.clone();
                settings.0.insert(name.clone(), value);
                settings
            };
            let more = all
                .iter()
                .flat_map(|one| values.iter().map(|value| with(one, *value)));
            all = more.collect();
        }
        all
    }

    /// The names that have several values: the first columns of the table.
    fn columns(&self) -> Vec<&str> {
        let several = self
            .0
            .iter()
            .filter(|(name, values)| values.len() > 1 && *name != "seed");
        several.map(|(name, _)| name.as_str()).collect()
    }

    fn seeds(&self) -> Vec<u32> {
        self.0.get("seed").cloned().unwrap_or_else(|| vec![1])
    }
}

impl Settings {
    fn number(&self, name: &str, default: u32) -> u32 {
        self.0.get(name).copied().unwrap_or(default)
    }

    /// Changes what the decisions weigh.
    fn tune(&self, config: &mut Config) {
        let number = |name: &str| self.0.get(name).copied();
        let millis = |name: &str| number(name).map(|n| Duration::from_millis(n.into()));
        let tuning = &mut config.tuning;
        tuning.slots = number("t.slots").unwrap_or(tuning.slots);
        tuning.round_pieces = number("t.round").unwrap_or(tuning.round_pieces);
        tuning.serve_ahead = millis("t.ahead").unwrap_or(tuning.serve_ahead);
        tuning.dialled_percent = number("t.dial").unwrap_or(tuning.dialled_percent);
        tuning.random_first = number("t.random").unwrap_or(tuning.random_first);
        tuning.suggested_max = number("t.suggest").map_or(tuning.suggested_max, |n| n as usize);
        tuning.allowed_fast = number("t.fast").map_or(tuning.allowed_fast, |n| n as usize);
        tuning.grace_pieces = number("t.grace").map_or(tuning.grace_pieces, u64::from);
        tuning.quota_pieces = number("t.quota").map_or(tuning.quota_pieces, u64::from);
        tuning.whole_piece = millis("t.whole").unwrap_or(tuning.whole_piece);
        tuning.owed_time = millis("t.owed").unwrap_or(tuning.owed_time);
        tuning.copy_time = millis("t.copy").unwrap_or(tuning.copy_time);
        tuning.relay_after = millis("t.relay").unwrap_or(tuning.relay_after);
        tuning.hop_max = millis("t.hop").unwrap_or(tuning.hop_max);
        config.rechoke_interval = millis("t.rechoke").unwrap_or(config.rechoke_interval);
        config.optimistic_interval = millis("t.optimistic").unwrap_or(config.optimistic_interval);
    }

    /// Changes how connections behave.
    fn connect(&self, config: &mut PeerConfig) {
        let number = |name: &str| self.0.get(name).copied();
        let millis = |name: &str| number(name).map(|n| Duration::from_millis(n.into()));
        config.request_window_max = number("p.window").unwrap_or(config.request_window_max);
        let ahead = &mut config.request_window_time_max;
        *ahead = millis("p.ahead").unwrap_or(*ahead);
        config.snub_timeout = millis("p.snub").unwrap_or(config.snub_timeout);
    }

    fn host(&self, mut config: HostConfig, up: u32) -> HostConfig {
        let slots = self.number("slots", 0);
        config.slots = (slots > 0).then_some(slots);
        let limit = self.number("limit", 0);
        config.upload_limit = (limit > 0).then_some(limit.into());
        config.connections_max = self.number("neighbours", 50);
        config.latency = Duration::from_millis(self.number("latency", 10).into());
        config.down = Some(self.number("down", 1_000_000).into()).filter(|down| *down > 0);
        if self.number("bytes", 0) > 0 {
            config.level = Level::Bytes;
        }
        config.up(up.into())
    }
}

/// A seed and its crowd.
struct Crowd {
    world: World,
    content: ContentId,
    seed: HostId,
    leechers: Vec<HostId>,
}

impl Crowd {
    fn new(settings: &Settings) -> Self {
        let number = |name, default| settings.number(name, default);
        let mut config = WorldConfig::default();
        config.seed = number("seed", 1).into();
        if number("tcp", 1) == 0 {
            config.tcp = None;
        }
        config.trace = number("trace", 0) > 0;
        config.trackers[0][0].latency = Duration::from_millis(number("latency", 10).into());
        let mut world = World::new(config);
        let (pieces, blocks) = (number("pieces", 100), number("blocks", 16));
        let content = match number("v", 1) {
            2 => Content::v2_tokens(pieces, blocks),
            _ => Content::tokens(pieces, blocks),
        };
        let content = world.add_content(content);
        let mut seed = settings.host(HostConfig::seed(), number("seedup", 1_000_000));
        seed.super_seed = number("super", 0) > 0;
        let seed = world.add_host(content, seed);
        let up = number("up", 1_000_000);
        let leechers: Vec<HostId> = (0..number("peers", 1000))
            .map(|_| world.add_host(content, settings.host(HostConfig::leecher(), up)))
            .collect();
        for host in leechers.iter().chain([&seed]) {
            let setup = world.setup(*host).shard(|config| settings.tune(config));
            setup.conns(|config| settings.connect(config));
        }
        for _ in 0..number("mute", 0) {
            let mute = Manners {
                mute: true,
                ..Manners::default()
            };
            world.add_host(content, HostConfig::seed().up(up.into()).manners(mute));
        }
        Self {
            world,
            content,
            seed,
            leechers,
        }
    }

    /// Runs until all are complete, and shows itself every now and then.
    fn run(&mut self, settings: &Settings, show: impl Fn(&Self)) {
        let every = Duration::from_millis(settings.number("every", 5000).into());
        while self.times(|tally| tally.completed_at).len() < self.leechers.len() {
            let until = self.world.now() + every;
            self.world.run_until(until);
            show(self);
        }
    }

    /// When each had what `of` says, in seconds, the first one first.
    fn times(&self, of: impl Fn(&Tally) -> Option<Time>) -> Vec<f64> {
        let hosts = self.leechers.iter().map(|host| self.world.host(*host));
        let at = hosts.filter_map(|host| of(&host.tally()));
        let mut times: Vec<f64> = at.map(|at| (at - Time::ZERO).as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        times
    }
}

fn main() {
    let sweep = Sweep::read();
    if let Some(settings) = sweep.single() {
        watch(&settings);
    } else {
        tabulate(&sweep);
    }
}

/// Runs one crowd and tells of it on the way.
fn watch(settings: &Settings) {
    let mut crowd = Crowd::new(settings);
    let piece_len = u64::from(settings.number("blocks", 16)) * 16384;
    crowd.run(settings, |crowd| {
        println!(
            "{}; {}",
            sample(&crowd.world, &crowd.leechers),
            out(&crowd.world, &crowd.leechers, crowd.seed, piece_len)
        );
    });
    let outcome = Outcome::of(settings, &crowd);
    println!(
        "last {:.1} s = {:.3} of the fluid bound, {:.3} of {} rounds; mean {:.1} s, median {:.1} s; seed copies {:.3}",
        outcome.last,
        outcome.of_fluid,
        outcome.of_rounds,
        outcome.rounds,
        outcome.mean,
        outcome.median,
        outcome.copies,
    );
    let [first, half, all] = outcome.firsts;
    println!("first piece: {first:.1}, half {half:.1}, last {all:.1} s");
    let trace = crowd.world.trace_hash().unwrap_or_default();
    println!("{:?} {trace}", crowd.world.counts());
}

/// Runs all combinations, each with all seeds, and prints a table for the documents.
fn tabulate(sweep: &Sweep) {
    let (columns, seeds) = (sweep.columns(), sweep.seeds());
    let names = columns.join(" | ");
    let names = if columns.is_empty() {
        names
    } else {
        format!(" {names} |")
    };
    println!("|{names} last, of the fluid bound | of the rounds | half started | seed's copies |");
    println!("|{}", "---|".repeat(columns.len() + 4));
    for settings in sweep.all("seed") {
        let run = |seed: &u32| {
            let mut settings = settings.clone();
            settings.0.insert("seed".to_owned(), *seed);
            let mut crowd = Crowd::new(&settings);
            crowd.run(&settings, |_| {});
            Outcome::of(&settings, &crowd)
        };
        let outcomes: Vec<_> = seeds.iter().map(run).collect();
        let values: Vec<String> = columns
            .iter()
            .map(|name| format!(" {} |", settings.number(name, 0)))
            .collect();
        let values = values.concat();
        let column = |of: fn(&Outcome) -> f64, digits| {
            let all: Vec<f64> = outcomes.iter().map(of).collect();
            spread(&all, digits)
        };
        println!(
            "|{values} {} | {} | {} s | {} |",
            column(|outcome| outcome.of_fluid, 3),
            column(|outcome| outcome.of_rounds, 3),
            column(|outcome| outcome.firsts[1], 1),
            column(|outcome| outcome.copies, 2),
        );
    }
}

/// The mean of some numbers, and the least and the most if there are several.
fn spread(all: &[f64], digits: usize) -> String {
    let (least, most) = all.iter().fold((f64::MAX, f64::MIN), |(least, most), one| {
        (least.min(*one), most.max(*one))
    });
    let count = u32::try_from(all.len()).map_or(1.0, f64::from);
    let mean = all.iter().sum::<f64>() / count;
    if all.len() > 1 {
        format!("{mean:.digits$} ({least:.digits$} to {most:.digits$})")
    } else {
        format!("{mean:.digits$}")
    }
}

/// What came of a crowd. Times in seconds.
struct Outcome {
    /// When the last was complete.
    last: f64,
    of_fluid: f64,
    of_rounds: f64,
    /// How many rounds the best schedule takes in which everybody sends one piece a round.
    rounds: u32,
    mean: f64,
    median: f64,
    /// How often the seed has sent the torrent.
    copies: f64,
    /// When the first, half and all had their first piece.
    firsts: [f64; 3],
}

impl Outcome {
    fn of(settings: &Settings, crowd: &Crowd) -> Self {
        let number = |name, default| settings.number(name, default);
        let (peers, up) = (number("peers", 1000), number("up", 1_000_000));
        let len = crowd.world.content(crowd.content).len_bytes();
        let down = match number("down", 1_000_000) {
            0 => f64::INFINITY,
            down => f64::from(down),
        };
        let seed_up = number("seedup", 1_000_000);
        let bound = fluid::Crowd::equal(len, seed_up.into(), crowd.leechers.len(), up.into(), down);
        let rounds = fluid::rounds(number("pieces", 100), peers);
        let piece = f64::from(number("blocks", 16)) * 16384.0 / f64::from(up);
        let times = crowd.times(|tally| tally.completed_at);
        let firsts = crowd.times(|tally| tally.first_piece_at);
        let part = |hundredths: usize| firsts[(firsts.len() - 1) * hundredths / 100];
        let last = times[times.len() - 1];
        let sent = crowd.world.host(crowd.seed).tally().sent_bytes;
        let copies = u32::try_from(sent / (len / 1000)).unwrap_or(0);
        Self {
            last,
            of_fluid: last / bound.makespan(),
            of_rounds: last / (f64::from(rounds) * piece),
            rounds,
            mean: times.iter().sum::<f64>() / f64::from(peers),
            median: times[times.len() / 2],
            copies: f64::from(copies) / 1000.0,
            firsts: [part(0), part(50), part(100)],
        }
    }
}

/// Why uplinks rest, of all leechers in hundredths: they have nothing; nobody is interested; those who are are choked;
/// nobody asks.
fn sample(world: &World, leechers: &[HostId]) -> String {
    let mut idle = [0; 5];
    let (mut connected, mut interested, mut unchoked, mut asked, mut seeds) = (0, 0, 0, 0, 0);
    for host in leechers {
        let host = world.host(*host);
        let (Some(shard), Some(torrent)) = (host.shard(), host.torrent()) else {
            continue;
        };
        let peers = shard.peers(world.now(), torrent);
        let count = |test: &dyn Fn(&riverrun_swarm::PeerStats) -> bool| {
            peers.iter().filter(|p| test(p)).count()
        };
        connected += peers.len();
        seeds += usize::from(host.has_all());
        interested += count(&|p| p.is_interested);
        unchoked += count(&|p| p.is_interested && p.is_unchoked);
        asked += peers.iter().map(|p| p.requests as usize).sum::<usize>();
        let why = if host.is_sending() {
            4
        } else if host.have().is_none_or(Bitfield::none) {
            0
        } else if !peers.iter().any(|p| p.is_interested) {
            1
        } else if !peers.iter().any(|p| p.is_interested && p.is_unchoked) {
            2
        } else {
            3
        };
        idle[why] += 1;
    }
    let n = leechers.len();
    let idle = idle.map(|count| count * 100 / n);
    format!(
        "{}: nothing {} nobody {} choked {} unasked {} busy {}; connected {} interested {} unchoked {} asked {} complete {} wires {}",
        world.now(),
        idle[0],
        idle[1],
        idle[2],
        idle[3],
        idle[4],
        connected / n,
        interested / n,
        unchoked / n,
        asked / n,
        seeds,
        world.counts().wires
    )
}

/// How many pieces some leecher has, how many pieces' worth the seed has sent, how many a leecher has on average, and how
/// many copies there are of the rarest and of the commonest.
fn out(world: &World, leechers: &[HostId], seed: HostId, piece_len: u64) -> String {
    let pieces = world.host(seed).have().map_or(0, Bitfield::len);
    let mut copies = vec![0_u32; pieces as usize];
    for have in leechers.iter().filter_map(|host| world.host(*host).have()) {
        have.ones().for_each(|piece| copies[piece.as_usize()] += 1);
    }
    let out = copies.iter().filter(|copies| **copies > 0).count();
    let sent = world.host(seed).tally().sent_bytes;
    let (least, most) = (copies.iter().filter(|c| **c > 0).min(), copies.iter().max());
    let count = u32::try_from(leechers.len()).map_or(1.0, f64::from);
    format!(
        "out {out} sent {} had {:.1} copies {:?}..{:?}",
        sent / piece_len,
        f64::from(copies.iter().sum::<u32>()) / count,
        least.unwrap_or(&0),
        most.unwrap_or(&0)
    )
}
