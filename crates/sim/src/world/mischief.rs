//! What hostile peers send without being asked.

use std::time::Duration;

use riverrun_base::{BlockSpan, PieceIndex};

use super::World;
use crate::host::Life;
use crate::ids::{EndId, HostId};
use crate::manners::Flood;
use crate::schedule::What;
use crate::wire::{Chunk, Message, Talk};

/// How often somebody asks in the name of others who forges and does not flood.
const FORGE_EVERY: Duration = Duration::from_millis(200);

impl World {
    /// Begins what a host does by the clock.
    pub(super) fn plan_mischief(&mut self, host: HostId) {
        let own = self.host_mut(host);
        let manners = &own.config.manners;
        let flood = manners.flood.map(|flood| flood.every);
        let forgery = manners.forges.then_some(FORGE_EVERY);
        let Some(every) = flood.or(forgery) else {
            return;
        };
        if !std::mem::replace(&mut own.mischief_planned, true) {
            self.after(every, What::Mischief(host));
        }
    }

    pub(super) fn mischief(&mut self, host: HostId) {
        let own = self.host_mut(host);
        own.mischief_planned = false;
        if matches!(own.life, Life::Gone | Life::Leaving) {
            return;
        }
        let manners = own.config.manners.clone();
        if let Some(flood) = manners.flood {
            let ends: Vec<EndId> = own.conns.iter().map(|(_, end)| end).collect();
            for end in ends {
                self.flood(end, flood);
            }
        }
        if manners.forges {
            self.forge(host);
        }
        self.plan_mischief(host);
    }

    fn flood(&mut self, end: EndId, flood: Flood) {
        let Some(wire) = self.wires[end.wire()].as_deref() else {
            return;
        };
        if !wire.is_ready {
            return;
        }
        let content = &self.contents[wire.content.0 as usize].content;
        let layout = content.info().layout();
        let rng = &mut self.streams.mischief;
        let mut piece = || {
            let piece = rng.below(layout.piece_count() as usize);
            PieceIndex(u32::try_from(piece).unwrap_or(0))
        };
        let spans: Vec<BlockSpan> = (0..flood.requests)
            .filter_map(|_| layout.span(piece(), 0))
            .collect();
        let haves: Vec<PieceIndex> = (0..flood.haves).map(|_| piece()).collect();
        let is_bytes = matches!(wire.ends[end.side()].talk, Talk::Bytes(_));
        if is_bytes {
            let bytes = encode(&spans, &haves);
            self.send_raw(end, bytes);
        } else {
            if !spans.is_empty() {
                self.send(end, Message::Requests(spans.into()));
            }
            for piece in haves {
                self.send(end, Message::Have(piece));
            }
        }
        if flood.garbage {
            self.send_raw(end, vec![0xff; 64]);
        }
    }

    fn send_raw(&mut self, end: EndId, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        if let Some(wire) = self.wires[end.wire()].as_deref_mut() {
            wire.ends[end.side()].flow.send(bytes.len() as u64);
        }
        let began = self.now;
        self.send(end, Message::Bytes(Box::new(Chunk { bytes, began })));
    }
}

/// Requests and haves as they stand on the wire (BEP 3).
fn encode(spans: &[BlockSpan], haves: &[PieceIndex]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for span in spans {
        put(&mut bytes, 6, &[span.piece.0, span.offset, span.len]);
    }
    for piece in haves {
        put(&mut bytes, 4, &[piece.0]);
    }
    bytes
}

fn put(bytes: &mut Vec<u8>, id: u8, words: &[u32]) {
    let len = 1 + 4 * u32::try_from(words.len()).unwrap_or(0);
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.push(id);
    for word in words {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
}
