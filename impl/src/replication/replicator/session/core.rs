//! The state of one core in a session.

use std::time::Duration;

use crate::Channel;
use crate::connection::ChannelHandle;
use crate::driver::Extension;

use super::super::{Expected, Replicator};

/// Number of immediate reopenings of a core at the remote's request.
const REOPENS_AT_ONCE: u32 = 16;

/// The interval after that.
const REOPEN_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Replicated {
    pub(super) replicator: Replicator,
    /// Set until the remote has opened or rejected the channel, or timed out.
    pub(super) expected: Option<Expected>,
    /// The locally open channel.
    pub(super) channel: Option<ChannelHandle>,
    /// The same, once open on both sides.
    open: Option<Channel>,
    /// Names of extensions to register on each channel.
    extensions: Vec<String>,
    pub(super) is_paused: bool,
    /// The remote was dropped.
    pub(super) has_failed: bool,
    /// The core will be reopened later.
    pub(super) reopen_waits: bool,
    /// The time up to which the openings so far are used up, one per interval.
    used_up: Duration,
}

impl Replicated {
    pub(super) fn new(replicator: Replicator) -> Self {
        Self {
            replicator,
            expected: None,
            channel: None,
            open: None,
            extensions: Vec::new(),
            is_paused: false,
            has_failed: false,
            reopen_waits: false,
            used_up: Duration::ZERO,
        }
    }

    /// The core was opened locally.
    pub(super) fn open(&mut self, channel: ChannelHandle, expected: Expected) {
        self.channel = Some(channel);
        self.expected = Some(expected);
        self.is_paused = false;
        self.has_failed = false;
    }

    /// The channel is open on both sides. Returns its extensions.
    pub(super) fn opened(&mut self, channel: &Channel) -> Vec<Extension> {
        self.open = Some(channel.clone());
        let names = self.extensions.iter();
        names.map(|name| channel.register_extension(name)).collect()
    }

    pub(super) fn closed(&mut self) {
        self.channel = None;
        self.open = None;
    }

    /// The peer on this channel is gone.
    pub(super) fn left(&mut self, channel: ChannelHandle, failed: bool) {
        if self.channel == Some(channel) {
            // The last holder closes it.
            self.open = None;
            self.has_failed |= failed;
        }
    }

    /// Registers an extension on every future channel, and on the open one.
    pub(super) fn register_extension(&mut self, name: &str) -> Option<Extension> {
        if !self.extensions.iter().any(|known| known == name) {
            self.extensions.push(name.to_owned());
        }
        Some(self.open.as_ref()?.register_extension(name))
    }

    /// Whether the channel is locally open and usable.
    pub(super) fn is_open_here(&self) -> bool {
        self.channel.is_some() && !self.has_failed && !self.is_paused
    }

    /// Whether the remote has the core, or may still answer.
    pub(super) fn is_live(&self) -> bool {
        self.is_open_here() && (self.open.is_some() || self.expected.is_some())
    }

    /// Whether the core may be reopened at the remote's request.
    pub(super) fn may_reopen(&self) -> bool {
        self.channel.is_none() && !self.has_failed && !self.is_paused
    }

    /// The delay before the core is reopened. `None` for now, which counts as an opening.
    pub(super) fn wait_before_reopening(&mut self, now: Duration) -> Option<Duration> {
        let credit = REOPEN_INTERVAL * (REOPENS_AT_ONCE - 1);
        let from = self.used_up.saturating_sub(credit);
        if from > now {
            return Some(from - now);
        }
        self.used_up = self.used_up.max(now).saturating_add(REOPEN_INTERVAL);
        None
    }
}
