//! Trackers that answer wrongly or not at all.

use std::io::ErrorKind;
use std::net::TcpListener;

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

#[test]
fn a_tracker_that_sends_us_on_for_ever_is_said_and_harms_nothing() {
    let again = Answer::Redirect("/announce?again".to_owned());
    check(again, 8, "more than 5 redirects");
}

#[test]
fn a_tracker_that_sends_us_to_a_file_is_said_and_harms_nothing() {
    let file = Answer::Redirect("file:///etc/hostname".to_owned());
    check(file, 8, "redirected to a url of scheme \"file\"");
}

/// Whoever makes a torrent must not reach, through its downloaders, what listens on their machines for others.
#[test]
fn services_on_this_machine_are_not_asked_for_a_tracker() {
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    service.set_nonblocking(true).unwrap();
    let addr = service.local_addr().unwrap();
    let elsewhere = Answer::Redirect(format!("http://{addr}/admin?delete=all"));
    check(elsewhere, 8, "where only a path of /announce is asked");
    let scene = Scene::set(Shape::Single, "--hybrid");
    for (url, why) in [
        (
            format!("http://{addr}/admin?"),
            "where only a path of /announce",
        ),
        (
            format!("http://localhost:{}/x", addr.port()),
            "where only a path of /announce",
        ),
        (
            format!("http://{addr}/announce?event=x"),
            "brings arguments of an announce",
        ),
        (
            "http://169.254.169.254/announce".to_owned(),
            "which is never asked",
        ),
        (
            "udp://169.254.169.254:80/announce".to_owned(),
            "which is never asked",
        ),
    ] {
        let ended = scene.get(&[scene.torrent(), "-t", &url, "--timeout", "1s"]);
        ended.end().assert(8, &[&url, why]);
    }
    let asked = service.accept().map_err(|error| error.kind());
    assert_eq!(
        asked.err(),
        Some(ErrorKind::WouldBlock),
        "somebody has asked"
    );
}
