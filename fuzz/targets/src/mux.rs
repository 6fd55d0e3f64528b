//! Protomux alone.

use std::collections::{HashMap, HashSet};

use hypercore_protocol::Buffer;
use hypercore_protocol::mux::{
    ChannelId, Limits, Mux, MuxError, MuxEvent, OpenOptions, PendingId, Raw,
};

use crate::input::Input;
use crate::packets::{self, PROTOCOLS};

/// An application's state of its channels.
#[derive(Default)]
struct Seen {
    opened: HashMap<ChannelId, bool>,
    closed: HashSet<ChannelId>,
    pending: Vec<PendingId>,
}

impl Seen {
    fn take_in(&mut self, event: MuxEvent) {
        let _ = format!("{event:?}");
        match event {
            MuxEvent::RemoteOpen { pending, .. } => self.pending.push(pending),
            MuxEvent::Opened { channel, .. } => {
                assert!(
                    !self.closed.contains(&channel),
                    "opened after it was closed"
                );
                let before = self.opened.insert(channel, true);
                assert_eq!(before, Some(false), "opened here first, and once");
            }
            MuxEvent::Message { channel, .. } => {
                assert_eq!(self.opened.get(&channel), Some(&true), "a message before");
            }
            MuxEvent::Closed { channel, .. } => {
                assert!(self.opened.remove(&channel).is_some(), "closed twice");
                self.closed.insert(channel);
            }
            _ => {}
        }
    }
}

pub(crate) fn mux(input: &[u8]) -> usize {
    let mut choices = Input::new(input);
    let mut limits = Limits::default();
    if choices.flag() {
        limits.max_nesting = 3;
        limits.max_pending = 3;
        limits.max_pending_bytes = 120;
        limits.max_buffered = 2000;
    }
    let mut mux = Mux::new(limits.clone());
    let mut seen = Seen::default();
    let (mut size, mut failed) = (input.len(), false);
    while !choices.is_empty() {
        match choices.below(12) {
            0..=5 => {
                let record = packets::record(&mut choices, true, &[5; 64]);
                size += record.len();
                if mux.wants_record() {
                    mux.receive(Buffer::from(record));
                }
            }
            6 | 7 => {
                let shape = choices.byte();
                let protocol = PROTOCOLS[usize::from(shape % 4)];
                let id = [shape >> 6];
                let options = OpenOptions {
                    protocol,
                    aliases: if shape & 4 == 0 { &[] } else { &PROTOCOLS[..2] },
                    id: (shape & 8 != 0).then_some(&id[..]),
                    unique: shape & 16 != 0,
                    handshake: &Raw(&[1, 2, 3]),
                };
                if let Ok(channel) = mux.open(&options) {
                    seen.opened.insert(channel, false);
                }
                let _ = mux.is_opened(protocol, options.id);
            }
            8 if !seen.pending.is_empty() => {
                let pending = seen.pending.remove(choices.below(seen.pending.len()));
                let was = mux.is_pending(pending);
                assert_eq!(mux.reject(pending), Ok(()));
                assert!(!was || !mux.is_pending(pending));
            }
            9 | 10 => {
                let mut channels: Vec<_> = seen.opened.keys().copied().collect();
                channels.sort_unstable();
                if channels.is_empty() {
                    continue;
                }
                let channel = channels[choices.below(channels.len())];
                let body = Raw(choices.bytes(64));
                if choices.flag() {
                    assert_eq!(mux.close(channel), Ok(()));
                    assert!(!mux.is_live(channel));
                    assert_eq!(mux.send(channel, 1, &body), Err(MuxError::Closed));
                } else {
                    let _ = mux.send(channel, choices.number(), &body);
                }
            }
            _ => match choices.below(3) {
                0 => mux.cork(),
                1 => mux.uncork(),
                _ => mux.uncork_all(),
            },
        }
        failed |= drain(&mut mux, &mut seen, size);
        assert!(!failed || !mux.wants_record());
        assert!(mux.pending() <= limits.max_pending);
    }
    mux.end();
    drain(&mut mux, &mut seen, size);
    assert!(seen.opened.is_empty(), "the end closes every channel");
    size
}

/// Takes all events; returns whether the stream must be destroyed.
fn drain(mux: &mut Mux, seen: &mut Seen, size: usize) -> bool {
    // The events of a record are bounded by its bytes, and each channel closes once.
    for _ in 0..=2 * size + seen.opened.len() {
        match mux.poll_event() {
            Ok(Some(event)) => seen.take_in(event),
            Ok(None) => {
                while mux.poll_transmit().is_some() {}
                return false;
            }
            Err(error) => {
                let _ = (error.to_string(), error.class());
                return true;
            }
        }
    }
    panic!("more events than bytes");
}
