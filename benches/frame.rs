//! Splits a stream of bytes, in chunks as from a socket, into records.

#![allow(missing_docs)]

mod common;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hypercore_protocol::frame::{FrameDecoder, write_frame_header};
use std::hint::black_box;

/// Bytes of a chunk.
const CHUNK: usize = 65_536;

fn frame(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("deframe 1 MiB");
    for size in common::SIZES {
        let mut stream = Vec::new();
        while stream.len() < 1 << 20 {
            write_frame_header(size, &mut stream).expect("short enough");
            stream.resize(stream.len() + size, 7);
        }
        group.throughput(Throughput::Bytes(stream.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                let mut decoder = FrameDecoder::new();
                for mut chunk in stream.chunks(CHUNK) {
                    while let Some(record) = decoder.decode(&mut chunk) {
                        black_box(record);
                    }
                }
                decoder.records()
            });
        });
    }
}

criterion_group!(benches, frame);
criterion_main!(benches);
