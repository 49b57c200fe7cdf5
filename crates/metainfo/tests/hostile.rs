//! Input that means harm.

use std::collections::BTreeSet;
use std::path::PathBuf;

use proptest::collection::vec;
use proptest::prelude::*;
use riverrun_base::{PieceIndex, Sha1Digest, Sha256Digest};
use riverrun_metainfo::create::{CreateOptions, Plan, SourceFile};
use riverrun_metainfo::{FileKind, Info, Magnet, MetaVersion, Metainfo, PieceHashes, SafePath};

/// A torrent with all kinds of keys.
fn sample(version: MetaVersion) -> Vec<u8> {
    let path = |text: &str| {
        text.split('/')
            .map(|element| element.as_bytes().to_vec())
            .collect()
    };
    let mut link = SourceFile::new(path("link"), 0);
    link.symlink = Some(path("dir"));
    let sources = vec![
        SourceFile::new(path("dir/a"), 40_000),
        SourceFile::new(path("dir/b.x"), 5),
        link,
    ];
    let options = CreateOptions {
        piece_len: Some(16_384),
        trackers: vec![vec!["udp://tracker:1".into()]],
        web_seeds: vec!["http://seed/".into()],
        ..CreateOptions::new(b"root".to_vec(), version)
    };
    let plan = Plan::new(sources, options).unwrap();
    let layout = plan.layout();
    let (has_v1, has_v2) = (version != MetaVersion::V2, version != MetaVersion::V1);
    let v1 = vec![
        Sha1Digest([1; 20]);
        if has_v1 {
            layout.piece_count() as usize
        } else {
            0
        }
    ];
    let mut v2 = vec![Vec::new(); if has_v2 { layout.files().len() } else { 0 }];
    for piece in (0..layout.piece_count()).map(PieceIndex) {
        if let Some(tree) = plan.piece(piece).unwrap().v2 {
            v2[tree.file.as_usize()].push(Sha256Digest([2; 32]));
        }
    }
    plan.finish(&v1, v2).unwrap().to_bytes()
}

fn check_path(path: &SafePath) {
    for element in path.components() {
        assert!(!matches!(element, "" | "." | ".."), "{path}");
        assert!(
            element.len() <= 255 && !element.chars().any(|c| c.is_control() || c == '\\'),
            "{path}"
        );
    }
    assert!(path.to_path_buf().is_relative());
}

/// What holds for whatever is accepted.
fn check_accepted(metainfo: &Metainfo) {
    let layout = metainfo.info.layout();
    let mut paths = BTreeSet::new();
    for file in layout.files() {
        check_path(&file.path);
        if let FileKind::Symlink(target) = &file.kind {
            check_path(target);
        }
        assert!(
            file.is_pad() || paths.insert(&file.path),
            "{} is there twice",
            file.path
        );
        assert!(
            file.path
                .parent()
                .is_none_or(|parent| !paths.iter().any(|path| path.as_str() == parent))
        );
    }
    let ends = [
        PieceIndex(0),
        PieceIndex(layout.piece_count() - 1),
        PieceIndex(u32::MAX),
    ];
    let hashes = PieceHashes::new(&metainfo.info, &metainfo.piece_layers);
    for piece in ends {
        let span = layout.piece_span(piece);
        assert_eq!(
            layout.slices(span).map(|slice| slice.len).sum::<u32>(),
            span.len
        );
        let _ = (
            hashes.get(piece),
            metainfo.info.piece_v1(piece),
            layout.is_padding(span),
        );
    }
    let again = Metainfo::from_bytes(&metainfo.to_bytes()).expect("what was written is accepted");
    assert_eq!(again.info.hashes(), metainfo.info.hashes());
    assert_eq!(
        metainfo
            .magnet()
            .to_string()
            .parse::<Magnet>()
            .expect("a link")
            .hashes,
        metainfo.info.hashes()
    );
}

fn check(bytes: &[u8]) -> bool {
    let metainfo = Metainfo::from_bytes(bytes);
    metainfo.as_ref().is_ok_and(|metainfo| {
        check_accepted(metainfo);
        true
    })
}

#[test]
fn the_samples_are_accepted() {
    for version in [MetaVersion::V1, MetaVersion::V2, MetaVersion::Hybrid] {
        assert!(check(&sample(version)));
    }
}

#[test]
fn seeds_of_other_fuzzers_do_no_harm() {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/corpus/libtorrent-fuzz-seeds");
    let Ok(folders) = std::fs::read_dir(&corpus) else {
        return skipped(&corpus);
    };
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    let mut count = 0;
    for file in files {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let accepted = check(&bytes);
        let _ = (
            Info::from_bytes(&bytes),
            String::from_utf8_lossy(&bytes).parse::<Magnet>(),
        );
        let is_v1_torrent = path
            .parent()
            .is_some_and(|parent| parent.ends_with("torrent_info"))
            && path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("v1_"));
        assert!(accepted || !is_v1_torrent, "{} is refused", path.display());
        count += 1;
    }
    assert!(count > 500, "{count} seeds");
}

#[expect(clippy::print_stderr, reason = "a skipped test must say so")]
fn skipped(corpus: &std::path::Path) {
    eprintln!("skipped: no corpus at {}", corpus.display());
}

/// Texts that are nearly links.
const LINK: &str = "(magnet:\\?)?(xt=urn:bt[im]h:[0-9a-f]{0,42}|\
                    [a-z.]{1,4}=[%0-9a-z:\\[\\],.-]{0,20}|&){0,6}";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn changed_torrents_are_refused_or_harmless(
        version in prop::sample::select(
            &[MetaVersion::V1, MetaVersion::V2, MetaVersion::Hybrid][..]
        ),
        edits in vec((any::<prop::sample::Index>(), prop_oneof![
            prop::sample::select(&b"dlie0123456789:-./\\"[..]), any::<u8>(),
        ], 0..3_usize), 1..4),
    ) {
        let mut bytes = sample(version);
        for (at, byte, removed) in edits {
            let at = at.index(bytes.len());
            let end = (at + removed).min(bytes.len());
            bytes.splice(at..end, (removed > 0).then_some(byte));
        }
        check(&bytes);
    }

    #[test]
    fn any_text_is_a_link_or_refused(text in LINK) {
        if let Ok(magnet) = text.parse::<Magnet>() {
            prop_assert_eq!(magnet.to_string().parse(), Ok(magnet));
        }
    }

    #[test]
    fn any_names_become_safe_paths(elements in vec(vec(prop_oneof![
        any::<u8>(), prop::sample::select(&b"./\\\xe2\x80\x8e\xf0"[..]),
    ], 0..300), 1..4)) {
        let path = SafePath::from_elements(elements.iter().map(Vec::as_slice)).unwrap();
        check_path(&path);
        prop_assert_eq!(path.components().count(), elements.len());
    }
}
