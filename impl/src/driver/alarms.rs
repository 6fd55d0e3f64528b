//! Alarms: the protocol's clock wakes tasks that use its channels, so that they need no clock of their own.
#![cfg_attr(
    not(feature = "replication"),
    allow(dead_code, reason = "only replication sets alarms")
)]

use std::task::{Context, Waker};
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::connection::ChannelHandle;

/// At most one alarm per channel.
#[derive(Default)]
pub(super) struct Alarms {
    alarms: FxHashMap<ChannelHandle, Alarm>,
    /// A lower bound on the times of all alarms that have one.
    next: Option<Duration>,
    /// Whether any alarm has no time yet.
    is_new: bool,
}

struct Alarm {
    due: Due,
    waker: Waker,
}

#[derive(Clone, Copy)]
enum Due {
    /// Counted from the driver's next poll, since only the driver knows the time.
    After(Duration),
    At(Duration),
}

impl Alarms {
    /// Wakes the task once this much time has passed. Replaces an earlier alarm of the channel.
    pub(super) fn set(&mut self, cx: &Context<'_>, channel: ChannelHandle, after: Duration) {
        let alarm = Alarm {
            due: Due::After(after),
            waker: cx.waker().clone(),
        };
        self.alarms.insert(channel, alarm);
        self.is_new = true;
    }

    pub(super) fn remove(&mut self, channel: ChannelHandle) {
        self.alarms.remove(&channel);
    }

    /// The tasks whose alarms are due.
    pub(super) fn ring(&mut self, now: Duration) -> Vec<Waker> {
        let mut due = Vec::new();
        if !self.is_new && self.next.is_none_or(|next| now < next) {
            return due;
        }
        self.is_new = false;
        self.next = None;
        let next = &mut self.next;
        self.alarms.retain(|_, alarm| {
            let at = match alarm.due {
                Due::After(after) => now.saturating_add(after),
                Due::At(at) => at,
            };
            alarm.due = Due::At(at);
            if at <= now {
                due.push(alarm.waker.clone());
                return false;
            }
            *next = Some(next.map_or(at, |next| next.min(at)));
            true
        });
        due
    }

    /// The time at which to call [`Alarms::ring`].
    pub(super) fn next(&self) -> Option<Duration> {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn rung(alarms: &mut Alarms, now: u64) -> usize {
        alarms.ring(Duration::from_secs(now)).len()
    }

    #[test]
    fn an_alarm_rings_once_after_its_time() {
        let waker = Arc::new(Count(AtomicUsize::new(0))).into();
        let cx = Context::from_waker(&waker);
        let [one, two] = [1, 2].map(ChannelHandle::for_testing_only);
        let mut alarms = Alarms::default();
        assert_eq!(alarms.next(), None);
        alarms.set(&cx, one, Duration::from_secs(5));
        alarms.set(&cx, two, Duration::from_secs(2));
        // The time counts from now on.
        assert_eq!(rung(&mut alarms, 10), 0);
        assert_eq!(alarms.next(), Some(Duration::from_secs(12)));
        assert_eq!(rung(&mut alarms, 11), 0);
        assert_eq!(rung(&mut alarms, 12), 1);
        assert_eq!(alarms.next(), Some(Duration::from_secs(15)));
        // A later call replaces the alarm, and no alarm is later than the clock's maximum.
        alarms.set(&cx, one, Duration::MAX);
        assert_eq!(rung(&mut alarms, 20), 0);
        assert_eq!(alarms.next(), Some(Duration::MAX));
        alarms.remove(one);
        alarms.set(&cx, two, Duration::ZERO);
        assert_eq!(rung(&mut alarms, 20), 1);
        assert_eq!(alarms.next(), None);
    }
}
