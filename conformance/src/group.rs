//! Started programs, each in its own process group, so that their children can be killed with them.
//!
//! An adapter is often a wrapper: a shell, npm, cargo. Killing the wrapper alone leaves the hanging program. All
//! running groups are registered here, and killed when the suite is ended by a signal; a terminal sends its Ctrl-C only
//! to the suite's own group. If the suite is killed, its adapters see the end of their stdin, at which the protocol
//! requires them to exit.

use std::process::Command;

#[cfg(unix)]
use unix::register;

/// Makes a program lead its own group when it is started.
pub fn lead(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    #[cfg(not(unix))]
    let _ = command;
}

/// The group of a program that was started after [`lead`]; dropping it kills the group.
///
/// Without process groups it does nothing.
#[derive(Debug, Default)]
pub struct Group {
    #[cfg(unix)]
    id: Option<rustix::process::Pid>,
}

impl Group {
    /// The group of the program with this process id, if it was started and not waited for yet.
    pub fn of(process: Option<u32>) -> Self {
        #[cfg(unix)]
        return Self {
            id: register(process),
        };
        #[cfg(not(unix))]
        {
            let _ = process;
            Self {}
        }
    }

    /// Kills every program in it.
    pub fn end(&mut self) {
        #[cfg(unix)]
        if let Some(id) = self.id.take() {
            unix::end(id);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

/// From here on, a terminating signal to this program first kills all groups. The exit code is 128 plus the signal's
/// number, as in shells.
///
/// A signal that is ignored, as for `nohup` and background jobs, stays ignored.
pub fn end_all_with_this_program() {
    #[cfg(unix)]
    unix::watch_signals();
}

#[cfg(unix)]
mod unix {
    use std::collections::BTreeSet;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use rustix::process::{Pid, Signal, kill_process_group};
    use tokio::signal::unix::{SignalKind, signal};

    static RUNNING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

    fn running() -> MutexGuard<'static, BTreeSet<i32>> {
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn register(process: Option<u32>) -> Option<Pid> {
        let id = Pid::from_raw(i32::try_from(process?).ok()?)?;
        running().insert(id.as_raw_nonzero().get());
        Some(id)
    }

    pub(super) fn end(id: Pid) {
        running().remove(&id.as_raw_nonzero().get());
        // If all programs have exited the group does not exist, which is fine.
        let _ = kill_process_group(id, Signal::KILL);
    }

    pub(super) fn watch_signals() {
        let watched = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ];
        let (watch, watches) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                let ignored = ignored();
                let (came, mut comes) = tokio::sync::mpsc::channel(1);
                for kind in watched {
                    let number = kind.as_raw_value();
                    if ignored & 1 << (number - 1) != 0 {
                        continue;
                    }
                    if let Ok(mut signals) = signal(kind) {
                        let came = came.clone();
                        tokio::spawn(async move {
                            signals.recv().await;
                            let _ = came.send(number).await;
                        });
                    }
                }
                drop((came, watch));
                if let Some(number) = comes.recv().await {
                    for id in running().iter().filter_map(|id| Pid::from_raw(*id)) {
                        let _ = kill_process_group(id, Signal::KILL);
                    }
                    std::process::exit(128 + number);
                }
            });
        });
        // A signal before that would end this program alone. The thread drops its end in any case.
        let _ = watches.recv();
    }

    /// The ignored signals, one bit each, where the system reports them.
    fn ignored() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .unwrap_or(0)
    }
}
