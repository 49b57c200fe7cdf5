//! Messages of the Port Control Protocol (RFC 6887) and of its predecessor NAT-PMP (RFC 6886), which share a port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::Protocol;

/// Where routers listen for both.
pub(super) const PORT: u16 = 5351;

/// The longest message (RFC 6887 §7).
pub(super) const MESSAGE_BYTES_MAX: usize = 1100;

const PCP: u8 = 2;
const NAT_PMP: u8 = 0;
const MAP: u8 = 1;
const RESPONSE: u8 = 0x80;
const UNSUPPORTED_VERSION: u16 = 1;

/// Which of the two is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Pcp,
    NatPmp,
}

/// A wish for a port to be forwarded, or not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) protocol: Protocol,
    pub(super) port: u16,
    /// The port on the router that would be best.
    pub(super) external_port: u16,
    /// Zero ends it.
    pub(super) lifetime: Duration,
    /// Our address, as the router must see it.
    pub(super) client: IpAddr,
    /// Names the mapping; only who knows it can change it (PCP).
    pub(super) nonce: [u8; 12],
}

/// What a router grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) external_port: u16,
    /// NAT-PMP tells it in a message of its own.
    pub(super) external_ip: Option<IpAddr>,
    pub(super) lifetime: Duration,
}

/// What a message from a router means for a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Granted(Grant),
    /// It does not speak this version.
    OtherVersion,
    /// It does not want to, with the code of its protocol.
    Refused(u16),
}

impl Wish {
    pub(super) fn message(&self, version: Version) -> Vec<u8> {
        let lifetime = u32::try_from(self.lifetime.as_secs()).unwrap_or(u32::MAX);
        let mut out = Vec::with_capacity(60);
        match version {
            Version::NatPmp => {
                out.extend([NAT_PMP, self.opcode(), 0, 0]);
                out.extend(self.port.to_be_bytes());
                out.extend(self.external_port.to_be_bytes());
                out.extend(lifetime.to_be_bytes());
            }
            Version::Pcp => {
                out.extend([PCP, MAP, 0, 0]);
                out.extend(lifetime.to_be_bytes());
                out.extend(in_sixteen(self.client));
                out.extend(self.nonce);
                out.extend([self.protocol.number(), 0, 0, 0]);
                out.extend(self.port.to_be_bytes());
                out.extend(self.external_port.to_be_bytes());
                // Any address of its own, of the same family (RFC 6887 §11.1).
                out.extend(in_sixteen(match self.client {
                    IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                    IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                }));
            }
        }
        out
    }

    const fn opcode(&self) -> u8 {
        match self.protocol {
            Protocol::Udp => 1,
            Protocol::Tcp => 2,
        }
    }

    /// What a message says to this wish; `None` if it is no answer to it.
    pub(super) fn answer(&self, version: Version, message: &[u8]) -> Option<Answer> {
        match version {
            Version::Pcp => self.answer_of_pcp(message),
            Version::NatPmp => self.answer_of_nat_pmp(message),
        }
    }

    fn answer_of_pcp(&self, message: &[u8]) -> Option<Answer> {
        let head: &[u8; 4] = message.first_chunk()?;
        match *head {
            // A router that speaks only NAT-PMP says so in its own words (RFC 6886 §3.5).
            [NAT_PMP, _, _, _] => return Some(Answer::OtherVersion),
            [PCP, opcode, _, _] if opcode == RESPONSE | MAP => {}
            _ => return None,
        }
        let result = u16::from(head[3]);
        if result == UNSUPPORTED_VERSION {
            return Some(Answer::OtherVersion);
        }
        let body: &[u8; 36] = message.get(24..)?.first_chunk()?;
        let is_ours = body[..12] == self.nonce
            && body[12] == self.protocol.number()
            && body[16..18] == self.port.to_be_bytes();
        if !is_ours {
            return None;
        }
        if result != 0 {
            return Some(Answer::Refused(result));
        }
        let octets: &[u8; 16] = body[20..].first_chunk()?;
        Some(Answer::Granted(Grant {
            external_port: u16::from_be_bytes([body[18], body[19]]),
            external_ip: Some(IpAddr::V6(Ipv6Addr::from(*octets)).to_canonical()),
            lifetime: seconds(message.get(4..8)?)?,
        }))
    }

    fn answer_of_nat_pmp(&self, message: &[u8]) -> Option<Answer> {
        let head: &[u8; 4] = message.first_chunk()?;
        if head[0] != NAT_PMP || head[1] != RESPONSE | self.opcode() {
            return None;
        }
        match u16::from_be_bytes([head[2], head[3]]) {
            0 => {}
            UNSUPPORTED_VERSION => return Some(Answer::OtherVersion),
            result => return Some(Answer::Refused(result)),
        }
        let body: &[u8; 8] = message.get(8..)?.first_chunk()?;
        if body[..2] != self.port.to_be_bytes() {
            return None;
        }
        Some(Answer::Granted(Grant {
            external_port: u16::from_be_bytes([body[2], body[3]]),
            external_ip: None,
            lifetime: seconds(&body[4..])?,
        }))
    }
}

/// Asks for the external address (NAT-PMP).
pub(super) const ASK_ADDRESS: [u8; 2] = [NAT_PMP, 0];

/// The external address in an answer to [`ASK_ADDRESS`].
pub(super) fn external_ip(message: &[u8]) -> Option<IpAddr> {
    let octets: &[u8; 4] = message.get(8..)?.first_chunk()?;
    let is_answer = message[..4] == [NAT_PMP, RESPONSE, 0, 0];
    is_answer.then(|| IpAddr::V4(Ipv4Addr::from(*octets)))
}

/// An address as PCP has it (RFC 6887 §5).
const fn in_sixteen(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn seconds(bytes: &[u8]) -> Option<Duration> {
    let bytes: &[u8; 4] = bytes.first_chunk()?;
    Some(Duration::from_secs(u32::from_be_bytes(*bytes).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> Wish {
        Wish {
            protocol: Protocol::Tcp,
            port: 6881,
            external_port: 6882,
            lifetime: Duration::from_hours(1),
            client: Ipv4Addr::new(192, 168, 1, 5).into(),
            nonce: *b"twelve bytes",
        }
    }

    /// A whole answer to [`wish`] over PCP.
    fn pcp_answer(result: u8) -> Vec<u8> {
        let mut message = vec![2, 0x81, 0, result];
        message.extend(1800_u32.to_be_bytes());
        message.extend([0; 16]);
        message.extend(b"twelve bytes");
        message.extend([6, 0, 0, 0]);
        message.extend(6881_u16.to_be_bytes());
        message.extend(51_000_u16.to_be_bytes());
        message.extend(Ipv4Addr::new(198, 51, 100, 7).to_ipv6_mapped().octets());
        message
    }

    #[test]
    fn requests_are_laid_out_as_the_rfcs_say() {
        let pmp = wish().message(Version::NatPmp);
        assert_eq!(pmp, [0, 2, 0, 0, 0x1a, 0xe1, 0x1a, 0xe2, 0, 0, 0x0e, 0x10]);
        let pcp = wish().message(Version::Pcp);
        assert_eq!(pcp.len(), 60);
        assert_eq!(pcp[..8], [2, 1, 0, 0, 0, 0, 0x0e, 0x10]);
        assert_eq!(pcp[18..24], [0xff, 0xff, 192, 168, 1, 5]);
        assert_eq!(pcp[24..36], *b"twelve bytes");
        assert_eq!(pcp[36..44], [6, 0, 0, 0, 0x1a, 0xe1, 0x1a, 0xe2]);
        assert_eq!(pcp[44..], Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().octets());
        let client: Ipv6Addr = "2001:db8::5".parse().unwrap();
        let wish = Wish {
            client: client.into(),
            ..wish()
        };
        let pcp = wish.message(Version::Pcp);
        assert_eq!(pcp[8..24], client.octets());
        assert_eq!(pcp[44..], [0; 16]);
    }

    #[test]
    fn a_grant_is_read_from_either() {
        let granted = Answer::Granted(Grant {
            external_port: 51_000,
            external_ip: Some("198.51.100.7".parse().unwrap()),
            lifetime: Duration::from_mins(30),
        });
        assert_eq!(wish().answer(Version::Pcp, &pcp_answer(0)), Some(granted));
        let pmp = [0, 130, 0, 0, 0, 0, 0, 9, 0x1a, 0xe1, 0xc7, 0x38, 0, 0, 7, 8];
        let granted = Answer::Granted(Grant {
            external_port: 51_000,
            external_ip: None,
            lifetime: Duration::from_mins(30),
        });
        assert_eq!(wish().answer(Version::NatPmp, &pmp), Some(granted));
        let ip = [0, 128, 0, 0, 0, 0, 0, 9, 198, 51, 100, 7];
        assert_eq!(external_ip(&ip), Some("198.51.100.7".parse().unwrap()));
        assert_eq!(external_ip(&ip[..11]), None);
    }

    #[test]
    fn answers_to_others_and_halves_of_answers_are_none() {
        let whole = pcp_answer(0);
        for len in 0..whole.len() {
            assert_eq!(wish().answer(Version::Pcp, &whole[..len]), None, "{len}");
        }
        // The nonce, the protocol, the port.
        for at in [24, 36, 41] {
            let mut other = whole.clone();
            other[at] ^= 1;
            assert_eq!(wish().answer(Version::Pcp, &other), None, "{at}");
        }
        assert_eq!(wish().answer(Version::NatPmp, &[0, 129, 0, 0]), None);
    }

    #[test]
    fn refusals_and_older_routers_are_told_apart() {
        assert_eq!(
            wish().answer(Version::Pcp, &pcp_answer(8)),
            Some(Answer::Refused(8))
        );
        assert_eq!(
            wish().answer(Version::Pcp, &pcp_answer(1)),
            Some(Answer::OtherVersion)
        );
        let old = [0, 128, 0, 1, 0, 0, 0, 9];
        assert_eq!(
            wish().answer(Version::Pcp, &old),
            Some(Answer::OtherVersion)
        );
        let refused = [0, 130, 0, 2, 0, 0, 0, 9];
        assert_eq!(
            wish().answer(Version::NatPmp, &refused),
            Some(Answer::Refused(2))
        );
    }
}
