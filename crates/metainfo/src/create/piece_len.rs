//! How long to make the pieces.

use riverrun_base::{BLOCK_LEN, Sha1Digest, Sha256Digest};

use super::{CREATE_PIECE_LEN_MAX, CreateOptions, PlanError};
use crate::{MetaVersion, PIECES_MAX};

/// Up to here pieces grow to keep their hashes within the budget: larger ones delay the sharing of
/// what was downloaded too much.
const CHOSEN_PIECE_LEN_MAX: u32 = 16 << 20;

/// How many pieces are aimed at. With fewer a piece takes long to become a source of its own; with more, peers tell
/// each other of pieces all the time, and players and checkers gain nothing.
const PIECES_AIM: u64 = 2048;

/// The piece length that is asked for, if the metadata can have it.
pub(super) fn checked(piece_len: u32, version: MetaVersion) -> Result<u32, PlanError> {
    let allowed = match version {
        MetaVersion::V1 => piece_len > 0 && piece_len.is_multiple_of(BLOCK_LEN),
        MetaVersion::V2 | MetaVersion::Hybrid => {
            piece_len >= BLOCK_LEN && piece_len.is_power_of_two()
        }
    };
    if allowed && piece_len <= CREATE_PIECE_LEN_MAX {
        Ok(piece_len)
    } else {
        Err(PlanError::PieceLength(piece_len))
    }
}

/// A piece length for files of these lengths: about [`PIECES_AIM`] pieces of 16 KiB to 16 MiB, longer ones if their
/// hashes would not keep within the budget, more than 16 MiB only if there would be too many pieces.
pub(super) fn chosen(lens: &[u64], options: &CreateOptions) -> u32 {
    let total = lens.iter().copied().fold(0_u64, u64::saturating_add);
    let mut piece_len = BLOCK_LEN;
    while piece_len < CHOSEN_PIECE_LEN_MAX
        && (total.div_ceil(piece_len.into()) > PIECES_AIM
            || hashes_len(lens, piece_len, options.version) > options.hash_budget_bytes)
    {
        piece_len *= 2;
    }
    while piece_len < CREATE_PIECE_LEN_MAX
        && pieces(lens, piece_len, options.version) > PIECES_MAX.into()
    {
        piece_len *= 2;
    }
    piece_len
}

/// How many bytes the hashes of all pieces take.
pub(super) fn hashes_len(lens: &[u64], piece_len: u32, version: MetaVersion) -> u64 {
    let pieces = pieces(lens, piece_len, version);
    let of_layers = lens
        .iter()
        .map(|len| len.div_ceil(piece_len.into()))
        .filter(|pieces| *pieces > 1);
    let layers = of_layers
        .fold(0_u64, u64::saturating_add)
        .saturating_mul(Sha256Digest::LEN as u64);
    let v1 = pieces.saturating_mul(Sha1Digest::LEN as u64);
    match version {
        MetaVersion::V1 => v1,
        MetaVersion::V2 => layers,
        MetaVersion::Hybrid => v1.saturating_add(layers),
    }
}

/// How many pieces files of these lengths have.
fn pieces(lens: &[u64], piece_len: u32, version: MetaVersion) -> u64 {
    let sum = |lens: &mut dyn Iterator<Item = u64>| lens.fold(0_u64, u64::saturating_add);
    match version {
        MetaVersion::V1 => sum(&mut lens.iter().copied()).div_ceil(piece_len.into()),
        _ => sum(&mut lens.iter().map(|len| len.div_ceil(piece_len.into()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lens: &[u64], version: MetaVersion, expected: u32) {
        assert_eq!(
            chosen(lens, &CreateOptions::new(b"x".to_vec(), version)),
            expected,
            "{lens:?}"
        );
    }

    #[test]
    fn pieces_grow_with_the_content() {
        const MIB: u64 = 1 << 20;
        check(&[1], MetaVersion::Hybrid, BLOCK_LEN);
        check(&[32 * MIB], MetaVersion::V1, BLOCK_LEN);
        check(&[32 * MIB + 1], MetaVersion::V1, 2 * BLOCK_LEN);
        check(&[512 * MIB], MetaVersion::V2, 16 * BLOCK_LEN);
        check(&[4096 * MIB], MetaVersion::Hybrid, 128 * BLOCK_LEN);
        // Small files have a piece each, whatever its length; half a million blocks have 16 MiB of layer hashes.
        check(&vec![16_385; 40_000], MetaVersion::V2, 32 * BLOCK_LEN);
        check(&[1 << 40], MetaVersion::V1, 1 << 24);
        check(&[u64::from(PIECES_MAX) << 24], MetaVersion::V1, 1 << 24);
        check(
            &[(u64::from(PIECES_MAX) << 24) + 1],
            MetaVersion::V1,
            1 << 25,
        );
        check(
            &[u64::MAX, u64::MAX],
            MetaVersion::Hybrid,
            CREATE_PIECE_LEN_MAX,
        );
        // Files of one piece have no layer.
        check(&vec![BLOCK_LEN.into(); 2048], MetaVersion::V2, BLOCK_LEN);
    }

    #[test]
    fn only_lengths_that_the_metadata_can_have_are_taken() {
        use MetaVersion as M;
        for (piece_len, version, ok) in [
            (BLOCK_LEN, M::V2, true),
            (3 * BLOCK_LEN, M::V1, true),
            (3 * BLOCK_LEN, M::Hybrid, false),
            (BLOCK_LEN / 2, M::V2, false),
            (BLOCK_LEN + 1, M::V1, false),
            (0, M::V1, false),
            (CREATE_PIECE_LEN_MAX, M::V2, true),
            (2 * CREATE_PIECE_LEN_MAX, M::V2, false),
        ] {
            assert_eq!(
                checked(piece_len, version).is_ok(),
                ok,
                "{piece_len} {version:?}"
            );
        }
    }
}
