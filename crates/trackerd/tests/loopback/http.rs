//! The tracker over HTTP, on loopback.

use std::net::SocketAddr;

use riverrun_tracker::http::{announce_url, parse_announce, parse_scrape, scrape_url};
use riverrun_tracker::server::SwarmsConfig;
use riverrun_tracker::{
    AnnounceEvent, AnnounceRequest, AnnounceResponse, Retry, TrackerFailure, TrackerUrl,
};
use riverrun_trackerd::{Trackerd, TrackerdError, TrackerdStats, Transport};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::clients::{INFO_HASH, announce, get, has_ipv6, loopback_v6, read_answer, tracker};

fn url(tracker: SocketAddr) -> TrackerUrl {
    format!("http://{tracker}/announce").parse().unwrap()
}

/// What of a URL goes into a request.
fn target(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap();
    &rest[rest.find('/').unwrap()..]
}

async fn ask(
    tracker: SocketAddr,
    request: &AnnounceRequest,
) -> Result<AnnounceResponse, TrackerFailure> {
    let (status, body) = get(tracker, target(&announce_url(&url(tracker), request))).await;
    assert_eq!(status, 200);
    parse_announce(&body)
}

fn names(response: &AnnounceResponse) -> Vec<String> {
    response.peers.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_peer_starts_completes_and_stops() {
    let running = tracker().start().await.unwrap();
    let http = running.http_addrs()[0];
    let first = ask(http, &announce(1001, AnnounceEvent::Started, 5))
        .await
        .unwrap();
    assert_eq!(
        (first.peers.len(), first.seeders, first.leechers),
        (0, Some(0), Some(1))
    );
    assert_eq!(first.external_ip, Some("127.0.0.1".parse().unwrap()));
    assert!(first.interval >= SwarmsConfig::default().interval);

    let second = ask(http, &announce(1002, AnnounceEvent::Started, 5))
        .await
        .unwrap();
    assert_eq!(names(&second), ["127.0.0.1:1001"]);
    let completed = ask(http, &announce(1001, AnnounceEvent::Completed, 0))
        .await
        .unwrap();
    assert_eq!(
        (completed.seeders, completed.downloaded),
        (Some(1), Some(1))
    );
    ask(http, &announce(1003, AnnounceEvent::Started, 0))
        .await
        .unwrap();
    let seed = ask(http, &announce(1003, AnnounceEvent::None, 0))
        .await
        .unwrap();
    assert_eq!(names(&seed), ["127.0.0.1:1002"], "no seeds for seeds");

    let scrape = scrape_url(&url(http), &[INFO_HASH]).unwrap();
    let (_, body) = get(http, target(&scrape)).await;
    let counts = parse_scrape(&body).unwrap().counts(INFO_HASH).unwrap();
    assert_eq!(
        (counts.seeders, counts.leechers, counts.downloaded),
        (Some(2), Some(1), Some(1))
    );

    let stopped = ask(http, &announce(1001, AnnounceEvent::Stopped, 0))
        .await
        .unwrap();
    assert_eq!((stopped.peers.len(), stopped.seeders), (0, Some(1)));
    let stats = TrackerdStats {
        torrents: 1,
        peers: 2,
        seeds: 1,
        announces: 6,
        scrapes: 1,
        ..TrackerdStats::default()
    };
    assert_eq!(running.stats(), stats);
    running.shutdown().await;
}

#[tokio::test]
async fn peers_of_both_families_hear_of_each_other_over_http() {
    if !has_ipv6().await {
        return;
    }
    let running = tracker().http(loopback_v6()).start().await.unwrap();
    let [v4, v6] = running.http_addrs() else {
        panic!("two addresses")
    };
    ask(*v4, &announce(1001, AnnounceEvent::Started, 5))
        .await
        .unwrap();
    let from_v6 = ask(*v6, &announce(1002, AnnounceEvent::Started, 5))
        .await
        .unwrap();
    assert_eq!(names(&from_v6), ["127.0.0.1:1001"]);
    assert_eq!(from_v6.external_ip, Some(v6.ip()));
    let from_v4 = ask(*v4, &announce(1001, AnnounceEvent::None, 5))
        .await
        .unwrap();
    assert_eq!(names(&from_v4), ["[::1]:1002"]);
}

#[tokio::test]
async fn pages_for_people_are_there() {
    let running = tracker().start().await.unwrap();
    let http = running.http_addrs()[0];
    let (status, body) = get(http, "/").await;
    assert!(status == 200 && body.starts_with(b"This is a BitTorrent tracker."));
    let (status, body) = get(http, "/stats").await;
    let expected = r#"{"torrents":0,"peers":0,"seeds":0,"announces":0,"scrapes":0,"refused":0}"#;
    assert_eq!((status, body), (200, expected.as_bytes().to_vec()));
    let (status, body) = get(http, "/favicon.ico").await;
    let refused = parse_announce(&body).unwrap_err();
    assert_eq!(status, 404);
    assert!(refused.is_final(), "{refused}");
}

#[tokio::test]
async fn bad_requests_are_refused_in_the_protocols_own_words() {
    let running = tracker().start().await.unwrap();
    let http = running.http_addrs()[0];
    let check = async |target: &str, expected: &str| {
        let (status, body) = get(http, target).await;
        let reason = expected.to_owned();
        let refused = TrackerFailure::Refused {
            reason,
            retry: None,
        };
        assert_eq!(
            (status, parse_announce(&body)),
            (200, Err(refused)),
            "{target}"
        );
    };
    check("/announce", "missing peer_id of 20 bytes").await;
    check("/announce?info_hash=short", "invalid info_hash").await;
    check("/scrape", "a scrape needs an info_hash").await;
    let long = format!("/announce?{}", "x".repeat(9000));
    check(
        &long,
        "a request of 9010 bytes where at most 8192 are accepted",
    )
    .await;
    assert_eq!(running.stats().refused, 4);
}

#[tokio::test]
async fn oversized_and_broken_heads_end_the_connection() {
    let running = tracker().start().await.unwrap();
    let http = running.http_addrs()[0];
    for (request, expected) in [
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000)), 431),
        (
            format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(70_000)),
            431,
        ),
        ("\x16\x03\x01 this is TLS\r\n\r\n".to_owned(), 400),
        (
            "POST /announce HTTP/1.1\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"
                .to_owned(),
            405,
        ),
    ] {
        let mut stream = TcpStream::connect(http).await.unwrap();
        let (mut read, mut write) = stream.split();
        let mut answer = Vec::new();
        // The tracker may end the connection before it has read everything: both errors are fine then.
        let (_, _) = tokio::join!(
            write.write_all(request.as_bytes()),
            read.read_to_end(&mut answer)
        );
        let status = format!("HTTP/1.1 {expected} ");
        let start: String = request.chars().take(20).collect();
        assert!(
            answer.is_empty() || answer.starts_with(status.as_bytes()),
            "{start}"
        );
    }
    assert_eq!(get(http, "/").await.0, 200, "nobody else is disturbed");
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let running = tracker().start().await.unwrap();
    let http = running.http_addrs()[0];
    let mut stream = TcpStream::connect(http).await.unwrap();
    for _ in 0..3 {
        stream
            .write_all(b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let (mut answer, mut part) = (Vec::new(), [0; 1024]);
        while !answer.ends_with(b"}") {
            let len = stream.read(&mut part).await.unwrap();
            assert!(len > 0, "still open");
            answer.extend_from_slice(&part[..len]);
        }
    }
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(read_answer(&mut stream).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn who_sends_no_request_is_cut_off() {
    let running = tracker().start().await.unwrap();
    let http = running.http_addrs()[0];
    for (head, answered) in [
        ("", false),
        ("GET / HT", false),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\nGET", true),
    ] {
        let mut stream = TcpStream::connect(http).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The clock is virtual: it runs on when everybody waits.
        let ended = stream.read_to_end(&mut answer).await;
        assert!(
            ended.is_ok() || ended.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset)
        );
        assert_eq!(answer.starts_with(b"HTTP/1.1 200 "), answered, "{head}");
    }
}

#[tokio::test]
async fn idle_connections_make_room_for_new_ones() {
    let running = tracker().connections_max(100, 2).start().await.unwrap();
    let http = running.http_addrs()[0];
    let mut idle = TcpStream::connect(http).await.unwrap();
    let mut others = Vec::new();
    for _ in 0..2 {
        others.push(TcpStream::connect(http).await.unwrap());
    }
    assert_eq!(
        idle.read(&mut [0; 1]).await.unwrap_or(0),
        0,
        "the first was closed"
    );
    assert_eq!(get(http, "/").await.0, 200);
}

#[tokio::test]
async fn a_full_tracker_says_when_to_come_back() {
    let config = SwarmsConfig {
        torrents_max: 0,
        ..SwarmsConfig::default()
    };
    let running = tracker().swarms(config).start().await.unwrap();
    let refused = ask(
        running.http_addrs()[0],
        &announce(1, AnnounceEvent::Started, 5),
    )
    .await;
    let Err(TrackerFailure::Refused {
        retry: Some(Retry::After(_)),
        ..
    }) = refused
    else {
        panic!("a refusal, not {refused:?}")
    };
}

#[tokio::test]
async fn a_port_in_use_is_named_in_the_error() {
    let running = tracker().start().await.unwrap();
    let taken = running.http_addrs()[0];
    match Trackerd::builder().http(taken).start().await {
        Err(TrackerdError::Listen {
            addr,
            transport: Transport::Http,
            ..
        }) => assert_eq!(addr, taken),
        other => panic!("an error, not {other:?}"),
    }
    let nowhere = Trackerd::builder().start().await;
    assert!(matches!(nowhere, Err(TrackerdError::NowhereToListen)));
    running.shutdown().await;
    assert!(
        TcpStream::connect(taken).await.is_err(),
        "nobody listens any more"
    );
}
