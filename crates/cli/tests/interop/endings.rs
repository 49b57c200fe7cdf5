//! Signals, time limits and readers that leave: what is there stays, and the same command goes on.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::payload::Shape;
use crate::riverrun::{Riverrun, command};
use crate::scene::Scene;
use crate::web::{Answer, serve};

/// Ctrl-C takes about a second; a loaded machine more.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(5);
/// Three megabytes take long enough to be interrupted.
const SLOWLY: &str = "600KiB";

/// Waits until some of the download is there, but not all.
fn wait_for_some(ours: &mut Riverrun) {
    while ours.wait_for("progress")["verified_bytes"] == 0 {}
}

/// The same command goes on: less than all comes anew.
fn assert_goes_on(scene: &Scene, args: &[&str]) {
    let mut ours = scene.get(args);
    let done = ours.wait_for("done");
    ours.end().assert(0, &[]);
    let anew = done["downloaded_bytes"].as_u64().unwrap();
    assert!(anew < scene.payload.len_bytes(), "{done}");
    scene.assert_taken();
}

fn check_signal(signal: Signal, code: i32) {
    let scene = Scene::set(Shape::Single, "--hybrid");
    let (_seeder, honest) = scene.seed(SLOWLY);
    let args = [scene.torrent(), "--peer", &honest];
    let mut ours = scene.get(&args);
    wait_for_some(&mut ours);
    let since = Instant::now();
    ours.signal(signal);
    let ended = ours.end();
    ended.assert(
        code,
        &["single file.bin: interrupted: ", " of 3.00 MB stay"],
    );
    let said = ended
        .stderr
        .lines()
        .filter(|line| line.contains("the same command"));
    assert_eq!(said.count(), 1, "{}", ended.stderr);
    assert!(since.elapsed() < LEAVE_TIME_MAX, "{:?}", since.elapsed());
    assert_goes_on(&scene, &args);
}

#[test]
fn ctrl_c_ends_a_download_that_then_goes_on() {
    check_signal(Signal::INT, 130);
}

#[test]
fn a_download_that_is_terminated_goes_on() {
    check_signal(Signal::TERM, 143);
}

#[test]
fn a_second_ctrl_c_does_not_wait() {
    let scene = Scene::set(Shape::Single, "--v1");
    let (_seeder, honest) = scene.seed(SLOWLY);
    // A tracker that never answers is what an end waits for longest.
    let tracker = format!("http://{}/announce", serve(Answer::Silence));
    let args = [scene.torrent(), "--peer", &honest, "-t", &tracker];
    let mut ours = scene.get(&args);
    wait_for_some(&mut ours);
    ours.signal(Signal::INT);
    ours.signal(Signal::INT);
    ours.end().assert(130, &[]);
    assert_goes_on(&scene, &args);
}

#[test]
fn a_timeout_after_some_progress_is_incomplete_and_goes_on() {
    let scene = Scene::set(Shape::Single, "--v2");
    let (_seeder, honest) = scene.seed(SLOWLY);
    let args = [scene.torrent(), "--peer", &honest];
    let limited = [&args[..], &["--timeout", "3s"]].concat();
    let ended = scene.get(&limited).end();
    ended.assert(
        7,
        &[
            "single file.bin",
            " of 3.00 MB after 3",
            "hint: the same command",
        ],
    );
    assert_goes_on(&scene, &args);
}

#[test]
fn a_reader_that_leaves_ends_a_download_that_goes_on() {
    let scene = Scene::set(Shape::Single, "--v1");
    let (_seeder, honest) = scene.seed(SLOWLY);
    let args = [
        "--json",
        "get",
        scene.torrent(),
        "-o",
        "taken/here",
        "--peer",
        &honest,
    ];
    let listen = ["--listen", "127.0.0.1:0"];
    let mut child = command(&scene.home(), &[&args[..], &listen].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let some =
        |line: &String| line.contains("\"progress\"") && !line.contains("\"verified_bytes\":0,");
    // The pipe is closed as soon as this is found.
    lines.map_while(Result::ok).find(some).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{stderr}");
    assert!(stderr.contains("nobody reads the events"), "{stderr}");
    assert_goes_on(&scene, &[scene.torrent(), "--peer", &honest]);
}

#[test]
fn ctrl_c_ends_even_a_fetch_that_hangs() {
    let scene = Scene::set(Shape::Single, "--v1");
    let url = format!("http://{}/payload.torrent", serve(Answer::Silence));
    let (_seeder, honest) = scene.seed(SLOWLY);
    // A source that hangs does not hold up the next.
    let mut ours = scene.get(&[&url, scene.torrent(), "--peer", &honest]);
    ours.wait_for("added");
    ours.signal(Signal::INT);
    let since = Instant::now();
    ours.end()
        .assert(130, &["interrupted before the download began"]);
    assert!(since.elapsed() < LEAVE_TIME_MAX, "{:?}", since.elapsed());
}

#[test]
fn a_reader_that_leaves_ends_seeding_before_its_goal() {
    let scene = Scene::set(Shape::Single, "--v1");
    let dir = scene.payload.parent().to_str().unwrap();
    let args = [
        "--json",
        "seed",
        scene.torrent(),
        "-o",
        dir,
        "--listen",
        "127.0.0.1:0",
    ];
    let mut child = command(&scene.home(), &args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{stderr}");
    assert!(stderr.contains("nobody reads the events"), "{stderr}");
}

#[test]
fn a_short_download_tells_how_long_it_took() {
    let scene = Scene::set(Shape::Single, "--v1");
    let (_seeder, honest) = scene.seed("1GiB");
    let mut ours = scene.get(&[scene.torrent(), "--peer", &honest]);
    let done = ours.wait_for("done");
    assert!(done["seconds"].as_f64() > Some(0.0), "{done}");
    ours.end().assert(0, &[]);
}
