//! Requests of other tasks to a running session, and its events for them.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

use crate::connection::ConnectionError;
use crate::driver::ProtocolHandle;
use crate::error::Error;
use crate::keys::DiscoveryKey;

use super::super::{Expected, Replicator};
use super::{SessionError, SessionEvent};

/// Maximum number of events buffered per reader.
const MAX_EVENTS: usize = 1024;

/// A request to a session.
pub(super) enum Order {
    Add(Replicator, Expected),
    Remove(DiscoveryKey),
    Pause(DiscoveryKey),
    Resume(DiscoveryKey),
    RegisterExtension(DiscoveryKey, String),
}

struct Shared {
    protocol: ProtocolHandle,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    orders: Vec<Order>,
    /// The waker of the task that runs the session.
    waker: Option<Waker>,
    readers: Vec<Reader>,
    last_reader: u64,
    is_over: bool,
}

struct Reader {
    id: u64,
    events: VecDeque<SessionEvent>,
    lost: u64,
    waker: Option<Waker>,
}

impl Shared {
    /// A panic elsewhere leaves the state consistent: no call changes it halfway.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: SessionEvent, is_last: bool) {
        let mut wakers = Vec::new();
        let mut dropped = Vec::new();
        let mut state = self.lock();
        if state.is_over {
            return;
        }
        for reader in &mut state.readers {
            if reader.events.len() == MAX_EVENTS {
                dropped.extend(reader.events.pop_front());
                reader.lost += 1;
            }
            reader.events.push_back(event.clone());
            wakers.extend(reader.waker.take());
        }
        let mut orders = Vec::new();
        if is_last {
            state.is_over = true;
            orders = std::mem::take(&mut state.orders);
        }
        drop(state);
        // Outside of the lock, since waking or dropping may run code that takes it.
        wakers.into_iter().for_each(Waker::wake);
        drop((dropped, orders));
    }
}

/// The session's side.
pub(super) struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.end(None);
    }
}

impl Owner {
    pub(super) fn new(protocol: ProtocolHandle) -> Self {
        Self(Arc::new(Shared {
            protocol,
            state: Mutex::default(),
        }))
    }

    pub(super) fn handle(&self) -> SessionHandle {
        SessionHandle(Arc::clone(&self.0))
    }

    /// Takes the orders. The task is woken for later ones.
    pub(super) fn take_orders(&self, cx: &Context<'_>) -> Vec<Order> {
        let mut state = self.0.lock();
        if !state
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            state.waker = Some(cx.waker().clone());
        }
        std::mem::take(&mut state.orders)
    }

    pub(super) fn has_readers(&self) -> bool {
        !self.0.lock().readers.is_empty()
    }

    pub(super) fn tell(&self, event: SessionEvent) {
        self.0.tell(event, false);
    }

    /// The session is over.
    pub(super) fn end(&self, error: Option<SessionError>) {
        self.0.tell(SessionEvent::Ended { error }, true);
    }
}

/// Controls a [`Session`](super::Session) that runs in another task, made by
/// [`Session::handle`](super::Session::handle). Clones control the same session.
///
/// Calls take effect in order once the session is run or driven; failures are reported as [`SessionEvent::Failed`]. A
/// handle does not keep the stream open.
#[derive(Clone)]
pub struct SessionHandle(Arc<Shared>);

impl fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionHandle").finish_non_exhaustive()
    }
}

impl SessionHandle {
    /// See [`Session::add`](super::Session::add). An update requested after this call waits for the remote.
    ///
    /// # Errors
    /// [`ConnectionError::Closed`] when the session is over.
    pub fn add(&self, replicator: &Replicator) -> Result<(), Error> {
        let expected = replicator.expect_peer();
        self.order(Order::Add(replicator.clone(), expected))
    }

    /// See [`Session::remove`](super::Session::remove).
    ///
    /// # Errors
    /// [`ConnectionError::Closed`] when the session is over.
    pub fn remove(&self, discovery_key: &DiscoveryKey) -> Result<(), Error> {
        self.order(Order::Remove(*discovery_key))
    }

    /// See [`Session::pause`](super::Session::pause).
    ///
    /// # Errors
    /// [`ConnectionError::Closed`] when the session is over.
    pub fn pause(&self, discovery_key: &DiscoveryKey) -> Result<(), Error> {
        self.order(Order::Pause(*discovery_key))
    }

    /// See [`Session::resume`](super::Session::resume).
    ///
    /// # Errors
    /// [`ConnectionError::Closed`] when the session is over.
    pub fn resume(&self, discovery_key: &DiscoveryKey) -> Result<(), Error> {
        self.order(Order::Resume(*discovery_key))
    }

    /// See [`Session::register_extension`](super::Session::register_extension).
    ///
    /// # Errors
    /// [`ConnectionError::Closed`] when the session is over.
    pub fn register_extension(
        &self,
        discovery_key: &DiscoveryKey,
        name: &str,
    ) -> Result<(), Error> {
        self.order(Order::RegisterExtension(*discovery_key, name.to_owned()))
    }

    /// A stream of events from now on: see [`Session::events`](super::Session::events).
    pub fn events(&self) -> SessionEvents {
        let mut state = self.0.lock();
        state.last_reader += 1;
        let id = state.last_reader;
        state.readers.push(Reader {
            id,
            events: VecDeque::new(),
            lost: 0,
            waker: None,
        });
        SessionEvents {
            shared: Arc::clone(&self.0),
            id,
        }
    }

    /// Opens channels of other protocols, and extensions of the stream.
    pub fn protocol(&self) -> ProtocolHandle {
        self.0.protocol.clone()
    }

    fn order(&self, order: Order) -> Result<(), Error> {
        let mut state = self.0.lock();
        if state.is_over {
            drop(state);
            return Err(ConnectionError::Closed.into());
        }
        state.orders.push(order);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }
}

/// Events of a session, from [`Session::events`](super::Session::events). A [`Stream`] that ends after
/// [`SessionEvent::Ended`].
pub struct SessionEvents {
    shared: Arc<Shared>,
    id: u64,
}

impl fmt::Debug for SessionEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionEvents").finish_non_exhaustive()
    }
}

impl SessionEvents {
    /// The next event; `None` when the session is over. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<SessionEvent> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// The next event that has already happened.
    pub fn try_next(&mut self) -> Option<SessionEvent> {
        let mut state = self.shared.lock();
        let reader = state.readers.iter_mut().find(|it| it.id == self.id)?;
        reader.take()
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Option<SessionEvent>> {
        let mut state = self.shared.lock();
        let is_over = state.is_over;
        let Some(reader) = state.readers.iter_mut().find(|it| it.id == self.id) else {
            return Poll::Ready(None);
        };
        match reader.take() {
            Some(event) => Poll::Ready(Some(event)),
            None if is_over => Poll::Ready(None),
            None => {
                reader.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Reader {
    fn take(&mut self) -> Option<SessionEvent> {
        if self.lost > 0 {
            return Some(SessionEvent::Lagged(std::mem::take(&mut self.lost)));
        }
        self.events.pop_front()
    }
}

impl Stream for SessionEvents {
    type Item = SessionEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<SessionEvent>> {
        self.poll(cx)
    }
}

impl Drop for SessionEvents {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let at = state.readers.iter().position(|it| it.id == self.id);
        let reader = at.map(|at| state.readers.swap_remove(at));
        drop(state);
        // Outside of the lock: dropping an extension that is the last of its name changes the protocol.
        drop(reader);
    }
}
