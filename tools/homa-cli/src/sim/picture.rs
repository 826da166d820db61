//! Slowdown by size, ours beside what was published.

use homa_report::picture::{Curve, SizeClass, slowdown_by_size};
use homa_sim::{
    reproduce::{
        published::{self, Class, Slowdown},
        sigcomm18::gather,
    },
    transport::Choice,
};

use super::point::{Done, ROW_PERCENT_MIN};
use crate::units::format_number;

/// The picture of a workload as SVG; nothing if there is nothing to draw. A transport alone stands
/// beside its published curve; all stand beside those of Homa and of the oracle.
pub(super) fn draw(done: &[Done<'_>]) -> Option<String> {
    let point = done.first()?.point;
    let simulated: Vec<_> = done.iter().map(|done| done.point.run.transport.name()).collect();
    let mut curves: Vec<_> = done.iter().map(ours).collect();
    let alone = simulated.iter().filter(|_| simulated.len() == 1);
    let mut beside: Vec<_> = alone.copied().chain(["homa", Choice::Oracle.name()]).collect();
    beside.dedup();
    curves.extend(beside.into_iter().map(|transport| {
        let classes = published::sigcomm18(transport, &point.name, point.run.load);
        let published = |class: &Class| Some(size_class(class, class.published?));
        Curve {
            name: format!("{transport}, as published"),
            points: gather(&classes, ROW_PERCENT_MIN).iter().filter_map(published).collect(),
        }
    }));
    let run = &point.run;
    let title = format!(
        "{}, {} simulated hosts, load {} %",
        point.file_name().to_uppercase(),
        run.topology.hosts(),
        format_number(100.0 * run.load)
    );
    slowdown_by_size(&title, &curves)
}

fn ours(done: &Done<'_>) -> Curve {
    let points = done.rows().iter().map(|row| size_class(&row.class, row.slowdown)).collect();
    Curve { name: done.point.run.transport.name().to_owned(), points }
}

fn size_class(class: &Class, slowdown: Slowdown) -> SizeClass {
    SizeClass { size_bytes: class.message_bytes.into(), p50: slowdown.p50, p99: slowdown.p99 }
}
