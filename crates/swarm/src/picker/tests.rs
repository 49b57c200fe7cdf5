use proptest::prelude::{Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};

use super::*;
use crate::tuning::Tuning;

const RANDOM_FIRST: u32 = Tuning::DEFAULT.random_first;

/// Pieces of `blocks` blocks, in which every `padding`-th piece ends with a block of padding.
struct Shape {
    blocks: u32,
    padding: Option<u32>,
}

impl Geometry for Shape {
    fn blocks(&self, _: PieceIndex) -> u32 {
        self.blocks
    }

    fn is_padding(&self, piece: PieceIndex, block: u32) -> bool {
        self.padding
            .is_some_and(|every| piece.0.is_multiple_of(every))
            && block + 1 == self.blocks
    }
}

const PLAIN: Shape = Shape {
    blocks: 4,
    padding: None,
};

fn conn(index: u32) -> ConnKey {
    ConnKey::new(index, 0)
}

fn field(len: u32, pieces: impl IntoIterator<Item = u32>) -> Bitfield {
    let mut field = Bitfield::new(len);
    for piece in pieces {
        field.set(PieceIndex(piece));
    }
    field
}

/// Of no piece some blocks.
static NO_PARTS: BTreeMap<PieceIndex, Bitfield> = BTreeMap::new();

fn asker(index: u32, have: &Bitfield) -> Asker<'_> {
    Asker {
        conn: conn(index),
        have,
        parts: &NO_PARTS,
        only: None,
        suggested: &[],
        current: None,
        pace: Pace::Shared,
        random_first: RANDOM_FIRST,
        is_idle: true,
        is_best: false,
        late: Time::ZERO,
        is_suspect: false,
    }
}

/// A picker past the first random pieces: the last few of `len` are there already.
fn picker(len: u32) -> Picker {
    let have = field(len, len - RANDOM_FIRST..len);
    Picker::new(&have, vec![Priority::Normal; len as usize].into())
}

fn pieces(picked: &[BlockIndex]) -> Vec<u32> {
    let mut pieces: Vec<u32> = picked.iter().map(|at| at.piece.0).collect();
    pieces.dedup();
    pieces
}

fn finish(picker: &mut Picker, picked: &[BlockIndex], by: u32) {
    for at in picked {
        if let Receipt::Taken { complete: true, .. } = picker.receive(*at, conn(by), &PLAIN) {
            picker.verified(at.piece);
        }
    }
}

#[test]
fn the_rarest_piece_comes_first() {
    let mut picker = picker(20);
    let (all, most) = (Bitfield::full(20), field(20, (0..20).filter(|n| *n != 7)));
    picker.add_peer(&all);
    picker.add_peer(&most);
    picker.add_peer(&field(20, [3, 4]));
    let mut rng = Rng::new(1);
    let picked = picker.pick(&asker(0, &all), 4, &PLAIN, &mut rng);
    assert_eq!(pieces(&picked), [7]);
    let picked = picker.pick(&asker(1, &most), 64, &PLAIN, &mut rng);
    let order = pieces(&picked);
    assert_eq!(order.len(), 15);
    assert!(
        order[13..].iter().all(|piece| [3, 4].contains(piece)),
        "{order:?}"
    );
    picker.check_invariants();
}

#[test]
fn of_a_piece_in_part_only_the_blocks_that_are_there_are_requested() {
    let mut picker = picker(20);
    let (all, none) = (Bitfield::full(20), Bitfield::new(20));
    let parts = BTreeMap::from([(PieceIndex(7), field(4, [1, 3]))]);
    picker.add_peer(&all);
    picker.add_peer(&none);
    picker.add_part(PieceIndex(7));
    assert_eq!(picker.rarity().availability(PieceIndex(7)), 1);
    assert_eq!(picker.rarity().copies(PieceIndex(7)), 2);
    let relay = Asker {
        parts: &parts,
        ..asker(1, &none)
    };
    let mut rng = Rng::new(1);
    let picked = picker.pick(&relay, 9, &PLAIN, &mut rng);
    let of_seven = |block| BlockIndex {
        piece: PieceIndex(7),
        block,
    };
    assert_eq!(picked, [of_seven(1), of_seven(3)]);
    assert!(picker.pick(&relay, 9, &PLAIN, &mut rng).is_empty());
    assert!(
        picker.lacks_of(PieceIndex(7), &parts[&PieceIndex(7)]),
        "it owes them"
    );
    // Who has everything gives what nobody passes on, and of this only rather than be idle.
    let picked = picker.pick(&asker(0, &all), 4 * 15, &PLAIN, &mut rng);
    assert!(!pieces(&picked).contains(&7), "{picked:?}");
    let picked = picker.pick(&asker(0, &all), 9, &PLAIN, &mut rng);
    assert_eq!(picked, [of_seven(0), of_seven(2)]);
    for block in [1, 3] {
        picker.receive(of_seven(block), conn(1), &PLAIN);
    }
    assert!(!picker.lacks_of(PieceIndex(7), &parts[&PieceIndex(7)]));
    picker.remove_part(PieceIndex(7));
    assert_eq!(picker.rarity().copies(PieceIndex(7)), 1);
    picker.check_invariants();
}

#[test]
fn while_blocks_are_passed_on_a_rarer_piece_is_begun_before_another_is_whole() {
    for is_relaying in [false, true] {
        let mut picker = picker(20);
        let both = field(20, [3, 4]);
        picker.add_peer(&both);
        picker.add_peer(&both);
        picker.add_peer(&field(20, [4]));
        let mut rng = Rng::new(1);
        picker.set_manner(true, is_relaying);
        let mut pick =
            |index, picker: &mut Picker| picker.pick(&asker(index, &both), 1, &PLAIN, &mut rng);
        let first = pick(0, &mut picker);
        assert_eq!(pieces(&first), [3]);
        picker.add_piece(PieceIndex(3), &field(20, [3, 4]));
        picker.remove_piece(PieceIndex(4), &field(20, [3]));
        let expected = if is_relaying { 4 } else { 3 };
        assert_eq!(pieces(&pick(1, &mut picker)), [expected]);
    }
}

#[test]
fn random_order_heeds_neither_rarity_nor_suggestions() {
    let all = Bitfield::full(40);
    let first = |picking, seed| {
        let mut picker = picker(40);
        picker.set_order(Order::new(picking, false));
        picker.add_peer(&all);
        picker.add_peer(&field(40, (0..40).filter(|n| *n != 7)));
        let asker = Asker {
            suggested: &[PieceIndex(7)],
            ..asker(0, &all)
        };
        pieces(&picker.pick(&asker, 4, &PLAIN, &mut Rng::new(seed)))[0]
    };
    let sevens = |picking| (0..20).filter(|seed| first(picking, *seed) == 7).count();
    assert_eq!(sevens(Picking::RarestFirst), 20);
    assert!(sevens(Picking::Random) < 5);
}

#[test]
fn a_have_moves_a_piece_back_in_the_order() {
    let mut picker = picker(10);
    let all = Bitfield::full(10);
    picker.add_peer(&all);
    let mut other = field(10, [0, 1, 2, 3, 4]);
    picker.add_peer(&other);
    other.set(PieceIndex(5));
    picker.add_piece(PieceIndex(5), &other);
    // The pieces 6 to 9 are there already: nothing is rarer than the common ones.
    let picked = picker.pick(&asker(0, &all), 24, &PLAIN, &mut Rng::new(3));
    assert_eq!(pieces(&picked).len(), 6);
    assert_eq!(picker.rarity().availability(PieceIndex(5)), 2);
    other.clear(PieceIndex(5));
    picker.remove_piece(PieceIndex(5), &other);
    assert_eq!(picker.rarity().availability(PieceIndex(5)), 1);
    picker.check_invariants();
}

#[test]
fn peers_share_a_piece_that_was_begun_and_a_fast_one_has_it_alone() {
    for (pace, shared) in [(Pace::Shared, true), (Pace::Whole, false)] {
        let mut picker = picker(20);
        let all = Bitfield::full(20);
        picker.add_peer(&all);
        picker.add_peer(&all);
        let mut rng = Rng::new(1);
        let first = Asker {
            pace,
            ..asker(0, &all)
        };
        let mine = pieces(&picker.pick(&first, 2, &PLAIN, &mut rng));
        let yours = pieces(&picker.pick(&asker(1, &all), 2, &PLAIN, &mut rng));
        assert_eq!(mine == yours, shared, "{pace:?}");
    }
}

#[test]
fn who_alone_has_pieces_is_asked_for_those() {
    let mut picker = picker(20);
    let (all, some) = (Bitfield::full(20), field(20, 0..10));
    picker.add_peer(&all);
    picker.add_peer(&some);
    let mut rng = Rng::new(1);
    let common = pieces(&picker.pick(&asker(1, &some), 1, &PLAIN, &mut rng));
    assert!(common[0] < 10);
    let sole = pieces(&picker.pick(&asker(0, &all), 1, &PLAIN, &mut rng));
    assert!((10..16).contains(&sole[0]), "{sole:?}");
}

#[test]
fn a_suggestion_breaks_a_tie_and_nothing_more() {
    let mut picker = picker(50);
    let all = Bitfield::full(50);
    picker.add_peer(&all);
    picker.add_peer(&field(50, [9]));
    let (common, rare) = ([PieceIndex(9)], [PieceIndex(33)]);
    let mut rng = Rng::new(1);
    let picked = picker.pick(
        &Asker {
            suggested: &rare,
            ..asker(0, &all)
        },
        4,
        &PLAIN,
        &mut rng,
    );
    assert_eq!(pieces(&picked), [33]);
    let picked = picker.pick(
        &Asker {
            suggested: &common,
            ..asker(0, &all)
        },
        4,
        &PLAIN,
        &mut rng,
    );
    assert_ne!(pieces(&picked), [9]);
}

#[test]
fn priorities_come_before_rarity_and_before_begun_pieces() {
    let mut picker = picker(20);
    let all = Bitfield::full(20);
    picker.add_peer(&all);
    picker.add_peer(&field(20, [5]));
    let mut rng = Rng::new(1);
    picker.pick(&asker(0, &all), 1, &PLAIN, &mut rng);
    let mut priorities = vec![Priority::Normal; 20];
    priorities[5] = Priority::High;
    priorities[6] = Priority::Skip;
    assert!(picker.set_priorities(priorities.into()).is_empty());
    let picked = picker.pick(&asker(1, &all), 200, &PLAIN, &mut rng);
    assert_eq!(picked[0].piece, PieceIndex(5));
    assert!(!pieces(&picked).contains(&6));
    picker.check_invariants();
}

#[test]
fn giving_up_a_file_gives_up_what_was_begun_of_it() {
    let mut picker = picker(8);
    let all = Bitfield::full(8);
    picker.add_peer(&all);
    let picked = picker.pick(&asker(0, &all), 2, &PLAIN, &mut Rng::new(1));
    let given_up = picker.set_priorities(vec![Priority::Skip; 8].into());
    assert_eq!(given_up, [picked[0].piece]);
    assert_eq!(
        picker.receive(picked[0], conn(0), &PLAIN),
        Receipt::Unwanted
    );
    picker.check_invariants();
}

#[test]
fn a_deadline_comes_before_everything_and_twice_if_it_is_late() {
    let mut picker = picker(30);
    let all = Bitfield::full(30);
    picker.add_peer(&all);
    picker.add_peer(&all);
    let mut rng = Rng::new(1);
    picker.set_deadline(PieceIndex(17), Time::from_secs(9));
    picker.set_deadline(PieceIndex(11), Time::from_secs(5));
    let picked = picker.pick(&asker(0, &all), 8, &PLAIN, &mut rng);
    assert_eq!(pieces(&picked), [11, 17]);
    let busy = Asker {
        is_idle: false,
        ..asker(1, &all)
    };
    let more = picker.pick(&busy, 1, &PLAIN, &mut rng);
    assert!(![11, 17].contains(&more[0].piece.0), "not late");
    // With nothing else to do for it the late piece is asked for again.
    let rest = picker.pick(&busy, 1000, &PLAIN, &mut rng);
    assert_eq!(rest.len(), 26 * 4 - 8 - 1);
    let late = Asker {
        late: Time::from_secs(6),
        ..busy
    };
    let copy = picker.pick(&late, 1, &PLAIN, &mut rng);
    assert_eq!(copy[0].piece, PieceIndex(11));
    picker.check_invariants();
}

#[test]
fn in_the_end_game_slow_peers_do_not_keep_the_best_one_out() {
    let mut picker = picker(5);
    let all = Bitfield::full(5);
    (0..5).for_each(|_| picker.add_peer(&all));
    let mut rng = Rng::new(1);
    let last = picker.pick(&asker(0, &all), 8, &PLAIN, &mut rng);
    assert_eq!(last.len(), 4, "one piece is left");
    for at in &last[1..] {
        picker.receive(*at, conn(0), &PLAIN);
    }
    for copy in 1..3 {
        assert_eq!(
            picker.pick(&asker(copy, &all), 8, &PLAIN, &mut rng),
            last[..1]
        );
    }
    assert_eq!(picker.pick(&asker(3, &all), 8, &PLAIN, &mut rng), []);
    let best = Asker {
        is_best: true,
        ..asker(3, &all)
    };
    assert_eq!(picker.pick(&best, 8, &PLAIN, &mut rng), last[..1]);
    picker.check_invariants();
}

#[test]
fn in_the_end_game_an_idle_peer_gets_one_copy_and_the_answer_cancels_the_other() {
    let mut picker = picker(5);
    let all = Bitfield::full(5);
    picker.add_peer(&all);
    picker.add_peer(&all);
    let mut rng = Rng::new(1);
    let mine = picker.pick(&asker(0, &all), 3, &PLAIN, &mut rng);
    assert_eq!(mine.len(), 3);
    assert!(!picker.is_endgame());
    let last = picker.pick(&asker(1, &all), 8, &PLAIN, &mut rng);
    assert_eq!(last.len(), 1);
    assert!(picker.is_endgame());
    let busy = Asker {
        is_idle: false,
        ..asker(1, &all)
    };
    assert_eq!(picker.pick(&busy, 8, &PLAIN, &mut rng), []);
    let copy = picker.pick(&asker(2, &all), 8, &PLAIN, &mut rng);
    assert_eq!(copy.len(), 1);
    let at = copy[0];
    assert_eq!(picker.asked_of(at), 2);
    let first = if mine.contains(&at) { conn(0) } else { conn(1) };
    let Receipt::Taken { cancel, .. } = picker.receive(at, conn(2), &PLAIN) else {
        panic!("wanted")
    };
    assert_eq!(cancel, [first]);
    assert_eq!(picker.receive(at, first, &PLAIN), Receipt::Unwanted);
    picker.check_invariants();
}

#[test]
fn a_snubbed_peer_holds_up_nobody() {
    let mut picker = picker(20);
    let all = Bitfield::full(20);
    picker.add_peer(&all);
    picker.add_peer(&field(20, [3]));
    let mut rng = Rng::new(1);
    let snubbed = Asker {
        pace: Pace::Snubbed,
        ..asker(0, &all)
    };
    let slow = picker.pick(&snubbed, 1, &PLAIN, &mut rng);
    assert_eq!(pieces(&slow), [3], "the most common piece can wait best");
    let fast = picker.pick(&asker(1, &all), 1, &PLAIN, &mut rng);
    assert_ne!(fast[0].piece, slow[0].piece);
}

#[test]
fn a_suspect_works_alone_and_a_wrong_piece_waits_for_somebody_else() {
    let mut picker = picker(20);
    let all = Bitfield::full(20);
    picker.add_peer(&all);
    let mut rng = Rng::new(1);
    let parole = Asker {
        pace: Pace::Parole,
        ..asker(0, &all)
    };
    let alone = picker.pick(&parole, 2, &PLAIN, &mut rng);
    let other = picker.pick(&asker(1, &all), 2, &PLAIN, &mut rng);
    assert_ne!(alone[0].piece, other[0].piece);
    assert_eq!(
        picker.receive(alone[0], conn(1), &PLAIN),
        Receipt::Unwanted,
        "late, from another"
    );

    let rest = picker.pick(&asker(1, &all), 2, &PLAIN, &mut rng);
    finish_blocks(&mut picker, &[other.clone(), rest].concat(), 1);
    picker.restart_alone(other[0].piece);
    let suspect = Asker {
        is_suspect: true,
        ..parole
    };
    let more = picker.pick(&suspect, 100, &PLAIN, &mut rng);
    assert!(more.iter().all(|at| at.piece != other[0].piece));
    let again = picker.pick(&asker(2, &all), 4, &PLAIN, &mut rng);
    assert_eq!(pieces(&again), [other[0].piece.0]);
    picker.check_invariants();
}

#[test]
fn a_wrong_piece_is_asked_of_a_silent_peer_if_there_is_nothing_else_for_it() {
    let mut picker = picker(20);
    let mut one = Bitfield::new(20);
    one.set(PieceIndex(7));
    picker.add_peer(&one);
    let mut rng = Rng::new(1);
    let picked = picker.pick(&asker(0, &one), 100, &PLAIN, &mut rng);
    finish_blocks(&mut picker, &picked, 0);
    picker.restart_alone(PieceIndex(7));
    let snubbed = Asker {
        pace: Pace::Snubbed,
        ..asker(1, &one)
    };
    let suspect = Asker {
        is_suspect: true,
        ..snubbed
    };
    assert_eq!(picker.pick(&suspect, 1, &PLAIN, &mut rng), []);
    assert_eq!(pieces(&picker.pick(&snubbed, 1, &PLAIN, &mut rng)), [7]);
    picker.check_invariants();
}

fn finish_blocks(picker: &mut Picker, picked: &[BlockIndex], by: u32) {
    for at in picked {
        assert!(matches!(
            picker.receive(*at, conn(by), &PLAIN),
            Receipt::Taken { .. }
        ));
    }
}

#[test]
fn whoever_leaves_in_the_middle_of_a_piece_of_its_own_leaves_it_to_all_or_to_nobody() {
    let mut picker = picker(20);
    let all = Bitfield::full(20);
    picker.add_peer(&all);
    let mut rng = Rng::new(1);
    let parole = Asker {
        pace: Pace::Parole,
        ..asker(0, &all)
    };
    let picked = picker.pick(&parole, 2, &PLAIN, &mut rng);
    finish_blocks(&mut picker, &picked[..1], 0);
    picker.release(picked[1], conn(0));
    let claimed = picker.claimed_by(conn(0));
    assert_eq!(
        picker.abandon(conn(0), &claimed),
        [picked[0].piece],
        "begins from nothing"
    );
    let whole = Asker {
        pace: Pace::Whole,
        ..asker(1, &all)
    };
    let mine = picker.pick(&whole, 6, &PLAIN, &mut rng);
    assert_eq!(
        mine.iter().filter(|at| at.piece == picked[0].piece).count(),
        4
    );
    picker.check_invariants();
}

#[test]
fn only_wrong_blocks_are_wanted_again() {
    let mut picker = picker(5);
    let all = Bitfield::full(5);
    picker.add_peer(&all);
    let picked = picker.pick(&asker(0, &all), 4, &PLAIN, &mut Rng::new(1));
    finish_blocks(&mut picker, &picked, 0);
    assert_eq!(picker.complete().collect::<Vec<_>>(), [PieceIndex(0)]);
    picker.reject_blocks(PieceIndex(0), &[2]);
    let again = picker.pick(&asker(1, &all), 8, &PLAIN, &mut Rng::new(1));
    assert_eq!(
        again,
        [BlockIndex {
            piece: PieceIndex(0),
            block: 2
        }]
    );
    picker.check_invariants();
}

#[test]
fn what_a_banned_peer_sent_is_wanted_again() {
    let mut picker = picker(8);
    let all = Bitfield::full(8);
    picker.add_peer(&all);
    let picked = picker.pick(&asker(0, &all), 3, &PLAIN, &mut Rng::new(1));
    finish_blocks(&mut picker, &picked, 0);
    picker.distrust(conn(0));
    assert!(picker.senders(picked[0].piece).is_empty());
    let again = picker.pick(&asker(1, &all), 4, &PLAIN, &mut Rng::new(1));
    assert_eq!(pieces(&again), pieces(&picked));
    picker.check_invariants();
}

#[test]
fn of_a_choking_peer_only_allowed_pieces_are_requested() {
    let mut picker = picker(20);
    let all = Bitfield::full(20);
    picker.add_peer(&all);
    let allowed: BTreeSet<_> = [PieceIndex(4), PieceIndex(19)].into();
    let choked = Asker {
        only: Some(&allowed),
        ..asker(0, &all)
    };
    let picked = picker.pick(&choked, 64, &PLAIN, &mut Rng::new(1));
    assert_eq!(pieces(&picked), [4], "19 is there already");
    assert_eq!(picked.len(), 4);
}

#[test]
fn sequential_mode_goes_by_index() {
    let mut picker = picker(20);
    let have = field(20, (0..20).filter(|n| *n != 1));
    picker.add_peer(&have);
    picker.set_order(Order::Sequential);
    let picked = picker.pick(&asker(0, &have), 12, &PLAIN, &mut Rng::new(1));
    assert_eq!(pieces(&picked), [0, 2, 3]);
}

#[test]
fn padding_is_never_requested() {
    let shape = Shape {
        blocks: 1,
        padding: Some(2),
    };
    let mut picker = picker(20);
    let all = Bitfield::full(20);
    picker.add_peer(&all);
    let picked = picker.pick(&asker(0, &all), 100, &shape, &mut Rng::new(1));
    assert_eq!(picked.len(), 8);
    assert!(picked.iter().all(|at| at.piece.0 % 2 == 1));
    picker.check_invariants();
}

#[test]
fn open_pieces_that_nobody_has_can_be_let_go() {
    let mut picker = picker(20);
    let all = Bitfield::full(20);
    picker.add_peer(&all);
    let picked = picker.pick(&asker(0, &all), 2, &PLAIN, &mut Rng::new(1));
    assert_eq!(picker.unreachable(0), None);
    finish_blocks(&mut picker, &picked[..1], 0);
    picker.release(picked[1], conn(0));
    picker.remove_peer(&all);
    assert_eq!(picker.unreachable(1), None);
    assert_eq!(picker.unreachable(0), Some(picked[0].piece));
    picker.forget(picked[0].piece);
    assert_eq!(picker.unreachable(0), None);
    picker.check_invariants();
}

/// A piece that nothing has come of was once preferred to rarer ones because somebody, gone since, had been asked.
#[test]
fn a_piece_of_which_nothing_has_come_stands_behind_rarer_ones() {
    let mut picker = picker(20);
    let all = Bitfield::full(20);
    picker.add_peer(&all);
    let given_up = picker.pick(&asker(0, &all), 2, &PLAIN, &mut Rng::new(1));
    for at in &given_up {
        picker.release(*at, conn(0));
    }
    let common = given_up[0].piece;
    picker.add_peer(&field(20, [common.0]));
    let picked = picker.pick(&asker(0, &all), 60, &PLAIN, &mut Rng::new(1));
    assert_eq!(picked.len(), 60);
    assert!(!pieces(&picked).contains(&common.0), "{picked:?}");
    picker.check_invariants();
}

#[test]
fn a_block_that_comes_after_it_was_given_up_is_kept() {
    let mut picker = picker(20);
    let all = Bitfield::full(20);
    picker.add_peer(&all);
    let given_up = picker.pick(&asker(0, &all), 1, &PLAIN, &mut Rng::new(1));
    picker.release(given_up[0], conn(0));
    finish_blocks(&mut picker, &given_up, 0);
    assert_eq!(
        picker.senders(given_up[0].piece),
        [(given_up[0].block, conn(0))]
    );
    let rest = picker.pick(&asker(0, &all), 3, &PLAIN, &mut Rng::new(2));
    assert_eq!(pieces(&rest), [given_up[0].piece.0]);
    picker.check_invariants();
}

/// What a peer may do to a picker.
#[derive(Clone, Debug)]
enum Step {
    Pick(u32, usize),
    Receive(usize),
    Release(usize),
    Has(u32, u32),
    Leave(u32),
    Fail(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u32..5, 1_usize..9).prop_map(|(peer, count)| Step::Pick(peer, count)),
        4 => (0_usize..40).prop_map(Step::Receive),
        1 => (0_usize..40).prop_map(Step::Release),
        2 => (0_u32..5, 0_u32..24).prop_map(|(peer, piece)| Step::Has(peer, piece)),
        1 => (0_u32..5).prop_map(Step::Leave),
        1 => (0_u32..24).prop_map(Step::Fail),
    ]
}

/// A picker beside a slow book of the same facts.
struct Model {
    picker: Picker,
    have: Vec<Bitfield>,
    owed: Vec<(BlockIndex, u32)>,
    got: BTreeSet<BlockIndex>,
    verified: BTreeSet<u32>,
    /// Pieces that came wrong: they count as begun, because they wait for one peer to send them alone.
    wrong: BTreeSet<u32>,
    rng: Rng,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut picker = Picker::new(&Bitfield::new(24), vec![Priority::Normal; 24].into());
        let have = vec![Bitfield::new(24); 5];
        for have in &have {
            picker.add_peer(have);
        }
        Self {
            picker,
            have,
            owed: Vec::new(),
            got: BTreeSet::new(),
            verified: BTreeSet::new(),
            wrong: BTreeSet::new(),
            rng: Rng::new(seed),
        }
    }

    fn availability(&self, piece: u32) -> usize {
        self.have
            .iter()
            .filter(|have| have.has(PieceIndex(piece)))
            .count()
    }

    fn is_begun(&self, piece: u32) -> bool {
        self.owed.iter().any(|(at, _)| at.piece.0 == piece)
            || self.got.iter().any(|at| at.piece.0 == piece)
            || self.wrong.contains(&piece)
    }

    fn pick(&mut self, peer: u32, count: usize) {
        let have = self.have[peer as usize].clone();
        let is_idle = !self.owed.iter().any(|(_, by)| *by == peer);
        let who = Asker {
            is_idle,
            ..asker(peer, &have)
        };
        let picked = self.picker.pick(&who, count, &PLAIN, &mut self.rng);
        assert!(picked.len() <= count);
        for at in picked {
            let piece = at.piece.0;
            assert!(have.has(at.piece) && at.block < 4);
            assert!(!self.verified.contains(&piece) && !self.got.contains(&at));
            assert!(!self.owed.contains(&(at, peer)), "asked twice");
            let is_copy = self.owed.iter().any(|(owed, _)| *owed == at);
            if is_copy {
                assert!(
                    is_idle && self.is_all_requested(),
                    "a copy before the end game"
                );
            } else if !self.is_begun(piece) && self.verified.len() >= RANDOM_FIRST as usize {
                self.assert_rarest(piece, &have);
            }
            self.owed.push((at, peer));
        }
    }

    /// Nothing that this peer has, and that is not begun, is rarer.
    fn assert_rarest(&self, piece: u32, have: &Bitfield) {
        let others = have.ones().map(|other| other.0);
        let startable =
            others.filter(|other| !self.is_begun(*other) && !self.verified.contains(other));
        let rarest = startable.map(|other| self.availability(other)).min();
        assert!(Some(self.availability(piece)) <= rarest);
    }

    fn is_all_requested(&self) -> bool {
        (0..24)
            .filter(|piece| self.availability(*piece) > 0 && !self.verified.contains(piece))
            .all(|piece| {
                (0..4)
                    .map(|block| BlockIndex {
                        piece: PieceIndex(piece),
                        block,
                    })
                    .all(|at| {
                        self.got.contains(&at) || self.owed.iter().any(|(owed, _)| *owed == at)
                    })
            })
    }

    fn receive(&mut self, n: usize) {
        if self.owed.is_empty() {
            return;
        }
        let (at, peer) = self.owed.remove(n % self.owed.len());
        let Receipt::Taken { cancel, complete } = self.picker.receive(at, conn(peer), &PLAIN)
        else {
            panic!("an owed block is wanted");
        };
        let others: BTreeSet<_> = self
            .owed
            .iter()
            .filter(|(owed, _)| *owed == at)
            .map(|(_, by)| conn(*by))
            .collect();
        assert_eq!(cancel.into_iter().collect::<BTreeSet<_>>(), others);
        self.owed.retain(|(owed, _)| *owed != at);
        self.got.insert(at);
        let piece = at.piece;
        assert_eq!(
            complete,
            (0..4).all(|block| self.got.contains(&BlockIndex { piece, block }))
        );
        if complete && piece.0 % 5 != 0 {
            self.picker.verified(piece);
            self.verified.insert(piece.0);
            self.wrong.remove(&piece.0);
            self.got.retain(|at| at.piece != piece);
        }
    }

    fn leave(&mut self, peer: u32) {
        let (gone, left): (Vec<_>, Vec<_>) = self.owed.iter().partition(|(_, by)| *by == peer);
        self.owed = left;
        for (at, _) in gone {
            self.picker.release(at, conn(peer));
        }
        let claimed = self.picker.claimed_by(conn(peer));
        for piece in self.picker.abandon(conn(peer), &claimed) {
            self.got.retain(|at| at.piece != piece);
        }
        self.picker.remove_peer(&self.have[peer as usize]);
        self.have[peer as usize] = Bitfield::new(24);
        self.picker.add_peer(&self.have[peer as usize]);
    }

    /// A piece whose blocks are all there turns out wrong.
    fn fail(&mut self, piece: u32) {
        let piece = PieceIndex(piece);
        if self.picker.complete().any(|complete| complete == piece) {
            self.picker.restart_alone(piece);
            self.wrong.insert(piece.0);
            self.got.retain(|at| at.piece != piece);
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Pick(peer, count) => self.pick(peer, count),
            Step::Receive(n) => self.receive(n),
            Step::Release(n) if !self.owed.is_empty() => {
                let (at, peer) = self.owed.remove(n % self.owed.len());
                self.picker.release(at, conn(peer));
            }
            Step::Release(_) => {}
            Step::Has(peer, piece) => {
                if self.have[peer as usize].set(PieceIndex(piece)) {
                    self.picker
                        .add_piece(PieceIndex(piece), &self.have[peer as usize]);
                }
            }
            Step::Leave(peer) => self.leave(peer),
            Step::Fail(piece) => self.fail(piece),
        }
        self.picker.check_invariants();
        for piece in 0..24 {
            let availability = self.picker.rarity().availability(PieceIndex(piece)) as usize;
            assert_eq!(availability, self.availability(piece));
        }
    }
}

proptest! {
    #[test]
    fn the_picker_agrees_with_a_slow_book(
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 0..300),
    ) {
        let mut model = Model::new(seed);
        for step in &steps {
            model.step(step);
        }
    }

    #[test]
    fn a_peer_with_everything_gets_us_everything(seed in any::<u64>(), window in 1_usize..40) {
        let mut picker = Picker::new(&Bitfield::new(50), vec![Priority::Normal; 50].into());
        let all = Bitfield::full(50);
        picker.add_peer(&all);
        let mut rng = Rng::new(seed);
        for _ in 0..200 {
            let picked = picker.pick(&asker(0, &all), window, &PLAIN, &mut rng);
            finish(&mut picker, &picked, 0);
        }
        prop_assert_eq!(picker.verified, 50);
        picker.check_invariants();
    }
}

#[test]
fn who_sends_runs_goes_on_behind_the_last_piece_and_then_fills_the_longest_gap() {
    let all = Bitfield::full(100);
    let have = field(100, (0..10).chain(14..16).chain(70..72));
    let priorities: Box<[Priority]> = vec![Priority::Normal; 100].into();
    let mut picker = Picker::new(&have, priorities.clone());
    picker.add_peer(&all);
    let server = |current| Asker {
        pace: Pace::Runs,
        current,
        ..asker(0, &all)
    };
    let mut rng = Rng::new(1);
    let mut next = |picker: &mut Picker, current, count: usize| {
        pieces(&picker.pick(&server(current), 4 * count, &PLAIN, &mut rng))
    };
    // From its beginning, which lies behind what is there.
    let first: Vec<u32> = (16..36).collect();
    assert_eq!(next(&mut picker, None, 20), first);
    assert_eq!(next(&mut picker, Some(PieceIndex(35)), 2), [36, 37]);
    // Where the rest is as long as that behind, one that begins anew leaves room to whoever goes on.
    let second = next(&mut picker, None, 5);
    assert!(
        (38..=70).contains(&second[0]) || second[0] == 72,
        "{second:?}"
    );
    let mut high = priorities;
    high[99] = Priority::High;
    picker.set_priorities(high);
    assert_eq!(next(&mut picker, Some(PieceIndex(37)), 1), [99]);
    picker.set_order(Order::Sequential);
    assert_eq!(
        next(&mut picker, Some(PieceIndex(37)), 6),
        [10, 11, 12, 13, 38, 39]
    );
}
