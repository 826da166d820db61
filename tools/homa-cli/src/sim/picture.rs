//! Slowdown by size, ours beside what was published.

use homa_report::picture::{Curve, SizeClass, slowdown_by_size};
use homa_sim::reproduce::{published::Slowdown, sigcomm18::Row};

use super::point::Done;
use crate::units::format_number;

/// The picture of a workload as SVG; nothing if there is nothing to draw.
pub(super) fn draw(done: &Done<'_>) -> Option<String> {
    let rows = done.rows();
    let curve = |name: &str, of: fn(&Row) -> Option<Slowdown>| Curve {
        name: name.to_owned(),
        points: rows.iter().filter_map(|row| Some(class(row, of(row)?))).collect(),
    };
    let curves = [
        curve("homa", |row| Some(row.slowdown)),
        curve("homa, as published", |row| row.class.published),
    ];
    let run = &done.point.run;
    let title = format!(
        "{}, {} simulated hosts, load {} %",
        done.point.file_name().to_uppercase(),
        run.topology.hosts(),
        format_number(100.0 * run.load)
    );
    slowdown_by_size(&title, &curves)
}

fn class(row: &Row, slowdown: Slowdown) -> SizeClass {
    SizeClass { size_bytes: row.class.message_bytes.into(), p50: slowdown.p50, p99: slowdown.p99 }
}
