//! Replies and errors.

use std::net::SocketAddr;

use riverrun_bencode::Writer;

use super::CLIENT;
use crate::contact::{Contact, put_addr, put_contacts};
use crate::id::NodeId;
use crate::item::Stored;

/// Most replies fit into so many bytes: eight nodes, a token, some peers.
const REPLY_BYTES_USUAL: usize = 384;

/// What a reply says. Absent parts are left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply<'a> {
    pub(crate) nodes: Option<Vec<Contact>>,
    pub(crate) nodes6: Option<Vec<Contact>>,
    pub(crate) token: Option<[u8; 8]>,
    /// Peers: never those of another family than the query's (BEP 32).
    pub(crate) values: Vec<SocketAddr>,
    /// The filters of peers and of seeds (BEP 33).
    pub(crate) filters: Option<Box<([u8; 256], [u8; 256])>>,
    /// An item, whole or only its number.
    pub(crate) item: Option<ItemPart<'a>>,
    pub(crate) samples: Option<Samples<'a>>,
}

/// How much of an item a reply has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ItemPart<'a> {
    Whole(&'a Stored),
    /// The asker has this one already, or may not have more.
    Seq(i64),
}

/// A sample of what is stored (BEP 51).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Samples<'a> {
    pub(crate) interval_secs: u64,
    pub(crate) count: usize,
    /// Info-hashes in a row.
    pub(crate) hashes: &'a [u8],
}

/// The bytes of a reply to the node at `to` (told its address, BEP 42).
pub(crate) fn write_reply(
    transaction: &[u8],
    id: NodeId,
    to: SocketAddr,
    reply: &Reply<'_>,
) -> Vec<u8> {
    let mut out = Writer::with_capacity(REPLY_BYTES_USUAL);
    out.dict();
    write_ip(&mut out, to);
    out.key(b"r").dict();
    if let Some(filters) = &reply.filters {
        out.key(b"BFpe").bytes(&filters.0);
        out.key(b"BFsd").bytes(&filters.1);
    }
    out.key(b"id").bytes(&id.0);
    if let Some(samples) = reply.samples {
        out.key(b"interval").uint(samples.interval_secs);
    }
    let signed = match reply.item {
        Some(ItemPart::Whole(item)) => item.signed.as_ref(),
        _ => None,
    };
    if let Some(signed) = signed {
        out.key(b"k").bytes(&signed.key);
    }
    if let Some(nodes) = &reply.nodes {
        out.key(b"nodes").bytes(&put_contacts(nodes));
    }
    if let Some(nodes) = &reply.nodes6 {
        out.key(b"nodes6").bytes(&put_contacts(nodes));
    }
    if let Some(samples) = reply.samples {
        out.key(b"num").uint(samples.count as u64);
        out.key(b"samples").bytes(samples.hashes);
    }
    match (signed, reply.item) {
        (Some(signed), _) => {
            out.key(b"seq").int(signed.seq);
            out.key(b"sig").bytes(&signed.signature);
        }
        (None, Some(ItemPart::Seq(seq))) => {
            out.key(b"seq").int(seq);
        }
        _ => {}
    }
    if let Some(token) = &reply.token {
        out.key(b"token").bytes(token);
    }
    if let Some(ItemPart::Whole(item)) = reply.item {
        out.key(b"v").raw(&item.value);
    }
    write_values(&mut out, &reply.values);
    out.end();
    finish(out, transaction, b"r")
}

fn write_values(out: &mut Writer, values: &[SocketAddr]) {
    if values.is_empty() {
        return;
    }
    out.key(b"values").list();
    let mut compact = Vec::with_capacity(18);
    for peer in values {
        compact.clear();
        put_addr(&mut compact, *peer);
        out.bytes(&compact);
    }
    out.end();
}

/// The bytes of an error.
pub(crate) fn write_error(transaction: &[u8], to: SocketAddr, code: i64, message: &str) -> Vec<u8> {
    let mut out = Writer::new();
    out.dict().key(b"e").list();
    out.int(code).bytes(message.as_bytes()).end();
    write_ip(&mut out, to);
    finish(out, transaction, b"e")
}

fn write_ip(out: &mut Writer, to: SocketAddr) {
    let mut compact = Vec::with_capacity(18);
    put_addr(&mut compact, to);
    out.key(b"ip").bytes(&compact);
}

fn finish(mut out: Writer, transaction: &[u8], kind: &[u8]) -> Vec<u8> {
    out.key(b"t").bytes(transaction);
    out.key(b"v").bytes(CLIENT);
    out.key(b"y").bytes(kind).end();
    out.finish()
}
