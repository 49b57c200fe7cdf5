//! Metadata for tests.

use std::sync::Arc;

use riverrun_bencode::Writer;
use riverrun_metainfo::Info;

/// The metadata of a hybrid torrent of one byte.
pub(crate) fn hybrid(private: bool) -> Arc<Info> {
    let mut writer = Writer::new();
    writer.dict().key(b"file tree").dict().key(b"a").dict();
    writer.key(b"").dict().key(b"length").uint(1);
    writer.key(b"pieces root").bytes(&[7; 32]);
    writer.end().end().end();
    writer.key(b"length").uint(1);
    writer.key(b"meta version").uint(2);
    writer.key(b"name").bytes(b"a");
    writer.key(b"piece length").uint(16384);
    writer.key(b"pieces").bytes(&[7; 20]);
    writer.key(b"private").int(private.into());
    writer.end();
    Arc::new(Info::from_bytes(&writer.finish()).unwrap())
}

/// The metadata of a torrent of so many pieces of four blocks each.
pub(crate) fn pieces(count: u32) -> Arc<Info> {
    let mut writer = Writer::new();
    writer.dict().key(b"length").uint(u64::from(count) << 16);
    writer.key(b"name").bytes(b"a");
    writer.key(b"piece length").uint(1 << 16);
    writer.key(b"pieces").bytes(&vec![7; 20 * count as usize]);
    writer.end();
    Arc::new(Info::from_bytes(&writer.finish()).unwrap())
}

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
