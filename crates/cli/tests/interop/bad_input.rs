//! Arguments that are no torrents, torrents that nobody has, and several at once of which one is bad.

use std::fs;

use riverrun_metainfo::Metainfo;

use crate::payload::Shape;
use crate::scene::{Scene, seed};
use crate::web::{Answer, serve};

#[test]
fn a_broken_torrent_is_named_and_the_others_come() {
    let scene = Scene::set(Shape::Single, "--hybrid");
    let broken = scene.home().join("broken.torrent");
    fs::write(&broken, b"d4:infod6:lengthi-1eee").unwrap();
    let alone = scene.get(&["broken.torrent"]).end();
    alone.assert(4, &["error: broken.torrent: "]);
    let (_seeder, honest) = scene.seed("100MiB");
    let ended = scene
        .get(&["broken.torrent", scene.torrent(), "--peer", &honest])
        .end();
    ended.assert(4, &["error: broken.torrent: "]);
    assert_eq!(
        ended.stderr.matches("error: ").count(),
        1,
        "{}",
        ended.stderr
    );
    scene.assert_taken();
}

#[test]
fn a_torrent_whose_place_is_taken_is_named_and_the_others_come() {
    let (scene, other) = (
        Scene::set(Shape::Single, "--v1"),
        Scene::set(Shape::Many, "--v1"),
    );
    let in_the_way = scene.taken().join("single file.bin");
    fs::create_dir_all(&in_the_way).unwrap();
    let (_seeder, honest) = other.seed("100MiB");
    let ended = scene
        .get(&[scene.torrent(), other.torrent(), "--peer", &honest])
        .end();
    ended.assert(11, &["single file.bin", "nothing was overwritten"]);
    assert_eq!(fs::read_dir(in_the_way).unwrap().count(), 0);
    other.payload.assert_copied_to(&scene.taken(), true);
}

#[test]
fn a_magnet_link_that_nobody_knows_is_not_found() {
    let scene = Scene::set(Shape::Single, "--v1");
    let hash = "a".repeat(40);
    let link = format!("magnet:?xt=urn:btih:{hash}");
    let ended = scene.get(&[&link, "--timeout", "1s"]).end();
    ended.assert(
        5,
        &[
            &hash,
            "metadata",
            "not found after 1",
            "hint: add a tracker",
        ],
    );
}

#[test]
fn an_info_hash_and_a_peer_are_enough() {
    let scene = Scene::set(Shape::Many, "--hybrid");
    let metainfo = Metainfo::from_bytes(&fs::read(scene.torrent()).unwrap()).unwrap();
    let hashes = metainfo.info.hashes();
    let (_seeder, honest) = scene.seed("100MiB");
    for hash in [
        hashes.v1().unwrap().to_string(),
        hashes.v2().unwrap().to_string(),
    ] {
        let ended = scene.get(&[&hash, "--peer", &honest]).end();
        ended.assert(0, &[]);
        assert!(ended.events.iter().any(|event| event["event"] == "done"));
        scene.assert_taken();
        fs::remove_dir_all(scene.dir("ours")).unwrap();
    }
}

/// Only what is selected is there afterwards.
fn check_selection(scene: &Scene, source: &str) {
    let (_seeder, honest) = scene.seed("100MiB");
    let ended = scene
        .get(&[
            source,
            "-s",
            "b/deep/other.bin",
            "-s",
            "z/*",
            "--peer",
            &honest,
        ])
        .end();
    ended.assert(0, &[]);
    let (taken, published) = (scene.taken().join("many"), scene.payload.path());
    for path in ["b/deep/other.bin", "z/last", "z/also empty"] {
        let read = |root: &std::path::Path| fs::read(root.join(path)).unwrap();
        assert!(read(&taken) == read(&published), "{path}");
    }
    for path in ["README", "a", "b/deep/deeper/large.bin", "b/ünïcödé 名前"] {
        let found = fs::metadata(taken.join(path));
        // In a hybrid no piece is shared with a file that is wanted.
        assert!(found.is_err(), "{path}: {found:?}");
    }
}

#[test]
fn only_selected_files_come_from_a_torrent() {
    let scene = Scene::set(Shape::Many, "--hybrid");
    check_selection(&scene, scene.torrent());
}

#[test]
fn only_selected_files_come_from_a_magnet_link() {
    let scene = Scene::set(Shape::Many, "--hybrid");
    check_selection(&scene, &scene.magnet());
}

#[test]
fn only_selected_files_come_from_a_torrent_of_the_web() {
    let scene = Scene::set(Shape::Many, "--hybrid");
    let torrent = fs::read(scene.torrent()).unwrap();
    let url = format!(
        "http://{}/payload.torrent",
        serve(Answer::Body(200, torrent))
    );
    check_selection(&scene, &url);
}

#[test]
fn a_selection_of_nothing_is_wrong_usage() {
    let scene = Scene::set(Shape::Many, "--v1");
    let (_seeder, honest) = scene.seed("100MiB");
    for source in [scene.torrent(), &scene.magnet()] {
        let ended = scene.get(&[source, "-s", "*.iso", "--peer", &honest]).end();
        ended.assert(2, &["no file of many matches"]);
    }
}

#[test]
fn a_torrent_comes_from_the_web() {
    let scene = Scene::set(Shape::Many, "--v2");
    let torrent = fs::read(scene.torrent()).unwrap();
    let url = format!(
        "http://{}/payload.torrent",
        serve(Answer::Body(200, torrent))
    );
    let (_seeder, honest) = scene.seed("100MiB");
    scene.get(&[&url, "--peer", &honest]).end().assert(0, &[]);
    scene.assert_taken();
}

#[test]
fn a_web_server_without_the_torrent_is_named_and_the_others_come() {
    let page = || Answer::Body(200, b"<!doctype html><p>Not here".to_vec());
    for (answer, code, said) in [
        (Answer::Body(404, b"no".to_vec()), 8, "404"),
        (page(), 4, "not a valid torrent"),
        (Answer::Close, 8, "cannot fetch"),
        (Answer::Silence, 8, "no answer after"),
    ] {
        let scene = Scene::set(Shape::Single, "--v1");
        let url = format!("http://{}/x.torrent", serve(answer));
        let (_seeder, honest) = scene.seed("100MiB");
        let ended = scene
            .get(&[&url, scene.torrent(), "--peer", &honest, "--timeout", "8s"])
            .end();
        ended.assert(code, &[said, &url]);
        scene.assert_taken();
    }
}

/// A torrent of one file with this name, made by hand: `create` would not.
fn single(name: &str, bytes: &[u8]) -> Vec<u8> {
    let digest = riverrun_hash::sha1(bytes);
    let mut torrent = format!(
        "d4:infod6:lengthi{}e4:name{}:{name}12:piece lengthi65536e6:pieces20:",
        bytes.len(),
        name.len()
    )
    .into_bytes();
    torrent.extend_from_slice(&digest.0);
    torrent.extend_from_slice(b"ee");
    torrent
}

#[test]
fn names_that_no_file_system_takes_are_made_to_fit() {
    let bytes = vec![7; 60_000];
    for name in [
        "x".repeat(300),
        "名".repeat(85),
        "名".repeat(100),
        "ö".repeat(127) + ".mkv",
    ] {
        let scene = Scene::set(Shape::Single, "--v1");
        let torrent = single(&name, &bytes);
        let metainfo = Metainfo::from_bytes(&torrent).unwrap();
        let path = scene.home().join("named.torrent");
        fs::write(&path, &torrent).unwrap();
        let given = scene.dir("given");
        let ours = metainfo.info.layout().files()[0].path.to_path_buf();
        fs::write(given.join(&ours), &bytes).unwrap();
        let path = path.to_str().unwrap();
        let (_seeder, honest) = seed(&scene.dir("seeder"), path, &given, "100MiB");
        scene.get(&[path, "--peer", &honest]).end().assert(0, &[]);
        assert_eq!(
            fs::read(scene.taken().join(&ours)).unwrap(),
            bytes,
            "{name}"
        );
    }
}
