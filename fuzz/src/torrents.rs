//! Torrents to talk about. What their pieces hash to is of no interest here.

use std::sync::{Arc, OnceLock};

use riverrun_base::{Bitfield, PieceIndex, Sha1Digest, Sha256Digest};
use riverrun_metainfo::create::{CreateOptions, Plan, SourceFile};
use riverrun_metainfo::{Info, MetaVersion};
use riverrun_peer::Attach;

const PIECE_LEN: u32 = 32 * 1024;

/// One of three torrents, v1, v2 and hybrid, of 20 pieces or so in two files.
pub fn info(which: u8) -> Arc<Info> {
    static INFOS: OnceLock<[Arc<Info>; 3]> = OnceLock::new();
    let infos =
        INFOS.get_or_init(|| [MetaVersion::V1, MetaVersion::V2, MetaVersion::Hybrid].map(make));
    infos[usize::from(which % 3)].clone()
}

fn make(version: MetaVersion) -> Arc<Info> {
    let source = |name: &str, len| SourceFile::new(vec![name.as_bytes().to_vec()], len);
    let sources = vec![source("a", 600_000), source("b", 5)];
    let mut options = CreateOptions::new(b"t".to_vec(), version);
    options.piece_len = Some(PIECE_LEN);
    let plan = Plan::new(sources, options).expect("it is a torrent");
    let layout = plan.layout();
    let (mut v1, mut v2) = (Vec::new(), vec![Vec::new(); layout.files().len()]);
    for piece in (0..layout.piece_count()).map(PieceIndex) {
        let wanted = plan.piece(piece).expect("it is one of its pieces");
        if wanted.v1 {
            v1.push(Sha1Digest([1; 20]));
        }
        if let Some(tree) = wanted.v2 {
            v2[tree.file.as_usize()].push(Sha256Digest([2; 32]));
        }
    }
    let v2 = if version == MetaVersion::V1 {
        Vec::new()
    } else {
        v2
    };
    plan.finish(&v1, v2).expect("all its hashes are there").info
}

/// What a connection knows of it: with the metadata and half of the pieces, or nothing yet.
pub fn attach(info: &Arc<Info>, is_known: bool) -> Box<Attach> {
    let mut have = Bitfield::new(info.layout().piece_count());
    for piece in (0..have.len()).step_by(2) {
        have.set(PieceIndex(piece));
    }
    Box::new(Attach {
        hashes: info.hashes(),
        info: is_known.then(|| info.clone()),
        have: if is_known { have } else { Bitfield::new(0) },
        hide_pieces: false,
        upload_only: false,
        private: false,
        your_ip: None,
    })
}
