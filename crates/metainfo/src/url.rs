//! The addresses of trackers and web seeds, as torrent files and magnet links have them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// What may be the address of a tracker.
const TRACKER_SCHEMES: [&str; 5] = ["http", "https", "udp", "ws", "wss"];
/// What stays in the path of a web seed that has to be escaped.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'!')
    .remove(b'.')
    .remove(b'~')
    .remove(b'*')
    .remove(b'(')
    .remove(b')');

/// The address of a tracker without white space in front; `None` if it cannot be one: the scheme is
/// unknown, there is no host, or there are spaces or control characters (which could smuggle
/// headers into a request).
pub(crate) fn tracker_url(raw: &[u8]) -> Option<String> {
    let url = std::str::from_utf8(raw).ok()?.trim_ascii_start();
    let (scheme, rest) = url.split_once("://")?;
    let known = TRACKER_SCHEMES
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known));
    let clean = url.bytes().all(|byte| byte > b' ' && byte != 0x7f);
    (known && clean && is_authority(rest.split(['/', '?', '#']).next()?)).then(|| url.to_owned())
}

/// Whether this is a host, with or without a user before and a port after it.
fn is_authority(authority: &str) -> bool {
    let place = authority
        .rsplit_once('@')
        .map_or(authority, |(_, place)| place);
    let (host, port) = match place
        .strip_prefix('[')
        .map(|literal| literal.split_once(']'))
    {
        Some(Some((host, rest))) => (host, rest.strip_prefix(':').unwrap_or(rest)),
        Some(None) => return false,
        None => place.split_once(':').unwrap_or((place, "1")),
    };
    let in_literal = |c: char| {
        c.is_ascii_hexdigit() || matches!(c, ':' | '.' | '%' | '_' | '~') || c.is_alphanumeric()
    };
    let in_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
    let valid_host = if place.starts_with('[') {
        host.chars().all(in_literal)
    } else {
        host.chars().all(in_name)
    };
    valid_host
        && !host.is_empty()
        && (port.is_empty() || port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// The address of a web seed. If its path has characters that no address may have, the path was
/// written unescaped: then all of it is escaped. Seeds of several files are directories and end in
/// a slash (BEP 19).
pub(crate) fn web_seed_url(raw: &[u8], in_directory: bool) -> String {
    let host = raw
        .windows(3)
        .position(|window| window == b"://")
        .map(|at| at + 3);
    let path =
        host.and_then(|host| Some(host + raw[host..].iter().position(|byte| *byte == b'/')?));
    let mut url = match path.filter(|path| raw[*path..].iter().any(|byte| !is_url_byte(*byte))) {
        Some(path) => {
            String::from_utf8_lossy(&raw[..path]).into_owned()
                + &percent_encode(&raw[path..], PATH).to_string()
        }
        None => String::from_utf8_lossy(raw).into_owned(),
    };
    if in_directory && !url.ends_with('/') {
        url.push('/');
    }
    url
}

/// Whether an address may have this byte (RFC 2396); the apostrophe, which it may, breaks some
/// servers.
fn is_url_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"%+;?:@=&,$/-_!.~*()".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_are_trackers() {
        let check = |url: &str, expected: Option<&str>| {
            assert_eq!(tracker_url(url.as_bytes()).as_deref(), expected, "{url:?}");
        };
        check(
            "\n udp://test.com/announce",
            Some("udp://test.com/announce"),
        );
        for good in [
            "http://test.com/announce",
            "HTTPS://test.com",
            "wss://t.com/?a=b",
            "udp://[2001:db8::1]:6969",
            "http://user:pass@host:80/x",
            "http://t.com:/x",
            "udp://my_tracker:1337/announce",
        ] {
            check(good, Some(good));
        }
        for bad in [
            "",
            "invalid url",
            "ftp://test.com",
            "httpfoo://test.com",
            "http://",
            "http:///announce",
            "http://a b/",
            "http://t.com/a\r\nHost: x",
            "udp://t.com:0",
            "udp://t.com:65536",
            "udp://[::1",
            "http:/t.com",
            "magnet:?xt=urn:btih:abc123",
        ] {
            check(bad, None);
        }
        assert_eq!(tracker_url(b"udp://tracker.openjnt.com%\xf7"), None);
    }

    #[test]
    fn web_seeds_are_escaped_once() {
        let check = |url: &[u8], in_directory, expected: &str| {
            assert_eq!(
                web_seed_url(url, in_directory),
                expected,
                "{}",
                url.escape_ascii()
            );
        };
        check(b"http://test.com/file", false, "http://test.com/file");
        check(b"http://test.com/file", true, "http://test.com/file/");
        check(b"http://test.com/file/", true, "http://test.com/file/");
        check(
            b"http://test.com/test file/foo bar/",
            true,
            "http://test.com/test%20file/foo%20bar/",
        );
        check(
            b"http://test.com/test%20file/",
            true,
            "http://test.com/test%20file/",
        );
        check(
            b"http://a:b@test.com:80/x\xff",
            false,
            "http://a:b@test.com:80/x%FF",
        );
        check(b"no address at all", false, "no address at all");
    }
}
