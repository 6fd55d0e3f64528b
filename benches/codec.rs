//! Encoding and decoding messages.

#![allow(missing_docs)]

mod common;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hypercore_protocol::Message;
use hypercore_protocol::encoding::Encode;
use std::hint::black_box;

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for (name, message) in common::messages() {
        let mut out = Vec::with_capacity(1 << 17);
        group.throughput(Throughput::Bytes(common::encoded(&message).len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(&message).append_to(&mut out).expect("encodes");
                out.len()
            });
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("decode");
    for (name, message) in common::messages() {
        let body = common::encoded(&message);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| Message::decode_as(message.message_type(), black_box(&body)));
        });
    }
}

criterion_group!(benches, codec);
criterion_main!(benches);
