//! Forked processes: noticing that this one is the child of that which made an object, and running
//! something in a child.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::call::check;

static FORKS: AtomicU64 = AtomicU64::new(0);
static HANDLER_WORKS: OnceLock<bool> = OnceLock::new();

/// In a generation: it is the process id, since the handler could not be installed.
const BY_PROCESS_ID: u64 = 1 << 63;

/// A number that stays the same within a process and differs between it and any process forked
/// from it after the first call. Note it when an object is made, and ask [`forked_since`] later.
///
/// Children made without the C library's `fork` (a raw `clone` system call) are not noticed.
pub fn fork_generation() -> u64 {
    // SAFETY: the handler is a plain function without arguments that stays valid for the life of
    // the process, and does only what is allowed in a forked child: one atomic addition.
    let works = HANDLER_WORKS
        .get_or_init(|| unsafe { libc::pthread_atfork(None, None, Some(note_fork)) == 0 });
    if *works { FORKS.load(Ordering::Relaxed) } else { by_process_id() }
}

/// Whether this process was forked from the one that [`fork_generation`] gave `generation`. Costs
/// one atomic read.
#[inline]
pub fn forked_since(generation: u64) -> bool {
    // Whoever has a generation has had the handler installed, if that was possible.
    let now = match generation & BY_PROCESS_ID {
        0 => FORKS.load(Ordering::Relaxed),
        _ => by_process_id(),
    };
    now != generation
}

/// Without memory for the handler the process id serves as well, at the price of a call.
#[cold]
fn by_process_id() -> u64 {
    u64::from(std::process::id()) | BY_PROCESS_ID
}

/// Forks this process, runs `work` in the child, and returns what the child ended with: the value
/// of `work`, or `None` if it panicked, was killed or took longer than `seconds`. The calling
/// thread waits.
///
/// The child has one thread. A lock that another thread held is held for ever there: what waits for
/// it is ended by the limit.
///
/// # Errors
/// Those of `fork(2)` and `waitpid(2)`.
pub fn in_forked_child(seconds: u32, work: impl FnOnce() -> u8) -> io::Result<Option<u8>> {
    // SAFETY: the child goes on with a copy of this thread and of memory as it was at one instant.
    // What another thread was changing then is either atomic or behind a lock, which stays locked
    // in the child, so `work` never sees it half done; the C library makes its own allocator
    // usable. `work` cannot return into the caller's frames: the child ends below.
    let child = check(unsafe { libc::fork() })?;
    if child == 0 {
        // SAFETY: `alarm` takes a number; its signal ends the process, as nothing handles it.
        unsafe { libc::alarm(seconds.max(1)) };
        let code = catch_unwind(AssertUnwindSafe(work)).map_or(PANICKED, i32::from);
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: `status` is a local value that the call fills; `child` is our own child, which nobody
    // else waits for.
    while check(unsafe { libc::waitpid(child, &raw mut status, 0) }).is_err() {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
    Ok(code.filter(|code| *code != PANICKED).and_then(|code| u8::try_from(code).ok()))
}

/// Exit status of a child that panicked; `work` should not return it.
const PANICKED: i32 = 255;

extern "C" fn note_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_changes_in_the_child_only() {
        let before = fork_generation();
        let changed = || u8::from(fork_generation() != before && forked_since(before));
        assert_eq!(in_forked_child(10, changed).unwrap(), Some(1));
        assert_eq!(fork_generation(), before);
        assert!(!forked_since(before));
        assert!(!forked_since(by_process_id()));
    }

    #[test]
    fn a_child_that_panics_or_never_ends_has_no_answer() {
        assert_eq!(in_forked_child(10, || panic!("in the child")).unwrap(), None);
        let for_ever = || -> u8 {
            loop {
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
        };
        assert_eq!(in_forked_child(1, for_ever).unwrap(), None);
    }
}
