//! The header and its extensions on the wire (BEP 29, "header format").

use crate::seq::Seq;

/// A header without extensions.
pub(crate) const HEADER_LEN: usize = 20;

/// The version that all of the field speaks.
const VERSION: u8 = 1;

/// The extension that carries selective acknowledgements.
const EXTENSION_SACK: u8 = 1;

/// The extension that we pad probes of the path's size with. Nobody knows it, so everybody skips it ("unknown
/// extensions can be skipped").
const EXTENSION_PADDING: u8 = 0x7e;

/// What one extension adds besides its content.
const EXTENSION_HEADER_LEN: usize = 2;

/// The longest bit mask: a length is one byte, and a multiple of four.
pub(crate) const SACK_BYTES_MAX: usize = 252;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// Carries payload.
    Data,
    /// The last packet of one direction.
    Fin,
    /// Acknowledges, carries nothing.
    State,
    /// Ends the connection at once.
    Reset,
    /// Opens a connection.
    Syn,
}

impl PacketKind {
    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Data,
            1 => Self::Fin,
            2 => Self::State,
            3 => Self::Reset,
            4 => Self::Syn,
            _ => return None,
        })
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Fin => 1,
            Self::State => 2,
            Self::Reset => 3,
            Self::Syn => 4,
        }
    }
}

/// The fixed part of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: PacketKind,
    pub(crate) connection_id: u16,
    /// The sender's clock in microseconds.
    pub(crate) timestamp: u32,
    /// How much later than its timestamp the last packet from us arrived; 0 before there was one.
    pub(crate) timestamp_difference: u32,
    /// How many more bytes the sender can take.
    pub(crate) window: u32,
    pub(crate) seq: Seq,
    pub(crate) ack: Seq,
}

impl Header {
    /// Writes the header; `extension` is the type of the first extension after it, 0 for none.
    fn write_with(&self, extension: u8, out: &mut [u8]) {
        out[0] = self.kind.bits() << 4 | VERSION;
        out[1] = extension;
        out[2..4].copy_from_slice(&self.connection_id.to_be_bytes());
        out[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        out[8..12].copy_from_slice(&self.timestamp_difference.to_be_bytes());
        out[12..16].copy_from_slice(&self.window.to_be_bytes());
        out[16..18].copy_from_slice(&self.seq.0.to_be_bytes());
        out[18..20].copy_from_slice(&self.ack.0.to_be_bytes());
    }

    /// Writes the header into the first 20 bytes of `out`.
    pub(crate) fn write(&self, out: &mut [u8]) {
        self.write_with(0, out);
    }

    /// Writes the header and a mask of packets received after the next one; `out` is as long as both.
    pub(crate) fn write_with_sack(&self, mask: &[u8], out: &mut [u8]) {
        self.write_with(EXTENSION_SACK, out);
        out[HEADER_LEN] = 0;
        // Invariant: masks are made here, and never longer than `SACK_BYTES_MAX`.
        out[HEADER_LEN + 1] = u8::try_from(mask.len()).expect("a mask fits its length byte");
        out[HEADER_LEN + EXTENSION_HEADER_LEN..].copy_from_slice(mask);
    }

    /// Writes the header and extensions of nothing, so that both together are as long as `out`: a header is 20
    /// bytes, or 22 and more.
    pub(crate) fn write_padded(&self, out: &mut [u8]) {
        let extension = if out.len() > HEADER_LEN {
            EXTENSION_PADDING
        } else {
            0
        };
        self.write_with(extension, out);
        let mut rest = &mut out[HEADER_LEN..];
        while !rest.is_empty() {
            let most = usize::from(u8::MAX) + EXTENSION_HEADER_LEN;
            let mut len = rest.len().min(most);
            if rest.len() - len == 1 {
                // One byte is no extension.
                len -= 1;
            }
            let (this, others) = rest.split_at_mut(len);
            this.fill(0);
            if !others.is_empty() {
                this[0] = EXTENSION_PADDING;
            }
            this[1] = u8::try_from(len - EXTENSION_HEADER_LEN).unwrap_or(u8::MAX);
            rest = others;
        }
    }
}

/// Why bytes are no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPacket {
    /// Too short for its header, or for an extension that it announces.
    #[error("the packet of {len} bytes ends within its header")]
    Short {
        /// How long it is.
        len: usize,
    },
    /// A version that nobody speaks.
    #[error("version {0}, only 1 is known")]
    Version(u8),
    /// A type that is not defined.
    #[error("type {0}, types are 0 to 4")]
    Kind(u8),
}

/// A packet as it came.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    pub(crate) header: Header,
    /// Bit `i`, least significant first, is packet `ack + 2 + i`.
    pub(crate) sack: Option<&'a [u8]>,
    pub(crate) payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Takes a datagram apart; nothing is copied.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, InvalidPacket> {
        let short = InvalidPacket::Short {
            len: datagram.len(),
        };
        let Some((head, mut rest)) = datagram.split_first_chunk::<HEADER_LEN>() else {
            return Err(short);
        };
        let header = parse_header(head)?;
        let mut extension = head[1];
        let mut sack = None;
        // Ends with the datagram: each extension is two bytes at least.
        while extension != 0 {
            let [next, len, after @ ..] = rest else {
                return Err(short);
            };
            let (content, after) = after.split_at_checked(usize::from(*len)).ok_or(short)?;
            if extension == EXTENSION_SACK {
                // "In multiples of 32 bits", but libtorrent sends as many bytes as it needs.
                sack = Some(content);
            }
            extension = *next;
            rest = after;
        }
        Ok(Self {
            header,
            sack,
            payload: rest,
        })
    }

    /// What the packet is for.
    pub const fn kind(&self) -> PacketKind {
        self.header.kind
    }

    /// The connection that its sender means.
    pub const fn connection_id(&self) -> u16 {
        self.header.connection_id
    }
}

fn parse_header(head: &[u8; HEADER_LEN]) -> Result<Header, InvalidPacket> {
    if head[0] & 0x0f != VERSION {
        return Err(InvalidPacket::Version(head[0] & 0x0f));
    }
    let bits = head[0] >> 4;
    let kind = PacketKind::from_bits(bits).ok_or(InvalidPacket::Kind(bits))?;
    let u16_at = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let u32_at =
        |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    Ok(Header {
        kind,
        connection_id: u16_at(2),
        timestamp: u32_at(4),
        timestamp_difference: u32_at(8),
        window: u32_at(12),
        seq: Seq(u16_at(16)),
        ack: Seq(u16_at(18)),
    })
}

/// Whether a datagram looks like uTP and not like a DHT message, which starts with `d`.
pub fn is_utp(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER_LEN
        && datagram[0] & 0x0f == VERSION
        && PacketKind::from_bits(datagram[0] >> 4).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            kind: PacketKind::Data,
            connection_id: 0x1234,
            timestamp: 0x0102_0304,
            timestamp_difference: 5,
            window: 1 << 20,
            seq: Seq(7),
            ack: Seq(65_535),
        }
    }

    #[test]
    fn a_header_reads_as_it_was_written() {
        let mut bytes = [0; 23];
        header().write(&mut bytes);
        bytes[20..].copy_from_slice(b"abc");
        assert!(is_utp(&bytes));
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.header, header());
        assert_eq!((packet.sack, packet.payload), (None, b"abc".as_slice()));
        // BEP 29: type in the upper half of the first byte, version in the lower.
        assert_eq!(&bytes[..4], [0x01, 0, 0x12, 0x34]);
    }

    #[test]
    fn a_selective_acknowledgement_is_found_among_other_extensions() {
        let mut bytes = [0; 26];
        header().write_with_sack(&[1, 0, 0, 0x80], &mut bytes);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.sack, Some([1, 0, 0, 0x80].as_slice()));
        // libtorrent's masks have any length.
        let mut odd = [0; 33];
        header().write_with_sack(&[7; 11], &mut odd);
        assert_eq!(Packet::parse(&odd).unwrap().sack, Some([7; 11].as_slice()));
        // One that we do not know before it.
        let mut chained = bytes[..20].to_vec();
        chained[1] = 9;
        chained.extend([1, 3, 0xaa, 0xbb, 0xcc]);
        chained.extend(&bytes[20..]);
        let packet = Packet::parse(&chained).unwrap();
        assert_eq!(packet.sack, Some([1, 0, 0, 0x80].as_slice()));
        assert!(packet.payload.is_empty());
    }

    #[test]
    fn padding_has_any_length_and_hides_no_payload() {
        for pad in (0..1000).filter(|pad| *pad != 1) {
            let mut bytes = vec![0xff; HEADER_LEN + pad];
            header().write_padded(&mut bytes);
            bytes.push(0x55);
            let packet = Packet::parse(&bytes).unwrap();
            assert_eq!(
                (packet.payload, packet.sack),
                ([0x55].as_slice(), None),
                "{pad}"
            );
        }
    }

    #[test]
    fn what_is_no_packet_is_told_apart() {
        let short = |len| Err(InvalidPacket::Short { len });
        let cases = [
            (vec![0x01; 19], short(19)),
            (vec![0x00; 20], Err(InvalidPacket::Version(0))),
            (vec![0x51; 20], Err(InvalidPacket::Kind(5))),
            // An extension is announced, and nothing follows.
            ([vec![0x21, 1], vec![0; 18]].concat(), short(20)),
            (
                [vec![0x21, 9], vec![0; 18], vec![0, 4, 0]].concat(),
                short(23),
            ),
        ];
        for (bytes, expect) in cases {
            assert_eq!(Packet::parse(&bytes).map(|_| ()), expect, "{bytes:?}");
        }
        assert!(!is_utp(
            b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:t2:aa1:y1:qe"
        ));
    }
}
