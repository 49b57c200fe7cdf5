//! Torrents of other projects' test suites, with what those projects expect of each. The corpus
//! lies beside the checkout and not in it; without it there is nothing to test.

use std::collections::BTreeMap;
use std::path::PathBuf;

use riverrun_base::{FileIndex, InfoHash, PieceIndex};
use riverrun_bencode::{Document, Limits, SyntaxError};
use riverrun_metainfo::create::{CreateOptions, Plan, SourceFile};
use riverrun_metainfo::{
    File, FileKind, InfoError, LayoutError, MetaVersion, Metainfo, MetainfoError, PieceHashes,
    PieceLayers, SafePath,
};

type Row = BTreeMap<String, String>;

#[expect(clippy::print_stderr, reason = "a skipped test must say so")]
fn corpus() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    if path.join("expected.tsv").exists() {
        return Some(path);
    }
    eprintln!("skipped: no corpus at {}", path.display());
    None
}

/// The rows of a tab-separated table whose fields may be quoted, by the names in its first line.
fn rows(table: &str) -> Vec<Row> {
    let mut lines = table
        .lines()
        .map(|line| line.split('\t').map(unquoted).collect::<Vec<_>>());
    let names = lines.next().expect("a first line");
    lines
        .map(|fields| names.iter().cloned().zip(fields).collect())
        .collect()
}

fn unquoted(field: &str) -> String {
    match field
        .strip_prefix('"')
        .and_then(|field| field.strip_suffix('"'))
    {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => field.to_owned(),
    }
}

/// Calls `check` with each row and its file; fails with all that it says is wrong.
fn for_each_row(check: impl Fn(&Row, &[u8], &mut Vec<String>)) {
    let Some(corpus) = corpus() else { return };
    let rows = rows(&std::fs::read_to_string(corpus.join("expected.tsv")).unwrap());
    assert!(
        rows.len() > 90,
        "the corpus has shrunk to {} rows",
        rows.len()
    );
    let mut wrong = Vec::new();
    for row in &rows {
        let mut faults = Vec::new();
        check(
            row,
            &std::fs::read(corpus.join(&row["file"])).unwrap(),
            &mut faults,
        );
        wrong.extend(
            faults
                .into_iter()
                .map(|fault| format!("{}: {fault}", row["file"])),
        );
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Notes a fault if two things are not equal.
macro_rules! expect_eq {
    ($faults:expr, $actual:expr, $expected:expr) => {{
        match (&$actual, &$expected) {
            (actual, expected) if *actual == *expected => {}
            (actual, expected) => {
                $faults.push(format!(
                    "{} is {actual:?}, not {expected:?}",
                    stringify!($actual)
                ));
            }
        }
    }};
}

/// Whether an error is the one that the model gives.
fn is_expected(error: &MetainfoError, name: &str) -> bool {
    use InfoError as I;
    use MetainfoError as M;
    match name.trim_start_matches("errors::") {
        "torrent_missing_name" => matches!(error, M::Info(I::MissingName | I::MissingPath(_))),
        "torrent_missing_info" => matches!(error, M::MissingInfo),
        "torrent_invalid_length" => matches!(
            error,
            M::Info(I::InvalidLength | I::Layout(LayoutError::Empty))
        ),
        "torrent_invalid_name" => matches!(error, M::Info(I::InvalidPath)),
        "torrent_missing_pieces" => matches!(error, M::Info(I::MissingPieces)),
        "torrent_missing_piece_length" => {
            matches!(
                error,
                M::Info(I::MissingPieceLength | I::InvalidPieceLength(_))
            )
        }
        "no_files_in_torrent" => matches!(error, M::Info(I::NoFiles)),
        "torrent_invalid_hashes" => matches!(error, M::Info(I::InvalidPieces { .. })),
        "too_many_duplicate_filenames" => matches!(error, M::Info(I::TooManyDuplicates(_))),
        "torrent_inconsistent_files" => matches!(error, M::Info(I::InconsistentFiles)),
        "torrent_file_parse_failed" => {
            matches!(error, M::Info(I::InvalidFileTree | I::InvalidFile))
        }
        "torrent_invalid_piece_layer" => matches!(error, M::PieceLayers(_)),
        "too_many_pieces_in_torrent" => {
            matches!(error, M::Info(I::Layout(LayoutError::TooManyPieces(_))))
        }
        "torrent_missing_pieces_root" => matches!(error, M::Info(I::MissingPiecesRoot)),
        "bdecode_errors::depth_exceeded" => {
            matches!(error, M::Bencode(error) if error.cause == SyntaxError::TooDeep(100))
        }
        "(invalid)" => true,
        _ => false,
    }
}

#[test]
fn verdicts_are_those_of_the_projects() {
    for_each_row(
        |row, bytes, faults| match (row["valid"].as_str(), Metainfo::from_bytes(bytes)) {
            ("yes" | "yes*", Ok(_)) => {}
            ("yes" | "yes*", Err(error)) => faults.push(format!("refused: {error}")),
            (_, Ok(_)) => faults.push("accepted".to_owned()),
            (_, Err(error)) if is_expected(&error, &row["expected_error"]) => {}
            (_, Err(error)) => faults.push(format!(
                "refused with {error:?}, not {}",
                row["expected_error"]
            )),
        },
    );
}

#[test]
fn facts_are_those_of_an_independent_parser() {
    for_each_row(|row, bytes, faults| {
        let Ok(metainfo) = Metainfo::from_bytes(bytes) else {
            return;
        };
        let (info, layout) = (&metainfo.info, metainfo.info.layout());
        expect_eq!(
            faults,
            info.hashes()
                .v1()
                .map(|hash| hash.to_string())
                .unwrap_or_default(),
            row["v1_hash"]
        );
        expect_eq!(
            faults,
            info.hashes()
                .v2()
                .map(|hash| hash.to_string())
                .unwrap_or_default(),
            row["v2_hash"]
        );
        expect_eq!(
            faults,
            layout.nominal_piece_len().to_string(),
            row["piece_length"]
        );
        if row["pieces"] != "v2" {
            expect_eq!(faults, layout.piece_count().to_string(), row["pieces"]);
        }
        expect_eq!(faults, layout.files().len().to_string(), row["files"]);
        // Symlinks have no length, whatever they say: that parser believes them.
        if row["symlinks"] != "1" {
            expect_eq!(faults, layout.wire_len().to_string(), row["total_size"]);
        }
        expect_eq!(faults, info.is_private(), row["private"] == "1");
        let count = |is: &dyn Fn(&File) -> bool| {
            layout
                .files()
                .iter()
                .filter(|file| is(file))
                .count()
                .to_string()
        };
        // That parser knows nothing of BitComet's padding, and counts none in v2 torrents.
        if info.version() != MetaVersion::V2 && !row["what_is_special"].contains("BitComet") {
            expect_eq!(faults, count(&File::is_pad), row["pad_files"]);
            expect_eq!(
                faults,
                count(&|file| matches!(file.kind, FileKind::Symlink(_))),
                row["symlinks"]
            );
            expect_eq!(
                faults,
                layout.files().iter().any(|file| file.executable),
                row["attrs"].contains('x')
            );
        }
        if row["name"]
            .bytes()
            .all(|byte| byte.is_ascii() && !b"/\\<".contains(&byte))
            && row["name"] != ".."
        {
            expect_eq!(faults, info.name(), row["name"]);
        }
        // One of the two that are counted there has no scheme.
        if !row["file"].ends_with("/sample.torrent") {
            let trackers = metainfo.trackers.iter().flatten().count();
            expect_eq!(faults, trackers.to_string(), row["trackers"]);
        }
    });
}

/// One asserted property, as `what, value` in the notation of the project's own tests.
fn check_property(metainfo: &Metainfo, row: &Row, property: &str, faults: &mut Vec<String>) {
    let (info, layout) = (&metainfo.info, metainfo.info.layout());
    let (what, value) = property.split_once(", ").unwrap_or((property, "true"));
    let value = value.trim_matches('"');
    let index: u32 = what
        .chars()
        .filter(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .unwrap_or(0);
    let file = || {
        layout
            .file(FileIndex(index))
            .expect("a file with this index")
    };
    let what: String = what
        .chars()
        .filter(|c| !c.is_whitespace() && !c.is_ascii_digit())
        .collect();
    match what.as_str() {
        // The model counts its implicit padding of v2 torrents.
        "num_files()" if info.version() == MetaVersion::V2 => {}
        "num_files()" => expect_eq!(faults, layout.files().len().to_string(), value),
        "layout().file_path({})" if is_renamed(row, index) => {}
        "layout().file_path({})" if value.starts_with("combine_path") => {
            expect_eq!(faults, file().path.as_str(), ".pad/2124");
        }
        "layout().file_path({})" | "files().file_path({})" | "renamed_files[{}]" => {
            expect_eq!(faults, file().path.as_str(), value);
        }
        "layout().symlink({})" => expect_eq!(faults, &file().kind, &FileKind::Symlink(path(value))),
        "layout().file_size({})" => expect_eq!(faults, file().len.to_string(), value),
        "bool(layout().file_flags({})&file_storage::flag_pad_file)" => {
            expect_eq!(faults, file().is_pad().to_string(), value);
        }
        "to_hex(layout().root({}))" => {
            expect_eq!(
                faults,
                file().pieces_root.map(|root| root.to_string()).as_deref(),
                Some(value)
            );
        }
        "name()" => expect_eq!(faults, info.name(), value),
        "piece_length()" => expect_eq!(faults, layout.nominal_piece_len(), 32_767 * 0x4000),
        "url_seeds.size()" => expect_eq!(faults, metainfo.web_seeds.len().to_string(), value),
        "url_seeds[]" => expect_eq!(faults, metainfo.web_seeds[0].as_str(), value),
        "trackers[]" => expect_eq!(faults, metainfo.trackers[0][0].as_str(), value),
        "info_hashes().has_v()" | "v()" | "!v()" | "!info_hashes().has_v()" => {
            expect_eq!(
                faults,
                (property, has_version(info.version(), property)),
                (property, is_claimed(property))
            );
        }
        _ if what.starts_with("(collections()") => {
            expect_eq!(
                faults,
                metainfo.collections().collect::<Vec<_>>(),
                ["bar", "foo"]
            );
        }
        _ if what.starts_with("(similar_torrents()") => {
            expect_eq!(
                faults,
                metainfo.similar().collect::<Vec<_>>(),
                [InfoHash([b'a'; 20])]
            );
        }
        _ => {}
    }
}

/// Whether the properties say that a file has another name than in the metadata, by which it is
/// known here.
fn is_renamed(row: &Row, index: u32) -> bool {
    row["expected_properties"].contains(&format!("renamed_files[{{{index}}}]"))
}

fn has_version(version: MetaVersion, property: &str) -> bool {
    let v1 = property.contains("v1");
    version != if v1 { MetaVersion::V2 } else { MetaVersion::V1 }
}

fn is_claimed(property: &str) -> bool {
    !(property.starts_with('!') || property.ends_with("false"))
}

fn path(text: &str) -> SafePath {
    SafePath::from_elements(text.split('/').map(str::as_bytes)).expect("a path")
}

#[test]
fn asserted_properties_hold() {
    for_each_row(|row, bytes, faults| {
        let Ok(metainfo) = Metainfo::from_bytes(bytes) else {
            return;
        };
        for property in row["expected_properties"].split("; ") {
            check_property(&metainfo, row, property, faults);
        }
    });
}

#[test]
fn what_was_not_changed_is_written_as_it_was_read() {
    for_each_row(|_, bytes, faults| {
        let Ok(metainfo) = Metainfo::from_bytes(bytes) else {
            return;
        };
        let (document, len) = Document::parse_prefix(bytes, Limits::TORRENT).unwrap();
        let written = metainfo.to_bytes();
        if document.root().as_dict().unwrap().is_sorted() {
            expect_eq!(faults, written == bytes[..len], true);
        }
        expect_eq!(
            faults,
            Metainfo::from_bytes(&written).unwrap().to_bytes() == written,
            true
        );
    });
}

#[test]
fn hashes_are_known_or_known_to_be_missing() {
    for_each_row(|_, bytes, faults| {
        let Ok(metainfo) = Metainfo::from_bytes(bytes) else {
            return;
        };
        let layout = metainfo.info.layout();
        let mut hashes = PieceHashes::new(&metainfo.info, &metainfo.piece_layers);
        let known = (0..layout.piece_count())
            .filter(|piece| hashes.get(PieceIndex(*piece)).is_some())
            .count();
        let missing: u32 = hashes.missing_layers().map(|layer| layer.pieces).sum();
        let missing = if metainfo.info.version() == MetaVersion::V2 {
            missing
        } else {
            0
        };
        expect_eq!(faults, known, (layout.piece_count() - missing) as usize);
        expect_eq!(faults, hashes.get(PieceIndex(layout.piece_count())), None);
        // As with a magnet link: all layers come from peers.
        hashes = PieceHashes::new(&metainfo.info, &PieceLayers::new());
        for (root, layer) in &metainfo.piece_layers {
            expect_eq!(
                faults,
                hashes.add_layer(*root, layer.hashes().to_vec()),
                Ok(())
            );
        }
        expect_eq!(faults, hashes.layers() == metainfo.piece_layers, true);
    });
}

/// The plan of a torrent with the files and settings of this one.
fn plan_like(metainfo: &Metainfo) -> Option<Plan> {
    let (info, layout) = (&metainfo.info, metainfo.info.layout());
    let source = |file: &File| {
        let below = file
            .path
            .components()
            .skip(usize::from(!info.is_single_file()));
        let path = below.map(|element| element.as_bytes().to_vec()).collect();
        let path = if info.is_single_file() {
            Vec::new()
        } else {
            path
        };
        SourceFile {
            executable: file.executable,
            hidden: file.hidden,
            ..SourceFile::new(path, file.len)
        }
    };
    let files = layout
        .files()
        .iter()
        .filter(|file| !file.is_pad())
        .map(source)
        .collect();
    let options = CreateOptions {
        piece_len: Some(layout.nominal_piece_len()),
        private: info.is_private(),
        ..CreateOptions::new(info.name().as_bytes().to_vec(), info.version())
    };
    Plan::new(files, options).ok()
}

#[test]
fn torrents_of_other_creators_come_out_the_same() {
    const MADE_BY_OTHERS: [&str; 9] = [
        "base-v2",
        "large",
        "leaves",
        "numbers",
        "v2",
        "v2_empty_file",
        "v2_multipiece_file",
        "v2_multiple_files",
        "v2_only",
    ];
    for_each_row(|row, bytes, faults| {
        let Ok(metainfo) = Metainfo::from_bytes(bytes) else {
            return;
        };
        let Some(plan) = plan_like(&metainfo) else {
            return;
        };
        let (layout, info) = (plan.layout(), &metainfo.info);
        let hashes = PieceHashes::new(info, &metainfo.piece_layers);
        let (mut v1, mut v2) = (Vec::new(), Vec::new());
        for piece in (0..layout.piece_count()).map(PieceIndex) {
            let Some(known) = hashes.get(piece) else {
                return;
            };
            v1.extend(known.v1);
            if let Some((tree, known)) = plan.piece(piece).and_then(|piece| piece.v2).zip(known.v2)
            {
                v2.resize(layout.files().len(), Vec::new());
                v2[tree.file.as_usize()].push(known.root);
            }
        }
        let same = plan
            .finish(&v1, v2)
            .is_ok_and(|made| made.info.raw() == info.raw());
        if MADE_BY_OTHERS
            .iter()
            .any(|name| row["file"].ends_with(&format!("/{name}.torrent")))
        {
            expect_eq!(faults, same, true);
        }
    });
}
