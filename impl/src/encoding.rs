//! Compact encoding: the integers, buffers, strings and arrays that make up every message.
//!
//! Read from compact-encoding 3.5.2, `index.js` and `raw.js`:
//! - `uint` is one byte up to 0xfc; `fd`, `fe` and `ff` are followed by 2, 4 and 8 bytes, little-endian. Encoders write
//!   the shortest form, decoders accept every form, and nothing above 2^53-1 ([`MAX_SAFE_INTEGER`]) passes either way.
//! - `uint8`, `uint16`, `uint24`, `uint32`, `uint64` are little-endian and of fixed width.
//! - `buffer` and `string` are a `uint` length in bytes and the bytes; `fixed32` and `fixed64` are bare bytes; `raw` is
//!   the rest of the message.
//! - an array is a `uint` count, at most [`MAX_ARRAY_LENGTH`], and the items. A `uint32array` is a `uint` count and
//!   that many little-endian words, without a limit of its own.
//!
//! One difference is deliberate: Node's `uint32array` reads its words up to the end of the underlying memory, past the
//! end of the message. Here no value reaches past its own message.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::buffer::Buffer;
use crate::class::ErrorClass;

/// The largest integer that can be sent: 2^53-1, the largest that JavaScript holds exactly.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// The largest count of items that Node accepts in an array.
pub const MAX_ARRAY_LENGTH: u64 = 0x10_0000;

/// A value could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}, in {field}")]
#[non_exhaustive]
pub struct DecodeError {
    /// The kind of error.
    pub kind: DecodeErrorKind,
    /// The start of the value that could not be read, in bytes from the start of the decoder's input.
    pub offset: usize,
    /// The field being read, by Node's name; parts of a message are joined by a dot (`block.index`).
    pub field: &'static str,
}

impl DecodeError {
    pub(crate) fn new(kind: DecodeErrorKind, offset: usize, field: &'static str) -> Self {
        Self {
            kind,
            offset,
            field,
        }
    }

    /// The rule that was broken.
    pub fn class(&self) -> ErrorClass {
        match self.kind {
            DecodeErrorKind::OutOfBounds { .. } => ErrorClass::OutOfBounds,
            DecodeErrorKind::UnsafeInteger { .. } => ErrorClass::UnsafeInteger,
            DecodeErrorKind::ArrayTooBig { .. } => ErrorClass::ArrayTooBig,
            DecodeErrorKind::UnknownVersion { .. } => ErrorClass::UnknownVersion,
            DecodeErrorKind::UnknownType { .. } => ErrorClass::UnknownType,
            DecodeErrorKind::UnknownHash { .. } => ErrorClass::UnknownHash,
            DecodeErrorKind::UnknownSignature { .. } => ErrorClass::UnknownSignature,
        }
    }
}

/// The kind of a [`DecodeError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// A value reaches past the end of the message.
    OutOfBounds {
        /// Bytes that the value needs, as far as known.
        needed: u64,
        /// Bytes left.
        remaining: u64,
    },
    /// An integer above [`MAX_SAFE_INTEGER`].
    UnsafeInteger {
        /// The integer.
        value: u64,
    },
    /// A count above [`MAX_ARRAY_LENGTH`].
    ArrayTooBig {
        /// The count.
        count: u64,
    },
    /// A manifest version above 3.
    UnknownVersion {
        /// The version.
        version: u64,
    },
    /// A type of a version 0 manifest above 2.
    UnknownType {
        /// The type.
        id: u64,
    },
    /// A hash other than 0, BLAKE2b.
    UnknownHash {
        /// The hash's id.
        id: u64,
    },
    /// A signature other than 0, Ed25519.
    UnknownSignature {
        /// The signature's id.
        id: u64,
    },
}

impl fmt::Display for DecodeErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfBounds { needed, remaining } => {
                write!(f, "out of bounds: {needed} bytes needed, {remaining} left")
            }
            Self::UnsafeInteger { value } => write!(f, "integer {value} is above 2^53-1"),
            Self::ArrayTooBig { count } => {
                write!(f, "array of {count} items is above {MAX_ARRAY_LENGTH}")
            }
            Self::UnknownVersion { version } => write!(f, "unknown version {version}"),
            Self::UnknownType { id } => write!(f, "unknown type {id}"),
            Self::UnknownHash { id } => write!(f, "unknown hash {id}"),
            Self::UnknownSignature { id } => write!(f, "unknown signature {id}"),
        }
    }
}

/// A value could not be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// An integer above [`MAX_SAFE_INTEGER`], which no peer can read.
    #[error("integer {value} of {field} is above 2^53-1")]
    UnsafeInteger {
        /// The integer.
        value: u64,
        /// The field.
        field: &'static str,
    },
    /// More items than [`MAX_ARRAY_LENGTH`], which no peer accepts.
    #[error("array {field} of {count} items is above {MAX_ARRAY_LENGTH}")]
    ArrayTooBig {
        /// The count.
        count: u64,
        /// The field.
        field: &'static str,
    },
    /// A manifest version above 3.
    #[error("unknown manifest version {version}")]
    UnknownVersion {
        /// The version.
        version: u64,
    },
}

impl EncodeError {
    /// The rule that was broken.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::UnsafeInteger { .. } => ErrorClass::UnsafeInteger,
            Self::ArrayTooBig { .. } => ErrorClass::ArrayTooBig,
            Self::UnknownVersion { .. } => ErrorClass::UnknownVersion,
        }
    }
}

/// A decoded value and remarks on its encoding. None of them is an error to Node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decoded<T> {
    /// The value.
    pub value: T,
    /// Bytes read; later ones were not touched.
    pub consumed: usize,
    /// Bytes after the value, which Node ignores.
    pub trailing: usize,
    /// Unknown flag bits, of all flag fields together.
    pub unknown_flags: u64,
    /// Number of integers that were not in their shortest form.
    pub long_uints: usize,
}

impl<T> Decoded<T> {
    /// The same remarks around another value.
    #[inline]
    pub fn map<U>(self, wrap: impl FnOnce(T) -> U) -> Decoded<U> {
        Decoded {
            value: wrap(self.value),
            consumed: self.consumed,
            trailing: self.trailing,
            unknown_flags: self.unknown_flags,
            long_uints: self.long_uints,
        }
    }
}

/// A type that can be decoded.
pub trait Decode: Sized {
    /// The minimum encoded size of a value. Bounds the allocation for an array of them.
    const MIN_LEN: usize;

    /// Reads a value and advances the decoder past it.
    ///
    /// # Errors
    /// The fault, its byte and its field. The decoder's position is then undefined.
    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError>;

    /// Reads a value from the start of `bytes`. Buffers in it are copies; see [`Decode::decode_shared`].
    ///
    /// # Errors
    /// As [`Decode::decode_from`].
    fn decode(bytes: &[u8]) -> Result<Decoded<Self>, DecodeError> {
        Decoder::new(bytes).finish_with(Self::decode_from)
    }

    /// Reads a value from the start of `buffer`. Buffers in it share its allocation.
    ///
    /// # Errors
    /// As [`Decode::decode_from`].
    fn decode_shared(buffer: &Buffer) -> Result<Decoded<Self>, DecodeError> {
        Decoder::shared(buffer).finish_with(Self::decode_from)
    }
}

/// The values that a decoder read: see [`Decoder::observed`].
///
/// A record of 2^24-1 bytes may hold as many values, and a reading takes more memory than its value. So the first
/// [`Readings::MAX`] are kept until they are taken, and later ones are only counted.
#[derive(Debug, Default)]
pub struct Readings(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    readings: Vec<Reading>,
    left_out: u64,
}

impl Readings {
    /// Maximum number of kept readings.
    pub const MAX: usize = 8192;

    /// Takes the readings so far, in order.
    pub fn take(&self) -> Vec<Reading> {
        std::mem::take(&mut self.noted().readings)
    }

    /// Takes the number of dropped readings since the last call.
    pub fn take_left_out(&self) -> u64 {
        std::mem::take(&mut self.noted().left_out)
    }

    pub(crate) fn note(&self, reading: Reading) {
        let mut noted = self.noted();
        if noted.readings.len() < Self::MAX {
            noted.readings.push(reading);
        } else {
            noted.left_out += 1;
        }
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One value read, and its position.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reading {
    /// The field, by its name in errors; empty for [`Decoder::raw`].
    pub field: &'static str,
    /// The start of the value, in bytes from the start of the decoder's input.
    pub offset: usize,
    /// Its length in bytes.
    pub length: usize,
    /// The kind of value.
    pub kind: ReadingKind,
}

impl Reading {
    pub(crate) fn new(
        field: &'static str,
        offset: usize,
        length: usize,
        kind: ReadingKind,
    ) -> Self {
        Self {
            field,
            offset,
            length,
            kind,
        }
    }
}

/// The kind of a [`Reading`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadingKind {
    /// An integer, of any width.
    Uint(u64),
    /// An integer of flags.
    Flags {
        /// All flags set.
        value: u64,
        /// The known flags.
        known: u64,
    },
    /// The length in bytes of the buffer or string that follows.
    Length(u64),
    /// The number of items or words that follow.
    Count(u64),
    /// Bytes: of a fixed number, of a buffer, of words, or the rest.
    Bytes,
    /// Bytes of a string.
    Text,
    /// No bytes: an item of an array begins.
    Item,
    /// No bytes: an array ends.
    ItemsEnd,
}

/// Reads values from the front of a message. Each method takes the name of its field, for errors.
#[derive(Clone)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    shared: Option<&'a Buffer>,
    readings: Option<&'a Readings>,
    offset: usize,
    unknown_flags: u64,
    long_uints: usize,
}

impl<'a> Decoder<'a> {
    /// Reads from `bytes`; a [`Buffer`] read from it is a copy.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            shared: None,
            readings: None,
            offset: 0,
            unknown_flags: 0,
            long_uints: 0,
        }
    }

    /// Reads from `buffer`; a [`Buffer`] read from it shares its allocation.
    #[inline]
    pub fn shared(buffer: &'a Buffer) -> Self {
        Self {
            shared: Some(buffer),
            ..Self::new(buffer)
        }
    }

    /// As [`Decoder::shared`], and records each value in `readings`, for tools that show the layout of a message.
    pub fn observed(buffer: &'a Buffer, readings: &'a Readings) -> Self {
        Self {
            readings: Some(readings),
            ..Self::shared(buffer)
        }
    }

    /// Bytes read so far.
    #[inline]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes left.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.offset
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    #[inline]
    fn finish_with<T>(
        mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Decoded<T>, DecodeError> {
        let value = read(&mut self)?;
        Ok(Decoded {
            value,
            consumed: self.offset,
            trailing: self.remaining(),
            unknown_flags: self.unknown_flags,
            long_uints: self.long_uints,
        })
    }

    fn out_of_bounds(&self, needed: u64, field: &'static str) -> DecodeError {
        let remaining = self.remaining() as u64;
        DecodeError::new(
            DecodeErrorKind::OutOfBounds { needed, remaining },
            self.offset,
            field,
        )
    }

    #[inline]
    fn note(&self, start: usize, field: &'static str, kind: ReadingKind) {
        if let Some(readings) = self.readings {
            readings.note(Reading::new(field, start, self.offset - start, kind));
        }
    }

    #[inline]
    fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let rest = &self.bytes[self.offset..];
        let Some(taken) = rest.get(..length) else {
            return Err(self.out_of_bounds(length as u64, field));
        };
        self.offset += length;
        Ok(taken)
    }

    #[inline]
    fn array_of<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, field)?);
        Ok(array)
    }

    /// Raw bytes, as many as the type says: `fixed32` and `fixed64`.
    ///
    /// # Errors
    /// When fewer are left.
    #[inline]
    pub fn fixed<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let start = self.offset;
        let array = self.array_of(field)?;
        self.note(start, field, ReadingKind::Bytes);
        Ok(array)
    }

    /// A little-endian integer of `N` bytes, at most 8.
    #[inline]
    fn word<const N: usize>(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let mut word = [0; 8];
        word[..N].copy_from_slice(&self.array_of::<N>(field)?);
        Ok(u64::from_le_bytes(word))
    }

    #[inline]
    fn noted_word<const N: usize>(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let start = self.offset;
        let value = self.word::<N>(field)?;
        self.note(start, field, ReadingKind::Uint(value));
        Ok(value)
    }

    /// One byte.
    ///
    /// # Errors
    /// When none is left.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        Ok(self.noted_word::<1>(field)? as u8)
    }

    /// Two bytes, little-endian.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        Ok(self.noted_word::<2>(field)? as u16)
    }

    /// Three bytes, little-endian.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn u24(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        Ok(self.noted_word::<3>(field)? as u32)
    }

    /// Four bytes, little-endian.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        Ok(self.noted_word::<4>(field)? as u32)
    }

    /// Eight bytes, little-endian, of a value up to [`MAX_SAFE_INTEGER`].
    ///
    /// # Errors
    /// When fewer are left, or the value is larger.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let start = self.offset;
        let value = self.safe_word(field)?;
        self.note(start, field, ReadingKind::Uint(value));
        Ok(value)
    }

    fn safe_word(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let offset = self.offset;
        let value = self.word::<8>(field)?;
        if value > MAX_SAFE_INTEGER {
            return Err(DecodeError::new(
                DecodeErrorKind::UnsafeInteger { value },
                offset,
                field,
            ));
        }
        Ok(value)
    }

    /// A `uint` of 1, 3, 5 or 9 bytes. Encodings longer than necessary are accepted, and counted.
    ///
    /// # Errors
    /// When it is truncated, or the value is above [`MAX_SAFE_INTEGER`].
    #[inline(always)]
    pub fn uint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let start = self.offset;
        let value = self.any_uint(field)?;
        self.note(start, field, ReadingKind::Uint(value));
        Ok(value)
    }

    // Always inlined, so that no result is passed through memory.
    #[inline(always)]
    fn any_uint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        match self.usual_uint() {
            Some(value) => Ok(value),
            None => self.longer_uint(field),
        }
    }

    /// An integer of 1, 3 or 5 bytes in its shortest form.
    fn usual_uint(&mut self) -> Option<u64> {
        let (value, length) = match self.bytes[self.offset..] {
            [small, ..] if small < 0xfd => (small.into(), 1),
            [0xfd, low, high, ..] if high > 0 => (u16::from_le_bytes([low, high]).into(), 3),
            [0xfe, a, b, c, d, ..] if c | d > 0 => (u32::from_le_bytes([a, b, c, d]).into(), 5),
            _ => return None,
        };
        self.offset += length;
        Some(value)
    }

    /// Longer integers, and those that are not in their shortest form, or truncated.
    #[cold]
    fn longer_uint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let (value, shortest) = match self.word::<1>(field)? {
            0xfd => (self.word::<2>(field)?, 0xfd),
            0xfe => (self.word::<4>(field)?, 0x1_0000),
            0xff => (self.safe_word(field)?, 0x1_0000_0000),
            small => return Ok(small),
        };
        self.long_uints += usize::from(value < shortest);
        Ok(value)
    }

    /// A `uint` that must not exceed the bytes left: a length.
    ///
    /// # Errors
    /// As [`Decoder::uint`], and when the value is larger than what is left.
    #[inline]
    pub fn uint_usize(&mut self, field: &'static str) -> Result<usize, DecodeError> {
        let start = self.offset;
        let length = self.any_uint(field)?;
        self.note(start, field, ReadingKind::Length(length));
        match usize::try_from(length) {
            Ok(length) if length <= self.remaining() => Ok(length),
            _ => Err(self.out_of_bounds(length, field)),
        }
    }

    /// A `uint` of flags. Flags outside `known` are recorded, not refused.
    ///
    /// # Errors
    /// As [`Decoder::uint`].
    #[inline]
    pub fn flags(&mut self, known: u64, field: &'static str) -> Result<u64, DecodeError> {
        let start = self.offset;
        let value = self.any_uint(field)?;
        self.note(start, field, ReadingKind::Flags { value, known });
        self.unknown_flags |= value & !known;
        Ok(value)
    }

    /// A `buffer`, borrowed.
    ///
    /// # Errors
    /// When it reaches past the end.
    pub fn buffer_ref(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        self.sized(field, ReadingKind::Bytes)
    }

    fn sized(&mut self, field: &'static str, kind: ReadingKind) -> Result<&'a [u8], DecodeError> {
        let length = self.uint_usize(field)?;
        let start = self.offset;
        let bytes = self.take(length, field)?;
        self.note(start, field, kind);
        Ok(bytes)
    }

    /// A `buffer`. An empty one stays an empty buffer, as in compact-encoding 3 (2.x returns null).
    ///
    /// # Errors
    /// When it reaches past the end.
    #[inline]
    pub fn buffer(&mut self, field: &'static str) -> Result<Buffer, DecodeError> {
        let length = self.uint_usize(field)?;
        self.take_buffer(length, field)
    }

    /// An `optionalBuffer`: an empty one is `None`.
    ///
    /// # Errors
    /// When it reaches past the end.
    pub fn optional_buffer(&mut self, field: &'static str) -> Result<Option<Buffer>, DecodeError> {
        let buffer = self.buffer(field)?;
        Ok((!buffer.is_empty()).then_some(buffer))
    }

    /// A `string` in UTF-8. Each invalid sequence becomes U+FFFD, as in Node.
    ///
    /// # Errors
    /// When it reaches past the end.
    pub fn string(&mut self, field: &'static str) -> Result<String, DecodeError> {
        Ok(self.string_ref(field)?.into_owned())
    }

    /// A `string`, borrowed if it is valid UTF-8.
    ///
    /// # Errors
    /// When it reaches past the end.
    pub fn string_ref(&mut self, field: &'static str) -> Result<Cow<'a, str>, DecodeError> {
        Ok(String::from_utf8_lossy(
            self.sized(field, ReadingKind::Text)?,
        ))
    }

    /// The rest of the message.
    pub fn raw(&mut self) -> Buffer {
        let start = self.offset;
        let rest = match self.shared {
            Some(buffer) => buffer.slice(start..),
            None => Buffer::copy_from(&self.bytes[start..]),
        };
        self.offset = self.bytes.len();
        self.note(start, "", ReadingKind::Bytes);
        rest
    }

    /// The rest of the message, borrowed.
    pub fn raw_ref(&mut self) -> &'a [u8] {
        let start = self.offset;
        let rest = &self.bytes[start..];
        self.offset = self.bytes.len();
        self.note(start, "", ReadingKind::Bytes);
        rest
    }

    /// An array whose items are read by `read`. The initial allocation is limited to what the bytes left can hold, at
    /// `min_len` bytes per item.
    ///
    /// # Errors
    /// When the count is above [`MAX_ARRAY_LENGTH`], or an item cannot be read.
    pub fn array_with<T>(
        &mut self,
        min_len: usize,
        field: &'static str,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let offset = self.offset;
        let count = self.any_uint(field)?;
        self.note(offset, field, ReadingKind::Count(count));
        if count > MAX_ARRAY_LENGTH {
            return Err(DecodeError::new(
                DecodeErrorKind::ArrayTooBig { count },
                offset,
                field,
            ));
        }
        let mut items = Vec::with_capacity((count as usize).min(self.remaining() / min_len.max(1)));
        for _ in 0..count {
            self.note(self.offset, field, ReadingKind::Item);
            items.push(read(self)?);
        }
        self.note(self.offset, field, ReadingKind::ItemsEnd);
        Ok(items)
    }

    /// An array of items.
    ///
    /// # Errors
    /// When the count is above [`MAX_ARRAY_LENGTH`], or an item cannot be read.
    pub fn array<T: Decode>(&mut self, field: &'static str) -> Result<Vec<T>, DecodeError> {
        self.array_with(T::MIN_LEN, field, T::decode_from)
    }

    /// A `uint32array`: a count and that many little-endian words.
    ///
    /// # Errors
    /// When the words reach past the end of the message, which is checked before the allocation.
    pub fn uint32array(&mut self, field: &'static str) -> Result<Vec<u32>, DecodeError> {
        let start = self.offset;
        let count = self.any_uint(field)?;
        self.note(start, field, ReadingKind::Count(count));
        let needed = count.saturating_mul(4);
        let length = match usize::try_from(needed) {
            Ok(length) if length <= self.remaining() => length,
            _ => return Err(self.out_of_bounds(needed, field)),
        };
        let start = self.offset;
        let words = self.take(length, field)?.chunks_exact(4);
        self.note(start, field, ReadingKind::Bytes);
        self.note(self.offset, field, ReadingKind::ItemsEnd);
        Ok(words
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect())
    }

    #[inline]
    fn take_buffer(&mut self, length: usize, field: &'static str) -> Result<Buffer, DecodeError> {
        let start = self.offset;
        let bytes = self.take(length, field)?;
        self.note(start, field, ReadingKind::Bytes);
        Ok(match self.shared {
            Some(buffer) => buffer.slice(start..start + length),
            None => Buffer::copy_from(bytes),
        })
    }
}

impl fmt::Debug for Decoder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decoder at {} of {}", self.offset, self.bytes.len())
    }
}

/// A type that can be encoded.
///
/// The same method writes and, with an [`Encoder`] that only counts, measures, so that length and bytes cannot
/// disagree.
pub trait Encode {
    /// Writes the value to the encoder.
    ///
    /// # Errors
    /// When the value cannot be represented, such as an integer above [`MAX_SAFE_INTEGER`].
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError>;

    /// The exact encoded length in bytes.
    ///
    /// # Errors
    /// As [`Encode::encode_to`].
    fn encoded_len(&self) -> Result<usize, EncodeError> {
        let mut measure = Encoder::measure();
        self.encode_to(&mut measure)?;
        Ok(measure.len())
    }

    /// Encodes the value into an allocation of exactly its length.
    ///
    /// # Errors
    /// As [`Encode::encode_to`].
    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut bytes = Vec::with_capacity(self.encoded_len()?);
        self.encode_to(&mut Encoder::new(&mut bytes))?;
        Ok(bytes)
    }

    /// Appends the value to `out`. On an error `out` is unchanged.
    ///
    /// # Errors
    /// As [`Encode::encode_to`].
    fn append_to(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        let result = self.encode_to(&mut Encoder::new(out));
        if result.is_err() {
            out.truncate(start);
        }
        result
    }
}

/// Writes values one after another, or counts their bytes.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: Option<&'a mut Vec<u8>>,
    length: usize,
}

impl<'a> Encoder<'a> {
    /// Appends to `out`.
    #[inline]
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out: Some(out),
            length: 0,
        }
    }

    /// Writes nothing, and counts.
    #[inline]
    pub fn measure() -> Self {
        Self {
            out: None,
            length: 0,
        }
    }

    /// Bytes written or counted by this encoder.
    #[inline]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing was written or counted yet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Raw bytes: `fixed32`, `fixed64` and `raw`.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        if let Some(out) = &mut self.out {
            out.extend_from_slice(bytes);
        }
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self, value: u8) {
        self.raw(&[value]);
    }

    /// Two bytes, little-endian.
    #[inline]
    pub fn u16(&mut self, value: u16) {
        self.raw(&value.to_le_bytes());
    }

    /// The low three bytes of `value`, little-endian.
    #[inline]
    pub fn u24(&mut self, value: u32) {
        self.raw(&value.to_le_bytes()[..3]);
    }

    /// Four bytes, little-endian.
    #[inline]
    pub fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    /// Eight bytes, little-endian.
    ///
    /// # Errors
    /// When the value is above [`MAX_SAFE_INTEGER`].
    #[inline]
    pub fn u64(&mut self, value: u64, field: &'static str) -> Result<(), EncodeError> {
        if value > MAX_SAFE_INTEGER {
            return Err(EncodeError::UnsafeInteger { value, field });
        }
        self.raw(&value.to_le_bytes());
        Ok(())
    }

    /// A `uint` in its shortest form.
    ///
    /// # Errors
    /// When the value is above [`MAX_SAFE_INTEGER`].
    // Always inlined, so that no result is passed through memory.
    #[inline(always)]
    pub fn uint(&mut self, value: u64, field: &'static str) -> Result<(), EncodeError> {
        if value > MAX_SAFE_INTEGER {
            return Err(EncodeError::UnsafeInteger { value, field });
        }
        self.safe_uint(value);
        Ok(())
    }

    fn safe_uint(&mut self, value: u64) {
        // Each slice has a length known to the compiler, so that it is stored without a call to memcpy.
        let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
        match value {
            0..=0xfc => self.raw(&[a]),
            0xfd..=0xffff => self.raw(&[0xfd, a, b]),
            0x1_0000..=0xffff_ffff => self.raw(&[0xfe, a, b, c, d]),
            _ => self.raw(&[0xff, a, b, c, d, e, f, g, h]),
        }
    }

    /// A `buffer`.
    ///
    /// # Errors
    /// None in practice: the length of anything in memory is a valid `uint`.
    #[inline]
    pub fn buffer(&mut self, bytes: &[u8], field: &'static str) -> Result<(), EncodeError> {
        self.uint(bytes.len() as u64, field)?;
        self.raw(bytes);
        Ok(())
    }

    /// An `optionalBuffer`: `None` is written as an empty one.
    ///
    /// # Errors
    /// As [`Encoder::buffer`].
    pub fn optional_buffer(
        &mut self,
        bytes: Option<&[u8]>,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        self.buffer(bytes.unwrap_or_default(), field)
    }

    /// A `string` in UTF-8.
    ///
    /// # Errors
    /// As [`Encoder::buffer`].
    pub fn string(&mut self, text: &str, field: &'static str) -> Result<(), EncodeError> {
        self.buffer(text.as_bytes(), field)
    }

    /// An array whose items are written by `write`.
    ///
    /// # Errors
    /// When there are more items than [`MAX_ARRAY_LENGTH`], or one cannot be written.
    pub fn array_with<T>(
        &mut self,
        items: &[T],
        field: &'static str,
        mut write: impl FnMut(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let count = items.len() as u64;
        if count > MAX_ARRAY_LENGTH {
            return Err(EncodeError::ArrayTooBig { count, field });
        }
        self.uint(count, field)?;
        items.iter().try_for_each(|item| write(self, item))
    }

    /// An array.
    ///
    /// # Errors
    /// As [`Encoder::array_with`].
    pub fn array<T: Encode>(
        &mut self,
        items: &[T],
        field: &'static str,
    ) -> Result<(), EncodeError> {
        self.array_with(items, field, |encoder, item| item.encode_to(encoder))
    }

    /// A `uint32array`.
    ///
    /// # Errors
    /// As [`Encoder::buffer`].
    pub fn uint32array(&mut self, words: &[u32], field: &'static str) -> Result<(), EncodeError> {
        self.uint(words.len() as u64, field)?;
        if let Some(out) = &mut self.out {
            out.reserve(words.len() * 4);
            // In small chunks, so that the compiler vectorises the loop.
            for words in words.chunks(64) {
                let mut bytes = [0; 256];
                for (bytes, word) in bytes.chunks_exact_mut(4).zip(words) {
                    bytes.copy_from_slice(&word.to_le_bytes());
                }
                out.extend_from_slice(&bytes[..words.len() * 4]);
            }
        }
        self.length += words.len() * 4;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Integers of every width, including the boundaries.
    pub(crate) fn safe_integer() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..=0xff_u64,
            0..=0x1_ffff_u64,
            0..=0x1_ffff_ffff_u64,
            0..=MAX_SAFE_INTEGER,
            Just(MAX_SAFE_INTEGER),
        ]
    }

    /// Asserts the properties of every codec. `closed` means that no part at the end is optional, so that a shorter
    /// input is always refused and bytes after it never belong to it.
    pub(crate) fn check_codec<T>(value: &T, closed: bool)
    where
        T: Encode + Decode + PartialEq + fmt::Debug,
    {
        let length = value.encoded_len().unwrap();
        let bytes = value.encode().unwrap();
        assert_eq!((bytes.len(), bytes.capacity()), (length, length));
        assert!(length >= T::MIN_LEN);

        let mut behind = vec![9; 3];
        value.append_to(&mut behind).unwrap();
        assert_eq!(
            (&behind[..3], &behind[3..]),
            ([9; 3].as_slice(), bytes.as_slice())
        );

        let expected = |trailing| (length, trailing, 0, 0);
        let seen = |read: &Decoded<T>| {
            (
                read.consumed,
                read.trailing,
                read.unknown_flags,
                read.long_uints,
            )
        };
        let read = T::decode(&bytes).unwrap();
        assert_eq!((&read.value, seen(&read)), (value, expected(0)));
        let read = T::decode_shared(&Buffer::from(bytes.clone())).unwrap();
        assert_eq!((&read.value, seen(&read)), (value, expected(0)));

        if closed {
            let longer = [bytes.as_slice(), &[0xff; 3]].concat();
            let read = T::decode(&longer).unwrap();
            assert_eq!((&read.value, seen(&read)), (value, expected(3)));
        }
        for cut in 0..length {
            match T::decode(&bytes[..cut]) {
                Ok(_) if closed => panic!("{value:?} was read from {cut} of {length} bytes"),
                Ok(read) => assert_eq!(read.consumed, cut),
                Err(error) => {
                    assert_eq!(error.class(), ErrorClass::OutOfBounds);
                    let DecodeErrorKind::OutOfBounds { needed, remaining } = error.kind else {
                        panic!("{error}")
                    };
                    assert_eq!(error.offset as u64 + remaining, cut as u64);
                    assert!(needed > remaining);
                }
            }
        }
    }

    fn written(write: impl Fn(&mut Encoder<'_>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut Encoder::new(&mut out));
        let mut measure = Encoder::measure();
        write(&mut measure);
        assert_eq!(measure.len(), out.len());
        out
    }

    fn uint(value: u64) -> Vec<u8> {
        written(|e| e.uint(value, "n").unwrap())
    }

    #[test]
    fn uints_take_the_shortest_form() {
        let forms: [(u64, &[u8]); 9] = [
            (0, &[0]),
            (0xfc, &[0xfc]),
            (0xfd, &[0xfd, 0xfd, 0]),
            (0xffff, &[0xfd, 0xff, 0xff]),
            (0x1_0000, &[0xfe, 0, 0, 1, 0]),
            (0xffff_ffff, &[0xfe, 0xff, 0xff, 0xff, 0xff]),
            (0x1_0000_0000, &[0xff, 0, 0, 0, 0, 1, 0, 0, 0]),
            (0x0102_0304_0506, &[0xff, 6, 5, 4, 3, 2, 1, 0, 0]),
            (
                MAX_SAFE_INTEGER,
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0],
            ),
        ];
        for (value, bytes) in forms {
            assert_eq!(uint(value), bytes);
            assert_eq!(Decoder::new(bytes).uint("n"), Ok(value));
        }
    }

    #[test]
    fn longer_uints_are_read_and_counted() {
        let forms: [&[u8]; 3] = [
            &[0xfd, 5, 0],
            &[0xfe, 5, 0, 0, 0],
            &[0xff, 5, 0, 0, 0, 0, 0, 0, 0],
        ];
        for form in forms {
            let read = Decoder::new(form).finish_with(|d| d.uint("n")).unwrap();
            assert_eq!(
                (read.value, read.consumed, read.long_uints),
                (5, form.len(), 1)
            );
        }
        for shortest in [0xfd, 0x1_0000, 0x1_0000_0000] {
            let bytes = uint(shortest);
            let read = Decoder::new(&bytes).finish_with(|d| d.uint("n")).unwrap();
            assert_eq!(read.long_uints, 0);
        }
    }

    #[test]
    fn nothing_above_the_safe_integers_passes() {
        let value = MAX_SAFE_INTEGER + 1;
        let bytes = [&[0xff], value.to_le_bytes().as_slice()].concat();
        let refused =
            |offset| DecodeError::new(DecodeErrorKind::UnsafeInteger { value }, offset, "n");
        assert_eq!(Decoder::new(&bytes).uint("n"), Err(refused(1)));
        assert_eq!(Decoder::new(&bytes[1..]).u64("n"), Err(refused(0)));
        let refused = Err(EncodeError::UnsafeInteger { value, field: "n" });
        assert_eq!(Encoder::measure().uint(value, "n"), refused);
        assert_eq!(Encoder::measure().u64(value, "n"), refused);
        assert_eq!(Encoder::measure().u64(value - 1, "n"), Ok(()));
    }

    #[test]
    fn fixed_widths_are_little_endian() {
        let bytes = written(|e| {
            e.u8(1);
            e.u16(0x0302);
            e.u24(0x06_0504);
            e.u32(0x0a09_0807);
            e.u64(0x0011_100f_0e0d_0c0b, "n").unwrap();
        });
        let expected: Vec<u8> = (1..=0x11).chain([0]).collect();
        assert_eq!(bytes, expected);
        let mut d = Decoder::new(&bytes);
        assert_eq!(d.u8("a"), Ok(1));
        assert_eq!(d.u16("b"), Ok(0x0302));
        assert_eq!(d.u24("c"), Ok(0x06_0504));
        assert_eq!(d.u32("d"), Ok(0x0a09_0807));
        assert_eq!(d.u64("e"), Ok(0x0011_100f_0e0d_0c0b));
        assert!(d.is_empty());
        assert_eq!(d.u8("f").unwrap_err().offset, 18);
    }

    #[test]
    fn buffers_and_strings() {
        assert_eq!(written(|e| e.buffer(b"abc", "b").unwrap()), b"\x03abc");
        assert_eq!(
            written(|e| e.string("\u{e9}", "s").unwrap()),
            [2, 0xc3, 0xa9]
        );
        assert_eq!(written(|e| e.optional_buffer(None, "o").unwrap()), [0]);
        assert_eq!(
            written(|e| e.optional_buffer(Some(&[7]), "o").unwrap()),
            [1, 7]
        );
        assert_eq!(Decoder::new(&[0]).buffer("b"), Ok(Buffer::new()));
        assert_eq!(Decoder::new(&[0]).optional_buffer("b"), Ok(None));
        assert_eq!(
            Decoder::new(&[1, 7]).optional_buffer("b"),
            Ok(Some(Buffer::from([7])))
        );
        assert_eq!(Decoder::new(b"\x02ab").string("s").as_deref(), Ok("ab"));
        // Node replaces each maximal invalid part by one U+FFFD.
        assert_eq!(
            Decoder::new(b"\x05a\xf0\x9f\x98b").string("s").as_deref(),
            Ok("a\u{fffd}b")
        );
        assert_eq!(
            Decoder::new(b"\x03\xed\xa0\x80").string("s").as_deref(),
            Ok("\u{fffd}\u{fffd}\u{fffd}")
        );
        let mut d = Decoder::new(&[1, 2, 3]);
        d.u8("a").unwrap();
        assert_eq!(d.clone().raw_ref(), [2, 3]);
        assert_eq!(d.raw(), &[2, 3]);
        assert_eq!(d.raw(), &[]);
    }

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        let claims: [&[u8]; 3] = [
            &[5, 1],
            &[0xfe, 0xff, 0xff, 0xff, 0xff, 1],
            &[0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1],
        ];
        for bytes in claims {
            let refused = |result: Result<Buffer, DecodeError>| {
                let error = result.unwrap_err();
                assert_eq!(
                    (error.class(), error.offset),
                    (ErrorClass::OutOfBounds, bytes.len() - 1)
                );
                assert!(matches!(
                    error.kind,
                    DecodeErrorKind::OutOfBounds { remaining: 1, .. }
                ));
            };
            refused(Decoder::new(bytes).buffer("b"));
            refused(Decoder::shared(&Buffer::copy_from(bytes)).buffer("b"));
            refused(Decoder::new(bytes).string("b").map(|_| Buffer::new()));
            refused(Decoder::new(bytes).uint32array("b").map(|_| Buffer::new()));
        }
    }

    #[test]
    fn a_length_is_read_only_if_its_bytes_are_there() {
        assert_eq!(Decoder::new(&[2, 9, 9]).uint_usize("n"), Ok(2));
        let kind = DecodeErrorKind::OutOfBounds {
            needed: 3,
            remaining: 2,
        };
        let refused = Err(DecodeError::new(kind, 1, "n"));
        assert_eq!(Decoder::new(&[3, 9, 9]).uint_usize("n"), refused);
    }

    #[test]
    fn a_count_allocates_no_more_than_the_bytes_left_can_hold() {
        // Allocating for the claimed count would take a terabyte, and abort.
        let large = || {
            let count = uint(MAX_ARRAY_LENGTH);
            let mut d = Decoder::new(&count);
            d.array_with(1, "items", |d| d.u8("item").map(|byte| [byte; 1 << 20]))
                .map(|_| ())
        };
        let thread = std::thread::Builder::new()
            .stack_size(1 << 26)
            .spawn(large)
            .unwrap();
        assert_eq!(
            thread.join().unwrap().unwrap_err().class(),
            ErrorClass::OutOfBounds
        );
    }

    #[test]
    fn arrays_are_limited_both_ways() {
        let count = uint(MAX_ARRAY_LENGTH + 1);
        let error = Decoder::new(&count)
            .array_with(1, "a", |d| d.u8("i"))
            .unwrap_err();
        let kind = DecodeErrorKind::ArrayTooBig {
            count: MAX_ARRAY_LENGTH + 1,
        };
        assert_eq!(error, DecodeError::new(kind, 0, "a"));
        let largest = vec![(); MAX_ARRAY_LENGTH as usize];
        let mut counter = Encoder::measure();
        assert_eq!(counter.array_with(&largest, "a", |_, ()| Ok(())), Ok(()));
        let larger = vec![(); MAX_ARRAY_LENGTH as usize + 1];
        let refused = counter.array_with(&larger, "a", |_, ()| Ok(()));
        assert_eq!(refused.unwrap_err().class(), ErrorClass::ArrayTooBig);
    }

    #[test]
    fn flags_without_a_meaning_are_noted() {
        let read = Decoder::new(&[0b1011])
            .finish_with(|d| d.flags(0b0011, "flags"))
            .unwrap();
        assert_eq!((read.value, read.unknown_flags), (0b1011, 0b1000));
    }

    proptest! {
        #[test]
        fn uints_round_trip(value in safe_integer()) {
            let bytes = uint(value);
            let mut d = Decoder::new(&bytes);
            prop_assert_eq!(d.uint("n"), Ok(value));
            prop_assert!(d.is_empty());
            for cut in 0..bytes.len() {
                let error = Decoder::new(&bytes[..cut]).uint("n").unwrap_err();
                prop_assert_eq!(error.class(), ErrorClass::OutOfBounds);
            }
        }

        #[test]
        fn words_round_trip(words in vec(any::<u32>(), 0..300)) {
            let bytes = written(|e| e.uint32array(&words, "w").unwrap());
            let mut d = Decoder::new(&bytes);
            prop_assert_eq!(d.uint32array("w"), Ok(words));
            prop_assert!(d.is_empty());
            for cut in 0..bytes.len() {
                prop_assert!(Decoder::new(&bytes[..cut]).uint32array("w").is_err());
            }
        }
    }
}
