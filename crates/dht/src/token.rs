//! Write tokens: who asked us from an address may store something from there (BEP 5).

use std::net::{IpAddr, SocketAddr};

use riverrun_base::Time;
use riverrun_hash::Sha1;

use crate::id::NodeId;

/// How often tokens change; those of the time before still count (BEP 5: five minutes, and up to ten).
const ROTATION_MICROS: u64 = 5 * 60 * 1_000_000;

/// How long a token is, in bytes: nobody guesses it within its life over a network.
pub(crate) const TOKEN_BYTES: usize = 8;

/// The secret behind our write tokens. It comes from the system's randomness, never from the generator of our other
/// choices: those are seen by strangers.
#[derive(Clone)]
pub(crate) struct Tokens {
    secret: [u8; 32],
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    pub(crate) const fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// The token for whoever asks from `asker` about `target` now. Ports are left out: a NAT may change them
    /// between a query and the next.
    pub(crate) fn issue(&self, now: Time, asker: SocketAddr, target: NodeId) -> [u8; TOKEN_BYTES] {
        self.mac(epoch(now), asker.ip(), target)
    }

    /// Whether we gave `token` to `asker` for `target` not long ago.
    pub(crate) fn accepts(
        &self,
        now: Time,
        asker: SocketAddr,
        target: NodeId,
        token: &[u8],
    ) -> bool {
        let current = epoch(now);
        [Some(current), current.checked_sub(1)]
            .into_iter()
            .flatten()
            .any(|epoch| same(self.mac(epoch, asker.ip(), target), token))
    }

    fn mac(&self, epoch: u64, ip: IpAddr, target: NodeId) -> [u8; TOKEN_BYTES] {
        let mut hash = Sha1::new();
        hash.update(&self.secret);
        hash.update(&epoch.to_be_bytes());
        match ip.to_canonical() {
            IpAddr::V4(ip) => hash.update(&ip.octets()),
            IpAddr::V6(ip) => hash.update(&ip.octets()),
        }
        hash.update(&target.0);
        // The rest of the digest stays ours, so that nothing can be appended to a known one. Invariant: eight of
        // twenty bytes.
        hash.finish().0[..TOKEN_BYTES]
            .try_into()
            .expect("eight bytes")
    }
}

/// The secret is another one in each.
fn epoch(now: Time) -> u64 {
    now.as_micros() / ROTATION_MICROS
}

/// Compares without telling by its time where they differ.
fn same(ours: [u8; TOKEN_BYTES], theirs: &[u8]) -> bool {
    let differs = ours.iter().zip(theirs).fold(0, |sum, (a, b)| sum | (a ^ b));
    theirs.len() == TOKEN_BYTES && differs == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_for_its_address_and_target_for_five_to_ten_minutes() {
        let tokens = Tokens::new([7; 32]);
        let (asker, other): (SocketAddr, SocketAddr) = (
            "192.0.2.1:5".parse().unwrap(),
            "192.0.2.2:5".parse().unwrap(),
        );
        let target = NodeId([1; 20]);
        let token = tokens.issue(Time::from_secs(200), asker, target);
        let accepts = |secs, asker, target, token: &[u8]| {
            tokens.accepts(Time::from_secs(secs), asker, target, token)
        };
        assert!(accepts(201, asker, target, &token));
        assert!(accepts(201, "192.0.2.1:6".parse().unwrap(), target, &token));
        assert!(!accepts(201, other, target, &token));
        assert!(!accepts(201, asker, NodeId([2; 20]), &token));
        assert!(!accepts(201, asker, target, &token[..7]));
        assert!(!accepts(201, asker, target, &[]));
        assert!(accepts(550, asker, target, &token));
        assert!(!accepts(601, asker, target, &token));
        assert!(!Tokens::new([8; 32]).accepts(Time::from_secs(201), asker, target, &token));
    }
}
