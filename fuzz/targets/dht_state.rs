//! The file in which a node of the DHT keeps what it knows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use riverrun_dht::{NODES_MAX, SavedState};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(saved) = SavedState::from_bytes(bytes) {
        assert!(saved.nodes.len() <= 2 * NODES_MAX);
        let again = SavedState::from_bytes(&saved.to_bytes()).expect("what we write we can read");
        assert_eq!(again.ids, saved.ids);
    }
});
