//! Records as bytes, each sealed with a check over itself and all before it.

use std::ops::Range;

use riverrun_base::{FileIndex, PieceIndex};
use riverrun_hash::Sha256;

use super::{FileMark, Hold, Record};
use crate::backend::FileStat;

/// The start of the SHA-256 of a record and the check before it.
pub(super) type Check = [u8; 8];

/// Longest body: that of a record of ranges.
const BODY_LEN_MAX: usize = RANGES_MAX * 8;
/// Ranges in one record: bounds what a torn record costs.
const RANGES_MAX: usize = 8192;
pub(super) const KIND_SUBJECT: u8 = 0;
const KIND_DEVICE: u8 = 1;
const KIND_FILE: u8 = 2;
const KIND_WRITING: u8 = 3;
const KIND_DURABLE: u8 = 4;
const KIND_FORGOTTEN: u8 = 5;

pub(super) fn encode(record: &Record, check: &mut Check, out: &mut Vec<u8>) {
    match record {
        Record::Device(device) => seal(KIND_DEVICE, &device.to_le_bytes(), check, out),
        Record::File(file, mark) => seal(KIND_FILE, &encode_file(*file, mark), check, out),
        Record::Writing(pieces) => encode_ranges(KIND_WRITING, pieces, check, out),
        Record::Durable(pieces) => encode_ranges(KIND_DURABLE, pieces, check, out),
        Record::Forgotten(pieces) => encode_ranges(KIND_FORGOTTEN, pieces, check, out),
    }
}

fn encode_file(file: FileIndex, mark: &FileMark) -> Vec<u8> {
    let mut body = file.0.to_le_bytes().to_vec();
    body.push(mark.hold as u8);
    for value in [mark.stat.device, mark.stat.inode, mark.stat.len] {
        body.extend_from_slice(&value.to_le_bytes());
    }
    for value in [mark.stat.modified_ns, mark.stat.changed_ns] {
        body.extend_from_slice(&value.to_le_bytes());
    }
    body.extend_from_slice(&mark.stat.links.to_le_bytes());
    body
}

fn encode_ranges(kind: u8, pieces: &[PieceIndex], check: &mut Check, out: &mut Vec<u8>) {
    for ranges in ranges_of(pieces).chunks(RANGES_MAX) {
        let body: Vec<u8> = ranges
            .iter()
            .flat_map(|range| [range.start, range.end - range.start])
            .flat_map(u32::to_le_bytes)
            .collect();
        seal(kind, &body, check, out);
    }
}

/// Neighbours together, in the order in which they come.
fn ranges_of(pieces: &[PieceIndex]) -> Vec<Range<u32>> {
    let mut ranges: Vec<Range<u32>> = Vec::new();
    for piece in pieces {
        match ranges.last_mut() {
            Some(last) if last.end == piece.0 => last.end += 1,
            _ => ranges.push(piece.0..piece.0 + 1),
        }
    }
    ranges
}

/// Appends a record, with its check.
pub(super) fn seal(kind: u8, body: &[u8], check: &mut Check, out: &mut Vec<u8>) {
    // Invariant: bodies are at most BODY_LEN_MAX bytes or one path.
    let len = u32::try_from(body.len())
        .expect("a record's body is short")
        .to_le_bytes();
    *check = next_check(*check, len, kind, body);
    out.extend_from_slice(&len);
    out.push(kind);
    out.extend_from_slice(body);
    out.extend_from_slice(check);
}

fn next_check(before: Check, len: [u8; 4], kind: u8, body: &[u8]) -> Check {
    let mut hasher = Sha256::new();
    for part in [&before[..], &len, &[kind], body] {
        hasher.update(part);
    }
    let digest = hasher.finish();
    std::array::from_fn(|n| digest.0[n])
}

pub(super) fn unseal<'a>(rest: &mut &'a [u8], check: &mut Check) -> Option<(u8, &'a [u8])> {
    let (len, after) = rest.split_first_chunk::<4>()?;
    let (kind, after) = after.split_first()?;
    let body_len = usize::try_from(u32::from_le_bytes(*len))
        .ok()
        .filter(|len| *len <= BODY_LEN_MAX)?;
    let (body, after) = after.split_at_checked(body_len)?;
    let (stored, after) = after.split_first_chunk::<8>()?;
    let next = next_check(*check, *len, *kind, body);
    if next != *stored {
        return None;
    }
    (*check, *rest) = (next, after);
    Some((*kind, body))
}

/// A record of a torrent that has so many pieces.
pub(super) fn decode(kind: u8, body: &[u8], pieces: u32) -> Option<Record> {
    match kind {
        KIND_DEVICE => Some(Record::Device(u64::from_le_bytes(body.try_into().ok()?))),
        KIND_FILE => decode_file(body),
        KIND_WRITING => decode_ranges(body, pieces).map(Record::Writing),
        KIND_DURABLE => decode_ranges(body, pieces).map(Record::Durable),
        KIND_FORGOTTEN => decode_ranges(body, pieces).map(Record::Forgotten),
        _ => None,
    }
}

fn decode_file(body: &[u8]) -> Option<Record> {
    let (index, rest) = body.split_first_chunk::<4>()?;
    let (hold, rest) = rest.split_first()?;
    let hold = [Hold::Writing, Hold::Exact, Hold::Foreign]
        .into_iter()
        .find(|known| *known as u8 == *hold)?;
    let (numbers, rest) = rest.as_chunks::<8>();
    let [device, inode, len, modified, changed, links] = numbers else {
        return None;
    };
    let stat = FileStat {
        device: u64::from_le_bytes(*device),
        inode: u64::from_le_bytes(*inode),
        len: u64::from_le_bytes(*len),
        modified_ns: i64::from_le_bytes(*modified),
        changed_ns: i64::from_le_bytes(*changed),
        links: u64::from_le_bytes(*links),
    };
    let mark = FileMark { stat, hold };
    rest.is_empty()
        .then(|| Record::File(FileIndex(u32::from_le_bytes(*index)), mark))
}

/// Bounded by the pieces that the torrent has: a range past them, or more of them in all, makes the record no record.
fn decode_ranges(body: &[u8], count_max: u32) -> Option<Vec<PieceIndex>> {
    let (pairs, []) = body.as_chunks::<8>() else {
        return None;
    };
    let mut pieces = Vec::new();
    for pair in pairs {
        let (first, count) = pair.split_at(4);
        let first = u32::from_le_bytes(first.try_into().ok()?);
        let count = u32::from_le_bytes(count.try_into().ok()?);
        let end = first.checked_add(count).filter(|end| *end <= count_max)?;
        if pieces.len() + count as usize > count_max as usize {
            return None;
        }
        pieces.extend((first..end).map(PieceIndex));
    }
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_names_no_more_pieces_than_there_are() {
        let body = |ranges: &[[u32; 2]]| -> Vec<u8> {
            let numbers = ranges.iter().flatten();
            numbers.flat_map(|number| number.to_le_bytes()).collect()
        };
        let check = |ranges: &[[u32; 2]], expected| {
            let found = decode(KIND_DURABLE, &body(ranges), 100);
            assert_eq!(found.is_some(), expected, "{ranges:?}");
        };
        check(&[[0, 100]], true);
        check(&[[0, 101]], false);
        check(&[[99, 1], [0, 99]], true);
        check(&[[99, 2]], false);
        check(&[[0, 100], [0, 1]], false);
        check(&[[u32::MAX, u32::MAX]], false);
    }

    #[test]
    fn neighbours_are_one_range() {
        let pieces = [1, 2, 3, 7, 8, 2].map(PieceIndex);
        assert_eq!(ranges_of(&pieces), [1..4, 7..9, 2..3]);
        assert!(ranges_of(&[]).is_empty());
    }
}
