//! The disks of the world: instant, and honest.

use std::time::Duration;

use riverrun_base::{Bitfield, BlockSpan};
use riverrun_swarm::{ConnKey, Input, StorageDone, StorageJob, TorrentKey};

use super::{DISK_TIME, DURABLE_TIME, What, World};

impl World {
    /// Does a job, and reports it.
    pub(super) fn storage(&mut self, node: usize, torrent: TorrentKey, job: StorageJob) {
        let wait = if matches!(job, StorageJob::Check { .. }) {
            DISK_TIME * 2
        } else {
            DISK_TIME
        };
        if let Some(done) = self.do_job(node, torrent, job) {
            self.report(node, torrent, wait, done);
        }
    }

    fn report(&mut self, node: usize, torrent: TorrentKey, wait: Duration, done: StorageDone) {
        let input = Box::new(Input::Storage { torrent, done });
        self.after(wait, What::Input(node, input));
    }

    fn do_job(&mut self, node: usize, torrent: TorrentKey, job: StorageJob) -> Option<StorageDone> {
        let target = &mut self.nodes[node];
        Some(match job {
            StorageJob::Open { info, .. } => {
                assert!(!target.disk.is_open, "opened twice");
                target.disk.is_open = true;
                let unchecked = Bitfield::new(info.layout().piece_count());
                let have = target
                    .disk
                    .have
                    .clone()
                    .unwrap_or_else(|| unchecked.clone());
                StorageDone::Opened { have, unchecked }
            }
            StorageJob::Check { pieces, .. } => self.check(node, torrent, &pieces),
            StorageJob::Store { span, block } => {
                target.disk.store(span, block);
                return None;
            }
            StorageJob::Verify { piece, expected } => {
                let done = target.disk.verify(&target.content, piece, expected);
                if matches!(done, StorageDone::Verified(_)) {
                    self.report(
                        node,
                        torrent,
                        DURABLE_TIME,
                        StorageDone::Durable(vec![piece]),
                    );
                }
                done
            }
            StorageJob::Discard(piece) => {
                target.disk.discard(piece);
                return None;
            }
            StorageJob::Read { conn, span } => {
                self.serve(node, conn, span);
                return None;
            }
            StorageJob::HashLeaves {
                conn,
                piece,
                request,
            } => {
                let leaves = target.content.leaves(piece);
                StorageDone::Leaves {
                    conn,
                    piece,
                    request,
                    leaves,
                }
            }
            StorageJob::Sync => StorageDone::Synced,
            StorageJob::Close => {
                target.disk.is_open = false;
                StorageDone::Closed
            }
            StorageJob::Wanted(_) | StorageJob::Forget(_) => return None,
        })
    }

    fn check(&mut self, node: usize, torrent: TorrentKey, pieces: &Bitfield) -> StorageDone {
        let have = self.nodes[node].disk.have.clone();
        for piece in pieces.ones() {
            let ok = have.as_ref().is_some_and(|have| have.has(piece));
            self.report(node, torrent, DISK_TIME, StorageDone::Checked { piece, ok });
        }
        StorageDone::CheckEnded
    }

    /// A block was read for a connection.
    pub(super) fn serve(&mut self, node: usize, conn: ConnKey, span: BlockSpan) {
        let target = &self.nodes[node];
        let Some((wire, side)) = target.conns.get(&conn).copied() else {
            return;
        };
        let block = target.read(span);
        assert!(
            target
                .shard
                .pieces(target.torrent.expect("a torrent"))
                .is_some_and(|have| have.has(span.piece)),
            "a piece is served that is not verified"
        );
        if target.manners.is_mute || target.manners.is_free_rider {
            return;
        }
        let end = &mut self.wires[wire].ends[side];
        if !end.take_asked(span) {
            return;
        }
        end.queue.push_back((span, block));
        self.offer(node, wire, side);
    }
}
