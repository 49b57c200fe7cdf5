//! Fields that are recorded in another way than they are.

use riverrun_tracker::TrackerUrl;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// URLs of trackers without their users' keys. What is no URL is as good as nothing, then and again.
fn mask(text: &str) -> String {
    let url = text.parse::<TrackerUrl>();
    url.map_or_else(|_| String::new(), |url| url.masked().to_string())
}

/// Reads a URL, which is written masked.
pub(crate) fn tracker_url<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<TrackerUrl, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(D::Error::custom)
}

/// Writes URLs of trackers masked.
pub(crate) fn masked<S: Serializer>(urls: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(urls.iter().map(|url| mask(url)))
}

/// Writes tiers of URLs of trackers masked.
pub(crate) fn masked_tiers<S: Serializer>(
    tiers: &[Vec<String>],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let tiers: Vec<Vec<String>> = tiers
        .iter()
        .map(|urls| urls.iter().map(|url| mask(url)).collect())
        .collect();
    tiers.serialize(serializer)
}

/// Metadata as its bytes, and the piece layers that are known of it (BEP 52).
pub(crate) mod metadata {
    use std::sync::Arc;

    use riverrun_base::Sha256Digest;
    use riverrun_metainfo::{Info, PieceHashes, PieceLayers};
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    type Metadata = (Arc<Info>, PieceHashes);

    #[expect(clippy::ref_option, reason = "the shape that serde wants")]
    pub(crate) fn serialize<S: Serializer>(
        metadata: &Option<Metadata>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return metadata
                .as_ref()
                .map(|(info, _)| info)
                .serialize(serializer);
        }
        let layers = metadata.as_ref().map(|(_, hashes)| hashes.layers());
        let written = metadata
            .as_ref()
            .zip(layers.as_ref())
            .map(|((info, _), layers)| {
                let layers: Vec<_> = layers
                    .iter()
                    .map(|(root, layer)| (root, layer.hashes()))
                    .collect();
                (&info.raw()[..], layers)
            });
        written.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Metadata>, D::Error> {
        type Written = (Vec<u8>, Vec<(Sha256Digest, Vec<Sha256Digest>)>);
        let Some((raw, layers)) = Option::<Written>::deserialize(deserializer)? else {
            return Ok(None);
        };
        let info = Info::from_bytes(&raw).map_err(D::Error::custom)?;
        let mut hashes = PieceHashes::new(&info, &PieceLayers::new());
        for (root, layer) in layers {
            hashes.add_layer(root, layer).map_err(D::Error::custom)?;
        }
        Ok(Some((Arc::new(info), hashes)))
    }
}
