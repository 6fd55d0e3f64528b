//! The outgoing direction: records, written in plaintext into the outgoing buffer and sealed in place on transmit.

use crate::buffer::Buffer;
use crate::encoding::{Encode, Encoder};
use crate::frame;
use crate::secret_stream::{self, Push, Tag};

use super::{MAX_PLAINTEXT_BYTES, TransportError, TransportErrorKind};

/// Bytes that a sealed frame is longer than its plaintext.
const FRAME_OVERHEAD: usize = frame::HEADER_BYTES + secret_stream::ABYTES;
/// Capacity that an emptied buffer keeps.
const KEPT_CAPACITY: usize = 1 << 20;
/// Sent bytes in front of the buffer that are worth moving the rest for.
const COMPACT_BYTES: usize = 1 << 16;

/// How records are sent.
enum Cipher {
    /// Sealed, once the handshake has given the keys. Until then they wait behind it.
    Waiting,
    Sealed(Push),
    /// As they are: the carrier encrypts.
    Bare,
}

/// The outgoing direction of a [`Transport`](super::Transport).
///
/// Each record is written once, at its place in the outgoing buffer, with room for the cipher's overhead. It is sealed
/// there when the caller asks for bytes; until then more can be added to it.
pub(crate) struct Outbound {
    cipher: Cipher,
    failure: Option<Box<TransportError>>,
    /// Whole frames. Those from `sent` to `sealed` can be sent; those after `sealed` are in plaintext.
    bytes: Vec<u8>,
    sent: usize,
    sealed: usize,
    /// Where the last frame begins, if it is still added to.
    open: Option<usize>,
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbound")
            .field("bytes_waiting", &self.queued())
            .finish_non_exhaustive()
    }
}

impl Outbound {
    /// One whose records wait for the keys.
    pub(super) fn waiting() -> Self {
        Self::with(Cipher::Waiting)
    }

    /// A direction whose records are sent unencrypted.
    pub(crate) fn bare() -> Self {
        Self::with(Cipher::Bare)
    }

    fn with(cipher: Cipher) -> Self {
        Self {
            cipher,
            failure: None,
            bytes: Vec::new(),
            sent: 0,
            sealed: 0,
            open: None,
        }
    }

    /// Accepts no more records from now on. Those accepted before can still be sent.
    pub(super) fn fail(&mut self, error: TransportError) {
        self.abort();
        self.failure.get_or_insert(Box::new(error));
    }

    pub(super) fn is_sealed(&self) -> bool {
        !matches!(self.cipher, Cipher::Bare)
    }

    /// The largest plaintext of one record.
    pub(crate) fn max_plaintext(&self) -> usize {
        if self.is_sealed() {
            MAX_PLAINTEXT_BYTES
        } else {
            frame::MAX_RECORD_BYTES
        }
    }

    /// Puts a message of the handshake, or the header that ends it, before the records that wait for it.
    pub(super) fn put_handshake(&mut self, message: &[u8]) -> Result<(), TransportErrorKind> {
        let mut framed = Vec::with_capacity(frame::HEADER_BYTES + message.len());
        frame::write_frame_header(message.len(), &mut framed)?;
        framed.extend_from_slice(message);
        self.insert(&framed);
        Ok(())
    }

    /// Bytes that leave as they are, after what can leave already.
    fn insert(&mut self, bytes: &[u8]) {
        self.seal();
        let at = self.sealed;
        self.bytes.splice(at..at, bytes.iter().copied());
        self.sealed += bytes.len();
        self.open = self.open.map(|open| open + bytes.len());
    }

    /// The handshake is complete on our side: records can be sent.
    pub(super) fn start(&mut self, push: Push) {
        self.cipher = Cipher::Sealed(push);
    }

    /// Queues a record of `len` bytes of plaintext. On failure nothing was queued.
    pub(crate) fn put(&mut self, len: usize, plaintext: &dyn Encode) -> Result<(), TransportError> {
        let start = self.begin(len)?;
        let from = self.bytes.len();
        let written = plaintext.encode_to(&mut Encoder::new(&mut self.bytes));
        let actual = self.bytes.len() - from;
        if written.is_err() || actual != len {
            self.bytes.truncate(start);
            return Err(match written {
                Err(error) => error.into(),
                Ok(()) => TransportErrorKind::EncodedLength {
                    announced: len,
                    actual,
                }
                .into(),
            });
        }
        self.close_layout();
        Ok(())
    }

    /// Queues a record of this plaintext.
    pub(crate) fn put_bytes(&mut self, plaintext: &[u8]) -> Result<(), TransportError> {
        self.begin(plaintext.len())?;
        self.bytes.extend_from_slice(plaintext);
        self.close_layout();
        Ok(())
    }

    /// Begins a record that is added to through [`Outbound::opened`] until [`Outbound::close`], and stays behind meanwhile.
    pub(crate) fn open(&mut self) -> Result<(), TransportError> {
        self.open = Some(self.begin(0)?);
        Ok(())
    }

    /// The buffer whose end the open record is, and where in it the record's plaintext begins.
    pub(crate) fn opened(&mut self) -> Option<(&mut Vec<u8>, usize)> {
        let start = self.open? + self.head();
        Some((&mut self.bytes, start))
    }

    /// Bytes of plaintext of the open record.
    pub(crate) fn opened_len(&self) -> usize {
        self.open
            .map_or(0, |open| self.bytes.len() - open - self.head())
    }

    /// Ends the open record, which can now be sent. The caller has kept it within [`Outbound::max_plaintext`].
    #[inline]
    pub(crate) fn close(&mut self) {
        if let Some(start) = self.open {
            self.close_at(start);
        }
    }

    fn close_at(&mut self, start: usize) {
        let len = self.opened_len();
        self.open = None;
        match frame::frame_header(len + self.overhead()) {
            Ok(header) => {
                self.bytes[start..start + frame::HEADER_BYTES].copy_from_slice(&header);
                self.close_layout();
            }
            Err(_) => {
                debug_assert!(false, "a record of {len} bytes does not fit a frame");
                self.bytes.truncate(start);
            }
        }
    }

    /// Drops the open record.
    pub(crate) fn abort(&mut self) {
        if let Some(start) = self.open.take() {
            self.bytes.truncate(start);
        }
    }

    /// Bytes that the cipher adds to a plaintext.
    fn overhead(&self) -> usize {
        if self.is_sealed() {
            secret_stream::ABYTES
        } else {
            0
        }
    }

    /// Bytes of a frame before its plaintext.
    fn head(&self) -> usize {
        frame::HEADER_BYTES + usize::from(self.is_sealed()) * secret_stream::TAG_BYTES
    }

    /// Starts a frame: its length and the tag's slot. Tells where it begins.
    fn begin(&mut self, len: usize) -> Result<usize, TransportError> {
        self.close();
        if let Some(error) = &self.failure {
            return Err(TransportError::clone(error));
        }
        let header = frame::frame_header(len.saturating_add(self.overhead()))?;
        let start = self.bytes.len();
        self.bytes.reserve(FRAME_OVERHEAD + len);
        self.bytes.extend_from_slice(&header);
        if self.is_sealed() {
            self.bytes.push(0);
        }
        Ok(start)
    }

    /// The MAC's slot, behind the plaintext.
    fn close_layout(&mut self) {
        if self.is_sealed() {
            self.bytes.extend_from_slice(&[0; secret_stream::MAC_BYTES]);
        }
    }

    /// Seals the plaintext records in order, except the open one.
    fn seal(&mut self) {
        let end = self.open.unwrap_or(self.bytes.len());
        let push = match &mut self.cipher {
            Cipher::Waiting => return,
            Cipher::Bare => {
                self.sealed = end;
                return;
            }
            Cipher::Sealed(push) => push,
        };
        let mut rest = &mut self.bytes[self.sealed..end];
        while let Some((length, after)) = rest.split_first_chunk_mut::<{ frame::HEADER_BYTES }>() {
            let (record, next) = after.split_at_mut(frame::length(*length));
            let sealed = push.seal(Tag::MESSAGE, record);
            debug_assert_eq!(
                sealed,
                Ok(()),
                "a frame is laid out with room for tag and MAC"
            );
            rest = next;
        }
        self.sealed = end;
    }

    /// Bytes that are ready to send.
    pub(crate) fn transmit(&mut self) -> &[u8] {
        self.seal();
        &self.bytes[self.sent..self.sealed]
    }

    /// Queued bytes: those that are ready to send, those that wait for the handshake, and the open record.
    pub(crate) fn queued(&self) -> usize {
        let mac = match self.open {
            Some(_) if self.is_sealed() => secret_stream::MAC_BYTES,
            _ => 0,
        };
        self.bytes.len() + mac - self.sent
    }

    /// Bytes of these that wait for the handshake.
    pub(crate) fn waiting_for_handshake(&self) -> usize {
        match self.cipher {
            Cipher::Waiting => self.open.unwrap_or(self.bytes.len()) - self.sealed,
            _ => 0,
        }
    }

    /// Removes the first `count` bytes of [`Outbound::transmit`] after they were sent, or all if there are fewer. Returns the
    /// number removed.
    pub(crate) fn consume(&mut self, count: usize) -> usize {
        let count = count.min(self.sealed - self.sent);
        self.sent += count;
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            if self.bytes.capacity() > KEPT_CAPACITY {
                self.bytes.shrink_to(KEPT_CAPACITY);
            }
            (self.sent, self.sealed) = (0, 0);
        } else if self.sent >= COMPACT_BYTES && self.sent >= self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.sealed -= self.sent;
            self.open = self.open.map(|open| open - self.sent);
            self.sent = 0;
        }
        count
    }

    /// Exchanges the bytes that are ready to leave for `spare`, which must be empty and whose memory is used for what is
    /// queued next: nothing is copied unless something stays.
    pub(crate) fn swap(&mut self, spare: &mut Vec<u8>) {
        debug_assert!(spare.is_empty());
        self.seal();
        if self.sent == 0 && self.sealed == self.bytes.len() {
            std::mem::swap(&mut self.bytes, spare);
            self.sealed = 0;
        } else {
            spare.extend_from_slice(&self.bytes[self.sent..self.sealed]);
            self.consume(spare.len());
        }
    }

    /// The plaintext of the next record that is ready to leave, of one whose records leave as they are.
    pub(crate) fn take_record(&mut self) -> Option<Buffer> {
        debug_assert!(!self.is_sealed());
        if self.sent == self.bytes.len() {
            return None;
        }
        let (length, rest) = self
            .transmit()
            .split_first_chunk::<{ frame::HEADER_BYTES }>()?;
        let record = Buffer::copy_from(&rest[..frame::length(*length)]);
        self.consume(frame::HEADER_BYTES + record.len());
        Some(record)
    }

    /// Puts bytes on the wire as they are, so that a test can send invalid input.
    pub(crate) fn push_raw_for_testing_only(&mut self, bytes: &[u8]) {
        self.close();
        self.insert(bytes);
    }
}
