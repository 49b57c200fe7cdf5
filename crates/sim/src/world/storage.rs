//! Disks: what jobs become.

use std::time::Duration;

use riverrun_base::{Bitfield, BlockSpan, PieceIndex};
use riverrun_swarm::{ConnKey, Input, StorageDone, StorageFault, StorageJob, TorrentKey};

use super::{Pending, World};
use crate::content::Payload;
use crate::ids::{ContentId, EndId, HostId};
use crate::manners::Poison;
use crate::observe::Happening;
use crate::planted::Planted;
use crate::streams::happens;
use crate::wire::Talk;

impl World {
    /// Does a job of a host's shard, and reports it when its time is over.
    pub(super) fn storage(&mut self, host: HostId, torrent: TorrentKey, job: StorageJob) {
        let Some(at) = self.host(host).torrent_at(torrent) else {
            return;
        };
        let now = self.now;
        let content = self.host(host).torrents[at].content;
        let own = &mut self.hosts[host.as_usize()];
        let store = &mut own.torrents[at].store;
        let content_state = &self.contents[content.0 as usize].content;
        let (done, bytes) = match job {
            StorageJob::Open { .. } => {
                assert!(!store.is_open, "opened twice");
                store.is_open = true;
                let (have, unchecked) = store.found();
                (StorageDone::Opened { have, unchecked }, 0)
            }
            StorageJob::Check { pieces, .. } => return self.check(host, at, &pieces),
            StorageJob::Store { span, block } => {
                let payload = content_state.payload(span, &block);
                store.store(content_state, span, payload);
                return;
            }
            StorageJob::Verify { piece, expected } => {
                let done = match own.planted {
                    Some(Planted::SkipsHashCheck) => store.trust(piece),
                    _ => store.verify(content_state, piece, expected),
                };
                (done, content_state.info().layout().piece_len(piece).into())
            }
            StorageJob::Discard(piece) => return store.discard(piece),
            StorageJob::Read { conn, span } => return self.read(host, torrent, conn, span),
            StorageJob::HashLeaves {
                conn,
                piece,
                request,
            } => {
                let leaves = content_state.leaves(piece);
                let done = StorageDone::Leaves {
                    conn,
                    piece,
                    request,
                    leaves,
                };
                (done, content_state.info().layout().piece_len(piece).into())
            }
            StorageJob::Sync => (StorageDone::Synced, 0),
            StorageJob::Close => {
                store.is_open = false;
                (StorageDone::Closed, 0)
            }
            StorageJob::Forget(piece) => {
                store.durable.clear(piece);
                return;
            }
            StorageJob::Wanted(_) => return,
        };
        let wait = self.hosts[host.as_usize()].disk.work(now, bytes) - now;
        let verified = match done {
            StorageDone::Verified(piece) => Some(piece),
            _ => None,
        };
        self.report(host, torrent, wait, done);
        // What is written is never durable before it is told to be right, however fast the disk is.
        if let Some(piece) = verified {
            self.write(host, at, piece, bytes, wait);
        }
    }

    fn report(&mut self, host: HostId, torrent: TorrentKey, wait: Duration, done: StorageDone) {
        self.input_later(host, wait, Input::Storage { torrent, done });
    }

    fn check(&mut self, host: HostId, at: usize, pieces: &Bitfield) {
        let now = self.now;
        let own = &mut self.hosts[host.as_usize()];
        let torrent = &mut own.torrents[at];
        let Some(key) = torrent.key else { return };
        let layout = self.contents[torrent.content.0 as usize]
            .content
            .info()
            .layout();
        let mut last = now;
        let mut found = Vec::new();
        for piece in pieces.ones() {
            let ok = torrent.store.written.has(piece);
            if ok {
                torrent.store.durable.set(piece);
            } else {
                torrent.store.durable.clear(piece);
            }
            last = own.disk.work(now, layout.piece_len(piece).into());
            found.push((last, StorageDone::Checked { piece, ok }));
        }
        found.push((last, StorageDone::CheckEnded));
        for (at, done) in found {
            self.report(host, key, at - now, done);
        }
    }

    /// Writes a piece that is right after some time, and makes it durable later, if the disk lets it.
    fn write(&mut self, host: HostId, at: usize, piece: PieceIndex, len: u64, after: Duration) {
        let now = self.now;
        let own = &mut self.hosts[host.as_usize()];
        let Some(torrent) = own.torrents[at].key else {
            return;
        };
        let disk = &mut own.disk;
        let is_full = disk
            .config
            .space
            .is_some_and(|space| disk.used_bytes + len > space);
        let fails = disk.fails_until.is_some_and(|until| until > now);
        let planted = own.planted;
        if planted == Some(Planted::NeverSyncs) {
            return;
        }
        if planted == Some(Planted::ClaimsBeforeSync) {
            own.torrents[at].store.durable.set(piece);
        }
        if !is_full && !fails {
            disk.used_bytes += len;
            let wait = after + disk.config.sync;
            self.misdirect(host, at, piece);
            self.report(host, torrent, wait, StorageDone::Durable(vec![piece]));
            return;
        }
        if planted == Some(Planted::IgnoresWriteErrors) {
            own.torrents[at].store.written.clear(piece);
            self.report(host, torrent, after, StorageDone::Durable(vec![piece]));
            return;
        }
        disk.unwritten.push((at, piece));
        // Right in memory; not in the files.
        own.torrents[at].store.written.clear(piece);
        if std::mem::replace(&mut own.disk.is_faulted, true) {
            return;
        }
        let fault = if is_full {
            StorageFault::NoSpace {
                path: "file".to_owned(),
                needed_bytes: len,
            }
        } else {
            input_output_error()
        };
        self.report(host, torrent, after, StorageDone::Fault(fault));
    }

    /// A write may land where another piece is: neither is what it should be then, and nobody is told.
    fn misdirect(&mut self, host: HostId, at: usize, piece: PieceIndex) {
        let own = &mut self.hosts[host.as_usize()];
        if !happens(&mut self.streams.disks, own.disk.config.misdirected_writes) {
            return;
        }
        own.has_rotted = true;
        let store = &mut own.torrents[at].store;
        let other = PieceIndex((piece.0 + 1) % store.written.len());
        for piece in [piece, other] {
            store.spoil(piece);
        }
        for piece in [piece, other] {
            self.happen(|| Happening::Spoiled { host, piece });
        }
    }

    /// The disk may work again: writes what could not be written.
    pub(super) fn recover_disk(&mut self, host: HostId) {
        let own = self.host_mut(host);
        if !own.disk.is_faulted {
            return;
        }
        own.disk.is_faulted = false;
        let unwritten = std::mem::take(&mut own.disk.unwritten);
        let keys: Vec<_> = own
            .torrents
            .iter()
            .filter_map(|torrent| torrent.key)
            .collect();
        for key in keys {
            self.report(host, key, Duration::ZERO, StorageDone::Recovered);
        }
        for (at, piece) in unwritten {
            let own = self.host_mut(host);
            own.torrents[at].store.written.set(piece);
            let content = own.torrents[at].content;
            let len = self.content(content).info().layout().piece_len(piece);
            self.write(host, at, piece, len.into(), Duration::ZERO);
        }
    }

    /// Pieces have reached the platter and the journal, just before that is told.
    pub(super) fn make_durable(
        &mut self,
        host: HostId,
        torrent: TorrentKey,
        pieces: &[PieceIndex],
    ) {
        let Some(at) = self.host(host).torrent_at(torrent) else {
            return;
        };
        let store = &mut self.host_mut(host).torrents[at].store;
        for piece in pieces {
            store.durable.set(*piece);
        }
        self.happen(|| Happening::Durable {
            host,
            pieces: pieces.to_vec(),
        });
    }

    fn read(&mut self, host: HostId, torrent: TorrentKey, conn: ConnKey, span: BlockSpan) {
        let now = self.now;
        let Some(end) = self.host(host).conns.get(conn) else {
            return;
        };
        let own = &mut self.hosts[host.as_usize()];
        if own.disk.fails_until.is_some_and(|until| until > now) {
            let done = StorageDone::ReadFailed {
                conn,
                span,
                fault: input_output_error(),
            };
            self.report(host, torrent, Duration::ZERO, done);
            return;
        }
        let is_corrupt = happens(&mut self.streams.disks, own.disk.config.corrupt_reads);
        let wait = own.disk.work(now, span.len.into()) - now;
        let is_instant = own.disk.is_instant();
        let payload = if is_corrupt || self.is_poison(host, end, span) {
            Payload::Wrong(host)
        } else {
            self.on_disk(host, torrent, span)
        };
        if is_instant {
            self.serve(host, torrent, conn, span, payload);
            return;
        }
        let incarnation = self.host(host).incarnation;
        let pending = Pending::Serve {
            host,
            incarnation,
            torrent,
            conn,
            span,
            payload,
        };
        self.pend(now + wait, pending);
    }

    /// What the files hold. A piece that could not be written yet is in memory, and right.
    fn on_disk(&self, host: HostId, torrent: TorrentKey, span: BlockSpan) -> Payload {
        let own = self.host(host);
        let Some(at) = own.torrent_at(torrent) else {
            return Payload::Right;
        };
        let in_memory = own.disk.unwritten.contains(&(at, span.piece));
        let store = &own.torrents[at].store;
        if store.written.has(span.piece) || in_memory {
            Payload::Right
        } else {
            store.held(span).unwrap_or(Payload::Wrong(host))
        }
    }

    /// Whether a host sends a block wrong on purpose.
    fn is_poison(&mut self, host: HostId, end: EndId, span: BlockSpan) -> bool {
        match self.host(host).config.manners.poison {
            Poison::Never => false,
            Poison::Every(every) => {
                let number = span.piece.0 * 7 + span.offset / riverrun_base::BLOCK_LEN;
                number.is_multiple_of(every.max(1))
            }
            Poison::Once => {
                let Some(wire) = self.wires[end.wire()].as_deref_mut() else {
                    return false;
                };
                match &mut wire.ends[end.side()].talk {
                    Talk::Direct(direct) => direct.first_poison(),
                    Talk::Bytes(bytes) => !std::mem::replace(&mut bytes.has_poisoned, true),
                }
            }
        }
    }

    /// A block was read for a connection.
    pub(super) fn serve(
        &mut self,
        host: HostId,
        torrent: TorrentKey,
        conn: ConnKey,
        span: BlockSpan,
        payload: Payload,
    ) {
        let Some(end_id) = self.host(host).conns.get(conn) else {
            return;
        };
        let manners = &self.host(host).config.manners;
        if manners.mute || manners.free_rider {
            return;
        }
        let content: Option<ContentId> = self
            .host(host)
            .torrent_at(torrent)
            .map(|at| self.host(host).torrents[at].content);
        let Some(wire) = self.wires[end_id.wire()].as_deref_mut() else {
            return;
        };
        let to = wire.ends[end_id.other().side()].host;
        let is_bytes = match &mut wire.ends[end_id.side()].talk {
            Talk::Direct(direct) => {
                if !direct.take_asked(span) {
                    return;
                }
                direct.queue.push_back((span, payload));
                false
            }
            Talk::Bytes(_) => true,
        };
        if let Some(content) = content {
            self.happen(|| Happening::Serving {
                from: host,
                to,
                content,
                span,
                payload,
            });
        }
        if is_bytes {
            self.serve_bytes(end_id, span, payload);
        } else {
            self.offer(end_id);
        }
    }
}

fn input_output_error() -> StorageFault {
    StorageFault::Io {
        path: "file".to_owned(),
        message: "Input/output error (os error 5)".to_owned(),
    }
}
