//! Every message in every state in which a peer may not send it.

use std::sync::Arc;

use riverrun_base::{BLOCK_LEN, BlockSpan, InvalidBitfield, PieceIndex};
use riverrun_metainfo::Info;
use riverrun_peer::{HashRequest, PeerCommand, PeerMisbehaved};

use crate::raw::{
    ALL, EXTENDED, FAST, NOTHING, Victim, extended, hashes, message, numbers, piece, spanned,
};
use crate::torrent::{
    HASH_REQUEST, Kind, attach, attach_magnet, span, torrent, torrent_of, v1_hash, v2_hash,
};

fn v1() -> Arc<Info> {
    torrent(Kind::V1, 10)
}

/// The states that a peer can bring us to, or find us in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was said since the handshake.
    Fresh,
    /// It has told its pieces, unchoked us and was unchoked.
    Open,
    /// We wait for a block, a piece of metadata, and hashes if there can be any.
    Asked,
    /// We know nothing of the torrent but its name.
    Magnet,
}

const STATES: [State; 4] = [State::Fresh, State::Open, State::Asked, State::Magnet];

fn victim(state: State, kind: Kind, reserved: [u8; 8]) -> Victim {
    let info = torrent(kind, 10);
    let hash = if kind == Kind::V1 {
        v1_hash(&info)
    } else {
        v2_hash(&info)
    };
    if state == State::Magnet {
        return Victim::new(reserved, hash, attach_magnet(&info));
    }
    let mut victim = Victim::new(reserved, hash, attach(&info, &[1, 2]));
    if state == State::Fresh {
        return victim;
    }
    victim.says(&message(5, &[0xff, 0xc0])).unwrap();
    victim.says(&message(1, &[])).unwrap();
    if reserved[5] != 0 {
        victim
            .says(&extended(0, b"d1:md11:ut_metadatai9eee"))
            .unwrap();
    }
    victim.does(PeerCommand::Unchoke);
    if state == State::Asked {
        victim.does(PeerCommand::Request(vec![span(1)]));
        victim.does(PeerCommand::RequestMetadata(0));
        victim.does(PeerCommand::RequestHashes(HASH_REQUEST));
    }
    victim
}

/// In all states alike.
#[track_caller]
fn always(kind: Kind, reserved: [u8; 8], said: &[u8], error: &PeerMisbehaved) {
    for state in STATES {
        let result = victim(state, kind, reserved).says(said);
        assert_eq!(
            result.as_ref(),
            Err(error),
            "{state:?} {reserved:?} {said:?}"
        );
    }
}

#[test]
fn a_message_of_the_wrong_length_closes() {
    for (id, len) in [
        (0, 1),
        (1, 1),
        (2, 1),
        (3, 1),
        (4, 0),
        (4, 3),
        (4, 5),
        (6, 11),
        (6, 13),
        (7, 7),
        (8, 11),
        (9, 1),
        (9, 3),
        (13, 3),
        (14, 1),
        (15, 1),
        (16, 13),
        (17, 0),
        (20, 0),
        (21, 47),
        (23, 49),
    ] {
        let said = message(id, &vec![0; len as usize]);
        always(
            Kind::V2,
            ALL,
            &said,
            &PeerMisbehaved::MessageLength { id, len },
        );
    }
}

#[test]
fn a_message_longer_than_any_legal_one_closes_at_its_head() {
    for (id, len, limit) in [
        (5, 3, 2),
        (7, 16_393, 16_392),
        (7, u32::MAX - 1, 16_392),
        (20, 131_073, 131_072),
        (20, u32::MAX - 1, 131_072),
    ] {
        let mut said = (len + 1).to_be_bytes().to_vec();
        said.push(id);
        let error = PeerMisbehaved::MessageTooLong { len, limit };
        let result = victim(State::Fresh, Kind::V1, ALL).says(&said);
        assert_eq!(result, Err(error));
    }
}

#[test]
fn an_unknown_message_closes() {
    for id in [10, 11, 12, 18, 19, 24, 127, 255] {
        let error = PeerMisbehaved::UnexpectedMessage { id };
        always(Kind::V1, ALL, &message(id, &[0; 4]), &error);
    }
}

#[test]
fn the_fast_extensions_messages_need_it() {
    for (id, said) in [
        (13, numbers(13, &[1])),
        (14, message(14, &[])),
        (15, message(15, &[])),
        (16, spanned(16, span(1))),
        (17, numbers(17, &[1])),
    ] {
        let error = PeerMisbehaved::UnexpectedMessage { id };
        always(Kind::V1, EXTENDED, &said, &error);
    }
}

#[test]
fn extended_messages_need_the_extension_protocol() {
    let error = PeerMisbehaved::UnexpectedMessage { id: 20 };
    always(Kind::V1, FAST, &extended(0, b"de"), &error);
}

#[test]
fn hash_messages_need_v2() {
    for said in [
        hashes(21, HASH_REQUEST, 0),
        hashes(22, HASH_REQUEST, 5),
        hashes(23, HASH_REQUEST, 0),
    ] {
        always(Kind::V1, ALL, &said, &PeerMisbehaved::HashesNotRequested);
    }
}

#[test]
fn a_further_bitfield_is_no_offence() {
    let first = [
        message(5, &[0xff, 0xc0]),
        message(14, &[]),
        message(15, &[]),
    ];
    for said in &first {
        for again in &first {
            let mut victim = victim(State::Fresh, Kind::V1, ALL);
            victim.says(said).unwrap();
            assert_eq!(victim.says(again), Ok(()));
        }
    }
}

#[test]
fn a_bitfield_must_fit() {
    let spare = PeerMisbehaved::Bitfield(InvalidBitfield::SpareBits);
    let short = PeerMisbehaved::Bitfield(InvalidBitfield::Length {
        expected: 2,
        actual: 1,
    });
    for (payload, error) in [(&[0xff, 0xe0][..], spare), (&[0xff], short)] {
        let result = victim(State::Fresh, Kind::V1, NOTHING).says(&message(5, payload));
        assert_eq!(result, Err(error));
    }
}

#[test]
fn a_piece_past_the_end_closes() {
    for (said, index) in [
        (numbers(4, &[10]), 10),
        (numbers(4, &[u32::MAX]), u32::MAX),
        (numbers(13, &[10]), 10),
        (numbers(17, &[1 << 31]), 1 << 31),
        (extended(7, &[0, 0, 0, 10]), 10),
    ] {
        for state in [State::Fresh, State::Open, State::Asked] {
            let error = PeerMisbehaved::PieceOutOfRange { index, count: 10 };
            assert_eq!(victim(state, Kind::V1, ALL).says(&said), Err(error));
        }
    }
}

#[test]
fn a_request_outside_of_the_torrent_closes() {
    let of = |piece, offset, len| BlockSpan {
        piece: PieceIndex(piece),
        offset,
        len,
    };
    for span in [
        of(10, 0, BLOCK_LEN),
        of(0, 2 * BLOCK_LEN, 1),
        of(0, BLOCK_LEN + 1, BLOCK_LEN),
        of(9, BLOCK_LEN, BLOCK_LEN),
        of(0, 0, 0),
        of(0, 0, BLOCK_LEN + 1),
        of(u32::MAX, u32::MAX, u32::MAX),
        of(0, u32::MAX, 2),
    ] {
        for state in [State::Fresh, State::Open, State::Asked] {
            let result = victim(state, Kind::V1, ALL).says(&spanned(6, span));
            assert_eq!(result, Err(PeerMisbehaved::RequestOutOfRange(span)));
            let mut victim = victim(state, Kind::V1, ALL);
            assert_eq!(
                victim.says(&spanned(8, span)),
                Ok(()),
                "nothing to take back"
            );
            assert_eq!(victim.says(&spanned(16, span)), Ok(()), "nothing to reject");
        }
    }
}

#[test]
fn a_block_that_was_not_requested_closes() {
    let other = BlockSpan {
        len: 100,
        ..span(1)
    };
    for block in [span(0), span(9), other] {
        let said = piece(block, &vec![0; block.len as usize]);
        let error = PeerMisbehaved::BlockNotRequested(block);
        always(Kind::V1, ALL, &said, &error);
        always(Kind::V1, NOTHING, &said[..13], &error);
    }
}

#[test]
fn hashes_that_were_not_asked_for_close() {
    let not_requested = Err(PeerMisbehaved::HashesNotRequested);
    for state in [State::Fresh, State::Open, State::Magnet] {
        let result = victim(state, Kind::V2, ALL).says(&hashes(22, HASH_REQUEST, 5));
        assert_eq!(result, not_requested);
    }
    let other = HashRequest {
        index: 4,
        ..HASH_REQUEST
    };
    let said = hashes(22, other, 5);
    assert_eq!(
        victim(State::Asked, Kind::V2, ALL).says(&said),
        not_requested
    );
    let mut victim = victim(State::Asked, Kind::V2, ALL);
    victim.says(&hashes(22, HASH_REQUEST, 5)).unwrap();
    assert_eq!(victim.says(&hashes(22, HASH_REQUEST, 5)), not_requested);
}

#[test]
fn the_number_of_hashes_is_that_which_was_asked_for() {
    for (count, error) in [
        (
            4,
            PeerMisbehaved::MessageLength {
                id: 22,
                len: 48 + 4 * 32,
            },
        ),
        (
            6,
            PeerMisbehaved::MessageTooLong {
                len: 48 + 6 * 32,
                limit: 48 + 5 * 32,
            },
        ),
    ] {
        let said = hashes(22, HASH_REQUEST, count);
        assert_eq!(victim(State::Asked, Kind::V2, ALL).says(&said), Err(error));
    }
}

#[test]
fn a_hash_request_that_makes_no_sense_is_rejected() {
    for (index, count, proof_layers) in [
        (0, 1, 0),
        (0, 3, 0),
        (1, 2, 0),
        (0, 0, 0),
        (0, 1 << 30, 0),
        (0, 2, 999),
        (u32::MAX, u32::MAX, u32::MAX),
    ] {
        let request = HashRequest {
            index,
            count,
            proof_layers,
            ..HASH_REQUEST
        };
        let mut victim = victim(State::Open, Kind::V2, ALL);
        victim.sent();
        victim.news();
        victim.says(&hashes(21, request, 0)).unwrap();
        assert_eq!(victim.sent_bytes(), hashes(23, request, 0));
        assert!(victim.news().is_empty());
    }
}

#[test]
fn an_extended_message_that_cannot_be_read_closes() {
    for said in [
        extended(0, b""),
        extended(0, b"i1e"),
        extended(0, b"d1:ai1e"),
        extended(2, b""),
        extended(2, b"le"),
        extended(2, b"d8:msg_typei1e5:piecei0e10:total_sizei99999999eex"),
        extended(7, &[1]),
    ] {
        for state in STATES {
            let result = victim(state, Kind::V1, ALL).says(&said);
            assert!(
                matches!(result, Err(PeerMisbehaved::Extended(_))),
                "{state:?} {result:?}"
            );
        }
    }
}

#[test]
fn an_extended_message_that_we_never_offered_is_ignored() {
    for id in [5, 6, 8, 9, 100, 255] {
        for state in STATES {
            let mut victim = victim(state, Kind::V1, ALL);
            victim.news();
            assert_eq!(victim.says(&extended(id, b"\xff\x00garbage")), Ok(()));
            assert!(victim.news().is_empty());
        }
    }
}

#[test]
fn who_asks_without_end_and_reads_nothing_is_let_go() {
    let mut v2 = victim(State::Open, Kind::V2, ALL);
    let said = hashes(21, HASH_REQUEST, 0).repeat(1000);
    let result = (0..100).find_map(|_| v2.says(&said).err());
    assert!(matches!(result, Some(PeerMisbehaved::RequestFlood { .. })));
    let mut v1 = victim(State::Open, Kind::V1, ALL);
    let said = extended(2, b"d8:msg_typei0e5:piecei0ee").repeat(1000);
    let result = (0..100).find_map(|_| v1.says(&said).err());
    assert!(matches!(result, Some(PeerMisbehaved::RequestFlood { .. })));
}

#[test]
fn the_error_is_the_reason_to_close_and_what_came_before_is_reported() {
    let info = v1();
    let mut victim = Victim::v1(ALL, &info, &[]);
    let said = [
        message(14, &[]),
        message(2, &[]),
        message(11, &[]),
        message(1, &[]),
    ]
    .concat();
    assert!(victim.says(&said).is_err());
    assert_eq!(victim.news(), ["HasPieces(Bitfield(10/10))", "Interested"]);
    assert!(victim.conn.close_requested().is_some());
    assert!(victim.says(&message(1, &[])).is_ok() && victim.news().is_empty());
}

#[test]
fn a_bitfield_of_the_largest_torrent_is_kept_until_the_metadata_is_there() {
    let info = torrent_of(Kind::V1, 10, 16384);
    let mut victim = Victim::new(ALL, v1_hash(&info), attach_magnet(&info));
    victim.says(&message(5, &vec![0; 1 << 18])).unwrap();
    let mut other = Victim::new(ALL, v1_hash(&info), attach_magnet(&info));
    let mut said = ((1_u32 << 18) + 2).to_be_bytes().to_vec();
    said.push(5);
    let limit = 1 << 18;
    let error = PeerMisbehaved::MessageTooLong {
        len: limit + 1,
        limit,
    };
    assert_eq!(other.says(&said), Err(error));
}
