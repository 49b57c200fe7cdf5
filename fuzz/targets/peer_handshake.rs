//! Whoever dials us, from the first byte on: key exchange, handshake, messages.
#![no_main]

use libfuzzer_sys::fuzz_target;
use riverrun_fuzz::Input;
use riverrun_fuzz::connection::Connection;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    Connection::listening(&mut input).run(input);
});
