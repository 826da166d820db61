//! Signals that are for `homa lab exec` reach what it runs.
#![allow(missing_docs)]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdout, Command, Stdio},
};

use common::{Place, kill, processes, unique_sleep, wait_for};
use rustix::process::Signal;

/// A place with a lab that is up.
fn place() -> Option<Place> {
    let place = Place::new(None)?;
    place.succeed(&["lab", "up", "--force", "--hosts", "2"]);
    Some(place)
}

/// A `homa lab exec` with the signals' default actions. A shell does not trap what its parents
/// ignore, as those of background jobs and of `nohup` do.
fn exec(place: &Place, words: &[&str]) -> Command {
    let homa = place.command(&["lab", "exec"]);
    let mut command = Command::new("env");
    command.arg("--default-signal").arg(homa.get_program()).args(homa.get_args()).args(words);
    command.envs(homa.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir("/");
    command
}

/// A shell script in a host, after it has printed its first line.
fn start(place: &Place, script: &str) -> (Child, BufReader<ChildStdout>) {
    let mut command = exec(place, &["h0", "--", "sh", "-c", script]);
    let mut exec = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(exec.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    (exec, output)
}

#[test]
fn a_signal_for_exec_alone_reaches_the_program() {
    let Some(place) = place() else { return };
    let script = "trap 'exit 41' TERM; trap 'exit 42' INT; trap 'exit 43' HUP; trap 'exit 44' QUIT
        trap 'exit 45' WINCH; echo ready; while :; do sleep 0.02; done";
    let signals = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::WINCH];
    for (signal, status) in signals.into_iter().zip(41..) {
        let (mut exec, _output) = start(&place, script);
        kill(exec.id() as i32, signal);
        assert_eq!(exec.wait().unwrap().code(), Some(status), "{signal:?}");
    }
    place.succeed(&["lab", "down"]);
}

#[test]
fn the_exit_status_names_the_signal_that_ended_the_program() {
    let Some(place) = place() else { return };
    for (signal, status) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let sleep = unique_sleep();
        let mut exec = exec(&place, &["h1", "--", "sleep", &sleep]).spawn().unwrap();
        wait_for("the program", || processes(&sleep).len() == 2);
        kill(exec.id() as i32, signal);
        assert_eq!(exec.wait().unwrap().code(), Some(status));
        assert!(processes(&sleep).is_empty());
    }
    place.succeed(&["lab", "down"]);
}

#[test]
fn a_second_request_to_end_is_the_last() {
    let Some(place) = place() else { return };
    let script = "trap 'echo asked' TERM INT; echo ready; while :; do sleep 0.02; done";
    let (mut exec, mut output) = start(&place, script);
    kill(exec.id() as i32, Signal::INT);
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "asked\n");
    assert!(exec.try_wait().unwrap().is_none());
    wait_for("the end", || {
        kill(exec.id() as i32, Signal::TERM);
        exec.try_wait().unwrap().is_some()
    });
    assert_eq!(exec.wait().unwrap().code(), Some(128 + 9));
    place.succeed(&["lab", "down"]);
}

#[test]
fn a_key_of_the_terminal_reaches_the_program_once() {
    let Some(place) = place() else { return };
    if !Command::new("script").arg("--version").output().is_ok_and(|found| found.status.success()) {
        println!("SKIPPED: there is no `script` to make a terminal");
        return;
    }
    let name = unique_sleep();
    let exec = exec(&place, &["h0", "--", "sh", "-c"]);
    let words: Vec<&str> = [exec.get_program()]
        .into_iter()
        .chain(exec.get_args())
        .flat_map(|word| word.to_str())
        .collect();
    // Without pause: a shell that waits for a program takes two signals for one.
    let script = "'trap \"n=x\\$n; echo key\" INT; trap \"echo all: \\$n; exit\" TERM; echo ready; \
                  while :; do :; done'";
    let line = format!("{} {script} {name}", words.join(" "));
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--flush", "--command", &line, "/dev/null"]);
    terminal.envs(exec.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut terminal = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut keys = terminal.stdin.take().unwrap();
    let mut output = BufReader::new(terminal.stdout.take().unwrap());
    let mut text = String::new();
    let mut read_until = |wanted: &str| {
        while !text.contains(wanted) {
            assert!(output.read_line(&mut text).unwrap() > 0, "{text}");
        }
        text.clone()
    };
    read_until("ready");
    keys.write_all(b"\x03").unwrap();
    read_until("key");
    // Comes behind whatever else was passed on.
    let is_exec = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "homa")
    };
    kill(*processes(&name).iter().find(|pid| is_exec(pid)).unwrap(), Signal::TERM);
    let text = read_until("all:");
    assert!(text.contains("all: x\r\n"), "{text}");
    drop(keys);
    terminal.wait().unwrap();
    place.succeed(&["lab", "down"]);
}
