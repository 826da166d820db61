//! Locks, from the standard library or from loom.

#[cfg(loom)]
use loom::sync as imp;
#[cfg(not(loom))]
use std::sync as imp;

pub(crate) use imp::atomic::{AtomicUsize, Ordering};
pub(crate) use imp::{Arc, Mutex, MutexGuard};

/// Locks. A panic of another thread inside a critical section of this crate leaves data that is
/// still consistent (every section is a few assignments), so poisoning is ignored.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
