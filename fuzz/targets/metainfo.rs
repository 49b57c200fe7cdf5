//! Torrent files, and metadata alone as it comes from peers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use riverrun_base::PieceIndex;
use riverrun_metainfo::{Info, Metainfo, PieceHashes};

/// What of a layout is looked at: all of it would only be slow.
const LOOKED_AT_MAX: u32 = 64;

fn look(info: &Info) {
    let layout = info.layout();
    for file in layout.files() {
        let path = file.path.to_path_buf();
        let is_below = path
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        assert!(is_below, "{} leads out of the root", path.display());
    }
    for piece in (0..layout.piece_count())
        .take(LOOKED_AT_MAX as usize)
        .map(PieceIndex)
    {
        let span = layout.piece_span(piece);
        let len: u64 = layout.slices(span).map(|slice| u64::from(slice.len)).sum();
        assert_eq!(len, u64::from(span.len), "the slices of {piece}");
        for block in 0..layout.block_count(piece).min(LOOKED_AT_MAX) {
            assert!(layout.span(piece, block).is_some());
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(info) = Info::from_bytes(bytes) {
        look(&info);
    }
    let Ok(metainfo) = Metainfo::from_bytes(bytes) else {
        return;
    };
    look(&metainfo.info);
    let hashes = PieceHashes::new(&metainfo.info, &metainfo.piece_layers);
    let _ = hashes.get(PieceIndex(0));
    let _ = metainfo.unknown();
    let again = Metainfo::from_bytes(&metainfo.to_bytes()).expect("what we write we can read");
    assert_eq!(again.info.hashes(), metainfo.info.hashes());
    assert_eq!(again.trackers, metainfo.trackers);
    let magnet = metainfo.magnet().to_string();
    assert!(
        magnet.parse::<riverrun_metainfo::Magnet>().is_ok(),
        "{magnet}"
    );
});
