//! `homa bench cluster` and `homa bench plan` without a lab: loopback, and machines behind a stand-in for ssh.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use assert_cmd::Command;

const PLAN: &str = "transports = [\"homa-udp\", \"tcp-cubic-x2\"]\n\
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
    assert!(rows.contains("homa-udp,0,") && rows.contains("tcp-cubic-x2,0,"));
    assert!(fs::read_to_string(directory.join("run.json")).unwrap().contains("\"schema\": 1"));
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

/// Runs hosts that speak QUIC and gRPC, where their program was built; its own tests say what it does.
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
        let text = PLAN.replace("\"homa-udp\", \"tcp-cubic-x2\"", "\"quic-x2\", \"grpc\"");
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
