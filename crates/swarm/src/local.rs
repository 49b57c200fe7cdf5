//! What is said by multicast in the local network to find peers there (BEP 14).

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use riverrun_base::{InfoHash, Time};

/// How often a torrent is announced.
pub(crate) const ANNOUNCE_INTERVAL: Duration = Duration::from_mins(5);
/// The longest announce, in bytes: whole in one packet everywhere.
const LEN_MAX: usize = 1400;
/// How many torrents fit: an announce is some 150 bytes, and each torrent 52 more.
const INFO_HASHES_MAX: usize = 23;
/// The longest cookie that is kept; everything of ours is shorter.
const COOKIE_LEN_MAX: usize = 32;

/// "Who else has these torrents?", and who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalSearch {
    /// Where the asker listens.
    pub port: u16,
    /// What it has or wants.
    pub info_hashes: Vec<InfoHash>,
    /// By which the asker knows its own announces; printable, at most 32 bytes.
    pub cookie: String,
}

impl LocalSearch {
    /// Where announces go in IPv4.
    pub const GROUP_V4: SocketAddr = SocketAddr::new(
        std::net::IpAddr::V4(Ipv4Addr::new(239, 192, 152, 143)),
        6771,
    );
    /// Where announces go in IPv6.
    pub const GROUP_V6: SocketAddr = SocketAddr::new(
        std::net::IpAddr::V6(Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f)),
        6771,
    );
    /// How many torrents one announce may name.
    pub const INFO_HASHES_MAX: usize = INFO_HASHES_MAX;

    /// As it is sent to one of the groups.
    pub fn encode(&self, group: SocketAddr) -> String {
        let mut text = format!(
            "BT-SEARCH * HTTP/1.1\r\nHost: {group}\r\nPort: {}\r\n",
            self.port
        );
        for info_hash in self.info_hashes.iter().take(INFO_HASHES_MAX) {
            // Writing to a string does not fail.
            let _ = write!(text, "Infohash: {info_hash}\r\n");
        }
        let _ = write!(text, "cookie: {}\r\n\r\n\r\n", self.cookie);
        text
    }

    /// Reads what has come; `None` if it is nothing of the kind. Headers that we do not know, and info-hashes beyond
    /// [`LocalSearch::INFO_HASHES_MAX`], are passed over.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes.get(..bytes.len().min(LEN_MAX))?).ok()?;
        let mut lines = text.lines();
        lines
            .next()
            .filter(|line| *line == "BT-SEARCH * HTTP/1.1")?;
        let (mut port, mut info_hashes, mut cookie) = (None, Vec::new(), String::new());
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("port") {
                port = value.parse().ok();
            } else if name.eq_ignore_ascii_case("infohash") && info_hashes.len() < INFO_HASHES_MAX {
                info_hashes.extend(value.parse::<InfoHash>());
            } else if name.eq_ignore_ascii_case("cookie") && value.len() <= COOKIE_LEN_MAX {
                value.clone_into(&mut cookie);
            }
        }
        let port = port.filter(|port| *port != 0 && !info_hashes.is_empty())?;
        Some(Self {
            port,
            info_hashes,
            cookie,
        })
    }
}

/// When a torrent is announced in the local network.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LocalAnnouncer {
    next: Time,
}

impl LocalAnnouncer {
    /// When it is due.
    pub(crate) const fn next_due(self) -> Time {
        self.next
    }

    /// Whether it is due; if so, the next time is in five minutes.
    pub(crate) fn take_due(&mut self, now: Time) -> bool {
        let due = self.next <= now;
        if due {
            self.next = now + ANNOUNCE_INTERVAL;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(hashes: u8) -> LocalSearch {
        LocalSearch {
            port: 6881,
            info_hashes: (0..hashes).map(|n| InfoHash([n; 20])).collect(),
            cookie: "0123456789abcdef".into(),
        }
    }

    #[test]
    fn an_announce_is_laid_out_as_the_bep_has_it() {
        let text = search(1).encode(LocalSearch::GROUP_V4);
        let expected = "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\n\
            Infohash: 0000000000000000000000000000000000000000\r\ncookie: 0123456789abcdef\r\n\r\n\r\n";
        assert_eq!(text, expected);
        let text = search(1).encode(LocalSearch::GROUP_V6);
        assert!(text.contains("Host: [ff15::efc0:988f]:6771\r\n"), "{text}");
    }

    #[test]
    fn an_announce_reads_back_and_fits_a_packet() {
        for hashes in [1, 5, 23] {
            for group in [LocalSearch::GROUP_V4, LocalSearch::GROUP_V6] {
                let text = search(hashes).encode(group);
                assert!(text.len() <= LEN_MAX, "{}", text.len());
                assert_eq!(LocalSearch::parse(text.as_bytes()), Some(search(hashes)));
            }
        }
        let more = search(200).encode(LocalSearch::GROUP_V6);
        assert!(more.len() <= LEN_MAX);
    }

    #[test]
    fn what_others_write_is_read_and_noise_is_not() {
        let hash = "AB".repeat(20);
        let parse = |text: &str| LocalSearch::parse(text.as_bytes());
        let other = format!("BT-SEARCH * HTTP/1.1\nX: y\nPORT:7000\ninfohash:{hash}\n\n");
        let heard = parse(&other).unwrap();
        assert_eq!((heard.port, &heard.cookie[..]), (7000, ""));
        assert_eq!(heard.info_hashes, [InfoHash([0xab; 20])]);
        for noise in [
            String::new(),
            "NOTIFY * HTTP/1.1\r\n\r\n".into(),
            other.replace("7000", "0"),
            other.replace("7000", "70000"),
            other.replace("infohash", "hash"),
            other.replace(&hash, "abcd"),
        ] {
            assert_eq!(parse(&noise), None, "{noise}");
        }
        assert_eq!(LocalSearch::parse(b"\xff\xfe"), None);
        let flood = format!("{other}{}", format!("infohash:{hash}\n").repeat(5000));
        assert_eq!(parse(&flood).unwrap().info_hashes.len(), INFO_HASHES_MAX);
    }
}
