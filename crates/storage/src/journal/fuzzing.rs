//! The reader of journals, for the fuzz targets: its checks keep everybody else's bytes from it.

use std::path::PathBuf;

use riverrun_base::{InfoHashes, Sha1Digest};

use super::record::{KIND_SUBJECT, encode, seal};
use super::{Check, Claims, MAGIC, Subject, replay};

/// Reads `bytes` as a journal, and as the bodies of records of one that is sealed as it should be. Panics if what was
/// read is not read again after it was written.
pub fn read_journal(bytes: &[u8]) {
    let subject = Subject {
        hashes: InfoHashes::v1_only(Sha1Digest([7; 20])),
        pieces: 1000,
        root: PathBuf::from("/data"),
    };
    replay(bytes, &subject);
    let mut check = Check::default();
    let mut journal = MAGIC.to_vec();
    seal(KIND_SUBJECT, &subject.encode(), &mut check, &mut journal);
    let mut rest = bytes;
    while let Some(([kind, len], after)) = rest.split_first_chunk() {
        let (body, after) = after.split_at(usize::from(*len).min(after.len()));
        seal(*kind, body, &mut check, &mut journal);
        rest = after;
    }
    let (claims, ..) = replay(&journal, &subject).expect("its subject is right");
    let mut check = Check::default();
    let mut again = MAGIC.to_vec();
    seal(KIND_SUBJECT, &subject.encode(), &mut check, &mut again);
    for record in claims.records() {
        encode(&record, &mut check, &mut again);
    }
    let written: Option<Claims> = replay(&again, &subject).map(|(claims, ..)| claims);
    assert_eq!(written, Some(claims));
}
