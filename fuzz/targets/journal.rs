//! The journal of claims: bytes as they are, and records with any body, sealed as ours are.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| riverrun_storage::fuzzing::read_journal(bytes));
