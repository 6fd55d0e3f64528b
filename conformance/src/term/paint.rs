//! Colours.

use console::Style;

/// The colours of the terminal, or none.
#[derive(Clone, Debug)]
pub struct Paint {
    pub(crate) good: Style,
    pub(crate) bad: Style,
    pub(crate) doubtful: Style,
    pub(crate) faint: Style,
    pub(crate) strong: Style,
}

impl Paint {
    fn new(coloured: bool) -> Self {
        let style = || Style::new().force_styling(coloured);
        Self {
            good: style().green(),
            bad: style().red().bold(),
            doubtful: style().yellow(),
            faint: style().dim(),
            strong: style().bold(),
        }
    }

    /// No colours.
    pub fn plain() -> Self {
        Self::new(false)
    }

    /// Colours, if stdout is a terminal that supports them and they are not disabled.
    pub fn stdout() -> Self {
        Self::new(console::colors_enabled())
    }
}
