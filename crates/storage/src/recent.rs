//! The files that one thread has read from last, open.

use std::io;

use riverrun_base::FileIndex;

/// At least as many files as a group of pieces is read from at a time, unless they are tiny.
const FILES_MAX: usize = 32;

/// Open files, the one that was used last at the end.
pub(crate) struct Recent<F>(Vec<(FileIndex, F)>);

impl<F> Default for Recent<F> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<F> Recent<F> {
    /// The file, opened if it is not.
    pub(crate) fn file(
        &mut self,
        index: FileIndex,
        open: impl FnOnce() -> io::Result<F>,
    ) -> io::Result<&F> {
        let Self(files) = self;
        if let Some(at) = files.iter().rposition(|(open, _)| *open == index) {
            files[at..].rotate_left(1);
        } else {
            let file = open()?;
            if files.len() == FILES_MAX {
                files.remove(0);
            }
            files.push((index, file));
        }
        // Invariant: it was moved or put there just now.
        Ok(&files.last().expect("there is a file").1)
    }
}
