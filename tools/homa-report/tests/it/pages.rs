//! What a page shows of whole, partial and damaged run directories.

use std::{fs, path::PathBuf};

use crate::harness::{document, write_run};
use homa_report::{Report, ReportError};
use serde_json::json;
use tempfile::TempDir;

fn page(directory: &TempDir) -> String {
    let paths = [directory.path().to_owned()];
    Report::read(&paths).unwrap().html(&directory.path().join("report.html"))
}

fn charts(page: &str, name: &str) -> usize {
    page.matches(&format!("data-chart=\"{name}\"")).count()
}

#[test]
fn a_run_has_all_plots_tables_and_facts_on_one_page_that_loads_nothing() {
    let directory = TempDir::new().unwrap();
    write_run(directory.path(), 2_000, |_| {});
    let page = page(&directory);
    assert_eq!(
        ["slowdown", "tail", "queues", "throughput"].map(|name| charts(&page, name)),
        [1, 1, 3, 1]
    );
    for text in [
        "Homa and TCP",
        "W4 at 80\u{a0}% load, 6\u{a0}hosts, 100\u{a0}Mbit/s",
        "12.0×",
        "homa bench cluster --workload w4",
        "Short messages of Homa wait for nobody.",
        "7 to 83 times lower",
        "Round trip of a short message when idle, µs",
        "below <strong>40\u{a0}µs</strong>",
        "href=\"rpcs.csv\"",
    ] {
        assert!(page.contains(text), "{text} is missing");
    }
    for reference in ["src=", "http:", "https:", "url(", "@import", "<link"] {
        assert!(!page.contains(reference), "{reference} is in the page");
    }
}

#[test]
fn differences_below_the_resolution_of_the_network_are_shown_as_such() {
    let directory = TempDir::new().unwrap();
    write_run(directory.path(), 100, |run| {
        run["fidelity"]["latency_resolution_ns"] = json!(1_000_000);
    });
    // P50: 60 and 720 us; P99: 200 and 2,400 us.
    let found = page(&directory);
    assert_eq!(
        found.matches("below what this run tells apart").count(),
        4,
        "all but tails of times"
    );
    assert!(found.contains("< resolution") || found.contains("&lt; resolution"));
    assert!(found.contains("of which it says nothing: homa-udp and TCP: short messages, P50"));
    write_run(directory.path(), 100, |run| {
        run["fidelity"] =
            json!({ "latency_resolution_ns": 1_000_000, "median_resolution_ns": 10_000 });
        run["transports"][0]["summary"]["machine_late_p99_us"] = json!(2_500.0);
        run["transports"][0]["summary"]["machine_late_max_us"] = json!(4_000.0);
        run["network"]["comfortable"] = json!(false);
        run["network"]["saturation"] = json!({ "packets_per_s": 50_000.0 });
        run["network"]["expected"] = json!({ "packets_per_s": 40_000.0 });
        run["queue_looks"] = json!({ "recorded": true, "every_ms": 5.6 });
    });
    let found = page(&directory);
    // P99, since programs waited that long to run, what was carried, and the doubts; medians are
    // told apart.
    assert!(found.contains("of which it says nothing: homa-udp and TCP: short messages, P99"));
    assert_eq!(found.matches("below what this run tells apart").count(), 3);
    for text in
        ["saturates at 50,000 packets/s, and 40,000", "recorded them every 5.6", "2.5\u{a0}ms"]
    {
        assert!(found.contains(text), "{text} is missing");
    }
    write_run(directory.path(), 100, |run| {
        run["fidelity"] = json!(null);
        run["transports"][0]["unloaded"][0]["p90_ns"] = json!(2_630_000);
    });
    let found = page(&directory);
    assert_eq!(
        found.matches("below what this run tells apart").count(),
        6,
        "P99 and P99 average too"
    );
    assert!(found.contains("from P50 to P90"), "where it comes from is not said");
}

#[test]
fn whatever_comes_from_files_is_escaped() {
    let directory = TempDir::new().unwrap();
    let evil = "<script>alert(1)</script>\"'><img onerror=x>&amp;";
    write_run(directory.path(), 100, |run| {
        for text in ["/plan/title", "/plan/expect", "/plan/published/0", "/variant", "/command/0"] {
            *run.pointer_mut(text).unwrap() = json!(evil);
        }
        run["machine"][evil] = json!(evil);
        run["transports"][0]["name"] = json!(evil);
        run["transports"][0]["summary"]["failures"] = json!([evil]);
    });
    let page = page(&directory);
    assert!(!page.contains("<script>alert") && !page.contains("<img"), "not escaped");
    assert!(page.contains("&lt;script&gt;alert(1)"));
    let report = Report::read(&[directory.path().to_owned()]).unwrap();
    let picture = report.picture_svg().unwrap();
    assert!(!picture.contains("<script>alert") && !picture.contains("<img"), "not escaped");
    // What reads the SVG as XML finds it well-formed.
    #[cfg(feature = "png")]
    assert!(homa_report::png::render(&picture).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn runs_that_ended_early_say_so() {
    let directory = TempDir::new().unwrap();
    write_run(directory.path(), 100, |run| {
        run["interrupted"] = json!(true);
        run["transports"][2]["summary"] = json!({ "failures": ["round 1: host 3 is gone"] });
    });
    let page = page(&directory);
    for text in ["ended early", "interrupted", "not wholly measured: tcp-bbr-x8", "host 3 is gone"]
    {
        assert!(page.contains(text), "{text} is missing");
    }
}

#[test]
fn without_rpcs_the_plot_is_drawn_from_the_table_by_size() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("run.json"), document().to_string()).unwrap();
    let page = page(&directory);
    assert_eq!(["slowdown", "tail", "queues"].map(|name| charts(&page, name)), [1, 0, 0]);
    assert!(page.contains("rpcs.csv cannot be used"), "the reason is missing");
    assert!(page.contains("The network did not tell the length of its queues."));
}

#[test]
fn damaged_lines_are_counted_and_the_rest_is_drawn() {
    let directory = TempDir::new().unwrap();
    write_run(directory.path(), 500, |_| {});
    let path = directory.path().join("rpcs.csv");
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str("homa-udp,0,0,1,many,1,1,ok\nquic,0,0,1,1,1,1,ok\nhoma-udp,0,0,1,64,6");
    fs::write(&path, text).unwrap();
    let page = page(&directory);
    assert!(page.contains("3 of 3,003 lines of rpcs.csv"), "the count is missing");
    assert_eq!(charts(&page, "slowdown"), 1);
}

#[test]
fn variants_of_a_plan_are_a_study_in_the_order_of_the_setting() {
    let directory = TempDir::new().unwrap();
    for load in [0.5, 0.1, 0.8] {
        write_run(&directory.path().join(format!("load-{load}")), 100, |run| {
            run["variant"] = json!(format!("load {load}"));
            run["plan"]["load"]["load"] = json!(load);
        });
    }
    fs::create_dir(directory.path().join("unfinished")).unwrap();
    fs::write(directory.path().join("unfinished/rpcs.csv"), "").unwrap();
    let page = page(&directory);
    assert_eq!((charts(&page, "study"), charts(&page, "slowdown")), (2, 3));
    assert!(
        page.contains("Load, as a share of the links")
            && page.contains("unfinished has no run.json")
    );
    let study = &page[page.find("data-chart=\"study\"").unwrap()..];
    let ticks: Vec<usize> =
        [">0.1<", ">0.5<", ">0.8<"].iter().map(|tick| study.find(tick).unwrap()).collect();
    assert!(ticks.is_sorted(), "{ticks:?}");
}

#[test]
fn a_page_begins_with_the_outcome_and_the_main_plot() {
    let directory = TempDir::new().unwrap();
    write_run(directory.path(), 2_000, |run| {
        run["date"] = json!("2026-11-22T10:40:00Z");
        run["host"] = json!("quiet");
        run["homa"] = json!({ "version": "0.1.0", "commit": "abc123" });
    });
    let page = page(&directory);
    let places: Vec<usize> = [
        "<h1>",
        "class=\"outcome\">W4 at 80",
        "data-chart=\"slowdown\"",
        "says how many times longer a message took",
        "Measured 2026-11-22 10:40:00 UTC, on quiet, 2 processors, Linux 6.18, homa 0.1.0 (commit abc123).",
        "against the best variant of TCP",
        "Expected: ",
        "All transports",
    ]
    .map(|text| page.find(text).unwrap_or_else(|| panic!("{text} is missing")))
    .to_vec();
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn a_run_that_is_named_twice_is_shown_once() {
    let directory = TempDir::new().unwrap();
    write_run(directory.path(), 100, |_| {});
    let again = directory.path().join(".");
    let report = Report::read(&[directory.path().to_owned(), again]).unwrap();
    let page = report.html(&directory.path().join("report.html"));
    assert_eq!(charts(&page, "slowdown"), 1);
    assert!(page.contains("was named twice and is shown once"), "nobody says so");
}

#[test]
fn runs_of_the_same_name_are_told_apart_by_their_directories() {
    let directory = TempDir::new().unwrap();
    let paths = ["monday", "friday"].map(|name| directory.path().join(name));
    paths.iter().for_each(|path| write_run(path, 100, |_| {}));
    let page = Report::read(&paths).unwrap().html(&directory.path().join("report.html"));
    for path in paths {
        let heading = format!("Homa and TCP side by side ({})", path.display());
        assert!(page.contains(&heading), "{heading} is missing");
    }
}

#[test]
fn two_variants_are_two_plots_by_size_and_a_table() {
    let directory = TempDir::new().unwrap();
    for workload in ["w3", "w4"] {
        write_run(&directory.path().join(workload), 100, |run| {
            run["variant"] = json!(workload);
            run["plan"]["load"]["workload"] = json!(workload);
        });
    }
    let page = page(&directory);
    assert_eq!((charts(&page, "study"), charts(&page, "slowdown")), (0, 2));
    assert!(page.contains(">Workload<") && !page.contains("load.workload"), "the setting's name");
    let first = |text: &str| page.find(text).unwrap();
    assert!(first("data-chart=\"slowdown\"") < first("run by run"), "the table comes first");
}

#[test]
fn messages_of_one_size_are_drawn_by_their_times() {
    let directory = TempDir::new().unwrap();
    write_run(directory.path(), 200, |run| {
        for transport in run["transports"].as_array_mut().unwrap() {
            for decile in transport["summary"]["deciles"].as_array_mut().unwrap() {
                decile["size_bytes"] = json!(500);
            }
        }
    });
    let path = directory.path().join("rpcs.csv");
    let text = fs::read_to_string(&path).unwrap();
    let of_one_size = |line: &str| {
        let mut fields: Vec<&str> = line.split(',').collect();
        if fields[0] != "transport" {
            fields[4] = "500";
        }
        fields.join(",") + "\n"
    };
    fs::write(&path, text.lines().map(of_one_size).collect::<String>()).unwrap();
    let page = page(&directory);
    assert_eq!(["slowdown", "tail"].map(|name| charts(&page, name)), [0, 1]);
}

#[test]
fn what_is_no_run_is_refused_with_the_reason() {
    let directory = TempDir::new().unwrap();
    let read = || Report::read(&[directory.path().to_owned()]).unwrap_err();
    assert!(matches!(read(), ReportError::NoRun { .. }));
    let nowhere = Report::read(&[PathBuf::from("/nonexistent")]).unwrap_err();
    assert!(matches!(nowhere, ReportError::Read { .. }));
    let path = directory.path().join("run.json");
    for (text, part) in [("{\"schema\": 1", "line 1"), ("[]", "run"), ("{\"schema\": 1}", "plan")] {
        fs::write(&path, text).unwrap();
        let error = read();
        assert!(matches!(error, ReportError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
    fs::write(&path, "{\"schema\": 99}").unwrap();
    assert!(matches!(read(), ReportError::Newer { found: 99, .. }));
}

#[test]
fn a_million_rpcs_make_a_small_page() {
    let directory = TempDir::new().unwrap();
    write_run(directory.path(), 170_000, |_| {});
    let page = page(&directory);
    assert!(page.len() < 500_000, "{} bytes", page.len());
}
