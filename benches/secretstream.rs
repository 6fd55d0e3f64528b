//! Sealing and opening records, compared with crypto_secretstream.

#![allow(missing_docs)]

mod common;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crypto_secretstream::{Header, Key, PullStream, PushStream, Tag as TheirTag};
use hypercore_protocol::secret_stream::{ABYTES, Pull, Push, Tag};
use rand_core::OsRng;
use std::hint::black_box;

fn secretstream(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("seal");
    for size in common::SIZES {
        group.throughput(Throughput::Bytes(size as u64));
        let mut push = Push::new(&[1; 32], &[2; 24]);
        let mut record = vec![7; size + ABYTES];
        group.bench_function(BenchmarkId::new("ours", size), |bencher| {
            bencher.iter(|| push.seal(Tag::MESSAGE, black_box(&mut record)));
        });
        let (_, mut theirs) = PushStream::init(OsRng, &Key::from([1; 32]));
        let mut record = Vec::with_capacity(size + ABYTES);
        group.bench_function(BenchmarkId::new("crypto_secretstream", size), |bencher| {
            bencher.iter(|| {
                record.resize(size, 7);
                theirs.push(black_box(&mut record), &[], TheirTag::Message)
            });
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("seal and open");
    for size in common::SIZES {
        group.throughput(Throughput::Bytes(size as u64));
        let mut push = Push::new(&[1; 32], &[2; 24]);
        let mut pull = Pull::new(&[1; 32], &[2; 24]);
        let mut record = vec![7; size + ABYTES];
        group.bench_function(BenchmarkId::new("ours", size), |bencher| {
            bencher.iter(|| {
                push.seal(Tag::MESSAGE, black_box(&mut record))
                    .expect("long enough");
                pull.open(black_box(&mut record)).expect("right")
            });
        });
        let (header, mut theirs) = PushStream::init(OsRng, &Key::from([1; 32]));
        let header = Header::try_from(&header.as_ref()[..]).expect("24 bytes");
        let mut their_pull = PullStream::init(header, &Key::from([1; 32]));
        let mut record = Vec::with_capacity(size + ABYTES);
        group.bench_function(BenchmarkId::new("crypto_secretstream", size), |bencher| {
            bencher.iter(|| {
                record.resize(size, 7);
                theirs
                    .push(black_box(&mut record), &[], TheirTag::Message)
                    .expect("short enough");
                their_pull.pull(black_box(&mut record), &[]).expect("right")
            });
        });
    }
}

criterion_group!(benches, secretstream);
criterion_main!(benches);
