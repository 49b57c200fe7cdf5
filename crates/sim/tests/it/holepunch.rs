//! Peers behind NATs that meet through one who can be reached (BEP 55).

use riverrun_base::Time;
use riverrun_sim::{Content, HostConfig, HostId, Nat};
use riverrun_swarm::{Input, PeerSource, TorrentOptions};

use crate::arena::Arena;

const RATE: u64 = 1_000_000;

/// A seed and one who wants what it has, each behind a NAT of this kind, who know only the one in the middle.
fn apart(content: &Content, nats: [Nat; 2], utp: bool) -> (Arena, [HostId; 3]) {
    let mut world = Arena::new(3, content);
    world.set_down(0, true);
    let mut configs = [HostConfig::seed(), HostConfig::leecher()];
    for (config, nat) in configs.iter_mut().zip(nats) {
        (config.nat, config.utp) = (nat, utp);
    }
    let mut middle = HostConfig::leecher();
    middle.utp = utp;
    // The one in the middle is slow, so that who meets the seed does not wait for it.
    let middle = world.host_with(middle, RATE / 10, &TorrentOptions::default());
    let ends = configs.map(|config| world.host_with(config, RATE, &TorrentOptions::default()));
    // One after the other: the one in the middle tells the seed of the leecher a minute after it told it of nobody, so
    // that only the leecher dials, and the seed's NAT expects nothing of it.
    for (end, second) in ends.into_iter().zip([1, 20]) {
        world.run_until(Time::from_secs(second));
        let found = Input::Found {
            torrent: world.torrent(end),
            source: PeerSource::User,
            peers: vec![world.host(middle).addr()],
        };
        world.input(end, found);
    }
    world.run_until(Time::from_secs(55));
    (world, [middle, ends[0], ends[1]])
}

fn have_met(world: &Arena, a: HostId, b: HostId) -> bool {
    world.met(a).any(|(_, other)| other == b)
}

#[test]
fn two_behind_nats_meet_through_a_third() {
    let content = Content::tokens(400, 16);
    let (mut world, [_, seed, leech]) = apart(&content, [Nat::PortRestricted; 2], true);
    assert!(have_met(&world, leech, seed));
    // The one in the middle would take ten times as long.
    world.run_to_completion(&[leech], Time::from_secs(300));
}

#[test]
fn without_utp_or_behind_a_nat_that_changes_ports_they_do_not() {
    let content = Content::tokens(400, 16);
    for (nats, utp) in [
        ([Nat::PortRestricted; 2], false),
        ([Nat::Symmetric; 2], true),
    ] {
        let (world, [_, seed, leech]) = apart(&content, nats, utp);
        assert!(!have_met(&world, leech, seed), "{nats:?} {utp}");
    }
}

#[test]
fn peers_of_a_private_torrent_are_not_introduced() {
    let content = Content::private(400, 16);
    let (world, [_, seed, leech]) = apart(&content, [Nat::PortRestricted; 2], true);
    assert!(!have_met(&world, leech, seed));
}
