//! Plans: simulations as a TOML file, the product of its axes.
//!
//! Any key may have a list of values instead of one: an axis. A plan has a point for each
//! combination, in the order of the file: the last axis varies fastest, variants slowest. See
//! docs/simulation.md.

mod axes;
mod point;
mod traffic;

use std::{collections::HashSet, path::Path};

use homa_bench::plan::{PlanError, Source, text_of};
use serde::Deserialize;
use toml::{Spanned, Value, de::DeTable};

pub use self::{
    point::{Inputs, InputsError, Point, PointSpec},
    traffic::{ArrivalsName, CallsName, PatternName, TrafficSpec},
};

/// A plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is simulated, in a line.
    pub title: String,
    /// What is expected to come out, and why.
    pub expect: String,
    /// Published figures to compare with, in words and numbers.
    pub published: Vec<String>,
    /// What to simulate, each once.
    pub points: Vec<Point>,
}

/// What a plan says of itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct About {
    title: String,
    expect: String,
    published: Vec<String>,
}

/// Its keys.
const ABOUT: [&str; 3] = ["title", "expect", "published"];

/// Most points of a plan.
const POINTS_MAX: usize = 100_000;

impl Plan {
    /// Reads a plan and all that it names, and checks every point of it.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn read(path: &Path) -> Result<Self, PlanError> {
        Self::parse(&text_of(path)?, path)
    }

    /// As [`read`](Self::read); files that the plan names are sought beside `path`.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, PlanError> {
        let source = Source::new(text, path);
        let directory = path.parent().unwrap_or(Path::new(""));
        let mut about = About::default();
        let mut points: Vec<Point> = Vec::new();
        let mut known = HashSet::new();
        for (variant, mut table) in source.variants()? {
            about = source.value(take_about(&mut table), Ok)?;
            let axes = axes::take(&source, table.get_mut())?;
            let count = axes::count(&axes).filter(|count| points.len() + count <= POINTS_MAX);
            let Some(count) = count else {
                return Err(source.wrong(&format!("more than {POINTS_MAX} points")));
            };
            for index in 0..count {
                let (table, values) = axes::combination(&table, &axes, index);
                let label = label(&variant, &values);
                let point = source
                    .value(table, |spec: PointSpec| Point::new(label, values, &spec, directory))?;
                if known.insert(point.hash.clone()) {
                    points.push(point);
                }
            }
        }
        let About { title, expect, published } = about;
        Ok(Self { title, expect, published, points })
    }
}

/// Takes from a table what a plan says of itself.
fn take_about<'a>(table: &mut Spanned<DeTable<'a>>) -> Spanned<DeTable<'a>> {
    let span = table.span();
    let mut about = DeTable::new();
    for key in ABOUT {
        if let Some((key, value)) = table.get_mut().remove_entry(key) {
            about.insert(key, value);
        }
    }
    Spanned::new(span, about)
}

/// The name of a point: its variant, and its values of the axes.
fn label(variant: &str, values: &[(String, Value)]) -> String {
    let plain = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let values = values.iter().map(|(key, value)| format!("{key}={}", plain(value)));
    let name = (!variant.is_empty()).then(|| variant.to_owned());
    name.into_iter().chain(values).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reproduce::sigcomm18;

    fn parse(text: &str) -> Result<Plan, PlanError> {
        Plan::parse(text, Path::new("test.toml"))
    }

    fn labels(text: &str) -> Vec<String> {
        parse(text).unwrap().points.into_iter().map(|point| point.label).collect()
    }

    #[test]
    fn a_plan_is_the_product_of_its_axes_and_the_last_one_varies_fastest() {
        let text =
            "seed = [2, 1]\nhoma.grants.max_overcommit = [1, 2]\n[traffic]\nsizes = [\"w1\"]\n";
        assert_eq!(
            labels(text),
            [
                "seed=2, homa.grants.max_overcommit=1, traffic.sizes=w1",
                "seed=2, homa.grants.max_overcommit=2, traffic.sizes=w1",
                "seed=1, homa.grants.max_overcommit=1, traffic.sizes=w1",
                "seed=1, homa.grants.max_overcommit=2, traffic.sizes=w1",
            ]
        );
        let points = parse(text).unwrap().points;
        assert_eq!((points[1].run.seed, points[2].run.seed), (2, 1));
        let overcommit = points[3].inputs.homa["grants"]["max_overcommit"].as_integer();
        assert_eq!(overcommit, Some(2));
    }

    #[test]
    fn variants_vary_slowest_and_may_have_axes_of_their_own() {
        let text =
            "load = [0.5, 0.6]\n[[variant]]\nname = \"a\"\n[[variant]]\nname = \"b\"\nload = 0.7\n";
        assert_eq!(labels(text), ["a, load=0.5", "a, load=0.6", "b"]);
    }

    #[test]
    fn a_point_that_stands_twice_is_simulated_once() {
        assert_eq!(parse("seed = [1, 1, 2]\n").unwrap().points.len(), 2);
    }

    #[test]
    fn a_list_that_is_a_value_is_no_axis_and_a_list_of_them_is() {
        let cutoffs = "[9, 8, 7, 6, 5, 4, 3, 2]";
        let one = format!("homa.priorities.cutoffs = {cutoffs}\n");
        assert_eq!(parse(&one).unwrap().points.len(), 1);
        let other = "[19, 18, 17, 16, 15, 14, 13, 12]";
        let two = format!("homa.priorities.cutoffs = [{cutoffs}, {other}]\n");
        assert_eq!(parse(&two).unwrap().points.len(), 2);
    }

    #[test]
    fn the_network_of_a_plan_is_any_and_its_lists_are_no_axes() {
        let text = "pacing = \"clock\"\n[network]\nshape = \"links\"\nhost_gbps = [25, 40]\n\
                    [[network.switch]]\nname = \"a\"\nhosts = 2\n\
                    [[network.switch]]\nname = \"b\"\nhosts = 3\n\
                    [[network.link]]\nbetween = [\"a\", \"b\"]\ngbps = 100\n";
        let plan = parse(text).unwrap();
        assert_eq!(labels(text), ["network.host_gbps=25", "network.host_gbps=40"]);
        for (point, mbps) in plan.points.iter().zip([25_000, 40_000]) {
            let topology = &point.run.topology;
            assert_eq!((topology.hosts(), topology.host_rate.mbps()), (5, mbps));
            assert!(!topology.nic_pulls);
            // The clock has the rate of the link.
            assert_eq!(point.inputs.homa["output"]["link_mbps"].as_integer(), Some(mbps.into()));
        }
    }

    #[test]
    fn the_name_of_a_point_follows_what_goes_into_it_and_nothing_else() {
        let hash = |text: &str| parse(text).unwrap().points.pop().unwrap().hash;
        let base = hash("");
        let default = homa_core::Config::default().grants.fifo_permille;
        for same in [
            "title = \"x\"\nexpect = \"y\"\npublished = [\"z\"]\n",
            "load = 0.8\nseed = [1]\n",
            "traffic.pattern = \"all-to-all\"\ntraffic.sizes = \"sigcomm18/w4\"\n",
            "traffic.arrivals = \"poisson\"\ntraffic.calls = \"one-way\"\n",
            "[[variant]]\nname = \"v\"\n",
        ] {
            assert_eq!(hash(same), base, "{same}");
        }
        for other in [
            "load = 0.81\n".to_owned(),
            "seed = 2\n".to_owned(),
            "messages = 5000\n".to_owned(),
            "pacing = \"clock\"\n".to_owned(),
            "profile = \"default\"\n".to_owned(),
            "network.racks = 2\n".to_owned(),
            "traffic.sizes = \"w4\"\n".to_owned(),
            "traffic.pattern = \"permutation\"\n".to_owned(),
            "traffic.arrivals = \"log-normal\"\ntraffic.sigma = 1\n".to_owned(),
            "traffic.calls = \"request-response\"\n".to_owned(),
            "traffic.trace = \"tests/trace.csv\"\n".to_owned(),
            format!("homa.grants.fifo_permille = {}\n", default + 1),
        ] {
            assert_ne!(hash(&other), base, "{other}");
        }
    }

    #[test]
    fn settings_follow_the_sizes_of_all_messages_background_and_responses_included() {
        let homa = |text: &str| parse(text).unwrap().points.pop().unwrap().inputs.homa;
        let cutoffs = |text: &str| homa(text)["priorities"]["cutoffs"].clone();
        let requests = "traffic.sizes = \"fixed:100\"\n";
        let calls = "traffic.calls = \"request-response\"\n";
        let long = "traffic.response_sizes = \"fixed:100k\"\n";
        assert_eq!(cutoffs(requests), cutoffs(&[requests, calls].concat()));
        assert_ne!(cutoffs(requests), cutoffs(&[requests, calls, long].concat()));
        let incast = "traffic.pattern = \"incast\"\ntraffic.senders = 2\nload = 0.5\n";
        let background = "traffic.background = 0.4\ntraffic.background_sizes = \"fixed:100k\"\n";
        assert_eq!(cutoffs(requests), cutoffs(&[requests, incast].concat()));
        assert_ne!(cutoffs(requests), cutoffs(&[requests, incast, background].concat()));
    }

    #[test]
    fn a_recording_has_a_load_and_a_number_of_messages_of_its_own() {
        let text = "traffic.trace = \"tests/trace.csv\"\ntraffic.calls = \"request-response\"\n";
        let point = parse(text).unwrap().points.pop().unwrap();
        assert_eq!(point.run.messages, 4);
        // 95,720 bytes in 30 µs, on 16 links of 10 Gbit/s.
        let load = 95_720.0 * 8.0 / (30e-6 * 10e9 * 16.0);
        assert!((point.run.load - load).abs() < 1e-9, "{}", point.run.load);
        assert_eq!(point.inputs.traffic.trace.as_deref(), Some("trace.csv"));
        let bytes: Vec<_> = point.run.sizes.points().iter().map(|point| point.0).collect();
        assert_eq!(bytes, [20, 700, 5_000, 90_000]);
    }

    #[test]
    fn inputs_give_the_point_again_whatever_its_traffic_is() {
        for text in [
            "traffic.arrivals = \"log-normal\"\ntraffic.sigma = 1\n",
            "traffic.pattern = \"incast\"\ntraffic.senders = 3\n",
            "[traffic]\npattern = \"incast\"\nsenders = 3\nbackground = 0.1\n",
            "traffic.pattern = \"permutation\"\ntraffic.calls = \"request-response\"\n",
            "traffic.trace = \"tests/trace.csv\"\n",
        ] {
            let point = parse(text).unwrap().points.pop().unwrap();
            let inputs = serde_json::to_value(&point.inputs).unwrap();
            let again = Point::again(inputs, Path::new("tests"));
            assert_eq!(again.unwrap().hash, point.hash, "{text}");
        }
    }

    #[test]
    fn a_plan_knows_every_transport_and_the_oracle_by_two_names() {
        let names = sigcomm18::TRANSPORTS;
        let text = format!("transport = {names:?}\n");
        let points = parse(&text).unwrap().points;
        let found: Vec<_> = points.iter().map(|point| point.inputs.transport.as_str()).collect();
        assert_eq!(found, names);
        let one = parse("transport = [\"oracle\", \"srpt-oracle\"]\n").unwrap().points;
        assert_eq!(one.len(), 1);
    }

    #[test]
    fn fewer_levels_have_cutoffs_of_their_own() {
        let homa = |text: &str| parse(text).unwrap().points.pop().unwrap().inputs.homa;
        let cutoffs = |text: &str| homa(text)["priorities"]["cutoffs"].clone();
        for profile in ["", "profile = \"default\"\n"] {
            let two = cutoffs(&format!("homa.priorities.count = 2\n{profile}"));
            assert_ne!(two, cutoffs(profile), "{profile}");
        }
    }

    #[test]
    fn mistakes_are_reported_with_line_key_and_what_would_be_right() {
        for (text, parts) in [
            ("seed = 1\nlaod = 0.5\n", ["line 2", "unknown field `laod`", "`load`"]),
            ("[traffic]\n\nsize = \"w1\"\n", ["line 3", "unknown field `size`", "`sizes`"]),
            ("load = 1.0\n", ["line 1", "`load`", "above 0 and below 1"]),
            ("seed = 1\nload = [0.5, 0.6,\n  1.5]\n", ["line 3", "`load`", "above 0 and below 1"]),
            ("load = []\n", ["line 1", "`load`", "no value"]),
            ("load = \"high\"\n", ["line 1", "high", "f64"]),
            ("messages = 3\n", ["line 1", "`messages`", "100 to"]),
            ("network.racks = 0\n", ["line 1", "`network.racks`", "2 to 16777216 hosts"]),
            ("transport = \"udp\"\n", ["line 1", "`transport`", "one of homa, tcp"]),
            ("profile = \"2019\"\n", ["line 1", "2019", "2018"]),
            (
                "\nhoma.priorities.count = [1, 9]\n",
                ["line 2", "`homa.priorities.count`", "1 and 8"],
            ),
            (
                "[homa]\ngrants.overcommit = 2\n",
                ["line 2", "homa.grants.overcommit", "max_overcommit"],
            ),
            ("traffic.sizes = \"sigcomm18/w6\"\n", ["line 1", "`traffic.sizes`", "sigcomm18/w5"]),
            ("traffic.sizes = \"fixed:0\"\n", ["line 1", "`traffic.sizes`", "at least 1 byte"]),
            ("traffic.sizes = \"fixed:100M\"\n", ["line 1", "`traffic.sizes`", "at most 67108864"]),
            ("traffic.sizes = \"no/such.csv\"\n", ["line 1", "no/such.csv", "No such file"]),
            (
                "\ntraffic.pattern = \"ring\"\n",
                ["line 2", "variant `ring`", "`all-to-all`, `permutation`, `incast`"],
            ),
            (
                "traffic.arrivals = \"even\"\n",
                ["line 1", "variant `even`", "`poisson` or `log-normal`"],
            ),
            (
                "traffic.calls = \"both\"\n",
                ["line 1", "variant `both`", "`one-way` or `request-response`"],
            ),
            (
                "traffic.pattern = \"incast\"\ntraffic.senders = [2, 16]\n",
                ["line 2", "`traffic.senders`", "from 1 to 15, the hosts besides the receiver"],
            ),
            ("traffic.pattern = \"incast\"\n", ["line 1", "`traffic.senders`", "the number"]),
            ("traffic.senders = 3\n", ["line 1", "`traffic.senders`", "the pattern incast"]),
            ("traffic.sigma = 1\n", ["line 1", "`traffic.sigma`", "the arrivals log-normal"]),
            (
                "traffic.arrivals = \"log-normal\"\ntraffic.sigma = 4\n",
                ["line 2", "`traffic.sigma`", "above 0 and at most 3"],
            ),
            (
                "traffic.response_sizes = \"w1\"\n",
                ["line 1", "`traffic.response_sizes`", "the calls request-response"],
            ),
            (
                "traffic.calls = \"request-response\"\ntraffic.response_sizes = \"fixed:0\"\n",
                ["line 2", "`traffic.response_sizes`", "at least 1 byte"],
            ),
            (
                "[traffic]\npattern = \"incast\"\nsenders = 2\narrivals = \"poisson\"\n",
                ["line 4", "`traffic.arrivals`", "comes at equal intervals"],
            ),
            (
                "[traffic]\npattern = \"incast\"\nsenders = 2\nbackground = 0.2\n",
                ["line 4", "`traffic.background`", "below 1 together with the load"],
            ),
            (
                "traffic.background_sizes = \"w1\"\n",
                ["line 1", "`traffic.background_sizes`", "without `background`"],
            ),
            (
                "traffic.trace = \"no/t.csv\"\n",
                ["line 1", "`traffic.trace`", "read trace no/t.csv"],
            ),
            (
                "network.hosts_per_rack = 4\ntraffic.trace = \"tests/trace.csv\"\n",
                ["line 2", "tests/trace.csv, line 4: `from` must be", "0 to 3, not \"4\""],
            ),
            (
                "traffic.trace = \"tests/trace.csv\"\nload = 0.5\n",
                ["line 2", "`load`", "left out: `traffic.trace` says it"],
            ),
            (
                "messages = 1000\ntraffic.trace = \"tests/trace.csv\"\n",
                ["line 1", "`messages`", "left out: `traffic.trace` says it"],
            ),
            (
                "[traffic]\ntrace = \"tests/trace.csv\"\npattern = \"permutation\"\n",
                ["line 3", "`traffic.pattern`", "left out: `traffic.trace` says it"],
            ),
            ("[[variant]]\nload = 0.5\n", ["line 1", "[[variant]]", "name"]),
            ("= 3", ["line 1", "", ""]),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with("plan test.toml"), "{text:?}: {error}");
            assert!(parts.iter().all(|part| error.contains(part)), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_product_that_nobody_can_simulate_is_refused() {
        let many = (0..400).map(|seed| seed.to_string()).collect::<Vec<_>>().join(", ");
        let text = format!("seed = [{many}]\nmessages = [{many}]\n");
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains("more than 100000 points"), "{error}");
    }
}
