//! The swarm as lines on a terminal: a map of pieces for each peer, and what moves.

use clap::builder::styling::{AnsiColor, Style};
use indicatif::ProgressBar;
use riverrun_base::{Bitfield, ByteSize, PieceIndex, Rate};

use super::account::Account;
use super::bound::Bound;
use super::look::{Look, PeerLook};
use crate::screen::Screen;
use crate::transfer::Progress;

/// The widest map; wider ones say no more.
const CELLS_MAX: usize = 48;
/// The narrowest one that still says something.
const CELLS_MIN: usize = 10;
/// The columns beside the map: name, frame, percent and rates.
const FIXED_COLUMNS: usize = 29;
/// As much as four sources need: ` S 40% A 30% B 20% C 10%`.
const FEEDS_COLUMNS: usize = 23;

const FILLING: Style = AnsiColor::Cyan.on_default();
const FULL: Style = AnsiColor::Green.on_default();
const QUIET: Style = Style::new().dimmed();

/// A head line, a line of titles, and a line a peer.
pub(crate) struct Picture {
    bound: Bound,
    coloured: bool,
    head: ProgressBar,
    titles: ProgressBar,
    lines: Vec<ProgressBar>,
}

impl Picture {
    pub(crate) fn new(names: &[char], bound: Bound, progress: &mut Progress<'_>) -> Self {
        Self {
            bound,
            coloured: progress.is_coloured(),
            head: progress.add_text(),
            titles: progress.add_text(),
            lines: names.iter().map(|_| progress.add_text()).collect(),
        }
    }

    /// Shows how it is now.
    pub(crate) fn update(&self, look: &Look, account: &Account) {
        if self.head.is_hidden() {
            return;
        }
        let cells = cells(Screen::columns());
        self.head.set_message(head(look, account, self.bound));
        let titles = format!(
            "  {:width$}  have   gets/s  gives/s  from",
            "  which pieces each has",
            width = cells
        );
        self.titles.set_message(self.styled(QUIET, &titles));
        for (at, (line, peer)) in self.lines.iter().zip(&look.peers).enumerate() {
            line.set_message(self.line(look, peer, at == 0, cells));
        }
    }

    /// Takes the picture away.
    pub(crate) fn clear(&self) {
        for line in [&self.head, &self.titles].into_iter().chain(&self.lines) {
            line.finish_and_clear();
        }
    }

    fn line(&self, look: &Look, peer: &PeerLook, is_seeder: bool, cells: usize) -> String {
        let style = if peer.pieces.all() { FULL } else { FILLING };
        let map = self.styled(style, &map(&peer.pieces, cells));
        let percent = percent(&peer.pieces);
        let (down, up) = (shown(peer.down), shown(peer.up));
        let feeds = match (is_seeder, peer.is_complete) {
            (true, _) => "the seeder".to_owned(),
            (_, true) => "a seeder now".to_owned(),
            (..) => feeds(look, peer),
        };
        let name = peer.name;
        format!("{name} ▕{map}▏{percent:>4}%{down:>9}{up:>9}  {feeds}")
    }

    fn styled(&self, style: Style, text: &str) -> String {
        if self.coloured {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}

/// The time, and how much the seeder has given.
fn head(look: &Look, account: &Account, bound: Bound) -> String {
    format!(
        "{:5.1} s of {:.1} s at least   S has given {:.2} copies of {}",
        look.at.as_secs_f64(),
        bound.seconds(),
        account.seeder_copies(),
        ByteSize(bound.payload_bytes()),
    )
}

/// How wide the maps are on a terminal of that width.
fn cells(columns: usize) -> usize {
    columns
        .saturating_sub(FIXED_COLUMNS + FEEDS_COLUMNS)
        .clamp(CELLS_MIN, CELLS_MAX)
}

/// A cell for each part of the pieces, darker the more of them are there.
fn map(pieces: &Bitfield, cells: usize) -> String {
    let count = pieces.len() as usize;
    let cell = |at: usize| {
        let first = at * count / cells;
        let end = ((at + 1) * count / cells).max(first + 1);
        let has = (first..end)
            .filter_map(|piece| u32::try_from(piece).ok())
            .filter(|piece| pieces.has(PieceIndex(*piece)))
            .count();
        shade(has, end - first)
    };
    (0..cells).map(cell).collect()
}

const fn shade(has: usize, of: usize) -> char {
    match has {
        0 => ' ',
        _ if has >= of => '█',
        _ if has * 3 < of => '░',
        _ if has * 3 < of * 2 => '▒',
        _ => '▓',
    }
}

/// How much is there, rounded down: all is all.
fn percent(pieces: &Bitfield) -> u64 {
    let (has, of) = (u64::from(pieces.count_ones()), u64::from(pieces.len()));
    (has * 100).checked_div(of).unwrap_or(100)
}

/// A rate, without the `/s` that the title has; nothing for nothing.
fn shown(rate: Rate) -> String {
    match rate.bytes_per_second() {
        0 => String::new(),
        bytes => ByteSize(bytes).to_string(),
    }
}

fn feeds(look: &Look, peer: &PeerLook) -> String {
    let feeds = look.feeds(peer);
    let parts: Vec<String> = feeds
        .iter()
        .map(|(name, percent)| format!("{name} {percent}%"))
        .collect();
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::look::tests::look;
    use super::*;

    #[test]
    fn a_map_shows_which_parts_are_there() {
        let check = |pieces: &str, cells, expected: &str| {
            let look = look("S", &[pieces]);
            assert_eq!(map(&look.peers[0].pieces, cells), expected, "{pieces}");
        };
        check("0000", 4, "    ");
        check("1111", 4, "████");
        check("1010", 2, "▒▒");
        check("10001101", 2, "░▓");
        check("10", 6, "███   ");
    }

    #[test]
    fn sources_are_told_by_their_part() {
        let mut look = look("SAB", &["11", "10", "01"]);
        look.connect('B', 'S', 1_000);
        look.connect('B', 'A', 3_000);
        assert_eq!(feeds(&look, &look.peers[2]), "A 75% S 25%");
        assert_eq!(feeds(&look, &look.peers[1]), "");
    }

    #[test]
    fn maps_fit_the_terminal() {
        assert_eq!([20, 80, 120].map(cells), [10, 28, 48]);
    }
}
