//! That nobody who asks in another's name has others flooded (S7).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{Findings, PerHost, Property, is_sound};
use crate::ids::HostId;
use crate::observe::Happening;
use crate::services::Service;
use crate::world::World;

/// How many bytes a node sends for each that came, at most.
const NODE_FACTOR: usize = 8;
/// How long a uTP packet without payload is: all that is sent for a `SYN`.
const UTP_HEADER_BYTES: usize = 20;

#[derive(Debug, Default)]
pub(super) struct Reflection {
    hosts: PerHost<BTreeMap<(Service, SocketAddr), Account>>,
}

/// What one service of a host and one address have sent each other.
#[derive(Debug, Default)]
struct Account {
    /// Something has come that was really sent there: whoever is there wants to be answered.
    is_real: bool,
    came: Sum,
    sent: Sum,
}

#[derive(Debug, Default)]
struct Sum {
    datagrams: usize,
    bytes: usize,
}

impl Sum {
    const fn add(&mut self, len: usize) {
        self.datagrams += 1;
        self.bytes += len;
    }
}

impl Reflection {
    pub(super) fn see(&mut self, world: &World, happening: &Happening, findings: &mut Findings) {
        match happening {
            Happening::DatagramCame {
                host,
                port,
                by,
                from,
                len,
            } => {
                let is_real = world.host(*by).addr().ip() == from.ip();
                if let Some(service) = service(world, *host, *port) {
                    let accounts = self.hosts.of(*host);
                    let account = accounts.entry((service, *from)).or_default();
                    account.is_real |= is_real;
                    account.came.add(*len);
                }
            }
            Happening::DatagramSent { by, port, to, len } => {
                let Some(service) = service(world, *by, *port) else {
                    return;
                };
                // What it sends of its own accord is not an answer.
                let Some(account) = self.hosts.of(*by).get_mut(&(service, *to)) else {
                    return;
                };
                account.sent.add(*len);
                if let Some(what) = account.excess(service).filter(|_| is_sound(world, *by)) {
                    findings.add(Property::NoReflection, *by, format!("{what} to {to}"));
                }
            }
            Happening::Crashed { host, .. } => self.hosts.of(*host).clear(),
            _ => {}
        }
    }
}

fn service(world: &World, host: HostId, port: u16) -> Option<Service> {
    Service::at(port).filter(|service| world.host(host).config.serves.contains(service))
}

impl Account {
    /// What is too much, if something is.
    fn excess(&self, service: Service) -> Option<String> {
        let Self {
            is_real,
            came,
            sent,
        } = self;
        let is_much = match service {
            Service::Tracker => sent.bytes > came.bytes,
            Service::Node => sent.bytes > came.bytes * NODE_FACTOR,
            Service::Utp => {
                sent.datagrams > came.datagrams || sent.bytes > sent.datagrams * UTP_HEADER_BYTES
            }
        };
        (is_much && !is_real).then(|| {
            format!(
                "has sent {} bytes in {} datagrams for {} bytes in {}, as {service:?},",
                sent.bytes, sent.datagrams, came.bytes, came.datagrams
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_depends_on_the_service() {
        let account = |came: &[usize], sent: &[usize]| {
            let mut account = Account::default();
            for len in came {
                account.came.add(*len);
            }
            for len in sent {
                account.sent.add(*len);
            }
            account
        };
        for (service, came, sent, is_much) in [
            (Service::Tracker, &[16][..], &[16][..], false),
            (Service::Tracker, &[16], &[17], true),
            (Service::Node, &[100], &[400, 400], false),
            (Service::Node, &[100], &[400, 401], true),
            (Service::Utp, &[20, 20], &[20, 20], false),
            (Service::Utp, &[20], &[20, 20], true),
            (Service::Utp, &[20], &[21], true),
        ] {
            let mut account = account(came, sent);
            assert_eq!(account.excess(service).is_some(), is_much, "{account:?}");
            account.is_real = true;
            assert_eq!(account.excess(service), None);
        }
    }
}
