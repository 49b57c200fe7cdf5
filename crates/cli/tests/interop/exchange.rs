//! Peers that are known only through another one, which is of no use itself (BEP 11).

use std::io::Write as _;
use std::net::TcpListener;
use std::sync::mpsc::channel;

use crate::clients::{Client, Part, Spot};
use crate::hostile::{
    ALL_EXTENSIONS, IN_THE_CLEAR, greet, listen_on, message, offered, play, read_message,
};
use crate::payload::Shape;
use crate::scene::Scene;

/// The message of all extensions (BEP 10).
const EXTENDED: u8 = 20;

#[test]
fn we_hear_of_a_seed_from_libtorrent() {
    if !Client::Libtorrent.is_here() {
        return;
    }
    let scene = Scene::set(Shape::Single, "--v1");
    let seed = Spot::free();
    let hub = Spot::free().knowing(seed.addr).slow();
    let _seed = seed.start(&scene, "seed", Part::Seed);
    let _hub = hub.start(&scene, "hub", Part::Leech);
    let hub = hub.addr.to_string();
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
    let (seed, hub) = (Spot::free(), Spot::free().addr);
    let _seed = seed.start(&scene, "seed", Part::Seed);
    let (peer, listen) = (seed.addr.to_string(), hub.to_string());
    let slow = ["--limit", "4KiB", "--limit-up", "4KiB", "--listen", &listen];
    let _hub = scene.get(&[&[scene.torrent(), "--peer", &peer], &slow[..]].concat());
    let mut last = Spot::free().knowing(hub).start(&scene, "last", Part::Leech);
    last.wait_complete();
    let taken = Spot::taken(&scene, "last");
    scene.payload.assert_copied_to(&taken, true);
}

/// What the program did with a peer that names another one.
#[derive(Debug, PartialEq, Eq)]
struct Gossip {
    /// Whether it wants to hear of others.
    is_asked_for: bool,
    /// Whether it dialled the one that was named.
    is_followed: bool,
}

/// Downloads from a peer that has nothing, and names another whatever it was asked.
fn gossip(version: &str) -> Gossip {
    let scene = Scene::set(Shape::Single, version);
    let named = TcpListener::bind("127.0.0.3:0").unwrap();
    let port = named.local_addr().unwrap().port().to_be_bytes();
    let pex = [b"d5:added6:\x7f\0\0\x03", &port[..], b"7:added.f1:\0e"].concat();
    let (sender, asked) = channel();
    let peer = play(move |mut stream| {
        greet(&mut stream, ALL_EXTENSIONS)?;
        let hello = loop {
            let message = read_message(&mut stream)?;
            if message.starts_with(&[EXTENDED, 0]) {
                break message;
            }
        };
        let id = offered(&hello, "ut_pex");
        // The test may have ended.
        let _ = sender.send(id.is_some());
        stream.write_all(&message(EXTENDED, b"\0d1:md6:ut_pexi1eee"))?;
        let pex = [&[id.unwrap_or(1)], &pex[..]].concat();
        stream.write_all(&message(EXTENDED, &pex))?;
        listen_on(stream)
    });
    let args = [scene.torrent(), "--peer", &peer, "--timeout", "3s"];
    let ended = scene.get(&[&args[..], &IN_THE_CLEAR].concat()).end();
    assert_ne!(ended.code, Some(0));
    named.set_nonblocking(true).unwrap();
    Gossip {
        is_asked_for: asked.try_recv().expect("the peer was dialled"),
        is_followed: named.accept().is_ok(),
    }
}

#[test]
fn who_is_named_is_dialled_but_for_a_private_torrent() {
    let [public, private] = ["--v1", "--private"].map(gossip);
    let both = |is| Gossip {
        is_asked_for: is,
        is_followed: is,
    };
    assert_eq!((public, private), (both(true), both(false)));
}
