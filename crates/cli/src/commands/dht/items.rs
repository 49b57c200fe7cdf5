//! Items that anybody may store, and what publishers name.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ArgGroup;
use data_encoding::HEXLOWER_PERMISSIVE;
use riverrun_engine::{
    DhtNode, Finding, InfoHash, ItemName, Keypair, PublisherLink, Question, Stored, draw_secret,
    torrent_pointer,
};
use serde_json::{Value, json};

use super::{VisitFlags, done_event, hashes};
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::screen::{Screen, Surroundings};
use crate::signals::Interrupts;

/// Items are put again after this time: nodes forget them after two hours (BEP 44).
const PUT_INTERVAL: Duration = Duration::from_hours(1);

/// The arguments of `dht get`.
#[derive(clap::Args, Debug)]
pub(crate) struct Get {
    /// The hash of an item, the public key of a publisher (64 digits), or a magnet link to one
    #[arg(value_name = "NAME")]
    name: String,
    /// Which item of the publisher, in hexadecimal
    #[arg(long, value_name = "HEX")]
    salt: Option<Hex>,
    #[command(flatten)]
    visit: VisitFlags,
}

/// The arguments of `dht put`.
#[derive(clap::Args, Debug)]
#[command(group = ArgGroup::new("what").required(true))]
pub(crate) struct Put {
    /// Store this text
    #[arg(value_name = "TEXT", group = "what")]
    text: Option<String>,
    /// Store what is in this file, which has to be bencode
    #[arg(long, value_name = "FILE", group = "what")]
    bencode: Option<PathBuf>,
    /// Name this torrent (an info-hash, a magnet link or a torrent file) as its publisher (BEP 46)
    #[arg(long, value_name = "TORRENT", group = "what", requires = "key")]
    torrent: Option<String>,
    /// Sign with the secret key in this file, which is made if it is not there: the item can be changed later
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Which item of the key, in hexadecimal
    #[arg(long, value_name = "HEX", requires = "key")]
    salt: Option<Hex>,
    /// The number of this version [default: one more than what is found]
    #[arg(long, value_name = "NUMBER", requires = "key")]
    seq: Option<i64>,
    /// Only where this is the version that is there
    #[arg(long, value_name = "NUMBER", requires = "key")]
    cas: Option<i64>,
    /// Go on storing it, once an hour, until Ctrl-C
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    visit: VisitFlags,
}

/// Bytes in hexadecimal.
#[derive(Clone, Debug)]
struct Hex(Vec<u8>);

impl std::str::FromStr for Hex {
    type Err = data_encoding::DecodeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map(Self)
    }
}

impl Get {
    fn item(&self) -> Outcome<ItemName> {
        let salt = self.salt.clone().map_or_else(Vec::new, |Hex(salt)| salt);
        let no_salt = |why| Failure::say(ExitCode::Usage, format!("--salt does not go with {why}"));
        if let Ok(link) = self.name.parse::<PublisherLink>() {
            if self.salt.is_some() {
                return Err(no_salt("a link to a publisher, which names its own"));
            }
            return Ok(ItemName::Mutable {
                key: link.public_key,
                salt: link.salt,
            });
        }
        let bytes = HEXLOWER_PERMISSIVE.decode(self.name.as_bytes()).ok();
        match bytes.as_deref().map(|bytes| (bytes.try_into(), bytes)) {
            Some((Ok(key), _)) => Ok(ItemName::Mutable { key, salt }),
            Some((Err(_), bytes)) if bytes.len() == 20 => {
                if self.salt.is_some() {
                    return Err(no_salt("an item that nobody can change"));
                }
                let hash: InfoHash = self.name.parse().map_err(|e| bad_name(&self.name, e))?;
                Ok(ItemName::Immutable(hash.into()))
            }
            _ => Err(bad_name(
                &self.name,
                anyhow::anyhow!("expected 40 or 64 hexadecimal digits, or magnet:?xs=urn:btpk:…"),
            )),
        }
    }
}

fn bad_name(name: &str, error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(ExitCode::Usage, error).about(format!("{name:?}"))
}

pub(crate) async fn get(args: &Get, around: &Surroundings, screen: &mut Screen) -> Outcome {
    let name = args.item()?;
    let node = args.visit.start(around).await?;
    let found = find(&args.visit, &node, name).await?;
    node.shutdown().await;
    let Some(item) = found else {
        return Err(Failure::say(ExitCode::NotFound, "no node has it"));
    };
    screen.event(&item_event("item", &item))?;
    if screen.is_json() {
        return Ok(());
    }
    if let Some(info_hash) = item.info_hash() {
        return screen.line(&format!("magnet:?xt=urn:btih:{info_hash}"));
    }
    screen.line(&printed(&item.value))
}

/// The latest version that can be found.
async fn find(visit: &VisitFlags, node: &DhtNode, name: ItemName) -> Outcome<Option<Stored>> {
    let mut latest = None;
    let keep = |finding| {
        if let Finding::Item(item) = finding {
            latest = Some(item);
        }
        Ok(())
    };
    let asked = visit.ask(node, Question::Item(name), keep).await;
    match (asked, latest) {
        // What was found before the time was up is something.
        (Err(failure), Some(latest)) if failure.code == ExitCode::Network => Ok(Some(latest)),
        (Err(failure), _) => Err(failure),
        (Ok(_), latest) => Ok(latest),
    }
}

/// A value as text if it is one, or else as bencode with its bytes escaped.
fn printed(value: &[u8]) -> String {
    let text = text_of(value).unwrap_or(value);
    match std::str::from_utf8(text) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => value.escape_ascii().to_string(),
    }
}

/// The content of a bencoded string.
fn text_of(value: &[u8]) -> Option<&[u8]> {
    let colon = value.iter().position(|byte| *byte == b':')?;
    let len: usize = std::str::from_utf8(&value[..colon]).ok()?.parse().ok()?;
    let text = &value[colon + 1..];
    (text.len() == len).then_some(text)
}

fn item_event(event: &str, item: &Stored) -> Value {
    let signed = item.signed.as_ref();
    json!({
        "event": event, "target": item.target().to_string(),
        "value": HEXLOWER_PERMISSIVE.encode(&item.value), "text": printed(&item.value),
        "seq": item.seq(), "info_hash": item.info_hash().map(|hash| hash.to_string()),
        "key": signed.map(|signed| HEXLOWER_PERMISSIVE.encode(&signed.key)),
        "salt": signed.map(|signed| HEXLOWER_PERMISSIVE.encode(&signed.salt)),
    })
}

pub(crate) async fn put(args: &Put, around: &Surroundings, screen: &mut Screen) -> Outcome {
    let value = args.value(around)?;
    let pair = args.key.as_ref().map(|path| read_key(&around.path(path)));
    let pair = pair.transpose()?;
    let node = args.visit.start(around).await?;
    let item = args.make(&node, value, pair).await?;
    let mut interrupts = Interrupts::listen()?;
    store(args, &node, (&item, args.cas), screen).await?;
    if !args.keep {
        node.shutdown().await;
        return Ok(());
    }
    loop {
        tokio::select! {
            biased;
            interrupt = interrupts.next() => return Err(interrupt.into_failure()),
            () = tokio::time::sleep(PUT_INTERVAL) => {}
        }
        // The version that was there first is ours now. What fails may do in the next hour.
        match store(args, &node, (&item, None), screen).await {
            Err(failure) if failure.code == ExitCode::Network => screen.warn(failure.message()),
            stored => stored?,
        }
    }
}

/// Stores an item once, in the place of the version `cas` if one is given.
async fn store(
    args: &Put,
    node: &DhtNode,
    (item, cas): (&Stored, Option<i64>),
    screen: &mut Screen,
) -> Outcome {
    let question = Question::Put {
        item: item.clone(),
        cas,
    };
    let report = args.visit.ask(node, question, |_| Ok(())).await?;
    if report.stored == 0 {
        let why = report
            .refusal
            .map_or_else(String::new, |(_, why)| format!(": {why}"));
        let message = format!("no node has taken it{why}");
        return Err(Failure::say(ExitCode::Network, message));
    }
    screen.event(&item_event("stored", item))?;
    screen.event(&done_event(&report))?;
    if !screen.is_json() {
        screen.line(&name_of(item))?;
        screen.flush()?;
    }
    screen.done(format!("stored on {} nodes", report.stored));
    Ok(())
}

/// By what others get it: a link to the publisher, or the hash.
fn name_of(item: &Stored) -> String {
    match &item.signed {
        Some(signed) => PublisherLink::new(signed.key, signed.salt.clone()).to_string(),
        None => item.target().to_string(),
    }
}

impl Put {
    /// The value to store, as bencode.
    fn value(&self, around: &Surroundings) -> Outcome<Vec<u8>> {
        if let Some(torrent) = &self.torrent {
            return Ok(torrent_pointer(hashes(torrent, around)?.primary()));
        }
        if let Some(path) = &self.bencode {
            return fs::read(around.path(path)).map_err(|e| Failure::io(path, e));
        }
        let text = self.text.as_deref().unwrap_or_default();
        Ok(format!("{}:{text}", text.len()).into_bytes())
    }

    async fn make(&self, node: &DhtNode, value: Vec<u8>, pair: Option<Keypair>) -> Outcome<Stored> {
        let salt = self.salt.clone().map_or_else(Vec::new, |Hex(salt)| salt);
        let wrong = |e| Failure::new(ExitCode::Usage, e);
        let Some(pair) = pair else {
            return Stored::immutable(value).map_err(wrong);
        };
        let seq = if let Some(seq) = self.seq {
            seq
        } else {
            let name = ItemName::Mutable {
                key: pair.public(),
                salt: salt.clone(),
            };
            let last = find(&self.visit, node, name).await?;
            let last = last.as_ref().and_then(Stored::seq);
            last.map_or(1, |last| last.saturating_add(1))
        };
        pair.sign(value, salt, seq).map_err(wrong)
    }
}

/// The key pair in a file; a new one is written there if there is no such file.
fn read_key(path: &Path) -> Outcome<Keypair> {
    let failed = |e| Failure::io(path, e);
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let secret = draw_secret();
            let text = HEXLOWER_PERMISSIVE.encode(&secret);
            write_secret(path, &text).map_err(failed)?;
            text
        }
        Err(error) => return Err(failed(error)),
    };
    let secret = HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).ok();
    let secret: Option<[u8; 32]> = secret.and_then(|secret| secret.try_into().ok());
    let wrong = || {
        let message = "expected a secret key of 64 hexadecimal digits";
        Failure::say(ExitCode::Usage, message).about(path.display())
    };
    secret.map(Keypair::from_secret).ok_or_else(wrong)
}

/// Nobody else may read it, from its first byte on.
fn write_secret(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}
