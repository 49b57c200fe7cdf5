//! Hash requests and their answers (BEP 52, "hash request", "hashes", "hash reject").

use riverrun_base::Sha256Digest;
use serde::{Deserialize, Serialize};

/// A request for a run of nodes of one file's merkle tree, with the proof that ties them to its root.
///
/// The codec guarantees: `count` is a power of two and at least 2, `index` is a multiple of it. Whether the
/// tree has such nodes is for whoever answers to find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HashRequest {
    /// The root of the file's tree.
    pub pieces_root: Sha256Digest,
    /// The layer of the wanted nodes; 0 is the layer of the blocks' hashes.
    pub base_layer: u32,
    /// The first wanted node of that layer.
    pub index: u32,
    /// How many nodes.
    pub count: u32,
    /// How many layers of proof above the base layer, the first `log2(count) - 1` of which need no hashes:
    /// their nodes follow from those that are sent (BEP 52, "hashes").
    pub proof_layers: u32,
}

/// The answer to a [`HashRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashes {
    /// What was asked.
    pub request: HashRequest,
    /// The nodes, then the uncle hashes of the proof, from the base layer upwards.
    pub hashes: Vec<Sha256Digest>,
}
