//! What a refusal says, and what it means to the client.

use homa_wire::Reason;

use crate::event::FailReason;

/// The failure that a client reports for a reason that ends its call, with the `value` beside it,
/// about a request of `request_bytes`.
pub(crate) fn failure(reason: Reason, value: u32, request_bytes: u32) -> Option<FailReason> {
    Some(match reason {
        Reason::NoService => FailReason::NoService,
        Reason::Closing => FailReason::Closing,
        Reason::Rejected => FailReason::Rejected,
        // A limit that the request does not exceed is ignored.
        Reason::TooLong => FailReason::PeerLimit {
            max_bytes: Some(value).filter(|max| (1..request_bytes).contains(max)),
        },
        Reason::Overloaded => FailReason::Overloaded,
        Reason::NotExecuted => FailReason::NotExecuted,
        Reason::Finished => FailReason::Forgotten,
        Reason::Version => {
            FailReason::VersionMismatch { theirs: u16::try_from(value).unwrap_or(u16::MAX) }
        }
        _ => return None,
    })
}

/// What the client of a request is told that the application refuses, until it acknowledges: the
/// reason and the value beside it.
pub(crate) const fn refusal(why: FailReason) -> (Reason, u32) {
    match why {
        FailReason::Overloaded => (Reason::Overloaded, Reason::REPEATED),
        FailReason::NotExecuted => (Reason::NotExecuted, Reason::REPEATED),
        _ => (Reason::Rejected, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_acknowledged_and_mean_what_the_application_said() {
        for (why, meant) in [
            (FailReason::Rejected, FailReason::Rejected),
            (FailReason::Overloaded, FailReason::Overloaded),
            (FailReason::NotExecuted, FailReason::NotExecuted),
            (FailReason::Aborted, FailReason::Rejected),
        ] {
            let (reason, value) = refusal(why);
            assert!(reason.is_repeated(value), "{why:?}");
            assert_eq!(failure(reason, value, 1), Some(meant), "{why:?}");
        }
    }

    #[test]
    fn the_reasons_that_end_a_call_have_an_error() {
        for reason in (0..=u8::MAX).map(Reason::from) {
            assert_eq!(failure(reason, 0, 1).is_some(), reason.ends_call(), "{reason:?}");
        }
    }
}
