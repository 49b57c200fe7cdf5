use proptest::prelude::{prop, prop_assert, proptest};

use super::*;

fn own() -> OwnAddress {
    OwnAddress {
        external_ip: Some(IpAddr::from([198, 51, 100, 1])),
        listen_port: 6881,
    }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn add(book: &mut Candidates, text: &str, source: PeerSource) -> bool {
    book.add(addr(text), source, own(), &mut Rng::new(1))
}

#[test]
fn only_addresses_that_can_be_peers_are_dialled() {
    use PeerSource::{Dht, Exchange, Link, Local, Tracker, User};
    let check = |text: &str, source, near, expected| {
        assert_eq!(
            is_dialable(addr(text), source, own(), near),
            expected,
            "{text} {source:?} {near}"
        );
    };
    check("203.0.113.5:6881", Dht, false, true);
    check("203.0.113.5:0", User, true, false);
    check("0.0.0.0:6881", Tracker, false, false);
    check("0.1.2.3:6881", Tracker, false, false);
    check("255.255.255.255:6881", Tracker, false, false);
    check("224.0.0.1:6881", Tracker, false, false);
    check("[ff02::1]:6881", Tracker, false, false);
    check("[::]:6881", Tracker, false, false);
    check("198.51.100.1:6881", Tracker, false, false);
    check("198.51.100.1:6882", Tracker, false, true);
    check("127.0.0.1:6881", Tracker, false, false);
    check("[::ffff:127.0.0.1]:6881", Tracker, false, false);
    check("127.0.0.1:6882", Tracker, false, true);
    check("127.0.0.1:6882", Exchange, false, false);
    check("127.0.0.1:6882", Exchange, true, true);
    check("192.168.1.7:6882", Dht, false, false);
    check("192.168.1.7:6882", Local, false, true);
    check("[fe80::1]:6882", Dht, false, false);
    check("203.0.113.5:22", Tracker, false, false);
    check("203.0.113.5:22", User, false, true);
    check("203.0.113.5:22", Link, false, false);
    check("192.168.1.1:53", Link, false, false);
    check("192.168.1.7:6882", Link, false, true);
    check("127.0.0.1:22", Tracker, false, true);
    check("203.0.113.5:443", Exchange, false, true);
    check("203.0.113.5:80", Dht, false, true);
}

const HANGS_UP: DialEnd = DialEnd::Refused(Miss::HungUp);

/// When the only address that is known is dialled within `secs`, and whether in the clear, if each dial ends so. The
/// book is asked when it says, and at no other time.
fn dials_of(book: &mut Candidates, end: DialEnd, secs: u64) -> Vec<(u64, bool)> {
    let (mut now, mut dials) = (Time::ZERO, Vec::new());
    while now < Time::from_secs(secs) && dials.len() < 1000 {
        match book.next(now, false) {
            Some((addr, _)) => {
                dials.push((now.as_micros() / 1_000_000, book.is_plain(addr)));
                book.closed(now, addr, end);
            }
            None => match book.next_ready() {
                Some(at) => now = at,
                None => break,
            },
        }
        book.check_invariants();
    }
    dials
}

fn seconds(dials: &[(u64, bool)]) -> Vec<u64> {
    dials.iter().map(|(second, _)| *second).collect()
}

#[test]
fn a_failed_dial_is_repeated_later_and_then_left() {
    let mut book = Candidates::default();
    add(&mut book, "203.0.113.5:6881", PeerSource::Tracker);
    let dials = dials_of(&mut book, DialEnd::Failed(Miss::NoAnswer), 3 * 3600);
    assert_eq!(seconds(&dials), [0, 30, 90, 90 + 600]);
    assert_eq!(book.len(), 0, "forgotten");
}

#[test]
fn an_only_address_that_a_tracker_names_again_gets_one_dial_more() {
    let mut book = Candidates::default();
    let name = |book: &mut Candidates| add(book, "203.0.113.5:6881", PeerSource::Tracker);
    name(&mut book);
    let mut dials = Vec::new();
    for second in 0..600 {
        if [180, 181, 300].contains(&second) {
            name(&mut book);
        }
        let now = Time::from_secs(second);
        while let Some((addr, _)) = book.next(now, false) {
            dials.push(second);
            book.closed(now, addr, DialEnd::Failed(Miss::Refused));
        }
        book.check_invariants();
    }
    assert_eq!(dials, [0, 30, 90, 180, 240, 300]);
}

#[test]
fn what_the_user_or_his_link_named_is_dialled_for_good() {
    for source in [PeerSource::User, PeerSource::Link] {
        let mut book = Candidates::default();
        add(&mut book, "203.0.113.5:6881", source);
        let dials = dials_of(&mut book, DialEnd::Failed(Miss::NoAnswer), 3 * 3600);
        assert_eq!(seconds(&dials[..6]), [0, 30, 90, 690, 1290, 1890]);
        assert_eq!(dials.len(), 20, "{dials:?}");
    }
}

#[test]
fn an_only_address_that_hangs_up_is_not_left_for_good() {
    let mut book = Candidates::default();
    add(&mut book, "203.0.113.5:6881", PeerSource::User);
    let dials = dials_of(&mut book, HANGS_UP, 3 * 3600);
    let seconds = seconds(&dials);
    assert!(seconds.len() > 15, "{dials:?}");
    let gaps = seconds.windows(2).map(|pair| pair[1] - pair[0]);
    assert_eq!(gaps.max(), Some(600), "{dials:?}");
    let in_ten_minutes = |from: &u64| {
        let later = seconds
            .iter()
            .filter(|at| (*from..from + 600).contains(*at));
        later.count()
    };
    assert_eq!(
        seconds.iter().map(in_ten_minutes).max(),
        Some(3),
        "a victim gets no more"
    );
}

/// An address in our surroundings, where no IP address is left alone for its failures.
const NEAR: &str = "192.168.1.7:6881";

/// A book with an address that was dialled three times in vain.
fn tried_in_vain(source: PeerSource) -> Candidates {
    let mut book = Candidates::default();
    add(&mut book, NEAR, source);
    for at in [0, 30, 90] {
        let now = Time::from_secs(at);
        let (addr, _) = book.next(now, false).unwrap();
        book.closed(now, addr, DialEnd::Failed(Miss::NoAnswer));
    }
    assert_eq!(book.next_ready(), Some(Time::from_secs(690)));
    book
}

#[test]
fn a_tracker_that_names_the_address_of_a_stranger_shortens_its_wait() {
    let mut book = tried_in_vain(PeerSource::Exchange);
    add(&mut book, NEAR, PeerSource::Tracker);
    assert_eq!(book.next_ready(), Some(Time::from_secs(150)));
    book.check_invariants();
    assert_eq!(book.failures(addr(NEAR)), 2);
}

#[test]
fn a_tracker_that_names_an_address_again_shortens_its_wait() {
    let text = NEAR;
    let mut book = tried_in_vain(PeerSource::Tracker);
    add(&mut book, text, PeerSource::Exchange);
    assert_eq!(
        book.next_ready(),
        Some(Time::from_secs(690)),
        "anybody could say so"
    );
    add(&mut book, text, PeerSource::Tracker);
    assert_eq!(book.next_ready(), Some(Time::from_secs(150)));
    book.check_invariants();
    assert_eq!(book.failures(addr(text)), 2);
    add(&mut book, text, PeerSource::Tracker);
    assert_eq!(book.next_ready(), Some(Time::from_secs(120)));
}

#[test]
fn who_hangs_up_is_dialled_in_the_other_manner_at_once_and_then_as_if_unreachable() {
    let mut book = Candidates::default();
    let text = "203.0.113.5:6881";
    add(&mut book, text, PeerSource::Tracker);
    let dials = dials_of(&mut book, HANGS_UP, 600);
    assert_eq!(
        dials,
        [(0, false), (0, true), (30, false)],
        "and then its address rests"
    );
    let mut book = Candidates::default();
    add(&mut book, text, PeerSource::Tracker);
    for end in [
        HANGS_UP,
        DialEnd::Ended,
        DialEnd::Failed(Miss::Refused),
        DialEnd::Useless,
    ] {
        let (at, _) = book.next(Time::from_secs(100_000), false).unwrap();
        assert_eq!(book.is_plain(at), end != HANGS_UP, "{end:?}");
        book.closed(Time::ZERO, at, end);
    }
}

#[test]
fn the_ports_of_one_victim_are_not_dialled_one_after_the_other() {
    let mut book = Candidates::default();
    let mut dials = 0;
    for port in 2000..3000 {
        add(
            &mut book,
            &format!("203.0.113.5:{port}"),
            PeerSource::Tracker,
        );
    }
    assert_eq!(book.len(), 2);
    for second in 0..600 {
        let now = Time::from_secs(second);
        while let Some((addr, _)) = book.next(now, false) {
            dials += 1;
            book.closed(now, addr, DialEnd::Failed(Miss::Refused));
            add(
                &mut book,
                &format!("203.0.113.5:{}", 2000 + second),
                PeerSource::Tracker,
            );
        }
    }
    assert!(dials <= 3, "{dials}");
}

#[test]
fn in_our_surroundings_many_peers_share_an_address() {
    let mut book = Candidates::default();
    for port in 7000..7050 {
        assert!(add(
            &mut book,
            &format!("127.0.0.1:{port}"),
            PeerSource::Tracker
        ));
    }
    let dialled = std::iter::from_fn(|| book.next(Time::ZERO, false)).count();
    assert_eq!(dialled, 50);
    assert!(!book.has_next(false));
    book.check_invariants();
}

#[test]
fn the_peers_of_highest_priority_come_first() {
    let mut book = Candidates::default();
    for n in 1..100_u8 {
        add(&mut book, &format!("203.0.{n}.5:6881"), PeerSource::Tracker);
    }
    let ours = SocketAddr::new(own().external_ip.unwrap(), own().listen_port);
    let order = std::iter::from_fn(|| book.next(Time::ZERO, false));
    let priorities: Vec<_> = order.map(|(addr, _)| peer_priority(ours, addr)).collect();
    assert_eq!(priorities.len(), 99);
    assert!(priorities.is_sorted_by(|a, b| a >= b));
}

#[test]
fn what_strangers_name_is_dialled_in_turns_with_what_trackers_name() {
    let mut book = Candidates::default();
    for n in 1..50_u8 {
        add(
            &mut book,
            &format!("203.0.{n}.5:6881"),
            PeerSource::Exchange,
        );
    }
    for n in 1..5_u8 {
        add(
            &mut book,
            &format!("198.51.{n}.5:6881"),
            PeerSource::Tracker,
        );
    }
    // A tracker vouches for what a stranger named before.
    add(&mut book, "203.0.7.5:6881", PeerSource::Tracker);
    book.check_invariants();
    let order = std::iter::from_fn(|| book.next(Time::ZERO, false));
    let sources: Vec<_> = order.map(|(_, source)| source).collect();
    assert_eq!(sources.len(), 53);
    let trusted = |sources: &[PeerSource]| {
        let trackers = sources
            .iter()
            .filter(|source| **source == PeerSource::Tracker);
        trackers.count()
    };
    assert_eq!(trusted(&sources[..10]), 5, "{sources:?}");
}

#[test]
fn strangers_get_only_their_share_of_the_book() {
    let mut book = Candidates::default();
    for n in 0..4000_u32 {
        let text = format!("203.{}.{}.5:6881", n / 250, n % 250);
        add(&mut book, &text, PeerSource::Exchange);
    }
    assert_eq!(book.len(), CANDIDATES_MAX / 4);
    for n in 0..4000_u32 {
        let text = format!("202.{}.{}.5:6881", n / 250, n % 250);
        add(&mut book, &text, PeerSource::Tracker);
    }
    assert_eq!(book.len(), CANDIDATES_MAX);
    book.check_invariants();
}

#[test]
fn seeds_are_left_alone_while_we_have_everything() {
    let mut book = Candidates::default();
    add(&mut book, "203.0.113.5:6881", PeerSource::Tracker);
    book.set_seed(addr("203.0.113.5:6881"), true);
    assert_eq!(book.next(Time::ZERO, true), None);
    assert!(!book.has_next(true) && book.has_next(false));
    assert!(book.next(Time::ZERO, false).is_some());
}

#[test]
fn a_barred_address_stays_barred() {
    let mut book = Candidates::default();
    let text = "203.0.113.5:6881";
    add(&mut book, text, PeerSource::Tracker);
    let (at, _) = book.next(Time::ZERO, false).unwrap();
    book.bar_ip(at.ip());
    book.closed(Time::ZERO, at, DialEnd::Ended);
    add(&mut book, text, PeerSource::User);
    assert_eq!(book.next(Time::from_secs(100_000), false), None);
}

proptest! {
    #[test]
    fn a_private_torrent_knows_only_what_it_may(sources in prop::collection::vec(0_u8..6, 0..50)) {
        use PeerSource::{Dht, Exchange, Incoming, Local, Tracker, User};
        let mut book = Candidates::default();
        for (n, source) in sources.iter().enumerate() {
            let source = [User, Tracker, Incoming, Dht, Exchange, Local][usize::from(*source)];
            add(&mut book, &format!("203.0.{n}.5:6881"), source);
        }
        book.forget_forbidden(true);
        book.check_invariants();
        while let Some((_, source)) = book.next(Time::ZERO, false) {
            prop_assert!(source.may_serve(true));
            prop_assert!(matches!(source, User | Tracker | Incoming));
        }
    }

    #[test]
    fn the_book_stays_in_order_whatever_happens(
        steps in prop::collection::vec((0_u8..5, 0_u8..30, 0_u64..100), 0..200),
    ) {
        let mut book = Candidates::default();
        let mut busy: Vec<SocketAddr> = Vec::new();
        let mut now = Time::ZERO;
        for (what, n, wait) in steps {
            now += Duration::from_secs(wait);
            let text = format!("203.0.{}.5:{}", n / 3, 6881 + u16::from(n % 3));
            match what {
                0 | 1 => {
                    add(&mut book, &text, [PeerSource::Tracker, PeerSource::Dht][usize::from(n % 2)]);
                }
                2 => {
                    if let Some((addr, _)) = book.next(now, n % 2 == 0) {
                        prop_assert!(!busy.contains(&addr), "dialled twice");
                        busy.push(addr);
                    }
                }
                3 if !busy.is_empty() => {
                    let addr = busy.remove(usize::from(n) % busy.len());
                    let failed = DialEnd::Failed(Miss::Refused);
                    let ends = [failed, DialEnd::Useless, DialEnd::Ended, DialEnd::NotTried];
                    book.closed(now, addr, ends[usize::from(n % 4)]);
                }
                _ => book.rank_again(own(), &mut Rng::new(u64::from(n))),
            }
            book.check_invariants();
        }
    }
}
