//! What a session knows of one of its cores.

use std::time::Duration;

use crate::Channel;
use crate::connection::ChannelHandle;
use crate::driver::Extension;

use super::super::{Expected, Replicator};

/// How often a core is opened at once because the remote opens it again.
const REOPENS_AT_ONCE: u32 = 16;

/// How often after that.
const REOPEN_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Replicated {
    pub(super) replicator: Replicator,
    /// Until the remote has opened the channel or refused to, or has taken too long.
    pub(super) expected: Option<Expected>,
    /// The channel that is open here.
    pub(super) channel: Option<ChannelHandle>,
    /// The same, once it is open on both sides.
    open: Option<Channel>,
    /// Names of extensions that are to be registered on each channel.
    extensions: Vec<String>,
    pub(super) is_paused: bool,
    /// The remote was let go.
    pub(super) has_failed: bool,
    /// The core is opened again later.
    pub(super) reopen_waits: bool,
    /// The time up to which the openings so far are used up, at one for each interval.
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

    /// It was opened here.
    pub(super) fn open(&mut self, channel: ChannelHandle, expected: Expected) {
        self.channel = Some(channel);
        self.expected = Some(expected);
        self.is_paused = false;
        self.has_failed = false;
    }

    /// It is open on both sides. Returns the extensions on it.
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
            // Whoever is the last to hold it closes it.
            self.open = None;
            self.has_failed |= failed;
        }
    }

    /// Registers an extension on every channel from now on, and on the one that is open.
    pub(super) fn register_extension(&mut self, name: &str) -> Option<Extension> {
        if !self.extensions.iter().any(|known| known == name) {
            self.extensions.push(name.to_owned());
        }
        Some(self.open.as_ref()?.register_extension(name))
    }

    /// Whether the channel is open here, and of use.
    pub(super) fn is_open_here(&self) -> bool {
        self.channel.is_some() && !self.has_failed && !self.is_paused
    }

    /// Whether the remote has the core, or may be about to say so.
    pub(super) fn is_live(&self) -> bool {
        self.is_open_here() && (self.open.is_some() || self.expected.is_some())
    }

    /// Whether the core may be opened because the remote wants it.
    pub(super) fn may_reopen(&self) -> bool {
        self.channel.is_none() && !self.has_failed && !self.is_paused
    }

    /// How long to wait until the core is opened again. None for now, which counts.
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
