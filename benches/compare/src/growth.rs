//! How the costs of a connection grow: with the number of connections, of channels, the size of messages and the length
//! of the queue. Each point is measured in a process of its own, so that none inherits another's memory.

use std::time::Duration;

use hypercore_protocol::connection::ChannelHandle;
use hypercore_protocol::{Connection, ConnectionEvent};
use serde_json::json;

use crate::clock;
use crate::node::Peer;
use crate::ours;

/// A curve: the cost of one item at each size.
pub struct Curve {
    pub name: &'static str,
    pub unit: Cost,
    pub points: Vec<(f64, f64)>,
}

#[derive(Clone, Copy)]
pub enum Cost {
    Bytes,
    Seconds,
}

impl Cost {
    pub fn of(self, value: f64) -> String {
        match self {
            Self::Bytes if value >= 4096.0 => format!("{:.1} KiB", value / 1024.0),
            Self::Bytes => format!("{value:.0} bytes"),
            Self::Seconds if value >= 1e-6 => format!("{:.2} µs", value * 1e6),
            Self::Seconds => format!("{:.1} ns", value * 1e9),
        }
    }
}

const STEPS: [(&str, &str, Cost, [usize; 5]); 7] = [
    (
        "memory of a connection, by connections",
        "connections",
        Cost::Bytes,
        [625, 1250, 2500, 5000, 10_000],
    ),
    (
        "memory of a channel, by channels of a connection",
        "channels",
        Cost::Bytes,
        [6250, 12_500, 25_000, 50_000, 100_000],
    ),
    (
        "opening a channel on both sides, by channels",
        "opening",
        Cost::Seconds,
        [6250, 12_500, 25_000, 50_000, 100_000],
    ),
    (
        "a message on any channel, by channels",
        "among",
        Cost::Seconds,
        [6250, 12_500, 25_000, 50_000, 100_000],
    ),
    (
        "closing a channel on both sides, by channels",
        "closing",
        Cost::Seconds,
        [6250, 12_500, 25_000, 50_000, 100_000],
    ),
    (
        "a byte of a message, by its size",
        "size",
        Cost::Seconds,
        [65_536, 262_144, 1_048_576, 4_194_304, 16_000_000],
    ),
    (
        "a message of 64 bytes, by how many are queued",
        "queue",
        Cost::Seconds,
        [1000, 4000, 16_000, 64_000, 256_000],
    ),
];

pub fn measure() -> Vec<Curve> {
    let mut curves = Vec::new();
    for (name, what, unit, counts) in STEPS {
        eprintln!("growth: {name}");
        let point = |count: usize| {
            let once = || {
                let mut child = Peer::ourselves(&["growth", what, &count.to_string()]);
                child.read()["each"].as_f64().expect("a number")
            };
            // Time is the best of three; memory does not vary.
            let each = match unit {
                Cost::Bytes => once(),
                Cost::Seconds => (0..3).map(|_| once()).fold(f64::MAX, f64::min),
            };
            (count as f64, each)
        };
        curves.push(Curve {
            name,
            unit,
            points: counts.map(point).to_vec(),
        });
    }
    curves
}

/// Resident bytes of this process.
fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages = statm.split(' ').nth(1).expect("two numbers");
    pages.parse::<f64>().expect("a number") * 4096.0
}

/// Measures one point and prints it.
pub fn child(what: &str, count: usize) {
    let each = match what {
        "connections" => connections(count),
        "size" => size(count),
        "queue" => queue(count),
        _ => channels(what, count),
    };
    println!("{}", json!({ "each": each }));
}

/// The driver on a duplex stream with a buffer of a few bytes; half of the pair's memory.
fn connections(count: usize) -> f64 {
    use tokio::task::LocalSet;
    LocalSet::new().block_on(&ours::runtime(), async {
        let mut kept = Vec::new();
        let mut add = async |count: usize| {
            for _ in 0..count {
                let (a, b) = tokio::io::duplex(4096);
                let (a, b) = (
                    ours::builder(true).connect(a),
                    ours::builder(false).connect(b),
                );
                kept.push(tokio::join!(ours::open(a), ours::open(b)));
            }
        };
        // Allocations that only the first ones need.
        add(50).await;
        let before = resident();
        add(count).await;
        (resident() - before) / (2 * count) as f64
    })
}

fn carry(from: &mut Connection, to: &mut Connection, spare: &mut Vec<u8>) -> (usize, usize) {
    from.swap_transmit(spare, Duration::ZERO);
    to.receive(spare, Duration::ZERO);
    let (mut messages, mut closed) = (0, 0);
    while let Some(event) = to.poll_event().expect("no error") {
        match event {
            ConnectionEvent::Message { .. } => messages += 1,
            ConnectionEvent::ChannelClosed { .. } => closed += 1,
            _ => {}
        }
    }
    (messages, closed)
}

fn key(at: usize) -> [u8; 32] {
    let mut key = [7; 32];
    key[..8].copy_from_slice(&(at as u64).to_le_bytes());
    key
}

fn seconds(act: impl FnOnce()) -> f64 {
    let started = clock::cpu();
    act();
    (clock::cpu() - started).as_secs_f64()
}

fn channels(what: &str, count: usize) -> f64 {
    let (mut a, mut b) = (ours::connection(true), ours::connection(false));
    let mut spare = Vec::new();
    let mut handles: Vec<ChannelHandle> = Vec::new();
    let mut grow = |a: &mut Connection, b: &mut Connection, from: usize, to: usize| {
        // No more than a peer may leave unanswered at a time.
        for start in (from..to).step_by(1000) {
            for at in start..to.min(start + 1000) {
                handles.push(a.open(key(at)).expect("opens"));
                b.open(key(at)).expect("opens");
            }
            for _ in 0..4 {
                carry(a, b, &mut spare);
                carry(b, a, &mut spare);
            }
        }
    };
    grow(&mut a, &mut b, 0, 500);
    let before = resident();
    let opening = seconds(|| grow(&mut a, &mut b, 500, 500 + count));
    let memory = resident() - before;
    match what {
        "channels" => memory / (2 * count) as f64,
        "opening" => opening / count as f64,
        "among" => {
            let messages: Vec<_> = (0..64).map(|index| ours::block(index, 64)).collect();
            let rounds = 200_000 / messages.len();
            let mut next = 0;
            let took = seconds(|| {
                for _ in 0..rounds {
                    for message in &messages {
                        next = (next + 7919) % handles.len();
                        a.send(handles[next], message).expect("sends");
                    }
                    assert_eq!(carry(&mut a, &mut b, &mut spare).0, messages.len());
                }
            });
            took / (rounds * messages.len()) as f64
        }
        "closing" => {
            let took = seconds(|| {
                let mut closed = 0;
                for handles in handles.chunks(1000) {
                    for handle in handles {
                        a.close(*handle);
                    }
                    closed += carry(&mut a, &mut b, &mut spare).1;
                    carry(&mut b, &mut a, &mut spare);
                }
                assert_eq!(closed, handles.len());
            });
            took / handles.len() as f64
        }
        _ => panic!("no growth in {what}"),
    }
}

fn size(size: usize) -> f64 {
    let mut pair = ours::Pair::new();
    let load = |count| crate::Load {
        size,
        batch: 1,
        count,
    };
    pair.send(load(2));
    let count = (128 << 20) / size;
    seconds(|| pair.send(load(count))) / (count * size) as f64
}

/// All are queued before any is sent.
fn queue(count: usize) -> f64 {
    let mut pair = ours::Pair::new();
    let message = ours::block(1, 64);
    let rounds = 512_000 / count;
    let took = seconds(|| {
        for _ in 0..rounds {
            pair.queue(&message, count);
        }
    });
    took / (rounds * count) as f64
}
