//! The driver over a duplex stream in memory, on one thread.

#![allow(missing_docs)]

mod common;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hypercore_protocol::runtime::Tokio;
use hypercore_protocol::{Channel, Event, Message, Protocol, ProtocolBuilder};
use tokio::io::DuplexStream;
use tokio::runtime::{Builder, Runtime};

/// Opens the channel, and keeps the protocol running.
async fn channel(mut protocol: Protocol<Tokio<DuplexStream>>) -> Channel {
    protocol.open(common::KEY).expect("opens");
    loop {
        let event = protocol.next().await.expect("goes on");
        if let Event::Channel(channel) = event.expect("no error") {
            tokio::spawn(async move { while protocol.next().await.is_some() {} });
            return channel;
        }
    }
}

fn pair(runtime: &Runtime) -> (Channel, Channel) {
    runtime.block_on(async {
        let (a, b) = tokio::io::duplex(256 * 1024);
        let new = |is_initiator: bool, io| {
            ProtocolBuilder::new(is_initiator)
                .seed([u8::from(is_initiator) + 1; 32])
                .connect(io)
        };
        tokio::join!(channel(new(true, a)), channel(new(false, b)))
    })
}

fn protocol(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("starts");
    let mut group = criterion.benchmark_group("protocol over duplex");
    for size in common::SIZES {
        let count = (1 << 20) / size;
        let messages: Vec<Message> = (0..count as u64)
            .map(|index| common::block(index, size))
            .collect();
        let (here, there) = pair(&runtime);
        let receive = |count: usize| {
            let there = &there;
            async move {
                for _ in 0..count {
                    there.recv().await.expect("a message");
                }
            }
        };
        group.throughput(Throughput::Bytes((size * count) as u64));
        group.bench_function(BenchmarkId::new("stream of messages", size), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let send = async {
                        for message in &messages {
                            here.send(message.clone()).await.expect("sends");
                        }
                    };
                    tokio::join!(send, receive(count));
                });
            });
        });
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("one message", size), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    here.send(messages[0].clone()).await.expect("sends");
                    receive(1).await;
                });
            });
        });
    }
}

criterion_group!(benches, protocol);
criterion_main!(benches);
