//! The seven timers of a connection, and the retransmission timeout.

use super::settings::Settings;
use crate::time::{Span, Time};

/// Timers of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// A SYN, or its answer, was not acknowledged.
    Establishment,
    /// Data, or a FIN, was not acknowledged (RFC 6298).
    Retransmission,
    /// An ACK has waited for another segment (RFC 1122 §4.2.3.2).
    DelayedAck,
    /// The window of the other end is closed (RFC 1122 §4.2.2.17).
    Persist,
    /// Nothing was heard (RFC 1122 §4.2.3.6).
    KeepAlive,
    /// The other end has not closed.
    FinWait2,
    /// Segments of the past are gone (RFC 9293 §3.6.1).
    TimeWait,
}

impl Timer {
    pub(super) const ALL: [Self; 7] = [
        Self::Establishment,
        Self::Retransmission,
        Self::DelayedAck,
        Self::Persist,
        Self::KeepAlive,
        Self::FinWait2,
        Self::TimeWait,
    ];
}

/// When each timer runs out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timers([Time; Timer::ALL.len()]);

impl Timers {
    pub(super) fn new() -> Self {
        Self([Time::NEVER; Timer::ALL.len()])
    }

    pub(super) fn set(&mut self, timer: Timer, at: Time) {
        self.0[timer as usize] = at;
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        self.set(timer, Time::NEVER);
    }

    pub(super) fn clear_all(&mut self) {
        *self = Self::new();
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize] != Time::NEVER
    }

    /// When the first one runs out; [`Time::NEVER`] if none is set.
    pub(super) fn next(&self) -> Time {
        self.0.into_iter().min().unwrap_or(Time::NEVER)
    }

    /// One that has run out by `now`. It is cleared.
    pub(super) fn take_due(&mut self, now: Time) -> Option<Timer> {
        let due = Timer::ALL.into_iter().find(|timer| self.0[*timer as usize] <= now)?;
        self.clear(due);
        Some(due)
    }
}

/// The retransmission timeout as round trips teach it (RFC 6298).
#[derive(Clone, Copy, Debug)]
pub(super) struct Rto {
    smoothed: Option<(Span, Span)>,
    /// Timeouts without an acknowledgement since.
    pub(super) timeouts: u32,
}

impl Rto {
    pub(super) fn new() -> Self {
        Self { smoothed: None, timeouts: 0 }
    }

    /// The mean round trip; nothing before the first one.
    pub(super) fn round_trip(&self) -> Option<Span> {
        self.smoothed.map(|(mean, _)| mean)
    }

    /// A segment that was sent once was acknowledged after so long.
    pub(super) fn sample(&mut self, rtt: Span) {
        let rtt_ps = rtt.as_ps();
        let (mean, deviation) = match self.smoothed {
            None => (rtt_ps, rtt_ps / 2),
            Some((mean, deviation)) => {
                let (mean, deviation) = (mean.as_ps(), deviation.as_ps());
                ((mean * 7 + rtt_ps) / 8, (deviation * 3 + mean.abs_diff(rtt_ps)) / 4)
            }
        };
        self.smoothed = Some((Span::from_ps(mean), Span::from_ps(deviation)));
    }

    /// The timeout now: doubled with each one that has passed.
    pub(super) fn timeout(&self, settings: &Settings) -> Span {
        let base = match self.smoothed {
            None => settings.rto_initial,
            Some((mean, deviation)) => {
                Span::from_ps(mean.as_ps() + 4 * deviation.as_ps()).max(settings.rto_min)
            }
        };
        backed_off(base, self.timeouts, settings)
    }
}

/// A time after so many doublings.
pub(super) fn backed_off(base: Span, times: u32, settings: &Settings) -> Span {
    let ps = base.as_ps().saturating_mul(1 << times.min(32));
    Span::from_ps(ps).min(settings.rto_max)
}

#[cfg(test)]
mod tests {
    use super::{
        super::settings::{Algorithm, ms},
        *,
    };

    #[test]
    fn the_timeout_follows_the_round_trips_and_doubles_up_to_its_bound() {
        let settings = Settings { rto_min: ms(1), ..Settings::new(Algorithm::Reno) };
        let mut rto = Rto::new();
        assert_eq!(rto.timeout(&settings), ms(1_000), "before the first round trip");
        rto.sample(ms(10));
        assert_eq!(rto.timeout(&settings), ms(10 + 4 * 5));
        rto.sample(ms(18));
        // 7/8 of 10 and 1/8 of 18; 3/4 of 5 and 1/4 of 8.
        assert_eq!(rto.timeout(&settings), ms(11 + 4 * 5) + Span::from_ns(4 * 750_000));
        rto.timeouts = 2;
        assert_eq!(rto.timeout(&settings), ms(4 * (11 + 4 * 5 + 3)));
        rto.timeouts = 40;
        assert_eq!(rto.timeout(&settings), ms(120_000));
        rto.timeouts = 0;
        let linux = Settings::new(Algorithm::Reno);
        assert_eq!(rto.timeout(&linux), ms(200));
    }
}
