//! Who gave how much to whom.

use std::collections::BTreeMap;

use riverrun_base::ByteSize;
use serde_json::{Value, json};

use super::bound::Bound;
use super::look::Look;

/// All that was given so far, connection by connection, as those who got it counted.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    names: Vec<char>,
    payload_bytes: u64,
    /// By receiver and its connection: from whom, and how much.
    connections: BTreeMap<(usize, (u32, u32)), (usize, u64)>,
    /// What the seeder has sent.
    seeder_bytes: u64,
}

impl Account {
    /// For these peers, the seeder first, and a payload of that size.
    pub(crate) fn new(names: &[char], payload_bytes: u64) -> Self {
        Self {
            names: names.to_vec(),
            payload_bytes,
            connections: BTreeMap::new(),
            seeder_bytes: 0,
        }
    }

    /// Takes note of what was given until now.
    pub(crate) fn note(&mut self, look: &Look) {
        for (receiver, peer) in look.peers.iter().enumerate() {
            for link in peer.links.iter().chain(&peer.ended) {
                self.connections
                    .insert((receiver, link.conn), (link.other, link.downloaded_bytes));
            }
        }
        self.seeder_bytes = look.peers.first().map_or(0, |seeder| seeder.uploaded_bytes);
    }

    /// How many bytes one gave to another.
    pub(crate) fn given(&self, giver: usize, receiver: usize) -> u64 {
        self.connections
            .iter()
            .filter(|((to, _), (from, _))| (*from, *to) == (giver, receiver))
            .map(|(_, (_, bytes))| *bytes)
            .sum()
    }

    fn got(&self, receiver: usize) -> u64 {
        (0..self.names.len())
            .map(|giver| self.given(giver, receiver))
            .sum()
    }

    fn gave(&self, giver: usize) -> u64 {
        (0..self.names.len())
            .map(|receiver| self.given(giver, receiver))
            .sum()
    }

    /// The names of those who wanted it.
    pub(crate) fn receivers(&self) -> impl Iterator<Item = char> + '_ {
        self.names.iter().skip(1).copied()
    }

    /// How many times the seeder has sent the whole of it, in bytes.
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub(crate) fn seeder_copies(&self) -> f64 {
        self.seeder_bytes as f64 / self.payload_bytes.max(1) as f64
    }

    /// The fields of an event: the names, and a row of bytes for each giver.
    pub(crate) fn to_json(&self) -> Value {
        let all = 0..self.names.len();
        let row = |giver| all.clone().map(move |receiver| self.given(giver, receiver));
        let matrix: Vec<Vec<u64>> = all.clone().map(|giver| row(giver).collect()).collect();
        json!({ "peers": self.names, "matrix": matrix })
    }

    /// A table for people, line by line: who gave, in rows, how much to whom, in columns.
    pub(crate) fn table(&self) -> Vec<String> {
        let (scale, unit) = unit(self.payload_bytes);
        let cell = |bytes: u64| match bytes {
            0 => format!("{:>6}", "·"),
            _ => format!("{:>6}", tenths(bytes, scale)),
        };
        let receivers = 1..self.names.len();
        let columns: Vec<String> = self.receivers().map(|name| format!("{name:>6}")).collect();
        let mut lines = vec![
            String::new(),
            format!("  Who gave how many {unit} to whom:"),
            format!("    to{}     sum", columns.concat()),
        ];
        for (giver, name) in self.names.iter().enumerate() {
            let row: String = receivers
                .clone()
                .map(|receiver| cell(self.given(giver, receiver)))
                .collect();
            lines.push(format!("  {name}   {row}  {}", cell(self.gave(giver))));
        }
        let got: String = receivers.map(|receiver| cell(self.got(receiver))).collect();
        lines.push(format!("  sum {got}"));
        lines
    }

    /// What is to be learned from it, line by line.
    pub(crate) fn lesson(&self, bound: Bound, seconds: f64) -> Vec<String> {
        let copies = self.seeder_copies();
        let peers = self.names.len().saturating_sub(1);
        let sent = ByteSize(self.seeder_bytes);
        let all: u64 = (1..self.names.len()).map(|peer| self.got(peer)).sum();
        let between = ByteSize(all - self.gave(0));
        let first = format!("  S sent {copies:.2} copies ({sent})");
        let first = if peers == 1 {
            format!("{first}: with one peer there is nobody to help.")
        } else {
            format!("{first}; the other {between} the peers gave to each other.")
        };
        vec![
            String::new(),
            first,
            "  S could leave now: every piece is on every machine.".to_owned(),
            format!(
                "  It took {:.2} times the least possible, {:.1} s; S alone would have taken {:.1} s.",
                bound.ratio(seconds),
                bound.seconds(),
                bound.alone_seconds(),
            ),
        ]
    }
}

/// The unit in which the whole has two digits at least, before the point, if there is one.
const fn unit(bytes: u64) -> (u64, &'static str) {
    match bytes {
        10_000_000_000.. => (1_000_000_000, "GB"),
        1_000_000.. => (1_000_000, "MB"),
        _ => (1_000, "kB"),
    }
}

/// As many units, rounded to tenths.
fn tenths(bytes: u64, unit: u64) -> String {
    let tenths = (u128::from(bytes) * 10 + u128::from(unit) / 2) / u128::from(unit);
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::super::look::tests::look;
    use super::*;

    #[test]
    fn what_was_given_outlives_its_connection() {
        let mut account = Account::new(&['S', 'A', 'B'], 2_000_000);
        let mut seen = look("SAB", &["11", "10", "00"]);
        seen.connect('A', 'S', 1_000_000);
        account.note(&seen);
        seen.end_all('A', 400_000);
        seen.connect('A', 'S', 600_000);
        seen.connect('B', 'A', 700_000);
        account.note(&seen);
        assert_eq!(
            (account.given(0, 1), account.given(1, 2)),
            (2_000_000, 700_000)
        );
        seen.end_all('B', 300_000);
        seen.connect('B', 'S', 1_000_000);
        seen.peers[0].uploaded_bytes = 3_000_000;
        account.note(&seen);
        assert_eq!(
            account.to_json()["matrix"],
            json!([[0, 2_000_000, 1_000_000], [0, 0, 1_000_000], [0, 0, 0]])
        );
        assert!((account.seeder_copies() - 1.5).abs() < 1e-9);
        assert_eq!(
            account.table()[2..],
            [
                "    to     A     B     sum",
                "  S      2.0   1.0     3.0",
                "  A        ·   1.0     1.0",
                "  B        ·     ·       ·",
                "  sum    2.0   2.0",
            ]
        );
    }
}
