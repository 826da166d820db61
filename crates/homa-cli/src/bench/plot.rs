//! The picture: slowdown by message size, P50 and P99 of each transport.

use std::{
    fs,
    path::{Path, PathBuf},
};

use plotters::prelude::*;
use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg,
};

use super::report::Curve;
use crate::{error::CliError, transport::Protocol, units::format_size};

const WIDTH: u32 = 900;
const HEIGHT: u32 = 560;

/// Pixels per unit of the SVG in a PNG.
const PNG_SCALE: f32 = 2.0;

type Failure = Box<dyn std::error::Error>;

/// Writes `slowdown.svg`, and `slowdown.png` if asked for, to a directory, which is made if needed.
pub(crate) fn write(
    curves: &[Curve],
    workload: &str,
    directory: &Path,
    png: bool,
) -> Result<Vec<PathBuf>, CliError> {
    let svg_path = directory.join("slowdown.svg");
    let failed = |path: &Path, reason: String| CliError::File {
        action: "write",
        path: path.to_owned(),
        reason,
    };
    let svg = draw(curves, workload).map_err(|error| failed(&svg_path, error.to_string()))?;
    fs::create_dir_all(directory).map_err(|error| failed(directory, error.to_string()))?;
    fs::write(&svg_path, &svg).map_err(|error| failed(&svg_path, error.to_string()))?;
    let mut written = vec![svg_path];
    if png {
        let png_path = directory.join("slowdown.png");
        let image = rasterize(&svg).map_err(|error| failed(&png_path, error.to_string()))?;
        fs::write(&png_path, image).map_err(|error| failed(&png_path, error.to_string()))?;
        written.push(png_path);
    }
    Ok(written)
}

fn draw(curves: &[Curve], workload: &str) -> Result<String, Failure> {
    let sizes: Vec<u64> =
        curves.first().map_or(Vec::new(), |curve| curve.points.iter().map(|p| p.0).collect());
    let highest =
        curves.iter().flat_map(|curve| &curve.points).map(|point| point.2).fold(2.0, f64::max);
    let lowest =
        curves.iter().flat_map(|curve| &curve.points).map(|point| point.1).fold(1.0, f64::min);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        area.fill(&WHITE)?;
        let last = sizes.len().saturating_sub(1).max(1) as f64;
        let lowest = lowest.max(0.01) * 0.9;
        // The upper quarter stays free for the legend.
        let vertical = (lowest..highest * (highest / lowest).powf(0.35)).log_scale();
        let mut chart = ChartBuilder::on(&area)
            .caption(format!("Slowdown by message size, workload {workload}"), ("sans-serif", 22))
            .margin(16)
            .x_label_area_size(48)
            .y_label_area_size(64)
            .build_cartesian_2d(-0.3..last + 0.3, vertical)?;
        let label = |x: &f64| size_label(&sizes, *x);
        chart
            .configure_mesh()
            .x_labels(sizes.len().max(2))
            .x_label_formatter(&label)
            .y_label_formatter(&|y| format!("{y}"))
            .x_desc("longest message of each tenth of all messages")
            .y_desc("slowdown")
            .label_style(("sans-serif", 14))
            .light_line_style(WHITE.mix(0.0))
            .draw()?;
        for curve in curves {
            draw_curve(&mut chart, curve)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK)
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}

type Chart<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, LogCoord<f64>>,
>;

fn draw_curve(chart: &mut Chart<'_, '_>, curve: &Curve) -> Result<(), Failure> {
    let color = match curve.transport {
        Protocol::Tcp => RGBColor(200, 80, 30),
        Protocol::HomaUdp => RGBColor(30, 90, 180),
    };
    for (name, filled) in [("P50", false), ("P99", true)] {
        let value = |point: &(u64, f64, f64)| if filled { point.2 } else { point.1 };
        let points: Vec<(f64, f64)> = curve
            .points
            .iter()
            .enumerate()
            .map(|(x, point)| (x as f64, value(point).max(0.01)))
            .collect();
        let style = if filled { color.stroke_width(3) } else { color.mix(0.6).stroke_width(2) };
        let mark = ShapeStyle { filled, ..style };
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style))?
            .label(format!("{} {name}", curve.transport.name()))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, mark)))?;
    }
    Ok(())
}

/// Labels stand at the classes, which have whole numbers.
fn size_label(sizes: &[u64], x: f64) -> String {
    let index = x.round();
    if (x - index).abs() > 0.01 || index < 0.0 {
        return String::new();
    }
    sizes.get(index as usize).map_or(String::new(), |size| format_size(*size))
}

/// A PNG of the picture, with a font that comes with this program.
fn rasterize(svg: &str) -> Result<Vec<u8>, Failure> {
    let mut options = usvg::Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    let family =
        fonts.faces().next().and_then(|face| face.families.first()).map(|family| family.0.clone());
    if let Some(family) = family {
        fonts.set_sans_serif_family(family);
    }
    let tree = usvg::Tree::from_str(svg, &options)?;
    let size = tree.size();
    let (width, height) = ((size.width() * PNG_SCALE) as u32, (size.height() * PNG_SCALE) as u32);
    let mut pixmap = Pixmap::new(width, height).ok_or("picture without area")?;
    resvg::render(&tree, Transform::from_scale(PNG_SCALE, PNG_SCALE), &mut pixmap.as_mut());
    Ok(pixmap.encode_png()?)
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
    fn the_picture_names_both_transports_and_every_size() {
        let svg = draw(&curves(), "w3").unwrap();
        for text in ["tcp P99", "homa-udp P50", "64 B", "1 kB", "1 MB", "workload w3"] {
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
        assert!(draw(&one, "fixed.csv").is_ok());
    }
}
