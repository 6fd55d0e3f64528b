//! A whole connection, without IO.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use hypercore_protocol::connection::ChannelHandle;
use hypercore_protocol::frame::frame_header;
use hypercore_protocol::keys::{Key, KeyPair};
use hypercore_protocol::mux::Limits;
use hypercore_protocol::noise::{HandshakeResult, Pattern};
use hypercore_protocol::transport::Mode;
use hypercore_protocol::{
    ChannelOptions, Connection, ConnectionConfig, ConnectionEvent, Transport, TransportConfig,
    discovery_key,
};

use crate::input::Input;
use crate::packets::{self, PROTOCOLS, core_key};

const HASH: [u8; 64] = [5; 64];
/// Static and ephemeral seeds of the responder and the initiator, the same as in the vectors, so that their
/// conversations decrypt.
const SEED: [[u8; 32]; 4] = [[0x21; 32], [0x11; 32], [0x22; 32], [0x12; 32]];

/// An application's state of its channels, and whether the connection is alive.
#[derive(Default)]
struct Seen {
    opened: HashMap<ChannelHandle, bool>,
    closed: HashSet<ChannelHandle>,
    failed: bool,
}

impl Seen {
    fn take_in(&mut self, event: ConnectionEvent) {
        let _ = format!("{event:?}");
        match event {
            ConnectionEvent::ChannelOpened { channel, .. }
            | ConnectionEvent::MuxChannelOpened { channel, .. } => {
                assert!(
                    !self.closed.contains(&channel),
                    "opened after it was closed"
                );
                let before = self.opened.insert(channel, true);
                assert_eq!(before, Some(false), "opened here first, and once");
            }
            ConnectionEvent::Message { channel, .. }
            | ConnectionEvent::MuxMessage { channel, .. } => {
                assert_eq!(self.opened.get(&channel), Some(&true), "a message before");
            }
            ConnectionEvent::ChannelClosed { channel, .. }
            | ConnectionEvent::MuxChannelClosed { channel, .. } => {
                assert!(self.opened.remove(&channel).is_some(), "closed twice");
                self.closed.insert(channel);
            }
            _ => {}
        }
    }

    /// Takes all events. `size` bytes were received, which bounds them.
    fn drain(&mut self, connection: &mut Connection, size: usize) {
        for _ in 0..=2 * size + self.opened.len() + 2 {
            match connection.poll_event() {
                Ok(Some(event)) => self.take_in(event),
                Ok(None) => return,
                Err(error) => {
                    let _ = (error.to_string(), error.class(), error.layer());
                    assert!(!self.failed, "a connection fails once");
                    self.failed = true;
                }
            }
        }
        panic!("more events than bytes");
    }
}

fn transport(is_initiator: bool, pattern: Pattern) -> TransportConfig {
    let side = usize::from(is_initiator);
    let mut config = TransportConfig::new(is_initiator);
    config.pattern = pattern;
    config.key_pair = Some(KeyPair::from_seed(&SEED[side]));
    config.fixed_ephemeral_for_testing_only = Some(SEED[2 + side]);
    config.header_for_testing_only = Some(if is_initiator { [0xa1; 24] } else { [0xb1; 24] });
    config.psk = pattern.needs_psk().then(|| [0x77; 32].into());
    if is_initiator && pattern.needs_remote_public_key() {
        config.remote_public_key = Some(*KeyPair::from_seed(&SEED[0]).public_key());
    }
    config
}

fn handshake_done(is_initiator: bool) -> Mode {
    let (tx, rx) = if is_initiator {
        ([1; 32], [2; 32])
    } else {
        ([2; 32], [1; 32])
    };
    Mode::HandshakeDone {
        public_key: [8; 32],
        result: HandshakeResult {
            tx,
            rx,
            hash: HASH,
            remote_public_key: Some([9; 32]),
        },
    }
}

/// Arbitrary bytes, in chunks, before and after an honest beginning of some length.
pub(crate) fn bytes(input: &[u8]) -> usize {
    let mut choices = Input::new(input);
    let shape = choices.byte();
    let is_initiator = shape & 1 != 0;
    let mut config = ConnectionConfig::new(is_initiator);
    config.transport = transport(is_initiator, choices.pick(&Pattern::ALL));
    match shape >> 1 & 3 {
        0 => {
            config.transport.mode = Mode::Unencrypted {
                handshake_hash: HASH,
            }
        }
        1 => config.transport.mode = handshake_done(is_initiator),
        _ => {}
    }
    config.unknown_messages = shape & 8 != 0;
    let mut connection = Connection::new(config, Duration::ZERO);
    connection.pair("a", None);
    let mut seen = Seen::default();
    if let Ok(channel) = connection.open(core_key(0)) {
        seen.opened.insert(channel, false);
    }
    let step = usize::from(choices.byte()).max(1);
    let bytes = choices.rest();
    for chunk in bytes.chunks(step) {
        connection.receive(chunk, Duration::ZERO);
        seen.drain(&mut connection, bytes.len());
        let sent = connection.transmit().len();
        connection.consume_transmit(sent, Duration::ZERO);
    }
    connection.receive_end();
    seen.drain(&mut connection, bytes.len());
    connection.end();
    seen.drain(&mut connection, bytes.len());
    assert!(seen.opened.is_empty(), "the end closes every channel");
    bytes.len()
}

/// A connection and the transport at its other end, whose records the fuzzer makes.
struct Pair {
    connection: Connection,
    peer: Transport,
    hash: [u8; 64],
    is_initiator: bool,
    seen: Seen,
    now: Duration,
    /// Bytes received so far.
    size: usize,
}

impl Pair {
    fn new(choices: &mut Input<'_>) -> Self {
        let shape = choices.byte();
        let is_initiator = shape & 1 != 0;
        let mut config = ConnectionConfig::new(is_initiator);
        config.transport = transport(is_initiator, Pattern::XX);
        let mut peer = transport(!is_initiator, Pattern::XX);
        // A real handshake costs much more time than everything after it.
        match shape >> 1 & 7 {
            0 => {}
            1..=3 => {
                config.transport.mode = handshake_done(is_initiator);
                peer.mode = handshake_done(!is_initiator);
            }
            _ => {
                let mode = Mode::Unencrypted {
                    handshake_hash: HASH,
                };
                config.transport.mode = mode.clone();
                peer.mode = mode;
            }
        }
        if shape & 16 != 0 {
            let mut limits = Limits::default();
            limits.max_nesting = 3;
            limits.max_pending = 3;
            limits.max_pending_bytes = 120;
            limits.max_buffered = 2000;
            config.limits = limits;
        }
        config.unknown_messages = shape & 32 != 0;
        config.idle_timeout = (shape & 64 != 0).then_some(Duration::from_secs(10));
        let mut connection = Connection::new(config, Duration::ZERO);
        for protocol in ["a", "hypercore"] {
            if shape & 128 != 0 {
                connection.pair(protocol, None);
            }
        }
        let peer = Transport::new(peer).expect("it has a key pair");
        let mut pair = Self {
            connection,
            peer,
            hash: HASH,
            is_initiator,
            seen: Seen::default(),
            now: Duration::ZERO,
            size: 0,
        };
        for _ in 0..4 {
            pair.exchange();
        }
        if let Some(info) = pair.connection.handshake() {
            pair.hash = info.hash;
        }
        assert!(pair.peer.is_established() && !pair.seen.failed);
        pair
    }

    /// Carries pending bytes in both directions.
    fn exchange(&mut self) {
        let bytes = self.connection.transmit().to_vec();
        self.connection.consume_transmit(bytes.len(), self.now);
        // It may have been destroyed by received data while it was corked.
        let _ = self.peer.receive(&bytes);
        while self.peer.poll_record().is_some() {}
        let bytes = self.peer.take_transmit();
        self.deliver(&bytes);
    }

    fn deliver(&mut self, bytes: &[u8]) {
        self.size += bytes.len();
        self.connection.receive(bytes, self.now);
        self.seen.drain(&mut self.connection, self.size);
    }

    fn record(&mut self, choices: &mut Input<'_>) {
        let record = packets::record(choices, !self.is_initiator, &self.hash);
        for _ in 0..=choices.pick(&[0, 0, 0, 0, 1, 20]) {
            if self.peer.send_record(&record).is_err() {
                return;
            }
        }
        let bytes = self.peer.take_transmit();
        let cut = choices
            .pick(&[bytes.len(), bytes.len(), 1, 5])
            .min(bytes.len());
        let (first, second) = bytes.split_at(cut);
        self.deliver(first);
        self.deliver(second);
    }

    fn open(&mut self, choices: &mut Input<'_>) {
        let shape = choices.byte();
        let opened = if shape & 1 == 0 {
            self.connection.open(core_key(shape >> 1))
        } else {
            let mut options = ChannelOptions::new(PROTOCOLS[usize::from(shape >> 1 & 3)]);
            options = match shape >> 3 & 3 {
                0 => options,
                1 => options.id([shape >> 6]),
                _ => options.id(discovery_key(&Key::new(core_key(shape >> 6)))),
            };
            if shape & 32 != 0 {
                options = options.alias("a").unique(false);
            }
            self.connection.open_channel(&options)
        };
        if let Ok(channel) = opened {
            self.seen.opened.insert(channel, false);
        }
    }

    fn use_channel(&mut self, choices: &mut Input<'_>) {
        let mut channels: Vec<_> = self.seen.opened.keys().copied().collect();
        channels.sort_unstable();
        let Some(&channel) = channels.get(choices.below(channels.len())) else {
            return;
        };
        // Each may be refused, since the channel may be of the other kind, or closing.
        match choices.below(6) {
            0 => self.connection.close(channel),
            1 => drop(
                self.connection
                    .send_raw(channel, choices.number(), choices.bytes(64)),
            ),
            2 => drop(
                self.connection
                    .send_extension(channel, "e", choices.bytes(64)),
            ),
            3 => drop(self.connection.send(channel, &packets::message(choices))),
            4 => drop(
                self.connection
                    .send_early(channel, &packets::message(choices)),
            ),
            _ => {
                let messages = [packets::message(choices), packets::message(choices)];
                let _ = self.connection.send_batch(channel, &messages);
            }
        }
    }

    fn step(&mut self, choices: &mut Input<'_>) {
        match choices.below(16) {
            0..=7 => self.record(choices),
            8 | 9 => self.open(choices),
            10 => {
                let shape = choices.byte();
                if shape & 1 == 0 {
                    self.connection
                        .reject(&discovery_key(&Key::new(core_key(shape >> 1))))
                } else {
                    let protocol = PROTOCOLS[usize::from(shape >> 1 & 3)];
                    let id = [shape >> 6];
                    let id = (shape & 8 != 0).then_some(&id[..]);
                    self.connection.reject_channel(protocol, id)
                };
            }
            11 | 12 => self.use_channel(choices),
            13 => {
                self.now += Duration::from_secs(u64::from(choices.byte() % 8));
                self.connection.handle_timeout(self.now);
                if let Some(deadline) = self.connection.next_deadline() {
                    assert!(
                        self.seen.failed || deadline > self.now,
                        "a deadline is kept"
                    );
                }
            }
            14 => self.exchange(),
            _ => match choices.below(6) {
                0 => self.connection.receive_end(),
                1 => self.connection.finish(),
                2 => self.connection.cork(),
                3 => self.connection.uncork(),
                4 => {
                    // Bytes that are not a record of this stream.
                    let bytes = choices.bytes(255);
                    let header = frame_header(bytes.len()).expect("it is short");
                    self.deliver(&header);
                    self.deliver(bytes);
                }
                _ => drop(self.connection.send_keep_alive()),
            },
        }
        self.seen.drain(&mut self.connection, self.size);
        let _ = (
            self.connection.wants_input(),
            self.connection.channels(),
            self.connection.ignored(),
        );
    }
}

pub(crate) fn keyed(input: &[u8]) -> usize {
    let mut choices = Input::new(input);
    let mut pair = Pair::new(&mut choices);
    while !choices.is_empty() {
        pair.step(&mut choices);
    }
    pair.connection.end();
    pair.seen.drain(&mut pair.connection, pair.size);
    assert!(pair.seen.opened.is_empty(), "the end closes every channel");
    assert!(!pair.connection.wants_input());
    input.len() + pair.size
}
