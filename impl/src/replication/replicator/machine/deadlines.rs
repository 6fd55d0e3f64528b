//! Time-outs: of requests, and of pauses of peers.

use std::time::Duration;

use super::super::peer::{Ending, InFlight, Overdue};
use super::super::{PauseReason, PeerError, PeerId, ReplicatorEvent};
use super::Machine;

/// The longest pause, as a power of two times the request time-out.
const LONGEST_PAUSE: u32 = 6;

impl Machine {
    /// Advances the time.
    pub(in super::super) fn tick(&mut self, now: Duration) {
        let before = self.now;
        self.now = self.now.max(now);
        let now = self.now;
        let mut happened = self.expected.values().any(|at| before < *at && *at <= now);
        while let Some((at, id)) = self.alarms.first().copied() {
            if at > now {
                break;
            }
            self.alarms.pop_first();
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.alarm = None;
            }
            self.look_after(id);
            self.arm(id);
            happened = true;
        }
        if happened {
            self.schedule_or_fail();
        }
    }

    pub(in super::super) fn now(&self) -> Duration {
        self.now
    }

    /// The time of the next [`Machine::tick`], unless something happens earlier.
    pub(in super::super) fn next_deadline(&self) -> Option<Duration> {
        let expected = self.expected.values().copied();
        let peers = self.alarms.first().map(|(at, _)| *at);
        expected.filter(|at| *at > self.now).chain(peers).min()
    }

    /// Sets the peer's alarm. An alarm that turns out to be early is set again.
    pub(super) fn arm(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(at) = peer.deadline(self.now, self.options.request_timeout) else {
            return;
        };
        match peer.alarm {
            Some(alarm) if alarm <= at => {}
            earlier => {
                peer.alarm = Some(at);
                if let Some(alarm) = earlier {
                    self.alarms.remove(&(alarm, id));
                }
                self.alarms.insert((at, id));
            }
        }
    }

    fn look_after(&mut self, id: PeerId) {
        let (now, timeout) = (self.now, self.options.request_timeout);
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.ending.is_none()) else {
            return;
        };
        if let Some((error, _)) = peer
            .suspect
            .take_if(|(_, since)| since.saturating_add(timeout) <= now)
        {
            self.let_go(id, PeerError::Proof(error));
            return;
        }
        if peer.paused.is_some_and(|until| until <= now) {
            peer.paused = None;
            peer.look_again();
        }
        let overdue = peer.overdue(now, timeout);
        if overdue.is_empty() {
            return;
        }
        peer.window = (peer.window / 2).max(1);
        let mut is_silent = false;
        for (request, why) in overdue {
            self.time_out(id, request, why);
            is_silent |= why == Overdue::Silent;
        }
        let peer = self.peers.get_mut(&id);
        let Some(peer) = peer.filter(|peer| is_silent && peer.ending.is_none()) else {
            return;
        };
        // Once it answers again, it first gets one request at a time.
        peer.window = 1;
        if peer.paused.is_none() {
            self.pause(id, PauseReason::Silent);
        }
    }

    fn time_out(&mut self, id: PeerId, request: u64, why: Overdue) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(in_flight) = peer.cancel(request, now) else {
            return;
        };
        self.touch(id);
        self.events.push_back(ReplicatorEvent::RequestTimedOut {
            peer: id,
            request: Box::new(in_flight.request.clone()),
        });
        if why == Overdue::Withheld {
            self.refused(id, &in_flight);
        }
        self.give_up(id, &in_flight);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.keep_late(in_flight);
        }
    }

    /// The peer refused data that it claims to have. It is not asked for it until it announces something new, and is
    /// paused if this happens often.
    pub(super) fn refused(&mut self, id: PeerId, in_flight: &InFlight) {
        let most = self.options.max_refusals;
        self.deny(id, in_flight);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if in_flight.request.fork != peer.remote.fork {
            // A peer that rewrites its history cannot answer earlier requests; these count once together.
            if std::mem::replace(&mut peer.has_rewritten, false) {
                peer.refused += 1;
            }
        } else {
            peer.refused += 1;
        }
        if peer.refused >= most && peer.paused.is_none() {
            peer.refused = most / 2;
            self.pause(id, PauseReason::Refuses);
        }
    }

    /// Pauses the peer, longer each time, and finally drops it.
    fn pause(&mut self, id: PeerId, reason: PauseReason) {
        let options = &self.options;
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.ending.is_none()) else {
            return;
        };
        if peer.pauses >= options.max_pauses {
            let error = match reason {
                PauseReason::Silent => PeerError::Unresponsive,
                PauseReason::Refuses => PeerError::Refuses,
            };
            self.let_go(id, error);
            return;
        }
        let times = 1 << peer.pauses.min(LONGEST_PAUSE);
        peer.pauses += 1;
        let pause = options.request_timeout.saturating_mul(times);
        peer.paused = Some(self.now.saturating_add(pause));
        self.events.push_back(ReplicatorEvent::PeerPaused {
            peer: id,
            pause,
            reason,
        });
        self.arm(id);
    }

    /// Whether to close the peer's channel although nothing more can be sent.
    pub(in super::super) fn is_ending(&self, id: PeerId) -> bool {
        let ending = self.peers.get(&id).and_then(|peer| peer.ending.as_ref());
        matches!(ending, Some(Ending::Failed(_)))
    }
}
