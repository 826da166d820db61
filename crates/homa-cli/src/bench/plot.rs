//! The picture: slowdown by message size, P50 (dashed) and P99 (solid) of each transport, on logarithmic axes.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use homa_report::png;
use plotters::{element::DashedPathElement, prelude::*};

use super::report::Curve;
use crate::{
    error::CliError,
    transport::Protocol,
    units::{format_number, format_size},
};

const WIDTH: u32 = 900;
const HEIGHT: u32 = 560;

/// Pixels above the chart, for title and legend.
const HEAD: u32 = 76;
const MARGIN: i32 = 16;
const LEGEND_TOP: i32 = 48;
const LEGEND_STEP: i32 = 170;

/// Lengths of the dashes of P50 and of the gaps between them, in pixels.
const DASH: i32 = 8;
const GAP: i32 = 5;

const FONT: &str = "sans-serif";

type Failure = Box<dyn std::error::Error>;

/// Writes `slowdown.svg`, and `slowdown.png` if asked for, to a directory, which is made if needed.
pub(crate) fn write(
    curves: &[Curve],
    title: &str,
    directory: &Path,
    with_png: bool,
) -> Result<Vec<PathBuf>, CliError> {
    let svg_path = directory.join("slowdown.svg");
    let failed = |path: &Path, reason: String| CliError::File {
        action: "write",
        path: path.to_owned(),
        reason,
    };
    let svg = draw(curves, title).map_err(|error| failed(&svg_path, error.to_string()))?;
    fs::create_dir_all(directory).map_err(|error| failed(directory, error.to_string()))?;
    fs::write(&svg_path, &svg).map_err(|error| failed(&svg_path, error.to_string()))?;
    let mut written = vec![svg_path];
    if with_png {
        let png_path = directory.join("slowdown.png");
        let image = png::render(&svg).map_err(|error| failed(&png_path, error.to_string()))?;
        fs::write(&png_path, image).map_err(|error| failed(&png_path, error.to_string()))?;
        written.push(png_path);
    }
    Ok(written)
}

fn draw(curves: &[Curve], title: &str) -> Result<String, Failure> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        area.fill(&WHITE)?;
        let (head, body) = area.split_vertically(HEAD);
        draw_head(&head, curves, title)?;
        let mut chart = ChartBuilder::on(&body)
            .margin(MARGIN)
            .margin_top(4)
            .x_label_area_size(48)
            .y_label_area_size(64)
            .build_cartesian_2d(sizes(curves).log_scale(), slowdowns(curves).log_scale())?;
        chart
            .configure_mesh()
            .x_labels(8)
            .y_labels(10)
            .x_label_formatter(&|size| format_size(size.round() as u64))
            .y_label_formatter(&|slowdown| format_number(*slowdown))
            .x_desc("message size (largest of each class, log scale)")
            .y_desc("slowdown against an idle system (log scale)")
            .label_style((FONT, 14))
            .axis_desc_style((FONT, 15))
            .bold_line_style(BLACK.mix(0.12))
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (curve, percentile) in each(curves) {
            draw_curve(&mut chart, curve, percentile)?;
        }
        area.present()?;
    }
    Ok(svg)
}

/// Sizes on the axis, in bytes: those of the curves with some space beside them, and a power of ten to label.
fn sizes(curves: &[Curve]) -> Range<f64> {
    let all = || curves.iter().flat_map(|curve| &curve.points).map(|point| point.0 as f64);
    let (first, last) = (all().fold(f64::INFINITY, f64::min), all().fold(1.0, f64::max));
    match first < last / 10.0 {
        true => first / 1.4..last * 1.4,
        false => first.min(last) / 4.0..last * 4.0,
    }
}

/// Slowdowns on the axis: whole powers of ten around those of the curves.
fn slowdowns(curves: &[Curve]) -> Range<f64> {
    let all = || each(curves).flat_map(|(curve, percentile)| percentile.points(curve));
    let lowest = all().map(|point| point.1).fold(1.0, f64::min);
    let highest = all().map(|point| point.1).fold(2.0, f64::max);
    10f64.powf(lowest.log10().floor())..10f64.powf(highest.log10().ceil())
}

/// The lines drawn of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Percentile {
    P50,
    P99,
}

impl Percentile {
    /// Size in bytes and slowdown, which is kept above zero for the logarithm.
    fn points(self, curve: &Curve) -> impl Iterator<Item = (f64, f64)> + Clone {
        curve.points.iter().map(move |(size, p50, p99)| {
            let slowdown = if self == Percentile::P50 { *p50 } else { *p99 };
            (*size as f64, slowdown.max(0.01))
        })
    }
}

/// All lines: P99 and P50 of every curve.
fn each(curves: &[Curve]) -> impl Iterator<Item = (&Curve, Percentile)> {
    curves.iter().flat_map(|curve| [(curve, Percentile::P99), (curve, Percentile::P50)])
}

fn style(curve: &Curve, percentile: Percentile) -> ShapeStyle {
    let color = match curve.transport {
        Protocol::Tcp => RGBColor(200, 80, 30),
        Protocol::HomaUdp | Protocol::HomaIp | Protocol::HomaIpTcp => RGBColor(30, 90, 180),
    };
    color.stroke_width(if percentile == Percentile::P99 { 3 } else { 2 })
}

/// Title and legend, above the chart so that they never hide a curve.
fn draw_head(head: &Area<'_>, curves: &[Curve], title: &str) -> Result<(), Failure> {
    head.draw(&Text::new(title.to_owned(), (MARGIN + 64, MARGIN), (FONT, 20)))?;
    for (index, (curve, percentile)) in each(curves).enumerate() {
        let left = MARGIN + 64 + index as i32 * LEGEND_STEP;
        let line = [(left, LEGEND_TOP + 6), (left + 36, LEGEND_TOP + 6)];
        let style = style(curve, percentile);
        match percentile {
            Percentile::P99 => head.draw(&PathElement::new(line, style))?,
            Percentile::P50 => head.draw(&DashedPathElement::new(line, DASH, GAP, style))?,
        }
        let name = format!("{} {percentile:?}", curve.transport.name());
        head.draw(&Text::new(name, (left + 44, LEGEND_TOP), (FONT, 15)))?;
    }
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<LogCoord<f64>, LogCoord<f64>>>;

fn draw_curve(
    chart: &mut Chart<'_, '_>,
    curve: &Curve,
    percentile: Percentile,
) -> Result<(), Failure> {
    let style = style(curve, percentile);
    let points = percentile.points(curve);
    match percentile {
        Percentile::P99 => {
            chart.draw_series(LineSeries::new(points.clone(), style))?;
            chart.draw_series(points.map(|point| Circle::new(point, 4, style.filled())))?;
        }
        Percentile::P50 => {
            chart.draw_series(DashedLineSeries::new(points.clone(), DASH, GAP, style))?;
            chart.draw_series(points.map(|point| Circle::new(point, 3, style.filled())))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curves() -> Vec<Curve> {
        let points = |factor: f64| {
            vec![(64, 1.0, 3.0 * factor), (1_000, 1.5, 9.0 * factor), (1_000_000, 2.0, 4.0)]
        };
        vec![
            Curve { transport: Protocol::Tcp, points: points(10.0) },
            Curve { transport: Protocol::HomaUdp, points: points(1.0) },
        ]
    }

    #[test]
    fn the_picture_names_both_transports_sizes_workload_and_load() {
        let svg = draw(&curves(), "workload w3, load 50 %").unwrap();
        for text in ["tcp P99", "homa-udp P50", "100 B", "1 kB", "1 MB", "workload w3, load 50 %"] {
            assert!(svg.contains(text), "{text} is missing in {svg}");
        }
    }

    #[test]
    fn files_are_written_where_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let deeper = directory.path().join("a/b");
        let files = write(&curves(), "w3", &deeper, true).unwrap();
        assert_eq!(files.len(), 2);
        assert!(fs::read(&files[1]).unwrap().starts_with(b"\x89PNG"));
        let blocked = directory.path().join("file");
        fs::write(&blocked, "x").unwrap();
        assert!(matches!(write(&curves(), "w3", &blocked, false), Err(CliError::File { .. })));
    }

    #[test]
    fn a_single_size_can_be_drawn_too() {
        let one = vec![Curve { transport: Protocol::Tcp, points: vec![(500, 1.0, 1.0)] }];
        let svg = draw(&one, "fixed.csv").unwrap();
        assert!(svg.contains("1 kB"), "no size on the axis: {svg}");
    }

    #[test]
    fn axes_hold_every_point_and_end_at_powers_of_ten() {
        let range = slowdowns(&curves());
        assert!((range.start - 1.0).abs() < 1e-9 && (range.end - 100.0).abs() < 1e-9, "{range:?}");
        let range = sizes(&curves());
        assert!(range.start < 64.0 && range.end > 1e6, "{range:?}");
    }
}
