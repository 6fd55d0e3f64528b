//! Programs that are started, each in a process group of its own, so that what they start in turn can be ended with them.
//!
//! An adapter is often a wrapper: a shell, npm, cargo. Ending the wrapper alone leaves the program that hangs. All groups that
//! run are known here, and are ended when the suite is told to end by a signal; a terminal sends its Ctrl-C to the group of the
//! suite alone. Should the suite be killed, its adapters see the end of their stdin, which the protocol says is theirs too.

use std::process::Command;

#[cfg(unix)]
use unix::register;

/// Has a program lead a group of its own once it is started.
pub fn lead(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    #[cfg(not(unix))]
    let _ = command;
}

/// The group of a program that was started after [`lead`]; it is ended when this is dropped.
///
/// Where there are no process groups it does nothing.
#[derive(Debug, Default)]
pub struct Group {
    #[cfg(unix)]
    id: Option<rustix::process::Pid>,
}

impl Group {
    /// That of the program with this process id, if it was started and not waited for yet.
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

    /// Ends every program in it, at once.
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

/// From here on, a signal that asks this program to end ends all groups first. The exit code is 128 and the signal's number, as
/// shells have it.
///
/// A signal that is ignored, as `nohup` and background jobs have it, stays so.
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
        // Where all have ended there is no such group, which is as well.
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
        // A signal before that would end this program alone. The other end is dropped, whatever becomes of the thread.
        let _ = watches.recv();
    }

    /// The signals that are ignored, a bit each, where the system tells.
    fn ignored() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .unwrap_or(0)
    }
}
