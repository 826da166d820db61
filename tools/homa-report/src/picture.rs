//! Pictures of results that are no run of `homa bench cluster`, in the look of the page.

use crate::{
    chart::{Axis, Chart, Line, Palette, Point, Series},
    format::{number, plain, size},
};

/// Slowdown of one transport by message size.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Name of the transport.
    pub name: String,
    /// One point per class of sizes, in order of size.
    pub points: Vec<SizeClass>,
}

/// Slowdown of messages of about one size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SizeClass {
    /// Longest message of the class, in bytes.
    pub size_bytes: u64,
    /// Slowdown that half of them do not exceed.
    pub p50: f64,
    /// Slowdown that 99 % of them do not exceed.
    pub p99: f64,
}

/// Slowdown by message size, P99 solid and P50 dashed, on logarithmic axes: an SVG for light
/// backgrounds. `None` if there is no point to draw.
pub fn slowdown_by_size(title: &str, curves: &[Curve]) -> Option<String> {
    let palette = Palette::of(curves.iter().map(|curve| curve.name.as_str()));
    let mut series = Vec::new();
    for curve in curves {
        series.push(line(curve, &palette, "P99", Line::Solid, |class| class.p99));
        series.push(line(curve, &palette, "P50", Line::Dashed, |class| class.p50));
    }
    series.retain(|series| !series.points.is_empty());
    let all = || series.iter().flat_map(|series| &series.points);
    let chart = Chart {
        name: "slowdown",
        description: "Slowdown by message size, 50th and 99th percentile of each transport"
            .to_owned(),
        title: None,
        width: 860.0,
        height: 460.0,
        x: Axis::log(
            "message size (largest of each class, logarithmic)",
            all().map(|point| point.x),
            size,
        ),
        y: Axis::log(
            "slowdown against an idle system (logarithmic)",
            all().map(|point| point.y).chain([1.0]),
            plain,
        ),
        series: series.clone(),
        references: Vec::new(),
        legend: true,
    };
    (!series.is_empty()).then(|| chart.standalone(title))
}

fn line(
    curve: &Curve,
    palette: &Palette,
    part: &'static str,
    line: Line,
    value: fn(&SizeClass) -> f64,
) -> Series {
    let style = palette.style(&curve.name);
    let points = curve.points.iter().map(|class| Point {
        x: class.size_bytes.max(1) as f64,
        y: value(class),
        text: format!("{} up to {}", number(value(class)), size(class.size_bytes as f64)),
    });
    Series {
        name: curve.name.clone(),
        part,
        class: format!("c{style}"),
        mark: (line == Line::Solid).then_some(style),
        line,
        points: points.filter(|point| point.y.is_finite() && point.y > 0.0).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(size_bytes: u64, p50: f64, p99: f64) -> SizeClass {
        SizeClass { size_bytes, p50, p99 }
    }

    #[test]
    fn the_picture_names_transports_sizes_and_title() {
        let points = |factor: f64| {
            vec![class(64, 1.0, 3.0 * factor), class(1_000, 1.5, 9.0), class(1_000_000, 2.0, 4.0)]
        };
        let curves = [("tcp", 10.0), ("homa-udp", 1.0)]
            .map(|(name, factor)| Curve { name: name.to_owned(), points: points(factor) });
        let svg = slowdown_by_size("workload w3, load 50 %", &curves).unwrap();
        for text in ["tcp", "homa-udp", "P50", "P99", "1\u{a0}kB", "1\u{a0}MB", "w3, load 50 %"] {
            assert!(svg.contains(text), "{text} is missing in {svg}");
        }
        // Homa is blue here too.
        assert!(svg.contains("class=\"series\" data-name=\"homa-udp\" data-part=\"P99\""));
        let homa = &svg[svg.find("data-name=\"homa-udp\" data-part=\"P99\"").unwrap()..];
        assert!(homa.contains("curve solid c0"));
    }

    #[test]
    fn a_single_size_can_be_drawn_and_nothing_cannot() {
        let one = Curve { name: "tcp".to_owned(), points: vec![class(500, 1.0, 1.0)] };
        let svg = slowdown_by_size("fixed", std::slice::from_ref(&one)).unwrap();
        assert!(svg.contains("1\u{a0}kB"), "no size on the axis: {svg}");
        let none = Curve { points: vec![class(500, f64::NAN, f64::NAN)], ..one };
        assert_eq!(slowdown_by_size("nothing", &[none]), None);
    }
}
