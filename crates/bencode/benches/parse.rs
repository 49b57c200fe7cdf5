//! How fast bencode is read and written: a torrent file of many files, and a small message.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use riverrun_bencode::{Document, Limits, Writer};

/// A torrent file of so many files.
fn torrent(files: u32) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.dict().key(b"info").dict().key(b"files").list();
    for n in 0..files {
        writer.dict().key(b"length").uint(u64::from(n) * 1009);
        writer.key(b"path").list();
        writer
            .bytes(b"directory")
            .bytes(format!("file {n}").as_bytes());
        writer.end().end();
    }
    writer.end();
    writer.key(b"name").bytes(b"many");
    writer.key(b"piece length").uint(1 << 20);
    writer.key(b"pieces").bytes(&vec![7; 20 * files as usize]);
    writer.end().end();
    writer.finish()
}

/// As a DHT node answers.
fn message() -> Vec<u8> {
    let mut writer = Writer::new();
    writer.dict().key(b"r").dict();
    writer.key(b"id").bytes(&[1; 20]);
    writer.key(b"nodes").bytes(&[2; 208]);
    writer.key(b"token").bytes(&[3; 8]).end();
    writer.key(b"t").bytes(b"aa").key(b"y").bytes(b"r").end();
    writer.finish()
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("bencode");
    let inputs = [
        ("torrent of 20000 files", torrent(20_000), Limits::TORRENT),
        ("message", message(), Limits::MESSAGE),
    ];
    for (name, bytes, limits) in inputs {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("read a {name}"), |b| {
            b.iter(|| {
                Document::parse(black_box(&bytes), limits).map(|it| it.root().as_dict().is_some())
            });
        });
    }
    group.throughput(Throughput::Bytes(torrent(20_000).len() as u64));
    group.bench_function("write a torrent of 20000 files", |b| {
        b.iter(|| torrent(black_box(20_000)));
    });
}

criterion_group!(benches, parse);
criterion_main!(benches);
