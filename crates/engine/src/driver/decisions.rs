//! The shard, and whoever records what it is given.

use std::ops::Deref;
use std::sync::Arc;

use riverrun_base::Time;
use riverrun_swarm::{Changes, Config, Input, Outbox, Recorder, Revision, Shard};

use crate::recording::RecordWriter;

/// A shard that is recorded, if somebody wants it to be.
pub(crate) struct Decisions {
    shard: Shard,
    record: Option<Record>,
}

struct Record {
    recorder: Recorder,
    writer: RecordWriter,
}

impl Decisions {
    pub(crate) fn new(config: Config, seed: u64, writer: Option<RecordWriter>) -> Self {
        let program = concat!("riverrun ", env!("CARGO_PKG_VERSION"));
        let record = writer.map(|writer| Record {
            recorder: Recorder::new(program, &config, seed),
            writer,
        });
        Self {
            shard: Shard::new(Arc::new(config), seed),
            record,
        }
    }

    pub(crate) fn handle(&mut self, now: Time, input: Input, out: &mut Outbox) {
        match &mut self.record {
            None => self.shard.handle(now, input, out),
            Some(record) => record.recorder.handle(now, &mut self.shard, input, out),
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Time, out: &mut Outbox) {
        match &mut self.record {
            None => self.shard.handle_timeout(now, out),
            Some(record) => record.recorder.handle_timeout(now, &mut self.shard, out),
        }
    }

    /// What has changed: nothing that is decided depends on whether that was asked.
    pub(crate) fn changes(&mut self, now: Time, since: Revision) -> Changes {
        self.shard.changes(now, since)
    }

    /// Has what was recorded in this turn written.
    pub(crate) fn end_turn(&mut self) {
        let Some(record) = &mut self.record else {
            return;
        };
        let chunk = record.recorder.take();
        if !chunk.is_empty() && !record.writer.write(chunk) {
            self.record = None;
        }
    }
}

impl Deref for Decisions {
    type Target = Shard;

    fn deref(&self) -> &Shard {
        &self.shard
    }
}
