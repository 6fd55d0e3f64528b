//! What the terminal is given: colours, and signs of life.

mod paint;
mod progress;

pub use paint::Paint;
pub use progress::{Bar, Spinner};
