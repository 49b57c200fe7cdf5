//! The cipher RC4, as in RFC 6229 and `draft-kaukonen-cipher-arcfour`.

use std::fmt;

/// What is thrown away of each key stream: its first bytes tell of the key.
const DISCARDED_LEN: usize = 1024;

/// So much of the key stream is made before it is used: to write a byte of the payload between two steps of the cipher
/// costs as much as the step.
const STRIDE: usize = 16;

/// A key stream, at some place.
#[derive(Clone)]
pub(super) struct Rc4 {
    /// Bytes, in words: what was just written is read again at once, which processors do sooner with words.
    state: [u32; 256],
    i: u8,
    j: u8,
}

impl Rc4 {
    /// For a key that is not empty; the first 1024 bytes are discarded.
    pub(super) fn new(key: &[u8]) -> Self {
        let mut cipher = Self::fresh(key);
        cipher.apply(&mut [0; DISCARDED_LEN]);
        cipher
    }

    fn fresh(key: &[u8]) -> Self {
        let mut cipher = Self {
            state: [0; 256],
            i: 0,
            j: 0,
        };
        (0..).zip(&mut cipher.state).for_each(|(n, slot)| *slot = n);
        let mut j = 0_u8;
        for (i, key) in (0..=255_u8).zip(key.iter().cycle()) {
            let a = low(cipher.state[usize::from(i)]);
            j = j.wrapping_add(a).wrapping_add(*key);
            cipher.state.swap(i.into(), j.into());
        }
        cipher
    }

    /// Encrypts or decrypts in place; both are the same.
    pub(super) fn apply(&mut self, bytes: &mut [u8]) {
        let state = &mut self.state;
        let (mut i, mut j) = (self.i, self.j);
        let mut next = || {
            i = i.wrapping_add(1);
            let a = state[usize::from(i)];
            j = j.wrapping_add(low(a));
            let b = state[usize::from(j)];
            state[usize::from(i)] = b;
            state[usize::from(j)] = a;
            low(state[usize::from(low(a).wrapping_add(low(b)))])
        };
        let (strides, rest) = bytes.as_chunks_mut::<STRIDE>();
        for stride in strides {
            let mut keys = [0; STRIDE];
            keys.fill_with(&mut next);
            for (byte, key) in stride.iter_mut().zip(keys) {
                *byte ^= key;
            }
        }
        for byte in rest {
            *byte ^= next();
        }
        (self.i, self.j) = (i, j);
    }
}

/// The byte that a word of the state is.
const fn low(word: u32) -> u8 {
    word.to_le_bytes()[0]
}

impl fmt::Debug for Rc4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rc4")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6229, section 2: keys of 40 and 128 bits, the streams at 0 and at 1024.
    #[test]
    fn the_streams_are_those_of_the_rfc() {
        let check = |key: &[u8], start: [u8; 16], at_1024: [u8; 16]| {
            let mut stream = [0; 16];
            Rc4::fresh(key).apply(&mut stream);
            assert_eq!(stream, start);
            let mut stream = [0; 16];
            Rc4::new(key).apply(&mut stream);
            assert_eq!(stream, at_1024);
        };
        check(
            &[1, 2, 3, 4, 5],
            0xb239_6305_f03d_c027_ccc3_524a_0a11_18a8_u128.to_be_bytes(),
            0x30ab_bcc7_c20b_0160_9f23_ee2d_5f6b_b7df_u128.to_be_bytes(),
        );
        check(
            &(1..=16).collect::<Vec<u8>>(),
            0x9ac7_cc9a_609d_1ef7_b293_2899_cde4_1b97_u128.to_be_bytes(),
            0xbdf0_324e_6083_dcc6_d3ce_dd3c_a8c5_3c16_u128.to_be_bytes(),
        );
    }

    #[test]
    fn the_cut_of_a_stream_does_not_matter() {
        let mut whole = *b"some bytes that are longer than one of the parts";
        let mut parts = whole;
        Rc4::new(b"key").apply(&mut whole);
        let mut cipher = Rc4::new(b"key");
        parts.chunks_mut(7).for_each(|part| cipher.apply(part));
        assert_eq!(parts, whole);
    }
}
