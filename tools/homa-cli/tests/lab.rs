//! `homa lab` as users run it, in real namespaces.
#![allow(missing_docs)]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::Signal;

use common::{NOBODY, Place, USERS_PATH, kill, processes, unique_sleep, wait_for};

fn holder(place: &Place, name: &str) -> i32 {
    let text = place.succeed(&["lab", "status", name, "--json"]);
    let labs: serde_json::Value = serde_json::from_str(&text).unwrap();
    labs[0]["lab"]["process"]["pid"].as_i64().unwrap() as i32
}

fn up_exec_status_and_down(place: &Place, switch: &str) {
    let up = ["lab", "up", "--force", "--hosts", "3", "--backend", switch];
    assert!(place.succeed(&up).contains("10.66.0.3"));
    assert!(place.fail(&up).contains("is up already"));
    let addresses = place.succeed(&["lab", "exec", "h2", "--", "ip", "-br", "addr"]);
    assert!(addresses.contains("10.66.0.3/16"), "{addresses}");
    assert!(
        place.succeed(&["lab", "exec", "h2", "--", "getent", "ahosts", "h1"]).contains("10.66.0.2")
    );
    let output = place.run(&["lab", "exec", "1", "--", "sh", "-c", "exit 7"]);
    assert_eq!(output.status.code(), Some(7));
    assert!(place.fail(&["lab", "exec", "h3", "--", "true"]).contains("no host h3"));
    assert!(place.succeed(&["lab", "status"]).contains(&format!("switch: {switch}")));
    place.succeed(&["lab", "down"]);
    assert!(place.succeed(&["lab", "status"]).contains("No labs"));
    assert!(place.fail(&["lab", "down"]).contains("no lab named"));
    assert!(place.fail(&["lab", "exec", "h0", "--", "true"]).contains("no lab named"));
}

#[test]
fn a_lab_goes_up_runs_programs_and_goes_down() {
    if let Some(place) = Place::new(None) {
        up_exec_status_and_down(&place, "kernel");
        up_exec_status_and_down(&place, "switch");
    }
}

#[test]
fn an_ordinary_user_needs_no_root() {
    if let Some(place) = Place::new(Some(NOBODY)) {
        up_exec_status_and_down(&place, "kernel");
        up_exec_status_and_down(&place, "switch");
    }
}

#[test]
fn an_ordinary_user_compares_in_a_lab() {
    let Some(place) = Place::new(Some(NOBODY)) else { return };
    let out = place.path().join("state/results");
    let line = "bench cluster --hosts 2 --rate 10M --secs 0.2 --rounds 1 --workload fixed:100 --transport homa-udp --out";
    let arguments: Vec<&str> = line.split(' ').chain(out.to_str()).collect();
    place.succeed(&arguments);
    assert!(out.join("run.json").is_file());
}

#[test]
fn nothing_remains_when_the_holder_is_killed_and_its_leftovers_are_listed_and_removed() {
    for user in [None, Some(NOBODY)] {
        let Some(place) = Place::new(user) else { continue };
        place.succeed(&["lab", "up", "--force", "--name", "k"]);
        let sleep = unique_sleep();
        let line = format!("trap '' TERM HUP INT; setsid sleep {sleep} & wait");
        let mut exec = place
            .command(&["lab", "exec", "h1", "--name", "k", "--", "sh", "-c", &line])
            .spawn()
            .unwrap();
        wait_for("the program to start", || !processes(&sleep).is_empty());
        let namespace = fs::read_link(format!("/proc/{}/ns/net", processes(&sleep)[0])).unwrap();
        kill(holder(&place, "k"), Signal::KILL);
        wait_for("the programs to end", || processes(&sleep).is_empty());
        assert!(!exec.wait().unwrap().success());
        wait_for("the namespace to go", || !in_use(&namespace));
        assert!(place.succeed(&["lab", "status"]).contains("k: crashed"));
        assert!(place.succeed(&["lab", "down", "k"]).contains("leftovers are removed"));
        place.succeed(&["lab", "up", "--force", "--name", "k"]);
        place.succeed(&["lab", "down", "k"]);
    }
}

/// Whether any process lives in a namespace or holds a descriptor of it.
fn in_use(namespace: &Path) -> bool {
    let entries = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten();
    entries("/proc".into()).any(|process| {
        let path = process.path();
        fs::read_link(path.join("ns/net")).is_ok_and(|link| link == namespace)
            || entries(path.join("fd"))
                .any(|fd| fs::read_link(fd.path()).is_ok_and(|link| link == namespace))
    })
}

#[test]
fn a_run_that_is_interrupted_or_killed_leaves_nothing() {
    let Some(place) = Place::new(None) else { return };
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let sleep = unique_sleep();
        let plan = place.write(
            "plan.toml",
            &format!("[[command]]\nhost = \"all\"\nrun = \"setsid sleep {sleep} & wait\"\n"),
        );
        let mut run = place.command(&["lab", "run", &plan, "--force"]).spawn().unwrap();
        wait_for("the programs to start", || processes(&sleep).len() == 6);
        kill(run.id() as i32, signal);
        wait_for("the programs to end", || processes(&sleep).is_empty());
        assert!(!run.wait().unwrap().success());
    }
}

#[test]
fn a_run_collects_what_its_commands_print_and_names_those_that_fail() {
    let Some(place) = Place::new(None) else { return };
    let plan = place.write(
        "plan.toml",
        r#"
[lab]
hosts = 3
trace_interval_us = 100
[[command]]
host = 0
run = "homa serve 0.0.0.0:4000"
background = true
[[command]]
host = [1, 2]
delay_ms = 300
timeout_ms = 30000
run = "homa call h0:4000 --size 20k --count 20 --verify && echo by host $LAB_HOST"
[[command]]
host = 2
run = ["sh", "-c", "exit 3"]
[[command]]
host = 2
run = "sleep 100"
timeout_ms = 200
[[command]]
host = 1
background = true
run = "exit 5"
[[command]]
host = 1
background = true
run = "true"
"#,
    );
    let out = place.path().join("out");
    let path = format!("{}:{}", place.path().display(), std::env::var("PATH").unwrap());
    let output = place
        .command(&["lab", "run", &plan, "--force", "--json", "--out", out.to_str().unwrap()])
        .env("PATH", path)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("3 of 7 commands failed"), "{error}");
    assert!(error.contains("exit 3") && error.contains("took too long"), "{error}");
    assert!(error.contains("ended before the run (exit status: 5)"), "{error}");
    assert!(!error.contains("exit status: 0"), "{error}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let printed = report["commands"][1]["printed"].as_str().unwrap();
    assert!(printed.contains("by host 1"), "{printed}");
    assert_eq!(report["switch"]["backend"], "switch");
    let queues = fs::read_to_string(out.join("queues.csv")).unwrap();
    assert!(queues.lines().count() > 1, "no queue was ever seen");
    assert!(fs::read_to_string(out.join("002-h2.out")).unwrap().contains("by host 2"));
}

#[test]
fn a_dry_run_shows_the_commands_and_builds_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plan.toml");
    fs::write(&path, "[[command]]\nhost = \"all\"\ntimeout_ms = 1500\nrun = \"true\"\n").unwrap();
    let out = directory.path().join("out");
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_homa"));
        command.args(["lab", "run", path.to_str().unwrap(), "--out", out.to_str().unwrap()]);
        let output = command.arg("--dry-run").args(more).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let text = run(&[]);
    assert!(text.contains("Nothing is built now") && text.contains("h5"), "{text}");
    let document: serde_json::Value = serde_json::from_str(&run(&["--json"])).unwrap();
    assert_eq!(document["commands"].as_array().unwrap().len(), 6);
    assert_eq!(document["longest_ms"], 1500);
    assert!(!out.exists());
}

#[test]
fn broken_plans_are_refused_with_line_and_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plan.toml");
    fs::write(&path, "[lab]\nhosts = 4\nspeed = 1\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_homa"))
        .args(["lab", "run", path.to_str().unwrap()])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("line 3") && error.contains("speed"), "{error}");
}

#[test]
fn a_rate_that_the_machine_cannot_carry_is_refused_with_what_it_can() {
    let Some(place) = Place::new(None) else { return };
    let error = place.fail(&["lab", "up", "--rate", "100G", "--hosts", "4"]);
    assert!(error.contains("the emulation saturates at"), "{error}");
    assert!(error.contains("--force"), "{error}");
}

#[test]
fn missing_programs_are_named_with_their_package() {
    let Some(place) = Place::new(None) else { return };
    // Nothing is left where programs of administrators are, in mounts that only this command sees.
    let hide = "for d in /usr/local/sbin /usr/sbin /sbin; do mount -t tmpfs none $d || exit 77; done; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", hide, "sh"]);
    let lab = place.command(&["lab", "up", "--force"]);
    command.arg(lab.get_program()).args(lab.get_args());
    command.env("XDG_RUNTIME_DIR", place.path().join("state")).env("PATH", USERS_PATH);
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) || error.starts_with("unshare: ") {
        println!("SKIPPED: {error}");
        return;
    }
    assert!(error.contains("is not installed") && error.contains("iproute2"), "{error}");
}

#[test]
fn users_without_the_directories_of_administrators_in_their_path_have_labs() {
    let Some(place) = Place::new(Some(NOBODY)) else { return };
    place.succeed(&["lab", "up", "--force", "--hosts", "2"]);
    assert!(place.succeed(&["lab", "exec", "h0", "--", "tc", "qdisc"]).contains("tbf"));
    place.succeed(&["lab", "down"]);
    let plan = place.write("plan.toml", "[[command]]\nhost = 1\nrun = \"tc qdisc\"\n");
    assert!(place.succeed(&["lab", "run", &plan, "--force"]).contains("h1 | qdisc tbf"));
    let text = place.succeed(&["doctor", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let found = |name: &str| {
        let checks = document["checks"].as_array().unwrap();
        let check = checks.iter().find(|one| one["check"].as_str().unwrap().starts_with(name));
        check.unwrap()["found"].as_str().unwrap().to_owned()
    };
    assert!(found("programs that build labs").ends_with("/tc"), "{text}");
    assert_eq!(found("user namespaces"), "allowed");
    assert_eq!(found("lab of two hosts"), "built and taken down, switches: kernel, switch");
    assert_eq!(found("`homa bench`"), "compares in a lab");
    assert!(!found("nftables rules").contains("no `nft`") || !Path::new("/usr/sbin/nft").exists());
}

#[test]
fn exec_passes_the_input_and_output_of_the_program_on() {
    let Some(place) = Place::new(None) else { return };
    place.succeed(&["lab", "up", "--force", "--hosts", "2"]);
    let mut child = place
        .command(&["lab", "exec", "h0", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"through\n").unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "through\n");
    assert!(child.wait().unwrap().success());
    place.succeed(&["lab", "down"]);
}
