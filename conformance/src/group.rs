//! Started programs, each in its own process group, so that their children can be killed with them.
//!
//! An adapter is often a wrapper: a shell, npm, cargo. Killing the wrapper alone leaves the hanging program. All
//! running groups are registered here, and killed when the suite is ended by a signal; a terminal sends its Ctrl-C only
//! to the suite's own group. If the suite is killed, its adapters see the end of their stdin, at which the protocol
//! requires them to exit.

use std::io;
use std::process::{Child, Command};

/// The group of a program that was started by [`spawn`]; it is ended when this is dropped.
///
/// Where there are no process groups it does nothing.
#[derive(Debug, Default)]
pub struct Group {
    #[cfg(unix)]
    id: Option<rustix::process::Pid>,
}

/// Starts a program that leads a group of its own.
///
/// # Errors
/// Those of [`Command::spawn`].
pub fn spawn(command: &mut Command) -> io::Result<(Child, Group)> {
    lead(command);
    start(|| command.spawn(), |child| Some(child.id()))
}

/// As [`spawn`], of a program that is waited for asynchronously.
///
/// # Errors
/// Those of [`Command::spawn`].
pub fn spawn_async(
    command: &mut tokio::process::Command,
) -> io::Result<(tokio::process::Child, Group)> {
    lead(command.as_std_mut());
    start(|| command.spawn(), tokio::process::Child::id)
}

fn lead(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    #[cfg(not(unix))]
    let _ = command;
}

#[cfg(unix)]
fn start<C>(
    spawn: impl FnOnce() -> io::Result<C>,
    id: impl FnOnce(&C) -> Option<u32>,
) -> io::Result<(C, Group)> {
    let (child, id) = unix::RUNNING.start(spawn, id)?;
    Ok((child, Group { id }))
}

#[cfg(not(unix))]
fn start<C>(
    spawn: impl FnOnce() -> io::Result<C>,
    _: impl FnOnce(&C) -> Option<u32>,
) -> io::Result<(C, Group)> {
    Ok((spawn()?, Group {}))
}

impl Group {
    /// Ends every program in it, at once.
    pub fn end(&mut self) {
        #[cfg(unix)]
        if let Some(id) = self.id.take() {
            unix::RUNNING.end(id);
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
    use std::io;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use rustix::process::{Pid, Signal, kill_process_group};
    use tokio::signal::unix::{SignalKind, signal};

    pub(super) static RUNNING: Groups = Groups(Mutex::new(BTreeSet::new()));

    /// The groups that run. The lock is held from before a program is started until its group is known: a signal in between
    /// would end this program and leave the other.
    pub(super) struct Groups(Mutex<BTreeSet<i32>>);

    impl Groups {
        fn lock(&self) -> MutexGuard<'_, BTreeSet<i32>> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        /// Starts a program, and says which group it leads.
        pub(super) fn start<C>(
            &self,
            spawn: impl FnOnce() -> io::Result<C>,
            id: impl FnOnce(&C) -> Option<u32>,
        ) -> io::Result<(C, Option<Pid>)> {
            let mut groups = self.lock();
            let child = spawn()?;
            let id = id(&child).and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
            groups.extend(id.map(|id| id.as_raw_nonzero().get()));
            Ok((child, id))
        }

        pub(super) fn end(&self, id: Pid) {
            self.lock().remove(&id.as_raw_nonzero().get());
            // Where all have ended there is no such group, which is as well.
            let _ = kill_process_group(id, Signal::KILL);
        }

        /// Ends all, and lets none be started until what it returns is dropped.
        fn end_all(&self) -> MutexGuard<'_, BTreeSet<i32>> {
            let groups = self.lock();
            for id in groups.iter().filter_map(|id| Pid::from_raw(*id)) {
                let _ = kill_process_group(id, Signal::KILL);
            }
            groups
        }
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
                    let _none_is_started = RUNNING.end_all();
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

    #[cfg(test)]
    mod tests {
        use std::process::{Command, Stdio};
        use std::sync::mpsc;
        use std::time::Duration;

        use super::*;

        #[test]
        fn a_signal_while_a_program_is_started_ends_it_too() {
            let groups = &Groups(Mutex::new(BTreeSet::new()));
            let (started, starts) = mpsc::channel();
            let (ended, ends) = mpsc::channel();
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    starts.recv().expect("it starts");
                    drop(groups.end_all());
                    ended.send(()).expect("the other thread waits");
                });
                let spawn = || {
                    let mut command = Command::new("sleep");
                    // One that is left over keeps no pipe of the tests open.
                    command
                        .arg("1000")
                        .stdout(Stdio::null())
                        .stderr(Stdio::null());
                    super::super::lead(&mut command);
                    let child = command.spawn();
                    started.send(()).expect("the other thread waits");
                    let early = ends.recv_timeout(Duration::from_millis(200));
                    assert!(early.is_err(), "all were ended, but for this one");
                    child
                };
                let (mut child, _) = groups
                    .start(spawn, |child| Some(child.id()))
                    .expect("sleep");
                ends.recv_timeout(Duration::from_secs(20)).expect("it ends");
                let status = child.wait().expect("a status");
                assert!(!status.success());
            });
        }
    }
}
