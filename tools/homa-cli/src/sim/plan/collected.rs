//! Results of points side by side: as a table, as CSV, as a document.

use std::collections::{BTreeMap, BTreeSet};

use homa_report::table::table;
use homa_sim::{PortKind, figures::PointResult};
use serde::Serialize;
use serde_json::Value;

/// Results, in an order that means something.
pub(super) struct Collected {
    results: Vec<PointResult>,
    /// Inputs by their dotted names, of each result.
    inputs: Vec<BTreeMap<String, Value>>,
    /// Names of inputs that tell results apart.
    columns: Vec<String>,
}

/// What is printed.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    points: Vec<PointDocument<'a>>,
}

/// A point.
#[derive(Debug, Serialize)]
struct PointDocument<'a> {
    hash: String,
    #[serde(flatten)]
    result: &'a PointResult,
}

/// Inputs in the order in which they tell results apart; others follow by name.
const ORDER: [&str; 6] = ["transport", "traffic", "network", "load", "messages", "seed"];

impl Collected {
    pub(super) fn new(results: Vec<PointResult>) -> Self {
        let inputs: Vec<_> = results.iter().map(inputs).collect();
        let columns = columns(&inputs);
        Self { results, inputs, columns }
    }

    pub(super) fn document(&self) -> Document<'_> {
        let point = |result| PointDocument { hash: PointResult::hash(result), result };
        Document { points: self.results.iter().map(point).collect() }
    }

    /// A line per point: what tells it from others, and the figures that matter most.
    pub(super) fn table(&self) -> String {
        let mut header = self.short_columns();
        header.extend(FIGURES.iter().map(|figure| figure.title.to_owned()));
        let rows = self.results.iter().zip(&self.inputs).map(|(result, inputs)| {
            let figures = FIGURES.iter().map(|figure| (figure.of)(result));
            let shown = figures.zip(&FIGURES).map(|(value, figure)| {
                value.map_or(String::new(), |value| format!("{value:.*}", figure.digits))
            });
            self.cells(inputs).into_iter().chain(shown).collect()
        });
        let rows: Vec<Vec<String>> = rows.collect();
        let left: Vec<usize> = (0..self.columns.len()).collect();
        format!("{}\n{NOTE}", table(header, rows, &left))
    }

    /// The same as CSV, with all digits and all columns.
    pub(super) fn csv(&self) -> String {
        let quote = |text: &str| match text.contains([',', '"', '\n']) {
            true => format!("\"{}\"", text.replace('"', "\"\"")),
            false => text.to_owned(),
        };
        let mut header = vec!["name".to_owned()];
        header.extend(self.columns.iter().cloned());
        header.extend(FIGURES.iter().map(|figure| figure.name.to_owned()));
        let mut lines = vec![header.join(",")];
        for (result, inputs) in self.results.iter().zip(&self.inputs) {
            let figures = FIGURES.iter().map(|figure| (figure.of)(result));
            let figures =
                figures.map(|value| value.map_or(String::new(), |value| value.to_string()));
            let cells = self.cells(inputs).into_iter().map(|cell| quote(&cell));
            let line: Vec<String> =
                std::iter::once(result.hash()).chain(cells).chain(figures).collect();
            lines.push(line.join(","));
        }
        lines.join("\n") + "\n"
    }

    fn cells(&self, inputs: &BTreeMap<String, Value>) -> Vec<String> {
        let cell = |column: &String| inputs.get(column).map_or(String::new(), plain);
        self.columns.iter().map(cell).collect()
    }

    /// The last parts of the columns' names, where those differ.
    fn short_columns(&self) -> Vec<String> {
        let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
        let shorts: Vec<String> = self.columns.iter().map(|name| last(name)).collect();
        let once = |short: &String| shorts.iter().filter(|other| *other == short).count() == 1;
        let name = |(name, short): (&String, &String)| {
            if once(short) { short.clone() } else { name.clone() }
        };
        self.columns.iter().zip(&shorts).map(name).collect()
    }
}

/// What the columns mean.
const NOTE: &str = "
P50, P99, small P99: slowdown of all messages that count, and of the shorter half of them.
wasted: part of hosts' links idle although a message of several packets was on its way there.
growth: of the bytes under way, as a part of the bytes offered; about 0 where the load is carried.
queue: bytes that wait at a switch's port to a host, in the mean and at most.
";

/// A figure of a result.
struct Figure {
    /// In CSV.
    name: &'static str,
    /// In tables.
    title: &'static str,
    digits: usize,
    of: fn(&PointResult) -> Option<f64>,
}

const FIGURES: [Figure; 9] = [
    Figure {
        name: "messages_counted",
        title: "counted",
        digits: 0,
        of: |result| Some(result.figures.all?.messages as f64),
    },
    Figure {
        name: "slowdown_p50",
        title: "P50",
        digits: 2,
        of: |result| Some(result.figures.all?.p50),
    },
    Figure {
        name: "slowdown_p99",
        title: "P99",
        digits: 2,
        of: |result| Some(result.figures.all?.p99),
    },
    Figure {
        name: "smaller_half_p99",
        title: "small P99",
        digits: 2,
        of: |result| Some(result.figures.smaller_half?.p99),
    },
    Figure {
        name: "wasted_bandwidth",
        title: "wasted",
        digits: 3,
        of: |result| Some(result.figures.wasted_bandwidth),
    },
    Figure {
        name: "backlog_growth",
        title: "growth",
        digits: 3,
        of: |result| Some(result.figures.backlog_growth),
    },
    Figure {
        name: "queue_mean_bytes",
        title: "queue",
        digits: 0,
        of: |result| Some(to_hosts(result)?.queued_bytes_mean),
    },
    Figure {
        name: "queue_max_bytes",
        title: "queue max",
        digits: 0,
        of: |result| Some(to_hosts(result)?.queued_bytes_max as f64),
    },
    Figure {
        name: "unfinished",
        title: "unfinished",
        digits: 0,
        of: |result| Some(result.figures.unfinished as f64),
    },
];

/// The ports of switches to hosts.
fn to_hosts(result: &PointResult) -> Option<&homa_sim::PortSummary> {
    result.figures.ports.iter().find(|port| port.kind == PortKind::RackDown)
}

/// The inputs of a result by their dotted names.
fn inputs(result: &PointResult) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let inputs = serde_json::to_value(&result.inputs).unwrap_or_default();
    let mut open = vec![(String::new(), inputs)];
    while let Some((name, value)) = open.pop() {
        let inner = |key: String| if name.is_empty() { key } else { format!("{name}.{key}") };
        match value {
            Value::Object(map) => {
                open.extend(map.into_iter().map(|(key, value)| (inner(key), value)))
            }
            value => drop(found.insert(name, value)),
        }
    }
    found
}

/// Names of inputs that tell results apart: each tells some apart that those before do not.
fn columns(inputs: &[BTreeMap<String, Value>]) -> Vec<String> {
    let names: BTreeSet<&String> = inputs.iter().flat_map(BTreeMap::keys).collect();
    let mut names: Vec<&String> = names.into_iter().collect();
    let place = |name: &String| {
        let first = name.split('.').next().unwrap_or_default();
        ORDER.iter().position(|other| *other == first).unwrap_or(ORDER.len())
    };
    let is_list = |name: &&String| {
        inputs.iter().any(|inputs| inputs.get(*name).is_some_and(|value| value.is_array()))
    };
    // Lists are hard to read, and something else mostly differs with them.
    names.sort_by_key(|name| (is_list(name), place(name)));
    let mut columns: Vec<String> = Vec::new();
    let kinds = |columns: &[String]| {
        let key = |inputs: &BTreeMap<String, Value>| -> Vec<String> {
            columns.iter().map(|name| inputs.get(name).map_or(String::new(), plain)).collect()
        };
        inputs.iter().map(key).collect::<BTreeSet<_>>().len()
    };
    for name in names {
        let more = [&columns[..], std::slice::from_ref(name)].concat();
        if kinds(&more) > kinds(&columns) {
            columns = more;
        }
    }
    columns
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
