//! What routers forward to us and let through, as it is told.

use std::net::SocketAddr;

use riverrun_engine::{Engine, PortMapping};
use serde_json::json;
use tokio::sync::watch::Receiver;

use super::progress::Progress;
use crate::failure::Outcome;

/// What routers do for us, and what was told of it.
pub(super) struct Mappings {
    /// `None` if routers are not asked.
    open: Option<Receiver<Vec<PortMapping>>>,
    told: Vec<PortMapping>,
}

impl Mappings {
    pub(super) fn of(engine: &Engine) -> Self {
        Self {
            open: engine.port_mappings(),
            told: Vec::new(),
        }
    }

    /// Waits for one that was not told.
    pub(super) async fn next(&mut self) -> PortMapping {
        let Some(receiver) = &mut self.open else {
            return std::future::pending().await;
        };
        loop {
            let open = receiver.borrow_and_update().clone();
            self.told.retain(|told| open.contains(told));
            let new = open.into_iter().find(|open| !self.told.contains(open));
            if let Some(new) = new {
                self.told.push(new);
                return new;
            }
            if receiver.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

/// Tells at which port of the router we are reached, or that it lets our own through.
pub(super) fn tell(mapping: &PortMapping, progress: &mut Progress<'_>) -> Outcome {
    let PortMapping {
        port,
        external_port,
        external_ip,
        by,
        ..
    } = mapping;
    let ip = external_ip.map(|ip| ip.to_string());
    progress.event(&json!({
        "event": "port_mapped", "port": port, "external_port": external_port, "external_ip": ip, "by": by,
    }))?;
    let at = external_ip.map_or_else(
        || external_port.to_string(),
        |ip| SocketAddr::new(ip, *external_port).to_string(),
    );
    if Some(mapping.ip) == *external_ip {
        progress.detail(format!("the router lets {at} through ({by})"));
    } else {
        progress.detail(format!("the router forwards {at} to port {port} ({by})"));
    }
    Ok(())
}
