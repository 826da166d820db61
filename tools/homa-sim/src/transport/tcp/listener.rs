//! The end that is called: how many unfinished connections it remembers, and cookies beyond that.
//!
//! A cookie is the first number of the answer to a SYN: eight bits of the minute, and 24 that only
//! this listener could have made of the caller, its number and that minute (RFC 4987 §3.6). Options
//! travel in the timestamp, as with Linux; all hosts have the same, so none are written here.

use super::segment::{Kind, Segment};
use crate::{event::HostId, time::Time};

/// Bits of a cookie that depend on the secret.
const MIX_BITS: u32 = 24;
/// A cookie is good in its own minute and in so many after it.
const MINUTES: u64 = 1;

/// The listener of a host.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    secret: u64,
    /// Connections that are not established.
    pub(super) half_open: u32,
}

impl Listener {
    pub(super) fn new(secret: u64) -> Self {
        Self { secret, half_open: 0 }
    }

    /// The answer to a SYN, of which nothing is remembered.
    pub(super) fn answer(&self, now: Time, from: HostId, syn: &Segment, window: u32) -> Segment {
        let first = self.cookie(minute(now), from, syn.flow.port, syn.seq);
        let flow = syn.flow.reversed();
        Segment { window, ..Segment::new(flow, Kind::SynAck, first, syn.seq + 1) }
    }

    /// Whether a segment acknowledges such an answer.
    pub(super) fn knows(&self, now: Time, from: HostId, ack: &Segment) -> bool {
        let (Some(seq), Some(first)) = (ack.seq.checked_sub(1), ack.ack.checked_sub(1)) else {
            return false;
        };
        let now = minute(now);
        let mut minutes = now.saturating_sub(MINUTES)..=now;
        minutes.any(|minute| first == self.cookie(minute, from, ack.flow.port, seq))
    }

    fn cookie(&self, minute: u64, from: HostId, port: u32, seq: u64) -> u64 {
        let caller = u64::from(from.0) << 32 | u64::from(port);
        let mixed = mix(mix(mix(self.secret ^ minute) ^ caller) ^ seq);
        (minute & 0xff) << MIX_BITS | mixed >> (u64::BITS - MIX_BITS)
    }
}

fn minute(now: Time) -> u64 {
    now.as_ns() / 60_000_000_000
}

/// Spreads every bit over all (splitmix64). Nobody guesses in a simulation.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::{super::segment::Flow, *};

    #[test]
    fn a_cookie_is_known_for_a_minute_from_its_caller_only() {
        let listener = Listener::new(7);
        let flow = Flow { port: 5, to_listener: true };
        let from = HostId(3);
        let minutes = |count: u64| Time::from_ns(count * 60_000_000_000);
        let syn = Segment::new(flow, Kind::Syn, 1_000, 0);
        let answer = listener.answer(minutes(9), from, &syn, 1 << 16);
        let ack = Segment::new(flow, Kind::Ack, 1_001, answer.seq + 1);
        assert!(listener.knows(minutes(9), from, &ack));
        assert!(listener.knows(minutes(10), from, &ack));
        assert!(!listener.knows(minutes(11), from, &ack), "too old");
        assert!(!listener.knows(minutes(9), HostId(4), &ack), "of another host");
        assert!(!listener.knows(minutes(9), from, &Segment { ack: ack.ack + 1, ..ack }));
        let other = Flow { port: 6, ..flow };
        assert!(!listener.knows(minutes(9), from, &Segment { flow: other, ..ack }));
    }
}
