//! `get` downloads from web servers (BEP 19), without any peer.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::clients::python;
use crate::payload::Shape;
use crate::riverrun::run;
use crate::scene::Scene;

/// A server of the files below a directory that knows ranges; gives its URL. Serves until the process ends.
fn serve(dir: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let dir = dir.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let dir = dir.clone();
            // Whoever asks may leave in the middle.
            std::thread::spawn(move || drop(answer(stream, &dir)));
        }
    });
    url
}

fn answer(mut stream: TcpStream, dir: &Path) -> std::io::Result<()> {
    let mut head = Vec::new();
    while (&stream).take(1).read_to_end(&mut head)? == 1 {
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        head.clear();
        let path = text.split(' ').nth(1).unwrap_or_default();
        let range = text.lines().find_map(|line| {
            let (first, last) = line.strip_prefix("range: bytes=")?.split_once('-')?;
            Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?))
        });
        let (Ok(file), Some((first, last))) = (std::fs::read(place(dir, path)), range) else {
            write!(stream, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        };
        write!(
            stream,
            "HTTP/1.1 206 Part\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{last}/{}\r\n\r\n",
            last + 1 - first,
            file.len()
        )?;
        stream.write_all(&file[first..=last])?;
    }
    Ok(())
}

/// The file that an escaped path names.
fn place(dir: &Path, path: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = path.trim_start_matches('/').bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || char::from(rest.next().unwrap_or(b'0')).to_digit(16);
        bytes.push(match byte {
            b'%' => u8::try_from(digit().unwrap_or(0) * 16 + digit().unwrap_or(0)).unwrap_or(0),
            byte => byte,
        });
    }
    dir.join(String::from_utf8_lossy(&bytes).as_ref())
}

#[test]
fn torrents_of_every_version_come_from_a_web_server_alone() {
    for version in ["--v1", "--v2", "--hybrid"] {
        for shape in [Shape::Many, Shape::Single] {
            let scene = Scene::set(shape, version);
            let url = serve(scene.payload.parent());
            let ours = scene.get(&[scene.torrent(), "--web-seed", &url]).end();
            ours.assert(0, &[]);
            scene.assert_taken();
        }
    }
}

/// The server of Python's library, which sends whole files only.
struct Python {
    child: Child,
    url: String,
}

impl Python {
    fn start(dir: &Path) -> Option<Self> {
        let mut child = Command::new(python()?)
            .args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1"])
            .current_dir(dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut said).unwrap();
        let url = said.split(['(', ')']).nth(1).unwrap().to_owned();
        Some(Self { child, url })
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_that_sends_whole_files_only_is_enough() {
    let scene = Scene::set(Shape::Many, "--v1");
    let Some(server) = Python::start(scene.payload.parent()) else {
        eprintln!("skipped: no interpreter of Python");
        return;
    };
    let ours = scene.get(&[scene.torrent(), "--web-seed", &server.url]);
    ours.end().assert(0, &[]);
    scene.assert_taken();
}

#[test]
fn what_a_torrent_names_is_not_asked_on_this_machine_and_the_reason_is_told() {
    let scene = Scene::set(Shape::Single, "--v1");
    let url = serve(scene.payload.parent());
    run(
        &scene.home(),
        &["edit", scene.torrent(), "--add-web-seed", &url],
    );
    let mut ours = scene.get(&[scene.torrent(), "--timeout", "2m"]);
    let failed = ours.wait_for("web_seed_failed");
    assert_eq!(failed["url"], url);
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("leads to 127.0.0.1"), "{message}");
    assert!(failed["retry_secs"].is_u64(), "{failed}");
    ours.kill();
    let none = ["--no-web-seeds", "--web-seed", &url, "--timeout", "1s"];
    let ended = scene.get(&[&[scene.torrent()], &none[..]].concat()).end();
    assert_ne!(ended.code, Some(0));
    let told = |event: &serde_json::Value| event["event"] == "web_seed_failed";
    assert!(!ended.events.iter().any(told));
}
