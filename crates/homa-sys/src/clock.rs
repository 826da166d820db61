//! Clocks: monotonic time as a number, and processor time used.

use rustix::time::{ClockId, Timespec, clock_gettime};

const NS_PER_S: u64 = 1_000_000_000;

/// Nanoseconds of `CLOCK_MONOTONIC`: since some moment before the process started, never
/// backwards. The same clock as `std::time::Instant` and [`TimerFd`](crate::TimerFd).
#[inline]
pub fn monotonic_ns() -> u64 {
    read_ns(ClockId::Monotonic)
}

/// Nanoseconds of processor time that the calling thread has used, in user and kernel mode.
pub fn thread_cpu_time_ns() -> u64 {
    read_ns(ClockId::ThreadCPUTime)
}

/// Nanoseconds of processor time that all threads of this process have used.
pub fn process_cpu_time_ns() -> u64 {
    read_ns(ClockId::ProcessCPUTime)
}

#[inline]
fn read_ns(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    // Neither part is negative, and the sum stays in range for five centuries of running.
    (now.tv_sec as u64).wrapping_mul(NS_PER_S).wrapping_add(now.tv_nsec as u64)
}

/// A time or duration of `ns` nanoseconds as the kernel takes it.
pub(crate) fn timespec_of_ns(ns: u64) -> Timespec {
    // Below 2^63 and below 10^9: both fit every type of these fields.
    Timespec { tv_sec: (ns / NS_PER_S) as _, tv_nsec: (ns % NS_PER_S) as _ }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn monotonic_time_runs_like_the_standard_clock() {
        let (standard, ours_ns) = (Instant::now(), monotonic_ns());
        std::thread::sleep(Duration::from_millis(5));
        let ours_ns = monotonic_ns() - ours_ns;
        let standard_ns = standard.elapsed().as_nanos() as u64;
        assert!(ours_ns >= 5_000_000 && ours_ns <= standard_ns);
    }

    #[test]
    fn sleeping_uses_no_processor_time_and_computing_does() {
        let before_ns = thread_cpu_time_ns();
        std::thread::sleep(Duration::from_millis(20));
        assert!(thread_cpu_time_ns() - before_ns < 10_000_000);
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(5) {}
        assert!(thread_cpu_time_ns() > before_ns);
        assert!(process_cpu_time_ns() >= thread_cpu_time_ns() - before_ns);
    }

    #[test]
    fn nanoseconds_split_into_seconds_and_rest() {
        let time = timespec_of_ns(3 * NS_PER_S + 7);
        assert_eq!((time.tv_sec, time.tv_nsec), (3, 7));
    }
}
