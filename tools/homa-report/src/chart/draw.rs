//! Charts as SVG. Colours are classes, which the page's styles define for light, dark and paper.

use std::fmt::Write;

use maud::{Markup, PreEscaped, html};

use super::{Axis, Chart, Line, Reference, Series};

/// Space around the plot for labels, in units of the picture.
const LEFT: f64 = 76.0;
const RIGHT: f64 = 24.0;
const BOTTOM: f64 = 46.0;
const TITLE: f64 = 22.0;
const LEGEND_ROW: f64 = 20.0;

/// Width of a character of a legend, about, and of what stands before its text.
const CHARACTER: f64 = 7.0;
const KEY: f64 = 48.0;

/// Marks per curve, about.
const MARKS: usize = 9;

/// Styles of a picture without a page.
const STANDALONE: &str = include_str!("standalone.css");

/// Where things are drawn.
struct Frame {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Frame {
    fn x(&self, axis: &Axis, value: f64) -> f64 {
        self.left + (self.right - self.left) * axis.place(value)
    }

    fn y(&self, axis: &Axis, value: f64) -> f64 {
        self.bottom - (self.bottom - self.top) * axis.place(value)
    }
}

impl Chart {
    /// The chart for a page.
    pub(crate) fn svg(&self) -> Markup {
        self.markup(None, "")
    }

    /// The chart as a file of its own, for light backgrounds.
    pub(crate) fn standalone(&self, title: &str) -> String {
        let chart = Chart { title: Some(title.to_owned()), ..self.clone() };
        chart.markup(Some("http://www.w3.org/2000/svg"), STANDALONE).into_string()
    }

    fn markup(&self, namespace: Option<&str>, styles: &str) -> Markup {
        let rows = if self.legend { legend_rows(self) } else { Vec::new() };
        let title = if self.title.is_some() { TITLE } else { 0.0 };
        let frame = Frame {
            left: LEFT,
            top: 8.0 + title + LEGEND_ROW * rows.len() as f64,
            right: self.width - RIGHT,
            bottom: self.height - BOTTOM,
        };
        let (width, height) = (self.width, self.height);
        html! {
            svg xmlns=[namespace] class="chart" viewBox=(format!("0 0 {width} {height}")) width=(width)
                height=(height) role="img" aria-label=(self.description) data-chart=(self.name)
                data-top=(frame.top) data-bottom=(frame.bottom) {
                @if !styles.is_empty() {
                    style { (PreEscaped(styles)) }
                    rect class="paper" width=(width) height=(height) {}
                }
                @if let Some(title) = &self.title { text class="title" x=(LEFT) y="17" { (title) } }
                (legend(&rows, 8.0 + title))
                (axes(self, &frame))
                @for (index, series) in self.series.iter().enumerate() {
                    (curve(self, &frame, series, index.checked_sub(1).map(|below| &self.series[below])))
                }
                @for reference in &self.references { (line(self, &frame, reference)) }
                line class="cursor" x1="0" x2="0" y1=(round(frame.top)) y2=(round(frame.bottom)) visibility="hidden" {}
            }
        }
    }
}

/// An entry of a legend: a transport, or what solid and dashed lines mean.
struct Entry<'a> {
    series: &'a Series,
    /// What clicking hides: the curves of this name, or those of this part.
    hides: (&'static str, &'a str),
    left: f64,
}

fn legend_rows(chart: &Chart) -> Vec<Vec<Entry<'_>>> {
    let mut entries: Vec<(&Series, (&'static str, &str))> = Vec::new();
    for series in &chart.series {
        if !entries.iter().any(|entry| entry.1 == ("name", series.name.as_str())) {
            entries.push((series, ("name", &series.name)));
        }
    }
    for series in chart.series.iter().filter(|series| !series.part.is_empty()) {
        if !entries.iter().any(|entry| entry.1 == ("part", series.part)) {
            entries.push((series, ("part", series.part)));
        }
    }
    let mut rows = vec![Vec::new()];
    let mut left = LEFT;
    for (series, hides) in entries {
        let width = KEY + CHARACTER * hides.1.chars().count() as f64;
        if left + width > chart.width - RIGHT && left > LEFT {
            rows.push(Vec::new());
            left = LEFT;
        }
        // The list has a row from the start.
        if let Some(row) = rows.last_mut() {
            row.push(Entry { series, hides, left });
        }
        left += width;
    }
    rows
}

fn legend(rows: &[Vec<Entry<'_>>], top: f64) -> Markup {
    html! {
        @for (index, row) in rows.iter().enumerate() {
            @let y = top + LEGEND_ROW * index as f64 + 7.0;
            @for Entry { series, hides, left } in row {
                g class="key" data-hides=(hides.0) data-value=(hides.1) {
                    rect class="hit" x=(left - 4.0) y=(y - 10.0) width=(KEY + CHARACTER * hides.1.chars().count() as f64 - 6.0) height="19" rx="4" {}
                    (sample(series, hides.0 == "part", *left, y))
                    text class="legend" x=(left + 32.0) y=(y + 4.0) { (hides.1) }
                }
            }
        }
    }
}

fn sample(series: &Series, part: bool, left: f64, y: f64) -> Markup {
    let class = if part { "neutral" } else { series.class.as_str() };
    let dash = if part && series.line == Line::Dashed { "dashed" } else { "solid" };
    html! {
        @if series.line == Line::Area {
            rect class=(format!("area {class}")) x=(left + 8.0) y=(y - 6.0) width="16" height="12" {}
        } @else {
            @if series.line != Line::Marks { path class=(format!("curve {dash} {class}")) d=(format!("M{left} {y}h26")) {} }
            @if !part { (mark(series, left + 13.0, y)) }
        }
    }
}

fn axes(chart: &Chart, frame: &Frame) -> Markup {
    let (x, y) = (&chart.x, &chart.y);
    let vertical = |at: f64| {
        format!("M{} {}V{}", round(frame.x(x, at)), round(frame.top), round(frame.bottom))
    };
    let horizontal = |at: f64| {
        format!("M{} {}H{}", round(frame.left), round(frame.y(y, at)), round(frame.right))
    };
    let minor: String = x
        .minor
        .iter()
        .map(|at| vertical(*at))
        .chain(y.minor.iter().map(|at| horizontal(*at)))
        .collect();
    let major: String = x
        .ticks
        .iter()
        .map(|tick| vertical(tick.at))
        .chain(y.ticks.iter().map(|tick| horizontal(tick.at)))
        .collect();
    let middle = (frame.top + frame.bottom) / 2.0;
    html! {
        path class="grid minor" d=(minor) {}
        path class="grid" d=(major) {}
        @for tick in &x.ticks {
            text class="tick" x=(round(frame.x(x, tick.at))) y=(round(frame.bottom + 17.0)) text-anchor="middle" { (tick.label) }
        }
        @for tick in &y.ticks {
            text class="tick" x=(round(frame.left - 7.0)) y=(round(frame.y(y, tick.at) + 4.0)) text-anchor="end" { (tick.label) }
        }
        path class="axis" d=(format!("M{} {}V{}H{}", frame.left, frame.top, frame.bottom, frame.right)) {}
        text class="label" x=(round((frame.left + frame.right) / 2.0)) y=(chart.height - 8.0) text-anchor="middle" { (x.label) }
        text class="label" transform=(format!("translate(14 {}) rotate(-90)", round(middle))) text-anchor="middle" { (y.label) }
    }
}

fn curve(chart: &Chart, frame: &Frame, series: &Series, below: Option<&Series>) -> Markup {
    let places: Vec<(f64, f64)> = series
        .points
        .iter()
        .map(|point| (round(frame.x(&chart.x, point.x)), round(frame.y(&chart.y, point.y))))
        .collect();
    let mut path = String::new();
    for (index, (x, y)) in places.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(path, "{}{x} {y}", if index == 0 { "M" } else { "L" });
    }
    if series.line == Line::Area {
        let floor = below.map_or_else(Vec::new, |below| below.points.iter().rev().collect());
        match floor.is_empty() {
            true => {
                if let (Some(first), Some(last)) = (places.first(), places.last()) {
                    let bottom = round(frame.bottom);
                    let _ = write!(path, "L{} {bottom}L{} {bottom}", last.0, first.0);
                }
            }
            false => floor.iter().for_each(|point| {
                let (x, y) = (frame.x(&chart.x, point.x), frame.y(&chart.y, point.y));
                let _ = write!(path, "L{} {}", round(x), round(y));
            }),
        }
        path.push('Z');
    }
    let class = match series.line {
        Line::Solid => format!("curve solid {}", series.class),
        Line::Dashed => format!("curve dashed {}", series.class),
        Line::Area => format!("area {}", series.class),
        Line::Marks => String::new(),
    };
    let every = places.len().div_ceil(MARKS).max(1);
    html! {
        g class="series" data-name=(series.name) data-part=(series.part) data-points=(points(series, &places)) {
            @if series.line != Line::Marks { path class=(class) d=(path) {} }
            @for (x, y) in places.iter().skip(every / 2).step_by(every) { (mark(series, *x, *y)) }
        }
    }
}

/// What the read-out needs: place and words of each point.
fn points(series: &Series, places: &[(f64, f64)]) -> String {
    let all: Vec<(f64, f64, &str)> = series
        .points
        .iter()
        .zip(places)
        .map(|(point, place)| (place.0, place.1, point.text.as_str()))
        .collect();
    // Numbers and strings always have a JSON form.
    serde_json::to_string(&all).unwrap_or_default()
}

/// A transport's mark, told apart by shape too.
fn mark(series: &Series, x: f64, y: f64) -> Markup {
    let Some(number) = series.mark else { return html! {} };
    let path = match number % super::STYLES {
        0 => "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        1 => "m0 -5l5 5l-5 5l-5 -5z",
        2 => "m-3.5 -3.5h7v7h-7z",
        3 => "m0 -4.8l4.6 8h-9.2z",
        4 => "m0 4.8l4.6 -8h-9.2z",
        5 => "m-5 -1.5h3.5v-3.5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5z",
        6 => "m0 -5l4.8 3.5l-1.8 5.5h-6l-1.8 -5.5z",
        _ => "m-5 -2.5h10v5h-10z",
    };
    html! { path class=(format!("mark {}", series.class)) d=(format!("M{x} {y}{path}")) {} }
}

fn line(chart: &Chart, frame: &Frame, reference: &Reference) -> Markup {
    let (path, x, y, anchor) = match reference.vertical {
        true => {
            let x = round(frame.x(&chart.x, reference.at));
            (format!("M{x} {}V{}", frame.top, frame.bottom), x + 5.0, frame.top + 13.0, "start")
        }
        false => {
            let y = round(frame.y(&chart.y, reference.at));
            (format!("M{} {y}H{}", frame.left, frame.right), frame.right - 5.0, y - 5.0, "end")
        }
    };
    html! {
        path class="reference" d=(path) {}
        text class="note" x=(x) y=(y) text-anchor=(anchor) { (reference.label) }
    }
}

/// A tenth of a unit is as fine as anyone can see.
fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
