//! Meaning of the reason byte that our control packets carry behind their Linux header
//! (docs/spec/wire-format.md §12). Linux peers neither send nor read it.

use crate::event::FailReason;

pub(crate) const NONE: u8 = 0;
/// RPC_UNKNOWN: this RPC was never seen here.
pub(crate) const NEVER_SEEN: u8 = 1;
/// RPC_UNKNOWN: it is over here.
pub(crate) const FINISHED: u8 = 2;
/// RPC_UNKNOWN: nobody serves at the port.
pub(crate) const NO_SERVICE: u8 = 3;
/// RPC_UNKNOWN: the endpoint is closing.
pub(crate) const CLOSING: u8 = 4;
/// RPC_UNKNOWN: the application dropped the request.
pub(crate) const REJECTED: u8 = 5;
/// RPC_UNKNOWN: the request names another life of this server; the value is its age in µs.
pub(crate) const RESTARTED: u8 = 6;
/// RPC_UNKNOWN: the message is too long for this end; the value is the most that it takes, in bytes, or 0.
pub(crate) const TOO_LONG: u8 = 7;
/// RPC_UNKNOWN: a limit is reached here, the request was not executed.
pub(crate) const OVERLOADED: u8 = 8;
/// RPC_UNKNOWN from a client: it does not want the answer any more.
pub(crate) const CANCELLED: u8 = 9;
/// RPC_UNKNOWN: this end speaks another version.
pub(crate) const VERSION: u8 = 10;
/// NEED_ACK: just say whether you have the RPC.
pub(crate) const PROBE: u8 = 11;

/// What a client reports for a reason that ends its call, with the `value` beside it, about a request of
/// `request_bytes`.
pub(crate) fn failure(reason: u8, value: u32, request_bytes: u32) -> Option<FailReason> {
    Some(match reason {
        NO_SERVICE => FailReason::NoService,
        CLOSING => FailReason::Closing,
        REJECTED => FailReason::Rejected,
        // A limit that the request keeps is none.
        TOO_LONG => FailReason::PeerLimit {
            max_bytes: Some(value).filter(|max| (1..request_bytes).contains(max)),
        },
        OVERLOADED => FailReason::Overloaded,
        FINISHED => FailReason::Forgotten,
        _ => return None,
    })
}
