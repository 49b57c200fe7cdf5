//! The UDP client against hand-made answers, in virtual time.

use proptest::prelude::*;
use riverrun_base::PeerId;

use super::*;
use crate::announce::{AnnounceEvent, AnnouncedEncryption};
use crate::udp::packet::{
    Request, push_announce_response, push_connect_response, push_counts, push_error,
    push_scrape_response,
};

const CONNECTION: ConnectionId = ConnectionId(77);

fn tracker() -> SocketAddr {
    "192.0.2.1:6969".parse().unwrap()
}

fn request() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash([1; 20]),
        peer_id: PeerId([2; 20]),
        port: 6881,
        uploaded: 0,
        downloaded: 0,
        left: None,
        event: AnnounceEvent::Started,
        num_want: None,
        key: 1,
        tracker_id: None,
        encryption: AnnouncedEncryption::None,
    }
}

fn client() -> UdpTracker {
    UdpTracker::new(UdpTrackerConfig::default(), 1)
}

fn announce(client: &mut UdpTracker, now: Time) -> JobId {
    client.announce(now, tracker(), request(), "").unwrap()
}

/// The next datagram that goes to the tracker.
fn sent(client: &mut UdpTracker) -> Vec<u8> {
    let mut out = Vec::new();
    assert_eq!(client.poll_transmit(&mut out), Some(tracker()));
    client.check_invariants();
    out
}

fn transaction_of(packet: &[u8]) -> TransactionId {
    match Request::parse(packet).unwrap() {
        Request::Connect(transaction)
        | Request::Announce(_, transaction, _)
        | Request::Scrape(_, transaction, _) => transaction,
    }
}

fn is_connect(packet: &[u8]) -> bool {
    matches!(Request::parse(packet), Some(Request::Connect(_)))
}

fn answer(packet: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match Request::parse(packet).unwrap() {
        Request::Connect(transaction) => push_connect_response(&mut out, transaction, CONNECTION),
        Request::Announce(CONNECTION, transaction, _) => {
            push_announce_response(&mut out, transaction, [900, 1, 2]);
        }
        Request::Scrape(CONNECTION, transaction, hashes) => {
            push_scrape_response(&mut out, transaction);
            for _ in hashes {
                push_counts(&mut out, [1, 2, 3]);
            }
        }
        request => panic!("not the connection id that was given: {request:?}"),
    }
    out
}

/// Answers all that is sent; gives how many datagrams there were.
fn answer_all(client: &mut UdpTracker, now: Time) -> usize {
    let (mut out, mut count) = (Vec::new(), 0);
    while let Some(to) = client.poll_transmit(&mut out) {
        client.handle_datagram(now, to, &answer(&out));
        client.check_invariants();
        count += 1;
    }
    count
}

/// Lets time pass until `end`; gives at which seconds something was sent, and whether it was a connect.
fn silence_until(client: &mut UdpTracker, end: Time) -> Vec<(u64, bool)> {
    let (mut out, mut sent) = (Vec::new(), Vec::new());
    while let Some(at) = client.poll_timeout().filter(|at| *at <= end) {
        client.handle_timeout(at);
        client.check_invariants();
        while client.poll_transmit(&mut out).is_some() {
            sent.push((at.as_micros() / 1_000_000, is_connect(&out)));
        }
    }
    sent
}

fn failure(client: &mut UdpTracker) -> Option<TrackerFailure> {
    match client.poll_event()? {
        UdpTrackerEvent::Announced { result, .. } => result.err(),
        UdpTrackerEvent::Scraped { result, .. } => result.err(),
    }
}

#[test]
fn an_announce_connects_first() {
    let mut client = client();
    let job = announce(&mut client, Time::ZERO);
    let connect = sent(&mut client);
    assert!(is_connect(&connect));
    assert_eq!(client.poll_transmit(&mut Vec::new()), None);
    client.handle_datagram(Time::ZERO, tracker(), &answer(&connect));
    let packet = sent(&mut client);
    client.handle_datagram(Time::ZERO, tracker(), &answer(&packet));
    let Some(UdpTrackerEvent::Announced {
        job: ended,
        result: Ok(response),
    }) = client.poll_event()
    else {
        panic!("an answer")
    };
    assert_eq!(
        (ended, response.seeders, response.leechers),
        (job, Some(2), Some(1))
    );
    assert_eq!((client.poll_timeout(), client.jobs_active()), (None, 0));
}

#[test]
fn jobs_for_one_endpoint_share_a_connect() {
    let mut client = client();
    announce(&mut client, Time::ZERO);
    announce(&mut client, Time::ZERO);
    client
        .scrape(Time::ZERO, tracker(), &[InfoHash([1; 20])])
        .unwrap();
    assert_eq!(answer_all(&mut client, Time::ZERO), 4);
    assert_eq!(client.jobs_active(), 0);
    assert_eq!(std::iter::from_fn(|| client.poll_event()).count(), 3);
}

#[test]
fn a_connection_id_is_used_for_a_minute() {
    let mut client = client();
    for (secs, datagrams) in [(0, 2), (1, 1), (59, 1), (60, 2), (61, 1)] {
        announce(&mut client, Time::from_secs(secs));
        assert_eq!(
            answer_all(&mut client, Time::from_secs(secs)),
            datagrams,
            "at {secs} s"
        );
    }
}

#[test]
fn a_silent_tracker_is_asked_at_the_times_of_bep_15() {
    let config = UdpTrackerConfig {
        retries_max: 20,
        ..UdpTrackerConfig::default()
    };
    let mut client = UdpTracker::new(config, 1);
    announce(&mut client, Time::ZERO);
    assert!(is_connect(&sent(&mut client)));
    let times: Vec<u64> = silence_until(&mut client, Time::FAR_FUTURE)
        .into_iter()
        .map(|(at, _)| at)
        .collect();
    assert_eq!(times, [15, 45, 105, 225, 465, 945, 1905, 3825]);
    assert_eq!(failure(&mut client), Some(TrackerFailure::TimedOut));
}

#[test]
fn a_tracker_that_falls_silent_is_connected_to_anew_once_its_id_is_old() {
    let config = UdpTrackerConfig {
        retries_max: 4,
        ..UdpTrackerConfig::default()
    };
    let mut client = UdpTracker::new(config, 1);
    announce(&mut client, Time::ZERO);
    let connect = sent(&mut client);
    client.handle_datagram(Time::from_secs(1), tracker(), &answer(&connect));
    let first = sent(&mut client);
    let times = silence_until(&mut client, Time::from_secs(300));
    // BEP 15's example, one second earlier: its announce is sent a second after the connection id.
    assert_eq!(times, [(16, false), (46, false), (106, true), (226, true)]);
    // A late answer to the first announce still counts.
    client.handle_datagram(Time::from_secs(301), tracker(), &answer(&first));
    assert_eq!((failure(&mut client), client.jobs_active()), (None, 0));
    client.check_invariants();
    assert_eq!(
        client.poll_timeout(),
        None,
        "nobody waits for the connection any more"
    );
}

#[test]
fn an_announce_gives_up_after_its_retries() {
    let mut client = client();
    announce(&mut client, Time::ZERO);
    let connect = sent(&mut client);
    client.handle_datagram(Time::ZERO, tracker(), &answer(&connect));
    sent(&mut client);
    assert_eq!(
        silence_until(&mut client, Time::FAR_FUTURE),
        [(15, false), (45, false)]
    );
    assert_eq!(failure(&mut client), Some(TrackerFailure::TimedOut));
    assert_eq!(client.poll_timeout(), None);
}

#[test]
fn answers_count_only_from_the_tracker_and_with_its_transaction() {
    let mut client = client();
    announce(&mut client, Time::ZERO);
    let connect = sent(&mut client);
    let good = answer(&connect);
    let mut other_transaction = good.clone();
    other_transaction[7] ^= 1;
    for (from, packet) in [
        ("192.0.2.1:6970", &good[..]),
        ("192.0.2.2:6969", &good),
        ("192.0.2.1:6969", &other_transaction),
        ("192.0.2.1:6969", &good[..15]),
        ("192.0.2.1:6969", &[]),
    ] {
        client.handle_datagram(Time::ZERO, from.parse().unwrap(), packet);
        assert_eq!(client.poll_transmit(&mut Vec::new()), None, "{from}");
    }
    // A dual-stack socket reports IPv4 senders as mapped.
    client.handle_datagram(
        Time::ZERO,
        "[::ffff:192.0.2.1]:6969".parse().unwrap(),
        &good,
    );
    assert!(!is_connect(&sent(&mut client)));
    client.handle_datagram(Time::ZERO, tracker(), &good);
    assert_eq!(
        client.poll_transmit(&mut Vec::new()),
        None,
        "an answer counts once"
    );
}

#[test]
fn an_answer_to_another_question_is_ignored() {
    let mut client = client();
    announce(&mut client, Time::ZERO);
    let connect = sent(&mut client);
    let mut wrong = Vec::new();
    push_announce_response(&mut wrong, transaction_of(&connect), [900, 1, 1]);
    client.handle_datagram(Time::ZERO, tracker(), &wrong);
    assert_eq!(client.poll_event(), None);
    client.handle_datagram(Time::ZERO, tracker(), &answer(&connect));
    let packet = sent(&mut client);
    let mut wrong = Vec::new();
    push_scrape_response(&mut wrong, transaction_of(&packet));
    client.handle_datagram(Time::ZERO, tracker(), &wrong);
    client.handle_datagram(Time::ZERO, tracker(), &answer(&packet)[..19]);
    assert_eq!(client.poll_event(), None);
}

#[test]
fn an_error_ends_the_job_and_the_connection() {
    let mut client = client();
    announce(&mut client, Time::ZERO);
    let connect = sent(&mut client);
    client.handle_datagram(Time::ZERO, tracker(), &answer(&connect));
    let mut error = Vec::new();
    push_error(
        &mut error,
        transaction_of(&sent(&mut client)),
        "unregistered\n",
    );
    client.handle_datagram(Time::ZERO, tracker(), &error);
    let refused = TrackerFailure::Refused {
        reason: "unregistered".into(),
        retry: None,
    };
    assert_eq!(failure(&mut client), Some(refused));
    announce(&mut client, Time::ZERO);
    assert!(is_connect(&sent(&mut client)));
}

#[test]
fn an_error_to_a_connect_ends_all_that_wait() {
    let mut client = client();
    announce(&mut client, Time::ZERO);
    client
        .scrape(Time::ZERO, tracker(), &[InfoHash([1; 20])])
        .unwrap();
    let mut error = Vec::new();
    push_error(&mut error, transaction_of(&sent(&mut client)), "");
    client.handle_datagram(Time::ZERO, tracker(), &error);
    let refused = TrackerFailure::Refused {
        reason: String::new(),
        retry: None,
    };
    assert_eq!(failure(&mut client), Some(refused.clone()));
    assert_eq!(failure(&mut client), Some(refused));
    assert_eq!((client.jobs_active(), client.poll_timeout()), (0, None));
}

#[test]
fn a_cancelled_job_leaves_nothing_behind() {
    let mut client = client();
    let first = announce(&mut client, Time::ZERO);
    let second = announce(&mut client, Time::ZERO);
    let connect = sent(&mut client);
    client.cancel(first);
    client.check_invariants();
    client.handle_datagram(Time::ZERO, tracker(), &answer(&connect));
    sent(&mut client);
    assert_eq!(client.poll_transmit(&mut Vec::new()), None);
    client.cancel(second);
    client.cancel(second);
    client.check_invariants();
    assert_eq!((client.poll_timeout(), client.poll_event()), (None, None));
}

#[test]
fn jobs_and_connections_are_bounded() {
    let config = UdpTrackerConfig {
        jobs_max: 3,
        ..UdpTrackerConfig::default()
    };
    let mut client = UdpTracker::new(config, 1);
    for n in 0..20 {
        client
            .announce(
                Time::ZERO,
                SocketAddr::new(tracker().ip(), n + 1),
                request(),
                "",
            )
            .unwrap();
        answer_all(&mut client, Time::ZERO);
        assert!(client.connections.len() <= 3);
    }
    for _ in 0..3 {
        announce(&mut client, Time::ZERO);
    }
    let full = client.announce(Time::ZERO, tracker(), request(), "");
    assert_eq!(full, Err(TooManyJobs { limit: 3 }));
}

#[derive(Clone, Debug)]
enum Step {
    Announce(u8),
    Scrape(u8),
    Cancel(u64),
    Wait(u64),
    Answer,
    Lose,
    Noise(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u8..3).prop_map(Step::Announce),
        (0_u8..3).prop_map(Step::Scrape),
        (0_u64..20).prop_map(Step::Cancel),
        (0_u64..200).prop_map(Step::Wait),
        Just(Step::Answer),
        Just(Step::Answer),
        Just(Step::Lose),
        any::<Vec<u8>>().prop_map(Step::Noise),
    ]
}

proptest! {
    #[test]
    fn every_job_ends_once_whatever_happens(steps in prop::collection::vec(step(), 1..80)) {
        let mut client = client();
        let (mut now, mut out) = (Time::ZERO, Vec::new());
        let (mut started, mut cancelled, mut ended) = (0, 0, 0);
        let endpoint = |n: u8| SocketAddr::new(tracker().ip(), 1 + u16::from(n));
        for step in steps {
            match step {
                Step::Announce(n) => {
                    client.announce(now, endpoint(n), request(), "").unwrap();
                    started += 1;
                }
                Step::Scrape(n) => {
                    client.scrape(now, endpoint(n), &[InfoHash([3; 20])]).unwrap();
                    started += 1;
                }
                Step::Cancel(n) => {
                    let before = client.jobs_active();
                    client.cancel(JobId(n));
                    cancelled += before - client.jobs_active();
                }
                Step::Wait(secs) => now += Duration::from_secs(secs),
                Step::Answer => if let Some(to) = client.poll_transmit(&mut out) {
                    client.handle_datagram(now, to, &answer(&out));
                },
                Step::Lose => { let _ = client.poll_transmit(&mut out); }
                Step::Noise(noise) => client.handle_datagram(now, endpoint(0), &noise),
            }
            client.handle_timeout(now);
            client.check_invariants();
        }
        silence_until(&mut client, Time::FAR_FUTURE);
        while client.poll_event().is_some() {
            ended += 1;
        }
        prop_assert_eq!(started, cancelled + ended);
        prop_assert_eq!((client.jobs_active(), client.transactions.len()), (0, 0));
    }
}
