//! The channels of a connection, of cores and of other protocols, in one table.

use std::fmt;

use slab::Slab;

use crate::buffer::Buffer;
use crate::keys::{DiscoveryKey, Key};
use crate::mux;
use crate::wire::{self, ExtensionNames};

/// Names a channel of a [`Connection`](super::Connection), from [`Connection::open`](super::Connection::open) or
/// [`Connection::open_channel`](super::Connection::open_channel) on and for good. Later ones are greater.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelHandle {
    serial: u64,
    /// Its place in the table, which another has when it is closed.
    place: usize,
}

impl fmt::Debug for ChannelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChannelHandle").field(&self.serial).finish()
    }
}

impl ChannelHandle {
    pub(super) fn place(self) -> usize {
        self.place
    }
}

#[cfg(test)]
impl ChannelHandle {
    pub(crate) fn for_testing_only(id: u64) -> Self {
        let place = usize::MAX;
        Self { serial: id, place }
    }
}

/// Whether channels of this protocol are those of cores.
pub(super) fn is_core(protocol: &str) -> bool {
    protocol == wire::PROTOCOL || protocol == wire::PROTOCOL_ALIAS
}

/// A protocol and an id; an empty id is none.
pub(super) type Name = (String, Option<Buffer>);

pub(super) struct Channel {
    serial: u64,
    /// `None` until the handshake is complete.
    pub(super) mux: Option<mux::ChannelId>,
    /// Both sides have opened it.
    pub(super) opened: bool,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Core(Core),
    Other(Name),
}

pub(super) struct Core {
    pub(super) key: Key,
    pub(super) discovery_key: DiscoveryKey,
    /// `None` until an extension is sent or received: most channels never see one.
    pub(super) names: Option<Box<ExtensionNames>>,
}

impl Channel {
    pub(super) fn core(&self) -> Option<&Core> {
        match &self.kind {
            Kind::Core(core) => Some(core),
            Kind::Other(_) => None,
        }
    }

    pub(super) fn core_mut(&mut self) -> Option<&mut Core> {
        match &mut self.kind {
            Kind::Core(core) => Some(core),
            Kind::Other(_) => None,
        }
    }
}

/// A handle leads to its channel by its place, and so does the mux's name of it, which carries the place as its token: no
/// message is looked up by a hash.
#[derive(Default)]
pub(super) struct Channels {
    table: Slab<Channel>,
    serial: u64,
}

impl Channels {
    /// Where the next channel will be.
    pub(super) fn next_place(&self) -> usize {
        self.table.vacant_key()
    }

    pub(super) fn insert(&mut self, kind: Kind, mux: Option<mux::ChannelId>) -> ChannelHandle {
        self.serial += 1;
        let serial = self.serial;
        let place = self.table.insert(Channel {
            serial,
            mux,
            opened: false,
            kind,
        });
        ChannelHandle { serial, place }
    }

    pub(super) fn get(&self, handle: ChannelHandle) -> Option<&Channel> {
        let channel = self.table.get(handle.place);
        channel.filter(|channel| channel.serial == handle.serial)
    }

    pub(super) fn get_mut(&mut self, handle: ChannelHandle) -> Option<&mut Channel> {
        let channel = self.table.get_mut(handle.place);
        channel.filter(|channel| channel.serial == handle.serial)
    }

    /// The channel that the mux calls so.
    pub(super) fn of(&mut self, id: mux::ChannelId) -> Option<(ChannelHandle, &mut Channel)> {
        let place = id.token();
        let channel = self.table.get_mut(place);
        let channel = channel.filter(|channel| channel.mux == Some(id))?;
        let serial = channel.serial;
        Some((ChannelHandle { serial, place }, channel))
    }

    pub(super) fn remove(&mut self, handle: ChannelHandle) -> Option<Channel> {
        self.get(handle)?;
        self.table.try_remove(handle.place)
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// All of them, in the order in which they were opened.
    pub(super) fn sorted(&self) -> Vec<(ChannelHandle, &Channel)> {
        let handle = |(place, channel): (usize, &Channel)| {
            let serial = channel.serial;
            ChannelHandle { serial, place }
        };
        let all = self.table.iter();
        let mut all: Vec<_> = all.map(|it| (handle(it), it.1)).collect();
        all.sort_unstable_by_key(|(handle, _)| *handle);
        all
    }
}
