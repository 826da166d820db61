//! What a run says on a terminal, and what it refuses to say.

use crate::harness::{document, write_run};
use homa_report::{Findings, Report, Sample};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The text without line breaks, so that sentences can be looked for.
fn text(rpcs: u64, change: impl FnOnce(&mut Value)) -> String {
    let directory = TempDir::new().unwrap();
    write_run(directory.path(), rpcs, change);
    let text = Report::read(&[directory.path().to_owned()]).unwrap().text();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn all(run: &mut Value, change: impl Fn(&mut Value)) {
    run["transports"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .for_each(|one| change(&mut one["summary"]));
}

#[test]
fn a_run_that_resolves_its_differences_begins_with_the_factor_and_its_interval() {
    let text = text(5_000, |_| {});
    assert!(
        text.starts_with("Homa and TCP side by side W4 at 80 % load, 6 hosts, 100 Mbit/s: "),
        "{text}"
    );
    let sentence = "the 99th percentile of Homa's short messages is 12.0 times (95 %: ";
    assert!(text.contains(sentence), "{text}");
    assert!(text.contains("shorter than the best TCP's (CUBIC, one connection"), "{text}");
    assert!(text.contains("short messages, P99 200 µs 2.4 ms tcp-cubic 12.0×"), "{text}");
    assert!(!text.contains("too few"), "{text}");
}

#[test]
fn percentiles_that_so_few_messages_do_not_carry_are_refused() {
    let text = text(15, |run| {
        all(run, |summary| {
            summary["rpcs"] = json!(30);
            summary["short"]["count"] = json!(3);
        });
    });
    for words in [
        "no difference between Homa and TCP is resolved (short messages measured: 3)",
        "short messages among them 3 3 3",
        "P99 of short messages, µs too few too few too few",
        "short messages, P50 – – – too few 3 too few messages",
        "Few short messages: tcp-cubic (3), homa-udp (3)",
        "P99 needs 100, and 500 for the interval",
    ] {
        assert!(text.contains(words), "{words} is missing in {text}");
    }
    assert!(!text.contains("12.0×"), "{text}");
    assert!(!text.contains("slowdown P50 / P99"), "a table of nothing: {text}");
}

#[test]
fn a_percentile_without_an_interval_says_how_many_messages_that_takes() {
    let text = text(1_000, |run| all(run, |summary| summary["short"]["count"] = json!(200)));
    assert!(
        text.contains("12.0 times (of 200 messages, too few for an interval) shorter"),
        "{text}"
    );
    assert!(text.contains("needs n\u{a0}≥\u{a0}500") || text.contains("needs n ≥ 500"), "{text}");
}

#[test]
fn what_the_network_does_not_tell_apart_is_no_factor() {
    let text = text(1_000, |run| run["fidelity"]["latency_resolution_ns"] = json!(10_000_000));
    assert!(text.contains("no difference between Homa and TCP is resolved"), "{text}");
    assert!(text.contains("tcp-cubic < resolution"), "{text}");
    assert!(
        text.contains("Read with care: - Differences below what this run tells apart"),
        "{text}"
    );
}

#[test]
fn a_slowdown_below_one_is_explained_and_compared_with_nothing() {
    let text = text(1_000, |run| {
        run["transports"][1]["summary"]["slowdown_homa"]["average"] = json!(0.9);
    });
    assert!(text.contains("average slowdown < 1 "), "{text}");
    assert!(
        text.contains("Average slowdown below 1: homa-udp (0.9). Under load nothing"),
        "{text}"
    );
    assert!(!text.contains("average slowdown 0.9"), "{text}");
}

#[test]
fn what_an_interrupted_run_did_not_measure_is_named_and_shown_as_nothing() {
    let text = text(1_000, |run| {
        run["interrupted"] = json!(true);
        run["plan"]["load"]["rounds"] = json!(3);
        run["transports"][2]["summary"] = json!({});
        run["not_measured"] = json!([{ "name": "tcp-bbr", "reasons": ["interrupted before"] }]);
    });
    assert!(text.contains("tcp-bbr-x8 (not measured)"), "{text}");
    let missing = "Not or not wholly measured: tcp-cubic (2 of 3 rounds), homa-udp (2 of 3 rounds), tcp-bbr-x8, \
                   tcp-bbr (interrupted before).";
    assert!(text.contains(missing), "{text}");
    assert!(!text.contains("NaN") && !text.contains("-0"), "{text}");
}

#[test]
fn busy_processors_are_part_of_the_outcome() {
    let text = text(5_000, |run| all(run, |summary| summary["machine_busy"] = json!(0.99)));
    assert!(
        text.contains("the processors were busy for 99 % of the time, so they decide too."),
        "{text}"
    );
}

#[test]
fn the_document_carries_factors_intervals_and_sample_counts() {
    let mut document = document();
    // Time of an RPC by transport and number: Homa's are shorter, and both vary.
    let samples = (0..6_000).map(|index: u64| Sample {
        transport: (index % 3) as usize,
        round: 0,
        server: 1,
        size_bytes: 64,
        start_ns: 600_000_000 + index * 1_000,
        latency_ns: (30_000 + index * 7_919 % 1_000 * 100) * if index % 3 == 1 { 1 } else { 12 },
    });
    let against = |document: Value| {
        let found = Findings::new(document, samples.clone()).unwrap().against("homa-udp");
        serde_json::to_value(found).unwrap()
    };
    let found = against(document.clone());
    let p99 = &found[0];
    assert_eq!(p99["with"], "TCP");
    assert_eq!((&p99["samples"], &p99["verdict"]), (&json!(1_000), &json!("homa")));
    let interval = &p99["interval_95"];
    let (low, high) = (interval["low"].as_f64().unwrap(), interval["high"].as_f64().unwrap());
    assert!(low <= 12.0 && 12.0 <= high && low > 10.0 && high < 14.0, "{p99}");
    all(&mut document, |summary| summary["short"]["count"] = json!(99));
    let p99 = &against(document)[0];
    assert_eq!((&p99["times_better"], &p99["homa"]), (&Value::Null, &Value::Null), "{p99}");
}

#[test]
fn another_transport_may_be_faster_than_homa_on_the_idle_network() {
    let text = text(1_000, |run| {
        run["transports"][0]["summary"]["slowdown_homa"]["average"] = json!(0.9);
    });
    assert!(text.contains("average slowdown 0.90 1.33 16.0"), "{text}");
    assert!(!text.contains("slowdown below 1"), "{text}");
}
