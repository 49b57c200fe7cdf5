//! Torrents that nobody uses: what is let go, and that nobody outside can tell.

use std::time::Duration;

use riverrun_base::{Bitfield, Time};
use riverrun_sim::{Action, Content, HostConfig, HostId};
use riverrun_swarm::{Event, Input, PeerSource, TorrentCommand, TorrentOptions, TorrentState};
use riverrun_tracker::AnnounceEvent;

use crate::arena::Arena;

const RATE: u64 = 1_000_000;
const DOZE_AFTER: u32 = 60;

/// A seed that dozes.
fn seed(world: &mut Arena) -> HostId {
    let mut config = HostConfig::seed();
    config.doze_after = Some(DOZE_AFTER);
    world.host_with(config, RATE, &TorrentOptions::default())
}

fn is_resting(world: &Arena, host: HostId) -> bool {
    let torrent = world.torrent(host);
    world.host(host).shard().unwrap().is_resting(torrent)
}

/// A world with a seed that dozes.
fn dozing(content: &Content) -> (Arena, HostId) {
    let mut world = Arena::new(1, content);
    let seed = seed(&mut world);
    world.run_until(Time::from_secs(50));
    assert!(!is_resting(&world, seed) && world.host(seed).is_open());
    world.run_until(Time::from_secs(100));
    assert!(is_resting(&world, seed) && !world.host(seed).is_open());
    (world, seed)
}

#[test]
fn a_dozing_torrent_is_told_as_the_seed_that_it_is() {
    let content = Content::private(30, 4);
    let mut awake = Arena::new(1, &content);
    let other = awake.seed(RATE);
    awake.run_until(Time::from_secs(100));
    let (world, seed) = dozing(&content);
    assert_eq!(world.stats(seed), awake.stats(other));
    assert_eq!(world.stats(seed).state, TorrentState::Seeding);
    let torrent = world.torrent(seed);
    let shard = world.host(seed).shard().unwrap();
    assert_eq!(shard.why(world.now(), torrent), None);
    assert_eq!(shard.pieces(torrent), None, "not even what is there");
}

#[test]
fn a_dozing_torrent_serves_the_peer_that_wakes_it_and_dozes_again() {
    let content = Content::tokens(30, 4);
    let (mut world, seed) = dozing(&content);
    for _ in 0..2 {
        let leech = world.leech(RATE);
        let done = world.now() + Duration::from_mins(1);
        world.run_to_completion(&[leech], done);
        assert!(world.host(seed).is_open());
        world.act(Action::Leave(leech));
        let later = world.now() + Duration::from_mins(10);
        world.run_until(later);
        assert!(is_resting(&world, seed) && !world.host(seed).is_open());
    }
    let states = world.events(seed).iter().filter_map(|event| match event {
        Event::State { state, .. } => Some(state.clone()),
        _ => None,
    });
    assert_eq!(
        states.collect::<Vec<_>>(),
        [TorrentState::Opening, TorrentState::Seeding],
        "nobody has to hear of it"
    );
    let completed = |event: &&Event| matches!(event, Event::Completed { .. });
    assert_eq!(world.events(seed).iter().filter(completed).count(), 1);
}

#[test]
fn a_dozing_torrent_dials_a_peer_that_it_hears_of() {
    let content = Content::tokens(30, 4);
    let (mut world, seed) = dozing(&content);
    world.set_down(0, true);
    let leech = world.leech(RATE);
    let (torrent, addr) = (world.torrent(seed), world.host(leech).addr());
    let found = Input::Found {
        torrent,
        source: PeerSource::Dht,
        peers: vec![addr],
    };
    world.input(seed, found);
    let limit = world.now() + Duration::from_mins(1);
    world.run_to_completion(&[leech], limit);
}

#[test]
fn trackers_hear_the_same_whether_a_torrent_dozes_or_not() {
    let content = Content::tokens(30, 4);
    let said = |doze_after: Option<u32>| -> Vec<(Time, AnnounceEvent, Option<u64>)> {
        let mut world = Arena::new(5, &content);
        let mut config = HostConfig::seed();
        config.doze_after = doze_after;
        let seed = world.host_with(config, RATE, &TorrentOptions::default());
        world.run_until(Time::from_secs(7200));
        let torrent = world.torrent(seed);
        let command = TorrentCommand::Wake;
        world.input(seed, Input::Torrent { torrent, command });
        world.run_until(Time::from_secs(10_000));
        world.command(seed, TorrentCommand::Announce);
        world.run_until(Time::from_secs(20_000));
        world.command(seed, TorrentCommand::Stop);
        world.run_until(Time::from_secs(20_100));
        let all = world.announces().iter();
        let own = all.filter(|announce| announce.host == seed);
        own.map(|own| (own.at, own.request.event, own.request.left))
            .collect()
    };
    let awake = said(None);
    assert!(awake.len() > 5, "{awake:?}");
    assert_eq!(said(Some(DOZE_AFTER)), awake);
}

#[test]
fn a_complete_torrent_of_an_earlier_run_is_opened_by_the_first_peer_that_wants_it() {
    let content = Content::tokens(30, 4);
    let mut world = Arena::new(3, &content);
    let seed = seed(&mut world);
    world.run_until(Time::from_secs(10));
    world.act(Action::Crash {
        host: seed,
        power: false,
    });
    world.run_until(Time::from_secs(20));
    world.act(Action::Restart(seed));
    world.run_until(Time::from_secs(30));
    assert!(!world.host(seed).is_open());
    assert_eq!(world.stats(seed).state, TorrentState::Seeding);
    let leech = world.leech(RATE);
    world.run_to_completion(&[leech], Time::from_secs(120));
    assert!(world.host(seed).is_open());
}

#[test]
fn metadata_that_cannot_be_read_again_ends_in_words() {
    let content = Content::tokens(30, 4);
    let (mut world, seed) = dozing(&content);
    world.setup(seed).without_metadata();
    let leech = world.leech(RATE);
    let later = world.now() + Duration::from_secs(10);
    world.run_until(later);
    let why = "what was kept of its metadata cannot be read".to_owned();
    assert_eq!(world.stats(seed).state, TorrentState::Invalid(why));
    assert_eq!(world.have(leech), 0);
    let last = world.announces().iter().rfind(|said| said.host == seed);
    assert_eq!(last.unwrap().request.event, AnnounceEvent::Stopped);
}

#[test]
fn what_a_user_wants_of_a_dozing_torrent_is_done() {
    let content = Content::tokens(30, 4);
    let (mut world, seed) = dozing(&content);
    world.command(seed, TorrentCommand::Recheck);
    let later = world.now() + Duration::from_secs(5);
    world.run_until(later);
    let checked = |event: &&Event| matches!(event, Event::Checked { ok: true, .. });
    assert_eq!(world.events(seed).iter().filter(checked).count(), 30);
    let (mut world, seed) = dozing(&content);
    world.command(seed, TorrentCommand::Stop);
    let later = world.now() + Duration::from_secs(5);
    world.run_until(later);
    assert_eq!(world.stats(seed).state, TorrentState::Stopped);
    let total = world.stats(seed).total_bytes;
    assert_eq!(total, content.len_bytes(), "known without the metadata");
    world.command(seed, TorrentCommand::Start);
    let later = world.now() + Duration::from_secs(5);
    world.run_until(later);
    assert!(world.host(seed).is_open(), "a start looks at the files");
    assert_eq!(world.host(seed).have(), Some(&Bitfield::full(30)));
}

#[test]
fn callers_wait_for_a_torrent_to_wake_up_and_no_more_than_a_few() {
    let content = Content::tokens(30, 4);
    let (mut world, seed) = dozing(&content);
    world.set_down(0, true);
    let leeches: Vec<HostId> = (0..20).map(|_| world.leech(RATE)).collect();
    let addr = world.host(seed).addr();
    for leech in &leeches {
        let torrent = world.torrent(*leech);
        let found = Input::Found {
            torrent,
            source: PeerSource::User,
            peers: vec![addr],
        };
        world.input(*leech, found);
    }
    world.run_to_completion(&leeches, Time::from_secs(400));
    let refused = world.events(leeches[19]).iter();
    let refused = refused.filter(|event| matches!(event, Event::PeerDisconnected { .. }));
    assert!(refused.count() > 0, "no room at first");
}
