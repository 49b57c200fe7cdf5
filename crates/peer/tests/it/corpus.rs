//! Replays fuzzing seeds of another library. They are data beside the project, and are skipped where they are not.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use riverrun_base::PieceIndex;
use riverrun_metainfo::Info;
use riverrun_peer::{Attach, PeerCommand, PeerMisbehaved};

use crate::raw::{ALL, Victim, extended, message};
use crate::torrent::{Kind, attach, attach_magnet, torrent_of, v1_hash, v2_hash};

/// As the seeds' driver says it.
const HELLO: &[u8] = b"d1:md11:ut_metadatai2e6:ut_pexi1e11:upload_onlyi3ee4:reqqi500e1:v6:fuzzere";

fn seeds(folder: &str) -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path: PathBuf = root
        .join("../../../shared/corpus/libtorrent-fuzz-seeds")
        .join(folder);
    let Ok(entries) = path.read_dir() else {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: no corpus at {}",
            path.display()
        );
        return Vec::new();
    };
    let mut seeds: Vec<_> = entries
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect();
    seeds.sort();
    seeds
}

fn with_all_pieces(attach: Attach) -> Attach {
    let mut attach = attach;
    for piece in 0..attach.have.len() {
        attach.have.set(PieceIndex(piece));
    }
    attach
}

/// What the driver of these seeds does: 8 reserved bytes, whose first selects the torrent; then
/// `{type u8, length u16be, payload}*`.
fn replay(seed: &[u8], infos: [&Arc<Info>; 2], cut: usize) -> Result<Victim, PeerMisbehaved> {
    let (reserved, mut rest) = seed.split_first_chunk::<8>().unwrap();
    let [v1, hybrid] = infos;
    let (hash, attach) = match (reserved[0] >> 1 & 3, reserved[0] & 1) {
        (1, _) => (v1_hash(v1), attach_magnet(v1)),
        (2, 1) => (v1_hash(hybrid), attach_magnet(hybrid)),
        (2, _) => (v2_hash(hybrid), attach_magnet(hybrid)),
        (_, 1) => (v1_hash(hybrid), with_all_pieces(attach(hybrid, &[]))),
        _ => (v2_hash(hybrid), with_all_pieces(attach(hybrid, &[]))),
    };
    let mut victim = Victim::new(*reserved, hash, attach);
    let mut wire = Vec::new();
    if reserved[5] & 0x10 != 0 {
        wire.extend(extended(0, HELLO));
    }
    while let [kind, high, low, tail @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (payload, tail) = tail.split_at(len);
        wire.extend(match (*kind, payload) {
            (20, []) => extended(0, &[]),
            (kind, payload) => message(kind, payload),
        });
        rest = tail;
    }
    victim.does(PeerCommand::Unchoke);
    for chunk in wire.chunks(cut) {
        victim.says(chunk)?;
        victim.sent();
    }
    Ok(victim)
}

#[test]
fn seeds_of_the_peer_protocol_end_as_they_should() {
    // 100 pieces of a MiB, as the seeds expect.
    let v1 = torrent_of(Kind::V1, 100, 1 << 20);
    let hybrid = torrent_of(Kind::Hybrid, 100, 1 << 20);
    let mut closed = BTreeMap::new();
    for (name, seed) in seeds("peer_conn") {
        let outcome = |cut| {
            let result = replay(&seed, [&v1, &hybrid], cut);
            let ending = result.as_ref().err().map(ToString::to_string);
            (ending, result.map(|mut victim| victim.news()).ok())
        };
        let whole = outcome(usize::MAX);
        for cut in [1, 7, 1000] {
            assert_eq!(outcome(cut), whole, "{name} cut every {cut} bytes");
        }
        if let Some(error) = whole.0 {
            closed.insert(name, error);
        }
    }
    let expected: Vec<_> = CLOSED.split_whitespace().collect();
    let found: Vec<_> = closed.keys().map(String::as_str).collect();
    assert!(found.is_empty() || found == expected, "{closed:#?}");
}

/// The seeds that break the protocol. Beside what their own library closes on these are bitfields with spare bits
/// set, indices past the end of whatever message, blocks and hashes that nobody asked for, and exchanges of peers
/// that are not bencode.
const CLOSED: &str = "
 allowed_fast_max allowed_fast_oob bitfield_all bitfield_empty bitfield_spare_bits_set
 bitfield_too_long bitfield_too_short cancel_short_0 cancel_short_11 cancel_short_4
 cancel_short_8 choke_extra_payload dht_port_long dht_port_short dont_have_long dont_have_max
 dont_have_oob dont_have_short ext_handshake_empty_payload ext_handshake_invalid_bencode
 ext_handshake_truncated hash_reject_max_values hash_reject_short_0 hash_reject_short_32
 hash_reject_short_43 hash_reject_short_8 hash_request_max_values hash_request_short_0
 hash_request_short_32 hash_request_short_43 hash_request_short_8 hashes_count_mismatch
 hashes_empty hashes_no_hash_data hashes_one hashes_short_0 hashes_short_32 hashes_short_43
 hashes_short_8 have_all_extra_payload have_long have_max_signed have_max_uint
 have_none_extra_payload have_oob have_short_0 have_short_1 have_short_2 have_short_3
 interested_extra_payload not_interested_extra_payload piece_begin_oob piece_misaligned_begin
 piece_oob_index piece_short_0 piece_short_4 piece_short_7 piece_valid_block reject_request_short
 request_large_block request_last_piece_last_block request_max_values request_oob_piece
 request_short_0 request_short_11 request_short_4 request_short_8 request_zero_length
 seq_bitfield_after_have_all seq_bitfield_all_interested seq_hash_request_then_hashes
 seq_request_flood suggest_piece_max suggest_piece_oob unchoke_extra_payload unknown_msg_10
 unknown_msg_11 unknown_msg_12 unknown_msg_127 unknown_msg_18 unknown_msg_19 unknown_msg_24
 unknown_msg_254 unknown_msg_255 ut_metadata_data_no_trailing_bytes
 ut_metadata_data_total_size_negative ut_metadata_data_total_size_over_max
 ut_metadata_data_total_size_zero ut_metadata_empty_dict ut_metadata_empty_payload
 ut_metadata_invalid_bencode ut_metadata_missing_msg_type_key ut_metadata_missing_piece_key
 ut_pex_empty_payload ut_pex_invalid_bencode v1_bitfield_all v1_hash_reject_rejected
 v1_hash_request_rejected v1_hashes_rejected v1_only_torrent_v2_claim_hash_reject
 v1_only_torrent_v2_claim_hash_request v1_only_torrent_v2_claim_hashes v1_seq_bitfield_interested
 v2_hybrid_torrent_v2_claim_hashes
";

#[test]
fn seeds_of_metadata_messages_are_read_or_refused() {
    let info = torrent_of(Kind::V1, 10, 16384);
    let mut read = 0;
    let seeds = seeds("ut_metadata");
    for (name, seed) in &seeds {
        for attach in [attach(&info, &[]), attach_magnet(&info)] {
            let mut victim = Victim::new(ALL, v1_hash(&info), attach);
            let hello = b"d1:md11:ut_metadatai2ee13:metadata_sizei16384ee";
            victim.says(&extended(0, hello)).unwrap();
            victim.does(PeerCommand::RequestMetadata(0));
            match victim.says(&extended(2, seed)) {
                Ok(()) => read += 1,
                Err(PeerMisbehaved::Extended(_)) => {
                    let broken = ["data_", "empty", "invalid", "missing", "negative", "max"];
                    assert!(broken.iter().any(|broken| name.contains(broken)), "{name}");
                }
                Err(error) => panic!("{name}: {error}"),
            }
            victim.sent();
        }
    }
    assert!(seeds.is_empty() || read > 60, "{read} were read");
}
