//! A progress indicator.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::foreign;
use crate::out;

/// A progress indicator on stderr for one long step, on a terminal; otherwise a line.
#[derive(Debug, Default)]
pub struct Spinner {
    bar: Option<ProgressBar>,
}

impl Spinner {
    /// Shows the current step.
    pub fn say(&mut self, line: &str) {
        if !console::user_attended_stderr() {
            out::note(line);
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner:.green} {msg} {elapsed:.dim}")
            {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        bar.set_message(foreign::line(line).into_owned());
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
