//! Answers to what others ask.

use std::net::SocketAddr;

use crate::contact::{Contact, Family};
use crate::id::NodeId;
use crate::item::{Signed, Stored};
use crate::krpc::{
    Ask, ItemPart, Padding, Put, Reply, Samples, Want, code, write_error, write_reply,
};
use crate::peers::Wanted;
use crate::table::BUCKET_NODES;

use super::{Cx, Node, Proof, Purpose, send};

/// How many bytes an answer has at most, unless it has an item.
const REPLY_BYTES_MAX: usize = 1024;

/// How many bytes an answer with an item has at most: as many as the largest item needs.
const ITEM_REPLY_BYTES_MAX: usize = 1320;

/// How many times as long as a query its answer is at most, so that nobody gains by asking in another's name.
const AMPLIFICATION_MAX: usize = 8;

/// How many answers wait at once for their receivers to show that they are there.
const PROOFS_MAX: usize = 64;

/// What an answer has beside its parts: keys, our id, our name, the asker's address.
const FRAME_BYTES: usize = 110;

/// What an item has beside its value: the signature, the key, the version.
const SIGNED_BYTES: usize = 145;

/// A query, but for what it asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'a> {
    pub(crate) from: SocketAddr,
    pub(crate) transaction: &'a [u8],
    pub(crate) len: usize,
    pub(crate) want: Want,
}

impl Node {
    pub(super) fn serve(
        &mut self,
        cx: &mut Cx<'_>,
        query: &Query<'_>,
        ask: &Ask<'_>,
        near: impl FnOnce(NodeId) -> Vec<Contact>,
    ) {
        match ask {
            Ask::Ping => self.reply(cx, query.from, query.transaction, &Reply::default()),
            Ask::FindNode { target }
            | Ask::Other {
                target: Some(target),
            } => {
                let mut reply = Reply::default();
                self.add_nodes(&mut reply, query, *target, room(query), near);
                self.reply(cx, query.from, query.transaction, &reply);
            }
            Ask::Other { target: None } => {
                let code = code::METHOD_UNKNOWN;
                self.complain(cx, query.from, query.transaction, code, "method unknown");
            }
            Ask::GetPeers { .. } => self.serve_peers(cx, query, ask, near),
            Ask::Announce { .. } => self.serve_announce(cx, query, ask),
            Ask::Get { target, seq } => self.serve_item(cx, query, *target, *seq, near),
            Ask::Put(put) => self.serve_put(cx, query, put),
            Ask::Sample { target } => self.serve_sample(cx, query, *target, near),
        }
    }

    fn serve_peers(
        &mut self,
        cx: &mut Cx<'_>,
        query: &Query<'_>,
        ask: &Ask<'_>,
        near: impl FnOnce(NodeId) -> Vec<Contact>,
    ) {
        let Ask::GetPeers {
            info_hash,
            no_seeds,
            scrape,
        } = *ask
        else {
            return;
        };
        let target = info_hash.into();
        let mut reply = Reply::default();
        let mut left = room(query);
        if self.peers.has_room_for(self.id, info_hash) {
            reply.token = Some(self.tokens.issue(cx.now, query.from, target));
        }
        if scrape && let Some((peers, seeds)) = self.peers.filters(info_hash) {
            left = left.saturating_sub(532);
            reply.filters = Some(Box::new((*peers.as_bytes(), *seeds.as_bytes())));
        }
        left = self.add_nodes(&mut reply, query, target, left, near);
        let value_len = match self.family {
            Family::V4 => 8,
            Family::V6 => 21,
        };
        let wanted = Wanted {
            count_max: left.saturating_sub(12) / value_len,
            no_seeds,
        };
        reply.values = self.peers.peers(info_hash, wanted, &mut self.rng);
        self.reply(cx, query.from, query.transaction, &reply);
    }

    fn serve_announce(&mut self, cx: &mut Cx<'_>, query: &Query<'_>, ask: &Ask<'_>) {
        let Ask::Announce {
            info_hash,
            port,
            is_seed,
            token,
        } = *ask
        else {
            return;
        };
        if !self.has_token(cx, query, info_hash.into(), token) {
            return;
        }
        let peer = SocketAddr::new(query.from.ip(), port.unwrap_or(query.from.port()));
        if self
            .peers
            .announce(cx.now, self.id, info_hash, peer, is_seed)
        {
            self.reply(cx, query.from, query.transaction, &Reply::default());
        } else {
            self.complain(cx, query.from, query.transaction, 202, "no room");
        }
    }

    fn serve_item(
        &mut self,
        cx: &mut Cx<'_>,
        query: &Query<'_>,
        target: NodeId,
        seq: Option<i64>,
        near: impl FnOnce(NodeId) -> Vec<Contact>,
    ) {
        let whole = self.items.find(target).map_or(0, item_bytes);
        let known = self.items.find(target).and_then(Stored::seq);
        let is_news = known.is_none_or(|known| seq.is_none_or(|seq| seq < known));
        let room = room_within(query, ITEM_REPLY_BYTES_MAX);
        if whole > room && is_news {
            return self.ask_for_proof(cx, query, target);
        }
        let item = self.items.find(target).cloned();
        let token = Some(self.tokens.issue(cx.now, query.from, target));
        let mut reply = Reply {
            token,
            ..Reply::default()
        };
        reply.item = match (&item, known) {
            (Some(item), _) if is_news => Some(ItemPart::Whole(item)),
            (_, Some(known)) => Some(ItemPart::Seq(known)),
            _ => None,
        };
        let left = room.saturating_sub(if is_news { whole } else { 0 });
        self.add_nodes(&mut reply, query, target, left, near);
        self.reply(cx, query.from, query.transaction, &reply);
    }

    /// The answer would be much longer than the query: first the asker has to show that it is there.
    fn ask_for_proof(&mut self, cx: &mut Cx<'_>, query: &Query<'_>, target: NodeId) {
        let is_proof = |purpose: &&Purpose| matches!(purpose, Purpose::Prove(_));
        if self.rpcs.purposes().filter(is_proof).count() >= PROOFS_MAX {
            return;
        }
        let proof = Proof {
            transaction: query.transaction.to_vec(),
            target,
        };
        let to = (query.from, None);
        self.query(cx, to, &Ask::Ping, Padding::Without, Purpose::Prove(proof));
    }

    /// The asker has shown that it is there.
    pub(super) fn serve_proven(&mut self, cx: &mut Cx<'_>, to: SocketAddr, proof: &Proof) {
        let item = self.items.find(proof.target).cloned();
        let left = ITEM_REPLY_BYTES_MAX
            .saturating_sub(FRAME_BYTES + proof.transaction.len())
            .saturating_sub(item.as_ref().map_or(0, item_bytes));
        let mut reply = Reply {
            token: Some(self.tokens.issue(cx.now, to, proof.target)),
            item: item.as_ref().map(ItemPart::Whole),
            ..Reply::default()
        };
        let count = (left.saturating_sub(12) / self.family.contact_len()).min(BUCKET_NODES);
        let nodes = Some(self.table.closest(proof.target, count));
        match self.family {
            Family::V4 => reply.nodes = nodes,
            Family::V6 => reply.nodes6 = nodes,
        }
        self.reply(cx, to, &proof.transaction, &reply);
    }

    fn serve_put(&mut self, cx: &mut Cx<'_>, query: &Query<'_>, put: &Put<'_>) {
        let value = put.value.to_vec();
        let signed = put.signed.map(|signed| Signed {
            key: *signed.key,
            salt: signed.salt.to_vec(),
            seq: signed.seq,
            signature: *signed.signature,
        });
        // The token first: a signature costs a thousand times as much.
        let target = match &signed {
            Some(signed) => crate::item::mutable_target(&signed.key, &signed.salt),
            None => NodeId(riverrun_hash::sha1(&value).0),
        };
        if !self.has_token(cx, query, target, put.token) {
            return;
        }
        let item = match signed {
            Some(signed) => Stored::verified(value, signed),
            None => Stored::immutable(value),
        };
        let stored = match item {
            Ok(item) => self.items.put(cx.now, self.id, query.from, item, put.cas),
            Err(wrong) => {
                let code = code_of(wrong);
                return self.complain(cx, query.from, query.transaction, code, &wrong.to_string());
            }
        };
        match stored {
            Ok(()) => self.reply(cx, query.from, query.transaction, &Reply::default()),
            Err(refusal) => {
                let text = refusal.to_string();
                self.complain(cx, query.from, query.transaction, refusal.code(), &text);
            }
        }
    }

    fn serve_sample(
        &mut self,
        cx: &mut Cx<'_>,
        query: &Query<'_>,
        target: NodeId,
        near: impl FnOnce(NodeId) -> Vec<Contact>,
    ) {
        let count = self.peers.torrent_count();
        let (hashes, life) = self.peers.sample(cx.now, &mut self.rng);
        let fits = room(query).saturating_sub(60) / 20 * 20;
        let hashes = hashes[..hashes.len().min(fits)].to_vec();
        let mut reply = Reply {
            samples: Some(Samples {
                interval_secs: life.as_secs(),
                count,
                hashes: &hashes,
            }),
            ..Reply::default()
        };
        let left = room(query).saturating_sub(60 + hashes.len());
        self.add_nodes(&mut reply, query, target, left, near);
        self.reply(cx, query.from, query.transaction, &reply);
    }

    /// Names nodes near a target in the families that are wanted, as many as there is room for; gives the room
    /// that is left.
    fn add_nodes(
        &self,
        reply: &mut Reply<'_>,
        query: &Query<'_>,
        target: NodeId,
        mut left: usize,
        near: impl FnOnce(NodeId) -> Vec<Contact>,
    ) -> usize {
        let mut fitting = |family: Family, nodes: &dyn Fn(usize) -> Vec<Contact>| {
            let len = family.contact_len();
            let nodes = nodes((left.saturating_sub(13) / len).min(BUCKET_NODES));
            left = left.saturating_sub(13 + nodes.len() * len);
            Some(nodes)
        };
        let own = |count| self.table.closest(target, count);
        let mut of = |family, nodes: &dyn Fn(usize) -> Vec<Contact>| {
            let nodes = fitting(family, nodes);
            match family {
                Family::V4 => reply.nodes = nodes,
                Family::V6 => reply.nodes6 = nodes,
            }
        };
        if query.want.wants(self.family) {
            of(self.family, &own);
        }
        if query.want.wants(self.family.other()) {
            let foreign = near(target);
            of(self.family.other(), &|count| {
                foreign.iter().copied().take(count).collect()
            });
        }
        left
    }

    /// Whether a query has the token that we gave its sender; if not, it is told so.
    fn has_token(
        &mut self,
        cx: &mut Cx<'_>,
        query: &Query<'_>,
        target: NodeId,
        token: &[u8],
    ) -> bool {
        let has = self.tokens.accepts(cx.now, query.from, target, token);
        if !has {
            self.complain(
                cx,
                query.from,
                query.transaction,
                code::PROTOCOL,
                "invalid token",
            );
        }
        has
    }

    fn reply(&mut self, cx: &mut Cx<'_>, to: SocketAddr, transaction: &[u8], reply: &Reply<'_>) {
        let bytes = write_reply(transaction, self.id, to, reply);
        self.gate.spend(cx.now, to, bytes.len());
        send(cx, to, bytes);
    }

    pub(super) fn complain(
        &mut self,
        cx: &mut Cx<'_>,
        to: SocketAddr,
        transaction: &[u8],
        code: i64,
        message: &str,
    ) {
        let bytes = write_error(transaction, to, code, message);
        self.gate.spend(cx.now, to, bytes.len());
        send(cx, to, bytes);
    }
}

/// How many bytes the parts of an answer may have.
fn room(query: &Query<'_>) -> usize {
    room_within(query, REPLY_BYTES_MAX)
}

fn room_within(query: &Query<'_>, bytes_max: usize) -> usize {
    let whole = (query.len * AMPLIFICATION_MAX).min(bytes_max);
    whole.saturating_sub(FRAME_BYTES + query.transaction.len())
}

fn item_bytes(item: &Stored) -> usize {
    let signed = item.signed.as_ref().map_or(0, |_| SIGNED_BYTES);
    item.value.len() + signed
}

const fn code_of(wrong: crate::item::InvalidItem) -> i64 {
    use crate::item::InvalidItem;
    match wrong {
        InvalidItem::ValueTooLong(_) => code::VALUE_TOO_BIG,
        InvalidItem::SaltTooLong(_) => code::SALT_TOO_BIG,
        InvalidItem::InvalidSignature => code::INVALID_SIGNATURE,
        InvalidItem::NotBencode => code::PROTOCOL,
    }
}
