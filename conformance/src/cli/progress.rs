//! How far a run is: a bar on a terminal, else lines.

use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use crate::foreign::safe_output;
use crate::out;
use crate::run::verdict::Verdict;
use crate::run::{Check, Progress, Tally};

/// Progress on stderr: a bar on a terminal, else a line a layer.
#[derive(Debug)]
pub(super) struct Bar {
    bar: Option<ProgressBar>,
    stage: String,
    began: Instant,
    layer: String,
    tally: Tally,
    failed: usize,
}

impl Default for Bar {
    fn default() -> Self {
        Self::new()
    }
}

impl Bar {
    /// A bar if stderr is a terminal.
    pub(super) fn new() -> Self {
        Self {
            bar: None,
            stage: String::new(),
            began: Instant::now(),
            layer: String::new(),
            tally: Tally::default(),
            failed: 0,
        }
    }

    fn flush_layer(&mut self) {
        let tally = std::mem::take(&mut self.tally);
        if tally.total() > 0 {
            out::note(format!("  {:<14}{}", self.layer, in_words(&tally)));
        }
        self.began = Instant::now();
    }
}

impl Progress for Bar {
    fn begin(&mut self, stage: &str, total: usize) {
        self.stage = stage.to_owned();
        self.layer.clear();
        self.began = Instant::now();
        if !console::user_attended_stderr() {
            if total > 0 {
                out::note(format!("Running {} {stage}", HumanCount(total as u64)));
            }
            return;
        }
        let bar = ProgressBar::new(total as u64);
        let template = "{prefix:.bold} [{bar:32.green/dim}] {pos}/{len} {wide_msg:.dim}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(stage.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        self.bar = Some(bar);
    }

    fn next(&mut self, id: &str) {
        if let Some(bar) = &self.bar {
            let failed = if self.failed > 0 {
                format!("{} failed  ", self.failed)
            } else {
                String::new()
            };
            bar.set_message(safe_output(&format!("{failed}{id}")).into_owned());
        }
    }

    fn done(&mut self, check: &Check) {
        self.failed += usize::from(check.verdict.fails_the_run());
        match &self.bar {
            Some(bar) => bar.inc(1),
            None => {
                if self.layer != check.layer {
                    self.flush_layer();
                    self.layer.clone_from(&check.layer);
                }
                self.tally.add(check.verdict);
            }
        }
    }

    fn say(&mut self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(safe_output(line)),
            None => out::note(line),
        }
    }

    fn end(&mut self) {
        match self.bar.take() {
            Some(bar) => bar.finish_and_clear(),
            None => self.flush_layer(),
        }
    }
}

fn in_words(tally: &Tally) -> String {
    let parts: Vec<String> = Verdict::ALL
        .into_iter()
        .map(|verdict| (tally.count(verdict), verdict))
        .filter(|(count, _)| *count > 0)
        .map(|(count, verdict)| format!("{count} {verdict}"))
        .collect();
    parts.join(", ")
}
