//! The resend timer of an RPC: when a RESEND or NEED_ACK is sent, and when it is repeated.

use core::time::Duration;

use crate::time::Instant;

#[derive(Clone, Copy, Debug)]
pub(crate) struct ResendTimer {
    /// Time until the next RESEND or NEED_ACK.
    interval_ns: u64,
    /// When a RESEND or NEED_ACK was last sent, since the last DATA.
    last_sent: Option<Instant>,
    /// Nothing is sent before.
    next: Instant,
    /// When a RESEND for the incoming message was last queued.
    resend_at: Option<Instant>,
}

impl ResendTimer {
    #[inline]
    pub(crate) fn new() -> Self {
        Self { interval_ns: 0, last_sent: None, next: Instant::ZERO, resend_at: None }
    }

    pub(crate) fn interval_ns(&self) -> u64 {
        self.interval_ns
    }

    pub(crate) fn set_interval(&mut self, interval_ns: u64) {
        self.interval_ns = interval_ns;
    }

    /// Starts anew for a response that begins.
    pub(crate) fn begin(&mut self, interval_ns: u64) {
        self.interval_ns = interval_ns;
        self.next = Instant::ZERO;
    }

    /// DATA came: the interval is the shortest again.
    #[inline]
    pub(crate) fn reset(&mut self, interval_ns: u64) {
        self.interval_ns = interval_ns;
        self.last_sent = None;
    }

    /// Doubles the interval, up to `max_ns`.
    pub(crate) fn back_off(&mut self, max_ns: u64) {
        self.interval_ns = self.interval_ns.saturating_mul(2).min(max_ns);
    }

    pub(crate) fn shorten(&mut self, max_ns: u64) {
        self.interval_ns = self.interval_ns.min(max_ns);
    }

    /// Notes that a RESEND or NEED_ACK is sent. Returns when it is repeated, if nothing comes.
    pub(crate) fn sent(&mut self, now: Instant, max_ns: u64) -> Instant {
        self.last_sent = Some(now);
        self.next = now + Duration::from_nanos(self.interval_ns);
        self.back_off(max_ns);
        self.next
    }

    /// When a RESEND or NEED_ACK was last sent, since the last DATA.
    pub(crate) fn last_sent(&self) -> Option<Instant> {
        self.last_sent
    }

    /// Whether a RESEND or NEED_ACK was sent after the peer was `heard`.
    pub(crate) fn has_sent_since(&self, heard: Instant) -> bool {
        self.next > heard
    }

    /// When a RESEND is due if the peer was last `heard` then and its resend timeout is
    /// `timeout_ns`.
    pub(crate) fn due(&self, now: Instant, heard: Instant, timeout_ns: u64) -> Instant {
        if self.next > now {
            return self.next;
        }
        heard + Duration::from_nanos(self.interval_ns.max(timeout_ns))
    }

    /// Ends the wait after the last RESEND: the peer reacted.
    pub(crate) fn end_wait(&mut self, now: Instant) {
        self.next = now;
    }

    pub(crate) fn not_before(&mut self, at: Instant) {
        self.next = self.next.max(at);
    }

    /// Notes that a RESEND is queued.
    pub(crate) fn note_resend(&mut self, now: Instant) {
        self.resend_at = Some(now);
    }

    /// Whether a RESEND was queued within the last `interval_ns`.
    pub(crate) fn has_sent_resend(&self, now: Instant, interval_ns: u64) -> bool {
        self.resend_at.is_some_and(|at| now < at.plus_ns(interval_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ns: u64) -> Instant {
        Instant::from_nanos(ns)
    }

    #[test]
    fn resends_become_rarer_until_data_comes() {
        let mut timer = ResendTimer::new();
        timer.begin(10);
        assert_eq!(timer.sent(at(100), 35), at(110));
        assert_eq!(timer.sent(at(110), 35), at(130));
        assert_eq!(timer.sent(at(130), 35), at(165));
        assert_eq!(timer.sent(at(165), 35), at(200));
        timer.reset(10);
        assert_eq!(timer.last_sent(), None);
        assert_eq!(timer.sent(at(300), 35), at(310));
    }

    #[test]
    fn the_first_resend_waits_for_the_interval_or_the_timeout_of_the_peer() {
        let mut timer = ResendTimer::new();
        timer.begin(10);
        assert_eq!(timer.due(at(100), at(95), 0), at(105));
        assert_eq!(timer.due(at(100), at(95), 30), at(125));
    }

    #[test]
    fn after_a_resend_the_next_waits_for_its_time() {
        let mut timer = ResendTimer::new();
        timer.begin(10);
        let next = timer.sent(at(100), 100);
        assert_eq!(timer.due(at(101), at(50), 0), next);
        assert!(timer.has_sent_since(at(100)) && !timer.has_sent_since(next));
        timer.end_wait(at(105));
        assert_eq!(timer.due(at(105), at(104), 0), at(124), "with the longer interval");
    }

    #[test]
    fn what_is_missing_is_asked_for_once_per_interval() {
        let mut timer = ResendTimer::new();
        assert!(!timer.has_sent_resend(at(100), 10));
        timer.note_resend(at(100));
        assert!(timer.has_sent_resend(at(109), 10));
        assert!(!timer.has_sent_resend(at(110), 10));
        timer.not_before(at(130));
        timer.not_before(at(120));
        assert_eq!(timer.due(at(100), at(100), 0), at(130));
    }
}
