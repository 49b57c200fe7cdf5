//! A disk in memory that knows what of it is durable, fails when asked, and can be cut off at any operation.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice, IoSliceMut};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use riverrun_base::Rng;

use crate::backend::{Access, Backend, FileStat, Found, Place, RawFile};

/// The disk; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct MemoryDisk(Arc<Mutex<World>>);

#[derive(Clone, Default)]
struct World {
    inodes: BTreeMap<u64, Inode>,
    /// Files and directories, as programs see them.
    names: BTreeMap<PathBuf, Node>,
    /// The same, as they are on the medium.
    durable_names: BTreeMap<PathBuf, Node>,
    device: u64,
    clock: i64,
    faults: Faults,
    operations: u64,
    syncs: u64,
    locks: BTreeSet<u64>,
}

/// What is to go wrong.
#[derive(Clone, Default)]
pub(crate) struct Faults {
    /// From this operation on the machine is off.
    pub(crate) off_at: Option<u64>,
    /// How many bytes fit.
    pub(crate) capacity: Option<u64>,
    /// Syncs of data that fail next: they lose what was to be synced.
    pub(crate) failing_syncs: u32,
    /// Writes that fail next with an I/O error.
    pub(crate) failing_writes: u32,
    /// Files that cannot be read.
    pub(crate) unreadable: BTreeSet<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    File(u64),
    Dir,
}

#[derive(Clone, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Changes since the last sync.
    pending: Vec<Change>,
    /// Blocks that were written to.
    written: BTreeSet<u64>,
    modified: i64,
    changed: i64,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Len(usize),
}

/// What a crash does to what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The process dies: the system keeps all that it was given.
    Kill,
    /// The machine loses power: each sector of each write may be there or not, each name too.
    Power,
}

const HOLE: u64 = 4096;
const SECTOR: usize = 512;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

impl Inode {
    fn apply(bytes: &mut Vec<u8>, change: &Change, mut keeps: impl FnMut() -> bool) {
        match change {
            Change::Len(len) => bytes.resize(*len, 0),
            Change::Write(at, data) => {
                for (n, sector) in data.chunks(SECTOR).enumerate() {
                    let at = at + n * SECTOR;
                    if keeps() {
                        bytes.resize(bytes.len().max(at + sector.len()), 0);
                        bytes[at..at + sector.len()].copy_from_slice(sector);
                    }
                }
            }
        }
    }

    fn change(&mut self, change: Change) {
        Self::apply(&mut self.live, &change, || true);
        if let Change::Write(at, data) = &change {
            let first = *at as u64 / HOLE;
            let last = (*at + data.len()).saturating_sub(1) as u64 / HOLE;
            self.written.extend(first..=last);
        }
        self.pending.push(change);
    }
}

impl World {
    /// Counts an operation that changes something; an error if the machine is off.
    fn operate(&mut self) -> io::Result<()> {
        self.alive()?;
        self.operations += 1;
        self.clock += 1_000_000;
        Ok(())
    }

    fn alive(&self) -> io::Result<()> {
        match self.faults.off_at {
            Some(at) if self.operations >= at => Err(io::Error::from_raw_os_error(EIO)),
            _ => Ok(()),
        }
    }

    fn used(&self) -> u64 {
        self.inodes
            .values()
            .map(|inode| inode.written.len() as u64 * HOLE)
            .sum()
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        match self.names.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Dir) => Err(io::ErrorKind::InvalidInput.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn make_dirs(&mut self, dir: &Path) {
        for ancestor in dir.ancestors() {
            self.names.entry(ancestor.to_owned()).or_insert(Node::Dir);
        }
    }
}

impl MemoryDisk {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.world().faults = faults;
    }

    /// Turns the machine off after so many more operations.
    pub(crate) fn turn_off_after(&self, operations: u64) {
        let mut world = self.world();
        world.faults.off_at = Some(world.operations + operations);
    }

    /// How many files are locked.
    pub(crate) fn locked(&self) -> usize {
        self.world().locks.len()
    }

    pub(super) fn operations(&self) -> u64 {
        self.world().operations
    }

    /// How often something was made durable.
    pub(super) fn syncs(&self) -> u64 {
        self.world().syncs
    }

    /// The bytes of a file as programs see them.
    pub(super) fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let world = self.world();
        let inode = world.file(path).ok()?;
        Some(world.inodes[&inode].live.clone())
    }

    /// Puts a file there, durably, as another program would.
    pub(super) fn put(&self, path: &Path, bytes: &[u8]) {
        let mut world = self.world();
        world.clock += 1_000_000;
        let (inode, modified) = (world.inodes.len() as u64 + 1, world.clock);
        world.make_dirs(path.parent().unwrap());
        world.names.insert(path.to_owned(), Node::File(inode));
        world.durable_names = world.names.clone();
        let written = (0..(bytes.len() as u64).div_ceil(HOLE)).collect();
        let (live, durable) = (bytes.to_vec(), bytes.to_vec());
        world.inodes.insert(
            inode,
            Inode {
                live,
                durable,
                pending: Vec::new(),
                written,
                modified,
                changed: modified,
            },
        );
    }

    /// Changes a file in place, durably, as another program would; `quietly` if it sets the time of the last write
    /// back to what it was.
    pub(super) fn edit(&self, path: &Path, edit: impl FnOnce(&mut Vec<u8>), quietly: bool) {
        let mut world = self.world();
        world.clock += 1_000_000;
        let (now, inode) = (world.clock, world.file(path).unwrap());
        let inode = world.inodes.get_mut(&inode).unwrap();
        edit(&mut inode.live);
        inode.durable = inode.live.clone();
        inode.pending.clear();
        inode.written = (0..(inode.live.len() as u64).div_ceil(HOLE)).collect();
        inode.changed = now;
        if !quietly {
            inode.modified = now;
        }
    }

    /// Gives a file one more name, as another program would.
    pub(super) fn link(&self, path: &Path, name: &Path) {
        let mut world = self.world();
        world.clock += 1_000_000;
        let (now, inode) = (world.clock, world.file(path).unwrap());
        world.names.insert(name.to_owned(), Node::File(inode));
        world.inodes.get_mut(&inode).unwrap().changed = now;
    }

    /// Changes a byte of each journal, or cuts it off there.
    pub(super) fn damage_journal(&self, at: u64, flip: Option<u8>) {
        let mut world = self.world();
        let journals: Vec<Node> = world
            .names
            .iter()
            .filter(|(path, _)| path.extension().is_some_and(|it| it == "claims"))
            .map(|it| *it.1)
            .collect();
        for node in journals {
            let Node::File(inode) = node else { continue };
            let bytes = &mut world.inodes.get_mut(&inode).unwrap().live;
            let at = usize::try_from(at % bytes.len() as u64).unwrap();
            match flip {
                Some(flip) => bytes[at] ^= flip,
                None => bytes.truncate(at),
            }
        }
    }

    pub(super) fn delete(&self, path: &Path) {
        self.world().names.remove(path);
    }

    /// Another medium is there now, or none.
    pub(super) fn unmount(&self, root: &Path) -> Self {
        let away = Self(Arc::new(Mutex::new(self.world().clone())));
        self.world().names.retain(|path, _| !path.starts_with(root));
        away
    }

    /// What is on the medium comes back.
    pub(super) fn remount(&self, away: &Self) {
        let names = away.world().names.clone();
        self.world().names = names;
    }

    /// The disk as it is after a crash, for the next start.
    pub(crate) fn after(&self, crash: Crash, rng: &mut Rng) -> Self {
        let world = self.world();
        let mut next = world.clone();
        next.faults = Faults::default();
        next.locks.clear();
        if crash == Crash::Power {
            next.names = world.durable_names.clone();
            let unsynced = world
                .names
                .iter()
                .filter(|(path, node)| world.durable_names.get(*path) != Some(*node));
            // Parents come first, so no file is without its directory.
            for (path, node) in unsynced {
                let has_parent = path
                    .parent()
                    .is_none_or(|parent| next.names.contains_key(parent));
                if has_parent && rng.below(2) == 0 {
                    next.names.insert(path.clone(), *node);
                }
            }
            for inode in next.inodes.values_mut() {
                let mut bytes = inode.durable.clone();
                for change in &inode.pending {
                    if matches!(change, Change::Write(..)) || rng.below(2) == 0 {
                        Inode::apply(&mut bytes, change, || rng.below(2) == 0);
                    }
                }
                inode.live.clone_from(&bytes);
                inode.durable = bytes;
            }
            next.durable_names = next.names.clone();
        }
        for inode in next.inodes.values_mut() {
            inode.pending.clear();
            inode.durable.clone_from(&inode.live);
        }
        drop(world);
        Self(Arc::new(Mutex::new(next)))
    }
}

impl Backend for MemoryDisk {
    fn device(&self, root: &Path) -> io::Result<Option<u64>> {
        let world = self.world();
        world.alive()?;
        Ok(world.names.get(root).map(|_| world.device))
    }

    fn make_root(&self, root: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.operate()?;
        world.make_dirs(root);
        for dir in root.ancestors() {
            world.durable_names.insert(dir.to_owned(), Node::Dir);
        }
        Ok(())
    }

    fn look(&self, at: Place<'_>) -> io::Result<Found> {
        let world = self.world();
        world.alive()?;
        Ok(match world.names.get(&at.full()) {
            None => Found::Nothing,
            Some(Node::Dir) => Found::Other("a directory"),
            Some(Node::File(inode)) => Found::File(stat(&world, *inode)),
        })
    }

    fn open(&self, at: Place<'_>, access: Access) -> io::Result<Arc<dyn RawFile>> {
        let mut world = self.world();
        let path = at.full();
        world.alive()?;
        let inode = if access == Access::Create {
            world.operate()?;
            if world.names.contains_key(&path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if !world.names.contains_key(at.root) {
                return Err(io::ErrorKind::NotFound.into());
            }
            world.make_dirs(path.parent().unwrap());
            let (inode, modified) = (world.inodes.len() as u64 + 1, world.clock);
            world.inodes.insert(
                inode,
                Inode {
                    modified,
                    changed: modified,
                    ..Inode::default()
                },
            );
            world.names.insert(path.clone(), Node::File(inode));
            inode
        } else {
            world.file(&path)?
        };
        Ok(Arc::new(MemoryFile {
            disk: self.clone(),
            inode,
            path,
            holds_lock: Mutex::new(false),
        }))
    }

    fn rename(&self, root: &Path, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world();
        world.operate()?;
        let node = world
            .names
            .remove(&root.join(from))
            .ok_or(io::ErrorKind::NotFound)?;
        world.names.insert(root.join(to), node);
        Ok(())
    }

    fn remove(&self, at: Place<'_>) -> io::Result<()> {
        let mut world = self.world();
        world.operate()?;
        world.names.remove(&at.full());
        Ok(())
    }

    fn sync_dir(&self, at: Place<'_>) -> io::Result<()> {
        let mut world = self.world();
        world.operate()?;
        world.syncs += 1;
        let dir = at.full();
        let dir = dir.components().as_path();
        let in_dir = |path: &Path| path.parent() == Some(dir);
        world.durable_names.retain(|path, _| !in_dir(path));
        let now: Vec<_> = world
            .names
            .iter()
            .filter(|(path, _)| in_dir(path))
            .map(|(p, n)| (p.clone(), *n))
            .collect();
        world.durable_names.extend(now);
        Ok(())
    }

    fn sync_all(&self, _: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.operate()?;
        world.syncs += 1;
        let is_failing = world.faults.failing_syncs > 0;
        if is_failing {
            world.faults.failing_syncs -= 1;
        }
        for inode in world.inodes.values_mut() {
            inode.pending.clear();
            if !is_failing {
                inode.durable = inode.live.clone();
            }
        }
        if is_failing {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        world.durable_names = world.names.clone();
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        let world = self.world();
        Ok(world
            .faults
            .capacity
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(world.used())))
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    inode: u64,
    path: PathBuf,
    holds_lock: Mutex<bool>,
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        if *self.holds_lock.lock().unwrap() {
            self.disk.world().locks.remove(&self.inode);
        }
    }
}

impl MemoryFile {
    fn change(&self, change: Change) -> io::Result<()> {
        let mut world = self.disk.world();
        world.operate()?;
        let modified = world.clock;
        let inode = world.inodes.get_mut(&self.inode).unwrap();
        inode.change(change);
        (inode.modified, inode.changed) = (modified, modified);
        Ok(())
    }
}

fn concat(slices: &[IoSlice<'_>]) -> Vec<u8> {
    let mut all = Vec::with_capacity(slices.iter().map(|slice| slice.len()).sum());
    for slice in slices {
        all.extend_from_slice(slice);
    }
    all
}

impl RawFile for MemoryFile {
    fn stat(&self) -> io::Result<FileStat> {
        let world = self.disk.world();
        world.alive()?;
        Ok(stat(&world, self.inode))
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let world = self.disk.world();
        world.alive()?;
        if world.faults.unreadable.contains(&self.path) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let live = &world.inodes[&self.inode].live;
        let start = usize::try_from(offset).unwrap().min(live.len());
        let count = bytes.len().min(live.len() - start);
        bytes[..count].copy_from_slice(&live[start..start + count]);
        Ok(count)
    }

    fn read_vectored_at(&self, parts: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
        // As a kernel may, reads less than asked for now and then.
        let is_short = self.disk.world().operations.is_multiple_of(3);
        let count = if is_short { 1 } else { parts.len() };
        let mut done = 0;
        for part in &mut parts[..count] {
            done += self.read_at(part, offset + done as u64)?;
        }
        Ok(done)
    }

    fn expect(&self, _: u64, _: u64) {}

    fn write_at(&self, bytes: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut data = concat(bytes);
        let mut world = self.disk.world();
        // As a kernel may, writes less than asked for now and then.
        if world.operations.is_multiple_of(3) {
            data.truncate(data.len().div_ceil(2).max(1000));
        }
        if world.faults.failing_writes > 0 {
            world.faults.failing_writes -= 1;
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let blocks = offset / HOLE..=(offset + data.len() as u64 - 1) / HOLE;
        let new = blocks
            .filter(|block| !world.inodes[&self.inode].written.contains(block))
            .count() as u64;
        if world
            .faults
            .capacity
            .is_some_and(|capacity| world.used() + new * HOLE > capacity)
        {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        drop(world);
        let count = data.len();
        self.change(Change::Write(usize::try_from(offset).unwrap(), data))?;
        Ok(count)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Len(usize::try_from(len).unwrap()))
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut world = self.disk.world();
        world.operate()?;
        world.syncs += 1;
        let is_failing =
            world.faults.failing_syncs > 0 && !self.path.to_string_lossy().contains(".claims");
        if is_failing {
            world.faults.failing_syncs -= 1;
        }
        let inode = world.inodes.get_mut(&self.inode).unwrap();
        inode.pending.clear();
        if is_failing {
            // As a kernel does: the pages are called clean, and nobody will write them again.
            return Err(io::Error::from_raw_os_error(EIO));
        }
        inode.durable = inode.live.clone();
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let world = self.disk.world();
        world.alive()?;
        let inode = &world.inodes[&self.inode];
        let len = inode.live.len() as u64;
        let next = inode.written.range(offset / HOLE..).next();
        let run = next.map(|block| (block * HOLE).max(offset)..((block + 1) * HOLE).min(len));
        Ok(run.filter(|run| run.start < run.end))
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut held = self.holds_lock.lock().unwrap();
        *held = *held || self.disk.world().locks.insert(self.inode);
        Ok(*held)
    }

    fn drop_cache(&self) -> io::Result<()> {
        let mut world = self.disk.world();
        let inode = world.inodes.get_mut(&self.inode).unwrap();
        let mut bytes = inode.durable.clone();
        for change in &inode.pending {
            Inode::apply(&mut bytes, change, || true);
        }
        inode.live = bytes;
        Ok(())
    }
}

fn stat(world: &World, inode: u64) -> FileStat {
    let it = &world.inodes[&inode];
    let names = world
        .names
        .values()
        .filter(|node| **node == Node::File(inode));
    FileStat {
        device: world.device,
        inode,
        len: it.live.len() as u64,
        modified_ns: it.modified,
        changed_ns: it.changed,
        links: names.count() as u64,
    }
}
