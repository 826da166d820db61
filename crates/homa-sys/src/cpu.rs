//! Which processors a thread may run on.

use crate::call::check;
use std::io;

/// Processors that the calling thread may run on, ascending.
///
/// # Errors
/// The system has more processors than a `cpu_set_t` can name (1,024).
pub fn available_cpus() -> io::Result<Vec<usize>> {
    let mut set = empty_set();
    // SAFETY: pointer and length describe the local `set`, which the call fills; 0 is the
    // calling thread.
    check(unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) })?;
    let limit = libc::CPU_SETSIZE as usize;
    // SAFETY: reads one bit of `set`; `cpu` is below the number of bits in it.
    Ok((0..limit).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// Lets the calling thread run on processor `cpu` only.
///
/// # Errors
/// `InvalidInput` if there is no such processor or this process may not use it.
pub fn set_thread_affinity(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = empty_set();
    // SAFETY: sets one bit of `set`; `cpu` was checked to be below the number of bits in it.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: pointer and length describe the local `set`, which is only read; 0 is the calling
    // thread.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) })
        .map(drop)
}

fn empty_set() -> libc::cpu_set_t {
    // SAFETY: a plain array of integers, for which all zeros is a valid (empty) value.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_can_be_bound_to_one_processor() {
        std::thread::spawn(|| {
            let last = *available_cpus().unwrap().last().unwrap();
            set_thread_affinity(last).unwrap();
            assert_eq!(available_cpus().unwrap(), [last]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn an_impossible_processor_is_refused() {
        assert!(set_thread_affinity(usize::MAX).is_err());
    }
}
