//! Everything except the socket: encode, mux, seal, frame, and back.

#![allow(missing_docs)]

mod common;

use common::Pair;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hypercore_protocol::Message;

fn connection(criterion: &mut Criterion) {
    criterion.bench_function("handshake and channel open, both ends", |bencher| {
        bencher.iter(Pair::new);
    });

    let mut group = criterion.benchmark_group("end to end");
    for size in common::SIZES {
        // About 64 KiB at once, or one message if it is longer.
        let count = (65_536 / size).max(1);
        let messages: Vec<Message> = (0..count as u64)
            .map(|index| common::block(index, size))
            .collect();
        let mut pair = Pair::new();
        group.throughput(Throughput::Bytes((size * count) as u64));
        group.bench_function(BenchmarkId::new("one by one", size), |bencher| {
            bencher.iter(|| {
                for message in &messages {
                    pair.a.send(pair.channel, message).expect("sends");
                    assert_eq!(pair.carry(), 1);
                }
            });
        });
        group.bench_function(BenchmarkId::new("queued together", size), |bencher| {
            bencher.iter(|| {
                for message in &messages {
                    pair.a.send(pair.channel, message).expect("sends");
                }
                assert_eq!(pair.carry(), count);
            });
        });
        group.bench_function(BenchmarkId::new("batched", size), |bencher| {
            bencher.iter(|| {
                pair.a.send_batch(pair.channel, &messages).expect("sends");
                assert_eq!(pair.carry(), count);
            });
        });
    }
}

criterion_group!(benches, connection);
criterion_main!(benches);
