//! One seed is one run.

use riverrun_base::Time;

use crate::content::Content;
use crate::node::Manners;
use crate::world::World;

fn trace(seed: u64) -> String {
    let content = Content::tokens(32, 8);
    let mut world = World::new(seed).traced();
    world.seed(&content, 1_000_000);
    for _ in 0..6 {
        world.leech(&content, 1_000_000);
    }
    let liar = world.leech(&content, 1_000_000);
    world.set_manners(
        liar,
        Manners {
            poison_every: Some(5),
            ..Manners::default()
        },
    );
    world.run_until(Time::from_secs(30));
    world.trace()
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_another() {
    assert_eq!(trace(1), trace(1));
    assert_ne!(trace(1), trace(2));
}
