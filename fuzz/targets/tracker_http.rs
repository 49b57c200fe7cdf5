//! What trackers answer over HTTP, and the URLs by which they are known.
#![no_main]

use libfuzzer_sys::fuzz_target;
use riverrun_tracker::{PEERS_MAX, TrackerUrl, http};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(response) = http::parse_announce(bytes) {
        assert!(response.peers.len() <= PEERS_MAX);
    }
    let _ = http::parse_scrape(bytes);
    if let Some(url) = std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse::<TrackerUrl>().ok())
    {
        let _ = http::scrape_url(&url, &[]);
    }
});
