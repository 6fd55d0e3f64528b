//! Messages to records and back, single and in batches, with few channels and with many.

#![allow(missing_docs)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hypercore_protocol::mux::{ChannelId, Limits, Mux, MuxEvent, OpenOptions, Raw};

/// Messages of one round.
const COUNT: usize = 256;

fn open(mux: &mut Mux, id: u32) -> ChannelId {
    let options = OpenOptions {
        protocol: "bench",
        aliases: &[],
        id: Some(&id.to_le_bytes()),
        unique: true,
        handshake: &Raw(b""),
    };
    mux.open(&options).expect("opens")
}

/// Two ends with this many open channels.
fn pair(channels: u32) -> (Mux, Mux, Vec<ChannelId>) {
    let (mut a, mut b) = (Mux::new(Limits::default()), Mux::new(Limits::default()));
    let ids = (0..channels).map(|id| open(&mut a, id)).collect();
    for id in 0..channels {
        open(&mut b, id);
    }
    deliver(&mut a, &mut b);
    deliver(&mut b, &mut a);
    (a, b, ids)
}

/// Gives records to the other end and counts the messages in them.
fn deliver(from: &mut Mux, to: &mut Mux) -> usize {
    let mut count = 0;
    while let Some(record) = from.poll_transmit() {
        to.receive(record);
        while let Some(event) = to.poll_event().expect("no error") {
            count += usize::from(matches!(event, MuxEvent::Message { .. }));
        }
    }
    count
}

fn mux(criterion: &mut Criterion) {
    for channels in [1, 1000, 100_000] {
        let mut group = criterion.benchmark_group(format!("mux with {channels} channels"));
        let (mut a, mut b, ids) = pair(channels);
        for size in [64, 1024] {
            let body = vec![7; size];
            group.throughput(Throughput::Elements(COUNT as u64));
            for batched in [false, true] {
                let name = if batched { "batched" } else { "one by one" };
                group.bench_function(BenchmarkId::new(name, size), |bencher| {
                    bencher.iter(|| {
                        if batched {
                            a.cork();
                        }
                        for at in 0..COUNT {
                            let channel = ids[at * 7919 % ids.len()];
                            a.send(channel, 0, &Raw(&body)).expect("sends");
                        }
                        if batched {
                            a.uncork();
                        }
                        assert_eq!(deliver(&mut a, &mut b), COUNT);
                    });
                });
            }
        }
    }
}

criterion_group!(benches, mux);
criterion_main!(benches);
