//! uTP packets to a connection that is dialled, dialling, or up: such as belong to it, and any others.
#![no_main]

use std::net::SocketAddr;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use riverrun_base::Time;
use riverrun_fuzz::Input;
use riverrun_utp::{ConnectionIds, Packet, UtpConfig, UtpSocket};

const HEADER_LEN: usize = 20;

/// A header: kind, window, number and acknowledgement as the input says, near those that are due.
fn header(input: &mut Input<'_>, id: u16, due: (u16, u16)) -> Vec<u8> {
    let step = |base: u16, by: u8| base.wrapping_add_signed(i16::from(by.cast_signed()));
    let mut bytes = vec![(input.byte() % 5) << 4 | 1, 0];
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&(u32::from(input.short()) * 16).to_be_bytes());
    bytes.extend_from_slice(&step(due.0, input.byte()).to_be_bytes());
    bytes.extend_from_slice(&step(due.1, input.byte()).to_be_bytes());
    bytes
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let peer: SocketAddr = ([203, 0, 113, 5], 6881).into();
    let config = UtpConfig::default();
    let mut now = Time::from_secs(1);
    let kind = input.byte();
    let (id, mut due) = (1000, (77, 0));
    let ids = if kind & 1 == 0 {
        ConnectionIds::dialling(id)
    } else {
        ConnectionIds::answering(id)
    };
    let mut socket = if kind & 1 == 0 {
        UtpSocket::connect(now, config, peer, ids, 1)
    } else {
        let mut syn = vec![0x41, 0];
        syn.extend_from_slice(&id.to_be_bytes());
        syn.extend_from_slice(&[0; 8]);
        syn.extend_from_slice(&[0, 16, 0, 0, 0, 77, 0, 0]);
        let syn = Packet::parse(&syn).expect("it is a packet");
        UtpSocket::accept(now, config, peer, ids, &syn, 1).expect("it is a SYN")
    };
    while !input.is_empty() {
        match input.byte() % 8 {
            0 => {
                if let Ok(packet) = Packet::parse(input.counted()) {
                    socket.handle_packet(now, &packet);
                }
            }
            1..=3 => {
                let mut bytes = header(&mut input, ids.recv, due);
                bytes.extend_from_slice(input.counted());
                if let Ok(packet) = Packet::parse(&bytes) {
                    socket.handle_packet(now, &packet);
                }
            }
            4 => {
                let data = vec![1; usize::from(input.short())];
                socket.write(now, &data);
            }
            5 => {
                let count = usize::from(input.short()).min(socket.readable_len());
                socket.consume(count);
            }
            6 => {
                now += Duration::from_millis(u64::from(input.short()));
                socket.handle_timeout(now);
            }
            _ => match input.byte() % 16 {
                0 => socket.close(now),
                1 => socket.abort(),
                _ => {}
            },
        }
        for _ in 0..256 {
            let Some(sent) = socket.poll_transmit(now, 4) else {
                break;
            };
            assert!(sent.segment_len > 0 && sent.bytes.len() <= 4 * sent.segment_len);
            if let Some(first) = sent.bytes.get(..HEADER_LEN) {
                // The peer's next number is one past what was acknowledged.
                let number = |at: usize| u16::from_be_bytes([first[at], first[at + 1]]);
                due = (number(18).wrapping_add(1), number(16));
            }
            socket.handle_transmitted(now);
        }
        assert!(socket.readable_len() <= 4 << 20);
        let _ = (socket.poll_timeout(), socket.end(), socket.is_at_end());
    }
});
