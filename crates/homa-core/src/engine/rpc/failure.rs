//! What a refusal says, and what it means to the client.

use homa_wire::{Body, Header, Reason};

use crate::engine::Engine;
use crate::engine::rpc::State;
use crate::engine::rpc::index::RpcIndex;
use crate::event::FailReason;

/// What was refused where nobody serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The first packet of the request, when it was first sent.
    First,
    /// Another packet of it, or the first one when it was sent again.
    Later,
    /// A packet of another call.
    Other,
}

impl Refused {
    /// The part of its request that `packet` is.
    pub(crate) fn of(packet: &Header) -> Self {
        match &packet.body {
            Body::Data(data)
                if data.begins(&packet.common) && !data.is_retransmission(&packet.common) =>
            {
                Self::First
            }
            _ => Self::Later,
        }
    }

    /// The same, of a packet of which an ICMP error quotes the first bytes; `None` if they do not
    /// say it.
    pub(crate) fn quoted(quoted: &[u8]) -> Option<Self> {
        Header::parse(quoted, u32::MAX).ok().map(|packet| Self::of(&packet))
    }

    /// The value beside the reason of the refusal.
    pub(crate) fn value(self) -> u32 {
        if self == Self::First { 0 } else { Reason::MAY_HAVE_BEGUN }
    }
}

impl Engine {
    /// The failure of a call where nobody serves (any more), as its client learns from the refusal
    /// of a packet. A request that was asked about or sent again has had time to arrive; otherwise
    /// it has not if its first packet was refused, nor if no server was known there.
    pub(crate) fn unserved(&self, call: RpcIndex, refused: Refused) -> FailReason {
        let Some(rpc) = self.rpcs.known(call) else {
            return FailReason::ServiceGone;
        };
        let heard = rpc.confirmed || rpc.state() != State::Outgoing;
        let repeated = rpc.resend.last_sent().is_some() || rpc.restarts.is_any();
        let may_have_begun = match refused {
            Refused::First => false,
            Refused::Later => true,
            Refused::Other => {
                let peer = self.peers.known(rpc.peer);
                rpc.peer_incarnation != 0 || peer.is_some_and(|it| it.validation.has_received())
            }
        };
        if rpc.tx.first_sent().is_some() && (heard || repeated || may_have_begun) {
            FailReason::ServiceGone
        } else {
            FailReason::NoService
        }
    }
}

/// The failure that a client reports for a reason that ends its call, with the `value` beside it,
/// about a request of `request_bytes`.
pub(crate) fn failure(reason: Reason, value: u32, request_bytes: u32) -> Option<FailReason> {
    Some(match reason {
        Reason::NoService | Reason::NotExecuted if value == Reason::MAY_HAVE_BEGUN => {
            FailReason::ServiceGone
        }
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
        FailReason::Forgotten => (Reason::Finished, Reason::REPEATED),
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
            (FailReason::Forgotten, FailReason::Forgotten),
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
