//! `homa bench cluster` and `homa bench plan` without a lab: loopback, and machines behind a
//! stand-in for ssh.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{self, Output, Stdio},
};

use assert_cmd::Command;
use rustix::process::{Pid, Signal, kill_process};

const PLAN: &str = "transports = [\"homa-udp\", \"tcp-reno-x2\"]\n\
    [load]\nworkload = \"w2\"\nload = 0.02\nwarm_up = 0.1\nsecs = 0.5\ndrain = 1\nrounds = 1\n";

fn homa() -> Command {
    let mut command = Command::cargo_bin("homa").unwrap();
    command.timeout(std::time::Duration::from_secs(120));
    command
}

/// Every transport has RPCs, all of which ended well, and the files have what the document tells.
fn check(document: &[u8], directory: &Path) {
    let document: serde_json::Value = serde_json::from_slice(document).unwrap();
    let transports = document["transports"].as_array().unwrap();
    assert_eq!(transports.len(), 2, "{document}");
    for transport in transports {
        let summary = &transport["summary"];
        assert_eq!(summary["failures"].as_array().unwrap().len(), 0, "{summary}");
        assert!(summary["rpcs"].as_u64().unwrap() > 10, "{summary}");
        assert_eq!(summary["failed"], 0, "{summary}");
        assert!(summary["short"]["p50_us"].as_f64().unwrap() > 0.0, "{summary}");
    }
    let rows = fs::read_to_string(directory.join("rpcs.csv")).unwrap();
    assert!(
        rows.starts_with("transport,round,client,server,size_bytes,start_ns,latency_ns,status\n")
    );
    assert!(rows.contains("homa-udp,0,") && rows.contains("tcp-reno-x2,0,"));
    assert!(fs::read_to_string(directory.join("run.json")).unwrap().contains("\"schema\": 2"));
}

#[test]
fn hosts_on_loopback_compare_transports_and_leave_their_files() {
    let directory = tempfile::tempdir().unwrap();
    let plan = directory.path().join("plan.toml");
    fs::write(&plan, format!("{PLAN}[network]\nkind = \"loopback\"\nhosts = 3\n")).unwrap();
    let out = directory.path().join("out");
    let run = homa().args(["--json", "bench", "plan"]).arg(&plan).arg("--out").arg(&out).assert();
    check(&run.success().get_output().stdout, &out);
}

#[test]
fn the_same_plan_runs_over_machines_that_ssh_reaches() {
    let directory = tempfile::tempdir().unwrap();
    let ssh = directory.path().join("ssh");
    // Forgets the machine's name and runs the command here.
    fs::write(&ssh, "#!/bin/sh\nshift\nexec \"$@\"\n").unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let plan = directory.path().join("plan.toml");
    let network = "[network]\nkind = \"ssh\"\nssh = [\"one\", \"two\"]\n\
        addresses = [\"127.0.0.1\", \"127.0.0.2\"]\n";
    fs::write(&plan, format!("{PLAN}{network}")).unwrap();
    let out = directory.path().join("out");
    let remote = format!("{} bench-host", env!("CARGO_BIN_EXE_homa"));
    let mut run = homa();
    run.args(["--json", "bench", "plan"]).arg(&plan).arg("--out").arg(&out);
    let run = run.arg("--ssh").arg(&ssh).args(["--remote", &remote]).assert();
    check(&run.success().get_output().stdout, &out);
}

#[test]
fn a_broken_plan_is_refused_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let plan = directory.path().join("plan.toml");
    fs::write(&plan, "[load]\nsecs = 1\nlaod = 0.5\n").unwrap();
    let run = homa().args(["bench", "plan"]).arg(&plan).assert().code(2);
    let text = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
    assert!(text.contains("line 3") && text.contains("laod"), "{text}");
}

/// A plan over loopback that takes a second, with these variants.
fn short_plan(directory: &Path, variants: &[&str]) -> std::path::PathBuf {
    let plan = directory.join("plan.toml");
    let mut text = format!("{PLAN}[network]\nkind = \"loopback\"\nhosts = 2\n");
    for name in variants {
        text += &format!("[[variant]]\nname = \"{name}\"\n");
    }
    fs::write(&plan, text).unwrap();
    plan
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn wrong_values_and_settings_are_refused_with_file_and_line_before_anything_is_built() {
    let directory = tempfile::tempdir().unwrap();
    let plan = directory.path().join("plan.toml");
    for (text, parts) in [
        ("[homa]\ngrants.max_overcommit = 2\nfrobnicate = 3\n", ["line 3", "frobnicate"]),
        (
            "[load]\nsecs = 1\n[[variant]]\nname = \"a\"\ntransports = [\"tcp-nope\"]\n",
            ["line 5", "control `nope`"],
        ),
        ("[load]\nload = 0\n", ["line 2", "load.load"]),
        ("[[variant]]\nname = \"a\"\n[[variant]]\nname = \"a\"\n", ["line 3", "`a`"]),
        ("[[variant]]\nname = \"a\"\nhoma.priorities.count = 9\n", ["line 3", "priorities.count"]),
    ] {
        fs::write(&plan, text).unwrap();
        let out = directory.path().join("out");
        let output =
            homa().args(["bench", "plan"]).arg(&plan).arg("--out").arg(&out).output().unwrap();
        let errors = errors(&output);
        assert_eq!(output.status.code(), Some(2), "{text}: {errors}");
        let known = parts.iter().all(|part| errors.contains(part));
        assert!(known && !errors.contains("process failed"), "{text}: {errors}");
        assert!(!out.exists(), "{text}");
    }
}

#[test]
fn results_that_cannot_be_written_are_found_out_before_the_run() {
    let directory = tempfile::tempdir().unwrap();
    let plan = short_plan(directory.path(), &[]);
    let mut run = homa();
    let output =
        run.args(["bench", "plan"]).arg(&plan).args(["--out", "/proc/nope"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "nothing was measured");
    assert!(errors(&output).contains("cannot write results to /proc/nope"), "{}", errors(&output));
}

#[test]
fn what_cannot_be_written_after_the_run_is_printed_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let plan = short_plan(directory.path(), &[]);
    let out = directory.path().join("out");
    let mut run = process::Command::new(env!("CARGO_BIN_EXE_homa"));
    run.args(["bench", "plan"]).arg(&plan).arg("--out").arg(&out);
    let mut run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = BufReader::new(run.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("round 1 of 1: homa-udp") {
        assert!(errors.read_line(&mut said).unwrap() > 0, "{said}");
    }
    // The directory was there and could be written to; now it is a file.
    fs::remove_dir_all(&out).unwrap();
    fs::write(&out, "").unwrap();
    errors.read_to_string(&mut said).unwrap();
    let output = run.wait_with_output().unwrap();
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(table.contains("homa-udp") && table.contains("tcp-reno-x2"), "{table}");
    assert!(said.contains(&format!("cannot write {}", out.display())), "{said}");
}

#[test]
fn variants_have_results_of_their_own_inside_the_directory_and_earlier_ones_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let plan = short_plan(directory.path(), &["a b", "a-b", ".."]);
    let out = directory.path().join("below/results");
    let run = || {
        let output =
            homa().args(["bench", "plan"]).arg(&plan).arg("--out").arg(&out).output().unwrap();
        assert!(output.status.success(), "{}", errors(&output));
        errors(&output)
    };
    assert!(!run().contains("earlier results"));
    for (name, variant) in [("a-b", "a b"), ("a-b-2", "a-b"), ("-.", "..")] {
        let text = fs::read_to_string(out.join(name).join("run.json")).unwrap();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["variant"], variant);
        for key in ["date", "host", "homa", "command", "machine"] {
            assert!(!document[key].is_null(), "{key}: {document}");
        }
    }
    assert!(!out.join("run.json").exists() && !directory.path().join("below/run.json").exists());
    assert!(run().contains("earlier results"));
    assert!(directory.path().join("below/results.1/a-b/run.json").exists());
}

#[test]
fn a_dry_run_says_what_would_be_done_and_how_long_it_takes_and_does_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let plan = short_plan(directory.path(), &["one", "two"]);
    let out = directory.path().join("out");
    let mut run = homa();
    run.args(["bench", "plan", "--dry-run"]).arg(&plan).arg("--out").arg(&out);
    let text = String::from_utf8(run.assert().success().get_output().stdout.clone()).unwrap();
    for part in ["Homa and TCP: one", "round 1 of 1: tcp-reno-x2", "in all, about"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!out.exists());
    // The comparison that nobody gave options takes about two minutes.
    let output = homa().args(["--json", "bench", "--dry-run"]).output().unwrap();
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let secs = document["secs"].as_u64().unwrap();
    assert!((60..=160).contains(&secs), "{secs}");
    assert_eq!(document["variants"][0]["name"], "w4");
}

/// Runs a plan of three transports, and ends it by a signal while the second is under way.
fn interrupted(signal: Signal) -> (Output, std::path::PathBuf, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let plan = short_plan(directory.path(), &[]);
    let text = fs::read_to_string(&plan).unwrap();
    let text = text.replace("\"tcp-reno-x2\"", "\"tcp-reno-x2\", \"tcp-reno\"");
    fs::write(&plan, text.replace("secs = 0.5", "secs = 2")).unwrap();
    let out = directory.path().join("out");
    let mut run = process::Command::new(env!("CARGO_BIN_EXE_homa"))
        .args(["bench", "plan"])
        .arg(&plan)
        .arg("--out")
        .arg(&out)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Until the second transport is under way; what is printed later is read by the wait.
    let mut errors = BufReader::new(run.stderr.take().unwrap());
    let mut said = String::new();
    let mut line = String::new();
    while errors.read_line(&mut line).unwrap() > 0 {
        said += &line;
        if line.contains("round 1 of") && line.contains("tcp-reno-x2") {
            break;
        }
        line.clear();
    }
    kill_process(Pid::from_child(&run), signal).unwrap();
    errors.read_to_string(&mut said).unwrap();
    let mut output = run.wait_with_output().unwrap();
    output.stderr = said.into_bytes();
    (output, out, directory)
}

#[test]
fn an_interrupted_run_is_acknowledged_and_leaves_out_what_was_not_measured() {
    for signal in [Signal::INT, Signal::TERM] {
        let (output, out, _directory) = interrupted(signal);
        let (said, table) = (errors(&output), String::from_utf8_lossy(&output.stdout).into_owned());
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("interrupted; writing what was measured"), "{said}");
        assert!(!said.contains("process failed") && !said.contains("controller"), "{said}");
        assert!(table.contains("homa-udp") && !table.contains("NaN"), "{table}");
        for name in ["tcp-reno-x2", "tcp-reno"] {
            assert!(
                table.contains(&format!("{name}: not measured (interrupted before)")),
                "{table}"
            );
        }
        let text = fs::read_to_string(out.join("run.json")).unwrap();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["interrupted"], true);
        assert_eq!(document["transports"].as_array().unwrap().len(), 1, "{text}");
        assert_eq!(document["not_measured"][0]["name"], "tcp-reno-x2");
        let rows = fs::read_to_string(out.join("rpcs.csv")).unwrap();
        assert!(rows.contains("homa-udp,0,") && !rows.contains("tcp-"));
    }
}

#[test]
fn a_transport_whose_program_is_missing_is_refused_with_the_command_that_builds_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = homa();
    run.args(["bench", "cluster", "--loopback", "--transport", "homa-udp", "--transport", "quic"]);
    run.env("HOMA_BENCH_PEERS", directory.path().join("nothing"));
    let run = run.arg("--out").arg(directory.path()).assert().code(2);
    let text = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
    assert!(text.contains("--manifest-path peers/Cargo.toml"), "{text}");
}

/// Runs hosts that speak QUIC and gRPC, where their program was built; its own tests say what it
/// does.
#[test]
fn hosts_that_speak_other_transports_are_started_by_their_program() {
    let directory = tempfile::tempdir().unwrap();
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../peers/target/release/homa-bench-peers");
    let given = std::env::var_os("HOMA_BENCH_PEERS");
    if given.is_none() && !Path::new(built).exists() {
        println!(
            "SKIPPED: no {built}; `cargo build --release --manifest-path peers/Cargo.toml` makes it"
        );
        return;
    }
    let program = given.unwrap_or_else(|| built.into());
    let ssh = directory.path().join("ssh");
    fs::write(&ssh, "#!/bin/sh\nshift\nexec \"$@\"\n").unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let _ = std::os::unix::fs::symlink(&program, directory.path().join("homa-bench-peers"));
    let plan = directory.path().join("plan.toml");
    for network in [
        "[network]\nkind = \"loopback\"\nhosts = 3\n",
        "[network]\nkind = \"ssh\"\nssh = [\"one\", \"two\"]\naddresses = [\"127.0.0.1\", \"127.0.0.2\"]\n",
    ] {
        let text = PLAN.replace("\"homa-udp\", \"tcp-reno-x2\"", "\"quic-x2\", \"grpc\"");
        fs::write(&plan, format!("{text}{network}")).unwrap();
        let out = directory.path().join("out");
        let mut run = homa();
        run.env("HOMA_BENCH_PEERS", &program).args(["--json", "bench", "plan"]).arg(&plan);
        let remote = format!("{}/homa bench-host", directory.path().display());
        run.arg("--out").arg(&out).arg("--ssh").arg(&ssh).args(["--remote", &remote]);
        let document = run.assert().success().get_output().stdout.clone();
        let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
        for transport in document["transports"].as_array().unwrap() {
            let summary = &transport["summary"];
            assert!(summary["rpcs"].as_u64().unwrap() > 10, "{network}{summary}");
            assert_eq!(summary["failed"], 0, "{network}{summary}");
        }
    }
}
