//! Trackers that answer wrongly or not at all.

use crate::payload::Shape;
use crate::scene::Scene;
use crate::web::{Answer, serve};

/// Longer than any tracker's answer may be.
const HUGE_BYTES: usize = 5 << 20;

/// With nobody but such a tracker, `get` ends with `code` and says `said`; with a peer it does not matter.
fn check(answer: Answer, code: i32, said: &str) {
    let scene = Scene::set(Shape::Single, "--hybrid");
    let tracker = format!("http://{}/announce", serve(answer));
    let alone = scene.get(&[scene.torrent(), "-t", &tracker, "--timeout", "3s"]);
    alone.end().assert(code, &["single file.bin", said]);
    let (_seeder, honest) = scene.seed("100MiB");
    let ended = scene
        .get(&[scene.torrent(), "-t", &tracker, "--peer", &honest])
        .end();
    ended.assert(0, &[]);
    scene.assert_taken();
}

#[test]
fn a_tracker_of_rubbish_is_said_and_harms_nothing() {
    check(
        Answer::Body(200, b"<html>moved</html>".to_vec()),
        8,
        "no bencode",
    );
}

#[test]
fn a_tracker_that_fails_is_said_and_harms_nothing() {
    check(Answer::Body(500, b"oops".to_vec()), 8, "HTTP status 500");
}

#[test]
fn a_tracker_that_refuses_is_said_and_harms_nothing() {
    let refusal = b"d14:failure reason12:go away \x1b[2Je".to_vec();
    check(Answer::Body(200, refusal), 8, "go away");
}

#[test]
fn a_tracker_without_end_is_said_and_harms_nothing() {
    check(Answer::Body(200, vec![b'x'; HUGE_BYTES]), 8, "are accepted");
}

#[test]
fn a_tracker_that_is_none_is_said_and_harms_nothing() {
    check(
        Answer::Raw(b"220 mail.example ESMTP\r\n"),
        8,
        "could not be reached",
    );
}

#[test]
fn a_tracker_that_closes_is_said_and_harms_nothing() {
    check(Answer::Close, 8, "could not be reached");
}

#[test]
fn a_tracker_that_is_silent_harms_nothing() {
    check(Answer::Silence, 7, "after 3");
}
