//! Text from strangers, made fit to be shown.

/// How many characters of a tracker's text are kept: a line or two.
const TEXT_CHARS_MAX: usize = 256;

/// Bytes that a tracker sent for people to read, as one line: what is not UTF-8 is replaced, control
/// characters (they would drive a terminal) and characters that turn the direction of text are left out.
pub(crate) fn one_line(bytes: &[u8]) -> String {
    // A character has at most four bytes: no need to look at more of a long text.
    let bytes = &bytes[..bytes.len().min(4 * TEXT_CHARS_MAX)];
    let text = String::from_utf8_lossy(bytes);
    let shown = text
        .trim()
        .chars()
        .filter(|c| !c.is_control() && !turns_direction(*c));
    shown.take(TEXT_CHARS_MAX).collect()
}

const fn turns_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_strangers_is_one_harmless_line() {
        for (bytes, shown) in [
            (&b" unregistered torrent\r\n"[..], "unregistered torrent"),
            (b"a\x1b[2Jb\nc", "a[2Jbc"),
            (b"caf\xe9", "caf\u{fffd}"),
            ("a\u{202e}b".as_bytes(), "ab"),
            (b"", ""),
        ] {
            assert_eq!(one_line(bytes), shown);
        }
        assert_eq!(one_line(&[b'x'; 10_000]).len(), TEXT_CHARS_MAX);
        assert_eq!(
            one_line("ü".repeat(10_000).as_bytes()).chars().count(),
            TEXT_CHARS_MAX
        );
    }
}
