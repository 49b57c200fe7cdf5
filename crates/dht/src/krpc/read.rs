//! Messages as they come in.

use std::net::SocketAddr;

use riverrun_base::InfoHash;
use riverrun_bencode::{Dict, Document, Limits, Value};

use super::query::{Ask, Put, PutSigned, Want};
use crate::contact::read_addr;
use crate::id::NodeId;

/// What is taken on of a stranger's datagram. Values of items may nest (BEP 44 says "any bencoded type").
const LIMITS: Limits = Limits {
    depth: 32,
    tokens: 2048,
    bytes: 4096,
};

/// The longest transaction that is repeated to its sender; the longest seen in the field has 8 bytes.
const TRANSACTION_BYTES_MAX: usize = 32;

/// How many peers of one answer are taken: one datagram cannot hold more.
const VALUES_MAX: usize = 200;

/// A message.
#[derive(Clone, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) transaction: &'a [u8],
    pub(crate) body: Body<'a>,
}

/// What a message is.
#[derive(Clone, Debug)]
pub(crate) enum Body<'a> {
    Query {
        id: NodeId,
        /// The sender does not answer queries (BEP 43).
        is_read_only: bool,
        /// `None`: the family of the transport.
        want: Option<Want>,
        ask: Ask<'a>,
    },
    /// A query that is not well-formed: answered with an error.
    BadQuery {
        what: &'static str,
    },
    Answer(Box<Answer<'a>>),
    Error {
        code: i64,
        message: &'a [u8],
    },
}

/// An answer: all that any method's may have.
#[derive(Clone, Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) id: NodeId,
    /// Our address as the sender sees it (BEP 42).
    pub(crate) ip: Option<SocketAddr>,
    pub(crate) nodes: &'a [u8],
    pub(crate) nodes6: &'a [u8],
    pub(crate) token: Option<&'a [u8]>,
    pub(crate) values: Vec<SocketAddr>,
    pub(crate) peers_filter: Option<&'a [u8; 256]>,
    pub(crate) seeds_filter: Option<&'a [u8; 256]>,
    /// A value of BEP 44, as bencode.
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) key: Option<&'a [u8; 32]>,
    pub(crate) signature: Option<&'a [u8; 64]>,
    pub(crate) seq: Option<i64>,
    pub(crate) samples: Option<&'a [u8]>,
    pub(crate) samples_count: Option<u64>,
    pub(crate) interval_secs: Option<u64>,
}

/// Reads a datagram; `None` if it is no message at all, which is not answered.
pub(crate) fn read(bytes: &[u8]) -> Option<Message<'_>> {
    let document = Document::parse(bytes, LIMITS).ok()?;
    let root = document.root().as_dict()?;
    let transaction = root.get(b"t")?.as_bytes()?;
    if transaction.len() > TRANSACTION_BYTES_MAX {
        return None;
    }
    let body = match root.get(b"y")?.as_bytes()? {
        b"q" => read_query(root),
        b"r" => Body::Answer(Box::new(read_answer(root)?)),
        b"e" => read_error(root),
        _ => return None,
    };
    Some(Message { transaction, body })
}

fn read_query<'a>(root: Dict<'_, 'a>) -> Body<'a> {
    read_well_formed(root).unwrap_or_else(|what| Body::BadQuery { what })
}

fn read_well_formed<'a>(root: Dict<'_, 'a>) -> Result<Body<'a>, &'static str> {
    let method = root.get(b"q").and_then(|value| value.as_bytes());
    let arguments = root.get(b"a").and_then(|value| value.as_dict());
    let (method, arguments) = method.zip(arguments).ok_or("no method or arguments")?;
    let name = |key: &[u8]| arguments.get(key).and_then(id_of);
    let id = name(b"id").ok_or("no id")?;
    let target = || name(b"target").ok_or("no target");
    let info_hash = || {
        name(b"info_hash")
            .map(|id| InfoHash(id.0))
            .ok_or("no info_hash")
    };
    let int = |key: &[u8]| arguments.get(key).and_then(|value| value.as_int());
    let ask = match method {
        b"ping" => Ask::Ping,
        b"find_node" => Ask::FindNode { target: target()? },
        b"get_peers" => Ask::GetPeers {
            info_hash: info_hash()?,
            no_seeds: int(b"noseed") == Some(1),
            scrape: int(b"scrape") == Some(1),
        },
        b"announce_peer" => Ask::Announce {
            info_hash: info_hash()?,
            port: read_port(int(b"implied_port"), int(b"port"))?,
            is_seed: int(b"seed") == Some(1),
            token: bytes_of(arguments, b"token").ok_or("no token")?,
        },
        b"get" => Ask::Get {
            target: target()?,
            seq: int(b"seq"),
        },
        b"put" => Ask::Put(read_put(arguments)?),
        b"sample_infohashes" => Ask::Sample { target: target()? },
        _ => Ask::Other {
            target: name(b"target").or_else(|| name(b"info_hash")),
        },
    };
    Ok(Body::Query {
        id,
        is_read_only: root.get(b"ro").and_then(|value| value.as_int()) == Some(1),
        want: arguments.get(b"want").and_then(|value| read_want(&value)),
        ask,
    })
}

/// The port that an announce names; `None` if it is to be that of the datagram.
fn read_port(implied: Option<i64>, port: Option<i64>) -> Result<Option<u16>, &'static str> {
    if implied.is_some_and(|implied| implied != 0) {
        return Ok(None);
    }
    match port.map(u16::try_from) {
        Some(Ok(port)) if port != 0 => Ok(Some(port)),
        _ => Err("no port"),
    }
}

fn read_put<'a>(arguments: Dict<'_, 'a>) -> Result<Put<'a>, &'static str> {
    let int = |key: &[u8]| arguments.get(key).and_then(|value| value.as_int());
    let value = arguments.get(b"v").ok_or("no value")?;
    let signed = match bytes_of(arguments, b"k") {
        None => None,
        Some(key) => Some(PutSigned {
            key: key.try_into().map_err(|_| "no key of 32 bytes")?,
            salt: bytes_of(arguments, b"salt").unwrap_or_default(),
            seq: int(b"seq").ok_or("no seq")?,
            signature: bytes_of(arguments, b"sig")
                .and_then(|signature| signature.try_into().ok())
                .ok_or("no signature of 64 bytes")?,
        }),
    };
    Ok(Put {
        value: value.raw(),
        token: bytes_of(arguments, b"token").ok_or("no token")?,
        signed,
        cas: int(b"cas"),
    })
}

fn read_want(value: &Value<'_, '_>) -> Option<Want> {
    let mut want = Want::default();
    // Two strings are known; a list with more than a handful of others is no honest one.
    for family in value.as_list()?.iter().take(8) {
        match family.as_bytes() {
            Some(b"n4") => want.v4 = true,
            Some(b"n6") => want.v6 = true,
            _ => {}
        }
    }
    (want != Want::default()).then_some(want)
}

fn read_answer<'a>(root: Dict<'_, 'a>) -> Option<Answer<'a>> {
    let values = root.get(b"r")?.as_dict()?;
    let bytes = |key: &[u8]| bytes_of(values, key);
    let number = |key: &[u8]| values.get(key).and_then(|value| value.as_u64());
    Some(Answer {
        id: values.get(b"id").and_then(id_of)?,
        ip: root.get(b"ip").and_then(|ip| read_addr(ip.as_bytes()?)),
        nodes: bytes(b"nodes").unwrap_or_default(),
        nodes6: bytes(b"nodes6").unwrap_or_default(),
        token: bytes(b"token"),
        values: values
            .get(b"values")
            .map_or_else(Vec::new, |list| read_values(&list)),
        peers_filter: bytes(b"BFpe").and_then(|filter| filter.try_into().ok()),
        seeds_filter: bytes(b"BFsd").and_then(|filter| filter.try_into().ok()),
        value: values.get(b"v").map(|value| value.raw()),
        key: bytes(b"k").and_then(|key| key.try_into().ok()),
        signature: bytes(b"sig").and_then(|signature| signature.try_into().ok()),
        seq: values.get(b"seq").and_then(|seq| seq.as_int()),
        samples: bytes(b"samples"),
        samples_count: number(b"num"),
        interval_secs: number(b"interval"),
    })
}

fn read_values(list: &Value<'_, '_>) -> Vec<SocketAddr> {
    let Some(list) = list.as_list() else {
        return Vec::new();
    };
    list.iter()
        .take(VALUES_MAX)
        .filter_map(|peer| read_addr(peer.as_bytes()?))
        .collect()
}

fn read_error<'a>(root: Dict<'_, 'a>) -> Body<'a> {
    // Some clients send no list; what the error was does not matter much then.
    let list = root.get(b"e").and_then(|value| value.as_list());
    let part = |at| list.and_then(|list| list.get(at));
    Body::Error {
        code: part(0).and_then(|code| code.as_int()).unwrap_or_default(),
        message: part(1).and_then(|text| text.as_bytes()).unwrap_or_default(),
    }
}

fn bytes_of<'a>(dict: Dict<'_, 'a>, key: &[u8]) -> Option<&'a [u8]> {
    dict.get(key)?.as_bytes()
}

fn id_of(value: Value<'_, '_>) -> Option<NodeId> {
    NodeId::from_slice(value.as_bytes()?)
}
