//! One search of one node: the lookup, what it collects on the way, and what is stored at its end.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use riverrun_base::{InfoHash, Time};

use crate::bloom::BloomFilter;
use crate::contact::{Contact, Family, is_host};
use crate::item::{Signed, Stored};
use crate::krpc::{Answer, Ask, Padding};
use crate::lookup::{Holder, Lookup, Rules};
use crate::question::{Finding, ItemName, PeersQuestion, Question, Report};

/// How many peers one search tells at most.
const PEERS_MAX: usize = 5000;

/// How many info-hashes of one answer are told: more do not fit a datagram.
const SAMPLES_MAX: usize = 100;

/// A search without anybody to ask waits that long for somebody.
const WAIT_FOR_NODES: Duration = Duration::from_secs(15);

/// A search.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    question: Question,
    pub(crate) lookup: Lookup,
    started_at: Time,
    phase: Phase,
    peers: BTreeSet<SocketAddr>,
    item: Option<Stored>,
    /// Of downloaders, and of seeds.
    filters: Option<Box<(BloomFilter, BloomFilter)>>,
    report: Report,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Looking,
    /// So many nodes have not yet said whether they store.
    Storing(usize),
    Over,
}

impl Search {
    pub(crate) fn new(now: Time, question: Question, rules: Rules) -> Self {
        let target = question.target();
        Self {
            question,
            lookup: Lookup::new(target, rules),
            started_at: now,
            phase: Phase::Looking,
            peers: BTreeSet::new(),
            item: None,
            filters: None,
            report: Report::default(),
        }
    }

    pub(crate) const fn is_looking(&self) -> bool {
        matches!(self.phase, Phase::Looking)
    }

    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Until when it waits for somebody to ask, if it does.
    pub(crate) fn waits_until(&self) -> Option<Time> {
        let waits = self.is_looking() && self.lookup.is_empty();
        waits.then(|| self.started_at + WAIT_FOR_NODES)
    }

    /// The query to send on the way.
    pub(crate) fn ask(&self) -> (Ask<'static>, Padding) {
        let target = self.lookup.target();
        match &self.question {
            Question::Nodes(_) => (Ask::FindNode { target }, Padding::Without),
            Question::Samples(_) => (Ask::Sample { target }, Padding::Without),
            Question::Peers(peers) => {
                let ask = Ask::GetPeers {
                    info_hash: peers.info_hash,
                    no_seeds: peers.no_seeds,
                    scrape: peers.scrape,
                };
                (ask, Padding::Without)
            }
            Question::Item(_) | Question::Put { .. } => {
                let seq = None;
                (Ask::Get { target, seq }, Padding::With)
            }
        }
    }

    /// The query that tells a node to store.
    pub(crate) fn store_ask<'a>(&'a self, holder: &'a Holder) -> Option<Ask<'a>> {
        match &self.question {
            Question::Peers(PeersQuestion {
                info_hash,
                announce: Some(announce),
                ..
            }) => Some(Ask::Announce {
                info_hash: *info_hash,
                port: announce.port_for(holder.addr),
                is_seed: announce.is_seed,
                token: &holder.token,
            }),
            Question::Put { item, cas } => {
                // A node that has nothing yet has nothing to compare (BEP 44, "CAS").
                let cas = cas.filter(|_| holder.seq.is_some());
                Some(Ask::Put(item.put(&holder.token, cas)))
            }
            _ => None,
        }
    }

    /// Takes what we store ourselves of what is sought: nobody else would tell us.
    pub(crate) fn begin_with(
        &mut self,
        peers: Vec<SocketAddr>,
        item: Option<&Stored>,
    ) -> Option<Finding> {
        match (&self.question, item) {
            (Question::Peers(_), _) if !peers.is_empty() => {
                self.peers.extend(&peers);
                Some(Finding::Peers(peers))
            }
            (Question::Item(_), Some(item)) => {
                self.item = Some(item.clone());
                if item.signed.is_none() {
                    self.phase = Phase::Over;
                }
                Some(Finding::Item(item.clone()))
            }
            _ => None,
        }
    }

    /// Takes a node's answer, but for the nodes that it names; gives what is new in it.
    pub(crate) fn answered(
        &mut self,
        from: Contact,
        family: Family,
        answer: &Answer<'_>,
    ) -> Option<Finding> {
        if !self.is_looking() {
            return None;
        }
        let finding = match &self.question {
            Question::Nodes(_) => None,
            Question::Peers(question) => {
                let scrape = question.scrape;
                if scrape {
                    self.count(answer);
                }
                self.new_peers(family, answer)
            }
            Question::Item(name) => self.newer_item(&name.clone(), answer),
            Question::Put { .. } => None,
            Question::Samples(_) => read_samples(from, answer),
        };
        let token = answer.token.map(<[u8]>::to_vec);
        self.lookup.answered(from, token, answer.seq);
        // What cannot change need not be looked for any further.
        let is_final = matches!(&finding, Some(Finding::Item(item)) if item.signed.is_none());
        if is_final {
            self.phase = Phase::Over;
        }
        finding
    }

    fn new_peers(&mut self, family: Family, answer: &Answer<'_>) -> Option<Finding> {
        let mut new = Vec::new();
        for peer in &answer.values {
            let is_peer = is_host(*peer) && Family::of(*peer) == family;
            if is_peer && self.peers.len() < PEERS_MAX && self.peers.insert(*peer) {
                new.push(*peer);
            }
        }
        (!new.is_empty()).then_some(Finding::Peers(new))
    }

    /// Counts seeds and downloaders (BEP 33). A node that has no filters counts with the peers that it names.
    fn count(&mut self, answer: &Answer<'_>) {
        let filters = self.filters.get_or_insert_default();
        match (answer.peers_filter, answer.seeds_filter) {
            (Some(peers), Some(seeds)) => {
                filters.0.join(&BloomFilter::from_bytes(*peers));
                filters.1.join(&BloomFilter::from_bytes(*seeds));
            }
            _ => {
                for peer in &answer.values {
                    filters.0.insert(peer.ip());
                }
            }
        }
    }

    fn newer_item(&mut self, name: &ItemName, answer: &Answer<'_>) -> Option<Finding> {
        let value = answer.value?.to_vec();
        let item = match name {
            ItemName::Immutable(_) => Stored::immutable(value).ok()?,
            ItemName::Mutable { key, salt } => {
                let signed = Signed {
                    key: *key,
                    salt: salt.clone(),
                    seq: answer.seq?,
                    signature: *answer.signature?,
                };
                // The key in the answer may only be the one that was asked for; and what is no news need not be
                // verified.
                let known = self.item.as_ref().and_then(Stored::seq);
                if answer.key.is_some_and(|theirs| theirs != key)
                    || known.is_some_and(|known| known >= signed.seq)
                {
                    return None;
                }
                Stored::verified(value, signed).ok()?
            }
        };
        if item.target() != name.target() {
            return None;
        }
        self.item = Some(item.clone());
        Some(Finding::Item(item))
    }

    /// The nodes to tell to store, once the lookup is through; the search is over if there are none.
    pub(crate) fn begin_storing(&mut self) -> Vec<Holder> {
        let stores = match &self.question {
            Question::Peers(peers) => peers.announce.is_some(),
            Question::Put { .. } => true,
            _ => false,
        };
        let holders = if stores {
            self.lookup.holders()
        } else {
            Vec::new()
        };
        self.phase = match holders.len() {
            0 => Phase::Over,
            count => Phase::Storing(count),
        };
        holders
    }

    /// A node stores, or not.
    pub(crate) fn stored(&mut self, outcome: Result<(), Option<(i64, String)>>) {
        let Phase::Storing(waiting) = self.phase else {
            return;
        };
        match outcome {
            Ok(()) => self.report.stored += 1,
            Err(Some(refusal)) => {
                self.report.refused += 1;
                self.report.refusal = Some(refusal);
            }
            Err(None) => {}
        }
        self.phase = match waiting - 1 {
            0 => Phase::Over,
            waiting => Phase::Storing(waiting),
        };
    }

    /// Gives up.
    pub(crate) const fn abandon(&mut self) {
        self.phase = Phase::Over;
    }

    /// How it went.
    pub(crate) fn into_report(self) -> Report {
        let mut report = self.report;
        report.queries = self.lookup.queries();
        report.answers = self.lookup.answers();
        report.nearest = self.lookup.nearest();
        if let Some(filters) = self.filters {
            report.scrape = Some((filters.0.estimate(), filters.1.estimate()));
        }
        report
    }
}

fn read_samples(from: Contact, answer: &Answer<'_>) -> Option<Finding> {
    let samples = answer.samples?;
    let hashes = samples.chunks_exact(20).take(SAMPLES_MAX);
    Some(Finding::Samples {
        from: from.addr,
        info_hashes: hashes.filter_map(InfoHash::from_slice).collect(),
        count: answer.samples_count.unwrap_or_default(),
        // BEP 51 allows six hours at most.
        interval: Duration::from_secs(answer.interval_secs.unwrap_or_default().min(21_600)),
    })
}
