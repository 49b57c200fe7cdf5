//! Every byte arrives, once and in order, whatever the path does.

use std::time::Duration;

use proptest::prelude::*;
use riverrun_base::Time;
use riverrun_utp::UtpEnd;

use crate::world::{Host, Link, World};

const HOUR: Time = Time::from_secs(3600);

#[test]
fn both_directions_arrive_over_a_clean_path() {
    let mut world = World::new(1, Link::new(20), Link::new(20), [3_000_000, 1_000_000]);
    world.run_until(HOUR);
    world.assert_complete();
    // Slow start, no loss: some round trips of 40 ms, and the second in which a late packet is answered.
    assert!(world.now < Time::from_secs(8), "{}", world.now);
}

#[test]
fn a_direction_goes_on_when_the_other_has_ended() {
    let mut world = World::new(2, Link::new(10), Link::new(10), [0, 2_000_000]);
    world.run_until(HOUR);
    world.assert_complete();
}

#[test]
fn nothing_to_say_is_said_too() {
    let mut world = World::new(3, Link::new(10), Link::new(10), [0, 0]);
    world.run_until(HOUR);
    world.assert_complete();
    assert!(world.hosts[0].datagrams < 10 && world.hosts[1].datagrams < 10);
}

#[test]
fn a_reader_that_stops_stops_the_writer_and_starts_it_again() {
    let mut world = World::new(4, Link::new(10), Link::new(10), [5_000_000, 0]);
    world.hosts[1].read_max = 100_000;
    // Long enough that a writer who took silence for death would have given up.
    world.run_until(Time::from_secs(600));
    let held = world.hosts[0].written - world.hosts[1].received;
    assert!(held < 1_000_000, "{held} bytes are under way");
    assert_eq!(world.hosts[0].end(), None);
    world.hosts[1].read_max = u64::MAX;
    world.run_until(HOUR);
    world.assert_complete();
}

#[test]
fn a_path_that_dies_ends_the_connection() {
    let mut world = World::new(5, Link::new(10), Link::new(10), [50_000_000, 0]);
    world.run_until(Time::from_millis(5_200));
    for link in &mut world.links {
        link.loss = 1000;
    }
    world.run_until(Time::from_secs(120));
    assert_eq!(world.hosts[0].end(), Some(UtpEnd::TimedOut));
    // The other has nothing to send, and only hears nothing.
    world.run_until(Time::from_secs(400));
    assert_eq!(world.hosts[1].end(), Some(UtpEnd::TimedOut));
}

#[test]
fn a_dial_into_the_void_ends_after_seconds() {
    let mut world = World::new(6, Link::new(10).loss(1000), Link::new(10), [10, 0]);
    world.run_until(HOUR);
    assert_eq!(world.hosts[0].end(), Some(UtpEnd::TimedOut));
    assert_eq!(world.hosts[0].datagrams, 3);
    assert!(world.now < Time::from_secs(5 + 8), "{}", world.now);
}

#[test]
fn the_size_of_packets_follows_the_path() {
    for (mtu, least) in [(1500, 1472), (1400, 1400 - 28 - 16), (576, 548)] {
        let mut world = World::new(7, Link::new(10), Link::new(10), [3_000_000, 0]);
        world.links[0].mtu = mtu;
        world.run_until(Time::from_secs(60));
        world.assert_complete();
        let socket = world.hosts[0].socket.as_ref().unwrap();
        let len = socket.datagram_len();
        assert!(len >= least && len <= mtu - 28, "{mtu}: {len}");
    }
}

#[test]
fn a_path_that_becomes_narrower_is_noticed_and_loses_nothing() {
    let forth = Link::new(10).queue(100, 200_000);
    let mut world = World::new(8, forth, Link::new(10), [50_000_000, 0]);
    world.run_until(Time::from_secs(7));
    assert_eq!(world.hosts[0].datagram_max, 1472);
    let (begun, left) = (world.now, 50_000_000 - world.hosts[1].received);
    assert!(left > 10_000_000, "{left}");
    world.links[0].mtu = 1000;
    world.run_until(HOUR);
    world.assert_complete();
    let len = world.hosts[0].socket.as_ref().unwrap().datagram_len();
    assert!((1000 - 28 - 16..=1000 - 28).contains(&len), "{len}");
    // What was cut already cannot be cut anew (BEP 29), and goes so that it may be taken apart: no more than the
    // connection had written at the time.
    let fragmented = world.links[0].fragmented;
    assert!((1..4000).contains(&fragmented), "{fragmented}");
    let took = world.now - begun;
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn a_path_that_is_too_narrow_for_a_large_packet_is_noticed_while_small_ones_arrive() {
    let mut world = World::new(13, Link::new(10), Link::new(10), [1_000_000, 0]);
    world.hosts[0].closes = false;
    world.run_until(Time::from_secs(8));
    assert_eq!(world.hosts[1].received, 1_000_000);
    let len = |world: &World| world.hosts[0].socket.as_ref().unwrap().datagram_len();
    assert_eq!(len(&world), 1472);
    world.links[0].mtu = 1000;
    // One that fills a packet, and then messages of 100 bytes, five to a round trip.
    let (begun, sent_before) = (world.now, world.hosts[0].datagrams);
    world.hosts[0].to_send += 1452;
    while len(&world) == 1472 {
        world.hosts[0].to_send += 100;
        world.run_until(world.now + Duration::from_millis(4));
        // Two timeouts take longer: it is the losses that tell.
        assert!(world.now - begun < Duration::from_millis(500));
    }
    let sent = world.hosts[0].datagrams - sent_before;
    assert!(sent > 4 * 3, "later ones arrived after each loss: {sent}");
    assert_eq!(world.hosts[1].received, 1_000_000, "all wait for the first");
    world.run_until(world.now + Duration::from_millis(100));
    assert_eq!(world.links[0].fragmented, 1);
    assert_eq!(world.hosts[1].received, world.hosts[0].to_send);
    world.hosts[0].closes = true;
    world.run_until(HOUR);
    world.assert_complete();
}

#[test]
fn nothing_is_taken_apart_on_a_path_that_stays_as_it_is() {
    for mtu in [1500, 1280, 576] {
        let mut world = World::new(8, Link::new(10).loss(20), Link::new(10), [2_000_000, 0]);
        world.links[0].mtu = mtu;
        world.run_until(HOUR);
        world.assert_complete();
        assert_eq!(world.links[0].fragmented, 0, "{mtu}");
    }
}

#[test]
fn an_idle_connection_stays_and_sends_little() {
    let mut world = World::new(9, Link::new(10), Link::new(10), [1000, 1000]);
    for host in &mut world.hosts {
        host.closes = false;
    }
    world.run_until(HOUR);
    for host in &world.hosts {
        assert_eq!((host.end(), host.received), (None, 1000));
        // One keepalive in half a minute.
        assert!((110..150).contains(&host.datagrams), "{}", host.datagrams);
    }
}

fn faulty() -> impl Strategy<Value = Link> {
    let delay = 0..150_u64;
    let faults = (0..300_usize, 0..200_usize, 0..300_usize);
    let queue = prop::option::of((1..50_u64, 3_000..200_000_u64));
    (delay, faults, queue, 600..1600_usize).prop_map(|(delay, faults, queue, mtu)| {
        let mut link = Link::new(delay);
        (link.loss, link.duplicate, link.reorder) = faults;
        if let Some((mbit, bytes)) = queue {
            link = link.queue(mbit, bytes);
        }
        link.mtu = mtu;
        link
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// The hosts check each byte as they read it. With up to three of ten packets lost each way, six timeouts in a
    /// row happen; then both must have seen the end.
    #[test]
    fn any_pattern_of_faults_delivers_all_or_ends(
        seed: u64,
        forth in faulty(),
        back in faulty(),
        sizes in [0..400_000_u64, 0..100_000_u64],
    ) {
        let mut world = World::new(seed, forth, back, sizes);
        world.run_until(HOUR);
        let ends = world.hosts.each_ref().map(Host::end);
        let received = world.hosts.each_ref().map(|host| host.received);
        if ends == [Some(UtpEnd::Finished); 2] {
            prop_assert_eq!(received, [sizes[1], sizes[0]]);
        } else {
            // Each comes to an end; who never heard of the other has none.
            let is_over = ends[1].is_some() || world.hosts[1].socket.is_none();
            prop_assert!(ends[0].is_some() && is_over, "{:?} {:?}", ends, received);
        }
    }

    /// With less loss than that, it always arrives, once there is a connection.
    #[test]
    fn what_the_path_can_carry_arrives(
        seed: u64,
        delay in 0..100_u64,
        faults in (0..60_usize, 0..100_usize, 0..100_usize),
        sizes in [0..1_000_000_u64, 0..100_000_u64],
    ) {
        let mut link = Link::new(delay);
        (link.loss, link.duplicate, link.reorder) = faults;
        let mut world = World::new(seed, link.clone(), link, sizes);
        world.run_until(HOUR);
        let dialler = &world.hosts[0];
        if dialler.end() == Some(UtpEnd::TimedOut) && dialler.datagrams == 3 {
            // Each `SYN` or its answer was lost, as happens in one of some thousand dials.
            return Ok(());
        }
        let received = world.hosts.each_ref().map(|host| host.received);
        prop_assert_eq!(received, [sizes[1], sizes[0]]);
    }
}
