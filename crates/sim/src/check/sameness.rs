//! Whether decisions depend on nothing but what they are given (S12).

use riverrun_base::Time;
use riverrun_swarm::Replay;

use super::{Property, Violation};
use crate::ids::HostId;
use crate::world::World;

/// Gives all that shards were given, if the world has recorded it, to new ones: which of them do anything else.
///
/// # Panics
///
/// If a record cannot be read, which is a mistake of this program.
pub fn unlike(world: &mut World) -> Vec<Violation> {
    let hosts: Vec<HostId> = world.hosts().map(|(id, _)| id).collect();
    let mut found = Vec::new();
    for host in hosts {
        for record in world.records(host) {
            let parted = parting(&record);
            found.extend(parted.map(|at| Violation {
                property: Property::Determinism,
                at,
                host: Some(host),
                what: "does something else when it is given the same again".to_owned(),
            }));
        }
    }
    found
}

/// When a shard that is given the same does something else for the first time.
fn parting(mut record: &[u8]) -> Option<Time> {
    // Invariant: it was recorded by this program, and not cut off.
    let mut replay = Replay::begin(&mut record).expect("the head of a record");
    while let Some(step) = replay.step(&mut record).expect("an entry of a record") {
        if !step.agrees {
            return Some(step.at);
        }
    }
    None
}
