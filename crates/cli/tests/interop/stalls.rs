//! What a user is told of a download to which nothing comes.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::machine::{self, works};
use crate::payload::Shape;
use crate::riverrun::Riverrun;
use crate::scene::Scene;

/// What was said of a download that nobody gave anything: the code with its details, and the error in the end.
fn told(get: Riverrun) -> (Value, String) {
    let ended = get.end();
    let mut stalled = ended
        .events
        .iter()
        .filter(|event| event["event"] == "stalled");
    let stalled = stalled
        .next_back()
        .unwrap_or_else(|| panic!("no reason: {ended:#?}"));
    let error = ended.events.last().unwrap();
    let message = error["message"].as_str().unwrap();
    let why = stalled["message"].as_str().unwrap();
    ended.assert(7, &[why]);
    assert!(message.ends_with(why), "{message:?} does not say {why:?}");
    let reason = json!({ "code": stalled["code"], "details": stalled["details"] });
    (reason, why.to_owned())
}

#[test]
fn it_is_said_what_keeps_peers_away() {
    let scene = Scene::set(Shape::Single, "--v1");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    let seed = |name: &str, policy| {
        let args = ["--listen", "127.0.0.1:0", "--encryption", policy];
        let (seeder, addr) = scene.seed_in(None, name, &args);
        (seeder, addr.to_string())
    };
    let (_demands, demands) = seed("demands", "require");
    let (_refuses, refuses) = seed("refuses", "off");
    let proxy = format!("socks5://ann:secret@{nobody}");
    let get = |name: &str, peer: &str, more: [&str; 2]| {
        let alone = ["--no-dht", "--no-port-map", "--timeout", "10s"];
        let args = ["get", scene.torrent(), "-o", name, "--peer", peer];
        Riverrun::start(&scene.dir(name), &[&args[..], &alone, &more].concat())
    };
    // Each takes a while of its own: all at once.
    let runs = [
        get("a", &nobody, ["--encryption", "prefer"]),
        get("b", &demands, ["--proxy", &proxy]),
        get("c", &demands, ["--encryption", "off"]),
        get("d", &refuses, ["--encryption", "require"]),
    ];
    let [refused, proxied, plain, veiled] = runs.map(told);
    let unreachable = |change: &dyn Fn(&mut Value)| {
        let mut details = json!({
            "tried": 1, "refused": 0, "no_answer": 0, "no_way": 0, "hung_up": 0, "unfit": 0, "useless": 0, "other": 0,
            "encryption": "prefer",
        });
        change(&mut details);
        json!({ "code": "peers_unreachable", "details": details })
    };
    let expect = unreachable(&|details| details["refused"] = json!(1));
    assert_eq!(refused.0, expect);
    assert!(
        refused.1.ends_with("1 refused the connection"),
        "{refused:?}"
    );

    let (reason, why) = proxied;
    assert_eq!(reason["code"], "proxy_down");
    let start = format!("nobody can be reached: the proxy socks5://{nobody} cannot be reached: ");
    assert!(why.starts_with(&start), "{why}");

    for (policy, (reason, why), end) in [
        ("off", plain, "perhaps for want of encryption, which is off"),
        (
            "require",
            veiled,
            "perhaps because of encryption, which is required",
        ),
    ] {
        let expect = unreachable(&|details| {
            details["hung_up"] = json!(1);
            details["encryption"] = json!(policy);
        });
        assert_eq!(reason, expect, "{why}");
        assert!(why.ends_with(end), "{why}");
    }
}

#[test]
fn whoever_fetches_metadata_hears_who_is_asked_and_what_keeps_him_waiting() {
    let scene = Scene::set(Shape::Single, "--v1");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    let (_seeder, addr) = scene.seed_in(None, "seeder", &["--listen", "127.0.0.1:0"]);
    let link = scene.magnet();
    let fetch = |name: &str, peer: &str| {
        let alone = ["--no-dht", "--no-port-map", "--timeout", "8s"];
        let args = ["show", "--fetch", &link, "--peer", peer];
        Riverrun::start(&scene.dir(name), &[&args[..], &alone].concat())
    };
    // Each takes a while of its own: both at once.
    let runs = [("found", addr.to_string()), ("missed", nobody)];
    let [found, missed] = runs.map(|(name, peer)| fetch(name, &peer));
    let (found, missed) = (found.end(), missed.end());
    found.assert(0, &[": asking one peer\n", ": metadata found\n"]);
    let why = "no peer can be reached: 1 host tried in vain: 1 refused the connection\n";
    let keeps = format!(" s: {why}");
    missed.assert(5, &[": asking one peer\n", ": nothing for 5.", &keeps]);
    let nothing = missed.stderr.find(": nothing for 5.").unwrap();
    let end = missed.stderr.find("error: ").unwrap();
    assert!(
        nothing < end && missed.stderr[end..].contains(why),
        "{missed:#?}"
    );
    // What is said meanwhile is not what was asked for: that has stdout to itself.
    let name = scene.payload.path().file_name().unwrap().to_owned();
    let [shown] = &found.events[..] else {
        panic!("{found:#?}")
    };
    assert_eq!(shown["name"].as_str(), name.to_str());
    let [error] = &missed.events[..] else {
        panic!("{missed:#?}")
    };
    assert_eq!(
        (&error["event"], &error["code"]),
        (&json!("error"), &json!(5))
    );
}

/// A file system of its own, in a file, that can be made to take nothing more.
struct Volume(PathBuf);

impl Volume {
    /// Mounts one; `None`, and said, where that is not allowed.
    fn mount(image: &Path, at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        File::create(image).unwrap().set_len(32 << 20).unwrap();
        let (path, target) = (image.to_str().unwrap(), at.to_str().unwrap());
        let is_there = works("mkfs.ext4", &["-q", path])
            && works("mount", &["-o", "loop", path, target])
            && works("fsfreeze", &["--version"]);
        machine::has("root with mount, mkfs.ext4 and fsfreeze", is_there)
            .then(|| Self(at.to_path_buf()))
    }

    /// Whoever writes waits, until what is returned is dropped.
    fn freeze(&self) -> Frozen<'_> {
        let path = self.0.to_str().unwrap();
        assert!(works("fsfreeze", &["-f", path]));
        Frozen(path)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        works("umount", &[self.0.to_str().unwrap()]);
    }
}

struct Frozen<'a>(&'a str);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        works("fsfreeze", &["-u", self.0]);
    }
}

#[test]
fn a_disk_that_takes_nothing_is_named_as_what_holds_a_download_up() {
    let scene = Scene::set(Shape::Single, "--v1");
    let image = scene.dir("images").join("volume");
    let Some(volume) = Volume::mount(&image, &scene.home().join("taken")) else {
        return;
    };
    let (_seeder, addr) = scene.seed("1M");
    let mut get = scene.get(&[scene.torrent(), "--peer", &addr]);
    while get.wait_for("progress")["verified_bytes"] == 0 {}
    // Declared after the program, which could not even be killed while it waits for the disk.
    let frozen = volume.freeze();
    let stalled = get.wait_for("stalled");
    assert_eq!(stalled["code"], "disk_bound", "{stalled}");
    let waiting = stalled["details"]["waiting_bytes"].as_u64().unwrap();
    assert!(
        (1..=scene.payload.len_bytes()).contains(&waiting),
        "{stalled}"
    );
    drop(frozen);
    get.end().assert(0, &["the disk is behind"]);
    scene.assert_taken();
}
