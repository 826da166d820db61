//! Programs that begin with no signal held back.

use std::{io, mem::MaybeUninit, os::unix::process::CommandExt, process::Command, ptr};

/// Lets a program begin with no signal held back. Otherwise it would begin with what the thread
/// that starts it holds back, and could not be asked to end.
pub fn start_unmasked(command: &mut Command) -> &mut Command {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initializes the whole set that the pointer leads to; it fails for no
    // set.
    let none = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    };
    let unmask = move || {
        // SAFETY: the set is initialized and lives as long as the closure; the old mask is not
        // asked for.
        match unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: in the forked child the closure makes one system call, which is async-signal-safe,
    // and reads `errno`; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(unmask) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signals that a program finds held back, as the kernel writes them.
    fn held_back(command: &mut Command) -> String {
        let output = command.args(["SigBlk", "/proc/self/status"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split_whitespace().last().unwrap().to_owned()
    }

    #[test]
    fn what_a_thread_holds_back_is_not_held_back_in_its_programs() {
        // SAFETY: an all-zero set is empty, `sigaddset` and `pthread_sigmask` get pointers to it
        // that are valid.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut set, libc::SIGTERM);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut());
        }
        assert_eq!(held_back(&mut Command::new("grep")), "0000000000004000");
        assert_eq!(held_back(start_unmasked(&mut Command::new("grep"))), "0000000000000000");
    }
}
