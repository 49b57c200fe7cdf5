//! The public faces of both algorithms: streams, many whole messages, and a kernel by name.

use std::fmt;

use riverrun_base::{Sha1Digest, Sha256Digest};

use crate::kernel::Kernel;
use crate::many::{self, Digest};
use crate::plan::Plan;
use crate::stream::Stream;

macro_rules! algorithm {
    (
        $module:ident, $title:literal, $digest:ident, $stream:ident, $lanes:ident,
        $one:ident, $many:ident, $many_into:ident, $many_parts:ident, $many_parts_into:ident
    ) => {
        #[doc = concat!($title, " (FIPS 180-4) of a stream.")]
        #[derive(Clone)]
        pub struct $stream(Stream<{ crate::$module::WORDS }>);

        impl $stream {
            /// Of nothing yet.
            pub fn new() -> Self {
                Self(Stream::new(crate::$module::STEPS.initial))
            }

            /// Takes the next bytes.
            pub fn update(&mut self, bytes: &[u8]) {
                self.0.update(crate::$module::compress, bytes);
            }

            /// Takes the next bytes of each of these streams, side by side: the parts `bytes[i]`, in a row, go to
            /// `streams[i]`.
            ///
            /// # Panics
            ///
            /// If there are not as many of both.
            pub fn update_many(streams: &mut [&mut Self], bytes: &[&[&[u8]]]) {
                $lanes::best().update(streams, bytes);
            }

            /// The digest of all the bytes taken.
            pub fn finish(self) -> $digest {
                $digest::from_words(self.0.finish(crate::$module::compress))
            }
        }

        impl Default for $stream {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Debug for $stream {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($stream))
            }
        }

        impl AsMut<Stream<{ crate::$module::WORDS }>> for $stream {
            fn as_mut(&mut self) -> &mut Stream<{ crate::$module::WORDS }> {
                &mut self.0
            }
        }

        impl Digest<{ crate::$module::WORDS }> for $digest {
            fn from_words(words: [u32; crate::$module::WORDS]) -> Self {
                let mut bytes = [0; Self::LEN];
                for (place, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
                    *place = word.to_be_bytes();
                }
                Self(bytes)
            }
        }

        #[doc = concat!($title, " of many messages by a kernel of the caller's choice; the functions `",
            stringify!($many), "*` choose the fastest.")]
        #[derive(Clone, Copy, Debug)]
        pub struct $lanes(Plan<{ crate::$module::WORDS }>);

        impl $lanes {
            /// By the fastest kernels here: one for many messages, one for few.
            pub fn best() -> Self {
                Self(*crate::$module::best())
            }

            /// By this kernel alone, however few the messages, if the processor has it.
            pub fn with(kernel: Kernel) -> Option<Self> {
                crate::$module::STEPS.only(kernel).map(Self)
            }

            /// The digest of each input, in order.
            ///
            /// # Panics
            ///
            /// If `digests` has not as many places.
            pub fn hash_into(&self, inputs: &[&[u8]], digests: &mut [$digest]) {
                many::hash(&self.0, crate::$module::STEPS.initial, inputs, digests);
            }

            /// The digest of each input, in order, of which each is its parts in a row.
            ///
            /// # Panics
            ///
            /// If `digests` has not as many places.
            pub fn hash_parts_into(&self, inputs: &[&[&[u8]]], digests: &mut [$digest]) {
                many::hash(&self.0, crate::$module::STEPS.initial, inputs, digests);
            }

            /// Takes the next bytes of each of these streams: the parts `bytes[i]` go to `streams[i]`.
            ///
            /// # Panics
            ///
            /// If there are not as many of both.
            pub fn update(&self, streams: &mut [&mut $stream], bytes: &[&[&[u8]]]) {
                many::update(&self.0, streams, bytes);
            }
        }

        #[doc = concat!("The ", $title, " of `bytes`.")]
        pub fn $one(bytes: &[u8]) -> $digest {
            let mut stream = $stream::new();
            stream.update(bytes);
            stream.finish()
        }

        #[doc = concat!("The ", $title, " of each input, in order.")]
        pub fn $many(inputs: &[&[u8]]) -> Vec<$digest> {
            let mut digests = vec![$digest([0; $digest::LEN]); inputs.len()];
            $many_into(inputs, &mut digests);
            digests
        }

        #[doc = concat!("The ", $title, " of each input, in order, without allocation.")]
        ///
        /// # Panics
        ///
        /// If `digests` has not as many places.
        pub fn $many_into(inputs: &[&[u8]], digests: &mut [$digest]) {
            match (inputs, &mut *digests) {
                ([input], [digest]) => *digest = $one(input),
                _ => $lanes::best().hash_into(inputs, digests),
            }
        }

        #[doc = concat!("The ", $title, " of each input, in order, of which each is its parts in a row: a ",
            "piece that lies in memory as blocks is hashed where it lies.")]
        pub fn $many_parts(inputs: &[&[&[u8]]]) -> Vec<$digest> {
            let mut digests = vec![$digest([0; $digest::LEN]); inputs.len()];
            $many_parts_into(inputs, &mut digests);
            digests
        }

        #[doc = concat!("As [`", stringify!($many_parts), "`], without allocation.")]
        ///
        /// # Panics
        ///
        /// If `digests` has not as many places.
        pub fn $many_parts_into(inputs: &[&[&[u8]]], digests: &mut [$digest]) {
            $lanes::best().hash_parts_into(inputs, digests);
        }
    };
}

algorithm!(
    sha1,
    "SHA-1",
    Sha1Digest,
    Sha1,
    Sha1Lanes,
    sha1,
    sha1_many,
    sha1_many_into,
    sha1_many_parts,
    sha1_many_parts_into
);
algorithm!(
    sha256,
    "SHA-256",
    Sha256Digest,
    Sha256,
    Sha256Lanes,
    sha256,
    sha256_many,
    sha256_many_into,
    sha256_many_parts,
    sha256_many_parts_into
);
