//! Messages of UPnP's Internet Gateway Device: search (SSDP), description, and calls (SOAP).
//!
//! What comes from the local network is a stranger's: only the router itself is listened to, and only places on it are
//! gone to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;
use url::{Host, Url};

use super::Protocol;
use super::gateway::GlobalAddress;

/// Where devices listen for searches (UPnP Device Architecture 1.1 §1.3.2).
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);

/// The same for IPv6 (UPnP Device Architecture 2.0, annex A): searches from global addresses go to the group of the
/// site. There are routers that listen to that of the link only.
const GROUPS_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0x0c),
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x0c),
];

const PORT: u16 = 1900;

/// The longest description or answer that is read. Routers send some ten thousand bytes.
pub(super) const BODY_BYTES_MAX: usize = 256 * 1024;

/// Services that forward ports, whichever the router has.
const FORWARDING: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];

/// The service that lets ports of IPv6 through (UPnP IGD:2, `WANIPv6FirewallControl:1`).
const FIREWALL: &str = "urn:schemas-upnp-org:service:WANIPv6FirewallControl:1";

/// The router lends ports for ever only.
pub(super) const ONLY_PERMANENT: u16 = 725;

/// Somebody else has the port.
pub(super) const CONFLICT: u16 = 718;

/// Which router is sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sought {
    /// The one at this address, to forward ports.
    Forwarder(Ipv4Addr),
    /// The one that guards this address of ours.
    Guard(GlobalAddress),
}

impl Sought {
    /// Where it is searched for.
    pub(super) fn groups(&self) -> Vec<SocketAddr> {
        match self {
            Self::Forwarder(_) => vec![SocketAddr::from((GROUP, PORT))],
            Self::Guard(address) => {
                let on_link = |group| SocketAddrV6::new(group, PORT, 0, address.router.scope_id());
                GROUPS_V6.map(on_link).map(SocketAddr::V6).to_vec()
            }
        }
    }

    /// A search for it by one of its groups. Old forwarders do not answer to the names of their services.
    pub(super) fn search(&self, group: SocketAddr) -> String {
        let host = SocketAddr::new(group.ip(), PORT);
        let what = match self {
            Self::Forwarder(_) => "upnp:rootdevice",
            Self::Guard(_) => FIREWALL,
        };
        format!(
            "M-SEARCH * HTTP/1.1\r\nHOST: {host}\r\nST: {what}\r\nMAN: \"ssdp:discover\"\r\nMX: 2\r\n\r\n"
        )
    }

    /// Whether it may be at this address. With IPv4 there is but one. With IPv6 a gateway is known by its address on the
    /// link, which a URL cannot name: so wherever the network of our own address is, or that of the site (RFC 4193).
    pub(super) fn may_be_at(&self, ip: IpAddr) -> bool {
        match (self, ip) {
            (Self::Forwarder(router), IpAddr::V4(ip)) => ip == *router,
            (Self::Guard(address), IpAddr::V6(ip)) => {
                ip == *address.router.ip()
                    || ip.segments()[..4] == address.ip.segments()[..4]
                    || ip.is_unique_local()
            }
            _ => false,
        }
    }

    /// Whether a service of this type is what is sought.
    fn wants(&self, kind: &str) -> bool {
        match self {
            Self::Forwarder(_) => FORWARDING.contains(&kind),
            Self::Guard(_) => kind == FIREWALL,
        }
    }

    /// Where the description is, from an answer to a search; only on the router itself.
    pub(super) fn location(&self, answer: &[u8]) -> Option<Url> {
        let text = std::str::from_utf8(answer).ok()?;
        let mut lines = text.split("\r\n");
        let mut status = lines.next()?.split(' ');
        if !status.next()?.starts_with("HTTP/1.") || status.next()? != "200" {
            return None;
        }
        let value = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("location").then_some(value)
        })?;
        self.on_router(Url::parse(value.trim()).ok()?)
    }

    /// The URL, if it leads to the router over HTTP.
    fn on_router(&self, url: Url) -> Option<Url> {
        let ip = match url.host()? {
            Host::Ipv4(ip) => IpAddr::V4(ip),
            Host::Ipv6(ip) => IpAddr::V6(ip),
            Host::Domain(_) => return None,
        };
        (url.scheme() == "http" && self.may_be_at(ip)).then_some(url)
    }
}

/// A service of a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    kind: String,
    pub(super) control: Url,
}

impl Service {
    /// The service in a description that was at `location`.
    pub(super) fn find(description: &[u8], location: &Url, sought: &Sought) -> Option<Self> {
        // Other encodings than UTF-8 matter to nobody here: all that is looked at is ASCII.
        let description = String::from_utf8_lossy(description);
        let mut reader = Reader::from_str(&description);
        let (mut element, mut base) = (String::new(), String::new());
        let (mut kind, mut control) = (String::new(), String::new());
        loop {
            match reader.read_event().ok()? {
                Event::Start(start) => {
                    start.local_name().as_ref().clone_into(&mut element);
                    if element == "service" {
                        (kind, control) = (String::new(), String::new());
                    }
                }
                Event::End(end) => {
                    element.clear();
                    let is_ours = sought.wants(kind.trim()) && !control.trim().is_empty();
                    if end.local_name().as_ref() == "service" && is_ours {
                        let base = Url::parse(base.trim()).ok();
                        let kind = kind.trim().to_owned();
                        let base = base.as_ref().unwrap_or(location);
                        let control = base.join(control.trim()).ok()?;
                        let control = sought.on_router(control)?;
                        return Some(Self { kind, control });
                    }
                }
                Event::Eof => return None,
                event => {
                    let content = match element.as_str() {
                        "URLBase" => &mut base,
                        "serviceType" => &mut kind,
                        "controlURL" => &mut control,
                        _ => continue,
                    };
                    push_text(&event, content);
                }
            }
        }
    }

    /// The header that names a call.
    pub(super) fn action(&self, call: &Call) -> String {
        format!("\"{}#{}\"", self.kind, call.name())
    }

    /// The body of a call.
    pub(super) fn body(&self, call: &Call) -> String {
        let (name, kind) = (call.name(), &self.kind);
        let arguments = call.arguments();
        format!(
            "<?xml version=\"1.0\"?>\r\n\
             <s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
             <u:{name} xmlns:u=\"{kind}\">{arguments}</u:{name}></s:Body></s:Envelope>\r\n"
        )
    }
}

/// What is asked of a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Add {
        protocol: Protocol,
        port: u16,
        external_port: u16,
        client: Ipv4Addr,
        /// Zero is for ever.
        lifetime: Duration,
    },
    Delete {
        protocol: Protocol,
        external_port: u16,
    },
    ExternalIp,
    /// One that is there already lasts longer by it, and keeps its name.
    AddPinhole {
        protocol: Protocol,
        port: u16,
        client: Ipv6Addr,
        lifetime: Duration,
    },
    /// Takes away the one that the router has named so.
    DeletePinhole(u16),
}

impl Call {
    const fn name(&self) -> &'static str {
        match self {
            Self::Add { .. } => "AddPortMapping",
            Self::Delete { .. } => "DeletePortMapping",
            Self::ExternalIp => "GetExternalIPAddress",
            Self::AddPinhole { .. } => "AddPinhole",
            Self::DeletePinhole(_) => "DeletePinhole",
        }
    }

    fn arguments(&self) -> String {
        match self {
            Self::ExternalIp => String::new(),
            Self::Delete {
                protocol,
                external_port,
            } => format!(
                "<NewRemoteHost></NewRemoteHost><NewExternalPort>{external_port}</NewExternalPort>\
                 <NewProtocol>{protocol}</NewProtocol>"
            ),
            Self::Add {
                protocol,
                port,
                external_port,
                client,
                lifetime,
            } => format!(
                "<NewRemoteHost></NewRemoteHost><NewExternalPort>{external_port}</NewExternalPort>\
                 <NewProtocol>{protocol}</NewProtocol><NewInternalPort>{port}</NewInternalPort>\
                 <NewInternalClient>{client}</NewInternalClient><NewEnabled>1</NewEnabled>\
                 <NewPortMappingDescription>riverrun</NewPortMappingDescription>\
                 <NewLeaseDuration>{}</NewLeaseDuration>",
                lifetime.as_secs()
            ),
            // From everybody, and from whatever port.
            Self::AddPinhole {
                protocol,
                port,
                client,
                lifetime,
            } => format!(
                "<RemoteHost></RemoteHost><RemotePort>0</RemotePort>\
                 <InternalClient>{client}</InternalClient><InternalPort>{port}</InternalPort>\
                 <Protocol>{}</Protocol><LeaseTime>{}</LeaseTime>",
                protocol.number(),
                lifetime.as_secs()
            ),
            Self::DeletePinhole(id) => format!("<UniqueID>{id}</UniqueID>"),
        }
    }
}

/// Adds what an event has of the text of an element: a reference such as `&amp;` comes as one of its own.
fn push_text(event: &Event<'_>, text: &mut String) {
    match event {
        Event::Text(part) => text.push_str(part),
        Event::CData(part) => text.push_str(part),
        Event::GeneralRef(name) => match name.resolve_char_ref() {
            Ok(Some(c)) => text.push(c),
            _ => text.push_str(resolve_predefined_entity(name).unwrap_or_default()),
        },
        _ => {}
    }
}

/// The text of the first element with this name, whatever its prefix.
fn element(body: &[u8], name: &str) -> Option<String> {
    let body = String::from_utf8_lossy(body);
    let mut reader = Reader::from_str(&body);
    let mut text = None;
    loop {
        match (reader.read_event().ok()?, &mut text) {
            (Event::Start(start), _) => {
                text = (start.local_name().as_ref() == name).then(String::new);
            }
            (Event::End(_), Some(text)) => return Some(text.trim().to_owned()),
            (Event::Eof, _) => return None,
            (event, Some(text)) => push_text(&event, text),
            (_, None) => {}
        }
    }
}

/// The code of an error that a router answers with.
pub(super) fn error_code(body: &[u8]) -> Option<u16> {
    element(body, "errorCode")?.parse().ok()
}

/// The address in an answer to [`Call::ExternalIp`].
pub(super) fn external_ip(body: &[u8]) -> Option<IpAddr> {
    element(body, "NewExternalIPAddress")?.parse().ok()
}

/// What the router names the hole of an answer to [`Call::AddPinhole`].
pub(super) fn pinhole_id(body: &[u8]) -> Option<u16> {
    element(body, "UniqueID")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Sought = Sought::Forwarder(Ipv4Addr::new(192, 168, 1, 1));

    const DESCRIPTION: &[u8] = br#"<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><device><serviceList>
<service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType>
<controlURL>/l3</controlURL></service></serviceList><deviceList><device><serviceList>
<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>
<serviceId>x</serviceId><controlURL>/ctl/IPConn</controlURL><SCPDURL>/s.xml</SCPDURL></service>
</serviceList></device></deviceList></device></root>"#;

    fn at(url: &str) -> Url {
        Url::parse(url).unwrap()
    }

    #[test]
    fn only_the_router_itself_is_gone_to() {
        let answer = |location: &str| {
            format!("HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nLOCATION: {location}\r\n\r\n")
        };
        let check = |url: &str| ROUTER.location(answer(url).as_bytes()).map(String::from);
        let own = "http://192.168.1.1:5000/root.xml";
        assert_eq!(check(own).as_deref(), Some(own));
        for elsewhere in [
            "http://192.168.1.9:5000/root.xml",
            "http://router.example/root.xml",
            "https://192.168.1.1/root.xml",
            "file:///etc/passwd",
            "http://192.168.1.1@192.168.1.9/",
            "",
        ] {
            assert_eq!(check(elsewhere), None, "{elsewhere}");
        }
        let notice = b"NOTIFY * HTTP/1.1\r\nLocation: http://192.168.1.1/\r\n\r\n";
        assert_eq!(ROUTER.location(notice), None);
        assert_eq!(ROUTER.location(b"\xff"), None);
    }

    #[test]
    fn the_guard_of_an_address_is_gone_to_on_its_network_or_its_site() {
        let guard = Sought::Guard(GlobalAddress {
            ip: "2001:db8:5::2".parse().unwrap(),
            router: "[fe80::1%2]:5351".parse().unwrap(),
        });
        for (url, is_near) in [
            ("http://[2001:db8:5::1]:5000/root.xml", true),
            ("http://[fd00:5::1]/root.xml", true),
            ("http://[2001:db8:6::1]/root.xml", false),
            ("http://[::1]/root.xml", false),
            ("http://[::ffff:192.168.1.1]/root.xml", false),
            ("http://192.168.1.1/root.xml", false),
            ("http://router.example/root.xml", false),
            ("https://[2001:db8:5::1]/root.xml", false),
        ] {
            let answer = format!("HTTP/1.1 200 OK\r\nLocation: {url}\r\n\r\n");
            let found = guard.location(answer.as_bytes());
            assert_eq!(found, is_near.then(|| at(url)), "{url}");
        }
        let [site, link] = guard.groups()[..] else {
            panic!("two groups")
        };
        assert_eq!(
            (site, link),
            (
                "[ff05::c%2]:1900".parse().unwrap(),
                "[ff02::c%2]:1900".parse().unwrap(),
            )
        );
        assert!(guard.search(link).contains("HOST: [ff02::c]:1900\r\n"));
    }

    #[test]
    fn the_service_is_found_among_others() {
        let location = at("http://192.168.1.1:5000/root.xml");
        let service = Service::find(DESCRIPTION, &location, &ROUTER).unwrap();
        assert_eq!(service.control, at("http://192.168.1.1:5000/ctl/IPConn"));
        let action = service.action(&Call::ExternalIp);
        assert_eq!(
            action,
            "\"urn:schemas-upnp-org:service:WANIPConnection:1#GetExternalIPAddress\""
        );
    }

    #[test]
    fn references_are_part_of_the_text() {
        let text = String::from_utf8(DESCRIPTION.to_vec()).unwrap();
        let with = text.replace("/ctl/IPConn", "/ctl?a=1&amp;b=2&#x26;c=&#51;");
        let location = at("http://192.168.1.1:5000/root.xml");
        let service = Service::find(with.as_bytes(), &location, &ROUTER).unwrap();
        let control = "http://192.168.1.1:5000/ctl?a=1&b=2&c=3";
        assert_eq!(service.control, at(control));
    }

    #[test]
    fn a_service_elsewhere_is_none() {
        let text = String::from_utf8(DESCRIPTION.to_vec()).unwrap();
        let elsewhere = text.replace("/ctl/IPConn", "http://10.0.0.1/ctl");
        let location = at("http://192.168.1.1:5000/root.xml");
        assert_eq!(
            Service::find(elsewhere.as_bytes(), &location, &ROUTER),
            None
        );
        let based = text.replace("<device><serviceList>\n<service><serviceType>urn:schemas-upnp-org:service:L", "<URLBase>http://10.0.0.1/</URLBase><device><serviceList>\n<service><serviceType>urn:schemas-upnp-org:service:L");
        assert_ne!(based, text);
        assert_eq!(Service::find(based.as_bytes(), &location, &ROUTER), None);
        for broken in [&b""[..], b"<a><b>", b"<service>", &[0xff; 64]] {
            assert_eq!(Service::find(broken, &location, &ROUTER), None);
        }
    }

    #[test]
    fn calls_and_answers_are_those_of_the_service() {
        let location = at("http://192.168.1.1:5000/root.xml");
        let service = Service::find(DESCRIPTION, &location, &ROUTER).unwrap();
        let body = service.body(&Call::Add {
            protocol: Protocol::Udp,
            port: 6881,
            external_port: 6882,
            client: Ipv4Addr::new(192, 168, 1, 5),
            lifetime: Duration::from_hours(1),
        });
        for part in [
            "<u:AddPortMapping xmlns:u=\"urn:schemas-upnp-org:service:WANIPConnection:1\">",
            "<NewExternalPort>6882</NewExternalPort><NewProtocol>UDP</NewProtocol>",
            "<NewInternalClient>192.168.1.5</NewInternalClient>",
            "<NewLeaseDuration>3600</NewLeaseDuration>",
        ] {
            assert!(body.contains(part), "{part} in {body}");
        }
        let error = b"<s:Envelope><s:Body><s:Fault><detail><UPnPError><errorCode>725</errorCode></UPnPError>";
        assert_eq!(error_code(error), Some(ONLY_PERMANENT));
        let ip = b"<s:Body><u:R><NewExternalIPAddress> 198.51.100.7 </NewExternalIPAddress></u:R></s:Body>";
        assert_eq!(external_ip(ip), Some("198.51.100.7".parse().unwrap()));
        assert_eq!(external_ip(error), None);
        let body = service.body(&Call::AddPinhole {
            protocol: Protocol::Udp,
            port: 6881,
            client: "2001:db8:5::2".parse().unwrap(),
            lifetime: Duration::from_hours(1),
        });
        for part in [
            "<RemoteHost></RemoteHost><RemotePort>0</RemotePort>",
            "<InternalClient>2001:db8:5::2</InternalClient><InternalPort>6881</InternalPort>",
            "<Protocol>17</Protocol><LeaseTime>3600</LeaseTime>",
        ] {
            assert!(body.contains(part), "{part} in {body}");
        }
    }
}
