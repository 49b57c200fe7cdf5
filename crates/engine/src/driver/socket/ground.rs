//! The ground to stand on: the addresses of this machine from which sockets may speak, as they are now.

use std::io;
use std::net::{IpAddr, SocketAddr};

use if_addrs::{IfOperStatus, Interface};
use socket2::{Domain, Socket, Type};

use super::Family;
use crate::network::Bind;

/// From where sockets may speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// From anywhere: the system chooses.
    Anywhere,
    /// From these places and no others; without one, not at all.
    Bound(Vec<Place>),
}

/// An address that sockets are bound to, and the interface that they cannot leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) ip: IpAddr,
    /// `None` if the system may not, or does not, bind sockets to interfaces: then the address has to do.
    pub(super) device: Option<Device>,
}

/// An interface. One that went and came back has another index: sockets of the first are of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(super) name: String,
    index: Option<u32>,
}

impl Place {
    const fn anywhere(family: Family) -> Self {
        Self {
            ip: family.any_port().ip(),
            device: None,
        }
    }

    const fn family(&self) -> Family {
        Family::of_ip(self.ip)
    }

    /// Lets a socket listen at an IPv6 address that the system is still checking for being the only one of its kind
    /// (RFC 4862 §5.4): for a second or two after an interface came up nothing can be bound to it otherwise.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn await_address(&self, socket: &Socket) -> io::Result<()> {
        if self.ip.is_ipv6() && !self.ip.is_unspecified() {
            socket.set_freebind_v6(true)?;
        }
        Ok(())
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    #[expect(clippy::unnecessary_wraps, reason = "it is the same call everywhere")]
    pub(super) const fn await_address(&self, _: &Socket) -> io::Result<()> {
        Ok(())
    }

    /// Binds a socket that is made for this place, to a port.
    pub(super) fn hold(&self, socket: &Socket, port: u16) -> io::Result<()> {
        if self.ip.is_ipv6() {
            // One socket a family, so that each can be told apart and bound on its own.
            socket.set_only_v6(true)?;
        }
        if let Some(device) = &self.device {
            bind_device(socket, &device.name)?;
        }
        socket.bind(&SocketAddr::new(self.ip, port).into())
    }
}

impl Place {
    /// Binds a socket to a multicast group, to hear it by this place's interface.
    pub(super) fn hold_group(&self, socket: &Socket, group: SocketAddr) -> io::Result<()> {
        if group.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if let Some(device) = &self.device {
            bind_device(socket, &device.name)?;
        }
        socket.bind(&group.into())
    }
}

impl Ground {
    /// What `binds` name of this machine, as it is now.
    pub(super) fn survey(binds: &[Bind]) -> io::Result<Self> {
        if binds.is_empty() {
            return Ok(Self::Anywhere);
        }
        Ok(Self::among(
            &if_addrs::get_if_addrs()?,
            binds,
            may_bind_device,
        ))
    }

    /// What `binds` name among these interfaces.
    fn among(interfaces: &[Interface], binds: &[Bind], may_pin: impl Fn(&str) -> bool) -> Self {
        let mut places: Vec<Place> = Vec::new();
        for bind in binds {
            let named = interfaces.iter().filter(|interface| match bind {
                Bind::Addr(ip) => interface.ip() == *ip,
                Bind::Interface(name) => device_name(interface) == name,
            });
            for interface in named.filter(|interface| interface.oper_status == IfOperStatus::Up) {
                let place = place(interface, bind, &may_pin);
                if !places.iter().any(|known| known.ip == place.ip) {
                    places.push(place);
                }
            }
        }
        Self::Bound(places)
    }

    /// Where to speak from in a family, if anywhere.
    pub(super) fn place(&self, family: Family) -> Option<Place> {
        match self {
            Self::Anywhere => Some(Place::anywhere(family)),
            Self::Bound(places) => places
                .iter()
                .find(|place| place.family() == family)
                .cloned(),
        }
    }

    /// The places at which a socket at `ip` listens: several for an unspecified one.
    pub(super) fn places_at(&self, ip: IpAddr) -> Vec<Place> {
        match self {
            Self::Anywhere => vec![Place { ip, device: None }],
            Self::Bound(places) => {
                let family = Family::of_ip(ip);
                let fits = |place: &&Place| {
                    place.ip == ip || ip.is_unspecified() && place.family() == family
                };
                places.iter().filter(fits).cloned().collect()
            }
        }
    }

    /// The interface that has an address.
    pub(super) fn device_at(&self, ip: IpAddr) -> Option<String> {
        let places = self.places_at(ip).into_iter();
        let mut devices = places.filter_map(|place| place.device);
        if let Some(device) = devices.next() {
            return Some(device.name);
        }
        let interfaces = if_addrs::get_if_addrs().ok()?;
        let has_it = interfaces.iter().find(|interface| interface.ip() == ip);
        has_it.map(|interface| device_name(interface).to_owned())
    }

    /// Whether a socket that was bound to `place` still is.
    pub(super) fn has(&self, place: &Place) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Bound(places) => places.contains(place),
        }
    }

    /// Whether to stay here although `found` is what interfaces have now: all that is here is there, and what there is more
    /// are addresses of interfaces and families that are here already. Such come and go by themselves, as the temporary
    /// ones of IPv6 do each day (RFC 8981), and to move ends all connections.
    pub(super) fn lasts(&self, found: &Self) -> bool {
        let (Self::Bound(held), Self::Bound(found)) = (self, found) else {
            return self == found;
        };
        let is_like = |one: &Place, other: &Place| {
            one.device.is_some() && one.device == other.device && one.family() == other.family()
        };
        held.iter().all(|place| found.contains(place))
            && found
                .iter()
                .all(|new| held.contains(new) || held.iter().any(|place| is_like(place, new)))
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Bound(places) if places.is_empty())
    }
}

fn place(interface: &Interface, bind: &Bind, may_pin: &impl Fn(&str) -> bool) -> Place {
    let name = device_name(interface);
    // What goes to this machine itself never leaves by the interface of the address: a loopback address is no way
    // out as it is.
    let pins = matches!(bind, Bind::Interface(_)) || !interface.is_loopback();
    let device = (pins && may_pin(name)).then(|| Device {
        name: name.to_owned(),
        index: interface.index,
    });
    Place {
        ip: interface.ip(),
        device,
    }
}

/// The name without the label of a second address, as in `eth0:1`.
fn device_name(interface: &Interface) -> &str {
    let name = interface.name.as_str();
    name.split_once(':').map_or(name, |(device, _)| device)
}

/// Whether the system lets us bind sockets to an interface: Linux since 5.7 lets everybody.
fn may_bind_device(name: &str) -> bool {
    let tried =
        Socket::new(Domain::IPV4, Type::DGRAM, None).and_then(|socket| bind_device(&socket, name));
    if let Err(error) = &tried {
        tracing::warn!(interface = name, %error, "sockets cannot be bound to it, only to its addresses");
    }
    tried.is_ok()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn bind_device(socket: &Socket, name: &str) -> io::Result<()> {
    socket.bind_device(Some(name.as_bytes()))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn bind_device(_: &Socket, _: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use if_addrs::{IfAddr, Ifv4Addr, Ifv6Addr};

    use super::*;

    fn interface(name: &str, ip: &str, oper_status: IfOperStatus) -> Interface {
        let addr = match ip.parse().unwrap() {
            IpAddr::V4(ip) => IfAddr::V4(Ifv4Addr {
                ip,
                netmask: [255, 255, 255, 0].into(),
                prefixlen: 24,
                broadcast: None,
            }),
            IpAddr::V6(ip) => IfAddr::V6(Ifv6Addr {
                ip,
                netmask: 0.into(),
                prefixlen: 64,
                broadcast: None,
            }),
        };
        Interface {
            name: name.to_owned(),
            addr,
            index: Some(7),
            oper_status,
            is_p2p: false,
        }
    }

    fn machine() -> Vec<Interface> {
        vec![
            interface("lo", "127.0.0.1", IfOperStatus::Up),
            interface("eth0", "192.0.2.5", IfOperStatus::Up),
            interface("eth0:1", "192.0.2.6", IfOperStatus::Up),
            interface("eth0", "2001:db8::5", IfOperStatus::Up),
            interface("tun0", "10.8.0.2", IfOperStatus::Down),
        ]
    }

    fn ground(binds: &[&str]) -> Ground {
        let binds: Vec<Bind> = binds.iter().map(|bind| bind.parse().unwrap()).collect();
        Ground::among(&machine(), &binds, |_| true)
    }

    fn ips(ground: &Ground) -> Vec<String> {
        match ground {
            Ground::Anywhere => vec!["any".to_owned()],
            Ground::Bound(places) => places.iter().map(|place| place.ip.to_string()).collect(),
        }
    }

    #[test]
    fn an_interface_is_all_its_addresses_and_pins_sockets_to_it() {
        let found = ground(&["eth0"]);
        assert_eq!(ips(&found), ["192.0.2.5", "192.0.2.6", "2001:db8::5"]);
        let Ground::Bound(places) = &found else {
            panic!()
        };
        let pinned = |place: &Place| place.device.as_ref().is_some_and(|d| d.name == "eth0");
        assert!(places.iter().all(pinned));
        assert_eq!(found.place(Family::V6).unwrap().ip, places[2].ip);
    }

    #[test]
    fn an_interface_that_is_down_or_missing_is_no_ground() {
        for bind in ["tun0", "tun1", "10.8.0.2", "192.0.2.99"] {
            let found = ground(&[bind]);
            assert!(found.is_empty(), "{bind}");
            assert_eq!(found.place(Family::V4), None);
            assert_eq!(found.places_at("0.0.0.0".parse().unwrap()), []);
        }
        assert_eq!(ips(&ground(&["tun0", "eth0"])).len(), 3);
    }

    #[test]
    fn an_address_is_pinned_to_its_interface_but_not_to_loopback() {
        let device = |bind: &str| ground(&[bind]).place(Family::V4).unwrap().device;
        assert_eq!(device("192.0.2.6").unwrap().name, "eth0");
        assert_eq!(device("127.0.0.1"), None);
        assert_eq!(device("lo").unwrap().name, "lo");
    }

    #[test]
    fn other_addresses_are_never_listened_on() {
        let found = ground(&["192.0.2.5"]);
        assert_eq!(found.places_at("192.0.2.6".parse().unwrap()), []);
        assert_eq!(found.places_at("0.0.0.0".parse().unwrap()).len(), 1);
        assert_eq!(found.places_at("::".parse().unwrap()), []);
    }

    #[test]
    fn an_address_more_is_no_reason_to_move_and_one_less_is() {
        let with = |ips: &[&str]| {
            let up = |ip: &&str| interface("eth0", ip, IfOperStatus::Up);
            let machine: Vec<_> = ips.iter().map(up).collect();
            Ground::among(&machine, &["eth0".parse().unwrap()], |_| true)
        };
        let (v4, v6, other) = ("192.0.2.5", "2001:db8::5", "2001:db8::a1b2");
        let held = with(&[v4, v6]);
        assert!(held.lasts(&with(&[v4, v6])) && held.lasts(&with(&[other, v6, v4])));
        assert!(!held.lasts(&with(&[v4, other])), "ours is gone");
        assert!(!with(&[v4]).lasts(&with(&[v4, v6])), "a family more");
        assert!(!with(&[]).lasts(&with(&[v4])));
        // Without a device nobody knows whose address it is.
        let plain = |ips: &[&str]| match with(ips) {
            Ground::Bound(places) => {
                let bare = |place: Place| Place {
                    device: None,
                    ..place
                };
                Ground::Bound(places.into_iter().map(bare).collect())
            }
            ground @ Ground::Anywhere => ground,
        };
        assert!(!plain(&[v6]).lasts(&plain(&[v6, other])));
        assert!(Ground::Anywhere.lasts(&Ground::Anywhere));
    }

    #[test]
    fn an_interface_that_came_back_is_another_place() {
        let before = ground(&["eth0"]);
        let mut again = machine();
        for interface in &mut again {
            interface.index = Some(8);
        }
        let after = Ground::among(&again, &["eth0".parse().unwrap()], |_| true);
        assert!(!after.has(&before.place(Family::V4).unwrap()));
        assert!(Ground::Anywhere.has(&before.place(Family::V4).unwrap()));
    }
}
