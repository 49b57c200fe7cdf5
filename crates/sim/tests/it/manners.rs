//! Peers that do not do their part, come and go, or stand in the way.

use std::time::Duration;

use riverrun_base::{PieceIndex, Time};
use riverrun_sim::{Action, Content, HostConfig, HostId, Manners};
use riverrun_swarm::{Event, Input, Priority, TorrentCommand, TorrentOptions, TorrentState};

use crate::arena::Arena;

const RATE: u64 = 1_000_000;

#[test]
fn peers_that_take_requests_and_never_answer_cost_little() {
    let content = Content::tokens(32, 8);
    let mut world = Arena::new(1, &content);
    world.seed(RATE);
    for _ in 0..3 {
        let manners = Manners {
            mute: true,
            ..Manners::default()
        };
        world.bad(HostConfig::seed(), RATE, manners);
    }
    world.run_until(Time::from_secs(1));
    let leech = world.leech(RATE);
    let end = world.run_to_completion(&[leech], Time::from_secs(300));
    assert!(end < Time::from_secs(60), "{end}");
}

/// How much of the torrent eight free riders have when 24 who give are done, in thousandths.
fn ridden(seed: u64) -> u32 {
    let content = Content::tokens(200, 16);
    let mut world = Arena::unchecked(seed, &content);
    world.seed(RATE);
    let honest: Vec<HostId> = (0..24).map(|_| world.leech(RATE)).collect();
    let manners = Manners {
        free_rider: true,
        ..Manners::default()
    };
    let riders: Vec<HostId> = (0..8)
        .map(|_| world.bad(HostConfig::leecher(), RATE, manners.clone()))
        .collect();
    let end = world.run_to_completion(&honest, Time::from_secs(600));
    let have: Vec<u32> = riders.iter().map(|rider| world.have(*rider)).collect();
    crate::say(&format!(
        "contributors done at {end}; free riders have {have:?} of {}",
        content.pieces()
    ));
    world.run_to_completion(&riders, Time::from_secs(1200));
    have.iter().sum::<u32>() * 1000 / 8 / content.pieces()
}

#[test]
fn free_riders_finish_after_contributors() {
    let mean = (0..2).map(ridden).sum::<u32>() / 2;
    assert!(mean < 800, "{mean}");
}

#[test]
fn what_left_the_seed_once_is_enough() {
    let content = Content::tokens(48, 8);
    for seed in 0..5 {
        let mut world = Arena::new(seed, &content);
        let origin = world.seed(RATE);
        let leechers: Vec<HostId> = (0..6).map(|_| world.leech(RATE)).collect();
        world.run_while(Time::from_secs(600), |world| !world.is_all_out());
        world.kill(origin);
        world.run_to_completion(&leechers, Time::from_secs(600));
    }
}

#[test]
fn a_swarm_with_churn_completes() {
    let content = Content::tokens(40, 8);
    for seed in 0..5 {
        let mut world = Arena::new(seed, &content);
        world.seed(RATE);
        let stays: Vec<HostId> = (0..4).map(|_| world.leech(RATE)).collect();
        for round in 1..8 {
            let guest = world.leech(RATE);
            world.run_until(Time::from_secs(round * 2));
            world.kill(guest);
        }
        world.run_to_completion(&stays, Time::from_secs(600));
    }
}

#[test]
fn without_the_fast_extension_it_works_too() {
    let content = Content::tokens(32, 8);
    for seed in 0..3 {
        let mut world = Arena::new(seed, &content);
        let slow = |mut config: HostConfig| {
            config.fast = false;
            config
        };
        let options = TorrentOptions::default();
        world.host_with(slow(HostConfig::seed()), RATE, &options);
        let leechers: Vec<HostId> = (0..8)
            .map(|_| world.host_with(slow(HostConfig::leecher()), RATE, &options))
            .collect();
        world.run_to_completion(&leechers, Time::from_secs(600));
    }
}

#[test]
fn two_seeds_part_and_stay_apart() {
    let content = Content::tokens(4, 2);
    let mut world = Arena::new(1, &content);
    let seeds = [world.seed(RATE), world.seed(RATE)];
    world.run_until(Time::from_secs(600));
    for seed in seeds {
        assert_eq!(world.stats(seed).connected, 0);
    }
    assert!(world.dials().len() <= 2, "{:?}", world.dials());
}

#[test]
fn a_finished_leecher_leaves_seeds_and_serves_leechers() {
    let content = Content::tokens(16, 4);
    let mut world = Arena::new(4, &content);
    let seed = world.seed(RATE);
    let first = world.leech(RATE);
    world.run_to_completion(&[first], Time::from_secs(60));
    world.kill(seed);
    let second = world.leech(RATE);
    world.run_to_completion(&[second], Time::from_secs(120));
}

#[test]
fn stopping_says_goodbye_and_starting_goes_on() {
    let content = Content::tokens(64, 8);
    let mut world = Arena::new(5, &content);
    world.seed(RATE);
    let leech = world.leech(RATE);
    world.run_until(Time::from_secs(4));
    let before = world.have(leech);
    assert!(before > 4 && before < 60, "{before}");
    world.command(leech, TorrentCommand::Stop);
    world.run_until(Time::from_secs(6));
    assert_eq!(world.state(leech), TorrentState::Stopped);
    assert!(!world.host(leech).is_open());
    let events: Vec<_> = world.announced(leech);
    assert_eq!(events.last(), Some(&"stopped"));
    world.command(leech, TorrentCommand::Start);
    world.run_to_completion(&[leech], Time::from_secs(120));
    world.run_for(Duration::from_secs(2));
    assert_eq!(
        world.announced(leech),
        ["started", "stopped", "started", "completed"]
    );
    assert!(world.host(leech).tally().completed_at.is_some());
}

#[test]
fn removing_frees_everything() {
    let content = Content::tokens(8, 4);
    let mut world = Arena::new(6, &content);
    world.seed(RATE);
    let leech = world.leech(RATE);
    world.run_until(Time::from_secs(1));
    world.command(leech, TorrentCommand::Remove);
    world.run_until(Time::from_secs(3));
    let shard = world.host(leech).shard().unwrap();
    assert_eq!(shard.torrents().count(), 0);
    assert_eq!(world.host(leech).connections(), 0);
    assert_eq!(shard.find(content.info().hashes().primary()), None);
    assert_eq!(shard.poll_timeout(), None);
}

#[test]
fn an_idle_seed_wants_to_be_woken_for_its_tracker_only() {
    let content = Content::tokens(8, 4);
    let mut world = Arena::new(7, &content);
    let seed = world.seed(RATE);
    world.run_until(Time::from_secs(10));
    let next = world.host(seed).shard().unwrap().poll_timeout().unwrap();
    assert!(next > Time::from_secs(1500), "{next}");
    let inputs = world.counts().inputs;
    world.run_until(Time::from_secs(1500));
    assert_eq!(world.counts().inputs, inputs);
}

#[test]
fn a_recheck_believes_only_the_disk() {
    let content = Content::tokens(16, 4);
    let mut world = Arena::new(8, &content);
    let seed = world.seed(RATE);
    world.run_until(Time::from_secs(1));
    world.act(Action::Spoil(seed, PieceIndex(3)));
    world.command(seed, TorrentCommand::Recheck);
    assert_eq!(world.state(seed), TorrentState::Checking);
    world.run_until(Time::from_secs(2));
    assert_eq!(world.have(seed), 15);
    assert_eq!(world.state(seed), TorrentState::Downloading);
}

#[test]
fn a_stopped_torrent_is_checked_and_stays_stopped() {
    let content = Content::tokens(16, 4);
    let mut world = Arena::new(8, &content);
    let seed = world.seed(RATE);
    world.run_until(Time::from_secs(1));
    world.command(seed, TorrentCommand::Stop);
    world.run_until(Time::from_secs(2));
    assert_eq!(world.state(seed), TorrentState::Stopped);
    let lost = PieceIndex(3);
    world.act(Action::Spoil(seed, lost));
    world.command(seed, TorrentCommand::Recheck);
    assert_ne!(world.state(seed), TorrentState::Stopped);
    world.run_until(Time::from_secs(5));
    assert_eq!(world.state(seed), TorrentState::Stopped);
    let events = world.events(seed).iter();
    let checked: Vec<_> = events
        .filter_map(|event| match event {
            Event::Checked { piece, ok, .. } => Some((*piece, *ok)),
            _ => None,
        })
        .collect();
    assert_eq!(checked.len(), 16);
    assert!(checked.iter().all(|(piece, ok)| *ok == (*piece != lost)));
    // Told to run while it is checked, it runs.
    world.command(seed, TorrentCommand::Recheck);
    world.command(seed, TorrentCommand::Start);
    world.run_until(Time::from_secs(9));
    assert_eq!(world.state(seed), TorrentState::Downloading);
    assert_eq!(world.have(seed), 15);
}

#[test]
fn a_check_that_was_asked_for_is_done_although_it_is_told_to_run_at_once() {
    use TorrentCommand::{Recheck, Start, Stop};
    for commands in [&[Recheck, Start][..], &[Start, Stop, Recheck, Start]] {
        let content = Content::tokens(16, 4);
        let mut world = Arena::new(8, &content);
        let seed = world.seed(RATE);
        world.run_until(Time::from_secs(1));
        world.command(seed, Stop);
        world.run_until(Time::from_secs(2));
        world.act(Action::Spoil(seed, PieceIndex(3)));
        for command in commands {
            world.command(seed, command.clone());
        }
        world.run_until(Time::from_secs(9));
        assert_eq!(world.state(seed), TorrentState::Downloading);
        assert_eq!(world.have(seed), 15, "{commands:?}");
    }
}

#[test]
fn a_piece_that_is_lost_on_disk_comes_again() {
    let content = Content::tokens(16, 4);
    let mut world = Arena::new(15, &content);
    world.seed(RATE);
    let leech = world.leech(RATE);
    world.leech(RATE / 20);
    world.run_to_completion(&[leech], Time::from_secs(60));
    let torrent = world.torrent(leech);
    let piece = PieceIndex(5);
    world.act(Action::Spoil(leech, piece));
    let done = riverrun_swarm::StorageDone::Checked { piece, ok: false };
    world.input(leech, Input::Storage { torrent, done });
    assert_eq!(world.state(leech), TorrentState::Downloading);
    world.run_to_completion(&[leech], Time::from_secs(200));
}

#[test]
fn a_fault_of_the_disk_stops_requests_and_recovers() {
    let content = Content::tokens(64, 8);
    let mut world = Arena::new(9, &content);
    world.seed(RATE);
    let leech = world.leech(RATE);
    world.run_until(Time::from_secs(2));
    let torrent = world.torrent(leech);
    let fault = riverrun_swarm::StorageFault::NoSpace {
        path: "test".into(),
        needed_bytes: 1,
    };
    let done = riverrun_swarm::StorageDone::Fault(fault.clone());
    world.input(leech, Input::Storage { torrent, done });
    assert_eq!(world.state(leech), TorrentState::Faulted(fault));
    world.run_until(Time::from_secs(3));
    let before = world.have(leech);
    world.run_until(Time::from_secs(30));
    assert_eq!(world.have(leech), before);
    let done = riverrun_swarm::StorageDone::Recovered;
    world.input(leech, Input::Storage { torrent, done });
    world.run_to_completion(&[leech], Time::from_secs(90));
}

#[test]
fn upload_only_is_a_partial_seed() {
    let content = Content::tokens(64, 8);
    let mut world = Arena::new(10, &content);
    world.seed(RATE);
    let leech = world.leech(RATE);
    world.run_until(Time::from_secs(3));
    world.command(leech, TorrentCommand::UploadOnly(true));
    assert_eq!(world.state(leech), TorrentState::Finished);
    world.run_until(Time::from_secs(5));
    let before = world.have(leech);
    world.run_until(Time::from_secs(60));
    assert_eq!(world.have(leech), before);
    world.command(leech, TorrentCommand::UploadOnly(false));
    world.run_to_completion(&[leech], Time::from_secs(200));
}

#[test]
fn skipped_files_do_not_come() {
    let content = Content::files(&[10, 10, 10], 4);
    let mut world = Arena::new(11, &content);
    world.seed(RATE);
    let mut options = TorrentOptions::default();
    options.priorities = vec![Priority::Normal, Priority::Skip, Priority::High];
    let leech = world.leech_with(RATE, &options);
    world.run_while(Time::from_secs(100), |world| {
        world
            .events(leech)
            .iter()
            .all(|event| !matches!(event, riverrun_swarm::Event::Completed { .. }))
    });
    assert_eq!(world.state(leech), TorrentState::Finished);
    let have: Vec<u32> = world.pieces(leech).ones().map(|piece| piece.0).collect();
    let expected: Vec<u32> = (0..10).chain(20..30).collect();
    assert_eq!(have, expected);
    let priorities = vec![Priority::Normal; 3];
    world.command(leech, TorrentCommand::Priorities(priorities));
    world.run_to_completion(&[leech], Time::from_secs(200));
}

#[test]
fn a_file_of_high_priority_comes_first() {
    let content = Content::files(&[20, 20], 4);
    let mut world = Arena::new(12, &content);
    world.seed(RATE);
    let mut options = TorrentOptions::default();
    options.priorities = vec![Priority::Low, Priority::High];
    let leech = world.leech_with(RATE, &options);
    world.run_while(Time::from_secs(100), |world| world.have(leech) < 20);
    let late = world
        .pieces(leech)
        .ones()
        .filter(|piece| piece.0 < 20)
        .count();
    assert!(late <= 1, "{late}");
}

#[test]
fn sequential_mode_is_in_order() {
    let content = Content::tokens(40, 4);
    let mut world = Arena::new(13, &content);
    world.seed(RATE);
    let mut options = TorrentOptions::default();
    options.sequential = true;
    let leech = world.leech_with(RATE, &options);
    world.run_while(Time::from_secs(100), |world| world.have(leech) < 20);
    let have: Vec<u32> = world.pieces(leech).ones().map(|piece| piece.0).collect();
    assert_eq!(have, (0..20).collect::<Vec<_>>());
}

#[test]
fn a_piece_with_a_deadline_comes_first() {
    let content = Content::tokens(100, 8);
    let mut world = Arena::new(14, &content);
    world.seed(RATE);
    world.seed(RATE / 20);
    world.run_until(Time::from_secs(1));
    let leech = world.leech(RATE);
    world.run_until(Time::from_secs(3));
    let wanted: Vec<PieceIndex> = world.pieces(leech).zeros().skip(30).take(4).collect();
    for (n, piece) in (1..).zip(&wanted) {
        let at = world.now() + Duration::from_secs(n);
        world.command(leech, TorrentCommand::Deadline { piece: *piece, at });
    }
    let asked = world.now();
    world.run_while(Time::from_secs(100), |world| {
        !wanted.iter().all(|piece| world.pieces(leech).has(*piece))
    });
    let took = world.now() - asked;
    assert!(took < Duration::from_secs(4), "{took:?}");
}
