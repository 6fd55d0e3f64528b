//! The extensions that are registered: which messages are theirs, and how those of a stream come to be open.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use crate::buffer::Buffer;
use crate::channel::Channel;
use crate::connection::{ChannelHandle, ChannelOptions, Connection, RemoteOpen};
use crate::error::Error;
use crate::mux::{CloseReason, MuxError};

use super::queue::{Queue, remember};
use super::shared::{Shared, State};

/// The type of an extension's messages on a channel of its own.
const MESSAGE: u64 = 0;

/// Where an extension's messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Carrier {
    /// On a core's channel, beside its own messages.
    Core(ChannelHandle),
    /// On a channel of the stream, whose protocol is the extension's name.
    Stream,
}

/// An extension, registered for as long as this lives.
pub(crate) struct Registration {
    shared: Arc<Shared>,
    serial: u64,
    name: String,
    carrier: Carrier,
    /// Stays open for the extension.
    _channel: Option<Channel>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let state = &mut *self.shared.lock();
        state.close_extension(self.serial, CloseReason::Local);
        if let Some(extension) = state.extensions.registered.remove(&self.serial) {
            state.flow.discard(extension.messages);
        }
    }
}

/// All that are registered.
#[derive(Default)]
pub(super) struct Extensions {
    serial: u64,
    registered: HashMap<u64, Extension>,
    /// Those that are not closed.
    by_name: HashMap<Carrier, HashMap<String, u64>>,
    /// Those that have a channel of their own.
    by_channel: HashMap<ChannelHandle, u64>,
}

struct Extension {
    name: String,
    carrier: Carrier,
    /// The channel of one of the stream; none while the remote has not registered it.
    channel: Option<ChannelHandle>,
    opened: bool,
    messages: Queue<Buffer>,
    registration: Weak<Registration>,
}

impl Extensions {
    fn find(&self, carrier: Carrier, name: &str) -> Option<u64> {
        self.by_name.get(&carrier)?.get(name).copied()
    }

    fn find_mut(&mut self, carrier: Carrier, name: &str) -> Option<&mut Extension> {
        let serial = self.find(carrier, name)?;
        self.registered.get_mut(&serial)
    }

    /// The one whose channel this is.
    fn on_channel(&mut self, channel: ChannelHandle) -> Option<&mut Extension> {
        self.registered.get_mut(self.by_channel.get(&channel)?)
    }
}

impl Registration {
    /// Registers an extension of the stream.
    pub(crate) fn on_stream(shared: &Arc<Shared>, name: &str) -> Result<Arc<Self>, Error> {
        let mut state = shared.lock();
        if let Some(registration) = state.registration(Carrier::Stream, name) {
            return Ok(registration);
        }
        let channel = state.connection.open_channel(&ChannelOptions::new(name))?;
        state.connection.pair_extension(name);
        state.flow.wake_driver();
        let registration = state.register(shared, name, Carrier::Stream, None);
        state.own_channel(registration.serial, channel);
        Ok(registration)
    }

    /// Registers an extension on a core's channel.
    pub(crate) fn on_core(
        shared: &Arc<Shared>,
        handle: ChannelHandle,
        channel: &Channel,
        name: &str,
    ) -> Arc<Self> {
        let mut state = shared.lock();
        let carrier = Carrier::Core(handle);
        if let Some(registration) = state.registration(carrier, name) {
            return registration;
        }
        let registration = state.register(shared, name, carrier, Some(channel.clone()));
        if let Some(Some(reason)) = state.closed(handle) {
            state.close_extension(registration.serial, reason);
        }
        registration
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn poll_opened(&self, cx: &Context<'_>) -> Poll<Result<(), CloseReason>> {
        let mut state = self.shared.lock();
        let Some(extension) = state.extensions.registered.get_mut(&self.serial) else {
            return Poll::Ready(Err(CloseReason::Local));
        };
        if extension.opened {
            return Poll::Ready(Ok(()));
        }
        if let Some(reason) = extension.messages.closed() {
            return Poll::Ready(Err(reason));
        }
        extension.messages.watch(cx);
        Poll::Pending
    }

    pub(crate) fn poll_recv(&self, cx: &Context<'_>) -> Poll<Option<Buffer>> {
        let state = &mut *self.shared.lock();
        match state.extensions.registered.get_mut(&self.serial) {
            Some(extension) => state.flow.poll_take(cx, &mut extension.messages),
            None => Poll::Ready(None),
        }
    }

    /// Sends once the extension is open on both sides and there is room.
    pub(crate) fn poll_send(&self, cx: &Context<'_>, message: &[u8]) -> Poll<Result<(), Error>> {
        let state = &mut *self.shared.lock();
        match state.send_extension(self, message) {
            Ok(false) => {
                remember(&mut state.senders, cx);
                Poll::Pending
            }
            Ok(true) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Sends if that is possible now, and says whether it was.
    pub(crate) fn try_send(&self, message: &[u8]) -> Result<bool, Error> {
        self.shared.lock().send_extension(self, message)
    }

    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        let state = self.shared.lock();
        state
            .extensions
            .registered
            .get(&self.serial)?
            .messages
            .closed()
    }

    pub(crate) fn poll_closed(&self, cx: &Context<'_>) -> Poll<CloseReason> {
        let mut state = self.shared.lock();
        match state.extensions.registered.get_mut(&self.serial) {
            Some(extension) => extension.messages.poll_closed(cx),
            None => Poll::Ready(CloseReason::Local),
        }
    }

    pub(crate) fn close(&self) {
        self.shared
            .lock()
            .close_extension(self.serial, CloseReason::Local);
    }
}

impl State {
    fn registration(&self, carrier: Carrier, name: &str) -> Option<Arc<Registration>> {
        let serial = self.extensions.find(carrier, name)?;
        // None while the last handle is being dropped: that one finds its own serial and no other.
        self.extensions
            .registered
            .get(&serial)?
            .registration
            .upgrade()
    }

    fn register(
        &mut self,
        shared: &Arc<Shared>,
        name: &str,
        carrier: Carrier,
        channel: Option<Channel>,
    ) -> Arc<Registration> {
        self.extensions.serial += 1;
        let serial = self.extensions.serial;
        let registration = Arc::new(Registration {
            shared: Arc::clone(shared),
            serial,
            name: name.to_owned(),
            carrier,
            _channel: channel,
        });
        let extension = Extension {
            name: name.to_owned(),
            carrier,
            channel: None,
            opened: carrier != Carrier::Stream,
            messages: self.flow.queue(),
            registration: Arc::downgrade(&registration),
        };
        self.extensions.registered.insert(serial, extension);
        let names = self.extensions.by_name.entry(carrier).or_default();
        names.insert(name.to_owned(), serial);
        registration
    }

    fn own_channel(&mut self, serial: u64, channel: ChannelHandle) {
        if let Some(extension) = self.extensions.registered.get_mut(&serial) {
            extension.channel = Some(channel);
            self.extensions.by_channel.insert(channel, serial);
        }
    }

    /// Ok(false) when the extension is not open yet, or there is no room.
    fn send_extension(&mut self, of: &Registration, message: &[u8]) -> Result<bool, Error> {
        let room = self.has_room();
        let finishing = self.connection.is_finishing();
        let extension = self.extensions.registered.get(&of.serial);
        let extension = extension
            .filter(|extension| extension.messages.closed().is_none() && !finishing)
            .ok_or(MuxError::Closed)?;
        if !extension.opened || !room {
            return Ok(false);
        }
        match (of.carrier, extension.channel) {
            (Carrier::Core(channel), _) => {
                self.connection.send_extension(channel, &of.name, message)?;
            }
            (Carrier::Stream, Some(channel)) => {
                self.connection.send_raw(channel, MESSAGE, message)?;
            }
            (Carrier::Stream, None) => return Ok(false),
        }
        self.flow.wake_driver();
        Ok(true)
    }

    /// The name is free again; the remote is told if the extension has a channel of its own.
    fn close_extension(&mut self, serial: u64, reason: CloseReason) {
        let Some(extension) = self.extensions.registered.get_mut(&serial) else {
            return;
        };
        if extension.messages.closed().is_some() {
            return;
        }
        self.flow.close(&mut extension.messages, reason);
        if let Some(names) = self.extensions.by_name.get_mut(&extension.carrier) {
            if names.get(&extension.name) == Some(&serial) {
                names.remove(&extension.name);
                if extension.carrier == Carrier::Stream {
                    self.connection.unpair_extension(&extension.name);
                }
            }
            if names.is_empty() {
                self.extensions.by_name.remove(&extension.carrier);
            }
        }
        if let Some(channel) = extension.channel.take() {
            self.extensions.by_channel.remove(&channel);
            let _ = self.connection.close(channel);
            self.flow.wake_driver();
        }
        self.flow.to_wake.append(&mut self.senders);
    }

    /// Whether the message of a core's channel was an extension's.
    pub(super) fn push_extension(
        &mut self,
        channel: ChannelHandle,
        message: &crate::wire::Extension,
        held: usize,
    ) -> bool {
        let carrier = Carrier::Core(channel);
        let extension = self.extensions.find_mut(carrier, &message.name);
        let Some(extension) = extension else {
            return false;
        };
        let message = message.message.clone();
        self.flow.push(&mut extension.messages, message, held);
        true
    }

    /// Whether the channel is an extension's. The remote has registered it too then.
    pub(super) fn open_extension(&mut self, channel: ChannelHandle) -> bool {
        let Some(extension) = self.extensions.on_channel(channel) else {
            return false;
        };
        extension.opened = true;
        extension.messages.wake(&mut self.flow);
        self.flow.to_wake.append(&mut self.senders);
        true
    }

    /// Whether the channel is an extension's. Other types of message are ignored, as Node ignores those it has no
    /// handler for.
    pub(super) fn push_own(
        &mut self,
        channel: ChannelHandle,
        kind: u64,
        body: &Buffer,
        held: usize,
    ) -> bool {
        let Some(extension) = self.extensions.on_channel(channel) else {
            return false;
        };
        if kind == MESSAGE {
            self.flow.push(&mut extension.messages, body.clone(), held);
        }
        true
    }

    /// A channel closed, of a core or of an extension.
    pub(super) fn close_extensions(&mut self, channel: ChannelHandle, reason: CloseReason) {
        if let Some(extension) = self.extensions.on_channel(channel) {
            extension.channel = None;
            let waits = !extension.opened && reason == CloseReason::Rejected;
            let serial = self.extensions.by_channel.remove(&channel);
            // One that the remote does not know yet waits until it does, and opens it.
            if let Some(serial) = serial.filter(|_| !waits) {
                self.close_extension(serial, reason);
            }
        }
        let on_core = self.extensions.by_name.get(&Carrier::Core(channel));
        let on_core: Vec<_> = on_core
            .into_iter()
            .flat_map(HashMap::values)
            .copied()
            .collect();
        for serial in on_core {
            self.close_extension(serial, reason);
        }
    }

    /// The stream ended: those that still waited for the remote wait in vain.
    pub(super) fn end_extensions(&mut self) {
        let waiting = self.extensions.by_name.get(&Carrier::Stream);
        let waiting: Vec<_> = waiting
            .into_iter()
            .flat_map(HashMap::values)
            .copied()
            .collect();
        for serial in waiting {
            let channel = self.extensions.registered.get(&serial).map(|e| e.channel);
            if channel == Some(None) {
                self.close_extension(serial, CloseReason::Stream);
            }
        }
    }

    /// Whether the remote opened an extension that is registered here. It is answered then.
    pub(super) fn answer_extension(&mut self, open: &RemoteOpen) -> bool {
        if open.id.is_some() {
            return false;
        }
        let Some(serial) = self.extensions.find(Carrier::Stream, &open.protocol) else {
            return false;
        };
        let channel = self.extensions.registered.get(&serial).map(|e| e.channel);
        if channel == Some(None) {
            let opened = self
                .connection
                .open_channel(&ChannelOptions::new(&open.protocol));
            if let Ok(channel) = opened {
                self.own_channel(serial, channel);
                return true;
            }
        }
        // It has one already.
        let _ = self.connection.reject_channel(&open.protocol, None);
        true
    }
}

impl Shared {
    /// Ends our side: see [`Connection::finish`].
    pub(crate) fn finish(&self) {
        let state = &mut *self.lock();
        Connection::finish(&mut state.connection);
        // Those that wait for the remote to open an extension learn that they cannot send any more.
        state.flow.to_wake.append(&mut state.senders);
        state.flow.wake_driver();
    }
}
