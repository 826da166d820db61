//! State of grant management for a message.

use super::senders::SenderIndex;
use crate::priority::Priority;
use crate::time::Instant;

/// Where grant management keeps a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Not managed: wholly unscheduled, complete, or not yet seen.
    Out,
    /// Gets ordinary grants.
    Active,
    /// Waits in its sender's queue.
    Queued,
}

/// Bytes that may be sent and have not come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine::receiver) struct OnItsWay {
    /// Announced by the sender.
    pub(in crate::engine::receiver) announced: u32,
    /// Granted.
    pub(in crate::engine::receiver) granted: u32,
}

impl OnItsWay {
    pub(super) const NOTHING: Self = Self { announced: 0, granted: 0 };

    pub(super) fn bytes(self) -> u64 {
        u64::from(self.announced).saturating_add(u64::from(self.granted))
    }
}

/// State of grant management for one message.
#[derive(Debug)]
pub(in crate::engine::receiver) struct Granting {
    pub(super) place: Place,
    /// Its sender while managed.
    pub(super) sender: Option<SenderIndex>,
    /// Part in what the granter counts for its sender.
    pub(super) counted: OnItsWay,
    /// The granter's count of arrived bytes at which all has come that was on its way before the
    /// first grant after a time without any.
    pub(super) behind: u64,
    /// More could be granted, but `max_incoming` or memory had no room.
    pub(super) memory_blocked: bool,
    /// Waits in the list of messages to look at.
    pub(super) to_check: bool,
    /// A GRANT has to be sent (again) although `granted` does not change.
    pub(super) due: bool,
    /// It takes no part in grants until data comes, or its reader takes some.
    pub(super) passed_over: bool,
    /// Priority named in the last GRANT.
    pub(super) priority: Priority,
    /// Granted bytes below this that have not come may be overtaken by those above, which were
    /// granted at a higher priority.
    pub(super) overtaken_below: u32,
    /// Grant window in bytes that the peer's settings demand; 0 = as configured.
    pub(super) window: u32,
    /// Bytes on their way that a round trip to its sender needs; `u32::MAX`: not known.
    pub(super) round_trip_bytes: u32,
    /// Whether its sender sends nothing beyond what it was told.
    measures: bool,
    /// The first byte that a GRANT allowed, whose round trip is measured; `u32::MAX`: none.
    measured_from: u32,
    measured_since: Instant,
    /// Bytes that had come to this host by then, of all messages; it wraps.
    measured_bytes: u32,
}

impl Granting {
    pub(in crate::engine::receiver) const NONE: Self = Self {
        place: Place::Out,
        sender: None,
        counted: OnItsWay::NOTHING,
        behind: 0,
        memory_blocked: false,
        to_check: false,
        due: false,
        passed_over: false,
        priority: Priority::LOWEST,
        overtaken_below: 0,
        window: 0,
        round_trip_bytes: u32::MAX,
        measures: false,
        measured_from: u32::MAX,
        measured_since: Instant::ZERO,
        measured_bytes: 0,
    };

    /// Priority named in the last GRANT.
    pub(in crate::engine::receiver) fn priority(&self) -> Priority {
        self.priority
    }

    /// Whether a gap that begins at `start` shows loss, since nothing above it may overtake it.
    pub(in crate::engine::receiver) fn shows_loss(&self, start: u32) -> bool {
        start >= self.overtaken_below
    }

    /// Sets the grant window that the peer's settings demand, in bytes; 0 = as configured.
    pub(in crate::engine::receiver) fn set_window(&mut self, bytes: u32) {
        self.window = bytes;
    }

    /// Has round trips measured if `measures`: data beyond what its sender was told would take
    /// none.
    pub(in crate::engine::receiver) fn measure_round_trips(&mut self, measures: bool) {
        self.measures = measures;
    }

    /// A GRANT leaves that allows the bytes from `from` on, when `bytes` have come to this host.
    /// One round trip is measured at a time.
    #[inline]
    pub(in crate::engine::receiver) fn granted_from(
        &mut self,
        from: u32,
        now: Instant,
        bytes: u64,
    ) {
        if self.measures && self.measured_from == u32::MAX {
            (self.measured_from, self.measured_since) = (from, now);
            self.measured_bytes = bytes as u32;
        }
    }

    /// Bytes below `end` have come, `bytes` in all to this host: the round trip that ends with them
    /// in ns, and what came meanwhile.
    #[inline]
    pub(in crate::engine::receiver) fn round_trip(
        &mut self,
        end: u32,
        now: Instant,
        bytes: u64,
    ) -> Option<(u64, u32)> {
        (end > self.measured_from).then(|| {
            self.measured_from = u32::MAX;
            let came = (bytes as u32).wrapping_sub(self.measured_bytes);
            (now.ns_since(self.measured_since), came)
        })
    }

    /// Sets the bytes on their way that a round trip needs; `u32::MAX`: not known.
    pub(in crate::engine::receiver) fn set_round_trip_bytes(&mut self, bytes: u32) {
        self.round_trip_bytes = bytes;
    }

    /// Whether grant management keeps it or owes it a GRANT: most messages are too short to be
    /// granted anything.
    #[inline]
    pub(in crate::engine::receiver) fn is_managed(&self) -> bool {
        self.has_sender() || self.due
    }

    /// Whether the granter counts it for a sender.
    #[inline]
    pub(super) fn has_sender(&self) -> bool {
        self.sender.is_some()
    }

    /// Whether something of it counts as on its way.
    pub(in crate::engine::receiver) fn is_counted(&self) -> bool {
        self.counted.bytes() > 0
    }

    /// Lets it take part in grants again, if it was passed over.
    #[inline]
    pub(in crate::engine::receiver) fn take_part(&mut self) {
        self.passed_over = false;
    }

    /// Whether it takes no part in grants at present.
    #[cfg(any(test, feature = "check"))]
    pub(in crate::engine::receiver) fn is_passed_over(&self) -> bool {
        self.passed_over
    }

    /// Whether a GRANT for it waits to be sent.
    #[cfg(any(test, feature = "check"))]
    pub(in crate::engine::receiver) fn is_due(&self) -> bool {
        self.due
    }
}
