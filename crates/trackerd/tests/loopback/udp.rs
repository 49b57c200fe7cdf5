//! The tracker over UDP, on loopback, through the client of the protocol crate.

use riverrun_base::{InfoHash, Rng};
use riverrun_tracker::http::parse_announce;
use riverrun_tracker::{AnnounceEvent, AnnounceRequest, AnnounceResponse, TrackerFailure};

use crate::clients::{
    INFO_HASH, UdpClient, announce, get, has_ipv6, loopback_v4, loopback_v6, tracker,
};

fn names(response: &AnnounceResponse) -> Vec<String> {
    response.peers.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_peer_starts_completes_and_stops() {
    let running = tracker().start().await.unwrap();
    let udp = running.udp_addrs()[0];
    let mut client = UdpClient::bind(loopback_v4()).await;
    let first = client
        .announce(udp, announce(1001, AnnounceEvent::Started, 5))
        .await
        .unwrap();
    assert_eq!(
        (first.peers.len(), first.seeders, first.leechers),
        (0, Some(0), Some(1))
    );
    let second = client
        .announce(udp, announce(1002, AnnounceEvent::Started, 0))
        .await
        .unwrap();
    assert_eq!(names(&second), ["127.0.0.1:1001"]);
    let completed = client
        .announce(udp, announce(1001, AnnounceEvent::Completed, 0))
        .await
        .unwrap();
    assert_eq!((completed.peers.len(), completed.seeders), (0, Some(2)));
    client
        .announce(udp, announce(1002, AnnounceEvent::Stopped, 0))
        .await
        .unwrap();
    let scrape = client.scrape(udp, &[INFO_HASH, InfoHash([0; 20])]).await;
    let counts = scrape.counts(INFO_HASH).unwrap();
    assert_eq!(
        (counts.seeders, counts.leechers, counts.downloaded),
        (Some(1), Some(0), Some(1))
    );
    let stats = running.stats();
    assert_eq!((stats.announces, stats.scrapes, stats.peers), (4, 1, 1));
    running.shutdown().await;
}

#[tokio::test]
async fn udp_and_http_share_their_swarms() {
    let running = tracker().start().await.unwrap();
    let mut client = UdpClient::bind(loopback_v4()).await;
    let started = announce(1001, AnnounceEvent::Started, 5);
    client
        .announce(running.udp_addrs()[0], started)
        .await
        .unwrap();
    let (_, body) = get(
        running.http_addrs()[0],
        "/announce?info_hash=hhhhhhhhhhhhhhhhhhhh&peer_id=pppppppppppppppppppp&port=1002&left=1",
    )
    .await;
    assert_eq!(names(&parse_announce(&body).unwrap()), ["127.0.0.1:1001"]);
}

#[tokio::test]
async fn each_address_family_has_its_own_peers() {
    if !has_ipv6().await {
        return;
    }
    let running = tracker().udp(loopback_v6()).start().await.unwrap();
    let [v4, v6] = running.udp_addrs() else {
        panic!("two addresses")
    };
    let mut client_v4 = UdpClient::bind(loopback_v4()).await;
    let mut client_v6 = UdpClient::bind(loopback_v6()).await;
    for port in [1001, 1002] {
        client_v4
            .announce(*v4, announce(port, AnnounceEvent::Started, 5))
            .await
            .unwrap();
        client_v6
            .announce(*v6, announce(port, AnnounceEvent::Started, 5))
            .await
            .unwrap();
    }
    let from_v4 = client_v4
        .announce(*v4, announce(1001, AnnounceEvent::None, 5))
        .await
        .unwrap();
    let from_v6 = client_v6
        .announce(*v6, announce(1001, AnnounceEvent::None, 5))
        .await
        .unwrap();
    assert_eq!(
        (names(&from_v4), names(&from_v6)),
        (vec!["127.0.0.1:1002".into()], vec!["[::1]:1002".into()])
    );
    assert_eq!(from_v4.leechers, Some(4));
}

#[tokio::test]
async fn garbage_and_forged_ids_are_not_answered() {
    let running = tracker().start().await.unwrap();
    let udp = running.udp_addrs()[0];
    let mut client = UdpClient::bind(loopback_v4()).await;
    let mut rng = Rng::new(1);
    for len in (0..200).chain([1500, 2048, 4000]) {
        let mut garbage = vec![0; len];
        rng.fill(&mut garbage);
        client.send(udp, &garbage).await;
        // An announce, but for its connection id.
        if let Some(action) = garbage.get_mut(8..12) {
            action.copy_from_slice(&[0, 0, 0, 1]);
            client.send(udp, &garbage).await;
        }
        // Loopback keeps the order: were the garbage answered, that would come first.
        let mut connect = [
            0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        rng.fill(&mut connect[12..]);
        client.send(udp, &connect).await;
        let (answer, from) = client.receive().await;
        let expected = [&[0; 4], &connect[12..]].concat();
        assert_eq!(
            (answer.len(), &answer[..8], from),
            (16, &expected[..], udp),
            "{len}"
        );
    }
    assert!(
        client
            .announce(udp, announce(1001, AnnounceEvent::Started, 5))
            .await
            .is_ok()
    );
    assert_eq!(running.stats().announces, 1);
}

#[tokio::test]
async fn a_peer_without_a_port_is_refused() {
    let running = tracker().start().await.unwrap();
    let mut client = UdpClient::bind(loopback_v4()).await;
    let request = AnnounceRequest {
        port: 0,
        ..announce(1, AnnounceEvent::Started, 5)
    };
    let refused = client.announce(running.udp_addrs()[0], request).await;
    let reason = "invalid port".to_owned();
    assert_eq!(
        refused,
        Err(TrackerFailure::Refused {
            reason,
            retry: None
        })
    );
    assert_eq!(running.stats().refused, 1);
}
