//! Handshakes: both sides of each pattern, and their curve arithmetic.

#![allow(missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use hypercore_protocol::noise::curve;
use hypercore_protocol::noise::{Handshake, HandshakeConfig};
use hypercore_protocol::{KeyPair, Pattern};
use std::hint::black_box;

/// Both sides of a handshake with existing static keys.
fn handshake(pattern: Pattern, keys: &[KeyPair; 2]) {
    let new = |is_initiator: bool| {
        let mut config = HandshakeConfig::new(pattern, is_initiator);
        config.key_pair = Some(keys[usize::from(!is_initiator)].clone());
        config.remote_public_key =
            (is_initiator && pattern.needs_remote_public_key()).then(|| *keys[1].public_key());
        Handshake::new(config).expect("starts")
    };
    let (mut a, mut b) = (new(true), new(false));
    let mut message = Vec::new();
    while a.result().is_none() || b.result().is_none() {
        let (from, to) = if a.is_our_turn() {
            (&mut a, &mut b)
        } else {
            (&mut b, &mut a)
        };
        message.clear();
        from.write(&[], &mut message).expect("writes");
        to.read(&message).expect("reads");
    }
}

fn noise(criterion: &mut Criterion) {
    let keys = [1, 2].map(|seed| KeyPair::from_seed(&[seed; 32]));
    let mut group = criterion.benchmark_group("handshake, both sides");
    for pattern in [Pattern::XX, Pattern::IK, Pattern::NN] {
        group.bench_function(pattern.name(), |bencher| {
            bencher.iter(|| handshake(pattern, &keys));
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("curve");
    let public = *keys[1].public_key();
    group.bench_function("public_key", |bencher| {
        bencher.iter(|| curve::public_key(black_box(&[1; 32])));
    });
    group.bench_function("check_public_key", |bencher| {
        bencher.iter(|| curve::check_public_key(black_box(&public)));
    });
    group.bench_function("dh", |bencher| {
        bencher.iter(|| curve::dh(black_box(&[1; 32]), black_box(&public)));
    });
}

criterion_group!(benches, noise);
criterion_main!(benches);
