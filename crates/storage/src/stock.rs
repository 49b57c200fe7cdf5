//! Memory of blocks that is kept for the next ones.

use std::sync::{Mutex, MutexGuard, PoisonError};

use riverrun_base::{BLOCK_LEN, Stock};

/// How much is kept while nothing is in use.
const KEPT_AT_REST_LEN: usize = 4 << 20;

/// Memory of whole blocks, the one that was used last on top: it may still be in a cache.
#[derive(Default)]
pub(crate) struct Spare(Mutex<Vec<Box<[u8]>>>);

impl Spare {
    fn kept(&self) -> MutexGuard<'_, Vec<Box<[u8]>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stock for Spare {
    fn take(&self, len: usize) -> Box<[u8]> {
        const WHOLE: usize = BLOCK_LEN as usize;
        let mut kept = self.kept();
        if len == WHOLE {
            let found = kept.pop();
            drop(kept);
            return found.unwrap_or_else(|| vec![0; len].into());
        }
        // For memory of another length as much of this is given up, so that both together do not grow.
        let count = kept.len().saturating_sub(len.div_ceil(WHOLE));
        let surplus = kept.split_off(count);
        drop(kept);
        drop(surplus);
        vec![0; len].into()
    }

    fn put(&self, bytes: Box<[u8]>) {
        if bytes.len() == BLOCK_LEN as usize {
            self.kept().push(bytes);
        }
    }

    fn rest(&self) {
        let mut kept = self.kept();
        let count = kept.len().min(KEPT_AT_REST_LEN / BLOCK_LEN as usize);
        let surplus = kept.split_off(count);
        drop(kept);
        drop(surplus);
    }
}

#[cfg(test)]
mod tests {
    use riverrun_base::{BlockPool, Blocks as _};
    use std::sync::Arc;

    use super::*;

    #[test]
    fn memory_of_whole_blocks_is_used_again_and_most_goes_when_none_is_needed() {
        let spare = Arc::new(Spare::default());
        let pool = BlockPool::with_stock(64 << 20, spare.clone(), || {});
        let block = || pool.allocate(BLOCK_LEN as usize).unwrap();
        let first = block();
        let place = first.as_ptr();
        let other = block();
        drop(first);
        let again = block();
        assert_eq!(again.as_ptr(), place);
        drop(again);
        assert_eq!(spare.kept().len(), 1);
        drop(pool.allocate(100));
        assert_eq!(spare.kept().len(), 0, "both would be more than was in use");
        let many: Vec<_> = (0..1000).map(|_| block()).collect();
        drop((many, other));
        assert_eq!(spare.kept().len(), KEPT_AT_REST_LEN / BLOCK_LEN as usize);
    }
}
