//! The congestion window: NewReno, CUBIC and DCTCP.

use super::{
    segment::MSS,
    settings::{Algorithm, Settings},
};
use crate::time::{Span, Time};

const SEGMENT: f64 = MSS as f64;
/// Least window after a loss or a mark.
const WINDOW_MIN: f64 = 2.0 * SEGMENT;

/// A congestion window, in bytes.
#[derive(Clone, Debug)]
pub(super) struct Congestion {
    window: f64,
    threshold: f64,
    initial: f64,
    control: Control,
}

#[derive(Clone, Debug)]
enum Control {
    Reno,
    Cubic(Cubic),
    Dctcp(Dctcp),
}

impl Congestion {
    pub(super) fn new(settings: &Settings) -> Self {
        let initial = f64::from(settings.initial_window) * SEGMENT;
        let control = match settings.algorithm {
            Algorithm::Reno => Control::Reno,
            Algorithm::Cubic => Control::Cubic(Cubic::default()),
            Algorithm::Dctcp => Control::Dctcp(Dctcp::default()),
        };
        Self { window: initial, threshold: f64::INFINITY, initial, control }
    }

    pub(super) fn window_bytes(&self) -> u64 {
        self.window as u64
    }

    /// How many windows Linux would pace per round trip.
    pub(super) fn pacing_gain(&self) -> f64 {
        if self.window < self.threshold / 2.0 { 2.0 } else { 1.2 }
    }

    pub(super) fn is_slow_start(&self) -> bool {
        self.window < self.threshold
    }

    /// So many bytes were acknowledged while the window was what held the sender back.
    pub(super) fn acknowledged(&mut self, now: Time, bytes: u64, round_trip: Option<Span>) {
        let bytes = bytes as f64;
        if self.is_slow_start() {
            self.window = (self.window + bytes).min(self.threshold);
            return;
        }
        let grown = match &mut self.control {
            Control::Cubic(cubic) => cubic.grown(self.window, now, bytes, round_trip),
            Control::Reno | Control::Dctcp(_) => self.window + SEGMENT * bytes / self.window,
        };
        self.window = grown;
    }

    /// A loss was seen: once per window of data.
    pub(super) fn lost(&mut self) {
        self.threshold = self.reduced();
        self.window = self.threshold;
    }

    /// The retransmission timer has run out.
    pub(super) fn timed_out(&mut self) {
        self.threshold = self.reduced();
        self.window = SEGMENT;
    }

    fn reduced(&mut self) -> f64 {
        let reduced = match &mut self.control {
            Control::Cubic(cubic) => cubic.lost(self.window),
            Control::Reno | Control::Dctcp(_) => self.window / 2.0,
        };
        reduced.max(WINDOW_MIN)
    }

    /// The sender sends again after `pause`, in which nothing was in flight. The window is halved
    /// for each timeout that has passed, down to what a new connection has, as in Linux.
    pub(super) fn resumed(&mut self, pause: Span, timeout: Span) {
        if let Control::Cubic(cubic) = &mut self.control {
            cubic.begun = cubic.begun.map(|begun| begun + pause);
        }
        let halvings = pause.as_ps().saturating_sub(1) / timeout.as_ps().max(1);
        self.keep_threshold(halvings > 0);
        let floor = self.window.min(self.initial);
        self.window = (self.window / (1_u64 << halvings.min(63)) as f64).max(floor);
    }

    /// In a timeout the window held nothing back, and at most so many bytes were in flight: what
    /// is not used is halved (RFC 2861).
    pub(super) fn unused(&mut self, used_bytes: u64) {
        let used = self.initial.max(used_bytes as f64);
        if used < self.window {
            self.keep_threshold(true);
            self.window = f64::midpoint(self.window, used);
        }
    }

    /// A window that shrinks without a loss may grow as fast to three quarters of what it was.
    fn keep_threshold(&mut self, shrinks: bool) {
        if shrinks {
            self.threshold = self.threshold.max(self.window * 0.75);
        }
    }

    /// An ACK up to `ack` of so many bytes, with an echo of a mark or without, while data up to
    /// `next` was sent. Returns whether marks forbid that the window grows.
    pub(super) fn observed(&mut self, bytes: u64, echo: bool, ack: u64, next: u64) -> bool {
        let Control::Dctcp(dctcp) = &mut self.control else { return false };
        dctcp.observe(bytes, echo, ack, next);
        if echo && ack > dctcp.reduced_until {
            dctcp.reduced_until = next;
            self.threshold = (self.window * (1.0 - dctcp.alpha / 2.0)).max(WINDOW_MIN);
            self.window = self.threshold;
        }
        ack <= dctcp.reduced_until
    }
}

/// State of CUBIC (RFC 9438).
#[derive(Clone, Debug, Default)]
struct Cubic {
    /// The window at the last loss.
    window_max: f64,
    /// When the window grows beyond it, in seconds from `begun`.
    plateau_secs: f64,
    /// The begin of this avoidance of congestion.
    begun: Option<Time>,
    /// What Reno would have.
    reno: f64,
}

impl Cubic {
    const BETA: f64 = 0.7;
    /// Segments per cubic second.
    const C: f64 = 0.4;
    /// Growth of Reno with this beta (RFC 9438 §4.3).
    const ALPHA: f64 = 3.0 * (1.0 - Self::BETA) / (1.0 + Self::BETA);

    fn lost(&mut self, window: f64) -> f64 {
        let reduced = window * Self::BETA;
        // Fast convergence (RFC 9438 §4.7).
        self.window_max =
            if window < self.window_max { window * (1.0 + Self::BETA) / 2.0 } else { window };
        self.begun = None;
        reduced
    }

    fn at(&self, secs: f64) -> f64 {
        let from_plateau = secs - self.plateau_secs;
        self.window_max + Self::C * SEGMENT * from_plateau * from_plateau * from_plateau
    }

    fn grown(&mut self, window: f64, now: Time, bytes: f64, round_trip: Option<Span>) -> f64 {
        let begun = *self.begun.get_or_insert_with(|| {
            self.window_max = self.window_max.max(window);
            let below = (self.window_max - window) / SEGMENT;
            self.plateau_secs = libm::cbrt(below / Self::C);
            self.reno = window;
            now
        });
        let secs = now.since(begun).as_secs();
        let alpha = if self.reno >= self.window_max { 1.0 } else { Self::ALPHA };
        self.reno += alpha * SEGMENT * bytes / window;
        if self.at(secs) < self.reno {
            return self.reno.max(window);
        }
        let ahead = round_trip.unwrap_or(Span::ZERO).as_secs();
        let target = self.at(secs + ahead).clamp(window, 1.5 * window);
        window + (target - window) * bytes / window
    }
}

/// State of DCTCP (RFC 8257).
#[derive(Clone, Debug)]
struct Dctcp {
    /// Estimate of the part of bytes that is marked.
    alpha: f64,
    acknowledged: u64,
    marked: u64,
    /// The end of the window that is observed.
    window_end: u64,
    /// Data that was sent before the last reduction.
    reduced_until: u64,
}

impl Default for Dctcp {
    fn default() -> Self {
        Self { alpha: 1.0, acknowledged: 0, marked: 0, window_end: 0, reduced_until: 0 }
    }
}

impl Dctcp {
    /// Weight of a window in the estimate.
    const GAIN: f64 = 1.0 / 16.0;

    fn observe(&mut self, bytes: u64, echo: bool, ack: u64, next: u64) {
        self.acknowledged += bytes;
        self.marked += if echo { bytes } else { 0 };
        if ack <= self.window_end {
            return;
        }
        if self.acknowledged > 0 {
            let marked = self.marked as f64 / self.acknowledged as f64;
            self.alpha += Self::GAIN * (marked - self.alpha);
        }
        (self.acknowledged, self.marked, self.window_end) = (0, 0, next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn congestion(algorithm: Algorithm) -> Congestion {
        Congestion::new(&Settings::new(algorithm))
    }

    fn segments(congestion: &Congestion) -> f64 {
        congestion.window / SEGMENT
    }

    /// A window's worth of acknowledgements, a segment each.
    fn round(congestion: &mut Congestion, now: Time, round_trip: Span) {
        for _ in 0..segments(congestion) as u32 {
            congestion.acknowledged(now, u64::from(MSS), Some(round_trip));
        }
    }

    #[test]
    fn slow_start_doubles_and_reno_adds_a_segment_per_round_trip_after_half() {
        let mut reno = congestion(Algorithm::Reno);
        round(&mut reno, Time::ZERO, Span::ZERO);
        assert_eq!(segments(&reno), 20.0);
        reno.lost();
        assert_eq!(segments(&reno), 10.0);
        round(&mut reno, Time::ZERO, Span::ZERO);
        assert!((segments(&reno) - 11.0).abs() < 0.1, "{}", segments(&reno));
        reno.timed_out();
        assert_eq!(segments(&reno), 1.0);
        for _ in 0..20 {
            round(&mut reno, Time::ZERO, Span::ZERO);
        }
        assert!(segments(&reno) > 15.0 && !reno.is_slow_start());
    }

    #[test]
    fn cubic_is_back_at_the_window_of_the_loss_after_its_plateau_and_then_grows_faster() {
        let mut cubic = congestion(Algorithm::Cubic);
        cubic.window = 1_000.0 * SEGMENT;
        cubic.lost();
        assert_eq!(segments(&cubic).round(), 700.0);
        // Cube root of 300 segments / 0.4: 9.09 s.
        let round_trip = Span::from_ns(100_000_000);
        let mut seen = Vec::new();
        for step in 0..150_u64 {
            let now = Time::from_ns(step * round_trip.as_ps() / 1000);
            round(&mut cubic, now, round_trip);
            seen.push(segments(&cubic));
        }
        let at = |secs: usize| seen[secs * 10];
        assert!((at(9) - 1_000.0).abs() < 5.0, "{}", at(9));
        assert!(at(3) - at(1) > 50.0, "concave at first: {} {}", at(1), at(3));
        assert!(at(10) - at(8) < 5.0, "flat at the plateau: {} {}", at(8), at(10));
        assert!(at(14) - at(12) > 30.0, "convex beyond: {} {}", at(12), at(14));
    }

    #[test]
    fn a_second_loss_before_the_first_window_lets_cubic_aim_lower() {
        let mut cubic = congestion(Algorithm::Cubic);
        cubic.window = 100.0 * SEGMENT;
        cubic.lost();
        cubic.lost();
        let Control::Cubic(state) = &cubic.control else { unreachable!() };
        assert_eq!((state.window_max / SEGMENT).round(), 60.0, "70 * 1.7 / 2");
    }

    #[test]
    fn alpha_follows_the_part_that_is_marked_and_cuts_the_window_by_half_of_it_once_per_window() {
        let mut dctcp = congestion(Algorithm::Dctcp);
        let mss = u64::from(MSS);
        // Windows of 10 segments of which 2 are marked.
        let mut ack = 0;
        for _ in 0..200 {
            for segment in 0..10 {
                ack += mss;
                dctcp.observed(mss, segment < 2, ack, ack + 10 * mss);
            }
        }
        let Control::Dctcp(state) = &dctcp.control else { unreachable!() };
        assert!((state.alpha - 0.2).abs() < 0.02, "{}", state.alpha);
        let alpha = state.alpha;
        dctcp.window = 100.0 * SEGMENT;
        ack += 20 * mss;
        assert!(dctcp.observed(mss, true, ack, ack + 10 * mss));
        let cut = segments(&dctcp);
        assert!((cut - 100.0 * (1.0 - alpha / 2.0)).abs() < 2.0, "{cut}");
        assert!(dctcp.observed(mss, true, ack + mss, ack + 10 * mss), "of the same window");
        assert_eq!(segments(&dctcp), cut);
    }

    #[test]
    fn a_pause_halves_the_window_for_each_timeout_that_has_passed_down_to_that_of_a_new_connection()
    {
        let timeout = Span::from_ns(200_000_000);
        let after = |timeouts: f64| {
            let mut reno = congestion(Algorithm::Reno);
            reno.window = 100.0 * SEGMENT;
            reno.resumed(Span::from_ps((timeout.as_ps() as f64 * timeouts) as u64), timeout);
            assert!(timeouts < 1.0 || reno.is_slow_start(), "it may grow back");
            segments(&reno)
        };
        assert_eq!([0.9, 1.5, 2.5, 9.0].map(after), [100.0, 50.0, 25.0, 10.0]);
    }

    #[test]
    fn half_of_the_window_that_was_not_used_is_lost() {
        let mut reno = congestion(Algorithm::Reno);
        reno.window = 100.0 * SEGMENT;
        reno.unused(u64::from(20 * MSS));
        assert_eq!(segments(&reno), 60.0);
        reno.unused(0);
        assert_eq!(segments(&reno), 35.0, "a new connection could use ten");
        reno.unused(u64::from(50 * MSS));
        assert_eq!(segments(&reno), 35.0);
    }
}
