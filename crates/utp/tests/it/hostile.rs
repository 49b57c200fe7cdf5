//! What strangers try.

use std::net::SocketAddr;

use proptest::prelude::*;
use riverrun_base::Time;
use riverrun_utp::{ConnectionIds, Packet, UtpConfig, UtpEnd, UtpSocket};

const DATA: u8 = 0;
const FIN: u8 = 1;
const STATE: u8 = 2;
const RESET: u8 = 3;
const SYN: u8 = 4;

const START: Time = Time::from_secs(1);

fn packet(kind: u8, id: u16, seq: u16, ack: u16) -> Vec<u8> {
    let mut bytes = vec![kind << 4 | 1, 0];
    bytes.extend(id.to_be_bytes());
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 1]);
    bytes.extend(1_000_000_u32.to_be_bytes());
    bytes.extend(seq.to_be_bytes());
    bytes.extend(ack.to_be_bytes());
    bytes
}

fn with_sack(mut packet: Vec<u8>, mask: &[u8]) -> Vec<u8> {
    packet[1] = 1;
    packet.extend([0, u8::try_from(mask.len()).unwrap()]);
    packet.extend(mask);
    packet
}

fn give(socket: &mut UtpSocket, now: Time, bytes: &[u8]) {
    socket.handle_packet(now, &Packet::parse(bytes).unwrap());
}

/// All that the socket sends now.
fn drain(socket: &mut UtpSocket, now: Time) -> Vec<Vec<u8>> {
    let mut sent = Vec::new();
    while let Some(transmit) = socket.poll_transmit(now, 64) {
        sent.extend(
            transmit
                .bytes
                .chunks(transmit.segment_len)
                .map(<[u8]>::to_vec),
        );
        socket.handle_transmitted(now);
        assert!(sent.len() < 10_000, "it never stops sending");
    }
    sent
}

fn peer() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 6881))
}

/// A socket that was dialled with id 10, and the number that it has drawn for its first packet.
fn dialled() -> (UtpSocket, u16) {
    let syn = packet(SYN, 10, 1, 0);
    let ids = ConnectionIds::answering(10);
    let syn = Packet::parse(&syn).unwrap();
    let socket = UtpSocket::accept(START, UtpConfig::default(), peer(), ids, &syn, 7);
    let mut socket = socket.unwrap();
    let sent = drain(&mut socket, START);
    assert_eq!(
        (sent.len(), sent[0].len(), sent[0][0]),
        (1, 20, STATE << 4 | 1)
    );
    let origin = u16::from_be_bytes([sent[0][16], sent[0][17]]);
    (socket, origin)
}

/// The same after the peer has shown that it hears us, with `bytes` written and sent.
fn connected(bytes: usize) -> (UtpSocket, u16) {
    let (mut socket, origin) = dialled();
    give(
        &mut socket,
        START,
        &packet(STATE, 11, 2, origin.wrapping_sub(1)),
    );
    assert!(socket.is_connected());
    assert_eq!(socket.write(START, &vec![1; bytes]), bytes);
    drain(&mut socket, START);
    (socket, origin)
}

#[test]
fn whoever_does_not_prove_to_hear_us_gets_twenty_bytes_a_syn() {
    let (mut socket, origin) = dialled();
    // Bytes that were written, packets that do not know our number: nothing leaves.
    socket.write(START, &[0; 5000]);
    for ack in [0, origin, origin.wrapping_add(1), origin.wrapping_sub(2)] {
        for kind in [DATA, STATE, FIN] {
            give(&mut socket, START, &packet(kind, 11, 2, ack));
        }
    }
    assert!(drain(&mut socket, START).is_empty() && !socket.is_connected());
    // The `SYN` again: the same answer again.
    give(&mut socket, START, &packet(SYN, 10, 1, 0));
    let sent = drain(&mut socket, START);
    assert_eq!((sent.len(), sent[0].len()), (1, 20));
    // And then it is forgotten, without a word.
    let end = socket.poll_timeout().unwrap();
    assert!(end <= Time::from_secs(5));
    socket.handle_timeout(end);
    assert_eq!(socket.end(), Some(UtpEnd::TimedOut));
    assert!(drain(&mut socket, end).is_empty());
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_ends_the_connection() {
    // 5000 bytes in packets of 548 less the header, one of them a probe: ten packets.
    let ahead = |origin: u16| packet(STATE, 11, 3, origin.wrapping_add(10));
    let sacked = |origin: u16| {
        let ack = origin.wrapping_sub(1);
        with_sack(packet(STATE, 11, 3, ack), &[0, 0b0000_0010, 0, 0])
    };
    for lie in [&ahead as &dyn Fn(u16) -> Vec<u8>, &sacked] {
        let (mut socket, origin) = connected(5000);
        give(&mut socket, START, &lie(origin));
        assert_eq!(socket.end(), Some(UtpEnd::AckOfUnsent));
        let sent = drain(&mut socket, START);
        assert_eq!((sent.len(), sent[0][0]), (1, RESET << 4 | 1));
    }
    // The last that was sent may be acknowledged, either way.
    let (mut socket, origin) = connected(5000);
    let ack = origin.wrapping_sub(1);
    give(
        &mut socket,
        START,
        &with_sack(packet(STATE, 11, 3, ack), &[0xff, 0, 0, 0]),
    );
    give(
        &mut socket,
        START,
        &packet(STATE, 11, 3, origin.wrapping_add(9)),
    );
    assert_eq!(socket.end(), None);
}

#[test]
fn the_window_does_not_grow_by_saying_the_same_again() {
    let (mut socket, origin) = connected(60_000);
    let first = packet(STATE, 11, 3, origin);
    give(&mut socket, START, &first);
    let window = socket.congestion_window_bytes();
    for _ in 0..1000 {
        give(&mut socket, START, &first);
    }
    assert!(socket.congestion_window_bytes() <= window);
}

#[test]
fn a_reset_must_know_our_numbers() {
    let (mut socket, origin) = connected(1000);
    for ack in [origin.wrapping_add(100), origin.wrapping_sub(20_000)] {
        give(&mut socket, START, &packet(RESET, 11, 3, ack));
        assert_eq!(socket.end(), None);
    }
    give(
        &mut socket,
        START,
        &packet(RESET, 11, 3, origin.wrapping_sub(1)),
    );
    assert_eq!(socket.end(), Some(UtpEnd::Reset));
    assert!(
        drain(&mut socket, START).is_empty(),
        "a reset is not answered"
    );
}

#[test]
fn a_reset_refuses_a_dial_at_once() {
    let ids = ConnectionIds::dialling(10);
    let mut socket = UtpSocket::connect(START, UtpConfig::default(), peer(), ids, 7);
    let syn = &drain(&mut socket, START)[0];
    let seq = u16::from_be_bytes([syn[16], syn[17]]);
    give(
        &mut socket,
        START,
        &packet(RESET, 10, 0, seq.wrapping_add(1)),
    );
    assert_eq!(socket.end(), None);
    give(&mut socket, START, &packet(RESET, 10, 0, seq));
    assert_eq!(socket.end(), Some(UtpEnd::Reset));
}

#[test]
fn an_abort_tells_a_peer_that_is_there() {
    let (mut socket, _) = connected(1000);
    socket.abort();
    let sent = drain(&mut socket, START);
    assert_eq!((sent.len(), sent[0][0]), (1, RESET << 4 | 1));
    assert_eq!(&sent[0][2..4], 10_u16.to_be_bytes());
    let (mut socket, _) = dialled();
    socket.abort();
    assert!(drain(&mut socket, START).is_empty());
}

/// A packet with numbers near those of the connection, or any.
fn any_packet(origin: u16) -> impl Strategy<Value = Vec<u8>> {
    let near = |at: u16| prop_oneof![4 => (0..40_u16).prop_map(move |n| at.wrapping_add(n).wrapping_sub(10)), 1 => any::<u16>()];
    let mask = prop::collection::vec(any::<u8>(), 0..16);
    let payload = (0..3000_usize).prop_map(|len| vec![7; len]);
    let window = prop_oneof![Just(0), any::<u32>()];
    (
        0..5_u8,
        near(2),
        near(origin),
        mask,
        payload,
        window,
        any::<[u32; 2]>(),
    )
        .prop_map(|(kind, seq, ack, mask, payload, window, times)| {
            let mut bytes = packet(kind, 11, seq, ack);
            bytes[4..8].copy_from_slice(&times[0].to_be_bytes());
            bytes[8..12].copy_from_slice(&times[1].to_be_bytes());
            bytes[12..16].copy_from_slice(&window.to_be_bytes());
            if !mask.is_empty() {
                bytes = with_sack(bytes, &mask);
            }
            bytes.extend(payload);
            bytes
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_packets_breaks_anything(
        packets in prop::collection::vec((any_packet(dialled().1), 0..2_000_000_u64, any::<bool>()), 1..40),
    ) {
        let (mut socket, _) = connected(20_000);
        let config = UtpConfig::default();
        let mut now = START;
        for (bytes, later, reads) in packets {
            now = Time::from_micros(now.as_micros() + later);
            give(&mut socket, now, &bytes);
            socket.handle_timeout(now);
            if reads {
                let count = socket.readable().len();
                socket.consume(count);
            }
            socket.write(now, &[9; 3000]);
            for datagram in drain(&mut socket, now) {
                prop_assert!(datagram.len() <= 1472);
                prop_assert!(Packet::parse(&datagram).is_ok());
            }
            prop_assert!(socket.readable_len() <= 2 * config.receive_buffer_bytes_max / 16);
            prop_assert!(socket.congestion_window_bytes() <= config.send_buffer_bytes_max);
        }
    }
}
