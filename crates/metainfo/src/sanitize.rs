//! Path elements from strangers, made harmless.
//!
//! Follows the library with the largest installed base (libtorrent 2.1, on Linux) to the letter, so
//! that two clients with one torrent find the same names on disk.

/// An element stops growing at this many bytes; only an extension is added. With the extension, and
/// the character that crosses the limit, it stays below the 255 bytes of Linux file systems.
const ELEMENT_LEN: usize = 240;
/// How far from the end of an element its extension may begin, in bytes, the dot included.
const EXTENSION_LEN: usize = 9;
/// What stands for bytes and characters that have no place in a name, and for names of nothing.
const REPLACEMENT: char = '_';

/// The element without what is dangerous; `None` if nothing, or only `.` or `..`, would be left.
///
/// Dropped: path separators, and characters that are invisible or change the direction of writing
/// (they disguise names). Replaced by `_`: control characters, and what is no UTF-8.
pub(crate) fn sanitize_element(raw: &[u8]) -> Option<String> {
    if raw.is_empty() {
        return Some(REPLACEMENT.into());
    }
    let mut name = String::with_capacity(raw.len().min(ELEMENT_LEN + 4 + EXTENSION_LEN));
    let mut at = 0;
    let mut in_extension = false;
    while at < raw.len() {
        let (decoded, len) = decode(&raw[at..]);
        match decoded {
            Some(c) if is_dropped(c) => {
                at += len;
                continue;
            }
            Some(c) if !is_replaced(c) => name.push(c),
            _ => name.push(REPLACEMENT),
        }
        if name.len() >= ELEMENT_LEN && !in_extension {
            let Some(dot) = extension(raw, at) else { break };
            (at, in_extension) = (dot, true);
        } else {
            at += len;
        }
    }
    (!matches!(name.as_str(), "" | "." | "..")).then_some(name)
}

/// The element without what is dangerous; never empty.
pub(crate) fn sanitize_forced(raw: &[u8]) -> String {
    sanitize_element(raw).unwrap_or_else(|| REPLACEMENT.into())
}

/// Where the extension begins, if it does so after `at`.
fn extension(raw: &[u8], at: usize) -> Option<usize> {
    let first = raw.len().saturating_sub(EXTENSION_LEN).max(at + 1);
    (first..raw.len()).rev().find(|i| raw[*i] == b'.')
}

fn is_replaced(c: char) -> bool {
    c.is_control()
}

/// NUL and path separators; the Arabic letter mark, zero-width characters and marks of direction,
/// embeddings and overrides, invisible operators, isolates, and the byte order mark.
fn is_dropped(c: char) -> bool {
    matches!(c,
        '\0' | '/' | '\\' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The first character, `None` if it is no UTF-8, and how many bytes to skip. A lead byte takes as
/// many bytes with it as it claims, whatever they are: so does the model, and names must come out
/// alike.
fn decode(bytes: &[u8]) -> (Option<char>, usize) {
    let claimed = match bytes[0] {
        0..0x80 => 1,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0..0xf8 => 4,
        0xf8..0xfc => 5,
        _ => return (None, 1),
    };
    match bytes.get(..claimed) {
        None => (None, bytes.len()),
        Some(sequence) => {
            let c = std::str::from_utf8(sequence)
                .ok()
                .and_then(|text| text.chars().next());
            (c, claimed)
        }
    }
}

/// Text that is shown to people: bytes that are no UTF-8 become `_`, as in path elements.
pub(crate) fn lossy_text(raw: &[u8]) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut at = 0;
    while at < raw.len() {
        let (c, len) = decode(&raw[at..]);
        text.push(c.unwrap_or(REPLACEMENT));
        at += len;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &[u8], expected: Option<&str>) {
        assert_eq!(
            sanitize_element(raw).as_deref(),
            expected,
            "{}",
            raw.escape_ascii()
        );
    }

    #[test]
    fn names_of_nothing_are_nothing_unless_forced() {
        for raw in [
            &b"."[..],
            b"..",
            b"/",
            b"\\",
            b"//\\",
            b"/..",
            b"\xe2\x80\x8e.",
        ] {
            check(raw, None);
            assert_eq!(sanitize_forced(raw), "_");
        }
        check(b"", Some("_"));
        check(b"...", Some("..."));
        check(b"abc...", Some("abc..."));
        check(b"a. . .", Some("a. . ."));
        check(b"   ", Some("   "));
    }

    #[test]
    fn separators_are_dropped() {
        check(b"/a/", Some("a"));
        check(b"\\c", Some("c"));
        check(b"abc/../../def", Some("abc....def"));
        check(b"c:", Some("c:"));
        check(b"a...b", Some("a...b"));
    }

    #[test]
    fn control_characters_are_replaced() {
        check(b"\0\0\xed\0\x80", Some("_"));
        check(b"\0a\x01b\0", Some("a_b"));
        check(b"\x08?filename=4", Some("_?filename=4"));
        check(b"foo\x7fbar", Some("foo_bar"));
        check(b"foo\xc2\x80bar", Some("foo_bar"));
        check(b"foo\xc2\x9fbar", Some("foo_bar"));
    }

    #[test]
    fn what_is_no_utf8_is_replaced() {
        check(b"filename\xc2\xa1", Some("filename\u{a1}"));
        check(b"filename\xc2", Some("filename_"));
        check(b"filename\xe2\x9f\xb9", Some("filename\u{27f9}"));
        check(b"filename\xe2\x9f", Some("filename_"));
        check(b"filename\xe2", Some("filename_"));
        check(b"filename\xf0\x9f\x92\x88", Some("filename\u{1f488}"));
        check(b"filename\xf0\x9f\x92", Some("filename_"));
        check(
            b"filename\xf8\x9f\x9f\x9f\x9ffoobar",
            Some("filename_foobar"),
        );
        check(b"filename\xc0\xae", Some("filename_"));
        check(b"filename\xe0\x80\xae", Some("filename_"));
        check(b"filename\xf0\x80\x80\xae", Some("filename_"));
        check(b"\x82est/MB", Some("_estMB"));
        check(b"\xed\xa0\x80x", Some("_x"));
        check(b"\xe2ab-", Some("_-"));
    }

    #[test]
    fn disguises_are_dropped() {
        for hidden in [
            '\u{200e}', '\u{202b}', '\u{200b}', '\u{200d}', '\u{2060}', '\u{2062}', '\u{2066}',
        ] {
            check(format!("foo{hidden}bar").as_bytes(), Some("foobar"));
        }
        for hidden in ['\u{2069}', '\u{61c}', '\u{feff}', '\u{202e}'] {
            check(format!("foo{hidden}bar").as_bytes(), Some("foobar"));
        }
    }

    #[test]
    fn long_names_are_cut_and_keep_their_extension() {
        let tens = |n: usize| "abcdefghi_".repeat(n);
        check(tens(25).as_bytes(), Some(&tens(24)));
        check(
            (tens(24) + "abcde.test").as_bytes(),
            Some(&(tens(24) + ".test")),
        );
        let crossing = tens(23) + "abcdefghi\u{2014}";
        check(
            (crossing.clone() + "abcde.jpg").as_bytes(),
            Some(&(crossing + ".jpg")),
        );
        check((tens(24) + ".longextension").as_bytes(), Some(&tens(24)));
        check(&b"x".repeat(100_000), Some(&"x".repeat(240)));
        check(
            "\u{1f488}".repeat(100).as_bytes(),
            Some(&"\u{1f488}".repeat(60)),
        );
    }

    #[test]
    fn sanitising_twice_changes_nothing() {
        for raw in [&b"\xe2ab\0/..\\x"[..], &[0xff; 300], &[b'.'; 300], b"a.b"] {
            let once = sanitize_forced(raw);
            assert_eq!(sanitize_forced(once.as_bytes()), once);
        }
    }
}
