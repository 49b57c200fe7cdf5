//! Peers that lie, beside one that does not: the download completes, the liar is banned, the honest one is not.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::spawn;

use riverrun_base::Rng;
use serde_json::Value;

use crate::payload::Shape;
use crate::riverrun::Ended;
use crate::scene::Scene;

/// Where liars live: a ban is of an address, and the honest peer has another.
const LIARS: &str = "127.0.0.2";

/// Has the program dial in the clear, which is all that the peers here understand.
pub(crate) const IN_THE_CLEAR: [&str; 2] = ["--encryption", "off"];

/// Accepts connections for ever and plays `script` with each; gives the address.
pub(crate) fn play(script: impl Fn(TcpStream) -> std::io::Result<()> + Send + 'static) -> String {
    let listener = TcpListener::bind((LIARS, 0)).unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // It ends when the program has had enough of it.
            let _ = script(stream);
        }
    });
    addr
}

/// Reads the program's greeting (BEP 3) and answers it as a peer of the same torrent that can do `reserved`.
pub(crate) fn greet(stream: &mut TcpStream, reserved: [u8; 8]) -> std::io::Result<()> {
    let mut theirs = [0; 68];
    stream.read_exact(&mut theirs)?;
    let mut ours = theirs;
    ours[20..28].copy_from_slice(&reserved);
    ours[48..].copy_from_slice(b"-XX0000-liar-liar-li");
    stream.write_all(&ours)
}

pub(crate) fn message(id: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(1 + body.len()).unwrap();
    [&len.to_be_bytes(), &[id][..], body].concat()
}

/// The next message of the program: its id and what follows; nothing, if it only keeps the connection alive.
pub(crate) fn read_message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let mut body = vec![0; u32::from_be_bytes(len) as usize];
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// The id that a message gives to an extension (BEP 10), if it is a greeting that offers it.
pub(crate) fn offered(body: &[u8], extension: &str) -> Option<u8> {
    let text = String::from_utf8_lossy(body);
    let (_, id) = text.split_once(&format!("{}:{extension}i", extension.len()))?;
    id.split('e').next()?.parse().ok()
}

/// Reads until the program closes.
pub(crate) fn listen_on(mut stream: TcpStream) -> std::io::Result<()> {
    std::io::copy(&mut stream, &mut std::io::sink()).map(|_| ())
}

/// The fast extension (BEP 6), the extension protocol (BEP 10) and v2 (BEP 52).
pub(crate) const ALL_EXTENSIONS: [u8; 8] = [0, 0, 0, 0, 0, 0x10, 0, 0x14];

/// Says `bytes` after the greeting.
fn says(bytes: Vec<u8>) -> String {
    play(move |mut stream| {
        greet(&mut stream, ALL_EXTENSIONS)?;
        stream.write_all(&bytes)?;
        listen_on(stream)
    })
}

/// Claims all pieces, and answers each request with noise.
fn sends_noise(pieces: u32) -> String {
    play(move |mut stream| {
        let mut rng = Rng::new(666);
        greet(&mut stream, [0; 8])?;
        let mut bitfield = vec![0xff; pieces.div_ceil(8) as usize];
        if !pieces.is_multiple_of(8) {
            *bitfield.last_mut().unwrap() = 0xff << (8 - pieces % 8);
        }
        stream.write_all(&message(5, &bitfield))?;
        stream.write_all(&message(1, &[]))?;
        loop {
            let body = read_message(&mut stream)?;
            if let [6, at @ .., a, b, c, d] = &body[..] {
                let mut block = vec![0; u32::from_be_bytes([*a, *b, *c, *d]) as usize];
                rng.fill(&mut block);
                stream.write_all(&message(7, &[at, &block].concat()))?;
            }
        }
    })
}

fn banned(ended: &Ended) -> Vec<&Value> {
    let bans = ended.events.iter();
    bans.filter(|event| event["event"] == "peer_banned")
        .map(|event| &event["ip"])
        .collect()
}

/// A peer of noise, and an honest one that is slower.
fn check_noise(version: &str) {
    let scene = Scene::set(Shape::Single, version);
    let liar = sends_noise(3_000_017_u32.div_ceil(65_536));
    let (_seeder, honest) = scene.seed("1MiB");
    let peers = [scene.torrent(), "--peer", &liar, "--peer", &honest];
    let ended = scene.get(&[&peers[..], &IN_THE_CLEAR].concat()).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    scene.assert_taken();
    assert_eq!(banned(&ended), [LIARS], "{}", ended.stderr);
    let failed = |event: &&Value| event["event"] == "piece_failed";
    assert!(ended.events.iter().any(|event| failed(&event)));
}

#[test]
fn who_sends_noise_is_banned_v1() {
    check_noise("--v1");
}

#[test]
fn who_sends_noise_is_banned_v2() {
    check_noise("--v2");
}

#[test]
fn who_sends_noise_is_banned_hybrid() {
    check_noise("--hybrid");
}

/// One liar for each kind of message, and some for none.
fn liars() -> Vec<String> {
    let far = |id: u8| message(id, &[0xff; 4]);
    let spans = |id: u8| message(id, &[0xff; 12]);
    let extended = |id: u8, text: &[u8]| message(20, &[&[id], text].concat());
    let handshake = b"d1:md11:ut_metadatai1e6:ut_pexi2e11:lt_donthavei3ee13:metadata_sizei99999999999e4:reqqi-1ee";
    let mut words = vec![
        vec![0xff; 5],
        [&[0x7f, 0xff, 0xff, 0xff][..], &[7; 64]].concat(),
        [&[0, 2, 0, 0, 5][..], &[0xff; 64]].concat(),
        message(0, b"more than nothing"),
        message(1, b"more than nothing"),
        message(2, b"more than nothing"),
        message(3, b"more than nothing"),
        message(4, b""),
        far(4),
        message(5, b""),
        message(5, &[0xff; 6]),
        message(5, &[0xff; 600]),
        [message(5, &[0; 6]), message(5, &[0; 6])].concat(),
        message(6, &[0; 3]),
        spans(6),
        message(7, &[0; 7]),
        message(7, &[0; 8 + 16_384]),
        message(7, &[0xff; 8 + 16_384]),
        spans(8),
        message(9, &[0; 9]),
        far(13),
        [message(14, b""), message(15, b""), message(5, &[0; 6])].concat(),
        spans(16),
        far(17),
        extended(0, b"no bencode"),
        extended(0, b"d1:md11:ut_metadatai1e"),
        extended(77, b"d8:msg_typei0e5:piecei0ee"),
        message(20, b""),
        message(99, b"who knows"),
        vec![0; 40_000],
    ];
    words.extend((21..=23).map(|id| message(id, &[0xff; 48])));
    words.extend((21..=23).map(|id| message(id, &[0; 7])));
    for (id, text) in [
        (1, &b"d8:msg_typei1e5:piecei0e10:total_sizei16384eexxxx"[..]),
        (1, b"d8:msg_typei0e5:piecei-1ee"),
        (2, b"d5:added5:short7:added.f100:xe"),
        (3, &[0xff; 4]),
    ] {
        words.push([extended(0, handshake), extended(id, text)].concat());
    }
    let mut liars: Vec<_> = words.into_iter().map(says).collect();
    liars.push(play(|mut stream| {
        stream.write_all(&[b'x'; 4096])?;
        listen_on(stream)
    }));
    liars.push(play(|mut stream| {
        stream
            .write_all(b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0another torrent's hash-------")?;
        listen_on(stream)
    }));
    liars.push(play(|_| Ok(())));
    liars
}

fn check_words(version: &str) {
    let scene = Scene::set(Shape::Single, version);
    let (_seeder, honest) = scene.seed("3MiB");
    let liars = liars();
    let mut args = vec![scene.torrent()];
    args.extend(IN_THE_CLEAR);
    for liar in liars.iter().chain([&honest]) {
        args.extend(["--peer", liar]);
    }
    let ended = scene.get(&args).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    scene.assert_taken();
    assert!(
        banned(&ended).iter().all(|ip| **ip == LIARS),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("bug"), "{}", ended.stderr);
}

#[test]
fn a_lie_in_any_message_harms_nothing_v1() {
    check_words("--v1");
}

#[test]
fn a_lie_in_any_message_harms_nothing_v2() {
    check_words("--v2");
}

#[test]
fn a_lie_in_any_message_harms_nothing_hybrid() {
    check_words("--hybrid");
}

/// Has this metadata (BEP 9) and nothing else.
fn has_metadata(info: &'static [u8]) -> String {
    const OUR_METADATA: u8 = 3;
    play(move |mut stream| {
        greet(&mut stream, ALL_EXTENSIONS)?;
        let len = info.len();
        let hello = format!("d1:md11:ut_metadatai{OUR_METADATA}ee13:metadata_sizei{len}ee");
        stream.write_all(&message(20, &[&[0], hello.as_bytes()].concat()))?;
        let mut theirs = None;
        loop {
            let body = read_message(&mut stream)?;
            theirs = theirs.or(offered(&body, "ut_metadata"));
            if let ([20, OUR_METADATA, ..], Some(theirs)) = (&body[..], theirs) {
                let head = format!("d8:msg_typei1e5:piecei0e10:total_sizei{}ee", info.len());
                stream.write_all(&message(20, &[&[theirs], head.as_bytes(), info].concat()))?;
            }
        }
    })
}

#[test]
fn metadata_that_makes_no_torrent_is_told_at_once() {
    let info = b"d6:lengthi-7e4:name1:x12:piece lengthi16384e6:pieces0:e";
    let hash = riverrun_hash::sha1(info).to_string();
    let scene = Scene::set(Shape::Single, "--v1");
    let link = format!("magnet:?xt=urn:btih:{hash}");
    let liar = has_metadata(info);
    let args = [&link, "--peer", &liar];
    let ended = scene.get(&[&args[..], &IN_THE_CLEAR].concat()).end();
    ended.assert(4, &[&hash, "makes no torrent"]);
}
