//! Bytes that are shared rather than copied.

use std::fmt;
use std::ops::{Deref, RangeBounds};

use bytes::Bytes;

/// An immutable run of bytes. Clones and slices share one allocation, so a block decoded from a record costs no copy.
/// A slice keeps its whole allocation alive; call [`Buffer::detach`] on a small part of a large record before keeping
/// it for long.
/// record that is to be kept for long.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Buffer(Bytes);

impl Buffer {
    /// An empty buffer. Does not allocate.
    pub const fn new() -> Self {
        Self(Bytes::new())
    }

    /// A buffer of static bytes. Does not allocate.
    pub const fn from_static(bytes: &'static [u8]) -> Self {
        Self(Bytes::from_static(bytes))
    }

    /// A buffer with a copy of `bytes`.
    pub fn copy_from(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }

    /// The part at `range`, in bytes, sharing this allocation.
    ///
    /// # Panics
    /// When the range reaches past the end, as slicing does.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        Self(self.0.slice(range))
    }

    /// A copy in its own allocation of exactly `len()` bytes.
    pub fn detach(&self) -> Self {
        Self::copy_from(&self.0)
    }

    /// The bytes as a slice.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

/// A copy.
impl From<&[u8]> for Buffer {
    fn from(bytes: &[u8]) -> Self {
        Self::copy_from(bytes)
    }
}

/// A copy.
impl<const N: usize> From<&[u8; N]> for Buffer {
    fn from(bytes: &[u8; N]) -> Self {
        Self::copy_from(bytes)
    }
}

impl<const N: usize> From<[u8; N]> for Buffer {
    fn from(bytes: [u8; N]) -> Self {
        Self(bytes.to_vec().into())
    }
}

impl From<String> for Buffer {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

/// A copy.
impl From<&str> for Buffer {
    fn from(text: &str) -> Self {
        Self::copy_from(text.as_bytes())
    }
}

/// Shares the bytes.
impl From<&Buffer> for Buffer {
    fn from(buffer: &Buffer) -> Self {
        buffer.clone()
    }
}

impl From<Buffer> for Vec<u8> {
    fn from(buffer: Buffer) -> Self {
        buffer.0.into()
    }
}

impl PartialEq<[u8]> for Buffer {
    fn eq(&self, other: &[u8]) -> bool {
        self.0 == other
    }
}

impl PartialEq<&[u8]> for Buffer {
    fn eq(&self, other: &&[u8]) -> bool {
        self.0 == *other
    }
}

impl PartialEq<Vec<u8>> for Buffer {
    fn eq(&self, other: &Vec<u8>) -> bool {
        self.0 == *other
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Buffer {
    fn eq(&self, other: &&[u8; N]) -> bool {
        self.0 == other.as_slice()
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&ShortHex(&self.0), f)
    }
}

/// Bytes in debug output: up to 32 in hex, otherwise both ends and the length.
pub(crate) struct ShortHex<'a>(pub(crate) &'a [u8]);

impl fmt::Debug for ShortHex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |f: &mut fmt::Formatter<'_>, bytes: &[u8]| {
            bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
        };
        match self.0 {
            [] => f.write_str("empty"),
            short if short.len() <= 32 => hex(f, short),
            long => {
                hex(f, &long[..8])?;
                f.write_str("…")?;
                hex(f, &long[long.len() - 8..])?;
                write!(f, " ({} bytes)", long.len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_of_whatever_bytes_there_are() {
        let text = String::from("bytes");
        let shared = Buffer::from(text.clone());
        for made in [
            Buffer::from(&text[..]),
            Buffer::from(text.as_bytes()),
            Buffer::from(b"bytes"),
            Buffer::from(*b"bytes"),
            Buffer::from(&shared),
            Buffer::from_static(b"bytes"),
        ] {
            assert_eq!(made, shared);
        }
        assert_eq!(Buffer::from(&shared).as_ptr(), shared.as_ptr());
    }

    #[test]
    fn a_slice_shares_the_allocation_and_a_detached_one_does_not() {
        let whole = Buffer::from(vec![7; 100]);
        let part = whole.slice(10..20);
        assert_eq!(part.as_ptr(), whole[10..].as_ptr());
        let own = part.detach();
        assert_eq!(own, part);
        assert_ne!(own.as_ptr(), part.as_ptr());
    }

    #[test]
    fn debug_is_short() {
        assert_eq!(format!("{:?}", Buffer::new()), "empty");
        assert_eq!(format!("{:?}", Buffer::from([0xab, 0x01])), "ab01");
        assert_eq!(
            format!("{:?}", Buffer::from(vec![0x11; 33])),
            "1111111111111111…1111111111111111 (33 bytes)"
        );
    }
}
