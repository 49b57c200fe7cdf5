//! What was decided in a download, recorded and decided again.

use crate::payload::Shape;
use crate::riverrun::{command, run};
use crate::scene::Scene;

const RECORD: [&str; 2] = ["--record", "decided"];

fn replay(scene: &Scene) -> (Option<i32>, String, String) {
    let args = ["simulate", "replay", RECORD[1]];
    let ran = command(&scene.home(), &args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (ran.status.code(), text(ran.stdout), text(ran.stderr))
}

#[test]
fn a_download_is_decided_again_as_it_was() {
    let scene = Scene::set(Shape::Single, "--hybrid");
    let (_seeder, honest) = scene.seed("50MiB");
    let args = [&[scene.torrent(), "--peer", &honest], &RECORD[..]].concat();
    let mut ours = scene.get(&args);
    ours.wait_for("done");
    ours.end().assert(0, &[]);
    let (code, stdout, stderr) = replay(&scene);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("decided as recorded"), "{stdout}");
    assert!(stdout.contains(": Stopped, "), "{stdout}");
    assert_eq!(stderr, "");
    let steps = run(&scene.home(), &["simulate", "replay", RECORD[1], "--json"]);
    assert!(steps.contains(r#""PieceVerified""#), "{steps}");

    // It is not recorded over.
    let again = scene.get(&args);
    again.end().assert(11, &["decided"]);
}

#[test]
fn a_download_that_was_killed_is_decided_again_up_to_there() {
    let scene = Scene::set(Shape::Single, "--v1");
    let (_seeder, honest) = scene.seed("600KiB");
    let mut ours = scene.get(&[&[scene.torrent(), "--peer", &honest], &RECORD[..]].concat());
    while ours.wait_for("progress")["verified_bytes"] == 0 {}
    ours.kill();
    let (code, stdout, stderr) = replay(&scene);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("decided as recorded"), "{stdout}");
    assert!(stdout.contains(": Downloading, "), "{stdout}");
    assert!(
        stderr.contains("the recording breaks off after "),
        "{stderr}"
    );
}
