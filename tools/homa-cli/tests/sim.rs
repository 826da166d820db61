//! `homa sim` as users run it.
#![allow(missing_docs)]

use std::fs;

use assert_cmd::Command;
use serde_json::Value;

/// The document of a short run with these options.
fn reproduced(options: &[&str]) -> Value {
    let mut homa = Command::cargo_bin("homa").unwrap();
    homa.args(["--json", "sim", "reproduce", "sigcomm18", "--quick"]);
    if !options.contains(&"--messages") {
        homa.args(["--messages", "2000"]);
    }
    let output = homa.args(options).assert().success().get_output().stdout.clone();
    serde_json::from_slice(&output).unwrap()
}

#[test]
fn published_sizes_and_figures_stand_beside_ours() {
    let found = reproduced(&["--workload", "w2"]);
    let rows = found["rows"].as_array().unwrap();
    assert!(rows.len() > 50, "{}", rows.len());
    for row in rows {
        assert!(row["slowdown_p50"].as_f64().unwrap() <= row["slowdown_p99"].as_f64().unwrap());
        assert!(row["published"]["slowdown_p99"].as_f64().unwrap() >= 1.0, "{row}");
        assert_eq!((&row["workload"], &row["transport"]), (&"w2".into(), &"homa".into()));
    }
    let counted: u64 = rows.iter().map(|row| row["messages"].as_u64().unwrap()).sum();
    assert_eq!(counted, 1_700, "85 % of the messages");
    assert!(found["errors"][0]["p99_short_percent"].is_number(), "{}", found["errors"]);
}

#[test]
fn a_network_of_a_file_takes_the_place_of_the_racks_and_published_figures_stay_beside() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("network.toml");
    fs::write(&file, "shape = \"single-switch\"\nhosts = 5\nhost_gbps = 25\n").unwrap();
    let file = file.to_str().unwrap();
    let found = reproduced(&["--workload", "w3", "--network", file, "--pacing", "clock"]);
    let run = &found["runs"][0];
    assert_eq!(run["hosts"], 5);
    // The clock has the rate of the network's links.
    assert_eq!(run["settings"]["output"]["link_mbps"], 25_000);
    assert!(found["errors"][0]["p50_percent"].is_number(), "{}", found["errors"]);
}

#[test]
fn as_many_threads_as_there_are_give_the_results_of_one() {
    let options = ["--workload", "w1", "--workload", "w2", "--workload", "w3"];
    let [one, three] =
        ["1", "3"].map(|threads| reproduced(&[&options[..], &["--threads", threads]].concat()));
    assert_eq!(one["rows"], three["rows"]);
    assert_eq!(one["runs"][2]["ports"], three["runs"][2]["ports"]);
}

#[test]
fn a_file_of_sizes_at_another_load_has_classes_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sizes.csv");
    fs::write(&file, "length_bytes,cumulative_fraction\n100,0.5\n5000,0.9\n60000,1\n").unwrap();
    let found = reproduced(&["--workload", file.to_str().unwrap(), "--load", "0.5"]);
    let sizes: Vec<_> =
        found["rows"].as_array().unwrap().iter().map(|row| row["message_bytes"].clone()).collect();
    assert_eq!(sizes, [100, 5000, 60000].map(Value::from));
    assert_eq!(found["errors"], Value::Array(Vec::new()));
}

#[test]
fn results_and_pictures_are_written_where_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("sim");
    let printed = reproduced(&["--workload", "w3", "--out", out.to_str().unwrap()]);
    let written = fs::read_to_string(out.join("results.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), printed);
    let picture = fs::read_to_string(out.join("slowdown-w3.svg")).unwrap();
    assert!(picture.contains("as published") && picture.contains("16 simulated hosts"));
    let messages = fs::read_to_string(out.join("w3/rpcs.csv")).unwrap();
    assert_eq!(messages.lines().count(), 1 + 1_700, "85 % of the messages");
}

#[test]
fn a_report_shows_simulated_runs_as_it_shows_others() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("sim");
    let out = out.to_str().unwrap();
    reproduced(&["--workload", "w1", "--workload", "w3", "--out", out]);
    let mut homa = Command::cargo_bin("homa").unwrap();
    homa.args(["report", out]).assert().success();
    let page = fs::read_to_string(format!("{out}/report.html")).unwrap();
    for text in ["W1, simulated", "W3, simulated", "Queues of the switch", "Throughput"] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn the_times_of_the_slowest_messages_add_up() {
    let found = reproduced(&["--workload", "w3", "--worst", "5", "--worst-max", "10k"]);
    let slowest = found["runs"][0]["slowest"].as_array().unwrap();
    assert_eq!(slowest.len(), 5);
    let slowdown = |index: usize| slowest[index]["slowdown"].as_f64().unwrap();
    assert!((1..5).all(|index| slowdown(index) <= slowdown(index - 1)));
    for slow in slowest {
        let us = |name: &str| slow[name].as_f64().unwrap();
        let queues = slow["queues"].as_array().unwrap().iter();
        let queues: f64 = queues.map(|queue| queue["us"].as_f64().unwrap()).sum();
        let at_sender = us("others_us") + us("grants_us") + us("sending_us");
        let all = at_sender + queues + us("way_us");
        // 12 µs is what 10 kB take alone, and 2.55 what hosts and the switch do.
        assert!(us("slowdown") > 1.0 && all > 2.55 && all < us("slowdown") * 12.0, "{slow}");
        assert!(slow["message_bytes"].as_u64().unwrap() <= 10_000);
    }
}

#[test]
fn a_result_explains_its_slowest_messages_as_the_run_itself_did() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().to_str().unwrap();
    let workloads = ["--workload", "w3", "--workload", "w1", "--pacing", "backlog"];
    let worst = ["--worst", "3", "--worst-max", "10k", "--set", "grants.max_overcommit=2"];
    let found = reproduced(&[&workloads[..], &worst, &["--out", out]].concat());
    let mut homa = Command::cargo_bin("homa").unwrap();
    homa.args(["--json", "sim", "explain", out, "--worst", "3", "--max", "10k"]);
    let explained = homa.assert().success().get_output().stdout.clone();
    let explained: Value = serde_json::from_slice(&explained).unwrap();
    for index in [0, 1] {
        let (run, again) = (&found["runs"][index], &explained["runs"][index]);
        assert_eq!(run["slowest"].as_array().unwrap().len(), 3);
        assert_eq!(run["slowest"], again["slowest"]);
        assert_eq!(run["inputs"], again["inputs"]);
    }
    let mut homa = Command::cargo_bin("homa").unwrap();
    let shown = homa.args(["sim", "explain", &format!("{out}/results.json")]).assert().success();
    let shown = String::from_utf8(shown.get_output().stdout.clone()).unwrap();
    assert!(shown.contains("sigcomm18/w1") && shown.contains("had to wait for GRANTs"), "{shown}");
}

#[test]
fn who_watches_a_run_sees_its_ports_and_messages_to_the_end() {
    let options = ["--quick", "--messages", "3000", "--workload", "w3"];
    let mut homa = Command::cargo_bin("homa").unwrap();
    let watched = homa.args(["sim", "watch", "--json"]).args(options).assert().success();
    let lines = String::from_utf8(watched.get_output().stdout.clone()).unwrap();
    let views: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(views.len() > 100, "{}", views.len());
    let numbers = |name: &str| -> Vec<f64> {
        views.iter().map(|view| view[name].as_f64().unwrap()).collect()
    };
    for name in ["part", "time_us", "begun", "ended"] {
        assert!(numbers(name).is_sorted(), "{name}");
    }
    let last = views.last().unwrap();
    assert_eq!(
        (&last["part"], &last["begun"], &last["ended"]),
        (&1.0.into(), &3000.into(), &3000.into())
    );
    assert!(last["worst"].as_array().unwrap().iter().all(|slow| slow["has_arrived"] == true));
    let middle = &views[100];
    assert!(middle["slowdown_p50"].as_f64().unwrap() < middle["slowdown_p99"].as_f64().unwrap());
    let down = &middle["ports"][1];
    assert_eq!((&down["kind"], &down["count"]), (&"rack-down".into(), &16.into()));
    let counts = |view: &&Value| (0.1..0.95).contains(&view["part"].as_f64().unwrap());
    let uses = views.iter().filter(counts).map(|view| &view["ports"][1]["all"]["utilization"]);
    let uses: Vec<f64> = uses.map(|utilization| utilization.as_f64().unwrap()).collect();
    let mean = uses.iter().sum::<f64>() / uses.len() as f64;
    let run = reproduced(&["--workload", "w3", "--messages", "3000"]);
    let whole = run["runs"][0]["ports"][1]["utilization"].as_f64().unwrap();
    assert!((mean - whole).abs() < 0.02, "{mean} at steps, {whole} in the mean");
    let slowest: Vec<f64> = middle["worst"]
        .as_array()
        .unwrap()
        .iter()
        .map(|slow| slow["slowdown"].as_f64().unwrap())
        .collect();
    assert!(slowest.len() == 10 && slowest.is_sorted_by(|a, b| a >= b), "{slowest:?}");
}

#[test]
fn who_watches_without_a_terminal_hears_what_to_do_instead() {
    let mut homa = Command::cargo_bin("homa").unwrap();
    let refused = homa.args(["sim", "watch", "--quick"]).assert().code(2);
    let said = String::from_utf8(refused.get_output().stderr.clone()).unwrap();
    assert!(said.contains("no terminal") && said.contains("--json prints a line"), "{said}");
    let mut homa = Command::cargo_bin("homa").unwrap();
    homa.args(["sim", "watch", "plan.toml", "--load", "0.5"]).assert().code(2);
    let mut homa = Command::cargo_bin("homa").unwrap();
    homa.args(["sim", "watch", "--index", "1"]).assert().code(2);
}

#[test]
fn each_transport_stands_beside_its_own_figures_those_of_homa_and_the_oracle() {
    let transports = ["homa", "oracle", "pias"].map(|name| ["--transport", name]).concat();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().to_str().unwrap();
    let found = reproduced(&[&["--workload", "w3", "--out", out], &transports[..]].concat());
    let summary = found["summary"].as_array().unwrap();
    let names: Vec<_> = summary.iter().map(|line| line["transport"].clone()).collect();
    assert_eq!(names, ["homa", "srpt-oracle", "pias"].map(Value::from));
    let p99 = |line: &Value, name: &str| line[name].as_f64().unwrap();
    for line in summary {
        assert_eq!(line["p99_published_homa"], summary[0]["p99_published"]);
        assert_eq!(line["p99_oracle"], summary[1]["p99"]);
        assert!(p99(line, "p99") >= p99(line, "p99_oracle"));
    }
    assert!(p99(&summary[2], "p99_published") > 1.5 * p99(&summary[0], "p99_published"));
    let published = |transport: &str| {
        let rows = found["rows"].as_array().unwrap();
        let row = rows.iter().find(|row| row["transport"] == transport).unwrap();
        row["published"]["slowdown_p99"].as_f64().unwrap()
    };
    assert!(published("srpt-oracle") < published("homa"));
    let picture = fs::read_to_string(directory.path().join("slowdown-w3.svg")).unwrap();
    for curve in ["pias", "srpt-oracle", "homa, as published"] {
        assert!(picture.contains(&format!("data-name=\"{curve}\"")), "{curve}");
    }
}

#[test]
fn homa_and_tcp_stand_alone_and_together_whatever_the_number_of_threads() {
    let mixed = |threads: &str| -> Value {
        let mut homa = Command::cargo_bin("homa").unwrap();
        homa.args(["--json", "sim", "reproduce", "mixed", "--messages", "1000", "--share", "0.3"]);
        let output = homa.args(["--threads", threads]).assert().success().get_output().clone();
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let found = mixed("2");
    assert_eq!(found, mixed("1"));
    let rows = found["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| (&row["speaks"], &row["transport"])).collect();
    let expected =
        ["homa homa", "tcp tcp", "homa_share homa", "tcp_share tcp", "both homa", "both tcp"];
    let expected: Vec<_> = expected.iter().map(|row| row.split_once(' ').unwrap()).collect();
    assert!(names.iter().map(|(a, b)| (a.as_str().unwrap(), b.as_str().unwrap())).eq(expected));
    let loads: Vec<_> = rows.iter().map(|row| row["load"].as_f64().unwrap()).collect();
    assert!(loads.iter().zip([0.8, 0.8, 0.24, 0.56, 0.8, 0.8]).all(|(a, b)| (a - b).abs() < 1e-9));
    let messages = |index: usize| rows[index]["messages"].as_u64().unwrap();
    assert_eq!((messages(0), messages(4) + messages(5)), (850, 850), "85 % of the messages");
    assert_eq!(rows[0]["published_p99_us"], 90.7);
    let mut homa = Command::cargo_bin("homa").unwrap();
    let refused = homa.args(["sim", "reproduce", "mixed", "--share", "1"]).assert().code(2);
    let said = String::from_utf8(refused.get_output().stderr.clone()).unwrap();
    assert!(said.contains("--share must be above 0 and below 1"), "{said}");
}
