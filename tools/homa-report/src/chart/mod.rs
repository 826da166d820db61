//! Line charts as SVG: what is drawn, and in which colours.

mod axis;
mod draw;

pub(crate) use self::axis::{Axis, Tick};

/// Colours and marks there are; further transports begin again.
pub(crate) const STYLES: usize = 8;

/// Which transport has which colour and mark, the same in all plots of a page.
#[derive(Debug, Clone, Default)]
pub(crate) struct Palette {
    names: Vec<String>,
}

impl Palette {
    /// Homa's transports first: the first two colours, blue, are theirs.
    pub(crate) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut found: Vec<String> = Vec::new();
        for name in names {
            if !found.iter().any(|known| known == name) {
                found.push(name.to_owned());
            }
        }
        found.sort_by_key(|name| !crate::summary::is_homa(name));
        Palette { names: found }
    }

    /// Names, Homa's first.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Number of a transport's colour and mark.
    pub(crate) fn style(&self, name: &str) -> usize {
        let place = self.names.iter().position(|known| known == name).unwrap_or(0);
        let homa = self.names.iter().filter(|name| crate::summary::is_homa(name)).count();
        // Without a second Homa its blue stays unused, so that TCP has its colours on every page.
        let shift = if homa < 2 && place >= homa { 2 - homa } else { 0 };
        (place + shift) % STYLES
    }
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    Solid,
    Dashed,
    /// Marks alone, where nothing lies between the points.
    Marks,
    /// The area between this line and the one before; the first one's down to the axis.
    Area,
}

/// A point of a curve with what the read-out says of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    pub x: f64,
    pub y: f64,
    /// The value in words, which for areas is not `y`.
    pub text: String,
}

/// A curve.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    /// What it shows: a transport or a level.
    pub name: String,
    /// What of it: `P50`, `P99` or nothing.
    pub part: &'static str,
    /// Class of its colour: `c0`, `l3`.
    pub class: String,
    /// Number of its mark; none for areas.
    pub mark: Option<usize>,
    pub line: Line,
    /// In order of x.
    pub points: Vec<Point>,
}

/// A straight line with a name, such as the rate of the links.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reference {
    pub label: String,
    pub at: f64,
    /// Whether it crosses the x axis at `at`, else the y axis.
    pub vertical: bool,
}

/// Width for telephones.
const NARROW: f64 = 400.0;

/// Labels below an axis of that width at most.
const NARROW_LABELS: usize = 6;

/// A chart.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Chart {
    /// What the page's checks call it.
    pub name: &'static str,
    /// What it shows, in a sentence, for those who cannot see it.
    pub description: String,
    /// Above the plot, if it is one of several.
    pub title: Option<String>,
    pub width: f64,
    pub height: f64,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
    pub references: Vec<Reference>,
    /// Whether it has a legend of its own.
    pub legend: bool,
}

impl Chart {
    /// The same for a narrow page: less wide, not smaller, and with fewer labels.
    pub(crate) fn narrow(&self) -> Chart {
        let mut chart = Chart { width: NARROW, height: self.height.min(400.0), ..self.clone() };
        chart.name = "narrow";
        // What follows a semicolon explains; the text below the plot does so too.
        chart.x.label.truncate(chart.x.label.find(';').unwrap_or(chart.x.label.len()));
        let labelled = chart.x.ticks.iter().filter(|tick| !tick.label.is_empty()).count();
        let every = labelled.div_ceil(NARROW_LABELS).max(1);
        let labelled = chart.x.ticks.iter_mut().filter(|tick| !tick.label.is_empty());
        for (index, tick) in labelled.enumerate() {
            if index % every > 0 {
                tick.label.clear();
            }
        }
        chart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homa_is_blue_and_no_two_transports_share_a_colour() {
        let palette = Palette::of(["tcp-cubic", "homa-udp", "tcp-bbr", "tcp-cubic"].into_iter());
        assert_eq!(palette.style("homa-udp"), 0);
        assert_eq!((palette.style("tcp-cubic"), palette.style("tcp-bbr")), (2, 3));
        let both = Palette::of(["tcp-cubic", "homa-udp", "homa-ip"].into_iter());
        assert_eq!(both.style("tcp-cubic"), 2);
        assert_eq!(Palette::of(["tcp-cubic"].into_iter()).style("tcp-cubic"), 2);
    }
}
