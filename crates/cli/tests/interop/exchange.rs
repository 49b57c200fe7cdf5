//! Peers that are known only through another one, which is of no use itself (BEP 11).

use crate::clients::{Client, Part, Running, Spot, free_port};
use crate::payload::Shape;
use crate::scene::Scene;

/// A libtorrent of a scene: seeds what is published, or downloads to a directory of its own.
fn libtorrent(scene: &Scene, name: &str, part: Part, spot: Spot) -> Running {
    let of_its_own = scene.dir(&format!("of {name}"));
    let dir = match part {
        Part::Seed => scene.payload.parent(),
        Part::Leech => &of_its_own,
    };
    spot.start(part, scene.torrent(), dir, &scene.dir(name))
}

#[test]
fn we_hear_of_a_seed_from_libtorrent() {
    if !Client::Libtorrent.is_here() {
        return;
    }
    let scene = Scene::set(Shape::Single, "--v1");
    let seed = Spot::at(free_port());
    let hub = Spot::at(free_port()).knowing(seed.port).slow();
    let _seed = libtorrent(&scene, "seed", Part::Seed, seed);
    let _hub = libtorrent(&scene, "hub", Part::Leech, hub);
    let hub = format!("127.0.0.1:{}", hub.port);
    let ended = scene.get(&[scene.torrent(), "--peer", &hub]).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    scene.assert_taken();
}

#[test]
fn libtorrent_hears_of_a_seed_from_us() {
    if !Client::Libtorrent.is_here() {
        return;
    }
    let scene = Scene::set(Shape::Single, "--v1");
    let (seed, hub) = (Spot::at(free_port()), free_port());
    let _seed = libtorrent(&scene, "seed", Part::Seed, seed);
    let (peer, listen) = (
        format!("127.0.0.1:{}", seed.port),
        format!("127.0.0.1:{hub}"),
    );
    let slow = ["--limit", "4KiB", "--limit-up", "4KiB", "--listen", &listen];
    let _hub = scene.get(&[&[scene.torrent(), "--peer", &peer], &slow[..]].concat());
    let last = Spot::at(free_port()).knowing(hub);
    libtorrent(&scene, "last", Part::Leech, last).wait_complete();
    scene.payload.assert_copied_to(&scene.dir("of last"), true);
}
