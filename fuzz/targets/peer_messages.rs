//! A peer that greets as it should, and then sends anything: messages, extended handshakes, metadata, peers, hashes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use riverrun_fuzz::Input;
use riverrun_fuzz::connection::Connection;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    Connection::greeted(&mut input).run(input);
});
