//! The registered extensions: routes their messages, and tracks when those of the stream are open.

use std::collections::HashMap;

use crate::buffer::Buffer;
use crate::connection::{ChannelHandle, ChannelOptions, Connection, RemoteOpen};
use crate::error::Error;
use crate::mux::{CloseReason, MuxError};

use super::queue::{Flow, Queue};

/// The type of an extension's messages on a channel of its own.
const MESSAGE: u64 = 0;

/// What carries an extension's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Carrier {
    /// A core's channel, beside its own messages.
    Core(ChannelHandle),
    /// A channel of the stream, whose protocol is the extension's name.
    Stream,
}

/// All registered extensions.
#[derive(Default)]
pub(super) struct Registry {
    serial: u64,
    entries: HashMap<u64, Entry>,
    /// Those that are not closed.
    by_name: HashMap<Carrier, HashMap<String, u64>>,
    /// Those that have a channel of their own.
    by_channel: HashMap<ChannelHandle, u64>,
}

pub(super) struct Entry {
    name: String,
    carrier: Carrier,
    /// The channel of an extension of the stream; `None` while the remote has not registered it.
    channel: Option<ChannelHandle>,
    pub(super) opened: bool,
    pub(super) messages: Queue<Buffer>,
    /// The number of registrations; the extension is removed with the last.
    registrations: usize,
}

impl Registry {
    pub(super) fn get(&self, serial: u64) -> Option<&Entry> {
        self.entries.get(&serial)
    }

    pub(super) fn get_mut(&mut self, serial: u64) -> Option<&mut Entry> {
        self.entries.get_mut(&serial)
    }

    fn find(&self, carrier: Carrier, name: &str) -> Option<u64> {
        self.by_name.get(&carrier)?.get(name).copied()
    }

    /// The extension whose channel this is.
    fn on_channel(&mut self, channel: ChannelHandle) -> Option<&mut Entry> {
        self.entries.get_mut(self.by_channel.get(&channel)?)
    }

    /// Adds a registration of a registered extension.
    pub(super) fn register_again(&mut self, carrier: Carrier, name: &str) -> Option<u64> {
        let serial = self.find(carrier, name)?;
        self.entries.get_mut(&serial)?.registrations += 1;
        Some(serial)
    }

    pub(super) fn register(&mut self, carrier: Carrier, name: &str, flow: &mut Flow) -> u64 {
        self.serial += 1;
        let serial = self.serial;
        let entry = Entry {
            name: name.to_owned(),
            carrier,
            channel: None,
            opened: carrier != Carrier::Stream,
            messages: flow.queue(),
            registrations: 1,
        };
        self.entries.insert(serial, entry);
        let names = self.by_name.entry(carrier).or_default();
        names.insert(name.to_owned(), serial);
        serial
    }

    /// Removes one registration. With the last the extension closes, and its queue is dropped.
    pub(super) fn unregister(&mut self, serial: u64, flow: &mut Flow, connection: &mut Connection) {
        let Some(entry) = self.entries.get_mut(&serial) else {
            return;
        };
        entry.registrations -= 1;
        if entry.registrations > 0 {
            return;
        }
        self.close(serial, CloseReason::Local, flow, connection);
        if let Some(entry) = self.entries.remove(&serial) {
            flow.discard(entry.messages);
        }
    }

    /// Opens the channel of an extension of the stream.
    pub(super) fn open(&mut self, serial: u64, channel: ChannelHandle) {
        if let Some(entry) = self.entries.get_mut(&serial) {
            entry.channel = Some(channel);
            self.by_channel.insert(channel, serial);
        }
    }

    /// Sends a message. `Ok(false)` when the extension is not open yet.
    pub(super) fn send(
        &self,
        serial: u64,
        message: &[u8],
        connection: &mut Connection,
    ) -> Result<bool, Error> {
        let entry = self.entries.get(&serial);
        let entry = entry
            .filter(|entry| entry.messages.closed().is_none() && !connection.is_finishing())
            .ok_or(MuxError::Closed)?;
        if !entry.opened {
            return Ok(false);
        }
        match (entry.carrier, entry.channel) {
            (Carrier::Core(channel), _) => {
                connection.send_extension(channel, &entry.name, message)?;
            }
            (Carrier::Stream, Some(channel)) => connection.send_raw(channel, MESSAGE, message)?,
            (Carrier::Stream, None) => return Ok(false),
        }
        Ok(true)
    }

    /// Frees the name, and closes the extension's own channel if it has one.
    pub(super) fn close(
        &mut self,
        serial: u64,
        reason: CloseReason,
        flow: &mut Flow,
        connection: &mut Connection,
    ) {
        let Some(entry) = self.entries.get_mut(&serial) else {
            return;
        };
        if entry.messages.closed().is_some() {
            return;
        }
        flow.close(&mut entry.messages, reason);
        if let Some(names) = self.by_name.get_mut(&entry.carrier) {
            if names.get(&entry.name) == Some(&serial) {
                names.remove(&entry.name);
                if entry.carrier == Carrier::Stream {
                    connection.unpair_extension(&entry.name);
                }
            }
            if names.is_empty() {
                self.by_name.remove(&entry.carrier);
            }
        }
        if let Some(channel) = entry.channel.take() {
            self.by_channel.remove(&channel);
            connection.close(channel);
            flow.wake_driver();
        }
        flow.wake_senders();
    }

    /// Queues a message of a core's channel if it belongs to a registered extension; returns whether it does.
    pub(super) fn push_on_core(
        &mut self,
        channel: ChannelHandle,
        message: &crate::wire::Extension,
        held: usize,
        flow: &mut Flow,
    ) -> bool {
        let serial = self.find(Carrier::Core(channel), &message.name);
        let Some(entry) = serial.and_then(|serial| self.entries.get_mut(&serial)) else {
            return false;
        };
        flow.push(&mut entry.messages, message.message.clone(), held);
        true
    }

    /// Whether the channel is an extension's, which the remote has then registered too.
    pub(super) fn opened(&mut self, channel: ChannelHandle, flow: &mut Flow) -> bool {
        let Some(entry) = self.on_channel(channel) else {
            return false;
        };
        entry.opened = true;
        entry.messages.wake(flow);
        flow.wake_senders();
        true
    }

    /// Whether the channel is an extension's. Other types of message are ignored, as Node ignores those that have no
    /// handler.
    pub(super) fn push(
        &mut self,
        channel: ChannelHandle,
        kind: u64,
        body: &Buffer,
        held: usize,
        flow: &mut Flow,
    ) -> bool {
        let Some(entry) = self.on_channel(channel) else {
            return false;
        };
        if kind == MESSAGE {
            flow.push(&mut entry.messages, body.clone(), held);
        }
        true
    }

    /// Handles the close of a core's or an extension's channel.
    pub(super) fn channel_closed(
        &mut self,
        channel: ChannelHandle,
        reason: CloseReason,
        flow: &mut Flow,
        connection: &mut Connection,
    ) {
        if let Some(entry) = self.on_channel(channel) {
            entry.channel = None;
            // A reject means that the remote has not registered it yet: wait until the remote does, and opens the channel.
            let waits = !entry.opened && reason == CloseReason::Rejected;
            let serial = self.by_channel.remove(&channel);
            if let Some(serial) = serial.filter(|_| !waits) {
                self.close(serial, reason, flow, connection);
            }
        }
        for serial in self.all_on(Carrier::Core(channel)) {
            self.close(serial, reason, flow, connection);
        }
    }

    /// Closes the extensions that still wait for the remote when the stream ends.
    pub(super) fn stream_ended(&mut self, flow: &mut Flow, connection: &mut Connection) {
        for serial in self.all_on(Carrier::Stream) {
            if self.waits_for_remote(serial) {
                self.close(serial, CloseReason::Stream, flow, connection);
            }
        }
    }

    /// Answers the remote's open of a registered extension; returns whether it was one.
    pub(super) fn answer(&mut self, open: &RemoteOpen, connection: &mut Connection) -> bool {
        if open.id.is_some() {
            return false;
        }
        let Some(serial) = self.find(Carrier::Stream, &open.protocol) else {
            return false;
        };
        if self.waits_for_remote(serial) {
            let options = ChannelOptions::new(&open.protocol);
            if let Ok(channel) = connection.open_channel(&options) {
                self.open(serial, channel);
                return true;
            }
        }
        // It has a channel already.
        connection.reject_channel(&open.protocol, None);
        true
    }

    fn waits_for_remote(&self, serial: u64) -> bool {
        let entry = self.entries.get(&serial);
        entry.is_some_and(|entry| entry.channel.is_none())
    }

    fn all_on(&self, carrier: Carrier) -> Vec<u64> {
        let names = self.by_name.get(&carrier).into_iter();
        names.flat_map(HashMap::values).copied().collect()
    }
}
