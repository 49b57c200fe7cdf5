//! Numbers and lists as people say them.

use std::fmt::Display;

/// `A`, `A and B`, `A, B and C`.
pub(crate) fn list<T: Display>(items: &[T]) -> String {
    match items {
        [] => String::new(),
        [one] => one.to_string(),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(ToString::to_string).collect();
            format!("{} and {last}", first.join(", "))
        }
    }
}

/// `one` to `ten`, then digits.
pub(crate) fn number(n: usize) -> String {
    const WORDS: [&str; 11] = [
        "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    ];
    WORDS
        .get(n)
        .map_or_else(|| n.to_string(), |word| (*word).to_owned())
}

/// `1 piece`, `2 pieces`.
pub(crate) fn count(n: usize, noun: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{s}")
}

/// Bytes, in binary units where that is exact, else in decimal ones.
pub(crate) fn size(bytes: u64) -> String {
    for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{} {name}", bytes / unit);
        }
    }
    riverrun_base::ByteSize(bytes).to_string()
}

/// Seconds, with as many digits as say something.
pub(crate) fn seconds(s: f64) -> String {
    match s {
        s if s < 10.0 => format!("{s:.2} s"),
        s if s < 100.0 => format!("{s:.1} s"),
        s => format!("{s:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_numbers_read_as_english() {
        assert_eq!(list(&["A"]), "A");
        assert_eq!(list(&["A", "B"]), "A and B");
        assert_eq!(list(&["A", "B", "C"]), "A, B and C");
        assert_eq!(list::<u32>(&[]), "");
        assert_eq!([number(3), number(11)], ["three", "11"]);
        assert_eq!(
            [count(1, "piece"), count(0, "piece")],
            ["1 piece", "0 pieces"]
        );
        assert_eq!(
            [size(262_144), size(1 << 20), size(1500)],
            ["256 KiB", "1 MiB", "1.50 kB"]
        );
        assert_eq!(
            [seconds(1.234), seconds(61.55), seconds(100.2)],
            ["1.23 s", "61.5 s", "100 s"]
        );
    }
}
