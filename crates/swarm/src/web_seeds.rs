//! The web seeds of one torrent (BEP 19): which of them to use, and which to leave alone and for how long.
//!
//! A web seed that is in use is a connection like any other, whose peer has everything, gives at once and wants nothing:
//! what is asked of it, what it is blamed for and what it may send is decided where that of peers is. Here is what is its
//! own: it is known by a URL, it is on somebody's server, and whatever it is asked for stands in that server's log.

use std::time::Duration;

use riverrun_base::{Rng, Time};
use riverrun_tracker::{TrackerScheme, TrackerUrl};

use crate::input::WebSeed;
use crate::key::ConnKey;

/// How many web seeds are remembered; more than that is no list of mirrors.
const KNOWN_MAX: usize = 64;
/// How many of them are used at a time.
const OPEN_MAX: usize = 4;
/// How long a web seed is left alone after a failure; doubles with each in a row.
const RETRY_MIN: Duration = Duration::from_secs(10);
/// The longest that it is left alone, whatever its server asks for.
const RETRY_MAX: Duration = Duration::from_hours(1);
/// How often the wait doubles before it is the longest.
const DOUBLINGS_MAX: u32 = 9;
/// A connection on which so much came was no failure, however it ended.
const USEFUL_BYTES: u64 = 1 << 20;

/// The number of a web seed in its torrent's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WebSeedIndex(pub(crate) u32);

/// All web seeds of one torrent, in use or not.
#[derive(Clone, Debug, Default)]
pub(crate) struct WebSeeds {
    entries: Vec<Entry>,
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) seed: WebSeed,
    /// While it is in use.
    pub(crate) conn: Option<ConnKey>,
    /// In a row.
    pub(crate) failures: u32,
    /// Not used before.
    pub(crate) ready_at: Time,
    /// It is never used again.
    pub(crate) is_off: bool,
    /// What went wrong the last time, if nothing has gone well since.
    pub(crate) failure: Option<String>,
    /// What has come from it on connections that have ended.
    pub(crate) received_bytes: u64,
}

impl WebSeeds {
    /// Takes in one that is not known yet; false of what we cannot speak to.
    pub(crate) fn add(&mut self, seed: WebSeed) -> bool {
        let is_web = matches!(
            seed.url.scheme(),
            TrackerScheme::Http | TrackerScheme::Https
        );
        let mut entries = self.entries.iter_mut();
        if let Some(known) = entries.find(|entry| entry.seed.url == seed.url) {
            known.seed.is_from_user |= seed.is_from_user;
            return false;
        }
        if !is_web || self.entries.len() >= KNOWN_MAX {
            return false;
        }
        self.entries.push(Entry {
            seed,
            conn: None,
            failures: 0,
            ready_at: Time::ZERO,
            is_off: false,
            failure: None,
            received_bytes: 0,
        });
        true
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// How many are in use.
    pub(crate) fn open(&self) -> usize {
        self.entries
            .iter()
            .filter(|entry| entry.conn.is_some())
            .count()
    }

    /// The one to use next, if one more is to be used now: the one that failed least, and a random one of those. Not two of
    /// one server, and none of one that `is_free` refuses.
    pub(crate) fn next(
        &self,
        now: Time,
        is_free: impl Fn(&TrackerUrl) -> bool,
        rng: &mut Rng,
    ) -> Option<WebSeedIndex> {
        if self.open() >= OPEN_MAX {
            return None;
        }
        let fits = |entry: &Entry| {
            let is_idle = !entry.is_off && entry.conn.is_none() && entry.ready_at <= now;
            is_idle && !self.serves(&entry.seed.url) && is_free(&entry.seed.url)
        };
        let fit = (0..).zip(&self.entries).filter(|(_, entry)| fits(entry));
        let best = fit.min_by_key(|(_, entry)| (entry.failures, rng.next_u32()));
        best.map(|(at, _)| WebSeedIndex(at))
    }

    /// Whether the server of this URL is in use for this torrent.
    fn serves(&self, url: &TrackerUrl) -> bool {
        let mut open = self.entries.iter().filter(|entry| entry.conn.is_some());
        open.any(|entry| is_same_server(&entry.seed.url, url))
    }

    /// When one more may be used, as far as it is left alone until then.
    pub(crate) fn next_ready(&self) -> Option<Time> {
        if self.open() >= OPEN_MAX {
            return None;
        }
        let idle = self
            .entries
            .iter()
            .filter(|entry| !entry.is_off && entry.conn.is_none());
        idle.filter(|entry| !self.serves(&entry.seed.url))
            .map(|entry| entry.ready_at)
            .min()
    }

    pub(crate) fn get(&self, at: WebSeedIndex) -> Option<&Entry> {
        self.entries.get(at.0 as usize)
    }

    /// It is in use from now on.
    pub(crate) fn open_with(&mut self, at: WebSeedIndex, conn: ConnKey) {
        if let Some(entry) = self.entries.get_mut(at.0 as usize) {
            entry.conn = Some(conn);
        }
    }

    /// It is in use no longer. So much came from it meanwhile.
    pub(crate) fn close(&mut self, at: WebSeedIndex, received_bytes: u64) {
        let Some(entry) = self.entries.get_mut(at.0 as usize) else {
            return;
        };
        entry.conn = None;
        entry.received_bytes += received_bytes;
        if received_bytes >= USEFUL_BYTES {
            (entry.failures, entry.failure) = (0, None);
        }
    }

    /// It has failed: it is left alone for a while, which is told, and for as long as its server asks within reason.
    pub(crate) fn fail(
        &mut self,
        now: Time,
        at: WebSeedIndex,
        message: String,
        asked: Option<Duration>,
        rng: &mut Rng,
    ) -> Duration {
        let Some(entry) = self.entries.get_mut(at.0 as usize) else {
            return RETRY_MAX;
        };
        let doubled = RETRY_MIN * (1 << entry.failures.min(DOUBLINGS_MAX));
        // Whoever was refused together must not come back together.
        let percent = 75 + u32::try_from(rng.below(51)).unwrap_or(0);
        let wait = doubled.min(RETRY_MAX) * percent / 100;
        let wait = wait.max(asked.unwrap_or_default()).min(RETRY_MAX);
        entry.failures = entry.failures.saturating_add(1);
        entry.ready_at = now + wait;
        entry.failure = Some(message);
        wait
    }

    /// It is of no use, and never will be.
    pub(crate) fn turn_off(&mut self, at: WebSeedIndex, message: String) {
        if let Some(entry) = self.entries.get_mut(at.0 as usize) {
            entry.is_off = true;
            entry.failure = Some(message);
        }
    }

    /// Our network is another: who could not be reached may be now.
    pub(crate) fn forgive(&mut self) {
        for entry in &mut self.entries {
            (entry.failures, entry.ready_at) = (0, Time::ZERO);
        }
    }
}

/// Whether two URLs are of one server.
pub(crate) fn is_same_server(one: &TrackerUrl, other: &TrackerUrl) -> bool {
    (one.host(), one.port()) == (other.host(), other.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_secs(100);

    fn seed(url: &str) -> WebSeed {
        WebSeed {
            url: url.parse().unwrap(),
            is_from_user: false,
        }
    }

    fn seeds(urls: &[&str]) -> WebSeeds {
        let mut seeds = WebSeeds::default();
        for url in urls {
            seeds.add(seed(url));
        }
        seeds
    }

    fn next(seeds: &WebSeeds, now: Time) -> Option<u32> {
        let next = seeds.next(now, |_| true, &mut Rng::new(1));
        next.map(|at| at.0)
    }

    #[test]
    fn only_what_speaks_http_is_taken_and_nothing_twice() {
        let mut seeds = WebSeeds::default();
        assert!(seeds.add(seed("http://a.example/x")));
        assert!(!seeds.add(seed("http://a.example/x")));
        assert!(!seeds.add(seed("udp://a.example:1/x")));
        assert!(seeds.add(seed("https://a.example/x")));
        (0..100).for_each(|n| {
            seeds.add(seed(&format!("http://{n}.example/")));
        });
        assert_eq!(seeds.all().count(), KNOWN_MAX);
    }

    #[test]
    fn a_few_are_used_at_a_time_and_one_of_each_server() {
        let mut seeds = seeds(&["http://a/1", "http://a/2", "http://a:81/", "http://b/"]);
        let first = next(&seeds, NOW).unwrap();
        seeds.open_with(WebSeedIndex(first), ConnKey::new(first, 0));
        let mut used = vec![first];
        while let Some(more) = next(&seeds, NOW) {
            seeds.open_with(WebSeedIndex(more), ConnKey::new(more, 0));
            used.push(more);
        }
        used.sort_unstable();
        assert!(used == [0, 2, 3] || used == [1, 2, 3], "{used:?}");
        assert_eq!(seeds.next_ready(), None, "the server of the last is busy");
        seeds.close(WebSeedIndex(used[0]), 0);
        assert!(next(&seeds, NOW).is_some_and(|at| at < 2));
        let refused = seeds.next(NOW, |url| url.as_str() != "http://a/1", &mut Rng::new(1));
        assert_eq!(refused, Some(WebSeedIndex(1)));
    }

    /// The wait after each of so many failures, in seconds.
    fn waits(count: usize, asked: Option<u64>) -> Vec<u64> {
        let mut seeds = seeds(&["http://a/"]);
        let mut rng = Rng::new(7);
        let asked = asked.map(Duration::from_secs);
        let mut fail = || seeds.fail(NOW, WebSeedIndex(0), "no".to_owned(), asked, &mut rng);
        (0..count).map(|_| fail().as_secs()).collect()
    }

    #[test]
    fn failures_in_a_row_are_waited_for_longer_and_longer() {
        let waits = waits(20, None);
        assert!((7..=12).contains(&waits[0]), "{waits:?}");
        assert!(waits[..8].is_sorted(), "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= 3600), "{waits:?}");
        assert!(waits[12..].iter().all(|wait| *wait >= 2700), "{waits:?}");
    }

    #[test]
    fn a_server_that_asks_for_time_gets_it_within_reason() {
        assert_eq!(waits(1, Some(120)), [120]);
        assert_eq!(waits(1, Some(1_000_000)), [3600]);
        assert!(waits(1, Some(0))[0] >= 7);
    }

    #[test]
    fn what_has_failed_waits_and_what_is_off_stays_so() {
        let mut seeds = seeds(&["http://a/", "http://b/"]);
        let mut rng = Rng::new(1);
        let wait = seeds.fail(NOW, WebSeedIndex(0), "503".to_owned(), None, &mut rng);
        assert_eq!(next(&seeds, NOW), Some(1));
        seeds.turn_off(WebSeedIndex(1), "404".to_owned());
        assert_eq!(next(&seeds, NOW), None);
        assert_eq!(seeds.next_ready(), Some(NOW + wait));
        assert_eq!(next(&seeds, NOW + wait), Some(0));
        seeds.forgive();
        assert_eq!(next(&seeds, NOW), Some(0));
        // Once it has given something it begins anew.
        seeds.fail(NOW, WebSeedIndex(0), "503".to_owned(), None, &mut rng);
        seeds.close(WebSeedIndex(0), USEFUL_BYTES);
        let entry = seeds.get(WebSeedIndex(0)).unwrap();
        assert_eq!((entry.failures, entry.failure.as_ref()), (0, None));
    }
}
