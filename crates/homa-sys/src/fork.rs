//! Noticing that this process is the forked child of the one that made an object.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Whether this process was forked from the one that [`fork_generation`] gave `generation`. Costs one
/// atomic read.
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

extern "C" fn note_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_changes_in_the_child_only() {
        let before = fork_generation();
        // SAFETY: the child does nothing but an atomic read and `_exit`, both allowed after a
        // fork of a process with several threads.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            let changed = fork_generation() != before && forked_since(before);
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(if changed { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: `status` is a local value that the call fills; `child` is our own child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
        assert_eq!(fork_generation(), before);
        assert!(!forked_since(before));
        assert!(!forked_since(by_process_id()));
    }
}
