//! The rounds of FIPS 180-4 on vectors that hold a word of each lane, for any width.
//!
//! Macros, because a function that is generic over the width could not be compiled for the instructions of
//! each. For the same reason nothing here passes closures on: what is generic over a closure is compiled
//! without the instructions, and does not inline.
//!
//! A module that expands them has the vector type `V`, the number `LANES` of its words, `is_available`, and
//!
//! - `splat`, `load` and `store` of words, and `message`: the 16 words of a block of each lane;
//! - `Ahead`, which gives the same for SHA-1: that is so short that it waits for memory unless blocks are read ahead, and
//!   has the registers for it;
//! - `add`, `xor`, `xor3`, `majority` and `choose` (a bit of the second where the first has one, else of the
//!   third);
//! - `rotate::<L, R>` (left by `L`, which is right by `R`) and `shr::<N>`.

/// Calls a function that is generic over a number with each number below 16, 20 or 80, in order.
macro_rules! for_each_round {
    (16, $round:ident $arguments:tt) => {
        for_each_round!(@ $round $arguments 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (20, $round:ident $arguments:tt) => {
        for_each_round!(@ $round $arguments 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19)
    };
    (80, $round:ident $arguments:tt) => {
        for_each_round!(@ $round $arguments
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19
            20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39
            40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59
            60 61 62 63 64 65 66 67 68 69 70 71 72 73 74 75 76 77 78 79)
    };
    (@ $round:ident $arguments:tt $($t:literal)+) => {
        $( for_each_round!(# $round $arguments $t); )+
    };
    (# $round:ident ($($argument:expr),+) $t:literal) => {
        $round::<$t>($($argument),+)
    };
}

macro_rules! sha1_rounds {
    ($features:literal) => {
        /// Advances all lanes by the first `count` blocks of their runs.
        #[target_feature(enable = $features)]
        fn sha1_lanes(rows: [&mut [u32; LANES]; 5], runs: &[&[Block]; LANES], count: usize) {
            let runs = trimmed(runs, count);
            let mut state = [splat(0); 5];
            for (word, row) in state.iter_mut().zip(&rows) {
                *word = load(row);
            }
            let mut ahead = Ahead::begin(&runs);
            for block in 0..count {
                let before = state;
                let mut w = ahead.message(&runs, block);
                for_each_round!(80, sha1_round(&mut state, &mut w));
                for (word, before) in state.iter_mut().zip(before) {
                    *word = add(*word, before);
                }
            }
            for (word, row) in state.into_iter().zip(rows) {
                store(word, row);
            }
        }

        /// Round `T`. Words do not move from round to round, their names do: `a` of round 0 is `b` of round 1.
        #[inline]
        #[target_feature(enable = $features)]
        fn sha1_round<const T: usize>(state: &mut [V; 5], w: &mut [V; 16]) {
            use $crate::sha1::K;
            let [a, b, c, d, e] = [80, 81, 82, 83, 84].map(|at| (at - T) % 5);
            let at = |ago: usize| (T + 16 - ago) % 16;
            if T >= 16 {
                let mixed = xor3(w[at(3)], w[at(8)], w[at(14)]);
                w[at(0)] = rotate::<1, 31>(xor(mixed, w[at(16)]));
            }
            let (b_word, c_word, d_word) = (state[b], state[c], state[d]);
            let mix = match T / 20 {
                0 => choose(b_word, c_word, d_word),
                2 => majority(b_word, c_word, d_word),
                _ => xor3(b_word, c_word, d_word),
            };
            let early = add(add(state[e], splat(K[T / 20])), w[at(0)]);
            state[e] = add(add(early, mix), rotate::<5, 27>(state[a]));
            state[b] = rotate::<30, 2>(b_word);
        }
    };
}

macro_rules! sha256_rounds {
    ($features:literal) => {
        /// Advances all lanes by the first `count` blocks of their runs.
        #[target_feature(enable = $features)]
        fn sha256_lanes(rows: [&mut [u32; LANES]; 8], runs: &[&[Block]; LANES], count: usize) {
            let runs = trimmed(runs, count);
            let mut state = [splat(0); 8];
            for (word, row) in state.iter_mut().zip(&rows) {
                *word = load(row);
            }
            for block in 0..count {
                let before = state;
                let mut w = message::<8>(&runs, block);
                for (sixteen, k) in $crate::sha256::K.as_chunks().0.iter().enumerate() {
                    if sixteen > 0 {
                        for_each_round!(16, sha256_schedule(&mut w));
                    }
                    for_each_round!(16, sha256_round(&mut state, &w, k));
                }
                for (word, before) in state.iter_mut().zip(before) {
                    *word = add(*word, before);
                }
            }
            for (word, row) in state.into_iter().zip(rows) {
                store(word, row);
            }
        }

        /// Word `T` of the next 16 of the message schedule.
        #[inline]
        #[target_feature(enable = $features)]
        fn sha256_schedule<const T: usize>(w: &mut [V; 16]) {
            let at = |ago: usize| (T + 16 - ago) % 16;
            let (old, new) = (w[at(15)], w[at(2)]);
            let sigma0 = xor3(rotate::<25, 7>(old), rotate::<14, 18>(old), shr::<3>(old));
            let sigma1 = xor3(rotate::<15, 17>(new), rotate::<13, 19>(new), shr::<10>(new));
            w[at(0)] = add(add(w[at(16)], sigma0), add(w[at(7)], sigma1));
        }

        /// Round `T` of 16. As in SHA-1, the names of the words move.
        #[inline]
        #[target_feature(enable = $features)]
        fn sha256_round<const T: usize>(state: &mut [V; 8], w: &[V; 16], k: &[u32; 16]) {
            let [a, b, c, d, e, f, g, h] = [80, 81, 82, 83, 84, 85, 86, 87].map(|at| (at - T) % 8);
            let e_word = state[e];
            let sigma1 = xor3(
                rotate::<26, 6>(e_word),
                rotate::<21, 11>(e_word),
                rotate::<7, 25>(e_word),
            );
            let early = add(add(state[h], splat(k[T])), w[T]);
            let first = add(add(early, choose(e_word, state[f], state[g])), sigma1);
            let a_word = state[a];
            let sigma0 = xor3(
                rotate::<30, 2>(a_word),
                rotate::<19, 13>(a_word),
                rotate::<10, 22>(a_word),
            );
            state[d] = add(state[d], first);
            state[h] = add(add(first, sigma0), majority(a_word, state[b], state[c]));
        }
    };
}

/// The steps of both algorithms, which take any number of lanes and look up the processor first.
macro_rules! steps {
    () => {
        /// SHA-1 in groups of as many lanes as a vector has.
        pub(crate) fn sha1(columns: &mut Columns<5>, runs: &[&[Block]], count: usize) {
            assert!(is_available(), "the processor has these instructions");
            for (group, runs) in runs.chunks(LANES).enumerate() {
                // SAFETY: the processor has all features of the function, as asserted.
                unsafe { sha1_lanes(rows(columns, group), &full(runs), count) };
            }
        }

        /// SHA-256 in groups of as many lanes as a vector has.
        pub(crate) fn sha256(columns: &mut Columns<8>, runs: &[&[Block]], count: usize) {
            assert!(is_available(), "the processor has these instructions");
            for (group, runs) in runs.chunks(LANES).enumerate() {
                // SAFETY: the processor has all features of the function, as asserted.
                unsafe { sha256_lanes(rows(columns, group), &full(runs), count) };
            }
        }

        /// The words of the lanes of a group.
        fn rows<const W: usize>(columns: &mut Columns<W>, group: usize) -> [&mut [u32; LANES]; W] {
            columns
                .0
                .each_mut()
                .map(|row| &mut row.as_chunks_mut().0[group])
        }

        /// Idle lanes do the work of the first over again: cheaper than to mask them.
        fn full<'a>(runs: &[&'a [Block]]) -> [&'a [Block]; LANES] {
            std::array::from_fn(|lane| *runs.get(lane).unwrap_or(&runs[0]))
        }

        /// Runs of so many blocks, so that no lookup in them is checked again.
        fn trimmed<'a>(runs: &[&'a [Block]; LANES], count: usize) -> [&'a [Block]; LANES] {
            runs.map(|run| &run[..count])
        }
    };
}
