//! Metadata for tests.

use std::sync::Arc;

use riverrun_bencode::Writer;
use riverrun_metainfo::Info;

/// The metadata of a torrent of one byte, with this value of `private`, if any.
pub(crate) fn info(name: &str, private: Option<i64>) -> Arc<Info> {
    let mut writer = Writer::new();
    writer.dict().key(b"length").uint(1);
    writer.key(b"name").bytes(name.as_bytes());
    writer.key(b"piece length").uint(16384);
    writer.key(b"pieces").bytes(&[7; 20]);
    if let Some(flag) = private {
        writer.key(b"private").int(flag);
    }
    writer.end();
    Arc::new(Info::from_bytes(&writer.finish()).unwrap())
}
