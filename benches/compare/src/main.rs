//! Compares this crate with datrs's hypercore-protocol 0.7.2, Node's stack and the bare primitives: the same bytes, one
//! thread each, in turns.
//!
//!   cargo run --release --manifest-path benches/compare/Cargo.toml [-- --rounds N] [--only TEXT] [--of NAME] [--print]
//!   cargo run --release --manifest-path benches/compare/Cargo.toml -- --growth [--print]
//!
//! It measures the running time of a thread, not elapsed time, except with a socket between two processes. In each
//! round every contestant has its turn, and a ratio is between two turns of the same round: other load on the machine
//! slows both. Do not compare figures of different runs.
//!
//! `--only` selects the cases with this text in their name, `--of` one contestant, for a profiler. Writes
//! docs/performance/compare.md and .svg, or growth.md and .svg, unless only a part was run or with `--print`.

mod clock;
mod growth;
mod node;
mod others;
mod ours;
mod picture;
mod report;
mod tcp;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use serde_json::json;

use node::Peer;
use report::{Figure, Unit};

/// The core's key.
pub const KEY: [u8; 32] = [3; 32];

/// Bytes sent before waiting for their arrival.
pub const WINDOW: usize = 1 << 18;

/// Approximate length of a turn.
const TURN: Duration = Duration::from_millis(80);

/// Messages to send.
#[derive(Clone, Copy)]
pub struct Load {
    /// Bytes of a block.
    pub size: usize,
    /// Messages in a batch; 1 for no batch.
    pub batch: usize,
    /// Total number of messages.
    pub count: usize,
}

/// Does something `count` times, and returns the running time.
type Run<'a> = Box<dyn FnMut(usize) -> Duration + 'a>;

struct Contestant<'a> {
    name: &'static str,
    run: Run<'a>,
    /// The count that makes a turn.
    count: usize,
}

struct Case<'a> {
    name: String,
    unit: Unit,
    contestants: Vec<Contestant<'a>>,
}

impl<'a> Case<'a> {
    fn new(name: impl Into<String>, unit: Unit) -> Self {
        Self {
            name: name.into(),
            unit,
            contestants: Vec::new(),
        }
    }

    /// A contestant in this process.
    fn with(self, name: &'static str, mut act: impl FnMut(usize) + 'a) -> Self {
        self.timed(name, move |count| {
            let started = clock::cpu();
            act(count);
            clock::cpu() - started
        })
    }

    fn timed(mut self, name: &'static str, run: impl FnMut(usize) -> Duration + 'a) -> Self {
        self.contestants.push(Contestant {
            name,
            run: Box::new(run),
            count: 0,
        });
        self
    }
}

/// A contestant run by Node.
fn in_node(
    node: &Rc<RefCell<Peer>>,
    request: serde_json::Value,
) -> impl FnMut(usize) -> Duration + use<> {
    let node = Rc::clone(node);
    move |count| {
        let mut request = request.clone();
        request["count"] = json!(count);
        let answer = node.borrow_mut().ask(&request);
        Duration::from_nanos(answer["cpu"].as_u64().expect("a time"))
    }
}

fn messages(size: usize, batch: usize) -> Load {
    Load {
        size,
        batch,
        count: 0,
    }
}

fn cases(node: &Rc<RefCell<Peer>>) -> Vec<Case<'static>> {
    let mut cases = Vec::new();
    let in_node = |request| in_node(node, request);

    cases.push(
        Case::new("handshake and channel open, both ends", Unit::PerSecond)
            .with("ours", |count| {
                (0..count).for_each(|_| drop(ours::Pair::new()))
            })
            .with("ours, driven", |count| {
                (0..count).for_each(|_| drop(ours::Driven::new()));
            })
            .timed("node", in_node(json!({ "case": "handshake" })))
            .with("datrs", others::Datrs::handshakes)
            .with("the curve's part", others::curve_of_handshakes),
    );

    for (name, size, batch) in [
        ("64 KiB messages, end to end", 65_536, 1),
        ("1 KiB messages one by one, end to end", 1024, 1),
        ("1 KiB messages in batches of 32, end to end", 1024, 32),
    ] {
        let load = messages(size, batch);
        let (mut pair, mut driven) = (ours::Pair::new(), ours::Driven::new());
        let whole = move |count: usize| Load {
            count: count.next_multiple_of(batch),
            ..load
        };
        let mut case = Case::new(name, Unit::Bytes(size))
            .with("ours", move |count| pair.send(whole(count)))
            .with("ours, driven", move |count| driven.send(whole(count)))
            .timed(
                "node",
                in_node(json!({ "case": "messages", "size": size, "batch": batch })),
            );
        // Its framing hangs at a record of 64 KiB.
        if size < 65_536 {
            let mut datrs = others::Datrs::new();
            case = case.with("datrs", move |count| datrs.send(whole(count)));
        }
        if batch == 1 {
            case = case
                .with("our push and pull", move |count| {
                    ours::seal_and_open(size, count)
                })
                .timed(
                    "libsodium's push and pull",
                    in_node(json!({ "case": "sealOpen", "size": size })),
                )
                .with("crypto_secretstream's push and pull", move |count| {
                    others::crypto_secretstream(size, count);
                })
                .with("ring's seal and open", move |count| {
                    others::ring(size, count)
                });
        }
        cases.push(case);
    }

    for (name, size) in [
        ("push of 64 KiB", 65_536),
        ("push of 1 KiB", 1024),
        ("push of 64 bytes", 64),
    ] {
        cases.push(
            Case::new(name, Unit::Bytes(size))
                .with("ours", move |count| ours::seal(size, count))
                .timed(
                    "libsodium",
                    in_node(json!({ "case": "seal", "size": size })),
                )
                .with("crypto_secretstream", move |count| {
                    others::crypto_secretstream_seal(size, count);
                })
                .with("ring's seal", move |count| others::ring_seal(size, count))
                .with("chacha20 alone", move |count| others::chacha20(size, count))
                .with("poly1305 alone", move |count| others::poly1305(size, count)),
        );
    }

    for (name, message) in ours::messages() {
        cases.push(
            Case::new(format!("encode and decode: {name}"), Unit::PerSecond)
                .with("ours", move |count| ours::codec(&message, count))
                .timed("node", in_node(json!({ "case": "codec", "message": name })))
                .with("hypercore_schema", move |count| others::codec(name, count)),
        );
    }
    cases
}

/// Finds the count with which a turn takes about the intended time; also warms up.
fn calibrate(contestant: &mut Contestant<'_>) {
    let mut count = 1;
    loop {
        let took = (contestant.run)(count);
        if took >= TURN / 4 {
            let turns = TURN.as_secs_f64() / took.as_secs_f64();
            contestant.count = ((count as f64 * turns) as usize).max(1);
            return;
        }
        count *= 2;
    }
}

/// Each contestant's turns, in the order of the rounds.
fn play(cases: &mut [Case<'_>], rounds: usize) -> Vec<Figure> {
    let mut figures: Vec<_> = cases
        .iter()
        .map(|case| {
            let names = case.contestants.iter().map(|contestant| contestant.name);
            Figure::new(&case.name, case.unit, names)
        })
        .collect();
    for case in cases.iter_mut() {
        eprintln!("warming up: {}", case.name);
        case.contestants.iter_mut().for_each(calibrate);
    }
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for (case, figure) in cases.iter_mut().zip(&mut figures) {
            for (at, contestant) in case.contestants.iter_mut().enumerate() {
                let took = (contestant.run)(contestant.count);
                figure.add(at, took.as_secs_f64() / contestant.count as f64);
            }
        }
    }
    figures
}

/// Over sockets, where elapsed time is measured.
fn over_tcp(rounds: usize) -> Vec<Figure> {
    let names = ["ours", "node"];
    let mut lines = [Line::new(Peer::ourselves), Line::new(Peer::node)];
    let mut figures = vec![
        Figure::new(
            "64 KiB over loopback TCP between two processes",
            Unit::Bytes(65_536),
            names,
        ),
        Figure::new(
            "1 KiB one by one over loopback TCP",
            Unit::Bytes(1024),
            names,
        ),
        Figure::new(
            "64 KiB over loopback TCP, running time of both",
            Unit::Bytes(65_536),
            names,
        ),
        Figure::new(
            "1 KiB over loopback TCP, running time of both",
            Unit::Bytes(1024),
            names,
        ),
        Figure::new(
            "64 bytes there and back over loopback TCP, median",
            Unit::Micros,
            names,
        ),
        Figure::new(
            "64 bytes there and back over loopback TCP, 99th percentile",
            Unit::Micros,
            names,
        ),
    ];
    for line in &mut lines {
        line.run("ping", 64, 2000);
        line.run("bulk", 65_536, 500);
        line.run("bulk", 1024, 5000);
    }
    for round in 0..rounds {
        eprintln!("over TCP: round {} of {rounds}", round + 1);
        for (at, line) in lines.iter_mut().enumerate() {
            for (case, (size, count)) in [(65_536, 1600), (1024, 20_000)].into_iter().enumerate() {
                let transfer = line.run("bulk", size, count);
                figures[case].add(at, transfer.wall / 1e9 / count as f64);
                figures[2 + case].add(at, transfer.cpu / 1e9 / count as f64);
            }
        }
        for (at, line) in lines.iter_mut().enumerate() {
            let mut times = line.run("ping", 64, 1000).times;
            times.sort_by(f64::total_cmp);
            figures[4].add(at, times[times.len() / 2] / 1e9);
            figures[5].add(at, times[times.len() * 99 / 100] / 1e9);
        }
    }
    figures
}

use tcp::Line;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    match arguments.first().map(String::as_str) {
        Some("listen") => return tcp::listen(),
        Some("dial") => return tcp::dial(arguments[1].parse().expect("a port")),
        Some("growth") => {
            return growth::child(&arguments[1], arguments[2].parse().expect("a number"));
        }
        _ => {}
    }
    let write = !arguments.iter().any(|argument| argument == "--print");
    if arguments.iter().any(|argument| argument == "--growth") {
        let curves = growth::measure();
        let report = report::growth(&curves);
        println!("{report}");
        if write {
            report::write_growth(&report, &curves);
        }
        return;
    }
    let rounds = value("--rounds").map_or(7, |rounds| rounds.parse().expect("a number"));
    let only = value("--only").unwrap_or_default();
    let of = value("--of");

    let node = Rc::new(RefCell::new(Peer::node(&[])));
    let mut cases = cases(&node);
    cases.retain(|case| case.name.contains(&only));
    if let Some(name) = &of {
        for case in &mut cases {
            case.contestants.retain(|contestant| contestant.name == name);
        }
    }
    let mut figures = play(&mut cases, rounds);
    drop(cases);
    if of.is_none() && (only.is_empty() || only == "TCP") {
        figures.extend(over_tcp(rounds));
    }
    let report = report::markdown(&figures, rounds);
    println!("{report}");
    if only.is_empty() && of.is_none() && write {
        report::write(&report, &figures);
    }
}
