//! Why a step did not pass.

use std::fmt;

/// Marks the text of a step that needs an undeclared operation.
const UNSUPPORTED: &str = "not supported by ";

/// Why a step did not pass.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The actual behaviour differs from the expected.
    Failed(String),
    /// An implementation did not declare an operation that the step needs.
    Unsupported(String),
}

impl Trouble {
    pub(super) fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }

    /// Whether a panic's text was made by [`Trouble::Unsupported`].
    pub(crate) fn is_unsupported(text: &str) -> bool {
        text.starts_with(UNSUPPORTED)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(text) => out.write_str(text),
            Self::Unsupported(what) => write!(out, "{UNSUPPORTED}{what}"),
        }
    }
}

impl std::error::Error for Trouble {}
