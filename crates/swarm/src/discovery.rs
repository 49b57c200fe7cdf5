//! Ways to find peers beside a torrent's trackers, and which torrents may use them (BEP 27).

use crate::input::PeerSource;

/// A way to find peers that no tracker oversees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Discovery {
    /// The distributed hash table (BEP 5).
    Dht,
    /// Peer exchange (BEP 11).
    Exchange,
    /// Multicasts in the local network (BEP 14).
    Local,
}

impl Discovery {
    /// All ways.
    pub const ALL: [Self; 3] = [Self::Dht, Self::Exchange, Self::Local];

    /// Whether a torrent may be looked for, named and joined in this way: the only place that decides it. Private
    /// torrents live from their trackers alone. While the metadata of a magnet link is still to be fetched nobody can
    /// know that it is private, and without peers it would never be known: until then it is taken for public.
    pub const fn allowed(self, is_private: bool) -> bool {
        match self {
            Self::Dht | Self::Exchange | Self::Local => !is_private,
        }
    }
}

impl PeerSource {
    /// The way of finding peers that a source stands for; `None` for those that every torrent may use.
    pub const fn discovery(self) -> Option<Discovery> {
        match self {
            Self::User | Self::Link | Self::Tracker | Self::Incoming => None,
            Self::Dht => Some(Discovery::Dht),
            Self::Exchange => Some(Discovery::Exchange),
            Self::Local => Some(Discovery::Local),
        }
    }

    /// Whether a torrent may learn peers from this source.
    pub(crate) fn may_serve(self, is_private: bool) -> bool {
        self.discovery().is_none_or(|way| way.allowed(is_private))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;
    use crate::sample::info;

    proptest! {
        #[test]
        fn exactly_torrents_that_are_not_private_are_found_without_trackers(flag in any::<Option<i64>>()) {
            let private = flag.is_some_and(|flag| flag != 0);
            let said = info("a", flag).is_private();
            for way in Discovery::ALL {
                prop_assert_eq!(way.allowed(said), !private);
            }
            for source in [
                PeerSource::User,
                PeerSource::Link,
                PeerSource::Tracker,
                PeerSource::Incoming,
            ] {
                prop_assert_eq!(source.may_serve(said), true);
            }
            for source in [PeerSource::Dht, PeerSource::Exchange, PeerSource::Local] {
                prop_assert_eq!(source.may_serve(said), !private);
            }
        }
    }
}
