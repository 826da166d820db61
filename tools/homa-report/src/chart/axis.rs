//! Axes: from values to places, and where to write numbers.

/// A place on an axis with its label.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tick {
    pub at: f64,
    pub label: String,
}

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    /// What it measures, with unit.
    pub label: String,
    /// Logarithmic.
    pub log: bool,
    pub low: f64,
    pub high: f64,
    pub ticks: Vec<Tick>,
    /// Thinner lines without label.
    pub minor: Vec<f64>,
}

impl Axis {
    /// From zero to at least `high`, with round numbers; values are labelled by `format`.
    pub(crate) fn linear(label: &str, high: f64, format: impl Fn(f64) -> String) -> Self {
        let high = if high.is_finite() && high > 0.0 { high } else { 1.0 };
        let step = round_step(high / 5.0);
        let steps = (high / step - 1e-9).ceil().max(1.0);
        let ticks = (0..=steps as u32).map(|index| f64::from(index) * step);
        Axis {
            label: label.to_owned(),
            log: false,
            low: 0.0,
            high: steps * step,
            ticks: ticks.map(|at| Tick { at, label: format(at) }).collect(),
            minor: Vec::new(),
        }
    }

    /// From zero to exactly `high`.
    pub(crate) fn linear_to(label: &str, high: f64, format: impl Fn(f64) -> String) -> Self {
        let mut axis = Self::linear(label, high, format);
        if high.is_finite() && high > 0.0 {
            axis.high = high;
            axis.ticks.retain(|tick| tick.at <= high * (1.0 + 1e-9));
        }
        axis
    }

    /// Logarithmic around all of `values` that are above zero; the ends are 1, 2 or 5 times a power
    /// of ten.
    pub(crate) fn log(
        label: &str,
        values: impl Iterator<Item = f64>,
        format: impl Fn(f64) -> String,
    ) -> Self {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| value.is_finite() && *value > 0.0) {
            low = low.min(value);
            high = high.max(value);
        }
        if !low.is_finite() {
            (low, high) = (1.0, 10.0);
        }
        let (low, mut high) = (step_below(low), step_above(high));
        if high <= low * 1.5 {
            high = low * 10.0;
        }
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let decades = last - first;
        let inside = |at: f64| at >= low * 0.999_999 && at <= high * 1.000_001;
        let mut ticks = Vec::new();
        let mut minor = Vec::new();
        for exponent in first..=last {
            for digit in 1..10 {
                let at = f64::from(digit) * 10f64.powi(exponent);
                let labelled = match decades {
                    0..=2 => [1, 2, 5].contains(&digit),
                    3..=8 => digit == 1,
                    _ => digit == 1 && (exponent - first) % 2 == 0,
                };
                match inside(at) {
                    true if labelled => ticks.push(Tick { at, label: format(at) }),
                    true => minor.push(at),
                    false => {}
                }
            }
        }
        Axis { label: label.to_owned(), log: true, low, high, ticks, minor }
    }

    /// Where a value is, from 0 at the low end to 1 at the high one; values outside are moved to
    /// the ends.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.log { value.max(1e-300).log10() } else { value };
        let (low, high) = (scale(self.low), scale(self.high));
        let place = (scale(value) - low) / (high - low);
        if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// 1, 2 or 5 times a power of ten, at least `value`.
fn round_step(value: f64) -> f64 {
    step_above(value)
}

fn step_above(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= value * 0.999_999);
    factor.unwrap_or(10.0) * power
}

fn step_below(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let factor = [5.0, 2.0].into_iter().find(|factor| factor * power <= value * 1.000_001);
    factor.unwrap_or(1.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn linear_axes_have_round_steps_up_to_above_the_highest_value() {
        let axis = Axis::linear("", 87.0, |value| value.to_string());
        assert_eq!(labels(&axis), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!((axis.place(0.0), axis.place(50.0), axis.place(1e9)), (0.0, 0.5, 1.0));
        let exact = Axis::linear_to("", 5.5, |value| value.to_string());
        assert_eq!((exact.high, labels(&exact).last().copied()), (5.5, Some("4")));
    }

    #[test]
    fn logarithmic_axes_label_powers_of_ten_or_more_where_there_are_few() {
        let axis = Axis::log("", [3.0, 4_500.0].into_iter(), |value| value.to_string());
        assert_eq!((axis.low, axis.high), (2.0, 5_000.0));
        assert_eq!(labels(&axis), ["10", "100", "1000"]);
        let short = Axis::log("", [1.5, 30.0].into_iter(), |value| value.to_string());
        assert_eq!(labels(&short), ["1", "2", "5", "10", "20", "50"]);
    }

    #[test]
    fn axes_of_nothing_or_nonsense_can_be_drawn() {
        for values in [vec![], vec![f64::NAN, 0.0, -1.0], vec![5.0]] {
            let axis = Axis::log("", values.into_iter(), |value| value.to_string());
            assert!(axis.high > axis.low && !axis.ticks.is_empty(), "{axis:?}");
        }
        let axis = Axis::linear("", f64::NAN, |value| value.to_string());
        assert!(axis.high > axis.low && axis.place(f64::NAN) == 0.0);
    }
}
