//! Why a torrent does not get on: as data, and as a sentence.

use std::fmt;
use std::time::Duration;

use riverrun_base::{ByteSize, Rate, Time};
use riverrun_peer::EncryptionPolicy;
use serde::{Serialize, Serializer};

use super::Torrent;
use super::peers::Peer;
use super::stats::TrackerStatus;
use crate::candidates::Misses;
use crate::config::Config;
use crate::discovery::Discovery;
use crate::outbox::{StorageFault, TorrentState};
use crate::shared::Shared;

/// How much of a limit is reached when the limit is what holds things up, in percent.
const LIMIT_REACHED_PERCENT: u64 = 80;

/// Why a torrent that is to download does not, or does no faster. Told to programs, each is an object of what it says
/// below its [code](Self::code), if it says more than that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Why {
    /// It was stopped.
    Paused,
    /// Storage, or the metadata, does not work.
    Error(String),
    /// The disk is full.
    DiskFull(String),
    /// Others are being opened first.
    Queued {
        /// Its turn is the first, or the second.
        position: u32,
        /// How many wait.
        of: u32,
    },
    /// What has come waits to be checked, written, or made durable, and nothing more comes until then.
    DiskBound {
        /// How many bytes wait.
        waiting_bytes: u64,
    },
    /// Nothing may be sent: the network that we are bound to is not there.
    Offline,
    /// Nobody can be asked for peers.
    NoPeerSource,
    /// Trackers are being asked for the first time.
    AskingTrackers,
    /// No tracker works.
    TrackerDown {
        /// One of them.
        url: String,
        /// What it says, or what went wrong.
        message: String,
        /// When it is asked again; `None` if never.
        #[serde(rename = "retry_secs", serialize_with = "seconds")]
        retry: Option<Duration>,
    },
    /// No peer is known, and no web seed works.
    WebSeedDown {
        /// One of them.
        url: String,
        /// What is wrong with it.
        message: String,
        /// When it is used again; `None` if never.
        #[serde(rename = "retry_secs", serialize_with = "seconds")]
        retry: Option<Duration>,
    },
    /// The proxy by which everything goes connects us to nobody.
    ProxyDown {
        /// Which, and what it says, or what went wrong.
        message: String,
    },
    /// The distributed hash table is all that can be asked, and no node of it has answered yet.
    DhtUnready,
    /// Whoever was asked knows no peers.
    NoPeersKnown {
        /// How many trackers have answered.
        trackers: u32,
        /// Whether the distributed hash table is searched.
        dht: bool,
    },
    /// Peers are being dialled.
    Connecting {
        /// How many.
        dialling: u32,
    },
    /// No peer can be reached.
    PeersUnreachable {
        /// How many were tried in vain.
        tried: u32,
        /// How that went.
        #[serde(flatten)]
        misses: Misses,
        /// What may have made them hang up.
        #[serde(serialize_with = "text")]
        encryption: EncryptionPolicy,
    },
    /// No peer can be reached, and none reaches us, behind a router as a rule.
    NotConnectable {
        /// How many were tried in vain.
        tried: u32,
        /// How that went.
        #[serde(flatten)]
        misses: Misses,
        /// Where we listen.
        port: u16,
        /// For how long nobody has dialled us.
        #[serde(rename = "silent_secs", serialize_with = "whole_seconds")]
        silent: Duration,
    },
    /// No peer that is connected has given the metadata yet.
    NoMetadata {
        /// How many are connected.
        connected: u32,
        /// How many of them say that they have it.
        having: u32,
    },
    /// No peer that is connected has what is wanted.
    NoWantedPieces {
        /// How many are connected.
        connected: u32,
        /// How many pieces are missing.
        missing: u32,
    },
    /// All peers choke us.
    AllChoked {
        /// How many are connected.
        connected: u32,
        /// How many of them have something that we want.
        interesting: u32,
    },
    /// Peers let us request, and send nothing.
    NothingComes {
        /// How many do.
        unchoking: u32,
    },
    /// A limit is reached.
    RateLimited {
        /// The limit.
        #[serde(rename = "limit_bytes_per_s", serialize_with = "bytes_per_second")]
        limit: Rate,
    },
}

#[expect(clippy::ref_option, reason = "the shape that serde wants")]
fn seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs()).serialize(serializer)
}

fn whole_seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    time.as_secs().serialize(serializer)
}

fn text<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde wants"
)]
fn bytes_per_second<S: Serializer>(rate: &Rate, serializer: S) -> Result<S::Ok, S::Error> {
    rate.bytes_per_second().serialize(serializer)
}

impl Why {
    /// A word for programs, the same in every version.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Error(_) => "error",
            Self::DiskFull(_) => "disk_full",
            Self::Queued { .. } => "queued",
            Self::DiskBound { .. } => "disk_bound",
            Self::Offline => "offline",
            Self::NoPeerSource => "no_peer_source",
            Self::AskingTrackers => "asking_trackers",
            Self::TrackerDown { .. } => "tracker_down",
            Self::WebSeedDown { .. } => "web_seed_down",
            Self::ProxyDown { .. } => "proxy_down",
            Self::DhtUnready => "dht_unready",
            Self::NoPeersKnown { .. } => "no_peers_known",
            Self::Connecting { .. } => "connecting",
            Self::PeersUnreachable { .. } => "peers_unreachable",
            Self::NotConnectable { .. } => "not_connectable",
            Self::NoMetadata { .. } => "no_metadata",
            Self::NoWantedPieces { .. } => "no_wanted_pieces",
            Self::AllChoked { .. } => "all_choked",
            Self::NothingComes { .. } => "nothing_comes",
            Self::RateLimited { .. } => "rate_limited",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused => f.write_str("it is stopped"),
            Self::Error(message) | Self::DiskFull(message) => f.write_str(message),
            Self::Queued { position, of } => {
                write!(
                    f,
                    "others are opened first: number {position} of {of} that wait"
                )
            }
            Self::DiskBound { waiting_bytes } => {
                write!(
                    f,
                    "the disk is behind: {} wait for it",
                    ByteSize(*waiting_bytes)
                )
            }
            Self::Offline => f.write_str("the network that it may use is not there"),
            Self::NoPeerSource => f.write_str("it has no tracker, and no peer was named"),
            Self::AskingTrackers => f.write_str("its trackers have not answered yet"),
            Self::TrackerDown { .. } | Self::WebSeedDown { .. } => write_down(f, self),
            Self::ProxyDown { message } => write!(f, "nobody can be reached: {message}"),
            Self::DhtUnready => {
                f.write_str("no node of the DHT has answered yet, and nobody else can be asked")
            }
            Self::NoPeersKnown { trackers, dht } => write_nobody_known(f, *trackers, *dht),
            Self::Connecting { dialling: 0 } => {
                f.write_str("the peers that are known are dialled again in a while")
            }
            Self::Connecting { dialling } => write!(f, "{} being dialled", are(*dialling, "peer")),
            Self::PeersUnreachable {
                tried,
                misses,
                encryption,
            } => write_misses(f, *tried, misses, *encryption),
            Self::NotConnectable {
                tried,
                misses,
                port,
                silent,
            } => write_walls(f, *tried, misses, *port, *silent),
            Self::NoMetadata { connected, having } => write!(
                f,
                "none of {} has given the metadata yet ({having} say that they have it)",
                count(*connected, "peer")
            ),
            Self::NoWantedPieces { connected, missing } => write!(
                f,
                "none of {} has any of the {} missing",
                count(*connected, "peer"),
                count(*missing, "piece")
            ),
            Self::AllChoked {
                connected,
                interesting,
            } => write!(
                f,
                "{} connected and let us wait our turn; {interesting} have what is missing",
                are(*connected, "peer")
            ),
            Self::NothingComes { unchoking } => {
                write!(f, "{} asked, and nothing comes", are(*unchoking, "peer"))
            }
            Self::RateLimited { limit } => write!(f, "the limit of {limit} is reached"),
        }
    }
}

fn write_down(f: &mut fmt::Formatter<'_>, why: &Why) -> fmt::Result {
    let (what, url, message, retry) = match why {
        Why::TrackerDown {
            url,
            message,
            retry,
        } => ("tracker", url, message, retry),
        Why::WebSeedDown {
            url,
            message,
            retry,
        } => ("web seed", url, message, retry),
        _ => return Ok(()),
    };
    write!(f, "no {what} works: {url}: {message}")?;
    match retry {
        Some(wait) => write!(f, ", asked again in {} s", wait.as_secs()),
        None => f.write_str(", not asked again"),
    }
}

fn write_nobody_known(f: &mut fmt::Formatter<'_>, trackers: u32, dht: bool) -> fmt::Result {
    let trackers = count(trackers, "tracker");
    let dht = if dht { ", the DHT is searched" } else { "" };
    write!(f, "no peer is known: {trackers} answered{dht}")
}

fn write_walls(
    f: &mut fmt::Formatter<'_>,
    tried: u32,
    misses: &Misses,
    port: u16,
    silent: Duration,
) -> fmt::Result {
    // Whom nobody has reached encryption cannot have put off.
    write_misses(f, tried, misses, EncryptionPolicy::Prefer)?;
    let minutes = u32::try_from(silent.as_secs() / 60).unwrap_or(u32::MAX);
    let minutes = count(minutes, "minute");
    write!(
        f,
        "; and nobody has dialled us in {minutes}: no router forwards our port {port}"
    )
}

fn write_misses(
    f: &mut fmt::Formatter<'_>,
    tried: u32,
    misses: &Misses,
    encryption: EncryptionPolicy,
) -> fmt::Result {
    let outcome = match misses.useless {
        0 => "can be reached",
        _ => "stays",
    };
    let tried = count(tried, "host");
    write!(f, "no peer {outcome}: {tried} tried in vain")?;
    let parts = [
        (misses.refused, "refused the connection"),
        (misses.no_answer, "did not answer"),
        (misses.no_way, "cannot be reached from here"),
        (misses.unfit, "spoke of something else"),
        (misses.useless, "had nothing for us and wanted nothing"),
        (misses.other, "failed otherwise"),
        (misses.hung_up, "hung up in the handshake"),
    ];
    let mut before = ": ";
    for (number, what) in parts.into_iter().filter(|(number, _)| *number > 0) {
        write!(f, "{before}{number} {what}")?;
        before = ", ";
    }
    match encryption {
        EncryptionPolicy::Off if misses.hung_up > 0 => {
            f.write_str(", perhaps for want of encryption, which is off")
        }
        EncryptionPolicy::Require if misses.hung_up > 0 => {
            f.write_str(", perhaps because of encryption, which is required")
        }
        _ => Ok(()),
    }
}

fn count(number: u32, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

fn are(number: u32, noun: &str) -> String {
    let verb = if number == 1 { "is" } else { "are" };
    format!("{} {verb}", count(number, noun))
}

impl Torrent {
    /// Why it does not download, or does no faster; `None` if it does, or has nothing to download.
    pub(crate) fn why(&self, now: Time, config: &Config, shared: &Shared) -> Option<Why> {
        match self.state() {
            TorrentState::Stopped | TorrentState::Stopping => return Some(Why::Paused),
            TorrentState::Invalid(why) => return Some(Why::Error(why)),
            TorrentState::Faulted(fault @ StorageFault::NoSpace { .. }) => {
                return Some(Why::DiskFull(fault.to_string()));
            }
            TorrentState::Faulted(fault) => return Some(Why::Error(fault.to_string())),
            TorrentState::Metadata | TorrentState::Downloading => {}
            TorrentState::Opening => return self.queued(shared),
            TorrentState::Checking => return None,
            TorrentState::Finished | TorrentState::Seeding => return self.disk_bound(),
        }
        let [_, rate] = self.rates.rates_shown(now);
        if rate > 0 {
            return self.limit_reached(rate, shared);
        }
        if let Some(disk) = self.disk_bound() {
            return Some(disk);
        }
        if !shared.is_online {
            return Some(Why::Offline);
        }
        if self.peers.up().next().is_some() {
            Some(self.why_peers_give_nothing())
        } else {
            Some(self.why_no_peer(now, config, shared))
        }
    }

    /// What is wrong with a web seed, if there is one and none works.
    fn web_seed_down(&self, now: Time) -> Option<Why> {
        let entry = self.web_seeds.all().min_by_key(|entry| entry.is_off)?;
        Some(Why::WebSeedDown {
            url: entry.seed.url.as_str().to_owned(),
            message: entry.failure.clone()?,
            retry: (!entry.is_off).then(|| entry.ready_at.since(now)),
        })
    }

    fn queued(&self, shared: &Shared) -> Option<Why> {
        let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let (position, of) = shared.turns.place(self.key)?;
        let (position, of) = (number(position), number(of));
        Some(Why::Queued { position, of })
    }

    fn disk_bound(&self) -> Option<Why> {
        let (Some(meta), Some(pieces)) = (&self.meta, &self.pieces) else {
            return None;
        };
        let len = |piece| u64::from(meta.info.layout().piece_len(piece));
        let waiting_bytes = pieces.stuck().into_iter().map(len).sum();
        (waiting_bytes > 0).then_some(Why::DiskBound { waiting_bytes })
    }

    fn limit_reached(&self, rate: u64, shared: &Shared) -> Option<Why> {
        let limits = [self.options.limits.download, shared.limits.download];
        let limit = limits.into_iter().flatten().min()?;
        let reached = rate * 100 >= limit.bytes_per_second() * LIMIT_REACHED_PERCENT;
        reached.then_some(Why::RateLimited { limit })
    }

    fn why_no_peer(&self, now: Time, config: &Config, shared: &Shared) -> Why {
        if let Some(failure) = &shared.proxy_failure {
            let message = failure.message.clone();
            return Why::ProxyDown { message };
        }
        let (dialling, misses) = (self.peers.half_open(), self.candidates.misses());
        let tried = misses.total();
        if dialling > 0 || (tried == 0 && self.candidates.any_to_dial()) {
            return Why::Connecting { dialling };
        }
        if tried > 0 {
            return Why::PeersUnreachable {
                tried,
                misses,
                encryption: config.encryption,
            };
        }
        if let Some(down) = self.web_seed_down(now) {
            return down;
        }
        let trackers = self.announcer.stats();
        let is_working = |status: &TrackerStatus| matches!(status, TrackerStatus::Working { .. });
        let working = trackers
            .iter()
            .filter(|tracker| is_working(&tracker.status));
        let working = u32::try_from(working.count()).unwrap_or(u32::MAX);
        let dht = config.uses_dht && Discovery::Dht.allowed(self.is_private());
        if working > 0 {
            return Why::NoPeersKnown {
                trackers: working,
                dht,
            };
        }
        let failing = trackers.iter().find_map(|tracker| match &tracker.status {
            TrackerStatus::Failing(message) => Some((tracker, message.clone())),
            _ => None,
        });
        match failing {
            Some((tracker, message)) => Why::TrackerDown {
                url: tracker.url.as_str().to_owned(),
                message,
                retry: tracker.next.map(|next| next.since(now)),
            },
            None if !trackers.is_empty() => Why::AskingTrackers,
            None if dht || config.local_discovery => Why::NoPeersKnown { trackers: 0, dht },
            None => Why::NoPeerSource,
        }
    }

    fn why_peers_give_nothing(&self) -> Why {
        let number = |test: fn(&Peer) -> bool| {
            let peers = self.peers.up().filter(|peer| test(peer));
            u32::try_from(peers.count()).unwrap_or(u32::MAX)
        };
        let connected = number(|_| true);
        let Some(pieces) = &self.pieces else {
            let having = number(|peer| {
                let hello = peer.hello.as_ref();
                hello.is_some_and(|hello| hello.metadata_len.is_some())
            });
            return Why::NoMetadata { connected, having };
        };
        let interesting = number(|peer| peer.down.is_interested);
        let unchoking = number(|peer| peer.down.is_interested && !peer.down.is_choking);
        if interesting == 0 {
            let missing = pieces.left();
            Why::NoWantedPieces { connected, missing }
        } else if unchoking == 0 {
            Why::AllChoked {
                connected,
                interesting,
            }
        } else {
            Why::NothingComes { unchoking }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json, to_value};

    use super::*;

    #[track_caller]
    fn check(why: &Why, details: &Value) {
        let expect = if details.is_null() {
            json!(why.code())
        } else {
            json!({ why.code(): details })
        };
        assert_eq!(to_value(why).unwrap(), expect);
    }

    #[test]
    fn programs_are_told_the_code_and_what_stands_behind_it() {
        for plain in [
            Why::Paused,
            Why::Offline,
            Why::NoPeerSource,
            Why::AskingTrackers,
            Why::DhtUnready,
        ] {
            check(&plain, &Value::Null);
        }
        check(&Why::Error("broken".to_owned()), &json!("broken"));
        check(&Why::DiskFull("full".to_owned()), &json!("full"));
        let queued = Why::Queued { position: 2, of: 9 };
        check(&queued, &json!({ "position": 2, "of": 9 }));
        assert_eq!(
            queued.to_string(),
            "others are opened first: number 2 of 9 that wait"
        );
        let disk = Why::DiskBound {
            waiting_bytes: 2_000_000,
        };
        check(&disk, &json!({ "waiting_bytes": 2_000_000 }));
        assert_eq!(disk.to_string(), "the disk is behind: 2.00 MB wait for it");
        let dialling = Why::Connecting { dialling: 3 };
        check(&dialling, &json!({ "dialling": 3 }));
        assert_eq!(dialling.to_string(), "3 peers are being dialled");
        assert_eq!(
            Why::Connecting { dialling: 0 }.to_string(),
            "the peers that are known are dialled again in a while"
        );
        let nothing = Why::NothingComes { unchoking: 1 };
        check(&nothing, &json!({ "unchoking": 1 }));
        let limit = Rate::from_bytes_per_second(1000);
        let limited = Why::RateLimited { limit };
        check(&limited, &json!({ "limit_bytes_per_s": 1000 }));
        let (connected, having, missing, interesting) = (4, 1, 5, 2);
        let metadata = Why::NoMetadata { connected, having };
        check(&metadata, &json!({ "connected": 4, "having": 1 }));
        let pieces = Why::NoWantedPieces { connected, missing };
        check(&pieces, &json!({ "connected": 4, "missing": 5 }));
        let choked = Why::AllChoked {
            connected,
            interesting,
        };
        check(&choked, &json!({ "connected": 4, "interesting": 2 }));
    }

    #[test]
    fn programs_are_told_who_is_not_reached_and_how_that_went() {
        let message = "gone".to_owned();
        for (retry, told) in [
            (Some(Duration::from_secs(90)), json!(90)),
            (None, Value::Null),
        ] {
            let down = Why::TrackerDown {
                url: "http://tracker.test/".to_owned(),
                message: message.clone(),
                retry,
            };
            let told =
                json!({ "url": "http://tracker.test/", "message": "gone", "retry_secs": told });
            check(&down, &told);
        }
        check(&Why::ProxyDown { message }, &json!({ "message": "gone" }));
        let (trackers, dht) = (2, true);
        let known = Why::NoPeersKnown { trackers, dht };
        check(&known, &json!({ "trackers": 2, "dht": true }));
        let misses = Misses {
            refused: 1,
            hung_up: 2,
            ..Misses::default()
        };
        let unreachable = Why::PeersUnreachable {
            tried: misses.total(),
            misses,
            encryption: EncryptionPolicy::Off,
        };
        let told = json!({
            "tried": 3, "refused": 1, "no_answer": 0, "no_way": 0, "hung_up": 2, "unfit": 0, "useless": 0, "other": 0,
            "encryption": "off",
        });
        check(&unreachable, &told);
        let misses = Misses {
            no_answer: 2,
            ..Misses::default()
        };
        let shut = Why::NotConnectable {
            tried: misses.total(),
            misses,
            port: 6881,
            silent: Duration::from_secs(725),
        };
        let told = json!({
            "tried": 2, "refused": 0, "no_answer": 2, "no_way": 0, "hung_up": 0, "unfit": 0, "useless": 0, "other": 0,
            "port": 6881, "silent_secs": 725,
        });
        check(&shut, &told);
        assert_eq!(
            shut.to_string(),
            "no peer can be reached: 2 hosts tried in vain: 2 did not answer; and nobody has dialled us in \
             12 minutes: no router forwards our port 6881"
        );
    }
}
