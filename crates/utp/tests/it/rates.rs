//! As quick as TCP when alone, yields to it when not.

#![expect(clippy::cast_precision_loss, reason = "rates are compared in per cent")]

use std::time::Duration;

use riverrun_base::Time;

use crate::tcp::TcpFlow;
use crate::world::{Link, World};

const MBIT: f64 = 125_000.0;

fn seconds(time: u64) -> Time {
    Time::from_secs(5 + time)
}

/// uTP's goodput in bytes a second.
fn alone(forth: Link, back: Link, time: u64) -> (f64, World) {
    let mut world = World::new(1, forth, back, [u64::MAX, 0]);
    world.run_until(seconds(time));
    (world.hosts[1].received as f64 / time as f64, world)
}

/// The TCP model's.
fn tcp_alone(forth: Link, back: Link, time: u64) -> f64 {
    let mut world = World::new(1, forth, back, [0, 0]);
    world.tcp = Some(TcpFlow::new(world.now));
    world.run_until(seconds(time));
    world.tcp.unwrap().delivered as f64 / time as f64
}

#[test]
fn at_one_percent_of_loss_it_carries_half_of_what_tcp_does_or_more() {
    for (delay, mbit) in [(5, 100), (20, 100), (50, 100), (100, 20)] {
        let link = Link::new(delay).queue(mbit, 250_000).loss(10);
        let (utp, _) = alone(link.clone(), Link::new(delay), 30);
        let tcp = tcp_alone(link, Link::new(delay), 30);
        assert!(
            utp >= 0.5 * tcp,
            "rtt {} ms: {utp:.0} of {tcp:.0} B/s",
            2 * delay
        );
    }
}

#[test]
fn alone_it_fills_the_path_and_keeps_the_queue_below_the_target() {
    for (delay, mbit) in [(2, 20), (10, 20), (50, 20), (20, 50)] {
        // A queue that would hold a second, as home routers have.
        let link = Link::new(delay).queue(mbit, mbit * 125_000);
        let (rate, world) = alone(link, Link::new(delay), 20);
        let (share, waited) = (rate / (mbit as f64 * MBIT), world.links[0].waited_max);
        assert!(
            share >= 0.9,
            "{mbit} Mbit/s, rtt {} ms: {share:.3}",
            2 * delay
        );
        assert!(waited <= Duration::from_millis(110), "{waited:?}");
    }
}

#[test]
fn tcp_keeps_four_fifths_beside_it() {
    // The queue holds half a second of 20 Mbit/s.
    let link = Link::new(10).queue(20, 1_250_000);
    let alone = tcp_alone(link.clone(), Link::new(10), 60);
    for head_start in [0, 20] {
        let mut world = World::new(1, link.clone(), Link::new(10), [u64::MAX, 0]);
        // uTP is there first: its base delay is right. Then TCP comes.
        world.run_until(seconds(head_start));
        world.tcp = Some(TcpFlow::new(world.now));
        world.run_until(seconds(head_start + 60));
        let tcp = world.tcp.as_ref().unwrap().delivered as f64 / 60.0;
        assert!(tcp >= 0.8 * alone, "{:.3}", tcp / alone);
    }
}

/// What two flows of uTP carry of what there is, in the second half minute after the later one has come.
fn shares(link: Link, head_start: u64) -> [f64; 2] {
    let rate = link.rate.unwrap() as f64;
    let back = Link::new(10);
    let mut world = World::new(1, link, back, [u64::MAX, 0]);
    world.run_until(seconds(head_start));
    world.add_rival();
    let received = |world: &World| [world.hosts[1].received, world.rivals[1].received];
    world.run_until(seconds(head_start + 30));
    let before = received(&world);
    world.run_until(seconds(head_start + 60));
    let after = received(&world);
    [0, 1].map(|flow| (after[flow] - before[flow]) as f64 / (30.0 * rate))
}

#[test]
fn whoever_comes_later_shares_with_whoever_was_there() {
    for (delay, head_start) in [(2, 20), (20, 20), (90, 20), (20, 0)] {
        let link = Link::new(delay).queue(10, 1_250_000);
        let [first, second] = shares(link, head_start);
        let of = format!("{delay} ms, {head_start} s later: {first:.3}, {second:.3}");
        assert!(first + second >= 0.9, "{of}");
        assert!(first <= 2.0 * second && second <= 2.0 * first, "{of}");
    }
}
