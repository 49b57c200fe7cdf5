//! Trackers are asked how many peers a torrent has.

use riverrun_engine::ScrapeCounts;
use serde_json::Value;
use tempfile::TempDir;

use crate::payload::{Payload, Shape};
use crate::riverrun::{Riverrun, command, run};
use crate::tracker::Tracker;

#[test]
fn a_scrape_counts_who_is_there_over_http_and_udp() {
    let dir = TempDir::new().unwrap();
    let (home, tracker) = (dir.path(), Tracker::start());
    let payload = Payload::write(home, Shape::Single, 3);
    let torrent = home.join("payload.torrent");
    let tiers = format!("{},{}", tracker.http(), tracker.udp());
    let (path, output) = (payload.path(), torrent.to_str().unwrap());
    run(
        home,
        &[
            "create",
            path.to_str().unwrap(),
            "-o",
            output,
            "--v1",
            "-t",
            &tiers,
            "-q",
        ],
    );
    let (_seeder, _) = Riverrun::seed(home, &torrent, payload.parent());
    tracker.wait_for_peers(1);

    let shown = run(home, &["--json", "show", "--scrape", output]);
    let events: Vec<Value> = shown
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let expected = ScrapeCounts {
        seeders: Some(1),
        leechers: Some(0),
        downloaded: Some(0),
        ..ScrapeCounts::default()
    };
    for (event, url) in events[1..].iter().zip([tracker.http(), tracker.udp()]) {
        assert_eq!(
            (&event["event"], &event["tracker"]),
            (&"scrape".into(), &url.into())
        );
        assert_eq!(event["seeders"], Value::from(expected.seeders), "{event}");
        assert_eq!(event["leechers"], Value::from(expected.leechers), "{event}");
        assert_eq!(
            event["downloaded"],
            Value::from(expected.downloaded),
            "{event}"
        );
    }
    assert_eq!(events.len(), 3);
}

#[test]
fn no_tracker_that_answers_is_a_failure_of_the_network() {
    let dir = TempDir::new().unwrap();
    let link = "magnet:?xt=urn:btih:0efbab84cc74084b9716206db42fc1ad5cf2b889";
    let ran = |link: &str| {
        command(dir.path(), &["show", "--scrape", link])
            .output()
            .unwrap()
    };
    let output = ran(link);
    assert_eq!(output.status.code(), Some(5));
    let output = ran(&format!("{link}&tr=http%3A%2F%2F127.0.0.1%3A1%2Fannounce"));
    assert_eq!(output.status.code(), Some(8));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("127.0.0.1:1"), "{text}");
}
