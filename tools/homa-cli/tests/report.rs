//! `homa report` as users run it, from a run made for it.
#![allow(missing_docs)]

use std::{fs, path::Path};

use assert_cmd::Command;
use predicates::str::contains;

fn homa(directory: &Path, arguments: &[&str]) -> assert_cmd::assert::Assert {
    let mut command = Command::new(env!("CARGO_BIN_EXE_homa"));
    command
        .args(arguments)
        .current_dir(directory)
        .timeout(std::time::Duration::from_secs(120))
        .assert()
}

#[test]
fn a_run_is_drawn_at_its_end_and_again_from_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    // Loopback has no switch, and a busy machine may leave RPCs unfinished: the exit status is not
    // what is tested.
    let bench = "bench cluster --loopback --hosts 2 --workload w1 --load 0.05 --secs 0.5 --rounds 1 --transport homa-udp \
                 --transport tcp-reno --out run --report";
    homa(here, &bench.split_whitespace().collect::<Vec<_>>());
    let page = fs::read_to_string(here.join("run/report.html")).unwrap();
    for text in ["data-chart=\"slowdown\"", "homa-udp", "tcp-reno", "href=\"rpcs.csv\""] {
        assert!(page.contains(text), "{text} is missing");
    }
    fs::remove_file(here.join("run/report.html")).unwrap();
    let report = ["report", "run", "--svg", "a/picture.svg", "--json"];
    homa(here, &report).success().stdout(contains("run/report.html"));
    assert!(here.join("run/report.html").exists());
    assert!(fs::read_to_string(here.join("a/picture.svg")).unwrap().starts_with("<svg xmlns="));
    png(here);
}

/// With the feature the picture is there as PNG; without it, the error says how to get it.
fn png(here: &Path) {
    let report = homa(here, &["report", "run", "--png", "picture.png"]);
    if cfg!(feature = "png") {
        report.success();
        assert!(fs::read(here.join("picture.png")).unwrap().starts_with(b"\x89PNG"));
    } else {
        report.code(2).stderr(contains("--features png"));
        assert!(!here.join("picture.png").exists());
    }
}

#[test]
fn a_directory_without_a_run_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    homa(directory.path(), &["report", "."]).failure().code(1).stderr(contains("run.json"));
    homa(directory.path(), &["report"]).failure().code(2);
}
