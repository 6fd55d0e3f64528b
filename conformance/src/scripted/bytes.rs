//! The notation for bytes in scripts: hex, and `<…>` for computed bytes.
//!
//! ```text
//! 00 01 <uint 2> <str hypercore/alpha> <core B> 01 <cap B>     an open of core B as channel 2
//! ```
//!
//! | notation | bytes |
//! |---|---|
//! | `<uint N>` | a compact integer in its shortest form |
//! | `<str TEXT>` | its length and the text |
//! | `<core NAME>` | 32 and the discovery key of a core |
//! | `<cap NAME>` | the capability that proves its key, of our role; with `reflected`, of the other role |
//! | `<id>` | the stream id of our role; `<id reflected>` of the other role |
//! | `<header>` | our secretstream header, 24 bytes |
//! | `<fill N HEX>` | the same bytes, N times |
//! | `<item …>` | its length and the bytes within |
//! | `<nest N …>` | the bytes within, a message of channel 0, in batches N deep |

use hypercore_protocol::Key;
use hypercore_protocol::encoding::Encoder;
use hypercore_protocol::keys::{capability, discovery_key};
use hypercore_protocol::secret_stream::stream_id;

/// The inputs of computed bytes.
pub(super) trait Known {
    /// The key of the core that scripts call `name`.
    fn key(&self, name: &str) -> [u8; 32];
    /// The handshake hash, if there is one yet.
    fn handshake_hash(&self) -> Option<[u8; 64]>;
    /// Whether the sending peer is the initiator.
    fn is_initiator(&self) -> bool;
    /// The secretstream header of the sending peer.
    fn header(&self) -> [u8; 24];
}

/// A part of the notation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Part {
    Plain(Vec<u8>),
    Core(String),
    Capability { core: String, reflected: bool },
    Id { reflected: bool },
    Header,
    Item(Bytes),
    Nest(usize, Bytes),
}

/// The notation of some bytes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Bytes(Vec<Part>);

impl Bytes {
    /// Parses hex and `<…>`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('<') {
            plain(&rest[..at], &mut parts)?;
            let end = closing(&rest[at..]).ok_or_else(|| format!("a < is not closed: {text}"))?;
            parts.push(Part::parse(&rest[at + 1..at + end])?);
            rest = &rest[at + end + 1..];
        }
        plain(rest, &mut parts)?;
        Ok(Self(parts))
    }

    /// Computes the bytes.
    pub(super) fn make(&self, known: &dyn Known) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        for part in &self.0 {
            part.make(known, &mut out)?;
        }
        Ok(out)
    }
}

/// The index of the `>` that closes the `<` at the start.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    text.char_indices().find_map(|(at, c)| {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            _ => {}
        }
        (depth == 0).then_some(at)
    })
}

fn plain(text: &str, parts: &mut Vec<Part>) -> Result<(), String> {
    let bytes = unhex(text)?;
    if !bytes.is_empty() {
        parts.push(Part::Plain(bytes));
    }
    Ok(())
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let digits: String = text.split_whitespace().collect();
    hex::decode(&digits).map_err(|error| format!("{digits:?} is not hex: {error}"))
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse()
        .map_err(|_| format!("a number is expected: {word:?}"))
}

impl Part {
    fn parse(text: &str) -> Result<Self, String> {
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let rest = rest.trim();
        let (first, last) = rest.split_once(' ').unwrap_or((rest, ""));
        let reflected = || match last {
            "" => Ok(false),
            "reflected" => Ok(true),
            other => Err(format!("{other:?} means nothing in <{text}>")),
        };
        Ok(match verb {
            "uint" => {
                let mut out = Vec::new();
                uint(number(rest)?, &mut out)?;
                Self::Plain(out)
            }
            "str" => {
                let mut out = Vec::new();
                uint(rest.len() as u64, &mut out)?;
                out.extend_from_slice(rest.as_bytes());
                Self::Plain(out)
            }
            "core" => Self::Core(rest.to_owned()),
            "cap" => Self::Capability {
                core: first.to_owned(),
                reflected: reflected()?,
            },
            "id" => Self::Id {
                reflected: rest == "reflected",
            },
            "header" => Self::Header,
            "fill" => Self::Plain(unhex(last)?.repeat(number(first)?)),
            "item" => Self::Item(Bytes::parse(rest)?),
            "nest" => Self::Nest(number(first)?, Bytes::parse(last)?),
            other => return Err(format!("nothing is called <{other}>")),
        })
    }

    fn make(&self, known: &dyn Known, out: &mut Vec<u8>) -> Result<(), String> {
        let hash = || known.handshake_hash().ok_or("there is no handshake yet");
        match self {
            Self::Plain(bytes) => out.extend_from_slice(bytes),
            Self::Core(name) => {
                out.push(32);
                out.extend_from_slice(&discovery_key(&Key::new(known.key(name))));
            }
            Self::Capability { core, reflected } => {
                let role = known.is_initiator() != *reflected;
                out.extend_from_slice(&capability(role, &Key::new(known.key(core)), &hash()?));
            }
            Self::Id { reflected } => {
                let role = known.is_initiator() != *reflected;
                out.extend_from_slice(&stream_id(&hash()?, role));
            }
            Self::Header => out.extend_from_slice(&known.header()),
            Self::Item(bytes) => item(&bytes.make(known)?, out)?,
            Self::Nest(depth, bytes) => {
                let mut inner = bytes.make(known)?;
                for _ in 0..*depth {
                    // Type 0 is a batch, and channel 0 that of its items.
                    let mut batch = vec![0, 0];
                    item(&inner, &mut batch)?;
                    inner = batch;
                }
                out.extend_from_slice(&inner);
            }
        }
        Ok(())
    }
}

fn uint(value: u64, out: &mut Vec<u8>) -> Result<(), String> {
    Encoder::new(out)
        .uint(value, "value")
        .map_err(|error| error.to_string())
}

fn item(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    uint(bytes.len() as u64, out)?;
    out.extend_from_slice(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Known for Nothing {
        fn key(&self, _: &str) -> [u8; 32] {
            [0x11; 32]
        }

        fn handshake_hash(&self) -> Option<[u8; 64]> {
            Some([0x22; 64])
        }

        fn is_initiator(&self) -> bool {
            true
        }

        fn header(&self) -> [u8; 24] {
            [3; 24]
        }
    }

    fn made(text: &str) -> String {
        let bytes = Bytes::parse(text).expect("bytes");
        hex::encode(bytes.make(&Nothing).expect("made"))
    }

    #[test]
    fn hex_and_what_is_computed() {
        assert_eq!(made("00 01\n ff"), "0001ff");
        assert_eq!(made("<uint 252><uint 253> aa"), "fcfdfd00aa");
        assert_eq!(made("<str ab>"), "026162");
        assert_eq!(made("<fill 3 0a0b>"), "0a0b".repeat(3));
        assert_eq!(made("<item 01 <item 02>>"), "03010102");
        assert_eq!(made("00 <nest 2 07>"), "0000000400000107");
    }

    #[test]
    fn keys_are_those_of_the_specification() {
        // KEY-3 and KEY-7, from Node.
        assert_eq!(
            made("<core A>"),
            "20".to_owned() + "2ba0e6762cfb34ffc87790be3d7b553807952b7183788999271b65ab914bfd79"
        );
        assert_eq!(
            made("<cap A>"),
            "fcf7f3594b5aa80331f9dfc3fdd79117dc56563df44dde904ea437c62159f5f8"
        );
        assert_ne!(made("<cap A>"), made("<cap A reflected>"));
        assert_ne!(made("<id>"), made("<id reflected>"));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in [
            "0",
            "xy",
            "<uint>",
            "<uint x>",
            "<core A",
            "<what>",
            "<cap A backwards>",
        ] {
            assert!(Bytes::parse(text).is_err(), "{text}");
        }
    }
}
