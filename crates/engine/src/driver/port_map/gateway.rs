//! The router by which this machine reaches everybody else, as the kernel's table of routes has it.

use std::net::Ipv4Addr;

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

#[cfg(test)]
mod tests {
    use super::*;

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
