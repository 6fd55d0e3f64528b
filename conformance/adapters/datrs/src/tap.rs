//! What stands between the protocol and its encrypted stream: everything passes, and some of it is noted, for the crate
//! does not tell it. Records of the adapter's own can be slipped in.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use compact_encoding::CompactEncoding;
use futures::{Sink, Stream};
use hypercore_handshake::{CipherEvent, CipherTrait};
use hypercore_protocol::DiscoveryKey;
use hypercore_protocol::schema::Open;

/// The remote's number of a channel, and the bytes of its handshake.
pub(crate) type RemoteOpen = (u64, Option<Vec<u8>>);

#[derive(Default)]
pub(crate) struct Noted {
    /// The last open of each core that arrived.
    pub(crate) opens: HashMap<DiscoveryKey, RemoteOpen>,
    pub(crate) handshake_hash: Option<Vec<u8>>,
    /// The channel of the last record that arrived.
    pub(crate) last_channel: Option<u8>,
    /// To be sent as they are.
    pub(crate) own: VecDeque<Vec<u8>>,
    pub(crate) polled_by: Option<Waker>,
}

pub(crate) type Notes = Arc<Mutex<Noted>>;

/// A stream with a tap.
pub(crate) struct Tap<C> {
    inner: C,
    notes: Notes,
}

impl<C: CipherTrait> Tap<C> {
    pub(crate) fn new(inner: C) -> (Self, Notes) {
        let notes = Notes::default();
        (
            Self {
                inner,
                notes: Arc::clone(&notes),
            },
            notes,
        )
    }
}

/// The bytes of an open record after its fixed fields.
pub(crate) fn handshake_of(record: &[u8]) -> Option<(Open, Option<Vec<u8>>)> {
    let body = record.strip_prefix(&[0, 1])?;
    let (_, rest) = u64::decode(body).ok()?;
    let (_, rest) = String::decode(rest).ok()?;
    let (_, rest) = Vec::<u8>::decode(rest).ok()?;
    let (open, _) = Open::decode(body).ok()?;
    Some((open, (!rest.is_empty()).then(|| rest.to_vec())))
}

impl<C: CipherTrait> Stream for Tap<C> {
    type Item = CipherEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<CipherEvent>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_next(cx);
        let mut noted = this.notes.lock().expect("no panic is caught");
        noted.handshake_hash = this.inner.handshake_hash();
        noted.polled_by = Some(cx.waker().clone());
        if let Poll::Ready(Some(CipherEvent::Message(record))) = &polled {
            noted.last_channel = record.first().copied();
        }
        if let Poll::Ready(Some(CipherEvent::Message(record))) = &polled
            && let Some((open, handshake)) = handshake_of(record)
            && let Ok(discovery_key) = <DiscoveryKey>::try_from(&*open.discovery_key)
        {
            noted.opens.insert(discovery_key, (open.channel, handshake));
        }
        polled
    }
}

impl<C: CipherTrait> Sink<Vec<u8>> for Tap<C> {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match Pin::new(&mut this.inner).poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
            let Some(own) = this
                .notes
                .lock()
                .expect("no panic is caught")
                .own
                .pop_front()
            else {
                return Poll::Ready(Ok(()));
            };
            Pin::new(&mut this.inner).start_send(own)?;
            let _ = Pin::new(&mut this.inner).poll_flush(cx)?;
        }
    }

    fn start_send(self: Pin<&mut Self>, record: Vec<u8>) -> io::Result<()> {
        Pin::new(&mut self.get_mut().inner).start_send(record)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_close(cx)
    }
}

impl<C: CipherTrait> CipherTrait for Tap<C> {
    fn remote_public_key(&self) -> Option<[u8; 32]> {
        self.inner.remote_public_key()
    }

    fn local_public_key(&self) -> [u8; 32] {
        self.inner.local_public_key()
    }

    fn handshake_hash(&self) -> Option<Vec<u8>> {
        self.inner.handshake_hash()
    }

    fn is_initiator(&self) -> bool {
        self.inner.is_initiator()
    }
}
