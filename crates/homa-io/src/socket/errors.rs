//! Meaning of the kernel's errors.

use std::io;

use homa_core::TransmitError;
use homa_sys::errno;

/// Sends in a row that may fail for a pending error of another peer before the destination is
/// blamed.
const ATTEMPTS_MAX: u32 = 3;

/// Verdict on an error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This send failed.
    Certain(TransmitError),
    /// This send failed, or the error is that of an earlier one to whatever destination.
    Doubtful(TransmitError),
}

impl Verdict {
    /// Verdict on an `error` of a send of IP packets of `packet_bytes` on a path whose MTU `mtu`
    /// tells.
    pub(crate) fn of(
        error: &io::Error,
        packet_bytes: u32,
        mtu: impl FnOnce() -> Option<u32>,
    ) -> Self {
        match error.raw_os_error() {
            Some(errno::EAGAIN | errno::ENOBUFS | errno::ENOMEM) => {
                Self::Certain(TransmitError::NoRoom)
            }
            Some(errno::EPERM) => Self::Certain(TransmitError::Refused),
            Some(errno::EMSGSIZE) => match mtu() {
                Some(mtu) if packet_bytes > mtu => Self::Certain(TransmitError::TooBig(mtu)),
                _ => Self::Doubtful(TransmitError::TooBig(0)),
            },
            // ICMPv6 "prohibited" looks the same as a broadcast that is forbidden here.
            Some(errno::EACCES) => Self::Doubtful(TransmitError::Refused),
            _ => Self::Doubtful(TransmitError::Unreachable),
        }
    }
}

/// Whether a doubtful failure of the `attempt`-th send is the destination's: a pending error is
/// `explained` by a report of what the network said about another packet. The first time one is
/// assumed even if nobody says so: reports get lost when the buffer is full.
pub(crate) fn is_final(attempt: u32, explained: bool) -> bool {
    attempt == ATTEMPTS_MAX || (attempt > 1 && !explained)
}

/// Whether the socket is beyond use: it is no (longer an open) socket.
pub(crate) fn is_beyond_use(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(errno::EBADF | errno::ENOTSOCK | errno::EFAULT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart() {
        use TransmitError::{NoRoom, Refused, TooBig, Unreachable};
        let verdict = |errno, packet_bytes| {
            Verdict::of(&io::Error::from_raw_os_error(errno), packet_bytes, || Some(1_500))
        };
        for full in [errno::EAGAIN, errno::ENOBUFS, errno::ENOMEM] {
            assert_eq!(verdict(full, 100), Verdict::Certain(NoRoom));
        }
        assert_eq!(verdict(errno::EPERM, 100), Verdict::Certain(Refused));
        assert_eq!(verdict(errno::EACCES, 100), Verdict::Doubtful(Refused));
        for doubtful in
            [errno::ECONNREFUSED, errno::EHOSTUNREACH, errno::ENETUNREACH, errno::EINVAL]
        {
            assert_eq!(verdict(doubtful, 100), Verdict::Doubtful(Unreachable));
        }
        assert_eq!(verdict(errno::EMSGSIZE, 1_501), Verdict::Certain(TooBig(1_500)));
        assert_eq!(verdict(errno::EMSGSIZE, 1_500), Verdict::Doubtful(TooBig(0)));
    }

    #[test]
    fn a_destination_is_blamed_when_nothing_explains_a_second_failure_or_at_the_third() {
        assert!(!is_final(1, false) && !is_final(1, true));
        assert!(is_final(2, false) && !is_final(2, true));
        assert!(is_final(3, true));
    }
}
