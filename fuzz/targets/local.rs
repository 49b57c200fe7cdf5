//! What hosts of the local network announce (BEP 14).
#![no_main]

use libfuzzer_sys::fuzz_target;
use riverrun_swarm::LocalSearch;

fuzz_target!(|bytes: &[u8]| {
    if let Some(search) = LocalSearch::parse(bytes) {
        assert!(search.info_hashes.len() <= LocalSearch::INFO_HASHES_MAX);
        let written = search.encode(LocalSearch::GROUP_V4);
        let again = LocalSearch::parse(written.as_bytes());
        assert_eq!(again, Some(search), "{written}");
    }
});
