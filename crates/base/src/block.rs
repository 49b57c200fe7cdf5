//! The payload of one block on its way between a socket and a file, and the budget that bounds it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::digest::{Sha1Digest, Sha256Digest};

/// Where connections get memory for payload.
pub trait Blocks: Send + Sync {
    /// A block of `len` bytes, whatever they are, or `None` if the budget has no room: stop reading until it has.
    fn allocate(&self, len: usize) -> Option<BlockMut>;
}

/// A block being filled. Becomes a [`Block`] by [`BlockMut::freeze`].
pub struct BlockMut {
    bytes: Box<[u8]>,
    /// To be paid back.
    pool: Option<Arc<PoolShared>>,
}

impl BlockMut {
    /// A block that counts against no budget.
    pub fn unbudgeted(len: usize) -> Self {
        Self {
            bytes: vec![0; len].into(),
            pool: None,
        }
    }

    /// Ends the filling: from here on the bytes are shared and do not change.
    pub fn freeze(self) -> Block {
        Block(Arc::new(Frozen {
            bytes: self,
            digest: OnceLock::new(),
        }))
    }
}

impl Deref for BlockMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for BlockMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl fmt::Debug for BlockMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockMut({} bytes)", self.bytes.len())
    }
}

/// The payload of one block, cheap to clone. Its memory goes back to the budget with the last clone.
///
/// Decisions hand it on; the one thing that they may want to know of it is its digest. As data it is nothing: what
/// happened is told without payload.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "()", into = "()")]
pub struct Block(Arc<Frozen>);

struct Frozen {
    bytes: BlockMut,
    digest: OnceLock<BlockDigest>,
}

/// What the bytes of a block hash to, by the version of its torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockDigest {
    /// SHA-1.
    V1(Sha1Digest),
    /// SHA-256, a leaf of a merkle tree (BEP 52).
    V2(Sha256Digest),
}

impl Block {
    /// A block of these bytes that counts against no budget.
    pub fn unbudgeted(bytes: &[u8]) -> Self {
        let bytes = BlockMut {
            bytes: bytes.into(),
            pool: None,
        };
        bytes.freeze()
    }

    /// What it hashes to, as `reckon` finds if nobody has asked before.
    pub fn digest(&self, reckon: impl FnOnce(&[u8]) -> BlockDigest) -> BlockDigest {
        *self.0.digest.get_or_init(|| reckon(self))
    }

    /// What it hashes to, if somebody has asked.
    pub fn known_digest(&self) -> Option<BlockDigest> {
        self.0.digest.get().copied()
    }
}

impl From<()> for Block {
    /// A block of which nothing is left.
    fn from((): ()) -> Self {
        Self::unbudgeted(&[])
    }
}

impl From<Block> for () {
    fn from(_: Block) -> Self {}
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.bytes.bytes
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} bytes)", self.len())
    }
}

/// A hard budget for payload in memory, in bytes.
///
/// Allocation never waits: over the limit it gives `None`, and the caller stops reading its socket, so
/// that the transport's own window pushes back.
pub struct BlockPool {
    shared: Arc<PoolShared>,
}

struct PoolShared {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
    /// Somebody was refused, and there has not been much room since.
    is_short: AtomicBool,
    stock: Arc<dyn Stock>,
    on_room: Box<dyn Fn() + Send + Sync>,
}

impl PoolShared {
    /// With so much in use there is room again.
    const fn low_water(&self) -> usize {
        self.limit_bytes / 4 * 3
    }
}

/// Where the memory of blocks comes from and goes to. One that keeps some saves the allocator, and the zeroing, for
/// each block.
pub trait Stock: Send + Sync {
    /// Memory for so many bytes, whatever they are.
    fn take(&self, len: usize) -> Box<[u8]>;
    /// Memory that is not needed any more.
    fn put(&self, bytes: Box<[u8]>);
    /// Nothing is in use: no great need of what is kept.
    fn rest(&self);
}

/// The allocator's memory, nothing kept.
struct Allocator;

impl Stock for Allocator {
    fn take(&self, len: usize) -> Box<[u8]> {
        vec![0; len].into()
    }

    fn put(&self, _: Box<[u8]>) {}

    fn rest(&self) {}
}

impl BlockPool {
    /// A pool of at most `limit_bytes`. `on_room` is called, on the thread that frees a block, whenever the
    /// memory in use falls through three quarters of the limit: the moment to read again.
    pub fn new(limit_bytes: usize, on_room: impl Fn() + Send + Sync + 'static) -> Self {
        Self::with_stock(limit_bytes, Arc::new(Allocator), on_room)
    }

    /// The same with memory from `stock`. What that keeps does not count against the limit: it is of blocks that were
    /// in use at some time, so both together are never more than was in use at most.
    pub fn with_stock(
        limit_bytes: usize,
        stock: Arc<dyn Stock>,
        on_room: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let on_room = Box::new(on_room);
        let shared = PoolShared {
            limit_bytes,
            used_bytes: AtomicUsize::new(0),
            is_short: AtomicBool::new(false),
            stock,
            on_room,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Bytes in use.
    pub fn used_bytes(&self) -> usize {
        self.shared.used_bytes.load(Ordering::Relaxed)
    }

    /// The bytes in use while whoever wants some has to wait: from the first that was refused until `on_room` is called.
    pub fn shortage_bytes(&self) -> Option<usize> {
        let used = self.used_bytes();
        let is_short = self.shared.is_short.load(Ordering::Relaxed);
        // A block that would never fit is no shortage.
        (is_short && used > self.shared.low_water()).then_some(used)
    }

    /// The limit.
    pub fn limit_bytes(&self) -> usize {
        self.shared.limit_bytes
    }
}

impl Blocks for BlockPool {
    fn allocate(&self, len: usize) -> Option<BlockMut> {
        let limit = self.shared.limit_bytes;
        let reserve = |used: usize| used.checked_add(len).filter(|total| *total <= limit);
        let used = &self.shared.used_bytes;
        let reserved = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, reserve);
        if reserved.is_err() {
            self.shared.is_short.store(true, Ordering::Relaxed);
            return None;
        }
        Some(BlockMut {
            bytes: self.shared.stock.take(len),
            pool: Some(self.shared.clone()),
        })
    }
}

impl fmt::Debug for BlockPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "BlockPool({} of {} bytes)",
            self.used_bytes(),
            self.limit_bytes()
        )
    }
}

impl Drop for BlockMut {
    fn drop(&mut self) {
        let Some(pool) = &self.pool else { return };
        let bytes = std::mem::take(&mut self.bytes);
        let len = bytes.len();
        pool.stock.put(bytes);
        let before = pool.used_bytes.fetch_sub(len, Ordering::Relaxed);
        let low_water = pool.low_water();
        if before > low_water && before - len <= low_water {
            pool.is_short.store(false, Ordering::Relaxed);
            (pool.on_room)();
        }
        if before == len {
            pool.stock.rest();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_hard_and_room_is_told_once() {
        let told = Arc::new(AtomicUsize::new(0));
        let counter = told.clone();
        let pool = BlockPool::new(100, move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let mut blocks: Vec<_> = (0..10)
            .map(|_| pool.allocate(10).unwrap().freeze())
            .collect();
        assert_eq!(pool.shortage_bytes(), None, "nobody was refused");
        assert!(pool.allocate(1).is_none());
        assert_eq!(pool.shortage_bytes(), Some(100));
        blocks.pop();
        assert_eq!(pool.shortage_bytes(), Some(90), "not much room");
        blocks.push(pool.allocate(10).unwrap().freeze());
        let clone = blocks[0].clone();
        blocks.clear();
        assert_eq!(pool.used_bytes(), 10, "the clone still holds its block");
        assert_eq!(told.load(Ordering::Relaxed), 1);
        assert_eq!(pool.shortage_bytes(), None);
        drop(clone);
        assert_eq!(pool.used_bytes(), 0);
        assert!(pool.allocate(101).is_none());
        assert_eq!(pool.shortage_bytes(), None);
    }

    #[test]
    fn what_was_written_is_read() {
        let mut block = BlockMut::unbudgeted(4);
        block.copy_from_slice(b"abcd");
        assert_eq!(&*block.freeze(), b"abcd");
    }
}
