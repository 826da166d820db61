//! The document of a benchmark: rows of medians, and ratios between the transports.

use homa_bench::{files::SCHEMA, machine::Provenance};
use homa_report::picture::{Curve, SizeClass};
use serde::{Serialize, Serializer};

use super::{
    args::BenchTest,
    job::{Outcome, Slowdown},
    machine::Machine,
    plan::Case,
    rounds::CaseResults,
    stats::{Spread, median},
};
use crate::transport::{Api, Protocol, ReceiveBuffer, TcpWrites, Wait};

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Layout of the document.
    pub schema: u32,
    /// When, where and by which program.
    #[serde(flatten)]
    pub provenance: Provenance,
    /// The machine.
    pub machine: Machine,
    /// A row per case and transport; of the mixed test also one per class of sizes.
    pub rows: Vec<Row>,
    /// Homa against TCP, per case and figure.
    pub ratios: Vec<Ratio>,
    /// What failed and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
}

/// Which measurement a row or ratio is about.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Key {
    /// Kind of measurement.
    pub test: BenchTest,
    /// What waiting threads did.
    pub wait: Wait,
    /// Programming interface.
    pub api: Api,
    /// Length of the requests, of the mixed test the longest of a class; absent for all classes
    /// together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Receive buffers; absent where they are as large as the transport likes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rcvbuf: Option<ReceiveBuffer>,
    /// How the TCP of this measurement writes (rate); elsewhere it gathers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_writes: Option<TcpWrites>,
    /// False where Homa sleeps at once instead of waiting in its default way; absent elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spin: Option<bool>,
}

/// What was found of a case over a transport.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// What was measured.
    #[serde(flatten)]
    pub key: Key,
    /// Over which transport.
    pub transport: Protocol,
    /// Calls under way at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outstanding: Option<u32>,
    /// TCP connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conns: Option<u32>,
    /// Rounds the medians are of.
    pub rounds: usize,
    /// Medians over the rounds.
    #[serde(flatten)]
    pub figures: Figures,
    /// Calls per second that were offered (mixed).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offered_rpc_per_s: Option<f64>,
    /// Calls of all rounds that had not ended when the measurement did (mixed).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<u64>,
}

/// The figures of a row, by name; those without meaning are not there.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Figures(Vec<(&'static str, f64)>);

impl Figures {
    /// The figure of this name.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}

impl Serialize for Figures {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().copied())
    }
}

/// Homa's figure divided by that of TCP in the same round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Ratio {
    /// What was measured.
    #[serde(flatten)]
    pub key: Key,
    /// Which figure, by its name in a row.
    pub metric: &'static str,
    /// Median over the rounds.
    pub homa_over_tcp: f64,
    /// Smallest of a round.
    pub min: f64,
    /// Largest of a round.
    pub max: f64,
    /// Which transport has the better figure by the median: `homa`, `tcp`, or `even` if they differ
    /// by less than half a percent.
    pub better: &'static str,
}

/// A figure of an outcome, by its name in a row.
type Metric = (&'static str, fn(&Outcome) -> f64);

const CPU: Metric = ("cpu_us_per_rpc", Outcome::cpu_us_per_rpc);
const RATE: Metric = ("rpc_per_s", Outcome::rpc_per_s);
const GOODPUT: Metric = ("gbit_per_s", Outcome::gbit_per_s);
const P50: Metric = ("p50_us", |outcome| outcome.p50_us);
const P99: Metric = ("p99_us", |outcome| outcome.p99_us);
const P999: Metric = ("p999_us", |outcome| outcome.p999_us);
const SLOWDOWN_P50: Metric =
    ("slowdown_p50", |outcome| outcome.slowdown.as_ref().map_or(f64::NAN, |s| s.p50));
const SLOWDOWN_P99: Metric =
    ("slowdown_p99", |outcome| outcome.slowdown.as_ref().map_or(f64::NAN, |s| s.p99));

/// Ratios closer to 1 than this favour nobody.
const EVEN: f64 = 0.005;

/// The figures that mean something in a test.
fn metrics(test: BenchTest) -> &'static [Metric] {
    match test {
        BenchTest::Latency => &[P50, P99, P999, CPU],
        BenchTest::Rate => &[RATE, P50, P99, P999, CPU],
        BenchTest::Goodput => &[GOODPUT, RATE, P50, P99, CPU],
        BenchTest::Mixed => &[RATE, GOODPUT, P50, P99, P999, CPU, SLOWDOWN_P50, SLOWDOWN_P99],
    }
}

impl Report {
    /// Makes the document of what has been measured.
    pub(crate) fn new(machine: Machine, results: &[CaseResults], failures: &[String]) -> Self {
        let rows = results.iter().flat_map(rows).collect();
        let mut ratios = Vec::new();
        for tcp in results.iter().filter(|results| results.protocol == Protocol::Tcp) {
            let homa = results
                .iter()
                .find(|other| other.protocol != Protocol::Tcp && other.case == tcp.case);
            if let Some(homa) = homa {
                add_ratios(homa, tcp, &mut ratios);
            }
        }
        let (schema, provenance) = (SCHEMA, Provenance::now());
        Report { schema, provenance, machine, rows, ratios, failures: failures.to_vec() }
    }

    /// The slowdown by size, for the picture.
    pub(crate) fn curves(&self) -> Vec<Curve> {
        let mut curves: Vec<Curve> = Vec::new();
        for row in self.rows.iter().filter(|row| row.key.test == BenchTest::Mixed) {
            let figures = &row.figures;
            let (Some(size_bytes), Some(p50), Some(p99)) =
                (row.key.size_bytes, figures.get("slowdown_p50"), figures.get("slowdown_p99"))
            else {
                continue;
            };
            let (name, class) = (row.transport.name(), SizeClass { size_bytes, p50, p99 });
            match curves.iter_mut().find(|curve| curve.name == name) {
                Some(curve) => curve.points.push(class),
                None => curves.push(Curve { name: name.to_owned(), points: vec![class] }),
            }
        }
        curves
    }
}

fn key(case: &Case, size_bytes: Option<u64>) -> Key {
    let rcvbuf = (case.receive_buffer != ReceiveBuffer::Large).then_some(case.receive_buffer);
    Key {
        test: case.test,
        wait: case.wait,
        api: case.api,
        size_bytes,
        rcvbuf,
        tcp_writes: (case.test == BenchTest::Rate).then_some(case.tcp_writes),
        spin: (!case.spin).then_some(false),
    }
}

/// The row of a case, followed by those of its classes.
fn rows(results: &CaseResults) -> Vec<Row> {
    let case = &results.case;
    let rounds = results.done().count();
    if rounds == 0 {
        return Vec::new();
    }
    let row = |size_bytes, figures| Row {
        key: key(case, size_bytes),
        transport: results.protocol,
        outstanding: case.outstanding,
        conns: (results.protocol == Protocol::Tcp).then_some(case.connections),
        rounds,
        figures: Figures(figures),
        offered_rpc_per_s: None,
        unfinished: None,
    };
    let mixed = case.test == BenchTest::Mixed;
    let unfinished = || results.done().map(|outcome| outcome.unfinished).sum();
    let mut rows = vec![Row {
        offered_rpc_per_s: results.offered_rpc_per_s.map(rounded),
        unfinished: mixed.then(unfinished),
        ..row(case.size_bytes, figures(results))
    }];
    let classes = results.done().next().map_or(&[][..], |first| &first.classes);
    for (index, class) in classes.iter().enumerate() {
        rows.push(row(Some(class.size_bytes), class_figures(results, index)));
    }
    rows
}

fn figures(results: &CaseResults) -> Vec<(&'static str, f64)> {
    let value =
        |(name, metric): &Metric| Some((*name, rounded(median(results.done().map(metric))?)));
    metrics(results.case.test).iter().filter_map(value).collect()
}

fn class_figures(results: &CaseResults, index: usize) -> Vec<(&'static str, f64)> {
    let value = |(name, metric): (&'static str, fn(&Slowdown) -> f64)| {
        let classes = results.done().filter_map(|outcome| outcome.classes.get(index));
        let median = median(classes.filter(|class| class.count > 0).map(metric))?;
        Some((name, rounded(median)))
    };
    let p50: fn(&Slowdown) -> f64 = |class| class.p50;
    [(SLOWDOWN_P50.0, p50), (SLOWDOWN_P99.0, |class| class.p99)]
        .into_iter()
        .filter_map(value)
        .collect()
}

fn add_ratios(homa: &CaseResults, tcp: &CaseResults, ratios: &mut Vec<Ratio>) {
    let case = &tcp.case;
    let rounds = || homa.outcomes.iter().flatten().zip(tcp.outcomes.iter().flatten());
    let mut add = |size_bytes, metric, values: Vec<f64>| {
        if let Some(Spread { median, min, max }) = Spread::of(values) {
            let (homa_over_tcp, min, max) = (rounded(median), rounded(min), rounded(max));
            let (key, better) = (key(case, size_bytes), better(metric, median));
            ratios.push(Ratio { key, metric, homa_over_tcp, min, max, better });
        }
    };
    for (name, metric) in metrics(case.test) {
        add(
            case.size_bytes,
            name,
            rounds().map(|(homa, tcp)| metric(homa) / metric(tcp)).collect(),
        );
    }
    let Some((first, _)) = rounds().next() else {
        return;
    };
    for (index, class) in first.classes.iter().enumerate() {
        let both = || {
            rounds()
                .filter_map(|(homa, tcp)| Some((homa.classes.get(index)?, tcp.classes.get(index)?)))
        };
        let size = Some(class.size_bytes);
        add(size, "slowdown_p50", both().map(|(homa, tcp)| homa.p50 / tcp.p50).collect());
        add(size, "slowdown_p99", both().map(|(homa, tcp)| homa.p99 / tcp.p99).collect());
    }
}

/// Who is better at this ratio of Homa to TCP: more is better of calls and bytes per second, less
/// of times.
fn better(metric: &str, homa_over_tcp: f64) -> &'static str {
    let more_is_better = [RATE.0, GOODPUT.0].contains(&metric);
    if homa_over_tcp.is_nan() || (homa_over_tcp - 1.0).abs() < EVEN {
        "even"
    } else if (homa_over_tcp > 1.0) == more_is_better {
        "homa"
    } else {
        Protocol::Tcp.name()
    }
}

/// Four significant digits: more would pretend a precision that no measurement has.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = 3 - value.abs().log10().floor() as i32;
    match digits > 0 {
        true => {
            let scale = 10f64.powi(digits);
            (value * scale).round() / scale
        }
        false => value.round(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bench::pin::Cores;

    fn case(test: BenchTest) -> Case {
        Case {
            test,
            api: Api::Event,
            wait: Wait::Sleep,
            size_bytes: (test != BenchTest::Mixed).then_some(100),
            reply_bytes: None,
            outstanding: (test == BenchTest::Rate).then_some(64),
            connections: 1,
            receive_buffer: ReceiveBuffer::Large,
            tcp_writes: TcpWrites::Each,
            spin: true,
            secs: 1.0,
        }
    }

    fn results(test: BenchTest, protocol: Protocol, times_us: &[f64]) -> CaseResults {
        let slowdown = |p50| Slowdown { size_bytes: 50, count: 10, p50, p99: 2.0 * p50 };
        let outcome = |time_us: &f64| {
            Some(Outcome {
                calls: 1_000,
                secs: 1.0,
                payload_bytes: 1_000_000,
                cpu_ns: 5_000_000,
                p50_us: *time_us,
                p99_us: 2.0 * time_us,
                p999_us: 3.0 * time_us,
                slowdown: (test == BenchTest::Mixed).then(|| slowdown(*time_us)),
                classes: if test == BenchTest::Mixed {
                    vec![slowdown(*time_us)]
                } else {
                    Vec::new()
                },
                ..Outcome::default()
            })
        };
        CaseResults {
            case: case(test),
            protocol,
            outcomes: times_us.iter().map(outcome).collect(),
            offered_rpc_per_s: None,
        }
    }

    /// A report of invented figures.
    pub(crate) fn sample() -> Report {
        let all = [
            results(BenchTest::Rate, Protocol::Tcp, &[10.0, 20.0, 30.0]),
            results(BenchTest::Rate, Protocol::HomaUdp, &[5.0, 16.0, 30.0]),
            results(BenchTest::Mixed, Protocol::Tcp, &[4.0]),
            results(BenchTest::Mixed, Protocol::HomaUdp, &[2.0]),
        ];
        Report::new(Machine::look(Cores::default(), "cubic"), &all, &[])
    }

    #[test]
    fn ratios_are_taken_round_by_round_before_the_median() {
        let report = sample();
        let ratio = report.ratios.iter().find(|ratio| ratio.metric == "p50_us").unwrap();
        assert_eq!((ratio.homa_over_tcp, ratio.min, ratio.max), (0.8, 0.5, 1.0));
    }

    #[test]
    fn the_document_has_the_fields_that_scripts_rely_on() {
        let document = serde_json::to_value(sample()).unwrap();
        assert!(document["machine"]["cores"].as_u64().unwrap() > 0);
        let row = &document["rows"][0];
        for (field, value) in [("test", "rate"), ("transport", "tcp"), ("wait", "sleep")] {
            assert_eq!(row[field], value);
        }
        for field in ["size_bytes", "outstanding", "conns", "rounds", "p50_us", "p99_us", "p999_us"]
        {
            assert!(row[field].is_number(), "{field} in {row}");
        }
        for field in ["rpc_per_s", "cpu_us_per_rpc"] {
            assert!(row[field].is_number(), "{field} in {row}");
        }
        assert!(row.get("slowdown_p50").is_none(), "a rate has no slowdown: {row}");
        assert_eq!(document["rows"][1]["transport"], "homa-udp");
        let ratio = &document["ratios"][0];
        for field in ["size_bytes", "homa_over_tcp", "min", "max"] {
            assert!(ratio[field].is_number(), "{field} in {ratio}");
        }
        assert!(
            ratio["metric"].is_string() && ratio["test"].is_string() && ratio["wait"].is_string()
        );
    }

    #[test]
    fn rows_tell_how_tcp_wrote_and_who_did_not_spin_only_where_it_matters() {
        let row = |change: fn(&mut Case)| {
            let mut case = case(BenchTest::Rate);
            change(&mut case);
            serde_json::to_value(key(&case, None)).unwrap()
        };
        assert_eq!(row(|_| {})["tcp_writes"], "each");
        assert_eq!(row(|case| case.tcp_writes = TcpWrites::Gathered)["tcp_writes"], "gathered");
        assert!(row(|_| {}).get("spin").is_none());
        assert_eq!(row(|case| case.spin = false)["spin"], false);
        assert!(row(|case| case.test = BenchTest::Goodput).get("tcp_writes").is_none());
    }

    #[test]
    fn the_better_one_has_the_shorter_time_or_the_higher_rate() {
        assert_eq!(better("p50_us", 0.8), "homa");
        assert_eq!(better("p50_us", 1.2), "tcp");
        assert_eq!(better("rpc_per_s", 1.2), "homa");
        assert_eq!(better("gbit_per_s", 0.8), "tcp");
        assert_eq!(better("slowdown_p99", 1.004), "even");
        assert_eq!(better("p50_us", f64::NAN), "even");
        let document = serde_json::to_value(sample()).unwrap();
        assert_eq!(document["ratios"][0]["better"], "even");
    }

    #[test]
    fn classes_of_the_mixed_test_become_rows_and_curves() {
        let report = sample();
        let curves = report.curves();
        assert_eq!(curves.len(), 2);
        assert_eq!(curves[0].points, [SizeClass { size_bytes: 50, p50: 4.0, p99: 8.0 }]);
        let of_class: Vec<_> =
            report.ratios.iter().filter(|ratio| ratio.key.size_bytes == Some(50)).collect();
        assert_eq!(of_class.len(), 2);
        assert_eq!(of_class[0].homa_over_tcp, 0.5);
    }

    #[test]
    fn figures_are_rounded_to_four_digits() {
        assert_eq!(rounded(123_456.7), 123_457.0);
        assert_eq!(rounded(12.345678), 12.35);
        assert_eq!(rounded(0.000123456), 0.0001235);
        assert_eq!(rounded(0.0), 0.0);
    }
}
