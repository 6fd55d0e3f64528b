//! What the terminal is given: colours, and signs of life.

mod paint;
mod spinner;

pub use paint::Paint;
pub use spinner::Spinner;
