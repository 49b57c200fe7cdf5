//! Bencode, read with each set of limits, and every value looked at.
#![no_main]

use libfuzzer_sys::fuzz_target;
use riverrun_bencode::{Document, Limits, Value};

fn visit(value: Value<'_, '_>, count: &mut usize) {
    *count += 1;
    let _ = (
        value.as_bytes(),
        value.as_str(),
        value.as_int(),
        value.as_u64(),
    );
    let _ = (value.is_canonical(), value.duplicate_key());
    if let Some(list) = value.as_list() {
        list.iter().for_each(|value| visit(value, count));
    }
    if let Some(dict) = value.as_dict() {
        let _ = dict.is_sorted();
        for (key, value) in dict.iter() {
            assert!(dict.get(key).is_some());
            visit(value, count);
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    for limits in [Limits::TORRENT, Limits::MESSAGE] {
        let Ok((document, len)) = Document::parse_prefix(bytes, limits) else {
            continue;
        };
        assert_eq!(document.root().raw(), &bytes[..len]);
        let again = Document::parse(&bytes[..len], limits).expect("it was read before");
        assert_eq!(again.root().raw(), document.root().raw());
        let mut count = 0;
        visit(document.root(), &mut count);
        assert!(count <= len);
    }
});
