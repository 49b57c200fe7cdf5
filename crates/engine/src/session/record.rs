//! What is kept of a torrent beside its metadata, and how it is written: a bencoded dictionary behind 8 bytes of its
//! SHA-256, so that what was damaged is known to be.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use riverrun_base::{InfoHashes, Rate, Sha1Digest, Sha256Digest};
use riverrun_bencode::{Dict, Document, Limits as ParseLimits, Value, Writer};
use riverrun_metainfo::HostPort;
use riverrun_storage::{Preallocation, StorageOptions};
use riverrun_swarm::{Limits, Priority, Summary, TorrentOptions, WebSeed};

use crate::transports::Transports;

/// How many bytes of the hash stand before a record.
const SEAL_LEN: usize = 8;

/// What was said when a torrent was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addition {
    pub(crate) hashes: InfoHashes,
    pub(crate) dir: PathBuf,
    /// All of them, tier by tier.
    pub(crate) trackers: Vec<Vec<String>>,
    pub(crate) web_seeds: Vec<WebSeed>,
    /// Of the DHT, to begin from.
    pub(crate) nodes: Vec<HostPort>,
    pub(crate) storage: StorageOptions,
    pub(crate) transports: Option<Transports>,
    /// In seconds since 1970.
    pub(crate) added_at: u64,
}

/// What has become of a torrent since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) options: TorrentOptions,
    pub(crate) uploaded_bytes: u64,
    pub(crate) downloaded_bytes: u64,
    /// When all that was wanted was there for the first time, in seconds since 1970.
    pub(crate) completed_at: Option<u64>,
    /// What stands for its metadata while that is not in memory; `None` before it is known.
    pub(crate) digest: Option<Digest>,
}

/// What stands for a torrent's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) hashes: InfoHashes,
    pub(crate) name: String,
    pub(crate) summary: Summary,
}

/// The check of a record.
pub(crate) type Seal = [u8; SEAL_LEN];

fn seal_of(body: &[u8]) -> Seal {
    let digest = riverrun_hash::sha256(body);
    std::array::from_fn(|at| digest.0[at])
}

/// The check that stands before a record.
pub(crate) fn seal_in(record: &[u8]) -> Option<Seal> {
    record.first_chunk().copied()
}

fn sealed(body: &[u8]) -> Vec<u8> {
    [&seal_of(body), body].concat()
}

/// The body of a record; `None` if it was damaged.
fn opened(record: &[u8]) -> Option<&[u8]> {
    let (seal, body) = record.split_at_checked(SEAL_LEN)?;
    (seal_of(body) == seal).then_some(body)
}

impl Addition {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.dict();
        writer.key(b"added").uint(self.added_at);
        writer
            .key(b"dir")
            .bytes(self.dir.as_os_str().as_encoded_bytes());
        if !self.nodes.is_empty() {
            writer.key(b"nodes").list();
            for node in &self.nodes {
                writer.list().bytes(node.host.as_bytes());
                writer.uint(node.port.into()).end();
            }
            writer.end();
        }
        writer.key(b"overwrite").uint(self.storage.overwrite.into());
        let is_full = self.storage.preallocation == Preallocation::Full;
        writer.key(b"preallocate").uint(is_full.into());
        writer.key(b"trackers").list();
        for tier in &self.trackers {
            writer.list();
            for url in tier {
                writer.bytes(url.as_bytes());
            }
            writer.end();
        }
        writer.end();
        if let Some(transports) = self.transports {
            writer.key(b"transports").bytes(name_of(transports));
        }
        if let Some(hash) = self.hashes.v1() {
            writer.key(b"v1").bytes(&hash.0);
        }
        if let Some(hash) = self.hashes.v2() {
            writer.key(b"v2").bytes(&hash.0);
        }
        if !self.web_seeds.is_empty() {
            writer.key(b"web_seeds").list();
            for seed in &self.web_seeds {
                writer.list().bytes(seed.url.as_str().as_bytes());
                writer.uint(seed.is_from_user.into()).end();
            }
            writer.end();
        }
        writer.end();
        sealed(&writer.finish())
    }

    /// Reads a record; `None` if it was damaged, or says what it cannot say.
    pub(crate) fn decode(record: &[u8]) -> Option<Self> {
        let document = Document::parse(opened(record)?, ParseLimits::TORRENT).ok()?;
        let dict = document.root().as_dict()?;
        let tiers = dict.get(b"trackers")?.as_list()?.iter();
        Some(Self {
            hashes: info_hashes(dict)?,
            dir: path(dict.get(b"dir")?.as_bytes()?)?,
            trackers: tiers.map(tier).collect::<Option<_>>()?,
            nodes: match dict.get(b"nodes") {
                Some(nodes) => nodes.as_list()?.iter().map(node).collect::<Option<_>>()?,
                None => Vec::new(),
            },
            web_seeds: match dict.get(b"web_seeds") {
                Some(seeds) => seeds
                    .as_list()?
                    .iter()
                    .map(web_seed)
                    .collect::<Option<_>>()?,
                None => Vec::new(),
            },
            storage: StorageOptions {
                preallocation: if flag(dict, b"preallocate")? {
                    Preallocation::Full
                } else {
                    Preallocation::Sparse
                },
                overwrite: flag(dict, b"overwrite")?,
            },
            transports: match dict.get(b"transports") {
                Some(name) => Some(transports_of(name.as_bytes()?)?),
                None => None,
            },
            added_at: dict.get(b"added")?.as_u64()?,
        })
    }
}

impl Standing {
    /// Of a torrent that is being added.
    pub(crate) const fn new(options: TorrentOptions) -> Self {
        Self {
            options,
            uploaded_bytes: 0,
            downloaded_bytes: 0,
            completed_at: None,
            digest: None,
        }
    }

    /// Whether the digest is not enough to go on with.
    pub(crate) fn needs_metadata(&self) -> bool {
        let is_enough = |digest: &Digest| digest.summary.is_complete || !self.options.start;
        !self.digest.as_ref().is_some_and(is_enough)
    }

    /// Two that are equal have the same record.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let TorrentOptions {
            start,
            priorities,
            unlisted_priority,
            sequential,
            upload_only,
            super_seed,
            limits,
            connections_max,
            ..
        } = &self.options;
        let mut writer = Writer::new();
        writer.dict();
        if let Some(at) = self.completed_at {
            writer.key(b"completed").uint(at);
        }
        writer.key(b"connections").uint((*connections_max).into());
        if let Some(digest) = &self.digest {
            digest.write(writer.key(b"digest"));
        }
        if let Some(limit) = limits.download {
            writer.key(b"down limit").uint(limit.bytes_per_second());
        }
        writer.key(b"downloaded").uint(self.downloaded_bytes);
        let listed: Vec<u8> = priorities.iter().copied().map(digit).collect();
        writer.key(b"priorities").bytes(&listed);
        writer.key(b"sequential").uint((*sequential).into());
        writer.key(b"start").uint((*start).into());
        writer.key(b"super seed").uint((*super_seed).into());
        writer
            .key(b"unlisted priority")
            .bytes(&[digit(*unlisted_priority)]);
        if let Some(limit) = limits.upload {
            writer.key(b"up limit").uint(limit.bytes_per_second());
        }
        writer.key(b"upload only").uint((*upload_only).into());
        writer.key(b"uploaded").uint(self.uploaded_bytes);
        writer.end();
        sealed(&writer.finish())
    }

    /// Reads a record; `None` if it was damaged, or says what it cannot say.
    pub(crate) fn decode(record: &[u8]) -> Option<Self> {
        let document = Document::parse(opened(record)?, ParseLimits::TORRENT).ok()?;
        let dict = document.root().as_dict()?;
        let limit = |key: &[u8]| {
            let rate = dict.get(key).and_then(|limit| limit.as_u64());
            rate.map(Rate::from_bytes_per_second)
        };
        let priorities = dict.get(b"priorities")?.as_bytes()?.iter();
        let [unlisted] = *dict.get(b"unlisted priority")?.as_bytes()? else {
            return None;
        };
        let mut options = TorrentOptions::default();
        options.start = flag(dict, b"start")?;
        options.priorities = priorities
            .map(|digit| priority(*digit))
            .collect::<Option<_>>()?;
        options.unlisted_priority = priority(unlisted)?;
        options.sequential = flag(dict, b"sequential")?;
        options.upload_only = flag(dict, b"upload only")?;
        options.super_seed = flag(dict, b"super seed")?;
        options.limits = Limits {
            upload: limit(b"up limit"),
            download: limit(b"down limit"),
        };
        options.connections_max = dict.get(b"connections")?.as_u64()?.try_into().ok()?;
        Some(Self {
            options,
            uploaded_bytes: dict.get(b"uploaded")?.as_u64()?,
            downloaded_bytes: dict.get(b"downloaded")?.as_u64()?,
            completed_at: dict.get(b"completed").and_then(|at| at.as_u64()),
            digest: match dict.get(b"digest") {
                Some(digest) => Some(Digest::read(digest.as_dict()?)?),
                None => None,
            },
        })
    }
}

impl Digest {
    fn write(&self, writer: &mut Writer) {
        let Summary {
            is_complete,
            is_private,
            pieces,
            wanted,
            total_bytes,
            wanted_bytes,
        } = self.summary;
        writer.dict();
        writer.key(b"bytes").uint(total_bytes);
        writer.key(b"complete").uint(is_complete.into());
        writer.key(b"name").bytes(self.name.as_bytes());
        writer.key(b"pieces").uint(pieces.into());
        writer.key(b"private").uint(is_private.into());
        if let Some(hash) = self.hashes.v1() {
            writer.key(b"v1").bytes(&hash.0);
        }
        if let Some(hash) = self.hashes.v2() {
            writer.key(b"v2").bytes(&hash.0);
        }
        writer.key(b"wanted").uint(wanted.into());
        writer.key(b"wanted bytes").uint(wanted_bytes);
        writer.end();
    }

    fn read(dict: Dict<'_, '_>) -> Option<Self> {
        let number = |key: &[u8]| dict.get(key)?.as_u64();
        Some(Self {
            hashes: info_hashes(dict)?,
            name: dict.get(b"name")?.as_str()?.to_owned(),
            summary: Summary {
                is_complete: flag(dict, b"complete")?,
                is_private: flag(dict, b"private")?,
                pieces: number(b"pieces")?.try_into().ok()?,
                wanted: number(b"wanted")?.try_into().ok()?,
                total_bytes: number(b"bytes")?,
                wanted_bytes: number(b"wanted bytes")?,
            },
        })
    }
}

fn info_hashes(dict: Dict<'_, '_>) -> Option<InfoHashes> {
    let v1 = dict.get(b"v1").and_then(|hash| hash.as_bytes());
    let v2 = dict.get(b"v2").and_then(|hash| hash.as_bytes());
    InfoHashes::new(
        v1.and_then(Sha1Digest::from_slice),
        v2.and_then(Sha256Digest::from_slice),
    )
}

fn flag(dict: Dict<'_, '_>, key: &[u8]) -> Option<bool> {
    match dict.get(key)?.as_u64()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn tier(value: Value<'_, '_>) -> Option<Vec<String>> {
    let urls = value.as_list()?.iter();
    urls.map(|url| url.as_str().map(str::to_owned)).collect()
}

/// A node as torrent files name it (BEP 5).
fn node(value: Value<'_, '_>) -> Option<HostPort> {
    let mut parts = value.as_list()?.iter();
    Some(HostPort {
        host: parts.next()?.as_str()?.to_owned(),
        port: parts.next()?.as_u64()?.try_into().ok()?,
    })
}

fn web_seed(value: Value<'_, '_>) -> Option<WebSeed> {
    let mut parts = value.as_list()?.iter();
    Some(WebSeed {
        url: parts.next()?.as_str()?.parse().ok()?,
        is_from_user: parts.next()?.as_u64()? != 0,
    })
}

const fn digit(priority: Priority) -> u8 {
    match priority {
        Priority::Skip => b'0',
        Priority::Low => b'1',
        Priority::Normal => b'2',
        Priority::High => b'3',
    }
}

const fn priority(digit: u8) -> Option<Priority> {
    match digit {
        b'0' => Some(Priority::Skip),
        b'1' => Some(Priority::Low),
        b'2' => Some(Priority::Normal),
        b'3' => Some(Priority::High),
        _ => None,
    }
}

const TRANSPORTS: [(Transports, &[u8]); 4] = [
    (Transports::TcpFirst, b"tcp first"),
    (Transports::UtpFirst, b"utp first"),
    (Transports::TcpOnly, b"tcp"),
    (Transports::UtpOnly, b"utp"),
];

fn name_of(transports: Transports) -> &'static [u8] {
    let named = TRANSPORTS.iter().find(|(known, _)| *known == transports);
    named.map_or(b"tcp first", |(_, name)| name)
}

fn transports_of(name: &[u8]) -> Option<Transports> {
    let named = TRANSPORTS.iter().find(|(_, known)| *known == name);
    named.map(|(transports, _)| *transports)
}

/// A path from the bytes that it was written as.
fn path(bytes: &[u8]) -> Option<PathBuf> {
    #[cfg(unix)]
    let text: Option<OsString> = Some(std::os::unix::ffi::OsStringExt::from_vec(bytes.to_vec()));
    #[cfg(not(unix))]
    let text: Option<OsString> = std::str::from_utf8(bytes).ok().map(OsString::from);
    text.map(PathBuf::from).filter(|path| path != Path::new(""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn priorities() -> impl Strategy<Value = Vec<Priority>> {
        proptest::collection::vec((b'0'..=b'3').prop_filter_map("a digit", priority), 0..9)
    }

    fn digests() -> impl Strategy<Value = Option<Digest>> {
        let said = (any::<[bool; 2]>(), any::<[u32; 4]>());
        let digest = (said, "[a-zé ]{1,9}", any::<[u8; 32]>());
        let digest = digest.prop_map(|((flags, numbers), name, hash)| Digest {
            hashes: InfoHashes::v2_only(Sha256Digest(hash)),
            name,
            summary: Summary {
                is_complete: flags[0],
                is_private: flags[1],
                pieces: numbers[0],
                wanted: numbers[1],
                total_bytes: numbers[2].into(),
                wanted_bytes: numbers[3].into(),
            },
        });
        proptest::option::of(digest)
    }

    fn standings() -> impl Strategy<Value = Standing> {
        let flags = any::<[bool; 4]>();
        let limits = any::<[Option<u64>; 2]>();
        let totals = any::<[u32; 2]>();
        let times = any::<Option<u32>>();
        (flags, limits, totals, priorities(), times, digests()).prop_map(
            |(flags, limits, totals, priorities, completed, digest)| {
                let [upload, download] = limits
                    .map(|limit| limit.map(|rate| Rate::from_bytes_per_second(rate % (1 << 40))));
                let mut options = TorrentOptions::default();
                [
                    options.start,
                    options.sequential,
                    options.upload_only,
                    options.super_seed,
                ] = flags;
                options.priorities = priorities;
                options.limits = Limits { upload, download };
                Standing {
                    options,
                    uploaded_bytes: totals[0].into(),
                    downloaded_bytes: totals[1].into(),
                    completed_at: completed.map(u64::from),
                    digest,
                }
            },
        )
    }

    fn nodes() -> impl Strategy<Value = Vec<HostPort>> {
        let node = ("[a-z.:0-9]{1,9}", any::<u16>());
        let node = node.prop_map(|(host, port)| HostPort { host, port });
        proptest::collection::vec(node, 0..3)
    }

    fn additions() -> impl Strategy<Value = Addition> {
        let tiers =
            proptest::collection::vec(proptest::collection::vec("[a-z:/]{0,9}", 0..3), 0..3);
        let transports = proptest::option::of(0_usize..4);
        (
            "/[a-zé ]{1,9}",
            tiers,
            transports,
            any::<[bool; 2]>(),
            any::<u32>(),
            any::<[u8; 20]>(),
            nodes(),
            proptest::collection::vec(("http://[a-z]{1,9}/[a-z]{0,9}", any::<bool>()), 0..3),
        )
            .prop_map(
                |(dir, trackers, transports, [full, overwrite], added, hash, nodes, seeds)| {
                    Addition {
                        hashes: InfoHashes::v1_only(Sha1Digest(hash)),
                        dir: PathBuf::from(dir),
                        trackers,
                        web_seeds: seeds
                            .into_iter()
                            .map(|(url, is_from_user)| WebSeed {
                                url: url.parse().unwrap(),
                                is_from_user,
                            })
                            .collect(),
                        nodes,
                        storage: StorageOptions {
                            preallocation: if full {
                                Preallocation::Full
                            } else {
                                Preallocation::Sparse
                            },
                            overwrite,
                        },
                        transports: transports.map(|at| TRANSPORTS[at].0),
                        added_at: added.into(),
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn what_was_kept_is_read_back(standing in standings(), addition in additions()) {
            prop_assert_eq!(Standing::decode(&standing.encode()), Some(standing));
            prop_assert_eq!(Addition::decode(&addition.encode()), Some(addition));
        }

        #[test]
        fn damage_is_seen(standing in standings(), addition in additions(), at: usize, flip in 1_u8..) {
            let (mut standing, mut addition) = (standing.encode(), addition.encode());
            let last = (at % standing.len(), at % addition.len());
            standing[last.0] ^= flip;
            addition[last.1] ^= flip;
            prop_assert_eq!(Standing::decode(&standing), None);
            prop_assert_eq!(Addition::decode(&addition), None);
            prop_assert_eq!(Standing::decode(&standing[..last.0]), None);
        }

        #[test]
        fn no_bytes_are_too_strange_to_read(body: Vec<u8>) {
            for record in [sealed(&body), body] {
                let _ = (Standing::decode(&record), Addition::decode(&record));
            }
        }
    }
}
