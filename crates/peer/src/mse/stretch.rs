//! Stretches of a stream: a number of bytes, and all up to a mark.

/// So many bytes, as they come.
#[derive(Debug)]
pub(super) struct Stretch {
    bytes: Vec<u8>,
    len: usize,
}

impl Stretch {
    /// Nothing yet, of `len` bytes.
    pub(super) const fn new(len: usize) -> Self {
        Self {
            bytes: Vec::new(),
            len,
        }
    }

    /// `bytes` have come already.
    pub(super) const fn begun(bytes: Vec<u8>, len: usize) -> Self {
        Self { bytes, len }
    }

    /// Takes what belongs to it from the front of `input`; gives all of it once it is there.
    pub(super) fn take(&mut self, input: &mut &[u8]) -> Option<&mut [u8]> {
        let missing = self.len.saturating_sub(self.bytes.len());
        let (front, rest) = input.split_at(missing.min(input.len()));
        self.bytes.extend_from_slice(front);
        *input = rest;
        (self.bytes.len() >= self.len).then_some(&mut self.bytes)
    }
}

/// A mark that stands somewhere in the next bytes.
#[derive(Debug)]
pub(super) struct Search<const N: usize> {
    mark: [u8; N],
    last: [u8; N],
    seen: usize,
    limit: usize,
}

impl<const N: usize> Search<N> {
    /// For a mark with at most `before_max` bytes before it.
    pub(super) const fn new(mark: [u8; N], before_max: usize) -> Self {
        Self {
            mark,
            last: [0; N],
            seen: 0,
            limit: before_max + N,
        }
    }

    /// Takes all up to the end of the mark from the front of `input`. Whether it was found; `None` if it does not
    /// stand where it should.
    pub(super) fn take(&mut self, input: &mut &[u8]) -> Option<bool> {
        while let Some((byte, rest)) = input.split_first() {
            *input = rest;
            self.last.copy_within(1.., 0);
            self.last[N - 1] = *byte;
            self.seen += 1;
            if self.seen >= N && self.last == self.mark {
                return Some(true);
            }
            if self.seen >= self.limit {
                return None;
            }
        }
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_after_as_much_as_is_allowed_and_no_later() {
        for before in 0..=6 {
            let stream = [&vec![7; before][..], b"mark", b"rest"].concat();
            let mut search = Search::new(*b"mark", 5);
            let mut input = &stream[..];
            let found = search.take(&mut input);
            assert_eq!(found, (before <= 5).then_some(true), "{before}");
            if found.is_some() {
                assert_eq!(input, b"rest");
            }
        }
    }

    #[test]
    fn zeros_that_never_came_are_no_mark() {
        let mut search = Search::new([0; 4], 5);
        assert_eq!(search.take(&mut &[0; 3][..]), Some(false));
        assert_eq!(search.take(&mut &[0; 1][..]), Some(true));
    }

    #[test]
    fn a_stretch_takes_its_own_and_leaves_the_rest() {
        let mut stretch = Stretch::begun(vec![1], 3);
        assert_eq!(stretch.take(&mut &[2][..]), None);
        let mut input = &[3, 4][..];
        assert_eq!(stretch.take(&mut input), Some(&mut [1, 2, 3][..]));
        assert_eq!(input, [4]);
    }
}
