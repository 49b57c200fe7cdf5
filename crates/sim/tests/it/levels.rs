//! Shards joined by messages, and by real connections byte by byte, do the same.

use riverrun_base::Time;
use riverrun_sim::check::Checker;
use riverrun_sim::{Content, HostConfig, HostId, Level, World, WorldConfig};

const RATE: u64 = 1_000_000;

/// Seconds until all are complete.
fn spread(levels: [Level; 2]) -> f64 {
    let mut world = World::new(WorldConfig::default());
    let content = world.add_content(Content::tokens(64, 16));
    world.add_host(content, HostConfig::seed().up(RATE).down(RATE));
    let leechers: Vec<HostId> = (0..8)
        .map(|n| {
            let mut config = HostConfig::leecher().up(RATE).down(RATE);
            config.level = levels[n % 2];
            world.add_host(content, config)
        })
        .collect();
    let mut checker = Checker::new();
    let all = |world: &World| leechers.iter().all(|host| world.host(*host).has_all());
    let limit = Time::from_secs(600);
    assert!(world.observe_while(limit, &mut checker, |world| !all(world)));
    let end = world.now();
    assert_eq!(checker.finish(&world), []);
    (end - Time::ZERO).as_secs_f64()
}

#[test]
fn all_levels_take_the_same_time_about() {
    let direct = spread([Level::Direct; 2]);
    let bytes = spread([Level::Bytes; 2]);
    let mixed = spread([Level::Direct, Level::Bytes]);
    for other in [bytes, mixed] {
        let ratio = other / direct;
        assert!((0.85..1.15).contains(&ratio), "{direct} {bytes} {mixed}");
    }
}
