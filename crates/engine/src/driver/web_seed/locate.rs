//! Where on a web seed a file of a torrent lies (BEP 19).

use std::fmt::Write as _;

use reqwest::Url;
use riverrun_metainfo::{File, Info};

/// The URL of a file: that of the web seed, if the torrent is one file and that does not end in a slash; else of the
/// directory in which the torrent's name lies. `None` if the base is no URL that can have a path.
///
/// A name goes as it stands in the metadata, not as it is on our disk, and with everything escaped that could mean
/// something else than itself.
pub(super) fn url_of(base: &str, info: &Info, file: &File) -> Option<Url> {
    let mut url = Url::parse(base).ok()?;
    if url.cannot_be_a_base() {
        return None;
    }
    if info.is_single_file() && !url.path().ends_with('/') {
        return Some(url);
    }
    let mut path = url.path().trim_end_matches('/').to_owned();
    match file.raw_path.as_deref().filter(|raw| is_plain(raw)) {
        Some(raw) => raw.iter().for_each(|part| push(&mut path, part)),
        None => file
            .path
            .components()
            .for_each(|part| push(&mut path, part.as_bytes())),
    }
    url.set_path(&path);
    Some(url)
}

/// Whether no part of a path would lead somewhere else: a server, and before it whatever reads the URL, takes two dots
/// for the directory above however they are escaped.
fn is_plain(path: &[Box<[u8]>]) -> bool {
    path.iter()
        .all(|part| !matches!(&part[..], b"" | b"." | b".."))
}

fn push(path: &mut String, part: &[u8]) {
    path.push('/');
    for byte in part {
        let is_plain = byte.is_ascii_alphanumeric() || b"-_.~!()*,".contains(byte);
        if is_plain {
            path.push((*byte).into());
        } else {
            // Writing to a string does not fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use riverrun_bencode::Writer;

    use super::*;

    fn single(name: &[u8]) -> Info {
        let mut writer = Writer::new();
        writer.dict().key(b"length").uint(1);
        writer.key(b"name").bytes(name);
        writer.key(b"piece length").uint(16384);
        writer.key(b"pieces").bytes(&[7; 20]);
        writer.end();
        Info::from_bytes(&writer.finish()).unwrap()
    }

    fn several(name: &[u8], path: &[&[u8]]) -> Info {
        let mut writer = Writer::new();
        writer.dict().key(b"files").list().dict();
        writer.key(b"length").uint(1);
        writer.key(b"path").list();
        for part in path {
            writer.bytes(part);
        }
        writer.end().end().end();
        writer.key(b"name").bytes(name);
        writer.key(b"piece length").uint(16384);
        writer.key(b"pieces").bytes(&[7; 20]);
        writer.end();
        Info::from_bytes(&writer.finish()).unwrap()
    }

    #[track_caller]
    fn check(base: &str, info: &Info, expect: &str) {
        let url = url_of(base, info, &info.layout().files()[0]);
        assert_eq!(url.unwrap().as_str(), expect);
    }

    #[test]
    fn a_single_file_is_the_url_or_lies_in_its_directory() {
        let info = single(b"a b.iso");
        check("http://h/x.iso", &info, "http://h/x.iso");
        check("http://h/dir/", &info, "http://h/dir/a%20b.iso");
        check("http://h", &info, "http://h/a%20b.iso");
        check("http://h/d/?key=1", &info, "http://h/d/a%20b.iso?key=1");
    }

    #[test]
    fn several_files_lie_below_the_name_of_the_torrent() {
        let info = several(b"name", &[b"sub dir", "\u{e4}?#%.txt".as_bytes()]);
        let expect = "http://h/pub/name/sub%20dir/%C3%A4%3F%23%25.txt";
        check("http://h/pub/", &info, expect);
        check("http://h/pub", &info, expect);
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        let info = several(b"name", &[b"..", b"..", b"secret"]);
        let url = url_of("http://h/pub/", &info, &info.layout().files()[0]).unwrap();
        assert!(url.path().starts_with("/pub/"), "{url}");
        let info = several(b"name", &[b"a/../../b"]);
        check("http://h/pub/", &info, "http://h/pub/name/a%2F..%2F..%2Fb");
    }
}
