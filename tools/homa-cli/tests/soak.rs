//! `homa soak`, shortened: what it says, that it finds what is wrong, and that it leaves nothing.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn soak(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_homa"));
    command.arg("soak").args(arguments).stdin(Stdio::null());
    command
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        let errors = String::from_utf8_lossy(&output.stderr);
        panic!("{error}: {} {errors}", String::from_utf8_lossy(&output.stdout))
    })
}

/// Runs it to an end without violations.
fn held(arguments: &[&str]) -> Value {
    let output = soak(arguments).arg("--json").output().unwrap();
    let report = report(&output);
    for reason in report["skipped"].as_array().unwrap() {
        println!("SKIPPED: {}", reason.as_str().unwrap());
    }
    assert!(output.status.success(), "{report:#}");
    assert_eq!(report["violation_count"], 0, "{report:#}");
    report
}

#[test]
fn some_seconds_of_every_fault_that_is_possible_here_break_no_promise() {
    let report = held(&["--secs", "14", "--seed", "1", "--rate", "50"]);
    assert!(report["calls"]["answered"].as_u64().unwrap() > 100, "{report:#}");
    assert!(report["faults"].as_object().unwrap().len() >= 8, "{report:#}");
}

#[test]
fn killed_servers_are_called_again_over_loopback() {
    let arguments = ["--secs", "8", "--seed", "2", "--network", "loopback", "--faults", "kill"];
    let report = held(&arguments);
    let kills = &report["faults"]["kill"];
    assert!(kills["count"].as_u64().unwrap() > 0, "{report:#}");
    assert!(kills["recovery_secs_max"].as_f64().unwrap() < 10.0, "{report:#}");
}

#[test]
fn a_run_is_repeated_by_its_seed() {
    let faults = || {
        let arguments =
            ["--secs", "6", "--seed", "5", "--network", "loopback", "--faults", "fork,runtime"];
        let output = soak(&arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let first = faults();
    assert!(first.contains("fork") && first.contains("runtime"), "{first}");
    assert_eq!(first, faults());
}

#[test]
fn journals_are_kept_where_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().to_str().unwrap();
    let arguments =
        ["--secs", "6", "--seed", "1", "--network", "loopback", "--faults", "fork", "--out", out];
    let report = held(&arguments);
    let lines = |name: &str| {
        let text = std::fs::read_to_string(directory.path().join(name)).unwrap();
        text.lines().filter(|line| line.contains("\"ran\"")).count() as u64
    };
    let ran = lines("server-0-0.jsonl") + lines("server-1-0.jsonl");
    assert_eq!(report["calls"]["handlers_ran"], ran);
}

#[test]
fn wrong_usage_ends_with_status_2() {
    for (arguments, says) in [
        (&["--secs", "1"][..], "at least 6s"),
        (&["--faults", "rain"], "invalid value 'rain'"),
        (&["--servers", "0"], "0 is not in 1..=32"),
        (&["--seed", "x"], "invalid value 'x'"),
    ] {
        let output = soak(arguments).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains(says), "{arguments:?}: {errors}");
    }
}

#[test]
fn an_actor_that_dies_is_a_violation_that_names_the_seed() {
    let mut run = Running::start(&["--secs", "30", "--seed", "3", "--faults", "fork"]);
    let victim = run.wait_for_actor("soak-client");
    kill_process(Pid::from_raw(victim).unwrap(), Signal::KILL).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    run.interrupt();
    let (status, text) = run.end();
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("ended with signal: 9") && text.contains("--seed 3"), "{text}");
}

#[test]
fn an_interrupted_run_ends_everybody_and_says_what_was_found() {
    let mut run = Running::start(&["--secs", "60", "--seed", "4", "--faults", "stop"]);
    run.wait_for_actor("soak-client");
    let actors = run.actors();
    run.interrupt();
    let (status, text) = run.end();
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("violations none"), "{text}");
    let left: Vec<_> = actors.iter().filter(|actor| lives(**actor)).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A run under way on loopback.
struct Running(Child);

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut command = soak(arguments);
        command.args(["--network", "loopback"]).stdout(Stdio::piped()).stderr(Stdio::null());
        Running(command.spawn().unwrap())
    }

    /// Processes that it has started, by the arguments of `/proc`.
    fn actors(&self) -> Vec<i32> {
        let parent = format!("PPid:\t{}", self.0.id());
        let is_child = |pid: &i32| {
            std::fs::read_to_string(format!("/proc/{pid}/status"))
                .is_ok_and(|status| status.lines().any(|line| line == parent))
        };
        let entries = std::fs::read_dir("/proc").unwrap();
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(is_child).collect()
    }

    fn wait_for_actor(&self, name: &str) -> i32 {
        let start = Instant::now();
        loop {
            let is_it = |pid: &i32| {
                std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
                    line.split(|byte| *byte == 0).any(|word| word == name.as_bytes())
                })
            };
            if let Some(actor) = self.actors().into_iter().find(is_it) {
                // It has to be ready: before, its end would be one of the start.
                std::thread::sleep(Duration::from_secs(2));
                return actor;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "no {name}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn interrupt(&self) {
        kill_process(Pid::from_child(&self.0), Signal::INT).unwrap();
    }

    fn end(&mut self) -> (Option<i32>, String) {
        let output = BufReader::new(self.0.stdout.take().unwrap());
        let text = output.lines().map_while(Result::ok).collect::<Vec<_>>().join("\n");
        (self.0.wait().unwrap().code(), text)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a process runs; one that nobody has waited for does not.
fn lives(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")))
}
