//! What trackers answer over UDP (BEP 15): to our requests, and to none.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use riverrun_base::{InfoHash, PeerId, Time};
use riverrun_fuzz::Input;
use riverrun_tracker::{
    AnnounceEvent, AnnounceRequest, AnnouncedEncryption, UdpTracker, UdpTrackerConfig,
};

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let tracker = "203.0.113.5:6969".parse().expect("an address");
    let mut client = UdpTracker::new(UdpTrackerConfig::default(), 1);
    let mut now = Time::ZERO;
    let request = AnnounceRequest {
        info_hash: InfoHash([1; InfoHash::LEN]),
        peer_id: PeerId([2; 20]),
        port: 6881,
        uploaded: 0,
        downloaded: 0,
        left: Some(1),
        event: AnnounceEvent::Started,
        num_want: None,
        key: 3,
        tracker_id: None,
        encryption: AnnouncedEncryption::None,
    };
    let _ = client.announce(now, tracker, request, "/announce?a=b");
    let _ = client.scrape(now, tracker, &[InfoHash([1; InfoHash::LEN]); 3]);
    let (mut sent, mut transaction) = (Vec::new(), [0; 4]);
    while !input.is_empty() {
        while client.poll_transmit(&mut sent).is_some() {
            transaction.copy_from_slice(&sent[12..16]);
        }
        match input.byte() % 4 {
            0 => client.handle_datagram(now, tracker, input.counted()),
            1 => {
                now += Duration::from_millis(u64::from(input.short()) * 16);
                client.handle_timeout(now);
            }
            _ => {
                // An answer to the last thing that was asked.
                let action = [0, 0, 0, input.byte() % 5];
                let answer = [&action[..], &transaction, input.counted()].concat();
                client.handle_datagram(now, tracker, &answer);
            }
        }
        while client.poll_event().is_some() {}
        assert!(client.jobs_active() <= 2);
    }
});
