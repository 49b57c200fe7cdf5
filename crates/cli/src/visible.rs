//! Makes visible what a terminal would obey: names in torrents are written by strangers.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a terminal may act on the character, or it changes how its neighbours read: control characters,
/// marks of direction (as in "Trojan source"), and characters of no width.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The text on one line, with such characters spelled out: `\n`, `\u{1b}`, `\u{202e}`.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let spelled = text
        .chars()
        .fold(String::with_capacity(text.len()), |mut out, c| {
            match c {
                '\n' | '\r' | '\t' => out.extend(c.escape_default()),
                c if is_unsafe(c) => out.extend(c.escape_unicode()),
                c => out.push(c),
            }
            out
        });
    Cow::Owned(spelled)
}

/// The JSON text with such characters as `\u` and four digits. They can only stand inside of strings, where that means the
/// same.
pub(crate) fn visible_json(json: &str) -> Cow<'_, str> {
    if !json.contains(is_unsafe) {
        return Cow::Borrowed(json);
    }
    let escaped = json
        .chars()
        .fold(String::with_capacity(json.len()), |mut out, c| {
            if is_unsafe(c) {
                // Writing to a string cannot fail, and all of these are in the basic plane.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            } else {
                out.push(c);
            }
            out
        });
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_escapes_are_spelled_out() {
        for (text, shown) in [
            ("plain ü 漢 🧿", "plain ü 漢 🧿"),
            ("a\u{1b}[31mb", "a\\u{1b}[31mb"),
            ("two\nlines\t", "two\\nlines\\t"),
            ("\u{9b}0m", "\\u{9b}0m"),
            ("exe\u{202e}gpj.", "exe\\u{202e}gpj."),
            ("zero\u{200b}width", "zero\\u{200b}width"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }

    #[test]
    fn json_stays_the_same_json() {
        let name = "a\u{1b}b\u{7f}c\u{202e}d";
        let json = serde_json::to_string(name).unwrap();
        let safe = visible_json(&json);
        assert!(!safe.contains(is_unsafe), "{safe}");
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), name);
    }
}
