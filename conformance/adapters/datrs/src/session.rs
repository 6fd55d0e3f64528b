//! `channel.session`: a `Protocol` on a stream that is open already, for any `CipherTrait` will do.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use compact_encoding::CompactEncoding;
use futures::{FutureExt, Sink, Stream};
use hypercore_handshake::{CipherEvent, CipherTrait};
use hypercore_protocol::schema::Close;
use hypercore_protocol::{Channel, Event, Message, Protocol};
use serde_json::{Value, json};

use crate::codec::{self, bytes};
use crate::frame::Flag;
use crate::tap::{Notes, Tap, handshake_of};
use crate::{Answer, bad_input, refused};

#[derive(Default)]
struct Records {
    arrived: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    waiting: Option<Waker>,
}

/// A stream that is encrypted for all the protocol can tell.
struct Plain {
    records: Arc<Mutex<Records>>,
    handshake_hash: Vec<u8>,
    is_initiator: bool,
}

impl Stream for Plain {
    type Item = CipherEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<CipherEvent>> {
        let mut records = self.records.lock().expect("no panic is caught");
        match records.arrived.pop_front() {
            Some(record) => Poll::Ready(Some(CipherEvent::Message(record))),
            None => {
                records.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Sink<Vec<u8>> for Plain {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, record: Vec<u8>) -> io::Result<()> {
        self.records
            .lock()
            .expect("no panic is caught")
            .sent
            .push(record);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl CipherTrait for Plain {
    fn remote_public_key(&self) -> Option<[u8; 32]> {
        Some([0; 32])
    }

    fn local_public_key(&self) -> [u8; 32] {
        [0; 32]
    }

    fn handshake_hash(&self) -> Option<Vec<u8>> {
        Some(self.handshake_hash.clone())
    }

    fn is_initiator(&self) -> bool {
        self.is_initiator
    }
}

struct Session {
    protocol: Protocol,
    notes: Notes,
    records: Arc<Mutex<Records>>,
    channels: HashMap<[u8; 32], Channel>,
    flag: Arc<Flag>,
}

/// Runs a session.
pub(crate) fn run(input: &Value) -> Answer {
    let key: [u8; 32] = bytes(input, "key")?
        .try_into()
        .map_err(|_| bad_input("a key has 32 bytes"))?;
    let records = Arc::<Mutex<Records>>::default();
    let plain = Plain {
        records: Arc::clone(&records),
        handshake_hash: bytes(input, "handshakeHash")?,
        is_initiator: input["isInitiator"] == true,
    };
    let (tap, notes) = Tap::new(plain);
    let mut session = Session {
        protocol: Protocol::new(Box::new(tap)),
        notes,
        records,
        channels: HashMap::new(),
        flag: Flag::new(),
    };
    session
        .protocol
        .open(key)
        .now_or_never()
        .expect("the queue is empty")
        .map_err(bad_input)?;

    let none: &[u8] = &[];
    let mut steps = Vec::new();
    let mut error = Value::Null;
    let inputs = input["steps"].as_array().into_iter().flatten();
    for step in std::iter::once(None).chain(inputs.map(Some)) {
        let record = match step {
            None => none.to_vec(),
            Some(step) => bytes(step, "receive")?,
        };
        if !error.is_null() {
            steps.push(json!({ "events": [], "sent": [] }));
            continue;
        }
        if step.is_some() {
            let mut records = session.records.lock().expect("no panic is caught");
            records.arrived.push_back(record.clone());
            if let Some(waiting) = records.waiting.take() {
                waiting.wake();
            }
        }
        let (events, failed) = session.turn();
        if let Some(failed) = failed {
            error = blame(&record, &failed);
        }
        let sent: Vec<_> =
            std::mem::take(&mut session.records.lock().expect("no panic is caught").sent)
                .iter()
                .filter_map(|record| control(record))
                .collect();
        steps.push(json!({ "events": events, "sent": sent }));
    }
    Ok(json!({ "steps": steps, "alive": error.is_null(), "error": error }))
}

impl Session {
    /// Everything that happens until nobody is woken any more.
    fn turn(&mut self) -> (Vec<Value>, Option<io::Error>) {
        let waker = Waker::from(Arc::clone(&self.flag));
        let mut cx = Context::from_waker(&waker);
        let mut events = Vec::new();
        while self.flag.take() {
            loop {
                match Pin::new(&mut self.protocol).poll_next(&mut cx) {
                    Poll::Ready(Some(Ok(event))) => self.on_event(event, &mut events),
                    Poll::Ready(Some(Err(error))) => {
                        self.messages(&mut cx, &mut events);
                        return (events, Some(error));
                    }
                    Poll::Ready(None) | Poll::Pending => break,
                }
            }
            self.messages(&mut cx, &mut events);
        }
        (events, None)
    }

    fn messages(&mut self, cx: &mut Context<'_>, events: &mut Vec<Value>) {
        for channel in self.channels.values_mut() {
            while let Poll::Ready(Some(message)) = Pin::new(&mut *channel).poll_next(cx) {
                if matches!(message, Message::Close(_)) {
                    continue; // the event says so, too
                }
                events.push(json!({ "message": {
                    "local": channel.id(), "name": codec::name(&message), "value": codec::show(&message),
                } }));
            }
        }
    }

    fn on_event(&mut self, event: Event, events: &mut Vec<Value>) {
        match event {
            Event::Channel(channel) => {
                let noted = self.notes.lock().expect("no panic is caught");
                let (remote, handshake) = noted
                    .opens
                    .get(channel.discovery_key())
                    .cloned()
                    .unwrap_or_default();
                events.push(json!({ "opened": {
                    "local": channel.id(), "remote": remote, "handshake": handshake.map(hex::encode),
                } }));
                drop(noted);
                self.channels.insert(*channel.discovery_key(), channel);
            }
            Event::Close(discovery_key) => {
                if let Some(mut channel) = self.channels.remove(&discovery_key) {
                    let mut cx = Context::from_waker(Waker::noop());
                    while let Poll::Ready(Some(message)) = Pin::new(&mut channel).poll_next(&mut cx)
                    {
                        if !matches!(message, Message::Close(_)) {
                            events.push(json!({ "message": {
                                "local": channel.id(), "name": codec::name(&message), "value": codec::show(&message),
                            } }));
                        }
                    }
                    events.push(json!({ "closed": { "local": channel.id(), "isRemote": true } }));
                }
            }
            _ => {}
        }
    }
}

/// A control record that was sent, as the suite shows it. Opens and closes leave in records of their own.
fn control(record: &[u8]) -> Option<Value> {
    if let Some((open, handshake)) = handshake_of(record) {
        return Some(json!({
            "control": "open", "id": open.channel, "protocol": open.protocol,
            "channelId": hex::encode(open.discovery_key),
            "handshake": handshake.map(hex::encode).unwrap_or_default(),
        }));
    }
    let body = record.strip_prefix(&[0, 3])?;
    let (close, _) = Close::decode(body).ok()?;
    Some(json!({ "control": "close", "id": close.channel }))
}

/// The crate does not say which layer refuses: the capability tells itself, and the rest follows from the record.
fn blame(record: &[u8], error: &io::Error) -> Value {
    let text = error.to_string();
    let layer = if error.kind() == io::ErrorKind::PermissionDenied {
        "channel"
    } else if record.first() == Some(&0) {
        "mux"
    } else {
        "message"
    };
    let class = match error.kind() {
        io::ErrorKind::PermissionDenied => "invalid-capability",
        _ => "out-of-bounds",
    };
    let mut error = refused(layer, class, text);
    error.as_object_mut().expect("it is one").remove("message");
    error
}
