//! The network goes, and comes back.

use std::time::Duration;

use riverrun_base::{PeerId, Time};
use riverrun_peer::CloseReason;
use riverrun_sim::{Action, Content, HostConfig, HostId};
use riverrun_swarm::{Event, Input, TorrentCommand};
use riverrun_tracker::AnnounceEvent;

use crate::arena::Arena;

const RATE: u64 = 200_000;

fn announces(world: &Arena, host: HostId) -> usize {
    let all = world.announces().iter();
    all.filter(|announce| announce.host == host).count()
}

#[test]
fn without_a_network_nothing_is_dialled_or_announced_and_all_goes_on_when_it_is_back() {
    let content = Content::tokens(64, 16);
    let mut world = Arena::new(1, &content);
    world.seed(RATE);
    let leech = world.leech(RATE);
    world.run_while(Time::from_secs(600), |world| world.have(leech) < 8);
    assert_eq!(world.host(leech).connections(), 1);

    world.input(leech, Input::Offline);
    let gone = world.now();
    world.run_until(gone + Duration::from_secs(1));
    assert_eq!(world.host(leech).connections(), 0);
    let closed = |event: &Event| {
        matches!(
            event,
            Event::PeerDisconnected {
                why: CloseReason::Offline,
                ..
            }
        )
    };
    assert!(world.events(leech).iter().any(closed));
    let (before, had) = (announces(&world, leech), world.have(leech));
    world.command(leech, TorrentCommand::Announce);
    world.run_until(gone + Duration::from_hours(3));
    assert_eq!(announces(&world, leech), before, "not even when told to");
    assert_eq!(world.have(leech), had);

    world.input(leech, Input::Online);
    let back = world.now();
    assert_eq!(
        announces(&world, leech),
        before + 1,
        "the tracker is told at once"
    );
    world.run_until(back + Duration::from_secs(2));
    assert_eq!(world.host(leech).connections(), 1);
    let done = world.run_to_completion(&[leech], back + Duration::from_mins(10));
    assert!(done > back);
}

#[test]
fn a_torrent_that_is_added_without_a_network_waits_for_it() {
    let content = Content::tokens(16, 16);
    let mut world = Arena::new(2, &content);
    world.seed(RATE);
    let leech = world.add_bare_host(HostConfig::leecher().up(RATE));
    world.act(Action::Join(leech));
    world.input(leech, Input::Offline);
    world.give_own(leech);
    world.run_until(Time::from_secs(60));
    assert_eq!((announces(&world, leech), world.have(leech)), (0, 0));
    world.input(leech, Input::Online);
    world.run_to_completion(&[leech], Time::from_secs(600));
}

#[test]
fn another_address_is_told_without_waiting_for_the_next_announce() {
    let content = Content::tokens(4, 4);
    let mut world = Arena::new(3, &content);
    let seed = world.seed(RATE);
    world.run_until(Time::from_secs(30));
    let before = announces(&world, seed);
    world.input(seed, Input::Offline);
    world.input(seed, Input::ListenPort(7001));
    world.input(seed, Input::Online);
    world.run_until(Time::from_secs(31));
    assert_eq!(announces(&world, seed), before + 1);
    assert_eq!(world.announces().last().unwrap().request.port, 7001);
}

#[test]
fn another_id_is_a_newcomer_to_trackers_who_has_moved_nothing_yet() {
    let content = Content::tokens(64, 16);
    let mut world = Arena::new(4, &content);
    let seed = world.seed(RATE);
    let leech = world.leech(RATE);
    world.run_while(Time::from_secs(600), |world| world.have(leech) < 64);
    let said = |world: &Arena| {
        let mut all = world.announces().iter();
        let last = all.rfind(|announce| announce.host == leech);
        last.unwrap().request.clone()
    };
    let completed = said(&world);
    assert!(completed.downloaded > 0);
    let later = world.now() + Duration::from_secs(5);
    world.run_until(later);
    let peer_id = PeerId(*b"-RR0100-another name");
    world.input(leech, Input::Offline);
    world.input(leech, Input::PeerId(peer_id));
    world.input(leech, Input::Online);
    let again = said(&world);
    assert_eq!(
        (again.peer_id, again.event),
        (peer_id, AnnounceEvent::Started)
    );
    let both = completed.downloaded + again.downloaded;
    assert!(both <= content.len_bytes(), "nothing is reported twice");

    // A new session begins at nothing, and tells all that it moves.
    world.command(leech, TorrentCommand::Stop);
    world.run_for(Duration::from_secs(5));
    world.command(leech, TorrentCommand::Start);
    world.run_for(Duration::from_secs(5));
    let other = world.leech(RATE);
    world.command(seed, TorrentCommand::Stop);
    world.run_to_completion(&[other], Time::from_secs(1200));
    world.command(leech, TorrentCommand::Stop);
    world.run_for(Duration::from_secs(5));
    assert_eq!(said(&world).uploaded, content.len_bytes());
}
