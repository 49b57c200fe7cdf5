//! Whether others dial us: if nobody does, they cannot, as a rule.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use riverrun_base::{Nearness, Time};

/// How long nobody may have dialled us before that says something: trackers and the distributed hash table have told of
/// us by then, and whoever heard has had the time to try.
const SILENCE_MIN: Duration = Duration::from_mins(10);

/// Since when nobody has. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Callers(Arc<Mutex<Silence>>);

/// `None` while we listen nowhere, and when somebody has come.
type Silence = Option<Time>;

impl Callers {
    fn lock(&self) -> MutexGuard<'_, Silence> {
        // Each change is one assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// We listen at these addresses from now on, and nobody has come yet. That nobody comes to those of this machine
    /// alone says nothing.
    pub(crate) fn listen(&self, now: Time, mut addrs: impl Iterator<Item = IpAddr>) {
        *self.lock() = addrs.any(|ip| !ip.is_loopback()).then_some(now);
    }

    /// A peer at this address has dialled us. From this machine everybody can.
    pub(crate) fn came(&self, ip: IpAddr) {
        if Nearness::of(ip) != Some(Nearness::Machine) {
            *self.lock() = None;
        }
    }

    /// For how long nobody has dialled us, if that is long.
    pub(crate) fn silence(&self, now: Time) -> Option<Duration> {
        let silent = now.since((*self.lock())?);
        (silent >= SILENCE_MIN).then_some(silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_when_it_is_long_and_ends_with_the_first_who_comes() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let at = |minutes: u64| Time::from_secs(60 * minutes);
        let callers = Callers::default();
        assert_eq!(callers.silence(at(60)), None, "we do not listen");
        callers.listen(at(60), [ip("127.0.0.1")].into_iter());
        assert_eq!(callers.silence(at(90)), None, "only to this machine");
        callers.listen(at(60), [ip("127.0.0.1"), ip("::")].into_iter());
        callers.came(ip("127.0.0.1"));
        assert_eq!(callers.silence(at(69)), None);
        let silent = callers.silence(at(71));
        assert_eq!(silent, Some(Duration::from_mins(11)));
        callers.came(ip("192.0.2.1"));
        assert_eq!(callers.silence(at(99)), None);
        // In another network all is open again.
        callers.listen(at(100), [ip("10.0.0.1")].into_iter());
        assert_eq!(callers.silence(at(111)), silent);
        callers.listen(at(120), std::iter::empty());
        assert_eq!(callers.silence(at(200)), None);
    }
}
