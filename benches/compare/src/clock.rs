//! Time that counts: that of the thread that ran, so that whoever else uses the machine makes no difference.

use std::time::Duration;

/// For how long this thread was running so far. Where the system does not tell, the time that passed.
pub fn cpu() -> Duration {
    thread("thread-self").unwrap_or_else(wall)
}

/// As [`cpu`], of the first thread of another process.
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
