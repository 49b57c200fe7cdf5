//! Queries: what one node asks another.

use riverrun_base::InfoHash;
use riverrun_bencode::Writer;

use super::CLIENT;
use crate::contact::Family;
use crate::id::NodeId;

/// A query that is padded has at least as many bytes: a reply has at most eight times as many as its query, and the
/// largest item with its signature and contacts has to fit.
const PADDED_BYTES: usize = 180;

/// What a query asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask<'a> {
    Ping,
    FindNode {
        target: NodeId,
    },
    GetPeers {
        info_hash: InfoHash,
        no_seeds: bool,
        scrape: bool,
    },
    Announce {
        info_hash: InfoHash,
        /// `None`: the port from which the query came.
        port: Option<u16>,
        is_seed: bool,
        token: &'a [u8],
    },
    Get {
        target: NodeId,
        seq: Option<i64>,
    },
    Put(Put<'a>),
    Sample {
        target: NodeId,
    },
    /// A method that we do not know; answered as `find_node` if it names a target.
    Other {
        target: Option<NodeId>,
    },
}

/// The arguments of a `put` (BEP 44).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Put<'a> {
    /// The value, as bencode.
    pub(crate) value: &'a [u8],
    pub(crate) token: &'a [u8],
    /// What makes it mutable.
    pub(crate) signed: Option<PutSigned<'a>>,
    pub(crate) cas: Option<i64>,
}

/// The arguments of a `put` of a mutable item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PutSigned<'a> {
    pub(crate) key: &'a [u8; 32],
    pub(crate) salt: &'a [u8],
    pub(crate) seq: i64,
    pub(crate) signature: &'a [u8; 64],
}

/// Which families' contacts a query wants (BEP 32).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) v4: bool,
    pub(crate) v6: bool,
}

impl Want {
    pub(crate) const fn only(family: Family) -> Self {
        Self {
            v4: matches!(family, Family::V4),
            v6: matches!(family, Family::V6),
        }
    }

    pub(crate) const BOTH: Self = Self { v4: true, v6: true };

    pub(crate) const fn wants(self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

/// Whether a query is made long, so that its reply may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Padding {
    Without,
    With,
}

impl Ask<'_> {
    const fn method(&self) -> &'static [u8] {
        match self {
            Self::Ping | Self::Other { .. } => b"ping",
            Self::FindNode { .. } => b"find_node",
            Self::GetPeers { .. } => b"get_peers",
            Self::Announce { .. } => b"announce_peer",
            Self::Get { .. } => b"get",
            Self::Put(_) => b"put",
            Self::Sample { .. } => b"sample_infohashes",
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) id: NodeId,
    /// It does not answer (BEP 43).
    pub(crate) is_read_only: bool,
}

/// The bytes of a query.
pub(crate) fn write_query(
    transaction: &[u8],
    asker: Asker,
    want: Option<Want>,
    ask: &Ask<'_>,
    padding: Padding,
) -> Vec<u8> {
    let bytes = write_padded(transaction, asker, want, ask, None);
    match PADDED_BYTES.checked_sub(bytes.len()) {
        Some(missing) if padding == Padding::With => {
            write_padded(transaction, asker, want, ask, Some(missing))
        }
        _ => bytes,
    }
}

fn write_padded(
    transaction: &[u8],
    asker: Asker,
    want: Option<Want>,
    ask: &Ask<'_>,
    padding: Option<usize>,
) -> Vec<u8> {
    let mut out = Writer::new();
    out.dict().key(b"a").dict();
    write_arguments(&mut out, asker.id, want, ask, padding);
    out.end().key(b"q").bytes(ask.method());
    if asker.is_read_only {
        out.key(b"ro").int(1);
    }
    out.key(b"t").bytes(transaction);
    out.key(b"v").bytes(CLIENT);
    out.key(b"y").bytes(b"q").end();
    out.finish()
}

fn write_arguments(
    out: &mut Writer,
    id: NodeId,
    want: Option<Want>,
    ask: &Ask<'_>,
    padding: Option<usize>,
) {
    if let Ask::Put(put) = ask {
        return write_put(out, id, put);
    }
    out.key(b"id").bytes(&id.0);
    match ask {
        Ask::GetPeers {
            info_hash,
            no_seeds,
            scrape,
        } => {
            out.key(b"info_hash").bytes(&info_hash.0);
            if *no_seeds {
                out.key(b"noseed").int(1);
            }
            if *scrape {
                out.key(b"scrape").int(1);
            }
        }
        Ask::Announce {
            info_hash,
            port,
            is_seed,
            token,
        } => {
            if port.is_none() {
                out.key(b"implied_port").int(1);
            }
            out.key(b"info_hash").bytes(&info_hash.0);
            // BEP 5 has the port in any case; with an implied one it is ignored.
            out.key(b"port").int(port.unwrap_or(1).into());
            if *is_seed {
                out.key(b"seed").int(1);
            }
            out.key(b"token").bytes(token);
        }
        Ask::Get { target, seq } => {
            if let Some(missing) = padding {
                out.key(b"pad").bytes(&vec![b'.'; missing]);
            }
            if let Some(seq) = seq {
                out.key(b"seq").int(*seq);
            }
            out.key(b"target").bytes(&target.0);
        }
        Ask::FindNode { target } | Ask::Sample { target } => {
            out.key(b"target").bytes(&target.0);
        }
        Ask::Ping | Ask::Other { .. } | Ask::Put(_) => {}
    }
    if let (Some(want), false) = (want, matches!(ask, Ask::Ping | Ask::Announce { .. })) {
        write_want(out, want);
    }
}

fn write_put(out: &mut Writer, id: NodeId, put: &Put<'_>) {
    if let Some(cas) = put.cas {
        out.key(b"cas").int(cas);
    }
    out.key(b"id").bytes(&id.0);
    if let Some(signed) = put.signed {
        out.key(b"k").bytes(signed.key);
        if !signed.salt.is_empty() {
            out.key(b"salt").bytes(signed.salt);
        }
        out.key(b"seq").int(signed.seq);
        out.key(b"sig").bytes(signed.signature);
    }
    out.key(b"token").bytes(put.token);
    out.key(b"v").raw(put.value);
}

fn write_want(out: &mut Writer, want: Want) {
    out.key(b"want").list();
    if want.v4 {
        out.bytes(b"n4");
    }
    if want.v6 {
        out.bytes(b"n6");
    }
    out.end();
}
