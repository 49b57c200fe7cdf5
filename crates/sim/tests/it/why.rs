//! What is said of a torrent that does not get on.

use riverrun_base::{Rate, Time};
use riverrun_sim::{Content, HostConfig, HostId, Manners};
use riverrun_swarm::{Input, Limits, TorrentCommand};

use crate::arena::Arena;

const RATE: u64 = 1_000_000;

fn content() -> Content {
    Content::tokens(400, 16)
}

#[track_caller]
fn check(world: &Arena, host: HostId, code: Option<&str>) {
    let shard = world.host(host).shard().unwrap();
    let why = shard.why(world.now(), world.torrent(host));
    assert_eq!(why.as_ref().map(riverrun_swarm::Why::code), code, "{why:?}");
}

#[test]
fn alone_it_is_for_want_of_peers_or_of_trackers() {
    let mut world = Arena::new(1, &content());
    let leech = world.leech(RATE);
    world.run_until(Time::from_secs(5));
    check(&world, leech, Some("no_peers_known"));
    let mut world = Arena::new(1, &content());
    world.set_down(0, true);
    let leech = world.leech(RATE);
    world.run_until(Time::from_secs(5));
    check(&world, leech, Some("tracker_down"));
}

#[test]
fn among_peers_it_is_for_what_they_have_or_let_us_have() {
    let mut world = Arena::new(2, &content());
    let [leech, _] = [(); 2].map(|()| world.leech(RATE));
    world.run_until(Time::from_secs(5));
    check(&world, leech, Some("no_wanted_pieces"));
    let mut world = Arena::new(3, &content());
    let manners = Manners {
        free_rider: true,
        ..Manners::default()
    };
    world.bad(HostConfig::seed(), RATE, manners);
    world.run_until(Time::from_secs(1));
    let leech = world.leech(RATE);
    world.run_until(Time::from_secs(5));
    check(&world, leech, Some("all_choked"));
    let mut world = Arena::new(4, &content());
    let [magnet, _] = [(); 2].map(|()| world.magnet(RATE));
    world.run_until(Time::from_secs(5));
    check(&world, magnet, Some("no_metadata"));
}

#[test]
fn while_it_gets_on_there_is_nothing_to_say_but_a_limit() {
    let mut world = Arena::new(5, &content());
    world.seed(RATE);
    world.run_until(Time::from_secs(1));
    let leech = world.leech(RATE);
    world.run_until(Time::from_secs(12));
    check(&world, leech, None);
    let torrent = world.torrent(leech);
    let command = |world: &mut Arena, command| {
        world.input(leech, Input::Torrent { torrent, command });
    };
    let limits = Limits {
        download: Some(Rate::from_bytes_per_second(100_000)),
        upload: None,
    };
    command(&mut world, TorrentCommand::Limits(limits));
    world.run_until(Time::from_secs(40));
    check(&world, leech, Some("rate_limited"));
    command(&mut world, TorrentCommand::Stop);
    check(&world, leech, Some("paused"));
}
