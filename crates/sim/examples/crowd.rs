//! A flash crowd, measured: `cargo run --release -p riverrun-sim --example crowd -- peers=1000 pieces=100 blocks=16
//! neighbours=50 slots=8 seed=1 latency=10 tcp=1 super=0 up=1000000 down=1000000 seedup=1000000 trace=0`. Time it from outside.
#![expect(
    clippy::print_stdout,
    reason = "an example prints what it has measured"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use riverrun_base::{Bitfield, Time};
use riverrun_sim::{Content, ContentId, HostConfig, HostId, Tally, World, WorldConfig, fluid};
use riverrun_swarm::Config;

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

    /// Changes what the decisions weigh.
    fn tune(&self, config: &mut Config) {
        let number = |name: &str| self.0.get(name).copied();
        let millis = |name: &str| number(name).map(|n| Duration::from_millis(n.into()));
        let tuning = &mut config.tuning;
        tuning.slots = number("t.slots").unwrap_or(tuning.slots);
        tuning.serve_ahead = millis("t.ahead").unwrap_or(tuning.serve_ahead);
        tuning.dialled_percent = number("t.dial").unwrap_or(tuning.dialled_percent);
        tuning.random_first = number("t.random").unwrap_or(tuning.random_first);
        tuning.suggested_max = number("t.suggest").map_or(tuning.suggested_max, |n| n as usize);
        tuning.allowed_fast = number("t.fast").map_or(tuning.allowed_fast, |n| n as usize);
        tuning.grace_pieces = number("t.grace").map_or(tuning.grace_pieces, u64::from);
        tuning.quota_pieces = number("t.quota").map_or(tuning.quota_pieces, u64::from);
        tuning.whole_piece = millis("t.whole").unwrap_or(tuning.whole_piece);
        tuning.owed_time = millis("t.owed").unwrap_or(tuning.owed_time);
        config.rechoke_interval = millis("t.rechoke").unwrap_or(config.rechoke_interval);
        config.optimistic_interval = millis("t.optimistic").unwrap_or(config.optimistic_interval);
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
        let content = Content::tokens(number("pieces", 100), number("blocks", 16));
        let content = world.add_content(content);
        let mut seed = settings.host(HostConfig::seed(), number("seedup", 1_000_000));
        seed.super_seed = number("super", 0) > 0;
        let seed = world.add_host(content, seed);
        let up = number("up", 1_000_000);
        let leechers: Vec<HostId> = (0..number("peers", 1000))
            .map(|_| world.add_host(content, settings.host(HostConfig::leecher(), up)))
            .collect();
        for host in leechers.iter().chain([&seed]) {
            world.setup(*host).shard(|config| settings.tune(config));
        }
        Self {
            world,
            content,
            seed,
            leechers,
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
    let settings = Settings::read();
    let number = |name, default| settings.number(name, default);
    let mut crowd = Crowd::new(&settings);
    let piece_len = u64::from(number("blocks", 16)) * 16384;
    let every = Duration::from_millis(number("every", 5000).into());
    while crowd.times(|tally| tally.completed_at).len() < crowd.leechers.len() {
        let until = crowd.world.now() + every;
        crowd.world.run_until(until);
        let Crowd {
            world,
            leechers,
            seed,
            ..
        } = &crowd;
        println!(
            "{}; {}",
            sample(world, leechers),
            out(world, leechers, *seed, piece_len)
        );
    }
    report(&settings, &crowd);
}

fn report(settings: &Settings, crowd: &Crowd) {
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
    let end = times[times.len() - 1];
    let mean = times.iter().sum::<f64>() / f64::from(peers);
    let sent = crowd.world.host(crowd.seed).tally().sent_bytes;
    let copies = u32::try_from(sent / (len / 1000)).unwrap_or(0);
    println!(
        "last {end:.1} s = {:.3} of the fluid bound, {:.3} of {rounds} rounds; mean {mean:.1} s, median {:.1} s; seed copies {:.3}",
        end / bound.makespan(),
        end / (f64::from(rounds) * piece),
        times[times.len() / 2],
        f64::from(copies) / 1000.0,
    );
    let firsts = crowd.times(|tally| tally.first_piece_at);
    let part = |hundredths: usize| firsts[(firsts.len() - 1) * hundredths / 100];
    println!(
        "first piece: {:.1}, half {:.1}, last {:.1} s",
        part(0),
        part(50),
        part(100)
    );
    let trace = crowd.world.trace_hash().unwrap_or_default();
    println!("{:?} {trace}", crowd.world.counts());
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
        let why = if peers.iter().any(|p| p.wants > 0) {
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

/// How many pieces some leecher has, how many pieces' worth the seed has sent, and how many copies the rarest has.
fn out(world: &World, leechers: &[HostId], seed: HostId, piece_len: u64) -> String {
    let pieces = world.host(seed).have().map_or(0, Bitfield::len);
    let mut copies = vec![0; pieces as usize];
    for have in leechers.iter().filter_map(|host| world.host(*host).have()) {
        have.ones().for_each(|piece| copies[piece.as_usize()] += 1);
    }
    let out = copies.iter().filter(|copies| **copies > 0).count();
    let sent = world.host(seed).tally().sent_bytes;
    let (least, most) = (copies.iter().filter(|c| **c > 0).min(), copies.iter().max());
    format!(
        "out {out} sent {} copies {:?}..{:?}",
        sent / piece_len,
        least.unwrap_or(&0),
        most.unwrap_or(&0)
    )
}
