//! The figures of a benchmark: what they are called, what they mean, and where they are shown.

use super::{
    args::BenchTest,
    job::{Outcome, Slowdown},
};

/// A figure.
#[derive(Debug)]
pub(crate) struct Figure {
    /// Its name in a document.
    pub name: &'static str,
    /// Its title in a table.
    pub title: &'static str,
    /// Whether more of it is better.
    pub more_is_better: bool,
    /// Its value in an outcome, or in the class of sizes of this index; none where there was no
    /// call.
    pub of: fn(&Outcome, Option<usize>) -> Option<f64>,
}

const RATE: Figure = more("rpc_per_s", "RPC/s", |outcome, _| Some(outcome.rpc_per_s()));
const GOODPUT: Figure = more("gbit_per_s", "Gbit/s", |outcome, _| Some(outcome.gbit_per_s()));
const P50: Figure = less("p50_us", "P50 µs", |outcome, _| Some(outcome.p50_us));
const P99: Figure = less("p99_us", "P99 µs", |outcome, _| Some(outcome.p99_us));
const P999: Figure = less("p999_us", "P99.9 µs", |outcome, _| Some(outcome.p999_us));
const CPU: Figure =
    less("cpu_us_per_rpc", "CPU µs/RPC", |outcome, _| Some(outcome.cpu_us_per_rpc()));
const CPU_MB: Figure =
    less("cpu_us_per_mb", "CPU µs/MB", |outcome, _| Some(outcome.cpu_us_per_mb()));
const SLOWDOWN_P50: Figure = less("slowdown_p50", "slowdown P50", |outcome, class| {
    slowdown(outcome, class).map(|slowdown| slowdown.p50)
});
const SLOWDOWN_P99: Figure = less("slowdown_p99", "slowdown P99", |outcome, class| {
    slowdown(outcome, class).map(|slowdown| slowdown.p99)
});

type Value = fn(&Outcome, Option<usize>) -> Option<f64>;

const fn more(name: &'static str, title: &'static str, of: Value) -> Figure {
    Figure { name, title, more_is_better: true, of }
}

const fn less(name: &'static str, title: &'static str, of: Value) -> Figure {
    Figure { more_is_better: false, ..more(name, title, of) }
}

fn slowdown(outcome: &Outcome, class: Option<usize>) -> Option<&Slowdown> {
    let found = match class {
        Some(class) => outcome.classes.get(class),
        None => outcome.slowdown.as_ref(),
    };
    found.filter(|slowdown| slowdown.count > 0)
}

/// The figures of a test, or of one class of its sizes, that tables show, and those that documents
/// have besides.
fn known(test: BenchTest, is_class: bool) -> [&'static [Figure]; 2] {
    match test {
        _ if is_class => [&[SLOWDOWN_P50, SLOWDOWN_P99], &[]],
        BenchTest::Compare => [&[RATE, GOODPUT, CPU, CPU_MB], &[P50, P99, P999]],
        BenchTest::Latency => [&[P50, P99, CPU, CPU_MB], &[P999]],
        BenchTest::Rate => [&[RATE, CPU, CPU_MB], &[P50, P99, P999]],
        BenchTest::Goodput => [&[GOODPUT, CPU, CPU_MB], &[RATE, P50, P99]],
        BenchTest::Mixed => {
            [&[RATE, CPU, CPU_MB, SLOWDOWN_P50, SLOWDOWN_P99], &[GOODPUT, P50, P99, P999]]
        }
    }
}

/// The figures that mean something there.
pub(crate) fn figures(test: BenchTest, is_class: bool) -> impl Iterator<Item = &'static Figure> {
    known(test, is_class).into_iter().flatten()
}

/// Those of them that a table shows.
pub(crate) fn shown(test: BenchTest, is_class: bool) -> impl Iterator<Item = &'static Figure> {
    known(test, is_class)[0].iter()
}
