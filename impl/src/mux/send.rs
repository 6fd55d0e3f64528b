//! The outgoing direction of a mux: sends each message in its own record, or several in a batch.

use crate::buffer::Buffer;
use crate::encoding::{Encode, EncodeError, Encoder};
use crate::frame::FrameError;
use crate::transport::{Outbound, TransportError, TransportErrorKind};

use super::error::MuxError;
use super::record::{BATCH, CONTROL};

/// A batch is sent once it has grown to this many bytes, corked or not (protomux 3.12.1, `MAX_BATCH`).
const MAX_BATCH: usize = 8 * 1024 * 1024;

/// The longest message that shares a record with others: beyond it, moving it costs more than a record of its own.
const COALESCED_ITEM: usize = 2048;

/// A record that was only coalesced is ended once it has grown to this many bytes.
const COALESCED_BATCH: usize = 16 * 1024;

/// The outgoing direction of a mux. It lays messages out where the records leave, so that a batch is never copied.
#[derive(Debug)]
pub(super) struct Sender {
    out: Outbound,
    corked: u32,
    coalesces: bool,
    /// The record that more messages can be added to.
    open: Option<OpenRecord>,
}

#[derive(Debug, Clone, Copy)]
struct OpenRecord {
    /// The channel of its last message.
    channel: u64,
    /// Bytes of its only message, which leaves without a batch around it if no other follows.
    alone: Option<usize>,
}

impl Sender {
    pub(super) fn new(out: Outbound) -> Self {
        Self {
            out,
            corked: 0,
            coalesces: false,
            open: None,
        }
    }

    pub(super) fn out(&mut self) -> &mut Outbound {
        &mut self.out
    }

    pub(super) fn coalesce(&mut self) {
        self.coalesces = true;
    }

    /// Queues a message; while corked, as a part of the batch.
    pub(super) fn put(
        &mut self,
        channel: u64,
        kind: u64,
        body: &dyn Encode,
    ) -> Result<(), MuxError> {
        let item = Item { kind, body };
        let length = item.encoded_len()?;
        if self.corked > 0 {
            return self.add(channel, &item, length, MAX_BATCH);
        }
        self.put_alone(channel, &item, length)
    }

    /// As [`Sender::put`], but a small message may share a record with those that follow.
    pub(super) fn put_coalesced(
        &mut self,
        channel: u64,
        kind: u64,
        body: &dyn Encode,
    ) -> Result<(), MuxError> {
        let item = Item { kind, body };
        let length = item.encoded_len()?;
        if self.corked > 0 {
            return self.add(channel, &item, length, MAX_BATCH);
        }
        if self.coalesces && length <= COALESCED_ITEM {
            return self.add(channel, &item, length, COALESCED_BATCH);
        }
        self.put_alone(channel, &item, length)
    }

    fn put_alone(&mut self, channel: u64, item: &Item<'_>, length: usize) -> Result<(), MuxError> {
        self.close();
        let length = uint_len(channel) + length;
        self.check_fits(length)?;
        let limit = self.out.max_plaintext();
        let record = Single { channel, item };
        let put = self.out.put(length, &record);
        put.map_err(|error| refused(error, length, limit))
    }

    /// Adds a message to the open record, which is ended before if it has `full` bytes.
    fn add(
        &mut self,
        channel: u64,
        item: &Item<'_>,
        length: usize,
        full: usize,
    ) -> Result<(), MuxError> {
        // The longest that the item can need: its record's head, a change of channel, its length and itself.
        let longest = 2 + 1 + 9 + 9 + length;
        self.check_fits(longest)?;
        let held = self.out.opened_len();
        if held >= full || held + longest > self.out.max_plaintext() {
            self.close();
        }
        if self.open.is_none() {
            let limit = self.out.max_plaintext();
            let opened = self.out.open();
            opened.map_err(|error| refused(error, length, limit))?;
        }
        let written = self.write(channel, item, length);
        if written.is_err() && self.open.is_none() {
            self.out.abort();
        }
        Ok(written?)
    }

    /// Writes a message into the record that is open.
    fn write(&mut self, channel: u64, item: &Item<'_>, length: usize) -> Result<(), EncodeError> {
        let is_corked = self.corked > 0;
        let Some((bytes, start)) = self.out.opened() else {
            return Ok(());
        };
        if let Some(record) = &mut self.open {
            if let Some(first) = record.alone.take() {
                surround(bytes, start, first)?;
            }
        }
        let before = bytes.len();
        let last = self.open.map(|record| record.channel);
        let alone = last.is_none() && !is_corked;
        let written = (|| {
            let mut encoder = Encoder::new(bytes);
            match last {
                None if is_corked => {
                    encoder.uint(CONTROL, "channel")?;
                    encoder.uint(BATCH, "type")?;
                }
                Some(last) if last != channel => encoder.u8(0),
                _ => {}
            }
            if last != Some(channel) {
                encoder.uint(channel, "channel")?;
            }
            if !alone {
                encoder.uint(length as u64, "length")?;
            }
            item.encode_to(&mut encoder)
        })();
        if let Err(error) = written {
            bytes.truncate(before);
            return Err(error);
        }
        self.open = Some(OpenRecord {
            channel,
            alone: alone.then_some(length),
        });
        Ok(())
    }

    fn check_fits(&self, length: usize) -> Result<(), MuxError> {
        let limit = self.out.max_plaintext();
        if length > limit {
            return Err(MuxError::TooLarge { length, limit });
        }
        Ok(())
    }

    /// Ends the open record: the next message starts another.
    #[inline]
    fn close(&mut self) {
        if self.open.take().is_some() {
            self.out.close();
        }
    }

    pub(super) fn cork(&mut self) {
        if self.corked == 0 {
            // Messages sent before the cork are not part of the batch.
            self.close();
        }
        self.corked += 1;
    }

    pub(super) fn uncork(&mut self) {
        self.corked = self.corked.saturating_sub(1);
        if self.corked == 0 {
            self.close();
        }
    }

    pub(super) fn uncork_all(&mut self) {
        self.corked = 0;
        self.close();
    }

    pub(super) fn corked_len(&self) -> usize {
        if self.corked > 0 {
            self.out.opened_len()
        } else {
            0
        }
    }

    /// Queues a record that is not a message.
    pub(super) fn put_record(&mut self, plaintext: &[u8]) -> Result<(), TransportError> {
        self.close();
        self.out.put_bytes(plaintext)
    }

    /// Bytes that are ready to send, without a batch that is still corked.
    pub(super) fn transmit(&mut self) -> &[u8] {
        self.end_coalesced();
        self.out.transmit()
    }

    pub(super) fn swap(&mut self, spare: &mut Vec<u8>) {
        self.end_coalesced();
        self.out.swap(spare);
    }

    pub(super) fn take_record(&mut self) -> Option<Buffer> {
        self.end_coalesced();
        self.out.take_record()
    }

    fn end_coalesced(&mut self) {
        if self.corked == 0 {
            self.close();
        }
    }

    pub(super) fn consume(&mut self, count: usize) -> usize {
        self.out.consume(count)
    }

    pub(super) fn push_raw_for_testing_only(&mut self, bytes: &[u8]) {
        self.close();
        self.out.push_raw_for_testing_only(bytes);
    }

    pub(super) fn queued(&self) -> usize {
        self.out.queued()
    }

    /// Bytes that [`Sender::transmit`] does not return yet.
    pub(super) fn held(&self) -> usize {
        self.out.waiting_for_handshake() + self.corked_len()
    }
}

/// Makes a record of one message, whose last `item` bytes are the message, a batch of one. `start` is where it begins.
fn surround(bytes: &mut Vec<u8>, start: usize, item: usize) -> Result<(), EncodeError> {
    let end = bytes.len();
    Encoder::new(bytes).uint(item as u64, "length")?;
    let added = bytes.len() - end;
    bytes[end - item..].rotate_right(added);
    let end = bytes.len();
    let mut encoder = Encoder::new(bytes);
    encoder.uint(CONTROL, "channel")?;
    encoder.uint(BATCH, "type")?;
    let added = bytes.len() - end;
    bytes[start..].rotate_right(added);
    Ok(())
}

fn refused(error: TransportError, length: usize, limit: usize) -> MuxError {
    match error.kind {
        TransportErrorKind::Frame(FrameError::TooLarge { .. }) => {
            MuxError::TooLarge { length, limit }
        }
        TransportErrorKind::Encode(error) => MuxError::Encode(error),
        _ => MuxError::Closed,
    }
}

fn uint_len(value: u64) -> usize {
    match value {
        0..=0xfc => 1,
        0xfd..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

/// A message without its channel.
struct Item<'a> {
    kind: u64,
    body: &'a dyn Encode,
}

impl Encode for Item<'_> {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.uint(self.kind, "type")?;
        self.body.encode_to(encoder)
    }
}

struct Single<'a> {
    channel: u64,
    item: &'a Item<'a>,
}

impl Encode for Single<'_> {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.uint(self.channel, "channel")?;
        self.item.encode_to(encoder)
    }
}
