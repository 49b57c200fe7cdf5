//! Whether the v1 and the v2 files of a hybrid torrent are the same (BEP 52, "upgrade path").

use super::InfoError;
use crate::{File, FileKind, SafePath};

/// The v2 files with the padding between them that the v1 list has, if both describe the same
/// bytes.
///
/// The file lists must agree in the number and order of entries, and in path, length and place of
/// all that have payload. The reference creator pads the last file of a torrent with several;
/// libtorrent before 2.0.8 did not: both are accepted.
pub(super) fn unify(v2: Vec<File>, v1: &[File], piece_len: u32) -> Result<Vec<File>, InfoError> {
    let mut files = padded(v2, piece_len);
    if files.len() == v1.len() + 1 {
        remove_tail_padding(&mut files);
    }
    if files.len() == v1.len() && same_payload(&files, v1) {
        Ok(files)
    } else {
        Err(InfoError::InconsistentFiles)
    }
}

/// The files, each that does not end with a piece followed by padding.
pub(crate) fn padded(v2: Vec<File>, piece_len: u32) -> Vec<File> {
    let mut files = Vec::with_capacity(v2.len() * 2);
    for file in v2 {
        let missing = file
            .len
            .checked_next_multiple_of(piece_len.into())
            .map_or(0, |end| end - file.len);
        files.push(file);
        files.extend((missing > 0).then(|| File::pad(pad_path(missing), missing)));
    }
    files
}

fn pad_path(len: u64) -> SafePath {
    let elements = [&b".pad"[..], len.to_string().as_bytes()].map(<[u8]>::to_vec);
    // Invariant: there are two elements.
    SafePath::from_elements(elements.iter().map(Vec::as_slice)).expect("a path of two elements")
}

/// Removes the padding after the last file that is not empty.
fn remove_tail_padding(files: &mut Vec<File>) {
    if let Some(last) = files
        .iter()
        .rposition(|file| file.len > 0)
        .filter(|last| files[*last].is_pad())
    {
        files.remove(last);
    }
}

/// Whether both lists have the same payload at the same places.
fn same_payload(ours: &[File], theirs: &[File]) -> bool {
    let mut at = (0_u64, 0_u64);
    let same = ours.iter().zip(theirs).all(|(ours, theirs)| {
        let has_payload = |file: &File| !file.is_pad() && file.len > 0;
        let same = match (has_payload(ours), has_payload(theirs)) {
            (true, true) => ours.len == theirs.len && ours.path == theirs.path && at.0 == at.1,
            (false, false) => true,
            _ => false,
        };
        at = (
            at.0.saturating_add(ours.len),
            at.1.saturating_add(theirs.len),
        );
        same && same_target(&ours.kind, &theirs.kind)
    });
    same && at.0 == at.1
}

/// Whether two symlinks lead to the same file; other kinds of files are not compared.
fn same_target(ours: &FileKind, theirs: &FileKind) -> bool {
    match (ours, theirs) {
        (FileKind::Symlink(ours), FileKind::Symlink(theirs)) => ours == theirs,
        _ => true,
    }
}
