//! Two processes with a socket between them. Both sides handle the same requests as examples-nodejs/bench/compare.js.

use std::io::BufRead;
use std::time::Instant;

use hypercore_protocol::{Channel, Message};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::clock;
use crate::node::Peer;
use crate::ours;

/// Lines of stdin, read by a separate thread.
fn requests() -> mpsc::UnboundedReceiver<Value> {
    let (tell, told) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let request = serde_json::from_str(&line.expect("is text")).expect("is JSON");
            if tell.send(request).is_err() {
                break;
            }
        }
    });
    told
}

fn count_of(message: &Message) -> u64 {
    match message {
        Message::Data(data) => data.request,
        _ => panic!("{message:?} is no block"),
    }
}

/// Receives, and confirms each window; its first message gives the number of messages.
pub fn listen() {
    LocalSet::new().block_on(&ours::runtime(), async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let port = listener.local_addr().expect("has one").port();
        println!("{}", json!({ "port": port }));
        let mut requests = requests();
        tokio::task::spawn_local(async move {
            while requests.recv().await.is_some() {
                println!("{}", json!({ "cpu": nanos() }));
            }
        });
        let (socket, _) = listener.accept().await.expect("accepts");
        socket.set_nodelay(true).expect("is set");
        let channel = ours::open(ours::builder(false).connect(socket)).await;
        let mut missing = 0;
        while let Some(message) = channel.recv().await {
            if missing == 0 {
                missing = count_of(&message);
            }
            missing -= 1;
            if missing == 0 {
                channel.send(ours::block(0, 0)).await.expect("sends");
            }
        }
    });
}

fn nanos() -> u64 {
    clock::cpu().as_nanos() as u64
}

fn with_count(message: &Message, count: u64) -> Message {
    let mut message = message.clone();
    if let Message::Data(data) = &mut message {
        data.request = count;
    }
    message
}

/// Sends as requested.
pub fn dial(port: u16) {
    LocalSet::new().block_on(&ours::runtime(), async {
        let socket = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("connects");
        socket.set_nodelay(true).expect("is set");
        let channel = ours::open(ours::builder(true).connect(socket)).await;
        let mut requests = requests();
        while let Some(request) = requests.recv().await {
            let (cpu, wall) = (nanos(), Instant::now());
            let times = answer(&channel, &request).await;
            let wall = wall.elapsed().as_nanos() as u64;
            println!(
                "{}",
                json!({ "cpu": nanos() - cpu, "wall": wall, "times": times })
            );
        }
    });
}

async fn answer(channel: &Channel, request: &Value) -> Vec<u64> {
    let size = request["size"].as_u64().expect("a size") as usize;
    let count = request["count"].as_u64().expect("a count");
    let mut times = Vec::new();
    if request["case"] == "ping" {
        let message = with_count(&ours::block(1, size), 1);
        for _ in 0..count {
            let sent = Instant::now();
            channel.send(message.clone()).await.expect("sends");
            channel.recv().await.expect("an answer");
            times.push(sent.elapsed().as_nanos() as u64);
        }
    } else {
        let messages: Vec<_> = (0..32).map(|index| ours::block(index, size)).collect();
        for at in 0..count {
            let message = match at {
                0 => with_count(&messages[0], count),
                _ => messages[at as usize % messages.len()].clone(),
            };
            channel.send(message).await.expect("sends");
        }
        channel.recv().await.expect("an answer");
    }
    times
}

/// Both ends of a connection, each in a process.
pub struct Line {
    listener: Peer,
    dialler: Peer,
}

/// The times of a transfer over a [`Line`].
pub struct Transfer {
    /// Elapsed time, in nanoseconds.
    pub wall: f64,
    /// Running time of the main threads of both ends.
    pub cpu: f64,
    /// The time of each round trip.
    pub times: Vec<f64>,
}

impl Line {
    pub fn new(start: impl Fn(&[&str]) -> Peer) -> Self {
        let mut listener = start(&["listen"]);
        let port = listener.read()["port"].as_u64().expect("a port");
        let dialler = start(&["dial", &port.to_string()]);
        Self { listener, dialler }
    }

    pub fn run(&mut self, case: &str, size: usize, count: usize) -> Transfer {
        let before = clock::cpu_of(self.listener.pid());
        let answer = self
            .dialler
            .ask(&json!({ "case": case, "size": size, "count": count }));
        let after = clock::cpu_of(self.listener.pid());
        let theirs = match (before, after) {
            (Some(before), Some(after)) => (after - before).as_nanos() as f64,
            _ => 0.0,
        };
        let number = |value: &Value| value.as_f64().expect("a number");
        Transfer {
            wall: number(&answer["wall"]),
            cpu: number(&answer["cpu"]) + theirs,
            times: answer["times"]
                .as_array()
                .map_or_else(Vec::new, |times| times.iter().map(number).collect()),
        }
    }
}
