//! CPU time of the running thread, so that other load on the machine does not count.

use std::time::Duration;

/// The time that this thread has been running. Where the system does not report it, the elapsed time.
pub fn cpu() -> Duration {
    thread("thread-self").unwrap_or_else(wall)
}

/// As [`cpu`], for the first thread of another process.
pub fn cpu_of(pid: u32) -> Option<Duration> {
    thread(&format!("{pid}/task/{pid}"))
}

fn thread(name: &str) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{name}/schedstat")).ok()?;
    let nanos = stat.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

fn wall() -> Duration {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}
