//! The locks of what several tasks share: those of the standard library, or those of shuttle, which tries other orders of the
//! threads in each run and so finds a wake-up that gets lost. `.ci/shuttle` builds with `--cfg shuttle`.

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{Mutex, MutexGuard};
#[cfg(not(shuttle))]
pub(crate) use std::sync::{Mutex, MutexGuard};

pub(crate) use std::sync::PoisonError;
