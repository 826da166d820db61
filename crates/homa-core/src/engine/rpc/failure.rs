//! Mapping from the peer's refusal to the call's failure.

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
        Reason::Finished => FailReason::Forgotten,
        Reason::Version => {
            FailReason::VersionMismatch { theirs: u16::try_from(value).unwrap_or(u16::MAX) }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reasons_that_end_a_call_have_an_error() {
        for reason in (0..=u8::MAX).map(Reason::from) {
            assert_eq!(failure(reason, 0, 1).is_some(), reason.ends_call(), "{reason:?}");
        }
    }
}
