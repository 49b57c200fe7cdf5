//! Credit under rate limits.

use riverrun_base::{BLOCK_LEN, Rate, Time};
use riverrun_peer::PeerCommand;
use riverrun_swarm::{Limits, Outbox};

/// What may be lent in each direction: within any time no more than the limit gives in it, and one burst.
#[derive(Debug)]
pub(super) struct Credits {
    /// Of all torrents together, and of the one: up, down.
    all: [Option<Account>; 2],
    torrent: [Option<Account>; 2],
    limits: [Limits; 2],
}

/// One limit: how far above it the lending is, which falls with time.
#[derive(Clone, Copy, Debug)]
struct Account {
    rate: Rate,
    /// In millionths of a byte.
    above: u128,
    since: Time,
}

impl Credits {
    pub(super) fn new(limits: Limits) -> Self {
        let account = |rate: Option<Rate>| {
            rate.map(|rate| Account {
                rate,
                above: 0,
                since: Time::ZERO,
            })
        };
        Self {
            all: [account(limits.upload), account(limits.download)],
            torrent: [None, None],
            limits: [limits, Limits::default()],
        }
    }

    /// The limits of all torrents together are these from now on.
    pub(super) fn limit_all(&mut self, now: Time, limits: Limits) {
        self.all = [limits.upload, limits.download].map(|rate| Account::spent(now, rate));
        self.limits[0] = limits;
    }

    /// The torrent's own are these.
    pub(super) fn limit_torrent(&mut self, now: Time, limits: Limits) {
        self.torrent = [limits.upload, limits.download].map(|rate| Account::spent(now, rate));
        self.limits[1] = limits;
    }

    /// The limit that holds for what is sent.
    pub(super) fn upload_limit(&self) -> Option<Rate> {
        self.limits.iter().filter_map(|limits| limits.upload).min()
    }

    /// Looks at what is lent.
    pub(super) fn see(&mut self, now: Time, out: &Outbox, found: &mut Vec<String>) {
        let mut lent = [0, 0];
        for (_, command) in &out.peers {
            if let PeerCommand::Credit(credit) = command {
                lent[0] += credit.send_bytes.unwrap_or(0);
                lent[1] += credit.receive_bytes.unwrap_or(0);
            }
        }
        for (direction, bytes) in lent.into_iter().enumerate().filter(|(_, lent)| *lent > 0) {
            for account in [&mut self.all[direction], &mut self.torrent[direction]] {
                let Some(account) = account else { continue };
                if !account.lend(now, bytes) {
                    let rate = account.rate;
                    found.push(format!(
                        "lends {bytes} bytes at once under a limit of {rate}"
                    ));
                }
            }
        }
    }
}

impl Account {
    /// Of a limit that is set now: nothing may be lent that it has not given since.
    fn spent(now: Time, rate: Option<Rate>) -> Option<Self> {
        rate.map(|rate| Self {
            rate,
            above: u128::from(burst(rate)) * 1_000_000,
            since: now,
        })
    }

    /// Bytes are lent; whether that is within the limit.
    fn lend(&mut self, now: Time, bytes: u64) -> bool {
        let passed = now.since(self.since).as_micros();
        self.since = self.since.max(now);
        let fallen = passed.saturating_mul(self.rate.bytes_per_second().into());
        self.above = self.above.saturating_sub(fallen) + u128::from(bytes) * 1_000_000;
        self.above <= u128::from(burst(self.rate)) * 1_000_000
    }
}

/// What may be lent at once: what comes in a fifth of a second, two blocks at least.
fn burst(rate: Rate) -> u64 {
    (rate.bytes_per_second() / 5).max(2 * u64::from(BLOCK_LEN))
}
