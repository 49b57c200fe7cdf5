//! What can be shown of a run. Who looks here is the recorder: what must hold is for other tests.

use std::collections::BTreeSet;

use riverrun_base::Time;
use riverrun_sim::recording::{Detail, HaveAtStart, MomentKind, Recorder, Recording};
use riverrun_sim::{Content, HostConfig, World, WorldConfig};

fn record(detail: Detail) -> Recording {
    let mut world = World::new(WorldConfig::default());
    let content = world.add_content(Content::tokens(4, 2));
    world.add_host(content, HostConfig::seed().up(20_000).down(20_000));
    for _ in 0..3 {
        world.add_host(content, HostConfig::leecher().up(20_000).down(20_000));
    }
    let mut recorder = Recorder::new("four pieces", detail);
    let all_complete = |world: &World| world.hosts().all(|(_, host)| host.has_all());
    let limit = Time::from_secs(100);
    assert!(world.observe_while(limit, &mut recorder, |world| !all_complete(world)));
    world.observe_until(
        world.now() + std::time::Duration::from_secs(2),
        &mut recorder,
    );
    recorder.finish(&world, Some(6.5))
}

#[test]
fn every_block_every_piece_and_every_reason_is_kept() {
    let recording = record(Detail::Moments);
    assert_eq!(recording.peers.len(), 4);
    assert_eq!(recording.peers[0].have_at_start, HaveAtStart::All("all"));
    assert!(
        recording.peers[1..]
            .iter()
            .all(|peer| peer.completed.is_some())
    );
    let mut have = BTreeSet::new();
    let mut blocks = BTreeSet::new();
    let (mut reasons, mut requests, mut slots) = (BTreeSet::new(), 0, 0);
    let mut last = 0.0;
    for moment in &recording.moments {
        assert!(moment.at >= last, "in order of time");
        last = moment.at;
        match &moment.kind {
            MomentKind::Sent {
                from,
                to,
                piece,
                offset,
                until,
                right,
                ..
            } => {
                assert!(*right && from != to && *until > moment.at);
                blocks.insert((*to, *piece, *offset));
            }
            MomentKind::Have { peer, piece } => _ = have.insert((*peer, *piece)),
            MomentKind::Request { why, .. } => {
                requests += 1;
                reasons.extend(why.clone());
            }
            MomentKind::Choke { why, .. } => slots += usize::from(why.is_some()),
            _ => {}
        }
    }
    assert_eq!(have.len(), 3 * 4);
    assert_eq!(blocks.len(), 3 * 4 * 2);
    assert!(requests > 0 && slots > 0);
    assert!(reasons.contains("random first"), "{reasons:?}");
}

#[test]
fn sums_agree_with_moments() {
    let (moments, sums) = (record(Detail::Moments), record(Detail::Seconds));
    let sent: u64 = moments
        .moments
        .iter()
        .map(|moment| match &moment.kind {
            MomentKind::Sent { len, .. } => u64::from(*len),
            _ => 0,
        })
        .sum();
    let summed: u64 = sums
        .seconds
        .iter()
        .map(|second| second.received_bytes)
        .sum();
    assert_eq!(sent, summed);
    let last = sums.seconds.last().unwrap();
    assert_eq!((last.complete, last.present, last.rarest_copies), (3, 4, 4));
    assert!(moments.seconds.is_empty() && sums.moments.len() < moments.moments.len());
}
