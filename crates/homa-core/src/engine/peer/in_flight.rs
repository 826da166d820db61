//! In-flight credit: unscheduled data on its way to a peer, and what shows that it has arrived.
//!
//! Each message is charged for the unscheduled data that it sends. A reaction of the peer to a
//! message settles the charge of that message. The answer to a probe settles all charges from
//! before the probe, so probes count *probe rounds*.

use crate::addr::Path;
use crate::priority::Priority;

/// Credit that a packet of unscheduled data takes besides its payload: the share of the receiver's
/// buffer that the system uses for its own administration of a small packet in a train.
pub(crate) const CREDIT_PER_PACKET: u32 = 256;

/// Unscheduled data on its way to one peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlight {
    bytes: u32,
    /// Those of them that were charged before the present probe.
    before_probe: u32,
    /// Bytes of messages that waited for room and may go now, until they are charged.
    admitted: u32,
    round: u32,
    /// Charges of this probe round and of earlier ones are settled.
    settled_round: u32,
    /// Path and id (our form) of the RPC that a probe names.
    probe_target: Option<(Path, u64)>,
    /// Lowest priority of what was charged since nothing was on its way.
    lowest_priority: Priority,
}

/// The credit that one message holds of its peer's [`InFlight`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credit {
    bytes: u32,
    round: u32,
    admitted: u32,
}

impl Credit {
    pub(crate) const NONE: Self = Self { bytes: 0, round: 0, admitted: 0 };

    pub(crate) fn is_none(&self) -> bool {
        self.bytes == 0 && self.admitted == 0
    }
}

impl InFlight {
    pub(crate) const NONE: Self = Self {
        bytes: 0,
        before_probe: 0,
        admitted: 0,
        round: 1,
        settled_round: 0,
        probe_target: None,
        lowest_priority: Priority::LOWEST,
    };

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether data that costs so many bytes may be charged. The first may, however long it is.
    #[inline]
    pub(crate) fn has_room(&self, cost: u32, max: u32) -> bool {
        self.is_empty() || self.bytes.saturating_add(cost) <= max
    }

    /// Whether another message that waits may go. Those admitted before take their room first.
    pub(crate) fn may_admit(&self, max: u32) -> bool {
        let used = self.bytes.saturating_add(self.admitted);
        used == 0 || used < max
    }

    /// Admits a message that waited, with what it will cost.
    pub(crate) fn admit(&mut self, credit: &mut Credit, cost: u32) {
        credit.admitted = cost;
        self.admitted = self.admitted.saturating_add(cost);
    }

    /// The message sends, or waits again: it needs what was admitted no more.
    #[inline]
    pub(crate) fn end_admission(&mut self, credit: &mut Credit) {
        self.admitted = self.admitted.saturating_sub(core::mem::take(&mut credit.admitted));
    }

    /// Charges a message for data of this priority. Its earlier charges belong to the present probe
    /// round then.
    pub(crate) fn charge(&mut self, credit: &mut Credit, cost: u32, priority: Priority) {
        let settled = credit.round <= self.settled_round;
        let kept = if settled { 0 } else { credit.bytes };
        if !settled && credit.round < self.round {
            self.before_probe = self.before_probe.saturating_sub(kept);
        }
        let lowest = if self.is_empty() { priority } else { self.lowest_priority.min(priority) };
        self.lowest_priority = lowest;
        self.bytes = self.bytes.saturating_add(cost);
        credit.bytes = kept.saturating_add(cost);
        credit.round = self.round;
    }

    /// Takes back what was charged for data that did not leave.
    pub(crate) fn take_back(&mut self, credit: &mut Credit, cost: u32) {
        let cost = cost.min(credit.bytes);
        credit.bytes = credit.bytes.saturating_sub(cost);
        if credit.round == self.round {
            self.bytes = self.bytes.saturating_sub(cost);
        }
    }

    /// The peer reacted to the message, or the message is over: nothing of it is on its way.
    /// Returns whether it was charged.
    pub(crate) fn settle(&mut self, credit: &mut Credit) -> bool {
        self.end_admission(credit);
        let bytes = core::mem::take(&mut credit.bytes);
        if credit.round > self.settled_round {
            if credit.round < self.round {
                self.before_probe = self.before_probe.saturating_sub(bytes);
            }
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        bytes > 0
    }

    /// A probe leaves: its answer will settle what is charged now.
    pub(crate) fn probe_sent(&mut self) {
        self.before_probe = self.bytes;
        self.round = self.round.saturating_add(1);
    }

    /// The answer to the probe came.
    pub(crate) fn probe_answered(&mut self) {
        self.bytes = self.bytes.saturating_sub(core::mem::take(&mut self.before_probe));
        self.settled_round = self.round.saturating_sub(1);
    }

    /// Nothing is on its way any more, no probe either.
    pub(crate) fn clear(&mut self) {
        self.bytes = 0;
        self.before_probe = 0;
        self.settled_round = self.round;
        self.round = self.round.saturating_add(1);
    }

    /// Path and id (our form) of the RPC about which a probe asks, if there was one.
    pub(crate) fn probe_target(&self) -> Option<(Path, u64)> {
        self.probe_target
    }

    /// The next probe asks about this RPC.
    #[inline]
    pub(crate) fn set_probe_target(&mut self, path: &Path, id: u64) {
        self.probe_target = Some((*path, id));
    }

    /// Lowest priority of what is on its way: a probe of this priority overtakes none of it.
    pub(crate) fn lowest_priority(&self) -> Option<Priority> {
        (!self.is_empty()).then_some(self.lowest_priority)
    }
}

/// Sums over all messages of one peer, for comparison with what the peer has.
#[cfg(any(test, feature = "check"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CreditSums {
    bytes: u64,
    before_probe: u64,
    admitted: u64,
    most_admitted: u32,
}

#[cfg(any(test, feature = "check"))]
impl CreditSums {
    /// Adds the charge of a message to the peer of `in_flight`.
    pub(crate) fn add(&mut self, credit: &Credit, in_flight: &InFlight) {
        self.admitted += u64::from(credit.admitted);
        self.most_admitted = self.most_admitted.max(credit.admitted);
        if credit.round > in_flight.settled_round {
            self.bytes += u64::from(credit.bytes);
            if credit.round < in_flight.round {
                self.before_probe += u64::from(credit.bytes);
            }
        }
    }

    /// Invariants between the credit of the messages and that of their peer.
    pub(crate) fn check(&self, in_flight: &InFlight, max: u32) {
        let has = |bytes: u32, sum: u64, what: &str| {
            assert_eq!(u64::from(bytes), sum, "{what}: {in_flight:?}");
        };
        has(in_flight.admitted, self.admitted, "admitted");
        has(in_flight.bytes, self.bytes, "on its way");
        has(in_flight.before_probe, self.before_probe, "before the probe");
        let most = self.most_admitted.saturating_add(max);
        assert!(in_flight.admitted <= most, "admitted at once: {in_flight:?}");
    }
}

#[cfg(test)]
impl InFlight {
    pub(crate) fn bytes(&self) -> u32 {
        self.bytes
    }

    pub(crate) fn admitted(&self) -> u32 {
        self.admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charged(in_flight: &mut InFlight, cost: u32) -> Credit {
        let mut credit = Credit::NONE;
        in_flight.charge(&mut credit, cost, Priority::new(3));
        credit
    }

    #[test]
    fn the_first_message_is_charged_however_long_it_is() {
        let mut in_flight = InFlight::NONE;
        assert!(in_flight.has_room(1000, 10));
        charged(&mut in_flight, 4);
        assert!(in_flight.has_room(6, 10));
        assert!(!in_flight.has_room(7, 10));
    }

    #[test]
    fn the_answer_to_a_probe_settles_what_left_before_it() {
        let mut in_flight = InFlight::NONE;
        let mut before = charged(&mut in_flight, 10);
        in_flight.probe_sent();
        let mut after = charged(&mut in_flight, 7);
        in_flight.probe_answered();
        assert_eq!(in_flight.bytes, 7);
        in_flight.settle(&mut before);
        assert_eq!(in_flight.bytes, 7, "it was settled by the answer");
        in_flight.settle(&mut after);
        assert!(in_flight.is_empty());
    }

    #[test]
    fn a_message_that_goes_on_sending_takes_its_credit_beyond_the_probe() {
        let mut in_flight = InFlight::NONE;
        let mut credit = charged(&mut in_flight, 10);
        in_flight.probe_sent();
        in_flight.charge(&mut credit, 5, Priority::new(3));
        in_flight.probe_answered();
        assert_eq!(in_flight.bytes, 15);
        assert!(in_flight.settle(&mut credit));
        assert!(in_flight.is_empty());
    }

    #[test]
    fn what_did_not_leave_is_taken_back_once() {
        let mut in_flight = InFlight::NONE;
        let mut credit = charged(&mut in_flight, 10);
        in_flight.take_back(&mut credit, 4);
        in_flight.take_back(&mut credit, 100);
        assert!(in_flight.is_empty() && credit.is_none());
    }

    #[test]
    fn what_is_admitted_takes_its_room_first() {
        let mut in_flight = InFlight::NONE;
        let mut credit = Credit::NONE;
        assert!(in_flight.may_admit(10));
        in_flight.admit(&mut credit, 10);
        assert!(!in_flight.may_admit(10));
        in_flight.end_admission(&mut credit);
        assert!(in_flight.may_admit(10) && credit.is_none());
    }

    #[test]
    fn a_probe_has_the_lowest_priority_of_what_is_on_its_way() {
        let mut in_flight = InFlight::NONE;
        assert_eq!(in_flight.lowest_priority(), None);
        let mut first = charged(&mut in_flight, 1);
        let mut second = Credit::NONE;
        in_flight.charge(&mut second, 1, Priority::new(5));
        assert_eq!(in_flight.lowest_priority(), Some(Priority::new(3)));
        in_flight.settle(&mut first);
        in_flight.settle(&mut second);
        in_flight.charge(&mut second, 1, Priority::new(6));
        assert_eq!(in_flight.lowest_priority(), Some(Priority::new(6)));
    }
}
