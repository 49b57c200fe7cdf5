//! The routers by which this machine reaches everybody else, as the kernel's tables of routes have them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6};

/// A route may be used (`RTF_UP`).
const UP: u32 = 0x0001;
/// A route leads to a gateway (`RTF_GATEWAY`).
const BY_GATEWAY: u32 = 0x0002;

/// The gateway of the default route for IPv4; of `device` only, if one is named.
pub(super) fn default_gateway(device: Option<&str>) -> Option<Ipv4Addr> {
    in_routes(&std::fs::read_to_string("/proc/net/route").ok()?, device)
}

/// The gateway in the text of `/proc/net/route`: of several default routes that with the lowest metric leads out. If that
/// has none, as a tunnel has none, nothing forwards to us: the router behind the others is not on our way.
fn in_routes(text: &str, device: Option<&str>) -> Option<Ipv4Addr> {
    let route = |line: &str| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?;
        let [destination, gateway, flags] = [fields.next()?, fields.next()?, fields.next()?];
        let metric: u32 = fields.nth(2)?.parse().ok()?;
        let mask = fields.next()?;
        let is_default = destination == "00000000" && mask == "00000000";
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let wanted = device.is_none_or(|device| device == name);
        // The address is in the order of bytes that it has in memory.
        let gateway = Ipv4Addr::from(u32::from_str_radix(gateway, 16).ok()?.to_ne_bytes());
        let gateway = (flags & BY_GATEWAY != 0).then_some(gateway);
        (is_default && flags & UP != 0 && wanted).then_some((metric, gateway))
    };
    let routes = text.lines().filter_map(route);
    let (_, gateway) = routes.min_by_key(|(metric, _)| *metric)?;
    gateway
}

/// An address of this machine that everybody can reach but for firewalls, and the router on its link that may have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GlobalAddress {
    pub(super) ip: Ipv6Addr,
    /// With this port, and the interface by which it is reached.
    pub(super) router: SocketAddrV6,
}

/// The global addresses of IPv6 on interfaces with a default route; of `device` only, if one is named. None if the way to
/// everybody leads to no router, as that by a tunnel: then the routers of other interfaces are not on our way.
pub(super) fn global_addresses(device: Option<&str>, port: u16) -> Vec<GlobalAddress> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let (addresses, routes) = (read("/proc/net/if_inet6"), read("/proc/net/ipv6_route"));
    in_tables(&addresses, &routes, device, port)
}

/// The same of the text of `/proc/net/if_inet6` and `/proc/net/ipv6_route`.
fn in_tables(addresses: &str, routes: &str, device: Option<&str>, port: u16) -> Vec<GlobalAddress> {
    let wanted = |name: &str| device.is_none_or(|device| device == name);
    let mut routes: Vec<_> = routes.lines().filter_map(default_route).collect();
    routes.retain(|route| wanted(route.device));
    routes.sort_by_key(|route| route.metric);
    if routes.first().is_none_or(|route| route.router.is_none()) {
        return Vec::new();
    }
    let of_line = |line| {
        let (ip, index, name) = global_address(line)?;
        let route = routes.iter().find(|route| route.device == name)?;
        let router = SocketAddrV6::new(route.router?, port, 0, index);
        Some(GlobalAddress { ip, router })
    };
    addresses.lines().filter_map(of_line).collect()
}

/// A default route of IPv6.
struct Route<'a> {
    metric: u32,
    router: Option<Ipv6Addr>,
    device: &'a str,
}

fn default_route(line: &str) -> Option<Route<'_>> {
    let mut fields = line.split_whitespace();
    let is_default = fields.next()? == "00000000000000000000000000000000" && fields.next()? == "00";
    let router = fields.nth(2)?;
    let metric = u32::from_str_radix(fields.next()?, 16).ok()?;
    let flags = u32::from_str_radix(fields.nth(2)?, 16).ok()?;
    let device = fields.next()?;
    // The kernel's own, that says that there is no other.
    let is_usable = is_default && flags & UP != 0 && device != "lo";
    let router = u128::from_str_radix(router, 16).ok().map(Ipv6Addr::from);
    is_usable.then_some(Route {
        metric,
        router: router.filter(|_| flags & BY_GATEWAY != 0),
        device,
    })
}

/// An address is not unique on its link, or not known to be (`IFA_F_TENTATIVE`, `IFA_F_DADFAILED`), or is to be used no
/// more (`IFA_F_DEPRECATED`).
const UNUSABLE: u32 = 0x40 | 0x08 | 0x20;

/// An address that everybody can reach, of `2000::/3` (RFC 4291 §2.4), with the index and the name of its
/// interface.
fn global_address(line: &str) -> Option<(Ipv6Addr, u32, &str)> {
    let mut fields = line.split_whitespace();
    let ip = Ipv6Addr::from(u128::from_str_radix(fields.next()?, 16).ok()?);
    let index = u32::from_str_radix(fields.next()?, 16).ok()?;
    let flags = u32::from_str_radix(fields.nth(2)?, 16).ok()?;
    let is_global = ip.segments()[0] & 0xe000 == 0x2000;
    (is_global && flags & UNUSABLE == 0).then_some((ip, index, fields.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESSES: &str = "\
20010db8000000010000000000000005 02 40 00 00     eth0
20010db80000000100000000000000d0 02 40 00 20     eth0
20010db80000000100000000000000e0 02 40 00 40     eth0
fd000000000000000000000000000005 02 40 00 80     eth0
fe800000000000000000000000000005 02 40 20 80     eth0
20010db8000000020000000000000005 03 40 00 01    wlan0
20010db8000000030000000000000005 04 40 00 00     tun0
00000000000000000000000000000001 01 80 10 80       lo
";

    fn route(router: &str, metric: &str, flags: &str, device: &str) -> String {
        let none = "00000000000000000000000000000000";
        format!("{none} 00 {none} 00 {router} {metric} 00000001 00000000 {flags} {device}\n")
    }

    #[test]
    fn each_usable_global_address_goes_with_the_router_of_its_interface() {
        let none = route(
            "00000000000000000000000000000000",
            "ffffffff",
            "00200200",
            "lo",
        );
        let eth = route(
            "fe800000000000000000000000000001",
            "00000400",
            "00450003",
            "eth0",
        );
        let wlan = route(
            "20010db8000000020000000000000001",
            "00000258",
            "00000003",
            "wlan0",
        );
        let own = "20010db8000000010000000000000000 40 00000000000000000000000000000000 00 \
                   00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0\n";
        let both = format!("{own}{eth}{wlan}{none}");
        let find = |routes: &str, device| -> Vec<String> {
            let found = in_tables(ADDRESSES, routes, device, 5351);
            let shown = found.iter().map(|one| format!("{} {}", one.ip, one.router));
            shown.collect()
        };
        let [by_eth, by_wlan] = [
            "2001:db8:0:1::5 [fe80::1%2]:5351",
            "2001:db8:0:2::5 [2001:db8:0:2::1%3]:5351",
        ];
        assert_eq!(find(&both, None), [by_eth, by_wlan]);
        assert_eq!(find(&both, Some("wlan0")), [by_wlan]);
        assert_eq!(find(&format!("{own}{none}"), None), [""; 0]);
        let tunnel = route(
            "00000000000000000000000000000000",
            "00000001",
            "00000001",
            "tun0",
        );
        assert_eq!(find(&format!("{both}{tunnel}"), None), [""; 0]);
        assert_eq!(find(&format!("{both}{tunnel}"), Some("eth0")), [by_eth]);
        for broken in ["", "x", "0 0 0", "00000000000000000000000000000000 00"] {
            assert!(in_tables(broken, &both, None, 1).is_empty());
            assert!(in_tables(ADDRESSES, broken, None, 1).is_empty());
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_default_route_with_the_lowest_metric_leads_out() {
        let text = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
";
        assert_eq!(in_routes(text, None), Some(Ipv4Addr::new(192, 168, 1, 1)));
        assert_eq!(
            in_routes(text, Some("wlan0")),
            Some(Ipv4Addr::new(192, 168, 2, 1))
        );
        let tunnel = "tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n";
        let tunnelled = format!("{text}{tunnel}");
        assert_eq!(in_routes(&tunnelled, None), None, "eth0 is not our way");
        assert_eq!(in_routes(&tunnelled, Some("tun0")), None);
        assert_eq!(
            in_routes(&tunnelled, Some("eth0")),
            Some(Ipv4Addr::new(192, 168, 1, 1))
        );
        assert_eq!(in_routes("", None), None);
    }
}
