//! The id of a case: unique over all files of vectors, and stable.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// The longest id, in bytes: ids name folders of `--bundle`, and file systems limit names to 255 bytes.
const MAX_LEN: usize = 200;

/// An id of the form defined in `vectors/schema`: words of `a` to `z` and `0` to `9`, at least two, with one `.` or `-`
/// between each.
///
/// So an id is never empty, never a path, and needs no quotes in a shell.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Id(String);

/// Text that is not an id.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is no id: at byte {offset} {expected} is expected")]
pub struct NotAnId {
    /// The text, truncated if long.
    pub text: String,
    /// The offset of the first wrong byte.
    pub offset: usize,
    /// What was expected there.
    pub expected: &'static str,
}

impl Id {
    /// Parses an id.
    ///
    /// # Errors
    /// If it has another form, or more than 200 bytes.
    pub fn parse(text: impl Into<String>) -> Result<Self, NotAnId> {
        let text = text.into();
        match fault(text.as_bytes()) {
            None => Ok(Self(text)),
            Some((offset, expected)) => Err(NotAnId {
                text: text.chars().take(80).collect(),
                offset,
                expected,
            }),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn fault(text: &[u8]) -> Option<(usize, &'static str)> {
    if text.len() > MAX_LEN {
        return Some((MAX_LEN, "the end of the id"));
    }
    let mut in_word = false;
    let mut separators = 0;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' => in_word = true,
            b'.' | b'-' if in_word => {
                in_word = false;
                separators += 1;
            }
            _ if in_word => return Some((at, "a to z, 0 to 9, a dot or a hyphen")),
            _ => return Some((at, "a to z or 0 to 9")),
        }
    }
    match (in_word, separators) {
        (false, _) => Some((text.len(), "a to z or 0 to 9")),
        (true, 0) => Some((text.len(), "a dot or a hyphen, and one more word")),
        (true, _) => None,
    }
}

impl Deref for Id {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Id {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.0)
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0
    }
}

impl From<&Id> for String {
    fn from(id: &Id) -> Self {
        id.0.clone()
    }
}

impl PartialEq<str> for Id {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for Id {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl PartialEq<String> for Id {
    fn eq(&self, other: &String) -> bool {
        self.0 == *other
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_never_a_path() {
        let longest = "a.".repeat(99) + "aa";
        for text in ["message.sync.a", "a-b", "encoding.uint.0xfd-1", &longest] {
            assert_eq!(Id::parse(text).expect(text), *text);
        }
        for (text, offset) in [
            ("", 0),
            ("a", 1),
            ("/tmp/x", 0),
            ("../../x", 0),
            ("a.b/c", 3),
            ("a..b", 2),
            ("a.b.", 4),
            ("a.B", 2),
            ("a.b\n", 3),
            ("a.\u{e4}", 2),
            ("-a.b", 0),
            (&"a.".repeat(101), 200),
        ] {
            assert_eq!(Id::parse(text).expect_err(text).offset, offset, "{text}");
        }
        let error = serde_json::from_str::<Id>(r#""a.b\u001b[2J""#).expect_err("no id");
        assert!(error.to_string().contains(r"a.b\u{1b}[2J"), "{error}");
    }
}
