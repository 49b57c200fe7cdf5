//! The connections of one torrent, and what is known of the peer at each one's end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use riverrun_base::{Bitfield, BlockSpan, PieceIndex, Time};
use riverrun_peer::{HashRequest, PeerHello};

use crate::bans::Culprit;
use crate::input::{PeerSource, Transport};
use crate::key::ConnKey;
use crate::meter::Meter;
use crate::web_seeds::WebSeedIndex;

/// Pieces that a peer suggests or allows and that are remembered; BEP 6 speaks of ten.
const HINTS_MAX: usize = 32;
/// A connection on which nothing was given is no failure if it lasted this long.
const USEFUL_AFTER: Duration = Duration::from_mins(1);
/// The wait after a peer rejects a request although it does not choke us; doubles with each in a row.
const REJECT_WAIT: Duration = Duration::from_secs(1);
/// How often that wait doubles: it ends at about a minute.
const REJECT_DOUBLINGS_MAX: u32 = 6;

/// A connection and the peer at its end.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) conn: ConnKey,
    pub(crate) addr: SocketAddr,
    pub(crate) source: PeerSource,
    /// It is a web seed, which has no address of its own, and says nothing.
    pub(crate) web_seed: Option<WebSeedIndex>,
    /// We dialled it.
    pub(crate) is_outgoing: bool,
    /// Decides between peers that are alike.
    pub(crate) lot: u32,
    /// As far as the driver has told.
    pub(crate) transport: Option<Transport>,
    /// What it says of meetings is heard from then on (BEP 55).
    pub(crate) meets_after: Time,
    pub(crate) since: Time,
    /// Both handshakes are through.
    pub(crate) hello: Option<Box<PeerHello>>,
    /// What it has; without pieces until it has told.
    pub(crate) have: Bitfield,
    pub(crate) has_told: bool,
    /// The blocks that it passes on of pieces that it has not whole.
    pub(crate) parts: BTreeMap<PieceIndex, Bitfield>,
    pub(crate) down: Down,
    pub(crate) up: Up,
    /// Whether the connection was told that sending, and receiving, is limited.
    pub(crate) limited: [bool; 2],
}

/// What we get from a peer.
#[derive(Debug)]
pub(crate) struct Down {
    pub(crate) is_choking: bool,
    /// We told it that we are interested.
    pub(crate) is_interested: bool,
    /// How many pieces it has that we want.
    pub(crate) wanted: u32,
    /// Blocks that it owes, the oldest request first.
    pub(crate) requests: VecDeque<BlockSpan>,
    /// How many it should owe.
    pub(crate) window: u32,
    pub(crate) is_snubbed: bool,
    pub(crate) silence: Silence,
    /// It rejects requests: none before this time.
    pub(crate) wait_until: Time,
    rejects: u32,
    /// Pieces that it gives although it chokes us (BEP 6).
    pub(crate) allowed: BTreeSet<PieceIndex>,
    pub(crate) suggested: Vec<PieceIndex>,
    /// The piece of which it was asked for blocks the last time.
    pub(crate) current: Option<PieceIndex>,
    /// It was given nothing to do, and nothing has changed as long as the picker's epoch is this.
    pub(crate) dry: Option<u64>,
    pub(crate) meter: Meter,
    /// In this choke round, and in the one before.
    pub(crate) round_bytes: [u64; 2],
    pub(crate) total_bytes: u64,
    /// What may move before more is granted; negative if a block went beyond it.
    pub(crate) credit_bytes: i64,
}

/// For how long a peer sends nothing, in bytes that come to the torrent meanwhile: blocks of others that stand before
/// its own on our line.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Silence {
    /// All that had come when it began, or was reported the last time.
    since_bytes: u64,
    /// It is excused until so much has come.
    until_bytes: Option<u64>,
}

impl Silence {
    /// One that begins now, when so much has come.
    pub(crate) const fn begin(come_bytes: u64) -> Self {
        Self {
            since_bytes: come_bytes,
            until_bytes: None,
        }
    }

    /// It lasts for long: whether our own line explains it, when `come_bytes` have come and `owed_bytes` are owed by
    /// all together. All of that may come before the peer's block, if it is not far more than came meanwhile; but only
    /// that, and only while anything comes.
    pub(crate) fn is_explained(&mut self, come_bytes: u64, owed_bytes: u64) -> bool {
        let until = *self.until_bytes.get_or_insert(come_bytes + owed_bytes);
        let came = come_bytes - std::mem::replace(&mut self.since_bytes, come_bytes);
        came > 0 && came / 2 < owed_bytes && come_bytes < until
    }
}

/// What a peer gets from us.
#[derive(Debug)]
pub(crate) struct Up {
    pub(crate) is_interested: bool,
    pub(crate) is_unchoked: bool,
    pub(crate) unchoked_at: Option<Time>,
    /// Since it was unchoked.
    pub(crate) turn_bytes: u64,
    /// Blocks that it asked for and that are not read yet.
    pub(crate) wants: VecDeque<BlockSpan>,
    /// Blocks that are being read, or wait to be sent, and since when.
    pub(crate) reading: VecDeque<(BlockSpan, Time)>,
    /// The piece of which a block was read the last time.
    pub(crate) current: Option<PieceIndex>,
    /// Pieces that we give although we choke it (BEP 6).
    pub(crate) allowed: BTreeSet<PieceIndex>,
    /// How much it may still take of them, in bytes.
    pub(crate) allowed_bytes: u64,
    /// Hash requests that storage works on.
    pub(crate) hash_jobs: Vec<(PieceIndex, HashRequest)>,
    pub(crate) meter: Meter,
    pub(crate) total_bytes: u64,
    /// What may move before more is granted; negative if a block went beyond it.
    pub(crate) credit_bytes: i64,
}

impl Peer {
    pub(crate) fn new(
        conn: ConnKey,
        addr: SocketAddr,
        source: PeerSource,
        is_outgoing: bool,
        (now, lot): (Time, u32),
    ) -> Self {
        Self {
            conn,
            addr,
            source,
            web_seed: None,
            is_outgoing,
            lot,
            transport: None,
            meets_after: Time::ZERO,
            since: now,
            hello: None,
            have: Bitfield::new(0),
            has_told: false,
            parts: BTreeMap::new(),
            down: Down::new(),
            up: Up::new(),
            limited: [false, false],
        }
    }

    /// Whom to blame for what comes from here.
    pub(crate) fn culprit(&self) -> Culprit {
        let peer_id = || self.hello.as_ref().map(|hello| hello.peer_id);
        match self.web_seed {
            Some(at) => Culprit::WebSeed(at),
            None => Culprit::new(self.addr.ip(), peer_id()),
        }
    }

    /// Whether it can be asked for something: both handshakes are through, or none are needed.
    pub(crate) const fn is_up(&self) -> bool {
        self.hello.is_some() || self.web_seed.is_some()
    }

    /// Where it can be dialled, as far as known.
    pub(crate) fn listen_addr(&self) -> Option<SocketAddr> {
        if self.is_outgoing {
            return Some(self.addr);
        }
        let port = self.hello.as_ref()?.listen_port?;
        Some(SocketAddr::new(self.addr.ip(), port))
    }

    pub(crate) fn is_seed(&self) -> bool {
        self.has_told && self.have.all()
    }

    /// Whether it downloads nothing (more).
    pub(crate) fn is_upload_only(&self) -> bool {
        let says_so = |hello: &PeerHello| hello.upload_only;
        self.is_seed() || self.web_seed.is_some() || self.hello.as_deref().is_some_and(says_so)
    }

    pub(crate) fn has_fast(&self) -> bool {
        self.hello.as_ref().is_some_and(|hello| hello.features.fast)
    }

    pub(crate) fn has_v2(&self) -> bool {
        self.hello.as_ref().is_some_and(|hello| hello.features.v2)
    }

    /// Whether it was worth connecting to: something was given, or might have been for a while.
    pub(crate) fn was_of_use(&self, now: Time) -> bool {
        self.down.total_bytes + self.up.total_bytes > 0 || now.since(self.since) >= USEFUL_AFTER
    }

    /// Whether neither side wants anything of the other.
    pub(crate) const fn is_idle(&self) -> bool {
        !self.down.is_interested && !self.up.is_interested
    }

    /// Whether it may ask for blocks of a piece now.
    pub(crate) fn may_take(&self, piece: PieceIndex) -> bool {
        self.up.is_unchoked || (self.up.allowed_bytes > 0 && self.up.allowed.contains(&piece))
    }
}

impl Down {
    fn new() -> Self {
        Self {
            is_choking: true,
            is_interested: false,
            wanted: 0,
            requests: VecDeque::new(),
            // Until the connection measures: two requests keep a link busy while one is answered.
            window: 2,
            is_snubbed: false,
            silence: Silence::default(),
            wait_until: Time::ZERO,
            rejects: 0,
            allowed: BTreeSet::new(),
            suggested: Vec::new(),
            current: None,
            dry: None,
            meter: Meter::default(),
            round_bytes: [0, 0],
            total_bytes: 0,
            credit_bytes: 0,
        }
    }

    /// Takes a request off the list; false if it is not there.
    fn settle(&mut self, span: BlockSpan) -> bool {
        // Answers mostly come in the order of the requests.
        let at = self.requests.iter().position(|owed| *owed == span);
        at.and_then(|at| self.requests.remove(at)).is_some()
    }

    /// How many more blocks it should be asked for.
    pub(crate) fn room(&self) -> usize {
        let window = if self.is_snubbed {
            1
        } else {
            self.window.max(1) as usize
        };
        window.saturating_sub(self.requests.len())
    }

    pub(crate) fn received(&mut self, now: Time, bytes: u64) {
        self.is_snubbed = false;
        self.rejects = 0;
        if self.requests.is_empty() {
            // An idle peer may help with what others owe.
            self.dry = None;
        }
        self.meter.add(now, bytes);
        self.round_bytes[0] += bytes;
        self.total_bytes += bytes;
    }

    /// Whether it lets us have blocks, and has not just refused one.
    pub(crate) fn gives(&self, now: Time) -> bool {
        !self.is_choking && self.wait_until <= now
    }

    /// A request was rejected without a choke: the peer is left alone for a while.
    pub(crate) fn rejected(&mut self, now: Time) {
        self.wait_until = now + REJECT_WAIT * (1 << self.rejects.min(REJECT_DOUBLINGS_MAX));
        self.rejects = self.rejects.saturating_add(1);
    }

    pub(crate) fn allow(&mut self, piece: PieceIndex) {
        if self.allowed.len() < HINTS_MAX {
            self.allowed.insert(piece);
        }
    }

    pub(crate) fn suggest(&mut self, piece: PieceIndex) {
        self.suggested.retain(|known| *known != piece);
        self.suggested.insert(0, piece);
        self.suggested.truncate(HINTS_MAX);
    }
}

impl Up {
    fn new() -> Self {
        Self {
            is_interested: false,
            is_unchoked: false,
            unchoked_at: None,
            turn_bytes: 0,
            wants: VecDeque::new(),
            reading: VecDeque::new(),
            current: None,
            allowed: BTreeSet::new(),
            allowed_bytes: 0,
            hash_jobs: Vec::new(),
            meter: Meter::default(),
            total_bytes: 0,
            credit_bytes: 0,
        }
    }

    /// Whether it would take a slot.
    const fn waits_for_slot(&self) -> bool {
        self.is_interested && !self.is_unchoked
    }

    /// Whether it waits for blocks from us.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.wants.is_empty() || !self.reading.is_empty()
    }

    /// Takes a block off the lists; false if it is not there.
    pub(crate) fn settle(&mut self, span: BlockSpan) -> bool {
        if let Some(at) = self.reading.iter().position(|(read, _)| *read == span) {
            self.reading.remove(at);
            return true;
        }
        let at = self.wants.iter().position(|want| *want == span);
        at.and_then(|at| self.wants.remove(at)).is_some()
    }
}

/// All connections of one torrent, those that are being dialled among them.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    map: BTreeMap<ConnKey, Box<Peer>>,
    /// Peers that were given nothing to do.
    pub(crate) hungry: BTreeSet<ConnKey>,
    /// The picker's epoch at which they looked last.
    pub(crate) fed: u64,
    /// Peers that are left alone until a time.
    pub(crate) waits: BTreeSet<(Time, ConnKey)>,
    half_open: u32,
    /// How many have both handshakes through.
    ready: usize,
    /// Those that we unchoke.
    unchoked: BTreeSet<ConnKey>,
    /// How many others are interested in us.
    waiting: usize,
    /// How many blocks all together owe.
    owed: usize,
}

impl Peers {
    /// Puts in a new one, which has no slot and wants none yet.
    pub(crate) fn insert(&mut self, peer: Peer) {
        self.half_open += u32::from(peer.hello.is_none() && peer.is_outgoing);
        self.map.insert(peer.conn, Box::new(peer));
    }

    pub(crate) fn remove(&mut self, conn: ConnKey) -> Option<Box<Peer>> {
        let peer = self.map.remove(&conn)?;
        self.half_open -= u32::from(peer.hello.is_none() && peer.is_outgoing);
        self.ready -= usize::from(peer.hello.is_some());
        self.owed -= peer.down.requests.len();
        self.hungry.remove(&conn);
        if !self.unchoked.remove(&conn) {
            self.waiting -= usize::from(peer.up.is_interested);
        }
        self.waits.remove(&(peer.down.wait_until, conn));
        Some(peer)
    }

    /// Both handshakes of a connection are through.
    pub(crate) fn set_ready(&mut self, conn: ConnKey, hello: Box<PeerHello>) {
        if let Some(peer) = self.map.get_mut(&conn) {
            self.half_open -= u32::from(peer.hello.is_none() && peer.is_outgoing);
            self.ready += usize::from(peer.hello.is_none());
            peer.hello = Some(hello);
        }
    }

    /// A peer says whether it is interested in us.
    pub(crate) fn set_interested(&mut self, conn: ConnKey, interested: bool) -> Option<&mut Peer> {
        self.change_up(conn, |up| up.is_interested = interested)
    }

    /// A peer gets a slot, or loses it.
    pub(crate) fn set_unchoked(&mut self, conn: ConnKey, unchoked: bool) -> Option<&mut Peer> {
        if !self.map.contains_key(&conn) {
            return None;
        }
        if unchoked {
            self.unchoked.insert(conn);
        } else {
            self.unchoked.remove(&conn);
        }
        self.change_up(conn, |up| up.is_unchoked = unchoked)
    }

    fn change_up(&mut self, conn: ConnKey, change: impl FnOnce(&mut Up)) -> Option<&mut Peer> {
        let peer = self.map.get_mut(&conn)?;
        self.waiting -= usize::from(peer.up.waits_for_slot());
        change(&mut peer.up);
        self.waiting += usize::from(peer.up.waits_for_slot());
        Some(peer)
    }

    /// Those that have a slot, in the order of their keys.
    pub(crate) fn unchoked(&self) -> impl Iterator<Item = &Peer> {
        self.unchoked.iter().filter_map(|conn| self.get(*conn))
    }

    /// How many are interested and have no slot.
    pub(crate) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Panics if what is counted along the way is not what counting finds.
    pub(crate) fn check_counts(&self) {
        let unchoked = self.iter().filter(|peer| peer.up.is_unchoked);
        assert!(unchoked.map(|peer| &peer.conn).eq(&self.unchoked));
        let waiting = self.iter().filter(|peer| peer.up.waits_for_slot());
        assert_eq!(waiting.count(), self.waiting);
        assert_eq!(self.ready().count(), self.ready);
    }

    pub(crate) fn get(&self, conn: ConnKey) -> Option<&Peer> {
        self.map.get(&conn).map(Box::as_ref)
    }

    pub(crate) fn get_mut(&mut self, conn: ConnKey) -> Option<&mut Peer> {
        self.map.get_mut(&conn).map(Box::as_mut)
    }

    /// In the order of their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.map.values().map(Box::as_ref)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.map.values_mut().map(Box::as_mut)
    }

    pub(crate) fn conns(&self) -> Vec<ConnKey> {
        self.map.keys().copied().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Those that were dialled and have not come up.
    pub(crate) const fn half_open(&self) -> u32 {
        self.half_open
    }

    /// Whether there is nobody whose handshakes are through.
    pub(crate) const fn none_ready(&self) -> bool {
        self.ready == 0
    }

    /// Those whose handshakes are through.
    pub(crate) fn ready(&self) -> impl Iterator<Item = &Peer> {
        self.iter().filter(|peer| peer.hello.is_some())
    }

    /// Those that can be asked for something: web seeds too.
    pub(crate) fn up(&self) -> impl Iterator<Item = &Peer> {
        self.iter().filter(|peer| peer.is_up())
    }

    /// How many blocks all together owe.
    pub(crate) const fn owed(&self) -> usize {
        self.owed
    }

    /// A peer owes these blocks from now on; whether it owed none before.
    pub(crate) fn owe(&mut self, conn: ConnKey, spans: &[BlockSpan]) -> bool {
        let Some(peer) = self.map.get_mut(&conn) else {
            return false;
        };
        let begins = peer.down.requests.is_empty() && !spans.is_empty();
        self.owed += spans.len();
        peer.down.requests.extend(spans);
        begins
    }

    /// A peer no longer owes a block; whether it did.
    pub(crate) fn settle(&mut self, conn: ConnKey, span: BlockSpan) -> bool {
        let Some(peer) = self.map.get_mut(&conn) else {
            return false;
        };
        let owed = peer.down.settle(span);
        self.owed -= usize::from(owed);
        owed
    }

    /// A peer no longer owes those of its blocks that `keep` refuses, which are returned.
    pub(crate) fn settle_all(
        &mut self,
        conn: ConnKey,
        keep: impl Fn(&BlockSpan) -> bool,
    ) -> VecDeque<BlockSpan> {
        let Some(peer) = self.map.get_mut(&conn) else {
            return VecDeque::new();
        };
        let owed = std::mem::take(&mut peer.down.requests);
        let (kept, settled): (_, VecDeque<_>) = owed.into_iter().partition(keep);
        peer.down.requests = kept;
        self.owed -= settled.len();
        settled
    }

    /// Whether nobody who is connected has given us more than this peer.
    pub(crate) fn gives_most(&self, peer: &Peer) -> bool {
        let given = peer.down.total_bytes;
        given > 0 && self.iter().all(|other| other.down.total_bytes <= given)
    }

    /// How many connections an address has.
    pub(crate) fn of_ip(&self, ip: IpAddr) -> usize {
        self.iter().filter(|peer| peer.addr.ip() == ip).count()
    }
}
