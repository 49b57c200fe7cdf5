//! Places where nothing can be written, or something else lies: it is named, kept, and nothing is lost.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use crate::machine;
use crate::payload::Shape;
use crate::scene::Scene;

/// A file system in memory of its own, for as long as this lives.
struct Mounted(PathBuf);

impl Mounted {
    /// `None` if we may not mount, which only the superuser may: said, and a failure in CI.
    fn new(at: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let is_mounted = mount(at, options).is_some_and(|status| status.success());
        let may_mount = machine::has("root to mount file systems", is_mounted);
        may_mount.then(|| Self(at.to_owned()))
    }

    fn remount(&self, options: &str) {
        let status = mount(&self.0, &format!("remount,{options}")).unwrap();
        assert!(status.success());
    }
}

fn mount(at: &Path, options: &str) -> Option<ExitStatus> {
    let mut command = Command::new("mount");
    command
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(at);
    command.status().ok()
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_named_and_the_download_goes_on_when_there_is_room() {
    let scene = Scene::set(Shape::Single, "--hybrid");
    let Some(disk) = Mounted::new(&scene.taken(), "size=1m") else {
        return;
    };
    let (_seeder, honest) = scene.seed("100MiB");
    let args = [scene.torrent(), "--peer", &honest];
    let full = scene.get(&args).end();
    full.assert(
        9,
        &[
            "no space left for",
            "single file.bin",
            "hint: nothing is lost",
        ],
    );
    disk.remount("size=16m");
    let mut ours = scene.get(&args);
    let done = ours.wait_for("done");
    ours.end().assert(0, &[]);
    let anew = done["downloaded_bytes"].as_u64().unwrap();
    assert!(anew < scene.payload.len_bytes(), "{done}");
    scene.assert_taken();
}

#[test]
fn a_file_that_is_changed_while_it_is_seeded_is_named() {
    let scene = Scene::set(Shape::Single, "--v1");
    let (mut seeder, honest) = scene.seed("100MiB");
    let path = scene.payload.path();
    let mut bytes = fs::read(&path).unwrap();
    bytes[70_000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let _getter = scene.get(&[scene.torrent(), "--peer", &honest]);
    let told = seeder.wait_for("file_changed");
    assert_eq!(told["path"], path.to_str().unwrap(), "{told}");
    let told = seeder.wait_for("fault");
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("was changed by another program"), "{told}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_read_only_folder_is_named() {
    let scene = Scene::set(Shape::Many, "--v1");
    let Some(disk) = Mounted::new(&scene.taken(), "size=16m,ro") else {
        return;
    };
    let (_seeder, honest) = scene.seed("100MiB");
    let args = [scene.torrent(), "--peer", &honest];
    let refused = scene.get(&args).end();
    refused.assert(9, &["taken/here", "ead-only file system"]);
    disk.remount("rw");
    scene.get(&args).end().assert(0, &[]);
    scene.assert_taken();
}

/// With `place` put where the torrent wants to write, `get` refuses and names it, and `is_kept` holds after.
fn check_in_the_way(
    shape: Shape,
    place: impl Fn(&Path),
    is_kept: impl Fn(&Path) -> bool,
    named: &str,
) {
    let scene = Scene::set(shape, "--hybrid");
    let taken = scene.taken();
    fs::create_dir_all(&taken).unwrap();
    place(&taken);
    let (_seeder, honest) = scene.seed("100MiB");
    let ended = scene.get(&[scene.torrent(), "--peer", &honest]).end();
    ended.assert(11, &[named, "in the way", "nothing was overwritten"]);
    assert!(is_kept(&taken), "{named} is harmed");
}

#[test]
fn a_directory_in_the_place_of_a_file_stays() {
    let path = |taken: &Path| taken.join("single file.bin");
    check_in_the_way(
        Shape::Single,
        |taken| fs::create_dir(path(taken)).unwrap(),
        |taken| path(taken).is_dir(),
        "single file.bin",
    );
}

#[test]
fn a_file_in_the_place_of_a_directory_stays() {
    let path = |taken: &Path| taken.join("many");
    check_in_the_way(
        Shape::Many,
        |taken| fs::write(path(taken), b"mine").unwrap(),
        |taken| fs::read(path(taken)).unwrap() == b"mine",
        "many",
    );
}

#[test]
fn a_foreign_file_stays() {
    let path = |taken: &Path| taken.join("many/b/deep/other.bin");
    for len in [1, 700_000, 800_000] {
        let mine = vec![b'm'; len];
        check_in_the_way(
            Shape::Many,
            |taken| {
                fs::create_dir_all(path(taken).parent().unwrap()).unwrap();
                fs::write(path(taken), &mine).unwrap();
            },
            |taken| fs::read(path(taken)).unwrap() == mine,
            "other.bin",
        );
    }
}

#[test]
fn a_fifo_stays_and_is_not_waited_for() {
    let path = |taken: &Path| taken.join("single file.bin");
    check_in_the_way(
        Shape::Single,
        |taken| {
            let status = Command::new("mkfifo").arg(path(taken)).status().unwrap();
            assert!(status.success());
        },
        |taken| {
            fs::symlink_metadata(path(taken))
                .unwrap()
                .file_type()
                .is_fifo()
        },
        "single file.bin",
    );
}

#[test]
fn a_second_process_keeps_away_from_the_first_ones_files() {
    let scene = Scene::set(Shape::Single, "--v1");
    let (_seeder, honest) = scene.seed("1MiB");
    let args = [scene.torrent(), "--peer", &honest];
    let mut first = scene.get(&args);
    first.wait_for("progress");
    let second = scene.get(&args).end();
    second.assert(11, &["used by another process", "hint: the other process"]);
    first.wait_for("done");
    first.end().assert(0, &[]);
    scene.assert_taken();
}
