//! An engine from flags.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use riverrun_base::{Nearness, Rate};
use riverrun_engine::{
    Authorities, Bind, DhtConfig, Dscp, EncryptionPolicy, Engine, Limits, NetworkOptions,
    ParseProxyError, Proxy, StartError, Transports,
};
use riverrun_metainfo::HostPort;
use thiserror::Error;

use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::screen::Surroundings;

/// Flags that bound where anything may be sent, of all commands that use the network.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Network options")]
pub(crate) struct ReachFlags {
    /// Send and receive only by this address or interface, and nothing while it is gone; repeat for several
    #[arg(long, value_name = "ADDR|INTERFACE")]
    bind: Vec<Bind>,
    /// Ask this name server, not the system's, when bound; repeat for several
    #[arg(long, value_name = "ADDR")]
    dns: Vec<DnsServer>,
    /// Trust the certificate authorities in this PEM file too, beside the system's
    #[arg(long, value_name = "FILE")]
    tracker_ca: Option<PathBuf>,
    /// Go by this proxy and by no other way: socks5://[USER:PASSWORD@]HOST:PORT or http://...
    #[arg(long, value_name = "URL", value_parser = parse_proxy, hide_env_values = true)]
    proxy: Option<ProxyFlag>,
}

/// A proxy, or why it is none. An error of the parser would repeat the text, and with it the password.
type ProxyFlag = Result<Proxy, ParseProxyError>;

#[expect(clippy::unnecessary_wraps, reason = "the shape that the parser wants")]
fn parse_proxy(text: &str) -> Result<ProxyFlag, std::convert::Infallible> {
    Ok(text.parse())
}

impl ReachFlags {
    /// Whether everything is to go by a proxy.
    pub(crate) const fn is_proxied(&self) -> bool {
        self.proxy.is_some()
    }

    pub(crate) fn options(&self, around: &Surroundings) -> Outcome<NetworkOptions> {
        let proxy = self.proxy.clone().transpose();
        let proxy = proxy.map_err(|e| Failure::new(ExitCode::Usage, e).about("--proxy"))?;
        let options = NetworkOptions::default()
            .bind(self.bind.iter().cloned())
            .dns(self.dns.iter().map(|server| server.0))
            .proxy(proxy);
        let Some(file) = &self.tracker_ca else {
            return Ok(options);
        };
        let text = std::fs::read(around.path(file)).map_err(|e| Failure::io(file, e))?;
        let bad = |error| Failure::new(ExitCode::Config, error).about(file.display());
        Ok(options.authorities(Authorities::from_pem(&text).map_err(bad)?))
    }
}

/// Flags about the network, of all commands that transfer.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Network options")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(crate) struct NetworkFlags {
    /// Listen here, and dial from here; repeat for several [default: ports 6881 to 6889 of all addresses]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<ListenAddr>,
    #[command(flatten)]
    reach: ReachFlags,
    /// Mark what is sent to peers for routers: 0 to 63, or le, cs1, af11
    #[arg(long, value_name = "DSCP")]
    dscp: Option<Dscp>,
    /// Receive at most this much a second, as in 20M or 512KiB
    #[arg(long, value_name = "RATE")]
    limit: Option<Rate>,
    /// Send at most this much a second
    #[arg(long, value_name = "RATE")]
    limit_up: Option<Rate>,
    /// Ask this peer too; repeat for several
    #[arg(long, value_name = "ADDR:PORT")]
    peer: Vec<HostPort>,
    /// Encrypt connections: off, prefer (then payload stays plain) or require (then it does not)
    #[arg(long, value_name = "POLICY", default_value_t)]
    encryption: EncryptionPolicy,
    /// Reach peers by TCP only, not by uTP
    #[arg(long)]
    no_utp: bool,
    /// Reach peers by uTP only, not by TCP
    #[arg(long, conflicts_with = "no_utp")]
    no_tcp: bool,
    /// Try uTP a moment before TCP, not after it: it yields to other traffic
    #[arg(long, conflicts_with_all = ["no_utp", "no_tcp"])]
    prefer_utp: bool,
    /// Do not use the distributed hash table
    #[arg(long)]
    no_dht: bool,
    /// Enter the distributed hash table by this node, not by the public ones; repeat for several
    #[arg(long, value_name = "HOST:PORT")]
    dht_bootstrap: Vec<HostPort>,
    /// Do not look for peers in the local network
    #[arg(long)]
    no_lsd: bool,
    /// Do not download from web seeds
    #[arg(long)]
    no_web_seeds: bool,
    /// Do not ask the router to forward the port
    #[arg(long)]
    no_port_map: bool,
    /// Record what is decided upon, without payload, in a new file for `simulate replay`
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

impl NetworkFlags {
    pub(crate) const fn limits(&self) -> Limits {
        Limits {
            upload: self.limit_up,
            download: self.limit,
        }
    }

    /// Where anything may be sent.
    pub(crate) fn reach(&self, around: &Surroundings) -> Outcome<NetworkOptions> {
        self.reach.options(around)
    }

    const fn transports(&self) -> Transports {
        match (self.no_utp, self.no_tcp, self.prefer_utp) {
            (true, ..) => Transports::TcpOnly,
            (_, true, _) => Transports::UtpOnly,
            (.., true) => Transports::UtpFirst,
            _ => Transports::TcpFirst,
        }
    }

    fn listen(&self) -> Vec<SocketAddr> {
        self.listen.iter().flat_map(|addr| addr.addrs()).collect()
    }

    /// The peers that were named, resolved. One that cannot be resolved is an error: it was typed.
    pub(crate) async fn resolve_peers(&self, engine: &Engine) -> Outcome<Vec<SocketAddr>> {
        let mut peers = Vec::new();
        for peer in &self.peer {
            let unknown =
                |error| Failure::new(ExitCode::Network, error).about(format!("peer {peer}"));
            let HostPort { host, port } = peer;
            peers.extend(engine.resolve(host, *port).await.map_err(unknown)?);
        }
        Ok(peers)
    }
}

/// The configuration of a node that begins from these nodes, or from the public ones if there are none. Where only local
/// addresses are named, the network is one's own.
pub(crate) fn dht_config(bootstrap: &[HostPort], listen: &[SocketAddr]) -> DhtConfig {
    let config = if bootstrap.is_empty() {
        DhtConfig::new()
    } else {
        DhtConfig::new().bootstrap(bootstrap.iter().cloned())
    };
    let begins = bootstrap.iter().map(HostPort::socket_addr);
    let begins: Option<Vec<_>> = begins.collect();
    let are_local = |addrs: &[SocketAddr]| {
        !addrs.is_empty() && addrs.iter().all(|addr| Nearness::is_local(addr.ip()))
    };
    if are_local(listen) || begins.is_some_and(|addrs| are_local(&addrs)) {
        config.local_network()
    } else {
        config
    }
}

/// Where to listen: an address and a port, or one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListenAddr {
    /// A port of all addresses.
    Port(u16),
    /// One address.
    Addr(SocketAddr),
}

impl ListenAddr {
    pub(crate) fn addrs(self) -> impl Iterator<Item = SocketAddr> {
        let (v4, v6) = match self {
            Self::Port(port) => (
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
                Some(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
            ),
            Self::Addr(addr) => (addr, None),
        };
        std::iter::once(v4).chain(v6)
    }
}

/// A text that is no address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected an address like 192.0.2.1:6881, [2001:db8::1]:6881, :6881 or 6881, found {0:?}")]
pub(crate) struct InvalidListenAddr(String);

impl FromStr for ListenAddr {
    type Err = InvalidListenAddr;

    fn from_str(text: &str) -> Result<Self, InvalidListenAddr> {
        let port = text.strip_prefix(':').unwrap_or(text);
        if let Ok(port) = port.parse() {
            return Ok(Self::Port(port));
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Addr(SocketAddr::new(ip, 6881)));
        }
        text.parse()
            .map(Self::Addr)
            .map_err(|_| InvalidListenAddr(text.to_owned()))
    }
}

/// A name server: an address, with a port if it is not the usual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DnsServer(SocketAddr);

/// A text that is no name server.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected an address like 192.0.2.53 or [2001:db8::53]:53, found {0:?}")]
pub(crate) struct InvalidDnsServer(String);

impl FromStr for DnsServer {
    type Err = InvalidDnsServer;

    fn from_str(text: &str) -> Result<Self, InvalidDnsServer> {
        let usual = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
        usual
            .or_else(|_| text.parse())
            .map(Self)
            .map_err(|_| InvalidDnsServer(text.to_owned()))
    }
}

/// Starts an engine from flags.
pub(crate) async fn start(flags: &NetworkFlags, around: &Surroundings) -> Outcome<Engine> {
    let listen = flags.listen();
    let mut builder = Engine::builder(around.state_dir()?)
        .listen(listen.iter().copied())
        .network(flags.reach.options(around)?.dscp(flags.dscp))
        .limits(flags.limits())
        .encryption(flags.encryption)
        .local_discovery(!flags.no_lsd)
        .web_seeds(!flags.no_web_seeds)
        .transports(flags.transports());
    if !flags.no_dht {
        builder = builder.dht(dht_config(&flags.dht_bootstrap, &listen));
    }
    if !flags.no_port_map {
        builder = builder.port_map();
    }
    if let Some(file) = &flags.record {
        builder = builder.record(around.path(file));
    }
    builder.start().await.map_err(cannot_start)
}

/// The failure for an engine that does not start, with its exit code.
pub(crate) fn cannot_start(error: StartError) -> Failure {
    let code = match &error {
        StartError::Listen { .. }
        | StartError::Network(_)
        | StartError::Relay(_)
        | StartError::Http(_) => ExitCode::Network,
        StartError::Record { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
            ExitCode::Exists
        }
        StartError::Storage(_) | StartError::Record { .. } => ExitCode::Io,
        _ => ExitCode::Other,
    };
    let in_use = matches!(
        &error,
        StartError::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse
    );
    let failure = Failure::new(code, error);
    if in_use {
        failure.hint("another program listens there: choose another port with --listen")
    } else {
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_or_a_port_is_enough_to_listen() {
        let check = |text: &str, expected: &[&str]| {
            let addrs: Vec<_> = text.parse::<ListenAddr>().unwrap().addrs().collect();
            let expected: Vec<SocketAddr> = expected.iter().map(|a| a.parse().unwrap()).collect();
            assert_eq!(addrs, expected, "{text}");
        };
        check("127.0.0.1:7000", &["127.0.0.1:7000"]);
        check("[::1]:0", &["[::1]:0"]);
        check(":7000", &["0.0.0.0:7000", "[::]:7000"]);
        check("7000", &["0.0.0.0:7000", "[::]:7000"]);
        check("10.0.0.1", &["10.0.0.1:6881"]);
        for wrong in ["", "x", "1.2.3.4:99999", "localhost:80"] {
            assert!(wrong.parse::<ListenAddr>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_server_is_an_address_and_maybe_a_port() {
        let check = |text: &str, addr: &str| {
            assert_eq!(text.parse(), Ok(DnsServer(addr.parse().unwrap())), "{text}");
        };
        check("192.0.2.53", "192.0.2.53:53");
        check("192.0.2.53:5353", "192.0.2.53:5353");
        check("2001:db8::53", "[2001:db8::53]:53");
        check("[2001:db8::53]:5353", "[2001:db8::53]:5353");
        assert!("dns.example.org".parse::<DnsServer>().is_err());
    }
}
