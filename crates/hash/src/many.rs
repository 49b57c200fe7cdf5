//! Many messages at once: whole ones, and streams that go on later.

use std::iter::Enumerate;
use std::slice;

use crate::block::{BLOCK_LEN, Block, Ending, Feed, Tail, padding_of};
use crate::columns::{Columns, LANES_MAX};
use crate::plan::Plan;
use crate::scheduler::{self, Message, Messages};
use crate::stream::Stream;

/// A message as its parts in a row.
pub(crate) trait Parts {
    fn parts(&self) -> &[&[u8]];
}

impl Parts for &[u8] {
    fn parts(&self) -> &[&[u8]] {
        slice::from_ref(self)
    }
}

impl Parts for &[&[u8]] {
    fn parts(&self) -> &[&[u8]] {
        self
    }
}

/// What the last state of a message is.
pub(crate) trait Digest<const W: usize> {
    fn from_words(words: [u32; W]) -> Self;
}

/// Hashes whole messages. Panics if there are not as many digests.
pub(crate) fn hash<const W: usize, D: Digest<W>>(
    plan: &Plan<W>,
    initial: [u32; W],
    inputs: &[impl Parts],
    digests: &mut [D],
) {
    assert_eq!(inputs.len(), digests.len(), "a place for each digest");
    let done = hash_equals(plan, initial, inputs, digests);
    let inputs = inputs[done..].iter().enumerate();
    scheduler::run(
        plan,
        &mut Whole {
            initial,
            inputs,
            digests: &mut digests[done..],
        },
    );
}

/// Hashes messages as long as they are equals by sixteens: the nodes of a merkle tree, its leaves. They need no
/// scheduler, and share their padding. Says how many.
fn hash_equals<const W: usize, D: Digest<W>>(
    plan: &Plan<W>,
    initial: [u32; W],
    inputs: &[impl Parts],
    digests: &mut [D],
) -> usize {
    let mut done = 0;
    for (inputs, digests) in inputs.chunks(LANES_MAX).zip(digests.chunks_mut(LANES_MAX)) {
        let mut runs: [&[Block]; LANES_MAX] = [&[]; LANES_MAX];
        let Some(len) = equals(inputs, &mut runs) else {
            break;
        };
        let live = inputs.len();
        let step = plan.method_for(live).step;
        let mut columns = Columns::splat(&initial);
        step(&mut columns, &runs[..live], len / BLOCK_LEN);
        let padding = padding_of(len);
        runs.fill(slice::from_ref(&padding));
        step(&mut columns, &runs[..live], 1);
        for (lane, digest) in digests.iter_mut().enumerate() {
            *digest = D::from_words(columns.words(lane));
        }
        done += live;
    }
    done
}

/// The one length of these messages, and their blocks: if they are equally long, each in one part of whole blocks.
fn equals<'a>(inputs: &'a [impl Parts], runs: &mut [&'a [Block]; LANES_MAX]) -> Option<usize> {
    let mut len = None;
    for (input, run) in inputs.iter().zip(runs) {
        let [whole] = input.parts() else { return None };
        let (blocks, []) = whole.as_chunks() else {
            return None;
        };
        *run = blocks;
        if *len.get_or_insert(whole.len()) != whole.len() {
            return None;
        }
    }
    len
}

/// Messages that start and end here.
struct Whole<'a, 'd, const W: usize, P, D> {
    initial: [u32; W],
    inputs: Enumerate<slice::Iter<'a, P>>,
    digests: &'d mut [D],
}

impl<'a, const W: usize, P: Parts, D: Digest<W>> Messages<'a, W> for Whole<'a, '_, W, P, D> {
    fn next(&mut self) -> Option<Message<'a, W>> {
        let (index, input) = self.inputs.next()?;
        let feed = Feed::new(Tail::EMPTY, input.parts(), Ending::Pad);
        Some(Message {
            index,
            words: self.initial,
            feed,
        })
    }

    fn finish(&mut self, message: Message<'a, W>) {
        self.digests[message.index] = D::from_words(message.words);
    }
}

/// Takes the next bytes of each stream. Panics if there are not as many.
pub(crate) fn update<const W: usize, S: AsMut<Stream<W>>>(
    plan: &Plan<W>,
    streams: &mut [&mut S],
    bytes: &[&[&[u8]]],
) {
    assert_eq!(streams.len(), bytes.len(), "bytes for each stream");
    scheduler::run(
        plan,
        &mut Flowing {
            streams,
            bytes: bytes.iter().enumerate(),
        },
    );
}

/// Messages that have started before, and may go on.
struct Flowing<'a, 's, 't, S> {
    streams: &'t mut [&'s mut S],
    bytes: Enumerate<slice::Iter<'a, &'a [&'a [u8]]>>,
}

impl<'a, const W: usize, S: AsMut<Stream<W>>> Messages<'a, W> for Flowing<'a, '_, '_, S> {
    fn next(&mut self) -> Option<Message<'a, W>> {
        let (index, bytes) = self.bytes.next()?;
        let stream = self.streams[index].as_mut();
        let feed = Feed::new(stream.tail, bytes.parts(), Ending::Keep);
        Some(Message {
            index,
            words: stream.words,
            feed,
        })
    }

    fn finish(&mut self, message: Message<'a, W>) {
        let stream = self.streams[message.index].as_mut();
        *stream = Stream {
            words: message.words,
            tail: *message.feed.tail(),
        };
    }
}
