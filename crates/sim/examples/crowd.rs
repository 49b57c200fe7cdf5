//! A flash crowd, measured: `cargo run --release --example crowd -- [peers] [pieces] [blocks] [neighbours] [seed]`.
#![expect(
    clippy::print_stdout,
    reason = "an example prints what it has measured"
)]

use riverrun_base::Time;
use riverrun_sim::{Content, HostConfig, HostId, World, WorldConfig};

const RATE: u32 = 1_000_000;

fn main() {
    let mut args = std::env::args()
        .skip(1)
        .map(|arg| arg.parse::<u32>().expect("a number"));
    let mut next = |default| args.next().unwrap_or(default);
    let (peers, pieces, blocks, neighbours, seed) =
        (next(1000), next(100), next(16), next(50), next(1));
    let mut config = WorldConfig::default();
    config.seed = seed.into();
    let mut world = World::new(config);
    let content = world.add_content(Content::tokens(pieces, blocks));
    let host = |mut config: HostConfig| {
        config.connections_max = neighbours;
        config
    };
    world.add_host(
        content,
        host(HostConfig::seed().up(RATE.into()).down(RATE.into())),
    );
    let leechers: Vec<HostId> = (0..peers)
        .map(|_| {
            world.add_host(
                content,
                host(HostConfig::leecher().up(RATE.into()).down(RATE.into())),
            )
        })
        .collect();
    let end = world
        .run_to_completion(&leechers, Time::from_secs(100_000))
        .expect("all complete");
    let len = world.content(content).len_bytes();
    let bound = riverrun_sim::fluid::Crowd::equal(
        len,
        RATE.into(),
        leechers.len(),
        RATE.into(),
        RATE.into(),
    )
    .makespan();
    let end = (end - Time::ZERO).as_secs_f64();
    println!(
        "{peers} peers, {pieces} pieces of {blocks} blocks: {end:.1} s of {bound:.1} s = {:.3}; {:?}, {} waiting",
        end / bound,
        world.counts(),
        world.waiting()
    );
}
