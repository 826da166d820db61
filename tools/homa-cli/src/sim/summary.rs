//! A figure per workload and transport, beside the published ones of it, of Homa and of the oracle.

use std::fmt::Write;

use homa_report::table::table;
use homa_sim::{
    reproduce::{
        published::{self, Class, Slowdown},
        sigcomm18::{Row, rows},
    },
    transport::Choice,
};
use serde::Serialize;

use super::point::Done;

/// The P99 of a workload: the mean over the published rows of sizes, weighted by their shares.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    workload: String,
    transport: &'static str,
    /// Measured as the published one.
    p99: f64,
    /// Of the messages of all hosts together.
    p99_pooled: f64,
    /// What was published of the transport.
    p99_published: Option<f64>,
    /// What was published of Homa.
    p99_published_homa: Option<f64>,
    /// That of the oracle: simulated, where it was, otherwise published.
    p99_oracle: Option<f64>,
}

/// A line per point.
pub(super) fn summary(done: &[Done<'_>]) -> Vec<Summary> {
    let line = |point: &Done<'_>| {
        let published = |transport| {
            published_p99(&published::sigcomm18(transport, &point.point.name, point.point.run.load))
        };
        let transport = point.point.run.transport.name();
        let is_oracle = |other: &&Done<'_>| {
            other.point.name == point.point.name
                && matches!(other.point.run.transport, Choice::Oracle)
        };
        let oracle = done.iter().find(is_oracle).and_then(|done| p99(done, |row| row.pooled));
        Some(Summary {
            workload: point.point.name.clone(),
            transport,
            p99: p99(point, |row| row.slowdown)?,
            p99_pooled: p99(point, |row| row.pooled)?,
            p99_published: published(transport),
            p99_published_homa: published("homa"),
            p99_oracle: oracle.or_else(|| published(Choice::Oracle.name())),
        })
    };
    done.iter().filter_map(line).collect()
}

/// As a table; nothing where no figure is to be compared with.
pub(super) fn render(summary: &[Summary]) -> String {
    if summary.iter().all(|line| line.p99_oracle.is_none()) {
        return String::new();
    }
    let header =
        ["", "", "P99", "published", "homa, published", "pooled", "oracle", "pooled / oracle"];
    let figure =
        |figure: Option<f64>| figure.map_or(String::new(), |figure| format!("{figure:.2}"));
    let cells = |line: &Summary| {
        let figures = [
            Some(line.p99),
            line.p99_published,
            line.p99_published_homa,
            Some(line.p99_pooled),
            line.p99_oracle,
            line.p99_oracle.map(|oracle| line.p99_pooled / oracle),
        ];
        [line.workload.clone(), line.transport.to_owned()]
            .into_iter()
            .chain(figures.map(figure))
            .collect()
    };
    let rows = summary.iter().map(cells).collect();
    let mut text = String::new();
    // A `String` takes everything.
    let _ = writeln!(
        text,
        "\nMean of the P99 over all published sizes, by their shares of the messages\n"
    );
    text.push_str(&table(header.map(str::to_owned).to_vec(), rows, &[]));
    text
}

fn p99(done: &Done<'_>, of: fn(&Row) -> Slowdown) -> Option<f64> {
    let rows = rows(&done.outcome.samples, &done.point.classes);
    mean(rows.iter().map(|row| Some((row.class.count_percent, of(row).p99))))
}

fn published_p99(classes: &[Class]) -> Option<f64> {
    mean(classes.iter().map(|class| Some((class.count_percent, class.published?.p99))))
}

/// The mean of figures with weights; none if one is missing, or all.
fn mean(figures: impl Iterator<Item = Option<(f64, f64)>>) -> Option<f64> {
    let (mut weights, mut sum) = (0.0, 0.0);
    for figure in figures {
        let (weight, value) = figure?;
        weights += weight;
        sum += weight * value;
    }
    (weights > 0.0).then(|| sum / weights)
}
