//! What an answer costs: a node of a network of a thousand, and queries of strangers.

#[path = "../tests/network/hostile.rs"]
mod hostile;
#[path = "../tests/network/world.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod world;

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use riverrun_bencode::Writer;
use riverrun_dht::{NodeId, Outbox};

use crate::world::{Plan, World};

/// So slowly that no limit is reached.
const BETWEEN: Duration = Duration::from_millis(50);

fn query(method: &[u8], key: &[u8], target: NodeId) -> Vec<u8> {
    let mut out = Writer::new();
    out.dict().key(b"a").dict();
    out.key(b"id").bytes(&[7; 20]).key(key).bytes(&target.0);
    out.end().key(b"q").bytes(method).key(b"t").bytes(b"abcd");
    out.key(b"v")
        .bytes(b"LT\x02\x00")
        .key(b"y")
        .bytes(b"q")
        .end();
    out.finish()
}

fn serve(c: &mut Criterion) {
    let mut world = World::grow(Plan::honest(1, 1000), Duration::from_mins(2));
    let mut group = c.benchmark_group("answer");
    group.throughput(Throughput::Elements(1));
    for (method, key) in [
        ("find_node", &b"target"[..]),
        ("get_peers", &b"info_hash"[..]),
    ] {
        let queries: Vec<_> = (0..256)
            .map(|_| query(method.as_bytes(), key, NodeId::random(&mut world.rng)))
            .collect();
        let mut node = world.dht(5).expect("an honest node").clone();
        let (mut now, mut out, mut count) = (world.now, Outbox::default(), 0_u32);
        group.bench_function(method, |b| {
            b.iter(|| {
                count = count.wrapping_add(1);
                now += BETWEEN;
                let [_, x, y, z] = count.wrapping_mul(0x9e37_79b9).to_be_bytes();
                let from = SocketAddr::from(([90, x, y, z], 6881));
                let bytes = &queries[count as usize % queries.len()];
                node.handle_datagram(now, 0, from, black_box(bytes), &mut out);
                let answers = out.datagrams.len();
                out.datagrams.clear();
                answers
            });
        });
    }
}

criterion_group!(benches, serve);
criterion_main!(benches);
