//! From files to a torrent and back.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use riverrun_base::{BLOCK_LEN, FileIndex, PieceIndex, Sha1Digest, Sha256Digest};
use riverrun_hash::{sha1, sha256};
use riverrun_metainfo::create::{CreateOptions, FinishError, Plan, PlanError, SourceFile};
use riverrun_metainfo::merkle::{NodeRange, root_of, verify_proof, width_of};
use riverrun_metainfo::{
    FileKind, InfoEdit, MetaVersion, Metainfo, PieceHash, PieceHashes, PieceLayers, PieceRoot,
};

const PIECE: u32 = 2 * BLOCK_LEN;

/// Byte `at` of the file at `path`: payload that needs no memory.
fn byte(path: &[Vec<u8>], at: u64) -> u8 {
    let salt = path
        .iter()
        .flatten()
        .fold(0_u64, |sum, byte| sum * 31 % 1009 + u64::from(*byte));
    u8::try_from((at / 7 * 31 + salt) % 251).unwrap()
}

fn content(source: &SourceFile) -> Vec<u8> {
    (0..source.len).map(|at| byte(&source.path, at)).collect()
}

/// The bytes of a piece, padding included.
fn piece_bytes(plan: &Plan, piece: PieceIndex) -> Vec<u8> {
    let layout = plan.layout();
    let slices = layout.slices(layout.piece_span(piece));
    slices
        .flat_map(|slice| {
            let source = plan.source(slice.file).cloned();
            (slice.offset..slice.offset + u64::from(slice.len))
                .map(move |at| source.as_ref().map_or(0, |source| byte(&source.path, at)))
        })
        .collect()
}

/// Hashes everything, as storage does it.
fn hash(plan: &Plan) -> (Vec<Sha1Digest>, Vec<Vec<Sha256Digest>>) {
    let (mut v1, mut v2) = (Vec::new(), Vec::new());
    for piece in (0..plan.layout().piece_count()).map(PieceIndex) {
        let (bytes, wanted) = (piece_bytes(plan, piece), plan.piece(piece).unwrap());
        v1.extend(wanted.v1.then(|| sha1(&bytes)));
        if let Some(tree) = wanted.v2 {
            v2.resize(plan.layout().files().len(), Vec::new());
            let blocks = bytes[..tree.len as usize].chunks(BLOCK_LEN as usize);
            v2[tree.file.as_usize()].push(root_of(
                &blocks.map(sha256).collect::<Vec<_>>(),
                tree.leaves,
            ));
        }
    }
    (v1, v2)
}

fn plan(files: &[(&str, u64)], version: MetaVersion) -> Plan {
    let source = |(path, len): &(&str, u64)| {
        SourceFile::new(
            path.split('/')
                .filter(|e| !e.is_empty())
                .map(|e| e.as_bytes().to_vec())
                .collect(),
            *len,
        )
    };
    let options = CreateOptions {
        piece_len: Some(PIECE),
        ..CreateOptions::new(b"root".to_vec(), version)
    };
    Plan::new(files.iter().map(source).collect(), options).unwrap()
}

fn finish(plan: &Plan) -> Metainfo {
    let (v1, v2) = hash(plan);
    plan.finish(&v1, v2).unwrap()
}

/// Path and length of each file, padding as `+`.
fn shown(plan: &Plan) -> Vec<String> {
    let files = plan.layout().files().iter();
    files
        .map(|file| {
            if file.is_pad() {
                format!("+{}", file.len)
            } else {
                format!("{} {}", file.path, file.len)
            }
        })
        .collect()
}

#[test]
fn files_go_in_the_order_of_the_tree_in_every_mode() {
    let files = [("a.b", 10), ("a/c", 20), ("empty", 0), ("Z", 3)];
    for version in [MetaVersion::V1, MetaVersion::V2] {
        assert_eq!(
            shown(&plan(&files, version)),
            ["root/Z 3", "root/a/c 20", "root/a.b 10", "root/empty 0"]
        );
    }
    let hybrid = plan(&files, MetaVersion::Hybrid);
    let expected = [
        "root/Z 3",
        "+32765",
        "root/a/c 20",
        "+32748",
        "root/a.b 10",
        "+32758",
        "root/empty 0",
    ];
    assert_eq!(
        shown(&hybrid),
        expected,
        "the last file with payload is padded too"
    );
}

#[test]
fn a_single_file_is_never_padded() {
    for version in [MetaVersion::V1, MetaVersion::V2, MetaVersion::Hybrid] {
        let plan = plan(&[("", 40_000)], version);
        assert_eq!(shown(&plan), ["root 40000"]);
        let metainfo = finish(&plan);
        assert!(metainfo.info.is_single_file());
        assert_eq!(metainfo.info.name(), "root");
    }
    assert_eq!(
        shown(&plan(&[("only", 40_000)], MetaVersion::Hybrid)),
        ["root/only 40000"]
    );
    // BEP 52: such a tree is that of a single file.
    assert_eq!(
        shown(&plan(&[("only", 40_000)], MetaVersion::V2)),
        ["only 40000"]
    );
}

#[test]
fn files_that_make_no_torrent_are_refused() {
    let check = |files: &[(&[&str], u64)], expected: PlanError| {
        let source = |(path, len): &(&[&str], u64)| {
            SourceFile::new(
                path.iter()
                    .map(|element| element.as_bytes().to_vec())
                    .collect(),
                *len,
            )
        };
        let options = CreateOptions::new(b"root".to_vec(), MetaVersion::Hybrid);
        assert_eq!(
            Plan::new(files.iter().map(source).collect(), options).unwrap_err(),
            expected
        );
    };
    check(&[], PlanError::NoFiles);
    check(
        &[(&["a"], 0)],
        PlanError::Layout(riverrun_metainfo::LayoutError::Empty),
    );
    check(
        &[(&["a"], 1), (&["a"], 2)],
        PlanError::DuplicatePath("a".into()),
    );
    check(
        &[(&["a"], 1), (&["a", "b"], 2)],
        PlanError::DuplicatePath("a".into()),
    );
    check(
        &[(&["a"], 1), (&[], 2)],
        PlanError::InvalidPath(String::new()),
    );
    check(&[(&["a", ".."], 1)], PlanError::InvalidPath("a/..".into()));
    for name in ["", "..", "a/b", "\u{200b}"] {
        let options = CreateOptions::new(name.into(), MetaVersion::V1);
        let error = Plan::new(vec![SourceFile::new(vec![], 1)], options).unwrap_err();
        assert_eq!(error, PlanError::InvalidName(name.into()));
    }
}

#[test]
fn hashes_that_do_not_fit_are_refused() {
    let plan = plan(&[("a", 40_000), ("b", 1)], MetaVersion::Hybrid);
    let (v1, v2) = hash(&plan);
    assert_eq!(
        plan.finish(&v1[1..], v2.clone()).unwrap_err(),
        FinishError::V1Count {
            actual: 2,
            expected: 3
        }
    );
    assert_eq!(
        plan.finish(&v1, v2[1..].to_vec()).unwrap_err(),
        FinishError::V2Count
    );
    let mut short = v2.clone();
    short[0].pop();
    assert_eq!(plan.finish(&v1, short).unwrap_err(), FinishError::V2Count);
}

#[test]
fn names_that_downloaders_change_are_reported() {
    let plan = plan(&[("good", 1), ("ev\u{202e}il", 1)], MetaVersion::V1);
    assert_eq!(
        plan.altered_names()
            .map(|file| file.path.as_str())
            .collect::<Vec<_>>(),
        ["root/evil"]
    );
    assert_eq!(
        plan.source(FileIndex(0)).unwrap().path,
        ["ev\u{202e}il".as_bytes()]
    );
}

#[test]
fn the_budget_is_kept_or_said_to_be_exceeded() {
    let options = CreateOptions::new(b"x".to_vec(), MetaVersion::V1);
    let plan = Plan::new(vec![SourceFile::new(vec![], 1 << 30)], options.clone()).unwrap();
    assert_eq!(
        (plan.layout().nominal_piece_len(), plan.hashes_len()),
        (1 << 19, 20 << 11)
    );
    assert!(!plan.exceeds_budget());
    let tight = CreateOptions {
        piece_len: Some(1 << 14),
        hash_budget_bytes: 1000,
        ..options
    };
    assert!(
        Plan::new(vec![SourceFile::new(vec![], 1 << 30)], tight)
            .unwrap()
            .exceeds_budget()
    );
}

#[test]
fn everything_around_the_info_dictionary_is_written() {
    let options = CreateOptions {
        piece_len: Some(PIECE),
        private: true,
        source: Some("tracker".into()),
        similar: vec![riverrun_base::InfoHash([7; 20])],
        collections: vec!["c".into()],
        trackers: vec![
            vec!["udp://a:1".into(), "udp://b:1".into()],
            vec!["udp://c:1".into()],
        ],
        web_seeds: vec!["http://w/".into(), "http://v/".into()],
        http_seeds: vec!["http://h/".into()],
        nodes: vec!["n:1".parse().unwrap()],
        comment: Some("text".into()),
        created_by: Some("us".into()),
        creation_date: Some(1),
        ..CreateOptions::new(b"root".to_vec(), MetaVersion::Hybrid)
    };
    let plan = Plan::new(
        vec![SourceFile::new(vec![b"a".to_vec()], 5)],
        options.clone(),
    )
    .unwrap();
    let metainfo = Metainfo::from_bytes(&finish(&plan).to_bytes()).unwrap();
    assert!(metainfo.info.is_private());
    assert_eq!(metainfo.info.source(), Some("tracker"));
    assert_eq!(metainfo.similar().collect::<Vec<_>>(), options.similar);
    assert_eq!(metainfo.collections().collect::<Vec<_>>(), ["c"]);
    assert_eq!(metainfo.trackers, options.trackers);
    assert_eq!(metainfo.web_seeds, options.web_seeds);
    assert_eq!(metainfo.http_seeds, options.http_seeds);
    assert_eq!(metainfo.nodes, options.nodes);
    assert_eq!(metainfo.comment, options.comment);
    assert_eq!(metainfo.created_by, options.created_by);
    assert_eq!(metainfo.creation_date, options.creation_date);
}

#[test]
fn edits_outside_keep_the_info_hash_and_unknown_keys() {
    let mut metainfo = finish(&plan(&[("a", 40_000)], MetaVersion::Hybrid));
    metainfo.trackers = vec![vec!["udp://a:1".into()]];
    let mut bytes = metainfo.to_bytes();
    assert_eq!(&bytes[..11], b"d8:announce");
    bytes.splice(1..1, *b"5:0know4:what");
    let mut metainfo = Metainfo::from_bytes(&bytes).unwrap();
    metainfo.trackers.push(vec!["udp://b:1".into()]);
    metainfo.comment = Some("c".into());
    let again = Metainfo::from_bytes(&metainfo.to_bytes()).unwrap();
    assert_eq!(
        again.unknown().into_iter().collect::<Vec<_>>(),
        [(&b"0know"[..], &b"4:what"[..])]
    );
    assert_eq!(
        (again.trackers.len(), again.comment.as_deref()),
        (2, Some("c"))
    );
    assert_eq!(again.info.raw(), metainfo.info.raw());
    assert_eq!(again.piece_layers, metainfo.piece_layers);
    metainfo.trackers.clear();
    metainfo.comment = None;
    assert!(
        Metainfo::from_bytes(&metainfo.to_bytes())
            .unwrap()
            .trackers
            .is_empty()
    );
}

#[test]
fn edits_inside_make_another_torrent() {
    for version in [MetaVersion::V1, MetaVersion::V2, MetaVersion::Hybrid] {
        for file in ["", "a"] {
            let original = finish(&plan(
                &[(file, 40_000), ("b", 1)][..if file.is_empty() { 1 } else { 2 }],
                version,
            ));
            let mut edited = original.clone();
            let edit = InfoEdit {
                private: Some(true),
                source: Some(Some("s".into())),
                name: Some("new".into()),
            };
            edited.edit_info(&edit).unwrap();
            assert_ne!(edited.info.hashes(), original.info.hashes());
            assert!(edited.info.is_private());
            assert_eq!(
                (edited.info.source(), edited.info.name()),
                (Some("s"), "new")
            );
            let first = edited.info.layout().files()[0]
                .path
                .components()
                .next()
                .unwrap();
            assert_eq!(first, "new");
            assert!(
                Metainfo::from_bytes(&edited.to_bytes()).is_ok(),
                "the layers still fit"
            );
            let back = InfoEdit {
                private: Some(false),
                source: Some(None),
                name: Some("root".into()),
            };
            edited.edit_info(&back).unwrap();
            assert_eq!(edited.info.hashes(), original.info.hashes());
        }
    }
}

#[test]
fn hash_requests_below_the_piece_layer_are_answered_from_the_leaves() {
    for len in [3 * u64::from(PIECE) + 5, u64::from(PIECE), 20_000] {
        let plan = plan(&[("a", len), ("z", 1)], MetaVersion::V2);
        let metainfo = finish(&plan);
        let hashes = PieceHashes::new(&metainfo.info, &metainfo.piece_layers);
        let root = metainfo.info.layout().files()[0].pieces_root.unwrap();
        let bytes = content(plan.source(FileIndex(0)).unwrap());
        let leaves: Vec<_> = bytes.chunks(BLOCK_LEN as usize).map(sha256).collect();
        let height = width_of(len).ilog2();
        for (piece, of_piece) in (0..).zip(leaves.chunks(2)) {
            let range = NodeRange::with_full_proof(0, piece * 2, 2, height);
            assert_eq!(hashes.piece_above(root, range), Some(PieceIndex(piece)));
            let answer = hashes.answer_below(root, range, of_piece).unwrap();
            assert!(verify_proof(&root, height, range, &answer), "{len} {piece}");
            assert_eq!(
                hashes.answer_below(root, range, &[root; 3]),
                None,
                "more leaves than a piece has"
            );
        }
        let wide = NodeRange::with_full_proof(0, 0, 4, height);
        assert_eq!(hashes.piece_above(root, wide), None, "more than one piece");
        assert_eq!(hashes.piece_above(Sha256Digest([9; 32]), wide), None);
    }
}

#[test]
fn symlinks_are_written_and_read_back() {
    let mut link = SourceFile::new(vec![b"l".to_vec()], 0);
    link.symlink = Some(vec![b"d".to_vec(), b"f".to_vec()]);
    link.executable = true;
    let file = SourceFile::new(vec![b"d".to_vec(), b"f".to_vec()], 5);
    for version in [MetaVersion::V1, MetaVersion::V2, MetaVersion::Hybrid] {
        let options = CreateOptions {
            piece_len: Some(PIECE),
            ..CreateOptions::new(b"root".to_vec(), version)
        };
        let plan = Plan::new(vec![file.clone(), link.clone()], options).unwrap();
        let metainfo = finish(&plan);
        let found = metainfo
            .info
            .layout()
            .files()
            .iter()
            .find(|file| file.executable)
            .unwrap();
        let FileKind::Symlink(target) = &found.kind else {
            panic!("a link, not {found:?}")
        };
        assert_eq!((target.as_str(), found.len), ("root/d/f", 0));
    }
}

fn options(version: MetaVersion) -> CreateOptions {
    CreateOptions {
        piece_len: Some(PIECE),
        ..CreateOptions::new(b"root".to_vec(), version)
    }
}

fn versions() -> impl Strategy<Value = MetaVersion> {
    prop::sample::select(&[MetaVersion::V1, MetaVersion::V2, MetaVersion::Hybrid][..])
}

fn trees() -> impl Strategy<Value = Vec<SourceFile>> {
    let lens = prop_oneof![
        Just(0_u64),
        1..100_u64,
        Just(16_384),
        Just(32_768),
        1..150_000_u64
    ];
    let paths = vec(
        prop::sample::select(&["a", "b", "c d", "e.f", "g"][..]),
        1..4,
    );
    btree_map(paths, lens, 1..7).prop_filter_map("no torrent", |files: BTreeMap<Vec<&str>, u64>| {
        let sources: Vec<_> = files
            .iter()
            .filter(|(path, _)| {
                !files
                    .keys()
                    .any(|other| other.len() > path.len() && other.starts_with(path))
            })
            .map(|(path, len)| {
                SourceFile::new(
                    path.iter()
                        .map(|element| element.as_bytes().to_vec())
                        .collect(),
                    *len,
                )
            })
            .collect();
        (sources.iter().any(|source| source.len > 0)).then_some(sources)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_was_planned_is_what_is_read(
        sources in trees(),
        version in versions(),
    ) {
        let plan = Plan::new(sources, options(version)).unwrap();
        let metainfo = Metainfo::from_bytes(&finish(&plan).to_bytes()).unwrap();
        let (planned, read) = (plan.layout(), metainfo.info.layout());
        prop_assert_eq!(metainfo.info.version(), version);
        prop_assert_eq!(planned.files().len(), read.files().len());
        for (planned, read) in planned.files().iter().zip(read.files()) {
            prop_assert_eq!(&planned.path, &read.path);
            prop_assert_eq!((planned.len, planned.offset), (read.len, read.offset));
            prop_assert_eq!(&planned.kind, &read.kind);
        }
        let hashes = PieceHashes::new(&metainfo.info, &metainfo.piece_layers);
        prop_assert!(hashes.is_complete());
        for piece in (0..read.piece_count()).map(PieceIndex) {
            let bytes = piece_bytes(&plan, piece);
            prop_assert_eq!(bytes.len(), read.piece_len(piece) as usize);
            let PieceHash { v1, v2 } = hashes.get(piece).unwrap();
            prop_assert_eq!(v1, (version != MetaVersion::V2).then(|| sha1(&bytes)));
            if let Some(PieceRoot { root, leaves, len }) = v2 {
                let blocks = bytes[..len as usize].chunks(BLOCK_LEN as usize);
                prop_assert_eq!(root, root_of(&blocks.map(sha256).collect::<Vec<_>>(), leaves));
            }
        }
        for (index, file) in (0..).map(FileIndex).zip(read.files()) {
            let whole = plan.source(index).map(content).unwrap_or_default();
            let leaves: Vec<_> = whole.chunks(BLOCK_LEN as usize).map(sha256).collect();
            let width = u32::try_from(width_of(file.len)).unwrap();
            let has_root = version != MetaVersion::V1 && !file.is_pad() && file.len > 0;
            prop_assert_eq!(file.pieces_root, has_root.then(|| root_of(&leaves, width)));
        }
        let without = PieceHashes::new(&metainfo.info, &PieceLayers::new());
        let unknown = without.missing_layers().map(|layer| layer.pieces as usize).sum::<usize>();
        let layers = metainfo.piece_layers.values();
        prop_assert_eq!(unknown, layers.map(|layer| layer.hashes().len()).sum::<usize>());
    }

    #[test]
    fn slices_tile_the_files(
        sources in trees(),
        version in versions(),
    ) {
        let plan = Plan::new(sources, options(version)).unwrap();
        let layout = plan.layout();
        let mut reached = vec![0_u64; layout.files().len()];
        let mut payload = 0_u64;
        for piece in (0..layout.piece_count()).map(PieceIndex) {
            for block in 0..layout.block_count(piece) {
                let span = layout.span(piece, block).unwrap();
                prop_assert!(layout.contains(span));
                payload += u64::from(layout.payload_in(span));
                let mut len = 0;
                for slice in layout.slices(span) {
                    prop_assert_eq!(slice.offset, reached[slice.file.as_usize()]);
                    prop_assert!(layout.pieces_of(slice.file).contains(&piece.0));
                    reached[slice.file.as_usize()] += u64::from(slice.len);
                    len += slice.len;
                }
                prop_assert_eq!(len, span.len);
            }
        }
        let lens: Vec<_> = layout.files().iter().map(|file| file.len).collect();
        prop_assert_eq!(&reached, &lens);
        prop_assert_eq!(payload, layout.payload_len());
        prop_assert_eq!(lens.iter().sum::<u64>(), layout.wire_len());
    }
}
