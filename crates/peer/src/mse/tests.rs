//! The exchange by hand, step by step, where the ends of real connections are too well-behaved.

use riverrun_base::{InfoHash, Sha1Digest};

use super::key::KEY_LEN;
use super::policy::Methods;
use super::*;

const NAME: InfoHash = InfoHash([7; 20]);

fn exponent(first: u8) -> Sha1Digest {
    let mut bytes = [0; 20];
    (first..).zip(&mut bytes).for_each(|(n, byte)| *byte = n);
    Sha1Digest(bytes)
}

fn pairs() -> (KeyPair, KeyPair) {
    (KeyPair::new(exponent(1)), KeyPair::new(exponent(101)))
}

fn chance(keys: KeyPair) -> Chance {
    Chance {
        keys,
        pads: Rng::new(1),
    }
}

/// Computed by other means: powers, SHA-1 and RC4 in a dozen lines of Python.
#[test]
fn the_numbers_are_those_of_the_specification() {
    let (ours, theirs) = pairs();
    let digest = |bytes: &[u8]| sha1(bytes).to_string();
    assert_eq!(
        digest(&ours.public),
        "9fa4c50e31ec4635ddb9ef30405e9db341313ed2"
    );
    let secret = ours.agree(&theirs.public).unwrap();
    assert_eq!(
        digest(secret.as_bytes()),
        "8a347c13acc42e0841bfae5ef1b2eb4d0a484769"
    );
    assert_eq!(
        theirs.agree(&ours.public).unwrap().as_bytes(),
        secret.as_bytes()
    );
    assert_eq!(
        hash(b"req1", &[secret.as_bytes()]).to_string(),
        "78fffb0f23055a793ff7609f359e04e383ec3505"
    );
    let masked = mask(&secret, veiled(NAME));
    assert_eq!(
        masked.to_string(),
        "71d78150e85448ce01f25cccacd68f4ff1fe589f"
    );
    assert_eq!(mask(&secret, masked), veiled(NAME));
    let mut ciphers = Ciphers::new(&secret, NAME, true);
    let (mut sent, mut came) = (VC, VC);
    ciphers.outbound.apply(&mut sent);
    ciphers.inbound.apply(&mut came);
    assert_eq!(sent, 0x6001_a24d_f82b_edd6_u64.to_be_bytes());
    assert_eq!(came, 0x1f11_7523_9bd8_2cb0_u64.to_be_bytes());
}

#[test]
fn a_key_from_which_everybody_knows_what_follows_is_refused() {
    let (ours, _) = pairs();
    let prime: [u8; 12] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc9, 0x0f, 0xda, 0xa2,
    ];
    let number = |tail: &[u8]| {
        let mut bytes = [0; KEY_LEN];
        bytes[KEY_LEN - tail.len()..].copy_from_slice(tail);
        bytes
    };
    assert!(ours.agree(&number(&[0])).is_err());
    assert!(ours.agree(&number(&[1])).is_err());
    assert!(ours.agree(&number(&[2])).is_ok());
    assert!(ours.agree(&[0xff; KEY_LEN]).is_err());
    let mut most = KeyPair::new(Sha1Digest([0; 20])).public;
    assert_eq!(most, number(&[1]), "the zeroth power");
    most = [0; KEY_LEN];
    most[..12].copy_from_slice(&prime);
    assert!(ours.agree(&most).is_ok(), "a little below the prime");
}

/// A listener that knows our key and has sent its own; and what follows from both.
fn listening(policy: EncryptionPolicy) -> (Exchange, Secret) {
    let (ours, theirs) = pairs();
    let secret = ours.agree(&theirs.public).unwrap();
    let begun = Exchange::Listening(Listening::begin(policy));
    let step = begun.receive(&mut &ours.public[..], &mut Vec::new());
    let Ok(Step::KeyWork(Exchange::Listening(listening))) = step else {
        panic!("{step:?}");
    };
    let mut out = Vec::new();
    let admitted = listening.admit(chance(theirs), &mut out).unwrap();
    assert!((KEY_LEN..=KEY_LEN + PAD_LEN_MAX).contains(&out.len()));
    (Exchange::Listening(admitted), secret)
}

/// A listener that has heard a dialer say this after its key.
fn listener_hears(
    policy: EncryptionPolicy,
    pad_len: usize,
    word: &[u8],
) -> Result<Step, PeerMisbehaved> {
    let (exchange, secret) = listening(policy);
    let mut out = Vec::new();
    let mut said = vec![0x55; pad_len];
    said.extend_from_slice(&hash(b"req1", &[secret.as_bytes()]).0);
    said.extend_from_slice(&mask(&secret, veiled(NAME)).0);
    let step = exchange.receive(&mut &said[..], &mut out)?;
    let Step::Named(Exchange::Listening(named), name) = step else {
        return Ok(step);
    };
    assert_eq!(name, veiled(NAME));
    let mut sealed = Vec::new();
    Ciphers::new(&secret, NAME, true).seal(word, &mut sealed);
    Exchange::Listening(named.unveil(NAME)).receive(&mut &sealed[..], &mut out)
}

fn provide(methods: u32, pad_len: u16, early: u16) -> Vec<u8> {
    let mut word = VC.to_vec();
    word.extend_from_slice(&methods.to_be_bytes());
    word.extend_from_slice(&pad_len.to_be_bytes());
    word.resize(word.len() + usize::from(pad_len), 0);
    word.extend_from_slice(&early.to_be_bytes());
    word
}

#[test]
fn a_listener_takes_any_padding_up_to_the_limit() {
    for pad_len in [0, 1, 19, 20, 300, 511, 512] {
        let word = provide(3, u16::try_from(pad_len).unwrap(), 0);
        let step = listener_hears(EncryptionPolicy::Prefer, pad_len, &word);
        let Ok(Step::Done(sealed)) = step else {
            panic!("{pad_len}: {step:?}");
        };
        assert_eq!(sealed.encryption, Encryption::Handshake);
    }
    let error = listener_hears(EncryptionPolicy::Prefer, 513, &provide(3, 0, 0));
    assert!(error.is_err());
}

#[test]
fn a_listener_refuses_what_is_no_word_of_a_dialer() {
    let check = |policy, word: &[u8]| {
        let step = listener_hears(policy, 3, word);
        assert!(
            matches!(step, Err(PeerMisbehaved::KeyExchange(_))),
            "{step:?}"
        );
    };
    check(EncryptionPolicy::Prefer, &provide(0, 0, 0));
    check(EncryptionPolicy::Prefer, &provide(4, 0, 0));
    check(EncryptionPolicy::Require, &provide(1, 0, 0));
    check(EncryptionPolicy::Prefer, &provide(3, 513, 0));
    check(EncryptionPolicy::Prefer, &[1; 14]);
}

#[test]
fn noise_instead_of_the_mark_ends_after_so_many_bytes() {
    let (exchange, _) = listening(EncryptionPolicy::Prefer);
    let noise = vec![0x55; PAD_LEN_MAX + Sha1Digest::LEN];
    let enough = exchange.receive(&mut &noise[..], &mut Vec::new());
    assert!(enough.is_err());
    let (exchange, _) = listening(EncryptionPolicy::Prefer);
    let step = exchange.receive(&mut &noise[1..], &mut Vec::new());
    assert!(matches!(step, Ok(Step::More(_))));
}

/// A dialer that has heard a listener say this after its key.
fn dialer_hears(
    policy: EncryptionPolicy,
    pad_len: usize,
    word: &[u8],
) -> Result<Step, PeerMisbehaved> {
    let (ours, theirs) = pairs();
    let secret = ours.agree(&theirs.public).unwrap();
    let intent = Intent::test(NAME, policy, b"greeting".to_vec());
    let mut out = Vec::new();
    let begun = Exchange::Dialing(Dialing::begin(intent, chance(ours), &mut out));
    let mut said = theirs.public.to_vec();
    said.resize(KEY_LEN + pad_len, 0x55);
    Ciphers::new(&secret, NAME, false).seal(word, &mut said);
    begun.receive(&mut &said[..], &mut out)
}

fn select(methods: u32, pad_len: u16) -> Vec<u8> {
    let mut word = provide(methods, pad_len, 0);
    word.truncate(word.len() - 2);
    word
}

#[test]
fn a_dialer_takes_what_it_has_offered_and_any_padding() {
    for (policy, method, pad_len, expected) in [
        (EncryptionPolicy::Prefer, 1, 0, Some(Encryption::Handshake)),
        (EncryptionPolicy::Prefer, 2, 512, Some(Encryption::Stream)),
        (EncryptionPolicy::Require, 2, 17, Some(Encryption::Stream)),
        (EncryptionPolicy::Require, 1, 17, None),
        (EncryptionPolicy::Prefer, 3, 17, None),
        (EncryptionPolicy::Prefer, 1, 513, None),
    ] {
        let word = select(method, u16::try_from(pad_len).unwrap());
        let step = dialer_hears(policy, pad_len, &word);
        let encryption = match step {
            Ok(Step::Done(sealed)) => Some(sealed.encryption),
            Err(PeerMisbehaved::KeyExchange(_)) => None,
            step => panic!("{step:?}"),
        };
        assert_eq!(encryption, expected, "{policy} {method} {pad_len}");
    }
}

#[test]
fn what_is_offered_follows_the_policy() {
    assert_eq!(EncryptionPolicy::Prefer.methods(), Methods(3));
    assert_eq!(EncryptionPolicy::Require.methods(), Methods(2));
}
