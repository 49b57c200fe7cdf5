//! Requests for hashes in both directions (BEP 52), on connections that run under v2.

use crate::codec::message::{HASH_REQUEST_LEN, answer_len};
use crate::hashes::HashRequest;

/// The most hashes of one request that we answer: 256 KiB. BEP 52 says 512 should do; the most widespread
/// library's own limit is this.
const COUNT_MAX: u32 = 8192;
/// How many requests of a peer wait for an answer, and for how many hashes in all: half a MiB. Peers in use
/// ask for one or two times 512 at a time.
const WAITING_MAX: usize = 16;
const WAITING_COUNT_MAX: u32 = 2 * COUNT_MAX;

/// What is asked for and owed.
#[derive(Debug, Default)]
pub(crate) struct HashExchange {
    /// Our requests.
    asked: Vec<HashRequest>,
    /// The peer's requests.
    waiting: Vec<HashRequest>,
}

impl HashExchange {
    /// We ask.
    pub(crate) fn ask(&mut self, request: HashRequest) {
        self.asked.push(request);
    }

    /// An answer has come; whether it was asked for.
    pub(crate) fn answered(&mut self, request: &HashRequest) -> bool {
        remove(&mut self.asked, request)
    }

    /// How long the payload of the longest answer is that is due.
    pub(crate) fn answer_len_max(&self) -> Option<u32> {
        let longest = self.asked.iter().map(answer_len).max()?;
        let len = longest.saturating_mul(32) + u64::from(HASH_REQUEST_LEN);
        Some(u32::try_from(len).unwrap_or(u32::MAX))
    }

    /// The peer asks; whether the question makes sense and there is room, else it is to be rejected.
    pub(crate) fn admit(&mut self, request: HashRequest) -> bool {
        let HashRequest { index, count, .. } = request;
        let sound = (2..=COUNT_MAX).contains(&count) && count.is_power_of_two();
        // As far as a tree can reach: 2^63 bytes are 2^49 blocks.
        let low = request.base_layer < 64 && request.proof_layers < 64;
        let aligned = index.checked_rem(count) == Some(0);
        let admitted = sound && low && aligned && self.has_room_for(count);
        if admitted {
            self.waiting.push(request);
        }
        admitted
    }

    fn has_room_for(&self, count: u32) -> bool {
        let waiting: u32 = self.waiting.iter().map(|request| request.count).sum();
        self.waiting.len() < WAITING_MAX && waiting + count <= WAITING_COUNT_MAX
    }

    /// We answer; whether the question was still open.
    pub(crate) fn close(&mut self, request: &HashRequest) -> bool {
        remove(&mut self.waiting, request)
    }
}

fn remove(requests: &mut Vec<HashRequest>, request: &HashRequest) -> bool {
    let at = requests.iter().position(|other| other == request);
    at.map(|at| requests.remove(at)).is_some()
}

#[cfg(test)]
mod tests {
    use riverrun_base::Sha256Digest;

    use super::*;

    const REQUEST: HashRequest = HashRequest {
        pieces_root: Sha256Digest([7; 32]),
        base_layer: 0,
        index: 8,
        count: 4,
        proof_layers: 2,
    };

    #[test]
    fn only_sound_questions_are_admitted() {
        let admit = |request| HashExchange::default().admit(request);
        assert!(admit(REQUEST));
        for (index, count) in [(0, 0), (0, 1), (0, 3), (2, 4), (0, 16_384)] {
            let request = HashRequest {
                index,
                count,
                ..REQUEST
            };
            assert!(!admit(request), "{index} {count}");
        }
        let proof_layers = 999;
        assert!(!admit(HashRequest {
            proof_layers,
            ..REQUEST
        }));
    }

    #[test]
    fn a_peer_waits_for_a_bounded_number_of_answers() {
        let mut exchange = HashExchange::default();
        let admitted = (0..1000).filter(|_| exchange.admit(REQUEST)).count();
        assert_eq!(admitted, WAITING_MAX);
        assert!(exchange.close(&REQUEST) && exchange.admit(REQUEST));
    }

    #[test]
    fn an_answer_is_as_long_as_what_was_asked_for() {
        let mut exchange = HashExchange::default();
        assert_eq!(exchange.answer_len_max(), None);
        exchange.ask(REQUEST);
        assert_eq!(exchange.answer_len_max(), Some(HASH_REQUEST_LEN + 5 * 32));
        assert!(exchange.answered(&REQUEST) && !exchange.answered(&REQUEST));
    }
}
