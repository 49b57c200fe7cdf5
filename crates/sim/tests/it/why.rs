//! What is said of a torrent that does not get on.

use std::net::SocketAddr;
use std::time::Duration;

use riverrun_base::{Rate, Time};
use riverrun_peer::{CloseReason, DialFailure, EncryptionPolicy, PeerMisbehaved};
use riverrun_sim::{Action, Content, HostConfig, HostId, Manners};
use riverrun_swarm::{Input, Limits, PeerSource, TorrentCommand, TorrentOptions, Why};

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

/// A download that knows of peers only whose addresses are of nobody.
fn with_strangers(policy: EncryptionPolicy, peers: u8) -> (Arena, HostId) {
    let mut world = Arena::new(5, &content());
    let leech = world.encrypting(HostConfig::leecher(), RATE, policy);
    world.run_until(Time::from_secs(1));
    let addrs = (1..=peers).map(|n| SocketAddr::from(([203, 0, 113, n], 6881)));
    let found = Input::Found {
        torrent: world.torrent(leech),
        source: PeerSource::Tracker,
        peers: addrs.collect(),
    };
    world.input(leech, found);
    (world, leech)
}

/// Ends the dials under way: the first peer's so, and so on.
fn end_dials(world: &mut Arena, leech: HostId, ends: &[CloseReason]) {
    let shard = world.host(leech).shard().unwrap();
    for peer in shard.peers(world.now(), world.torrent(leech)) {
        let SocketAddr::V4(addr) = peer.addr else {
            panic!("{} is none of ours", peer.addr);
        };
        let why = ends[usize::from(addr.ip().octets()[3]) - 1].clone();
        let conn = peer.conn;
        world.input(leech, Input::PeerClosed { conn, why });
    }
}

/// How many dials are under way.
fn dialling(world: &Arena, host: HostId) -> usize {
    let shard = world.host(host).shard().unwrap();
    shard.peers(world.now(), world.torrent(host)).len()
}

fn why(world: &Arena, host: HostId) -> Why {
    let shard = world.host(host).shard().unwrap();
    shard.why(world.now(), world.torrent(host)).unwrap()
}

const fn unreachable(failure: DialFailure) -> CloseReason {
    CloseReason::Unreachable(failure)
}

#[test]
fn among_those_who_are_not_reached_it_is_for_what_came_of_each_dial() {
    use EncryptionPolicy::{Off, Prefer, Require};
    let reset = || CloseReason::Transport("reset".to_owned());
    let check = |policy, ends: &[CloseReason], text: &str| {
        let peers = u8::try_from(ends.len()).unwrap();
        let (mut world, leech) = with_strangers(policy, peers);
        // Who hangs up may be dialled in the other manner.
        for _ in 0..2 {
            end_dials(&mut world, leech, ends);
        }
        let why = why(&world, leech);
        assert_eq!(
            (why.code(), why.to_string().as_str()),
            ("peers_unreachable", text)
        );
    };
    let refused = || unreachable(DialFailure::Refused);
    check(
        Prefer,
        &[refused()],
        "no peer can be reached: 1 host tried in vain: 1 refused the connection",
    );
    check(
        Off,
        &[
            refused(),
            unreachable(DialFailure::NoAnswer),
            refused(),
            unreachable(DialFailure::NoWay),
            unreachable(DialFailure::Other("?".to_owned())),
            CloseReason::Misbehaved(PeerMisbehaved::WrongTorrent),
        ],
        "no peer can be reached: 6 hosts tried in vain: 2 refused the connection, 1 did not answer, \
         1 cannot be reached from here, 1 spoke of something else, 1 failed otherwise",
    );
    let silent = || CloseReason::Misbehaved(PeerMisbehaved::HandshakeTimeout);
    let all = [CloseReason::PeerClosed, reset(), silent()];
    let hung_up =
        "no peer can be reached: 3 hosts tried in vain: 3 hung up in the handshake".to_owned();
    check(Prefer, &all, &hung_up);
    let off = format!("{hung_up}, perhaps for want of encryption, which is off");
    check(Off, &all, &off);
    let required = format!("{hung_up}, perhaps because of encryption, which is required");
    check(Require, &all, &required);
}

#[test]
fn behind_a_proxy_that_is_down_it_is_for_the_proxy_and_no_peer_is_blamed() {
    let (mut world, leech) = with_strangers(EncryptionPolicy::Prefer, 1);
    let message = "the proxy socks5://10.0.0.1:1080 cannot be reached: connection refused";
    let down = [(); 2].map(|()| unreachable(DialFailure::Proxy(message.to_owned())));
    for _ in 0..5 {
        end_dials(&mut world, leech, &down);
        let why = why(&world, leech);
        assert_eq!(why.code(), "proxy_down");
        assert_eq!(why.to_string(), format!("nobody can be reached: {message}"));
        // It is left alone for a moment, whoever wants to be dialled.
        let more = SocketAddr::from(([203, 0, 113, 2], 6881));
        let found = Input::Found {
            torrent: world.torrent(leech),
            source: PeerSource::Tracker,
            peers: vec![more],
        };
        world.input(leech, found);
        let later = world.now() + Duration::from_secs(9);
        world.run_until(later);
        assert_eq!(dialling(&world, leech), 0);
        world.run_until(later + Duration::from_secs(2));
        assert_eq!(dialling(&world, leech), 1, "of two");
    }
    // It is up again, and so says the first who is dialled by it.
    let refused = [(); 2].map(|()| unreachable(DialFailure::Refused));
    end_dials(&mut world, leech, &refused);
    assert_eq!(dialling(&world, leech), 1, "the other");
    end_dials(&mut world, leech, &refused);
    assert_eq!(
        why(&world, leech).to_string(),
        "no peer can be reached: 2 hosts tried in vain: 2 refused the connection"
    );
}

#[test]
fn what_comes_no_more_is_explained_however_much_has_come() {
    let mut world = Arena::new(7, &content());
    let seed = world.seed(RATE);
    world.run_until(Time::from_secs(1));
    let leech = world.leech(RATE);
    world.run_until(Time::from_secs(20));
    check(&world, leech, None);
    world.act(Action::Manners(
        seed,
        Manners {
            free_rider: true,
            ..Manners::default()
        },
    ));
    world.run_until(Time::from_secs(50));
    check(&world, leech, Some("nothing_comes"));
    assert_eq!(world.stats(leech).download_rate, Rate::ZERO);
}

#[test]
fn when_all_that_is_missing_is_there_it_is_for_the_disk() {
    let content = Content::tokens(4, 4);
    let mut world = Arena::new(6, &content);
    world.seed(RATE);
    world.run_until(Time::from_secs(1));
    let mut config = HostConfig::leecher();
    config.disk.rate = Some(2_000);
    config.disk.sync = Duration::from_mins(2);
    let leech = world.host_with(config, RATE, &TorrentOptions::default());
    let waiting = |world: &Arena| match why(world, leech) {
        Why::DiskBound { waiting_bytes } => waiting_bytes,
        why => panic!("{why:?}"),
    };
    world.run_until(Time::from_secs(20));
    assert_eq!(waiting(&world), 4 * 4 * 16_384, "nothing is hashed yet");
    while world.stats(leech).left_bytes > 0 {
        let next = world.now() + Duration::from_secs(10);
        assert!(next < Time::from_secs(1000));
        world.run_until(next);
        assert!(waiting(&world) > 0, "hashed, not durable");
    }
    world.run_until(world.now() + Duration::from_mins(5));
    check(&world, leech, None);
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
