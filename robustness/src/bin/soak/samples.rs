//! The process's resource use over time.

use std::time::{Duration, Instant};

/// Maximum growth of memory in a run of half an hour or more, in bytes a minute, after warming up.
const MAX_SLOPE: f64 = 512.0 * 1024.0;

/// Growth that is allowed however short the run is, in bytes.
const MAX_GROWTH: f64 = 24.0 * 1024.0 * 1024.0;

/// Maximum number of descriptors beyond those at the start.
const MAX_MORE_DESCRIPTORS: u64 = 64;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    pub(crate) memory: u64,
    pub(crate) descriptors: u64,
}

pub(crate) struct Samples {
    started: Instant,
    pub(crate) taken: Vec<Sample>,
}

impl Samples {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            taken: Vec::new(),
        }
    }

    pub(crate) fn take(&mut self) -> std::io::Result<Sample> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = resident.and_then(|it| it.split_whitespace().next()?.parse::<u64>().ok());
        let sample = Sample {
            at: self.started.elapsed(),
            memory: kilobytes.unwrap_or_default() * 1024,
            descriptors: std::fs::read_dir("/proc/self/fd")?.count() as u64,
        };
        self.taken.push(sample);
        Ok(sample)
    }

    /// The samples after the first quarter, in which buffers and pools are filled.
    fn warm(&self) -> &[Sample] {
        &self.taken[self.taken.len() / 4..]
    }

    /// Growth in bytes a minute, by least squares.
    pub(crate) fn slope(&self) -> f64 {
        let points = self.warm().iter();
        let points: Vec<(f64, f64)> = points
            .map(|it| (it.at.as_secs_f64() / 60.0, it.memory as f64))
            .collect();
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (x, y) = (mean(|it| it.0), mean(|it| it.1));
        let spread: f64 = points.iter().map(|it| (it.0 - x).powi(2)).sum();
        if spread == 0.0 {
            return 0.0;
        }
        points.iter().map(|it| (it.0 - x) * (it.1 - y)).sum::<f64>() / spread
    }

    /// The resources that grew.
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let (Some(first), Some(last)) = (self.warm().first(), self.warm().last()) else {
            return failures;
        };
        let minutes = (last.at - first.at).as_secs_f64() / 60.0;
        let growth = self.slope() * minutes;
        if growth > MAX_GROWTH && self.slope() > MAX_SLOPE {
            failures.push(format!(
                "memory grows by {:.0} bytes a minute, {growth:.0} in all",
                self.slope()
            ));
        }
        let most = first.descriptors + MAX_MORE_DESCRIPTORS;
        if last.descriptors > most {
            failures.push(format!(
                "{} descriptors, {} after the warm-up",
                last.descriptors, first.descriptors
            ));
        }
        failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An hour of samples.
    fn hour(memory: impl Fn(u64) -> u64, descriptors: impl Fn(u64) -> u64) -> Samples {
        let sample = |at: u64| Sample {
            at: Duration::from_secs(at * 2),
            memory: memory(at * 2),
            descriptors: descriptors(at * 2),
        };
        Samples {
            started: Instant::now(),
            taken: (0..1800).map(sample).collect(),
        }
    }

    #[test]
    fn an_hour_is_flat_or_it_is_not() {
        let mib = 1 << 20;
        // Oscillates by 8 MiB each minute, after a warm-up.
        let breathes = |at: u64| 20 * mib + (at % 60) * mib / 8 + at.min(300) * mib / 30;
        assert_eq!(hour(breathes, |_| 30).failures(), Vec::<String>::new());
        let leaks = |at| breathes(at) + at * 12 * 1024;
        let failures = hour(leaks, |_| 30).failures();
        assert!(failures[0].starts_with("memory grows by"), "{failures:?}");
        let failures = hour(breathes, |at| 30 + at / 30).failures();
        assert!(failures[0].contains("descriptors"), "{failures:?}");
    }
}
