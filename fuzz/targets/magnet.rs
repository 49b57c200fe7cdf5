//! Magnet links, to torrents and to publishers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use riverrun_metainfo::{Magnet, PublisherLink};

fuzz_target!(|text: &str| {
    if let Ok(magnet) = text.parse::<Magnet>() {
        let written = magnet.to_string();
        let again: Magnet = written.parse().expect("what we write we can read");
        assert_eq!(again, magnet, "{written}");
    }
    if let Ok(link) = text.parse::<PublisherLink>() {
        let written = link.to_string();
        let again: PublisherLink = written.parse().expect("what we write we can read");
        assert_eq!(again, link, "{written}");
    }
});
