//! The operations peer.*: a connection to a live peer over TCP, made with the crate's public API.
//!
//! One task owns the protocol: it handles requests, reads every channel and puts events in one order.

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::task::Poll;
use std::time::Duration;

use futures::Stream;
use hypercore_protocol::connection::{ChannelError, ChannelHandle};
use hypercore_protocol::runtime::Tokio;
use hypercore_protocol::wire::Extension;
use hypercore_protocol::{
    Channel, CloseReason, DiscoveryKey, Error, Event, Key, Message, Protocol, ProtocolBuilder,
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};

use super::ops::values::{self, Fault, Result, array, bytes, get, hexed, text, uint};
use super::socket::{self, Direction, Socket};
use crate::adapter::Outcome;

/// The operations of this file.
pub(super) const OPS: &[&str] = &[
    "peer.listen",
    "peer.dial",
    "peer.next",
    "peer.open",
    "peer.reject",
    "peer.send",
    "peer.batch",
    "peer.fill",
    "peer.extension",
    "peer.closeChannel",
    "peer.keepAlive",
    "peer.raw",
    "peer.plaintext",
    "peer.end",
    "peer.reset",
    "peer.fail",
    "peer.stop",
];

/// How long the task may take for a request before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// The connection of this adapter, if there is one.
#[derive(Debug, Default)]
pub(super) struct Live {
    runtime: Option<Runtime>,
    peer: Option<Peer>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.peer = None;
        // An adapter may be dropped by a task of another runtime, where blocking is not allowed.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Handles of the task that owns the protocol.
#[derive(Debug)]
struct Peer {
    requests: mpsc::UnboundedSender<(Request, Sender<Result<Value>>)>,
    events: Receiver<Value>,
    /// Ends the task when dropped.
    _alive: oneshot::Sender<()>,
}

#[derive(Debug)]
enum Request {
    Open(Key),
    Reject([u8; 32]),
    Send(u64, Vec<Message>, bool),
    Fill {
        channel: u64,
        message: Box<Message>,
        limit: u64,
        patience: Duration,
    },
    CloseChannel(u64),
    KeepAlive,
    Raw(Vec<u8>),
    Plaintext(Vec<u8>),
    End,
    Reset,
    Fail(Direction, io::ErrorKind),
}

/// A refusal by this adapter rather than by the protocol.
fn refuse<T>(class: &str, message: impl Into<String>) -> std::result::Result<T, Outcome> {
    Err(Outcome::error("live", class, message))
}

/// There is no open stream.
fn closed<T>(message: &str) -> std::result::Result<T, Outcome> {
    Err(Outcome::error("connection", "closed", message))
}

impl Live {
    /// Performs one operation.
    pub(super) fn call(&mut self, op: &str, input: &Value) -> Outcome {
        match self.try_call(op, input) {
            Ok(value) => Outcome::Ok(value),
            Err(outcome) => outcome,
        }
    }

    fn try_call(&mut self, op: &str, input: &Value) -> std::result::Result<Value, Outcome> {
        match op {
            "peer.listen" | "peer.dial" => self.start(op == "peer.dial", input),
            "peer.next" => self.next(input),
            "peer.stop" => {
                self.peer = None;
                Ok(json!({}))
            }
            _ => {
                let request = Request::read(op, input).map_err(live)?;
                self.ask(request)
            }
        }
    }

    fn start(&mut self, dial: bool, input: &Value) -> std::result::Result<Value, Outcome> {
        if self.peer.is_some() {
            return refuse("bad-input", "there is a stream already");
        }
        let options = Options::read(input).map_err(live)?;
        let port = if dial {
            Some(uint(input, "port").map_err(live)?)
        } else {
            None
        };
        if self.runtime.is_none() {
            let runtime = Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build();
            match runtime {
                Ok(runtime) => self.runtime = Some(runtime),
                Err(error) => return refuse("bad-input", error.to_string()),
            }
        }
        let Some(runtime) = &self.runtime else {
            return refuse("bad-input", "there is no runtime");
        };

        let (requests, requested) = mpsc::unbounded_channel();
        let (happened, events) = channel();
        let (alive, ended) = oneshot::channel();
        let (listening, port_known) = channel();
        runtime.spawn(async move {
            let run = async {
                let socket = match port {
                    Some(port) => connect(port).await,
                    None => accept(&listening).await,
                };
                match socket {
                    Ok(socket) => {
                        let socket = Socket::new(socket);
                        let protocol = options.builder(dial).connect(socket);
                        Task::new(protocol, happened).run(requested).await;
                    }
                    Err(error) => {
                        report_error(&happened, &error.into());
                        let _ = happened.send(json!({ "type": "closed" }));
                    }
                }
            };
            tokio::select! {
                () = run => {}
                _ = ended => {}
            }
        });
        self.peer = Some(Peer {
            requests,
            events,
            _alive: alive,
        });
        if dial {
            return Ok(json!({}));
        }
        match port_known.recv_timeout(PATIENCE) {
            Ok(Ok(port)) => Ok(json!({ "port": port })),
            Ok(Err(error)) => {
                self.peer = None;
                refuse("bad-input", error.to_string())
            }
            Err(_) => {
                self.peer = None;
                refuse("timeout", "no port to listen on")
            }
        }
    }

    fn next(&mut self, input: &Value) -> std::result::Result<Value, Outcome> {
        let timeout = Duration::from_millis(uint(input, "timeoutMs").map_err(live)?);
        let Some(peer) = &self.peer else {
            return closed("there is no stream");
        };
        match peer.events.recv_timeout(timeout) {
            Ok(event) => Ok(json!({ "event": event })),
            Err(RecvTimeoutError::Timeout) => refuse("timeout", "nothing happened in time"),
            Err(RecvTimeoutError::Disconnected) => {
                // The stream is over and all events were reported.
                refuse("timeout", "nothing more will happen")
            }
        }
    }

    fn ask(&mut self, request: Request) -> std::result::Result<Value, Outcome> {
        let Some(peer) = &self.peer else {
            return closed("there is no stream");
        };
        let (answer, answered) = channel();
        if peer.requests.send((request, answer)).is_err() {
            return closed("the stream is over");
        }
        match answered.recv_timeout(PATIENCE) {
            Ok(result) => result.map_err(live),
            Err(RecvTimeoutError::Timeout) => refuse("timeout", "the request took too long"),
            Err(RecvTimeoutError::Disconnected) => closed("the stream is over"),
        }
    }
}

fn live(fault: Fault) -> Outcome {
    fault.outcome(hypercore_protocol::Layer::Connection)
}

/// The options of a stream.
struct Options {
    seed: Option<[u8; 32]>,
    keep_alive: Option<Duration>,
}

impl Options {
    fn read(input: &Value) -> Result<Self> {
        let seed = match values::optional(input, "keyPairSeed") {
            Some(_) => Some(array(input, "keyPairSeed")?),
            None => None,
        };
        let keep_alive = match values::optional(input, "keepAlive") {
            Some(_) => uint(input, "keepAlive")?,
            None => 0,
        };
        Ok(Self {
            seed,
            keep_alive: (keep_alive > 0).then(|| Duration::from_millis(keep_alive)),
        })
    }

    fn builder(&self, is_initiator: bool) -> ProtocolBuilder {
        let builder = ProtocolBuilder::new(is_initiator)
            .keep_alive(self.keep_alive)
            // Scenarios may be silent, and set their own time-outs.
            .idle_timeout(None)
            // Scenarios count records: `peer.send` makes one, and `peer.batch` makes one.
            .coalesce(false)
            // Only one message waits at any time, so that the messages of all channels are reported in order of
            // arrival.
            .receive_buffer(1);
        match self.seed {
            Some(seed) => builder.seed(seed),
            None => builder,
        }
    }
}

async fn connect(port: u64) -> io::Result<TcpStream> {
    let port = u16::try_from(port).map_err(|_| io::ErrorKind::InvalidInput)?;
    let socket = TcpStream::connect(("127.0.0.1", port)).await?;
    // Otherwise each small record would wait for the acknowledgement of the one before.
    socket.set_nodelay(true)?;
    Ok(socket)
}

async fn accept(listening: &Sender<io::Result<u16>>) -> io::Result<TcpStream> {
    let bound = async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        io::Result::Ok((listener, port))
    };
    let listener = match bound.await {
        Ok((listener, port)) => {
            let _ = listening.send(Ok(port));
            listener
        }
        Err(error) => {
            let kind = error.kind();
            let _ = listening.send(Err(error));
            return Err(kind.into());
        }
    };
    let (socket, _) = listener.accept().await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

impl Request {
    fn read(op: &str, input: &Value) -> Result<Self> {
        Ok(match op {
            "peer.open" => Self::Open(Key::new(array(input, "key")?)),
            "peer.reject" => Self::Reject(array(input, "discoveryKey")?),
            "peer.send" => Self::Send(uint(input, "channel")?, vec![message(input)?], false),
            "peer.batch" => Self::Send(
                uint(input, "channel")?,
                values::list(input, "messages", message)?,
                true,
            ),
            "peer.fill" => Self::Fill {
                channel: uint(input, "channel")?,
                message: Box::new(message(get(input, "outgoing")?)?),
                limit: uint(input, "limit")?,
                patience: Duration::from_millis(uint(input, "patienceMs")?),
            },
            "peer.extension" => {
                let extension = Extension {
                    name: text(input, "name")?.into(),
                    message: bytes(input, "message")?.into(),
                };
                Self::Send(uint(input, "channel")?, vec![extension.into()], false)
            }
            "peer.closeChannel" => Self::CloseChannel(uint(input, "channel")?),
            "peer.keepAlive" => Self::KeepAlive,
            "peer.raw" => Self::Raw(bytes(input, "bytes")?),
            "peer.plaintext" => Self::Plaintext(bytes(input, "bytes")?),
            "peer.end" => Self::End,
            "peer.reset" => Self::Reset,
            "peer.fail" => {
                let (direction, cause) = (text(input, "direction")?, text(input, "cause")?);
                let unknown =
                    || Fault::BadRequest(format!("unknown failure: {direction}, {cause}"));
                Self::Fail(
                    Direction::from_name(direction).ok_or_else(unknown)?,
                    socket::cause(cause).ok_or_else(unknown)?,
                )
            }
            _ => return Err(Fault::BadRequest(format!("unknown operation: {op}"))),
        })
    }
}

fn message(value: &Value) -> Result<Message> {
    let name = text(value, "message")?;
    values::message(name, get(value, "value")?)?
        .ok_or_else(|| Fault::BadRequest(format!("unknown message: {name}")))
}

fn report_error(events: &Sender<Value>, error: &Error) {
    // The receiver may be gone.
    let _ = events.send(json!({
        "type": "error",
        "layer": error.layer().to_string(),
        "class": error.class().to_string(),
        "message": error.to_string(),
    }));
}

/// An event for the task.
enum Turn {
    Request(Request, Sender<Result<Value>>),
    Event(Option<std::result::Result<Event, Error>>),
    /// The adapter dropped the stream.
    Abandoned,
}

struct Task {
    protocol: Protocol<Tokio<Socket>>,
    events: Sender<Value>,
    /// The runner's numbers of channels.
    numbers: HashMap<ChannelHandle, u64>,
    handles: HashMap<u64, ChannelHandle>,
    channels: BTreeMap<u64, Channel>,
    last: u64,
}

impl Task {
    fn new(protocol: Protocol<Tokio<Socket>>, events: Sender<Value>) -> Self {
        Self {
            protocol,
            events,
            numbers: HashMap::new(),
            handles: HashMap::new(),
            channels: BTreeMap::new(),
            last: 0,
        }
    }

    fn report(&self, event: Value) {
        let _ = self.events.send(event);
    }

    async fn run(
        mut self,
        mut requests: mpsc::UnboundedReceiver<(Request, Sender<Result<Value>>)>,
    ) {
        loop {
            let turn = poll_fn(|cx| {
                self.poll_messages(cx);
                match requests.poll_recv(cx) {
                    Poll::Ready(Some((request, answer))) => {
                        return Poll::Ready(Turn::Request(request, answer));
                    }
                    Poll::Ready(None) => return Poll::Ready(Turn::Abandoned),
                    Poll::Pending => {}
                }
                Pin::new(&mut self.protocol).poll_next(cx).map(Turn::Event)
            })
            .await;
            // Report messages that came before an event first.
            poll_fn(|cx| {
                self.poll_messages(cx);
                Poll::Ready(())
            })
            .await;
            match turn {
                Turn::Request(Request::Reset, answer) => {
                    let reset = self.protocol.io().get_ref().get_ref().set_zero_linger();
                    let _ = answer.send(match reset {
                        Ok(()) => Ok(json!({})),
                        Err(error) => Err(Error::from(error).into()),
                    });
                    for number in self.numbers.values() {
                        self.report(json!({ "type": "close", "channel": number, "by": "stream" }));
                    }
                    break;
                }
                Turn::Request(request, answer) => {
                    let result = self.carry_out(request).await;
                    let _ = answer.send(result);
                }
                Turn::Event(Some(Ok(event))) => self.on_event(event),
                Turn::Event(Some(Err(error))) => report_error(&self.events, &error),
                Turn::Event(None) | Turn::Abandoned => break,
            }
        }
        let Self {
            protocol, events, ..
        } = self;
        // Close the socket before reporting it closed.
        drop(protocol);
        let _ = events.send(json!({ "type": "closed" }));
    }

    /// Reports all waiting messages.
    fn poll_messages(&mut self, cx: &mut std::task::Context<'_>) {
        for (number, channel) in &mut self.channels {
            while let Poll::Ready(Some(message)) = Pin::new(&mut *channel).poll_next(cx) {
                let event = match &message {
                    Message::Extension(extension) => json!({
                        "type": "extension",
                        "channel": number,
                        "name": *extension.name,
                        "message": hexed(&extension.message),
                    }),
                    message => json!({
                        "type": "message",
                        "channel": number,
                        "name": message.message_type().name(),
                        "value": values::message_to_json(message),
                    }),
                };
                let _ = self.events.send(event);
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Handshake(info) => self.report(json!({
                "type": "handshake",
                "publicKey": hexed(self.protocol.public_key()),
                "remotePublicKey": hexed(info.remote_public_key.unwrap_or_default()),
                "handshakeHash": values::nullable(self.protocol.handshake_hash(), hexed),
                "isInitiator": self.protocol.is_initiator(),
            })),
            Event::DiscoveryKey(discovery_key) => self.report(json!({
                "type": "discoveryKey",
                "discoveryKey": hexed(discovery_key),
            })),
            Event::Channel(channel) => {
                let Some(&number) = self.numbers.get(&channel.handle()) else {
                    return;
                };
                self.report(json!({
                    "type": "open",
                    "channel": number,
                    "discoveryKey": hexed(channel.discovery_key()),
                    "seeks": channel.remote_handshake().seeks,
                }));
                self.channels.insert(number, channel);
            }
            Event::Close {
                channel, reason, ..
            } => {
                let Some(number) = self.numbers.remove(&channel) else {
                    return;
                };
                self.handles.remove(&number);
                self.channels.remove(&number);
                let by = match reason {
                    CloseReason::Local => "local",
                    CloseReason::Remote => "remote",
                    CloseReason::Rejected => "rejected",
                    _ => "stream",
                };
                self.report(json!({ "type": "close", "channel": number, "by": by }));
            }
            Event::End(_) => self.report(json!({ "type": "end" })),
            _ => {}
        }
    }

    fn handle(&self, number: u64) -> Result<ChannelHandle> {
        self.handles
            .get(&number)
            .copied()
            .ok_or_else(|| ChannelError::Closed.into())
            .map_err(|error: Error| error.into())
    }

    async fn carry_out(&mut self, request: Request) -> Result<Value> {
        match request {
            Request::Open(key) => {
                let handle = self.protocol.open(key)?;
                self.last += 1;
                self.numbers.insert(handle, self.last);
                self.handles.insert(self.last, handle);
                return Ok(json!({ "channel": self.last }));
            }
            Request::Reject(discovery_key) => {
                self.protocol.reject(&DiscoveryKey::new(discovery_key))
            }
            Request::Send(number, messages, batch) => {
                let handle = self.handle(number)?;
                let Some(channel) = self.channels.get(&number).cloned() else {
                    // The remote has not answered the open yet.
                    for message in messages {
                        self.protocol.send_early(handle, message)?;
                    }
                    return Ok(json!({}));
                };
                self.protocol
                    .drive(async {
                        if batch {
                            return channel.send_batch(&messages).await;
                        }
                        for message in messages {
                            channel.send(message).await?;
                        }
                        Ok(())
                    })
                    .await?;
            }
            Request::Fill {
                channel,
                message,
                limit,
                patience,
            } => return self.fill(channel, &message, limit, patience).await,
            Request::CloseChannel(number) => {
                let handle = self.handle(number)?;
                self.protocol.close_channel(handle);
            }
            Request::KeepAlive => self.protocol.send_keep_alive()?,
            Request::Raw(bytes) => self.protocol.send_raw_for_testing_only(&bytes),
            Request::Plaintext(bytes) => self.protocol.send_plaintext_for_testing_only(&bytes)?,
            Request::End => self.protocol.end(),
            Request::Fail(direction, error) => {
                self.protocol.io().get_ref().faults().fail(direction, error);
            }
            // The main loop handles it.
            Request::Reset => {}
        }
        Ok(json!({}))
    }

    /// Sends a message repeatedly, until a send waits longer than `patience`; that one is not sent.
    async fn fill(
        &mut self,
        number: u64,
        message: &Message,
        limit: u64,
        patience: Duration,
    ) -> Result<Value> {
        let channel = self.channels.get(&number).cloned();
        let channel = channel.ok_or(Error::from(ChannelError::Closed))?;
        for sent in 0..limit {
            let sending = self.protocol.drive(channel.send(message.clone()));
            match tokio::time::timeout(patience, sending).await {
                Ok(result) => result?,
                Err(_) => return Ok(json!({ "sent": sent, "waits": true })),
            }
        }
        Ok(json!({ "sent": limit, "waits": false }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0505050505050505050505050505050505050505050505050505050505050505";

    fn ok(live: &mut Live, op: &str, input: Value) -> Value {
        match live.call(op, &input) {
            Outcome::Ok(value) => value,
            other => panic!("{op}: {other:?}"),
        }
    }

    fn event(live: &mut Live) -> Value {
        ok(live, "peer.next", json!({ "timeoutMs": 20_000 }))["event"].take()
    }

    fn pair() -> (Live, Live) {
        let (mut listener, mut dialer) = (Live::default(), Live::default());
        let listening = ok(&mut listener, "peer.listen", json!({ "keepAlive": 0 }));
        let port = listening["port"].clone();
        ok(
            &mut dialer,
            "peer.dial",
            json!({ "port": port, "keyPairSeed": KEY }),
        );
        for live in [&mut listener, &mut dialer] {
            assert_eq!(event(live)["type"], "handshake");
        }
        (listener, dialer)
    }

    fn open(one: &mut Live, other: &mut Live) {
        ok(one, "peer.open", json!({ "key": KEY }));
        assert_eq!(event(other)["type"], "discoveryKey");
        ok(other, "peer.open", json!({ "key": KEY }));
        for live in [one, other] {
            let event = event(live);
            assert_eq!(event["type"], "open");
            assert_eq!(event["channel"], 1);
        }
    }

    #[test]
    fn two_peers_talk_and_end() {
        let (mut a, mut b) = pair();
        open(&mut a, &mut b);
        let want = json!({ "start": 1, "length": 2, "any": false });
        let one = json!({ "message": "want", "value": want });
        ok(
            &mut a,
            "peer.batch",
            json!({ "channel": 1, "messages": [one, one] }),
        );
        ok(
            &mut a,
            "peer.extension",
            json!({ "channel": 1, "name": "x", "message": "aa" }),
        );
        ok(&mut a, "peer.end", json!({}));
        for _ in 0..2 {
            assert_eq!(event(&mut b)["value"], want);
        }
        assert_eq!(event(&mut b)["type"], "extension");
        for live in [&mut a, &mut b] {
            let kinds: Vec<_> = (0..3).map(|_| event(live)["type"].clone()).collect();
            assert_eq!(kinds, ["end", "close", "closed"]);
        }
    }

    #[test]
    fn a_reset_is_an_error_of_the_connection() {
        let (mut a, mut b) = pair();
        open(&mut a, &mut b);
        ok(&mut a, "peer.reset", json!({}));
        let error = event(&mut b);
        assert_eq!(
            (&error["type"], &error["layer"]),
            (&json!("error"), &json!("connection"))
        );
        ok(&mut a, "peer.stop", json!({}));
        ok(&mut a, "peer.listen", json!({}));
    }

    #[test]
    fn what_no_peer_should_send_ends_the_stream() {
        let (mut a, mut b) = pair();
        ok(&mut a, "peer.plaintext", json!({ "bytes": "000205" }));
        let error = event(&mut b);
        assert_eq!(
            (&error["layer"], &error["class"]),
            (&json!("mux"), &json!("invalid-reject"))
        );
        assert_eq!(event(&mut b)["type"], "closed");
        match b.call("peer.next", &json!({ "timeoutMs": 1 })) {
            Outcome::Error(error) => assert_eq!(error["class"], "timeout"),
            other => panic!("{other:?}"),
        }
    }
}
