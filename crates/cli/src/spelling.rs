//! What someone may have meant by a name that is not known.

/// The name nearest to `wrong`, if one is so near that it may be meant.
pub(crate) fn nearest<'a>(
    wrong: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let near = names
        .into_iter()
        .map(|name| (distance(wrong, name), name))
        .min()?;
    (near.0 <= wrong.len().div_ceil(2).min(3)).then_some(near.1)
}

/// How many letters must be put in, taken out or changed to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_nonsense_none() {
        let names = ["listen", "limit", "limit-up", "tracker"];
        for (wrong, meant) in [
            ("lisen", Some("listen")),
            ("limt", Some("limit")),
            ("limit_up", Some("limit-up")),
            ("trackers", Some("tracker")),
            ("zebra", None),
        ] {
            assert_eq!(nearest(wrong, names), meant, "{wrong}");
        }
    }
}
