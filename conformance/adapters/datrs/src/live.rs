//! The operations peer.*: a connection over TCP, made as the crate's own example makes one.
//!
//! One thread has the runtime and the task that polls the protocol. What the crate has no means for is not declared:
//! declining a channel, ending a stream, keep-alives.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::task::Poll;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use futures::Stream;
use hypercore_handshake::{Cipher, HandshakePattern};
use hypercore_protocol::{Channel, Command, DiscoveryKey, Event, Message, Protocol};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::compat::TokioAsyncReadCompatExt;
use uint24le_framing::Uint24LELengthPrefixedFraming;

use crate::codec::{self, bytes};
use crate::socket::{Direction, Faults, Socket, cause};
use crate::tap::{Notes, Tap};
use crate::{Answer, bad_input, refused};

pub(crate) const OPS: &[&str] = &[
    "peer.listen",
    "peer.dial",
    "peer.next",
    "peer.open",
    "peer.send",
    "peer.batch",
    "peer.fill",
    "peer.extension",
    "peer.closeChannel",
    "peer.raw",
    "peer.plaintext",
    "peer.reset",
    "peer.fail",
    "peer.stop",
];

/// How long a request may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(10);

/// The connection of this adapter, if there is one.
#[derive(Default)]
pub(crate) struct Live(Option<Peer>);

struct Peer {
    requests: mpsc::UnboundedSender<Request>,
    events: Receiver<Value>,
}

struct Request {
    op: String,
    input: Value,
    answer: Sender<Answer>,
}

fn closed() -> Value {
    refused("connection", "closed", "the stream is over")
}

impl Live {
    pub(crate) fn call(&mut self, op: &str, input: &Value) -> Answer {
        match op {
            "peer.listen" | "peer.dial" => self.start(op == "peer.dial", input.clone()),
            "peer.stop" => {
                self.0 = None;
                Ok(json!({}))
            }
            "peer.next" => self.next(input),
            _ => self.ask(op, input),
        }
    }

    fn start(&mut self, dial: bool, input: Value) -> Answer {
        if self.0.is_some() {
            return Err(bad_input("there is a stream already"));
        }
        let (requests, mut requested) = mpsc::unbounded_channel();
        let (happened, events) = channel();
        let (listening, port) = channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async move {
                let connected = tokio::select! {
                    socket = connect(dial, &input, &listening) => socket,
                    // The other requests wait until there is a stream: the runner asks none before. None at all: stopped.
                    None = requested.recv() => return,
                };
                match connected {
                    Ok(socket) => Task::new(socket, dial, &input, happened.clone()).run(&mut requested).await,
                    Err(error) => {
                        let _ = happened.send(json!({
                            "type": "error", "layer": "connection", "class": "closed", "message": error.to_string(),
                        }));
                    }
                }
                let _ = happened.send(json!({ "type": "closed" }));
            });
        });
        self.0 = Some(Peer { requests, events });
        if dial {
            return Ok(json!({}));
        }
        let port = port
            .recv_timeout(PATIENCE)
            .map_err(|_| bad_input("no port to listen on"))?;
        Ok(json!({ "port": port }))
    }

    fn next(&mut self, input: &Value) -> Answer {
        let timeout = Duration::from_millis(input["timeoutMs"].as_u64().unwrap_or_default());
        let peer = self.0.as_ref().ok_or_else(closed)?;
        match peer.events.recv_timeout(timeout) {
            Ok(event) => Ok(json!({ "event": event })),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err(refused("live", "timeout", "nothing happened in time"))
            }
        }
    }

    fn ask(&mut self, op: &str, input: &Value) -> Answer {
        let peer = self.0.as_ref().ok_or_else(closed)?;
        let (answer, answered) = channel();
        let request = Request {
            op: op.to_owned(),
            input: input.clone(),
            answer,
        };
        peer.requests.send(request).map_err(|_| closed())?;
        answered
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|error| match error {
                RecvTimeoutError::Timeout => {
                    Err(refused("live", "timeout", "the request took too long"))
                }
                RecvTimeoutError::Disconnected => Err(closed()),
            })
    }
}

async fn connect(dial: bool, input: &Value, listening: &Sender<u16>) -> io::Result<TcpStream> {
    let socket = if dial {
        TcpStream::connect((
            "127.0.0.1",
            input["port"].as_u64().unwrap_or_default() as u16,
        ))
        .await?
    } else {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let _ = listening.send(listener.local_addr()?.port());
        listener.accept().await?.0
    };
    socket.set_nodelay(true)?;
    Ok(socket)
}

struct Task {
    protocol: Protocol,
    notes: Notes,
    socket: std::net::TcpStream,
    faults: Faults,
    events: Sender<Value>,
    /// The numbers that the runner knows channels by.
    numbers: HashMap<DiscoveryKey, u64>,
    channels: HashMap<u64, Channel>,
    /// Those that the runner closed.
    closing: Vec<u64>,
    last: u64,
}

enum Turn {
    Request(Option<Request>),
    Event(Option<io::Result<Event>>),
}

impl Task {
    fn new(socket: TcpStream, dial: bool, input: &Value, events: Sender<Value>) -> Self {
        let socket = socket.into_std().expect("a socket of tokio");
        let raw = socket.try_clone().expect("a second handle");
        let socket = TcpStream::from_std(socket).expect("a socket of tokio");
        let socket = Socket::new(socket);
        let faults = socket.faults().clone();
        let io = socket.compat();
        let io = Box::new(Uint24LELengthPrefixedFraming::new(io));
        // An initiator of this crate draws its own static key; there is no way to give it one.
        let cipher = if dial {
            Cipher::new_dht_init_with_pattern(Some(io), HandshakePattern::XX, None, &[])
        } else {
            let seed = bytes(input, "keyPairSeed")
                .ok()
                .and_then(|seed| seed.try_into().ok());
            let private: [u8; 32] = seed.unwrap_or([7; 32]);
            let public = SigningKey::from_bytes(&private).verifying_key().to_bytes();
            let pair = hypercore_handshake::snow_keypair_from_secret_and_public(private, public);
            Cipher::resp_from_private_with_pattern(Some(io), &pair, HandshakePattern::XX, &[])
        };
        let (tap, notes) = Tap::new(cipher.expect("a cipher"));
        Self {
            protocol: Protocol::new(Box::new(tap)),
            notes,
            socket: raw,
            faults,
            events,
            numbers: HashMap::new(),
            channels: HashMap::new(),
            closing: Vec::new(),
            last: 0,
        }
    }

    fn report(&self, event: Value) {
        let _ = self.events.send(event);
    }

    async fn run(mut self, requests: &mut mpsc::UnboundedReceiver<Request>) {
        loop {
            let turn = poll_fn(|cx| {
                self.poll_messages(cx);
                if let Poll::Ready(request) = requests.poll_recv(cx) {
                    return Poll::Ready(Turn::Request(request));
                }
                Pin::new(&mut self.protocol).poll_next(cx).map(Turn::Event)
            })
            .await;
            // Messages that came before an event are told before it.
            poll_fn(|cx| {
                self.poll_messages(cx);
                Poll::Ready(())
            })
            .await;
            match turn {
                Turn::Request(None) | Turn::Event(None) => break,
                Turn::Request(Some(request)) if request.op == "peer.reset" => {
                    let reset = close_with_reset(&self.socket);
                    let _ = request
                        .answer
                        .send(reset.map(|()| json!({})).map_err(bad_input));
                    break;
                }
                Turn::Request(Some(request)) => {
                    let answer = self.carry_out(&request).await;
                    let _ = request.answer.send(answer);
                }
                Turn::Event(Some(Ok(event))) => self.on_event(event),
                Turn::Event(Some(Err(error))) => {
                    let (layer, class) = self.blame(&error);
                    self.report(json!({
                        "type": "error", "layer": layer, "class": class, "message": error.to_string(),
                    }));
                    break;
                }
            }
        }
        for number in self.channels.keys() {
            self.report(json!({ "type": "close", "channel": number, "by": "stream" }));
        }
    }

    fn poll_messages(&mut self, cx: &mut std::task::Context<'_>) {
        for (number, channel) in &mut self.channels {
            while let Poll::Ready(Some(message)) = Pin::new(&mut *channel).poll_next(cx) {
                let _ = match &message {
                    Message::Close(_) => Ok(()), // the event says so, too
                    Message::Extension(extension) => self.events.send(json!({
                        "type": "extension", "channel": number, "name": extension.name,
                        "message": hex::encode(&extension.message),
                    })),
                    message => self.events.send(json!({
                        "type": "message", "channel": number, "name": codec::name(message),
                        "value": codec::show(message),
                    })),
                };
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Handshake(remote) => {
                let hash = self
                    .notes
                    .lock()
                    .expect("no panic is caught")
                    .handshake_hash
                    .clone();
                self.report(json!({
                    "type": "handshake",
                    "publicKey": hex::encode(self.protocol.public_key()),
                    "remotePublicKey": hex::encode(remote),
                    "handshakeHash": hash.map(hex::encode),
                    "isInitiator": self.protocol.is_initiator(),
                }));
            }
            Event::DiscoveryKey(discovery_key) => self.report(json!({
                "type": "discoveryKey", "discoveryKey": hex::encode(discovery_key),
            })),
            Event::Channel(channel) => {
                let Some(&number) = self.numbers.get(channel.discovery_key()) else {
                    return;
                };
                let noted = self.notes.lock().expect("no panic is caught");
                let handshake = noted
                    .opens
                    .get(channel.discovery_key())
                    .and_then(|open| open.1.clone());
                let seeks = handshake.is_some_and(|handshake| handshake[0] & 1 != 0);
                drop(noted);
                self.report(json!({
                    "type": "open", "channel": number, "seeks": seeks,
                    "discoveryKey": hex::encode(channel.discovery_key()),
                }));
                self.channels.insert(number, channel);
            }
            Event::Close(discovery_key) => {
                let Some(number) = self.numbers.remove(&discovery_key) else {
                    return;
                };
                self.channels.remove(&number);
                let by = if self.closing.contains(&number) {
                    "local"
                } else {
                    "remote"
                };
                self.report(json!({ "type": "close", "channel": number, "by": by }));
            }
            _ => {}
        }
    }

    async fn carry_out(&mut self, request: &Request) -> Answer {
        let input = &request.input;
        let number = input["channel"].as_u64().unwrap_or_default();
        match request.op.as_str() {
            "peer.open" => {
                let key: [u8; 32] = bytes(input, "key")?
                    .try_into()
                    .map_err(|_| bad_input("not a key"))?;
                self.last += 1;
                self.numbers
                    .insert(hypercore_protocol::discovery_key(&key), self.last);
                self.protocol
                    .command(Command::Open(key))
                    .await
                    .map_err(fault)?;
                return Ok(json!({ "channel": self.last }));
            }
            "peer.send" => {
                let message = codec::read(
                    input["message"].as_str().unwrap_or_default(),
                    &input["value"],
                )?;
                self.channel(number)?.send(message).await.map_err(fault)?;
            }
            "peer.batch" => {
                let messages: Vec<_> = input["messages"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|m| codec::read(m["message"].as_str().unwrap_or_default(), &m["value"]))
                    .collect::<Result<_, _>>()?;
                self.channel(number)?
                    .send_batch(&messages)
                    .await
                    .map_err(fault)?;
            }
            "peer.fill" => return self.fill(number, input).await,
            "peer.fail" => {
                let name = |field: &str| input[field].as_str().unwrap_or_default().to_owned();
                let (direction, why) = (name("direction"), name("cause"));
                let unknown = || bad_input(format!("unknown failure: {direction}, {why}"));
                self.faults.fail(
                    Direction::from_name(&direction).ok_or_else(unknown)?,
                    cause(&why).ok_or_else(unknown)?,
                );
            }
            "peer.extension" => {
                let message = codec::read("extension", input)?;
                self.channel(number)?.send(message).await.map_err(fault)?;
            }
            "peer.closeChannel" => {
                self.closing.push(number);
                self.channel(number)?.close().await.map_err(fault)?;
            }
            "peer.raw" => self
                .write_raw(&bytes(input, "bytes")?)
                .await
                .map_err(fault)?,
            "peer.plaintext" => {
                let mut noted = self.notes.lock().expect("no panic is caught");
                noted.own.push_back(bytes(input, "bytes")?);
                if let Some(waker) = noted.polled_by.take() {
                    waker.wake();
                }
            }
            other => return Err(bad_input(format!("unknown operation: {other}"))),
        }
        Ok(json!({}))
    }

    /// Sends a message over and over, until one has to wait for longer than the patience.
    async fn fill(&mut self, number: u64, input: &Value) -> Answer {
        let outgoing = &input["outgoing"];
        let name = outgoing["message"].as_str().unwrap_or_default();
        let limit = input["limit"].as_u64().unwrap_or_default();
        let patience = Duration::from_millis(input["patienceMs"].as_u64().unwrap_or_default());
        let channel = self.channel(number)?;
        for sent in 0..limit {
            let sending = channel.send(codec::read(name, &outgoing["value"])?);
            match tokio::time::timeout(patience, self.drive(sending)).await {
                Ok(result) => result.map_err(fault)?,
                Err(_) => return Ok(json!({ "sent": sent, "waits": true })),
            }
        }
        Ok(json!({ "sent": limit, "waits": false }))
    }

    /// Polls the protocol, and this until it is done.
    async fn drive<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        poll_fn(|cx| {
            while let Poll::Ready(Some(Ok(event))) = Pin::new(&mut self.protocol).poll_next(cx) {
                self.on_event(event);
            }
            future.as_mut().poll(cx)
        })
        .await
    }

    fn channel(&self, number: u64) -> Result<Channel, Value> {
        self.channels.get(&number).cloned().ok_or_else(closed)
    }

    /// Writes past the protocol, as soon as the socket takes it.
    async fn write_raw(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.socket.write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::task::yield_now().await
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The crate does not say which layer refuses: the text of its errors and the last record have to.
    fn blame(&self, error: &io::Error) -> (&'static str, &'static str) {
        let text = error.to_string().to_lowercase();
        let noted = self.notes.lock().expect("no panic is caught");
        if error.kind() == io::ErrorKind::PermissionDenied {
            ("channel", "invalid-capability")
        } else if text.contains("secretstream") {
            // Before what is next: with its state the crate has dropped the handshake's hash.
            ("secretstream", "bad-mac")
        } else if noted.handshake_hash.is_none() {
            ("noise", "handshake-failed")
        } else if text.contains("broken pipe")
            || text.contains("reset")
            || text.contains("flush failed")
        {
            ("connection", "closed")
        } else if noted.last_channel == Some(0) {
            ("mux", "out-of-bounds")
        } else {
            ("message", "out-of-bounds")
        }
    }
}

fn fault(error: io::Error) -> Value {
    refused("connection", "closed", error)
}

/// The close of the socket will be a reset.
fn close_with_reset(socket: &std::net::TcpStream) -> io::Result<()> {
    socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO))
}
