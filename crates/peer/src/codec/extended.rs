//! The handshake of the extension protocol (BEP 10), and what the extensions add to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use riverrun_bencode::{Dict, Document, Limits, Value, Writer};

use crate::codec::reader::EXTENDED_LEN_MAX;
use crate::error::PeerMisbehaved;

/// The ids under which peers send us extended messages. They are ours to choose; these are those of the
/// most widespread library, so that its captures and seeds read alike.
pub(crate) mod id {
    pub(crate) const HANDSHAKE: u8 = 0;
    pub(crate) const EXCHANGE: u8 = 1;
    pub(crate) const METADATA: u8 = 2;
    pub(crate) const UPLOAD_ONLY: u8 = 3;
    pub(crate) const HOLEPUNCH: u8 = 4;
    pub(crate) const DONT_HAVE: u8 = 7;
    pub(crate) const HAVE_BLOCKS: u8 = 16;
}

/// The longest metadata over the wire, in bytes. Beyond it a torrent file is the better way.
pub(crate) const METADATA_LEN_MAX: u32 = 32 << 20;
/// The longest client name that is kept, in characters.
const CLIENT_LEN_MAX: usize = 64;
/// A handshake has some dozen keys in practice, and a value each.
const LIMITS: Limits = Limits {
    depth: 8,
    tokens: 2048,
    bytes: EXTENDED_LEN_MAX as usize,
};

/// What we say of ourselves.
#[expect(clippy::struct_excessive_bools, reason = "as the protocol has it")]
#[derive(Clone, Debug, Default)]
pub(crate) struct OurHandshake<'a> {
    pub(crate) client: Option<&'a str>,
    pub(crate) listen_port: Option<u16>,
    pub(crate) request_queue_max: u16,
    pub(crate) metadata_len: Option<u32>,
    pub(crate) upload_only: bool,
    pub(crate) your_ip: Option<IpAddr>,
    /// We tell and are told of other peers (BEP 11).
    pub(crate) exchange: bool,
    /// We can meet peers through others, and have others meet (BEP 55).
    pub(crate) holepunch: bool,
    /// We hear of single blocks that are verified, and tell of ours.
    pub(crate) blocks: bool,
    /// We would rather have connections encrypted.
    pub(crate) prefers_encryption: bool,
}

impl OurHandshake<'_> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.dict();
        if self.prefers_encryption {
            writer.key(b"e").uint(1);
        }
        writer.key(b"m").dict();
        writer.key(b"lt_donthave").uint(id::DONT_HAVE.into());
        if self.blocks {
            writer.key(b"rr_have_blocks").uint(id::HAVE_BLOCKS.into());
        }
        writer.key(b"upload_only").uint(id::UPLOAD_ONLY.into());
        if self.holepunch {
            writer.key(b"ut_holepunch").uint(id::HOLEPUNCH.into());
        }
        writer.key(b"ut_metadata").uint(id::METADATA.into());
        if self.exchange {
            writer.key(b"ut_pex").uint(id::EXCHANGE.into());
        }
        writer.end();
        if let Some(len) = self.metadata_len {
            writer.key(b"metadata_size").uint(len.into());
        }
        if let Some(port) = self.listen_port {
            writer.key(b"p").uint(port.into());
        }
        writer.key(b"reqq").uint(self.request_queue_max.into());
        if self.upload_only {
            writer.key(b"upload_only").uint(1);
        }
        if let Some(client) = self.client {
            writer.key(b"v").bytes(client.as_bytes());
        }
        match self.your_ip.map(|ip| ip.to_canonical()) {
            Some(IpAddr::V4(ip)) => _ = writer.key(b"yourip").bytes(&ip.octets()),
            Some(IpAddr::V6(ip)) => _ = writer.key(b"yourip").bytes(&ip.octets()),
            None => {}
        }
        writer.end();
        writer.finish()
    }
}

/// What a peer's handshake says. `None` stands for what it does not speak of: it stays as it was, since
/// handshakes add up (BEP 10).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TheirHandshake {
    pub(crate) ids: TheirIds,
    pub(crate) client: Option<String>,
    pub(crate) listen_port: Option<u16>,
    pub(crate) request_queue_max: Option<u32>,
    pub(crate) metadata_len: Option<u32>,
    pub(crate) our_ip: Option<IpAddr>,
    pub(crate) ipv4: Option<Ipv4Addr>,
    pub(crate) ipv6: Option<Ipv6Addr>,
    pub(crate) upload_only: Option<bool>,
    pub(crate) prefers_encryption: Option<bool>,
}

/// The ids under which the peer takes extended messages; 0 is "not any more".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TheirIds {
    pub(crate) metadata: Option<u8>,
    pub(crate) upload_only: Option<u8>,
    pub(crate) dont_have: Option<u8>,
    pub(crate) have_blocks: Option<u8>,
    pub(crate) exchange: Option<u8>,
    pub(crate) holepunch: Option<u8>,
}

impl TheirIds {
    /// Takes over what `other` speaks of.
    pub(crate) fn add(&mut self, other: Self) {
        self.metadata = other.metadata.or(self.metadata);
        self.upload_only = other.upload_only.or(self.upload_only);
        self.dont_have = other.dont_have.or(self.dont_have);
        self.have_blocks = other.have_blocks.or(self.have_blocks);
        self.exchange = other.exchange.or(self.exchange);
        self.holepunch = other.holepunch.or(self.holepunch);
    }
}

impl TheirHandshake {
    /// Unknown keys, and values of the wrong type or out of range, are as if they were not there.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, PeerMisbehaved> {
        let document = Document::parse(payload, LIMITS)
            .map_err(|_| PeerMisbehaved::Extended("the handshake is not bencode"))?;
        let dict = document.root().as_dict();
        let dict = dict.ok_or(PeerMisbehaved::Extended("the handshake is no dictionary"))?;
        let get = |key| dict.get(key);
        let octets = |key| get(key).and_then(|value| value.as_bytes());
        let upload_only = get(b"upload_only").and_then(|value| value.as_int());
        Ok(Self {
            ids: their_ids(&dict),
            client: octets(b"v").and_then(clean_client),
            listen_port: get(b"p").and_then(positive),
            request_queue_max: get(b"reqq").and_then(positive),
            metadata_len: get(b"metadata_size")
                .and_then(positive)
                .filter(|len| *len <= METADATA_LEN_MAX),
            our_ip: octets(b"yourip").and_then(ip),
            ipv4: octets(b"ipv4")
                .and_then(|octets| <[u8; 4]>::try_from(octets).ok().map(Into::into)),
            ipv6: octets(b"ipv6")
                .and_then(|octets| <[u8; 16]>::try_from(octets).ok().map(Into::into)),
            upload_only: upload_only.map(|flag| flag != 0),
            prefers_encryption: get(b"e").and_then(|e| e.as_int()).map(|e| e != 0),
        })
    }
}

fn their_ids(dict: &Dict<'_, '_>) -> TheirIds {
    let messages = dict.get(b"m").and_then(|m| m.as_dict());
    let id = |key| {
        let id = messages.as_ref()?.get(key)?.as_u64()?;
        u8::try_from(id).ok()
    };
    TheirIds {
        metadata: id(b"ut_metadata"),
        upload_only: id(b"upload_only"),
        dont_have: id(b"lt_donthave"),
        have_blocks: id(b"rr_have_blocks"),
        exchange: id(b"ut_pex"),
        holepunch: id(b"ut_holepunch"),
    }
}

fn positive<T: TryFrom<u64>>(value: Value<'_, '_>) -> Option<T> {
    let number = value.as_u64().filter(|number| *number > 0)?;
    T::try_from(number).ok()
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(v4.into());
    }
    let v6 = <[u8; 16]>::try_from(octets).ok()?;
    Some(IpAddr::from(v6).to_canonical())
}

/// A name that can be shown: no control characters, not too long; `None` if nothing is left.
fn clean_client(name: &[u8]) -> Option<String> {
    // A character is at most four bytes, so no more can matter.
    let name = &name[..name.len().min(CLIENT_LEN_MAX * 8)];
    let shown = String::from_utf8_lossy(name);
    let clean: String = shown
        .chars()
        .filter(|c| !c.is_control() && !is_invisible(*c))
        .take(CLIENT_LEN_MAX)
        .collect();
    let clean = clean.trim();
    (!clean.is_empty()).then(|| clean.to_owned())
}

/// Characters that reorder or hide what stands around them.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(payload: &[u8]) -> TheirHandshake {
        TheirHandshake::parse(payload).unwrap()
    }

    #[test]
    fn what_we_say_is_understood() {
        let ours = OurHandshake {
            client: Some("riverrun 0.1"),
            listen_port: Some(6881),
            request_queue_max: 512,
            metadata_len: Some(31235),
            upload_only: true,
            your_ip: Some("::ffff:10.1.2.3".parse().unwrap()),
            exchange: true,
            holepunch: true,
            blocks: true,
            prefers_encryption: true,
        };
        let theirs = parse(&ours.encode());
        let expected = TheirHandshake {
            ids: TheirIds {
                metadata: Some(id::METADATA),
                upload_only: Some(id::UPLOAD_ONLY),
                dont_have: Some(id::DONT_HAVE),
                have_blocks: Some(id::HAVE_BLOCKS),
                exchange: Some(id::EXCHANGE),
                holepunch: Some(id::HOLEPUNCH),
            },
            client: Some("riverrun 0.1".into()),
            listen_port: Some(6881),
            request_queue_max: Some(512),
            metadata_len: Some(31235),
            our_ip: Some("10.1.2.3".parse().unwrap()),
            ipv4: None,
            ipv6: None,
            upload_only: Some(true),
            prefers_encryption: Some(true),
        };
        assert_eq!(theirs, expected);
        let quiet = OurHandshake::default().encode();
        assert_eq!(
            quiet,
            b"d1:md11:lt_donthavei7e11:upload_onlyi3e11:ut_metadatai2ee4:reqqi0ee"
        );
    }

    #[test]
    fn odd_values_are_as_if_they_were_not_there() {
        let nothing = TheirHandshake::default();
        for odd in [
            &b"de"[..],
            b"d1:pi0ee",
            b"d1:pi65536ee",
            b"d1:pi-1ee",
            b"d1:p4:6881e",
            b"d4:reqqi-5ee",
            b"d13:metadata_sizei0ee",
            b"d13:metadata_sizei33554433ee",
            b"d6:yourip5:abcdee",
            b"d4:ipv416:aaaaaaaaaaaaaaaae",
            b"d1:v3:\x00\x07\x1be",
            b"d1:mi1ee",
            b"d1:md11:ut_metadatai256eee",
            b"d11:upload_only1:1e",
            b"d7:unknownd1:ali1eeee",
        ] {
            assert_eq!(parse(odd), nothing, "{}", odd.escape_ascii());
        }
    }

    #[test]
    fn handshakes_add_up_and_zero_disables() {
        let mut ids = parse(b"d1:md11:lt_donthavei9e11:ut_metadatai4eee").ids;
        ids.add(parse(b"d1:md11:ut_metadatai0eee").ids);
        assert_eq!((ids.metadata, ids.dont_have), (Some(0), Some(9)));
        assert_eq!(parse(b"d11:upload_onlyi0ee").upload_only, Some(false));
    }

    #[test]
    fn names_are_fit_to_be_shown() {
        let name = |raw: &[u8]| clean_client(raw);
        assert_eq!(name(b"qBittorrent/5.0").as_deref(), Some("qBittorrent/5.0"));
        assert_eq!(name(b"a\x1b[31mb\n").as_deref(), Some("a[31mb"));
        assert_eq!(name("x\u{202e}y".as_bytes()).as_deref(), Some("xy"));
        assert_eq!(name(b"\xff").as_deref(), Some("\u{fffd}"));
        assert_eq!(name(&[b'a'; 5000]).map(|name| name.len()), Some(64));
        assert_eq!(name(b""), None);
    }

    #[test]
    fn what_is_no_dictionary_is_the_peers_fault() {
        for bad in [&b""[..], b"i1e", b"d1:pi1e", b"de ", b"garbage"] {
            let error = TheirHandshake::parse(bad);
            assert!(
                matches!(error, Err(PeerMisbehaved::Extended(_))),
                "{}",
                bad.escape_ascii()
            );
        }
    }
}
