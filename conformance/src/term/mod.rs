//! Terminal output: colours and progress.

mod paint;
mod spinner;

pub use paint::Paint;
pub use spinner::Spinner;
