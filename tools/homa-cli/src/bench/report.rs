//! The document of a benchmark: rows of medians, and ratios between the transports.

use std::{collections::BTreeMap, iter};

use homa_bench::{files::SCHEMA, machine::Provenance};
use homa_report::{
    picture::{Curve, SizeClass},
    stats::median,
};
use serde::Serialize;

use super::{
    args::BenchTest,
    distance::Distance,
    figure::{Figure, figures},
    machine::Machine,
    plan::Case,
    rounds::CaseResults,
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
    /// Homa against each transport that programs use (compare), per figure.
    pub compared: Vec<Compared>,
    /// Homa against TCP, per case and figure of the other tests.
    pub ratios: Vec<Ratio>,
    /// Why QUIC and gRPC are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_measured: Option<String>,
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
    /// Calls under way at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outstanding: Option<u32>,
    /// Tasks that make them (compare).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u32>,
    /// How far apart the cores were in the rounds of this row; absent where they were not pinned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<Distance>,
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
    /// Connections of the client; Homa has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conns: Option<usize>,
    /// Rounds the medians are of.
    pub rounds: usize,
    /// Medians over the rounds, by name; those without meaning are not there.
    #[serde(flatten)]
    pub figures: BTreeMap<&'static str, f64>,
    /// Calls per second that were offered (mixed).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offered_rpc_per_s: Option<f64>,
    /// Calls of all rounds that had not ended when the measurement did (mixed).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<u64>,
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

/// Homa's figure divided by that of another transport in the same round, both through the same kind
/// of interface.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Compared {
    /// What was measured.
    #[serde(flatten)]
    pub key: Key,
    /// The other transport.
    pub with: Protocol,
    /// Which figure, by its name in a row.
    pub metric: &'static str,
    /// Median over the rounds.
    pub homa_over_other: f64,
    /// Smallest of a round.
    pub min: f64,
    /// Largest of a round.
    pub max: f64,
    /// Which has the better figure by the median: `homa`, the other's name, or `even`.
    pub better: &'static str,
}

/// Ratios closer to 1 than this favour nobody.
const EVEN: f64 = 0.005;

impl Report {
    /// Makes the document of what has been measured.
    pub(crate) fn new(machine: Machine, results: &[CaseResults], failures: &[String]) -> Self {
        let mut report = Report {
            schema: SCHEMA,
            provenance: Provenance::now(),
            machine,
            rows: Vec::new(),
            compared: Vec::new(),
            ratios: Vec::new(),
            not_measured: None,
            failures: failures.to_vec(),
        };
        let distances = report.machine.cores_distance.clone().unwrap_or_default();
        let states = distances.states().into_iter().map(Some).collect::<Vec<_>>();
        // Where nothing is known of the cores, all rounds are alike.
        for state in if states.is_empty() { vec![None] } else { states } {
            let of_state = |all: &CaseResults| all.of_rounds(|at| distances.of_round(at) == state);
            report.add(&results.iter().map(of_state).collect::<Vec<_>>(), state);
        }
        report
    }

    /// Adds what was measured while the cores were there.
    fn add(&mut self, results: &[CaseResults], cores: Option<Distance>) {
        self.rows.extend(results.iter().flat_map(|results| rows(results, cores)));
        let other = results.iter().filter(|results| !results.protocol.is_homa());
        for other in other {
            let is_partner = |homa: &&CaseResults| homa.protocol.is_homa() && homa.is_beside(other);
            let Some(homa) = results.iter().find(is_partner) else { continue };
            match other.case.test {
                BenchTest::Compare => self.compared.extend(quotients(homa, other, cores).map(
                    |Quotient { key, figure, median, min, max }| Compared {
                        with: other.protocol,
                        metric: figure.name,
                        homa_over_other: rounded(median),
                        min: rounded(min),
                        max: rounded(max),
                        better: better(figure, median, other.protocol),
                        key,
                    },
                )),
                _ => self.ratios.extend(quotients(homa, other, cores).map(
                    |Quotient { key, figure, median, min, max }| Ratio {
                        metric: figure.name,
                        homa_over_tcp: rounded(median),
                        min: rounded(min),
                        max: rounded(max),
                        better: better(figure, median, other.protocol),
                        key,
                    },
                )),
            }
        }
    }

    /// The slowdown by size, for the picture.
    pub(crate) fn curves(&self) -> Vec<Curve> {
        let mut curves: Vec<Curve> = Vec::new();
        let classes = || self.rows.iter().filter(|row| row.key.is_class());
        // A picture shows one state of the machine: that of the most rounds.
        let most = classes().max_by_key(|row| row.rounds).and_then(|row| row.key.cores);
        for row in classes().filter(|row| row.key.cores == most) {
            let slowdown = |name| row.figures.get(name).copied();
            let (Some(size_bytes), Some(p50), Some(p99)) =
                (row.key.size_bytes, slowdown("slowdown_p50"), slowdown("slowdown_p99"))
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

impl Key {
    fn new(case: &Case, size_bytes: Option<u64>, cores: Option<Distance>) -> Self {
        let settings = &case.settings;
        let buffer = settings.receive_buffer;
        Key {
            test: case.test,
            wait: settings.wait,
            api: case.api,
            size_bytes,
            outstanding: case.outstanding,
            tasks: case.tasks(),
            cores,
            rcvbuf: (buffer != ReceiveBuffer::Large).then_some(buffer),
            tcp_writes: (case.test == BenchTest::Rate).then_some(settings.tcp_writes),
            spin: (!settings.spin).then_some(false),
        }
    }

    fn figures(&self) -> impl Iterator<Item = &'static Figure> + use<> {
        figures(self.test, self.is_class())
    }

    /// Whether it is about one class of the sizes of a case.
    pub(crate) fn is_class(&self) -> bool {
        self.test == BenchTest::Mixed && self.size_bytes.is_some()
    }
}

/// What the rows of a case are about: all of it, followed by its classes of sizes.
fn parts(
    results: &CaseResults,
    cores: Option<Distance>,
) -> impl Iterator<Item = (Option<usize>, Key)> {
    let case = &results.case;
    let classes = results.done().next().map_or(&[][..], |first| &first.classes);
    let classes = classes.iter().enumerate();
    let classes =
        classes.map(move |(at, class)| (Some(at), Key::new(case, Some(class.size_bytes), cores)));
    iter::once((None, Key::new(case, case.size_bytes, cores))).chain(classes)
}

/// The rows of a case over a transport; none if it was not measured.
fn rows(results: &CaseResults, cores: Option<Distance>) -> impl Iterator<Item = Row> {
    let (case, rounds) = (&results.case, results.done().count());
    let row = move |(class, key): (Option<usize>, Key)| {
        let whole_mix = case.test == BenchTest::Mixed && class.is_none();
        let unfinished = || results.done().map(|outcome| outcome.unfinished).sum();
        let middle = |figure: &Figure| {
            let values = results.done().filter_map(|outcome| (figure.of)(outcome, class));
            Some((figure.name, rounded(median(&sorted(values)?)?)))
        };
        Row {
            transport: results.protocol,
            conns: (!results.protocol.is_homa()).then_some(case.settings.connections),
            rounds,
            figures: key.figures().filter_map(middle).collect(),
            offered_rpc_per_s: case.offered_rpc_per_s().filter(|_| whole_mix).map(rounded),
            unfinished: whole_mix.then(unfinished),
            key,
        }
    };
    parts(results, cores).filter(move |_| rounds > 0).map(row)
}

/// A figure of Homa divided by that of another transport, over the rounds.
struct Quotient {
    key: Key,
    figure: &'static Figure,
    median: f64,
    min: f64,
    max: f64,
}

/// The ratios of a case that both have measured.
fn quotients(
    homa: &CaseResults,
    other: &CaseResults,
    cores: Option<Distance>,
) -> impl Iterator<Item = Quotient> {
    let quotient = |figure: &'static Figure, class, key: &Key| {
        let rounds = homa.outcomes.iter().flatten().zip(other.outcomes.iter().flatten());
        let ratios = rounds.filter_map(|(homa, other)| {
            Some((figure.of)(homa, class)? / (figure.of)(other, class)?)
        });
        let ratios = sorted(ratios)?;
        let (median, min, max) = (median(&ratios)?, *ratios.first()?, *ratios.last()?);
        Some(Quotient { key: key.clone(), figure, median, min, max })
    };
    let mut found = Vec::new();
    for (class, key) in parts(other, cores) {
        found.extend(key.figures().filter_map(|figure| quotient(figure, class, &key)));
    }
    found.into_iter()
}

/// The values in order; none if one is not a number.
fn sorted(values: impl Iterator<Item = f64>) -> Option<Vec<f64>> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.iter().all(|value| value.is_finite()).then_some(values)
}

/// Who is better at this ratio of Homa to another.
fn better(figure: &Figure, homa_over_other: f64, other: Protocol) -> &'static str {
    if homa_over_other.is_nan() || (homa_over_other - 1.0).abs() < EVEN {
        "even"
    } else if (homa_over_other > 1.0) == figure.more_is_better {
        "homa"
    } else {
        other.name()
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
    use homa_bench::pair;

    use super::*;
    use crate::{
        bench::{
            distance::Distances,
            job::{Outcome, Slowdown, Work},
            pin::Cores,
        },
        serve::settings,
        transport::Settings,
    };

    fn case(test: BenchTest) -> Case {
        Case {
            test,
            api: Api::Event,
            settings: Settings { tcp_writes: TcpWrites::Each, ..settings(false, 1) },
            size_bytes: (test != BenchTest::Mixed).then_some(100),
            outstanding: (test == BenchTest::Rate).then_some(64),
            work: None,
            secs: 1.0,
            over: None,
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
        CaseResults { case: case(test), protocol, outcomes: times_us.iter().map(outcome).collect() }
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

    /// A report of invented figures of a comparison, with the time of a hand-over in each round.
    pub(crate) fn compared(handovers_ns: &[Option<f64>]) -> Report {
        let over = |protocol, rate| {
            let load = pair::Closed { request_bytes: 100, outstanding: 1_000, secs: 1.0 };
            let mut found = results(BenchTest::Compare, protocol, &vec![5.0; handovers_ns.len()]);
            found.case.over = Some(protocol);
            found.case.api = Api::Tokio;
            found.case.outstanding = Some(load.outstanding);
            found.case.work = Some(Work::Tasks { load, reply_bytes: None });
            found.outcomes.iter_mut().flatten().for_each(|outcome| outcome.calls = rate);
            found
        };
        let all = [
            over(Protocol::HomaUdp, 1_000),
            over(Protocol::Tcp, 2_000),
            over(Protocol::Grpc, 100),
            results(BenchTest::Rate, Protocol::Tcp, &vec![5.0; handovers_ns.len()]),
        ];
        let mut machine = Machine::look(Cores::default(), "cubic");
        machine.cores_distance = Some(Distances::of(handovers_ns));
        Report::new(machine, &all, &[])
    }

    #[test]
    fn homa_is_compared_with_each_transport_that_programs_use() {
        let report = compared(&[Some(30.0)]);
        let rates: Vec<_> = report
            .compared
            .iter()
            .filter(|it| it.metric == "rpc_per_s")
            .map(|it| (it.with, it.homa_over_other, it.better))
            .collect();
        assert_eq!(rates, [(Protocol::Tcp, 0.5, "tcp"), (Protocol::Grpc, 10.0, "homa")]);
        assert!(report.ratios.is_empty(), "nothing but rate over TCP is there");
        let document = serde_json::to_value(&report).unwrap();
        let row = &document["rows"][0];
        for field in ["cpu_us_per_rpc", "cpu_us_per_mb", "outstanding", "tasks"] {
            assert!(row[field].is_number(), "{field} in {row}");
        }
        assert_eq!(row["cores"], "share_cache");
        assert_eq!(document["machine"]["cores_distance"]["handover_ns"][0], 30.0);
        assert_eq!(document["compared"][0]["with"], "tcp");
    }

    #[test]
    fn medians_are_of_rounds_with_the_cores_in_the_same_place() {
        let report = compared(&[Some(30.0), Some(120.0), Some(31.0)]);
        let of_homa = report.rows.iter().filter(|row| row.transport == Protocol::HomaUdp);
        let found: Vec<_> = of_homa.map(|row| (row.key.cores, row.rounds)).collect();
        let (near, far) = (Some(Distance::ShareCache), Some(Distance::FarApart));
        assert_eq!(found, [(near, 2), (far, 1)]);
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
            serde_json::to_value(Key::new(&case, None, None)).unwrap()
        };
        assert_eq!(row(|_| {})["tcp_writes"], "each");
        assert_eq!(
            row(|case| case.settings.tcp_writes = TcpWrites::Gathered)["tcp_writes"],
            "gathered"
        );
        assert!(row(|_| {}).get("spin").is_none());
        assert_eq!(row(|case| case.settings.spin = false)["spin"], false);
        assert!(row(|case| case.test = BenchTest::Goodput).get("tcp_writes").is_none());
    }

    #[test]
    fn the_better_one_has_the_shorter_time_or_the_higher_rate() {
        let key = Key::new(&case(BenchTest::Mixed), None, None);
        let of = |name| key.figures().find(|figure| figure.name == name).unwrap();
        let better = |name, ratio| better(of(name), ratio, Protocol::Tcp);
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
    fn values_of_which_one_is_no_number_have_no_median() {
        assert_eq!(sorted([3.0, 1.0].into_iter()), Some(vec![1.0, 3.0]));
        assert_eq!(sorted([1.0, f64::NAN].into_iter()), None);
    }

    #[test]
    fn figures_are_rounded_to_four_digits() {
        assert_eq!(rounded(123_456.7), 123_457.0);
        assert_eq!(rounded(12.345678), 12.35);
        assert_eq!(rounded(0.000123456), 0.0001235);
        assert_eq!(rounded(0.0), 0.0);
    }
}
