//! The command as scripts see it: forms, exit status, standard output and error.

use std::{
    io::{BufRead, BufReader},
    net::{TcpListener, UdpSocket},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Child, Command as StdCommand, Stdio},
    thread,
    time::{Duration, Instant},
};

use assert_cmd::Command;
use predicates::{prelude::PredicateBooleanExt, str::contains};
use rustix::process::{Pid, Signal, kill_process};

fn homa() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_homa"));
    command.timeout(Duration::from_secs(30));
    command
}

fn json(command: &mut Command) -> serde_json::Value {
    let output = command.output().unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
}

/// A server in a process of its own, ended with the test.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(options: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", options)
    }

    fn start_at(address: &str, options: &[&str]) -> Self {
        let mut process = StdCommand::new(env!("CARGO_BIN_EXE_homa"))
            .args(["serve", address])
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut errors = BufReader::new(process.stderr.take().unwrap());
        errors.read_line(&mut line).unwrap();
        // The rest is read so that the server never waits for room in the pipe.
        thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
        let address = line.trim().rsplit(' ').next().unwrap().to_owned();
        Server { process, address }
    }

    fn interrupt(&mut self) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, Signal::INT).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port at which nobody answers.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn every_command_explains_itself_with_examples() {
    for command in ["serve", "call", "ping", "load", "bench"] {
        homa().args([command, "--help"]).assert().success().stdout(contains("Examples:"));
    }
    homa().arg("--help").assert().success().stdout(contains("Exit status"));
    homa().arg("--version").assert().success().stdout(contains("homa 0."));
}

#[test]
fn hidden_commands_stay_hidden() {
    homa().arg("--help").assert().success().stdout(contains("bench-worker").not());
    for shell in ["bash", "zsh", "fish"] {
        homa().args(["completions", shell]).assert().success().stdout(contains("lab-holder").not());
    }
}

#[test]
fn the_carriage_is_an_option_of_the_commands_that_send_packets() {
    for command in ["serve", "call", "ping", "load", "bench", "doctor"] {
        let shown = contains("--carriage");
        homa().args([command, "--help"]).assert().success().stdout(shown);
    }
    for command in [&["completions"][..], &["man"], &["report"], &["lab", "down"]] {
        let shown = contains("--carriage").not();
        homa().args(command).arg("--help").assert().success().stdout(shown);
    }
}

#[test]
fn the_driver_is_an_option_apart_from_the_carriage() {
    for command in ["serve", "call", "ping", "load", "doctor"] {
        let shown = contains("--driver <DRIVER>").and(contains("--interface <NAME>"));
        homa().args([command, "--help"]).assert().success().stdout(shown);
    }
    for wrong in [&["--driver", "dpdk"][..], &["--carriage", "xdp"]] {
        homa().args(["ping", "127.0.0.1:1"]).args(wrong).assert().code(2);
    }
    // No interface carries what a host sends to itself.
    let line = ["serve", "127.0.0.1:0", "--driver", "xdp"];
    homa().args(line).assert().code(1).stderr(contains("lo is no Ethernet interface"));
}

// Scenario: X30
#[test]
fn wrong_usage_ends_with_status_2() {
    for line in [
        "",
        "call",
        "call 127.0.0.1:1",
        "call 127.0.0.1:1 text --size 10",
        "call 127.0.0.1:1 --size 0",
        "call 127.0.0.1:1 --size 10q",
        "call 127.0.0.1:1 --size 10 --reply-bytes 100",
        "call 127.0.0.1:1 --size 10 --outstanding 0",
        "call 127.0.0.1:1 --size 10 --timeout 0s",
        "call localhost text",
        "ping 127.0.0.1:1 --count 5 --secs 5",
        "serve 127.0.0.1:0 --echo --discard",
        "bench speed",
        "bench --load 0",
        "bench --secs 1 local",
        "bench --workload fixed:0",
        "bench --set foo=1",
        "bench --transport tcp-nope",
        "bench --carriage ip-tcp",
        "bench cluster --set grants.max_overcommit=x",
        "bench cluster --backend cisco",
        "bench cluster --hosts 1",
        "bench cluster --transport homa-udp --transport homa-udp",
        "bench cluster --loopback --transport homa-ip --carriage ip",
        "bench local speed",
        "bench local --load 0",
        "bench local --cpus 0,100000",
        "bench local --cc nope",
        "bench local mixed --workload fixed:0",
        "ping 127.0.0.1:1 --carriage xdp",
    ] {
        homa().args(line.split_whitespace()).assert().code(2);
    }
    homa().args(["call", "127.0.0.1:1", ""]).assert().code(2).stderr(contains("at least 1 byte"));
}

#[test]
fn an_unknown_host_is_named() {
    homa()
        .args(["ping", "no-such-host.invalid:4000"])
        .assert()
        .code(1)
        .stderr(contains("cannot resolve `no-such-host.invalid:4000`"));
}

#[test]
fn an_unreadable_file_is_named() {
    homa()
        .args(["call", "127.0.0.1:1", "--file", "/no/such/file"])
        .assert()
        .code(1)
        .stderr(contains("cannot read /no/such/file"));
    homa()
        .args(["bench", "local", "mixed", "--workload", "/no/such/workload.csv"])
        .assert()
        .code(1)
        .stderr(contains("cannot read workload /no/such/workload.csv"));
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    homa()
        .args(["serve", &address, "--transport", "tcp"])
        .assert()
        .code(1)
        .stderr(contains(format!("cannot listen on {address} (tcp)")));
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    homa().args(["serve", &address]).assert().code(1).stderr(contains("cannot listen on"));
}

#[test]
fn a_request_too_long_for_the_server_names_the_limit_of_the_server() {
    let server = Server::start(&["--max-message", "64k"]);
    let call = ["call", &server.address, "--size", "2M", "--timeout", "10s"];
    homa().args(call).assert().code(1).stderr(contains("at most 64000 bytes"));
}

#[test]
fn an_absent_server_is_an_error_and_not_a_hang() {
    let address = format!("127.0.0.1:{}", free_port());
    for transport in ["tcp", "homa"] {
        let started = Instant::now();
        homa()
            .args(["ping", &address, "--transport", transport, "--count", "1"])
            .assert()
            .code(1)
            .stderr(contains(&*address));
        homa()
            .args(["call", &address, "x", "--transport", transport, "--timeout", "2s"])
            .assert()
            .code(1);
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}

/// What must hold of both transports.
fn echo_scenario(transport: &str) {
    let server = Server::start(&["--transport", transport]);
    let call = |options: &[&str]| {
        let mut command = homa();
        command.args(["call", &server.address, "--transport", transport]).args(options);
        command
    };
    call(&["hello"]).assert().success().stdout("hello\n");
    for size in ["1", "15", "16", "1500", "10k", "1M"] {
        call(&["--size", size, "--count", "20", "--outstanding", "4", "--verify"])
            .assert()
            .success();
    }
    for size in ["1", "100", "64KiB", "1M"] {
        let options = ["--size", "100", "--reply-bytes", size, "--count", "10", "--verify"];
        call(&options).assert().success().stdout(contains("10 ok, 0 failed, 0 wrong"));
    }
    let report = json(&mut call(&[
        "--size",
        "1k",
        "--count",
        "200",
        "--outstanding",
        "64",
        "--verify",
        "--json",
    ]));
    assert_eq!(report["ok"], 200);
    assert_eq!(report["reply_bytes"], 200_000);
    assert!(report["p50_us"].as_f64().unwrap() > 0.0);
    let text = json(&mut call(&["text with \"quotes\"", "--json"]));
    assert_eq!(text["reply"], "text with \"quotes\"");
}

#[test]
fn calls_over_tcp_come_back_right() {
    echo_scenario("tcp");
}

#[test]
fn calls_over_homa_come_back_right() {
    echo_scenario("homa");
}

#[test]
fn a_file_is_sent_and_its_reply_written_as_it_is() {
    let server = Server::start(&["--transport", "tcp"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let content: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    std::fs::write(file.path(), &content).unwrap();
    let output = homa()
        .args(["call", &server.address, "--transport", "tcp", "--verify", "--file"])
        .arg(file.path())
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, content);
}

#[test]
fn wrong_replies_are_found_and_reported() {
    for (options, size) in [(["--reply-bytes", "100"], "100"), (["--discard", "--json"], "50")] {
        let server = Server::start(&[&["--transport", "tcp"], &options[..]].concat());
        homa()
            .args([
                "call",
                &server.address,
                "--transport",
                "tcp",
                "--size",
                size,
                "--count",
                "3",
                "--verify",
            ])
            .assert()
            .code(1)
            .stdout(contains("0 ok, 0 failed, 3 wrong"))
            .stderr(contains("of the reply").or(contains("reply of 1 bytes instead of 50")));
    }
}

#[test]
fn a_slow_server_makes_calls_time_out() {
    for transport in ["tcp", "homa"] {
        let server = Server::start(&["--transport", transport, "--delay", "300ms"]);
        let call = |timeout: &str| {
            let mut command = homa();
            command.args([
                "call",
                &server.address,
                "x",
                "--transport",
                transport,
                "--timeout",
                timeout,
            ]);
            command
        };
        call("50ms").assert().code(1).stderr(contains("no reply within 50ms"));
        let started = Instant::now();
        call("5s").assert().success();
        assert!(started.elapsed() >= Duration::from_millis(300), "{transport}");
    }
}

#[test]
fn a_flood_of_pings_is_counted() {
    for transport in ["tcp", "homa"] {
        for wait in [&["--busy"][..], &[]] {
            let server = Server::start(&["--transport", transport]);
            let report = json(
                homa()
                    .args(["ping", &server.address, "--transport", transport])
                    .args(["--flood", "--count", "150", "--json"])
                    .args(wait),
            );
            assert_eq!((report["sent"].as_u64(), report["lost"].as_u64()), (Some(150), Some(0)));
            assert_eq!(report["count"], 150);
            assert!(report["p99_us"].as_f64().unwrap() >= report["p50_us"].as_f64().unwrap());
            assert!(report["p999_us"].is_null(), "150 calls carry no P99.9");
        }
    }
}

#[test]
fn every_ping_has_a_line() {
    for transport in ["tcp", "homa"] {
        let server = Server::start(&["--transport", transport]);
        let address = &*server.address;
        homa()
            .args(["ping", address, "--count", "3", "--interval", "20ms", "--size", "1k"])
            .args(["--transport", transport])
            .assert()
            .success()
            .stdout(contains(format!("1 kB from {address}: seq=1 time=")))
            .stdout(contains("seq=3 time="))
            .stdout(contains("3 sent, 3 answered, 0% lost"));
    }
}

#[test]
fn lost_pings_are_counted_and_the_others_go_on() {
    let mut server = Server::start(&[]);
    let process = StdCommand::new(env!("CARGO_BIN_EXE_homa"))
        .args(["ping", &server.address, "--interval", "10ms", "--count", "100", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_millis(500));
    server.process.kill().unwrap();
    let output = process.wait_with_output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |name: &str| report[name].as_u64().unwrap();
    assert_eq!(count("sent"), 100, "{report}");
    assert_eq!(count("answered") + count("lost"), 100, "{report}");
    assert_eq!(output.status.code() == Some(0), count("answered") > 0, "{report}");
}

#[test]
fn nothing_measured_is_not_zero() {
    let address = format!("127.0.0.1:{}", free_port());
    for mode in [&["--flood"][..], &["--interval", "10ms"]] {
        let mut command = homa();
        command.args(["ping", &address, "--count", "3"]).args(mode);
        command
            .assert()
            .code(1)
            .stdout(contains("3 sent, 0 answered, 100% lost").and(contains("P50").not()))
            .stderr(contains("no ping was answered: nobody serves at"));
        let report = json(command.arg("--json"));
        assert!(report["p50_us"].is_null() && report["p99_us"].is_null(), "{report}");
        assert_eq!(report["lost"], 3);
        assert!(report["error"].as_str().unwrap().contains("nobody serves"), "{report}");
    }
}

#[test]
fn failed_calls_have_no_part_in_goodput() {
    let address = format!("127.0.0.1:{}", free_port());
    let report = json(homa().args(["call", &address, "--json"]).args([
        "--size",
        "1M",
        "--count",
        "20",
        "--outstanding",
        "4",
    ]));
    assert_eq!((report["failed"].as_u64(), report["gbit_per_s"].as_f64()), (Some(20), Some(0.0)));
    assert!(report["p50_us"].is_null(), "{report}");
    assert!(report["error"].as_str().unwrap().contains("nobody serves"), "{report}");
}

#[test]
fn a_single_failed_call_says_so_once() {
    let address = format!("127.0.0.1:{}", free_port());
    for body in [&["hello"][..], &["--size", "10"]] {
        let output = homa().args(["call", &address]).args(body).output().unwrap();
        let shown = [output.stdout, output.stderr].concat();
        let shown = String::from_utf8_lossy(&shown).into_owned();
        assert_eq!(shown.matches("nobody serves").count(), 1, "{shown}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn standard_input_is_sent_for_a_dash() {
    let server = Server::start(&["--transport", "tcp"]);
    for dash in [&["-"][..], &["--file", "-"]] {
        let mut command = homa();
        command.args(["call", &server.address, "--transport", "tcp"]).args(dash);
        command.write_stdin("from a pipe\n").assert().success().stdout("from a pipe\n");
        command.write_stdin("").assert().code(2).stderr(contains("at least 1 byte"));
    }
}

#[test]
fn a_port_alone_is_on_this_host() {
    let server = Server::start_at(":0", &[]);
    let port = server.address.rsplit(':').next().unwrap();
    assert!(server.address.starts_with("0.0.0.0:"), "{}", server.address);
    homa().args(["call", &format!(":{port}"), "hello"]).assert().success().stdout("hello\n");
}

#[test]
fn failing_commands_print_a_document_if_asked() {
    for line in [
        "serve 203.0.113.1:4000",
        "call no-such-host.invalid:1 x",
        "load no-such-host.invalid:1",
        "report /no/such/results",
        "capture --read /no/such/file",
        "call 127.0.0.1:1 --size 0",
        "ping",
    ] {
        let report = json(homa().args(line.split_whitespace()).arg("--json"));
        assert!(!report["error"].as_str().unwrap().is_empty(), "{line}: {report}");
    }
}

#[test]
fn a_server_says_what_it_serves_while_it_runs() {
    let mut process = StdCommand::new(env!("CARGO_BIN_EXE_homa"))
        .args(["serve", "127.0.0.1:0", "--interval", "100ms"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
    let address = lines.next().unwrap().rsplit(' ').next().unwrap().to_owned();
    homa().args(["call", &address, "--size", "10", "--count", "5"]).assert().success();
    let line = lines.next().unwrap();
    assert!(line.contains("requests/s"), "{line}");
    kill_process(Pid::from_child(&process), Signal::USR1).unwrap();
    assert!(lines.any(|line| line.contains("5 requests, 50 B in")));
    kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
    assert!(process.wait().unwrap().success());
}

#[test]
fn an_interrupted_server_prints_what_it_served() {
    let mut server = Server::start(&["--transport", "both", "--json"]);
    homa()
        .args(["call", &server.address, "--transport", "tcp", "--size", "10", "--count", "7"])
        .assert()
        .success();
    server.interrupt();
    let output = server.process.stdout.take().unwrap();
    let report: serde_json::Value = serde_json::from_reader(output).unwrap();
    assert_eq!(report["requests"], 7);
    assert_eq!(report["request_bytes"], 70);
    assert!(server.process.wait().unwrap().success());
}

#[test]
fn an_interrupted_call_prints_what_it_did_and_fails() {
    let server = Server::start(&["--transport", "tcp", "--delay", "20ms"]);
    let process = StdCommand::new(env!("CARGO_BIN_EXE_homa"))
        .args([
            "call",
            &server.address,
            "--transport",
            "tcp",
            "--size",
            "9",
            "--count",
            "100000",
            "--json",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_millis(500));
    kill_process(Pid::from_child(&process), Signal::INT).unwrap();
    let output = process.wait_with_output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let ok = report["ok"].as_u64().unwrap();
    assert!((1..100_000).contains(&ok), "{ok}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_server_killed_in_the_middle_ends_calls_with_an_error() {
    for transport in ["tcp", "homa"] {
        let mut server = Server::start(&["--transport", transport, "--delay", "1s"]);
        let process = StdCommand::new(env!("CARGO_BIN_EXE_homa"))
            .args(["call", &server.address, "x", "--transport", transport, "--timeout", "10s"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(300));
        server.process.kill().unwrap();
        let output = process.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{transport}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn completions_and_man_pages_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        homa().args(["completions", shell]).assert().success().stdout(contains("outstanding"));
    }
    homa().arg("man").assert().success().stdout(contains(".TH"));
    let directory = tempfile::tempdir().unwrap();
    let told = homa().arg("man").arg(directory.path()).output().unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let mut pages: Vec<String> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    assert!(pages.iter().all(|page| told.split_whitespace().any(|word| word == page)), "{told}");
    assert!(told.starts_with(&format!("{} pages in", pages.len())), "{told}");
    assert!(pages.contains(&"homa-load.1".to_owned()));
    assert!(pages.iter().all(|page| !page.contains("holder") && !page.contains("help")), "{told}");
    let page = std::fs::read_to_string(directory.path().join("homa-call.1")).unwrap();
    assert!(page.contains("[\\-\\-timeout TIME]"), "{page}");
}

/// A short load; what it prints as JSON.
fn load(addresses: &[&str], options: &[&str]) -> serde_json::Value {
    json(homa().arg("load").args(addresses).args(options).arg("--json"))
}

#[test]
fn a_load_at_a_rate_reports_intervals_and_times() {
    let server = Server::start(&[]);
    let report = load(&[&server.address], &["--rate", "500", "--secs", "1s", "-i", "250ms"]);
    let number = |name: &str| report[name].as_u64().unwrap();
    assert_eq!(report["schema"], 1);
    assert_eq!(report["mode"], "open");
    assert_eq!(number("calls"), number("ok") + number("failed") + number("unfinished"), "{report}");
    let intervals = report["intervals"].as_array().unwrap();
    assert!((1..=4).contains(&intervals.len()), "{report}");
    assert_eq!(report["count"], report["ok"]);
    assert!(report["p50_us"].as_f64().unwrap() > 0.0);
    assert!(report["p9999_us"].is_null(), "no sample for it");
}

#[test]
fn a_load_makes_as_many_calls_as_ordered_of_any_server() {
    let servers = [Server::start(&["--transport", "both"]), Server::start(&[])];
    let addresses: Vec<&str> = servers.iter().map(|server| &*server.address).collect();
    let options = ["--count", "300", "--outstanding", "8", "--reply-bytes", "5k", "--size", "1k"];
    let report = load(&addresses, &options);
    assert_eq!((report["ok"].as_u64(), report["failed"].as_u64()), (Some(300), Some(0)));
    let shares = report["by_server"].as_array().unwrap();
    assert_eq!(shares.iter().map(|share| share["ok"].as_u64().unwrap()).sum::<u64>(), 300);
    assert!(shares.iter().all(|share| share["ok"].as_u64().unwrap() > 0), "{report}");
    let secs = report["secs"].as_f64().unwrap();
    let bytes = report["gbit_per_s"].as_f64().unwrap() * 1e9 / 8.0 * secs;
    assert!((bytes / (300.0 * 6_000.0) - 1.0).abs() < 1e-6, "{report}");
    let report = load(&addresses[..1], &["--transport", "tcp", "--count", "50"]);
    assert_eq!(report["ok"], 50, "{report}");
}

#[test]
fn failures_of_a_load_are_counted_by_kind() {
    let server = Server::start(&[]);
    let nobody = format!("127.0.0.1:{}", free_port());
    let options = ["--count", "100", "--workload", "w1"];
    homa()
        .args(["load", &server.address, &nobody])
        .args(options)
        .assert()
        .code(1)
        .stdout(contains(format!("nobody serves at {nobody}")).and(contains("histogram")))
        .stderr(contains("were answered: nobody serves"));
    let report = load(&[&nobody], &options);
    assert_eq!((report["ok"].as_u64(), report["gbit_per_s"].as_f64()), (Some(0), Some(0.0)));
    assert!(report["p50_us"].is_null(), "{report}");
    assert_eq!(report["errors"][format!("nobody serves at {nobody}")], 100);
}

#[test]
fn a_server_that_does_not_keep_up_is_told_of() {
    let server = Server::start(&["--delay", "200ms"]);
    homa()
        .args(["load", &server.address, "--rate", "2k", "--outstanding", "10", "--secs", "1s"])
        .args(["--warm-up", "0s"])
        .assert()
        .code(1)
        .stdout(contains("offered 2,000/s, carried").and(contains("calls in flight at the end")));
}

#[test]
fn an_interrupted_load_prints_its_summary() {
    let server = Server::start(&[]);
    let mut process = StdCommand::new(env!("CARGO_BIN_EXE_homa"))
        .args(["load", &server.address, "--rate", "200", "--secs", "10m", "--warm-up", "0s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
    // What is done, the heading, and the first second.
    assert!(lines.by_ref().take(3).all(|line| !line.is_empty()));
    kill_process(Pid::from_child(&process), Signal::INT).unwrap();
    let text: Vec<String> = lines.collect();
    let text = text.join("\n");
    assert!(text.contains("answered, 0 failed") && text.contains("time in µs"), "{text}");
    let output = process.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("interrupted"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_times_of_a_load_are_exported_for_the_tools_of_hdrhistogram() {
    let server = Server::start(&[]);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).into_os_string().into_string().unwrap();
    let (distribution, log) = (path("x.hgrm"), path("x.hlog"));
    for file in [&distribution, &log] {
        let report = load(&[&server.address], &["--count", "200", "--hdr", file]);
        assert_eq!(report["ok"], 200);
    }
    let distribution = std::fs::read_to_string(distribution).unwrap();
    assert!(distribution.contains("Total count    =          200]"), "{distribution}");
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("#[Histogram log format version 1.3]") && log.contains(",HISTFAAAA"));
    homa()
        .args(["load", &server.address, "--hdr", "/no/such/x"])
        .assert()
        .code(1)
        .stderr(contains("cannot write /no/such/x"));
}

/// A short benchmark of one transport or both.
fn bench(options: &[&str]) -> serde_json::Value {
    let directory = tempfile::tempdir().unwrap();
    let mut command = homa();
    command
        .args(["bench", "local", "--json", "--secs", "0.1", "--rounds", "2", "--out"])
        .arg(directory.path());
    command.args(options);
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_benchmark_of_tcp_alone_gives_all_rows() {
    let report = bench(&["--transport", "tcp"]);
    let rows = report["rows"].as_array().unwrap();
    // Rounds in which the host of a virtual machine had its cores elsewhere have rows of their own.
    let is_same = |one: &serde_json::Value, other: &serde_json::Value| {
        ["test", "wait", "api", "size_bytes", "outstanding", "rcvbuf", "tcp_writes", "spin"]
            .iter()
            .all(|field| one[field] == other[field])
    };
    for test in ["compare", "latency", "rate", "goodput", "mixed"] {
        let row =
            rows.iter().find(|row| row["test"] == test).unwrap_or_else(|| panic!("no {test}"));
        assert_eq!(row["transport"], "tcp");
        let same = rows.iter().filter(|other| is_same(row, other));
        assert_eq!(same.map(|row| row["rounds"].as_u64().unwrap()).sum::<u64>(), 2);
        for figure in ["cpu_us_per_rpc", "cpu_us_per_mb"] {
            assert!(row[figure].as_f64().unwrap() > 0.0, "{row}");
        }
    }
    assert!(rows.iter().any(|row| row["rcvbuf"] == "stock"));
    assert!(rows.iter().any(|row| row["api"] == "tokio"));
    assert!(rows.iter().any(|row| row["spin"] == false));
    for writes in ["each", "gathered"] {
        let row = rows.iter().find(|row| row["tcp_writes"] == writes);
        assert!(row.is_some_and(|row| row["test"] == "rate"), "{writes}: {row:?}");
    }
    assert!(report["ratios"].as_array().unwrap().is_empty());
    assert_eq!(report["schema"], 2);
    assert!(report["date"].as_str().unwrap().contains('T'), "{report}");
    assert!(report["homa"]["version"].is_string());
    assert_eq!(report["command"][2], "local");
}

#[test]
fn what_bench_cannot_do_is_said_once_and_before_anything_is_measured() {
    for (options, status, part) in [
        (vec!["--cc", "nope"], 2, "no TCP congestion control `nope`".to_owned()),
        (vec!["--server", "127.0.0.1:1"], 1, "cannot reach 127.0.0.1:1".to_owned()),
        (vec!["--out", "/proc/nope"], 1, "cannot write pictures to /proc/nope".to_owned()),
    ] {
        let output = homa().args(["bench", "local"]).args(options).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{errors}");
        // A user who may not use cubic is told so first.
        let said =
            errors.lines().filter(|line| !line.contains("with the system's default")).count();
        assert!(errors.contains(&part) && said == 1, "{errors}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_user_who_may_not_use_cubic_measures_tcp_with_what_the_system_permits() {
    let allowed = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
    let allowed = std::fs::read_to_string(allowed).unwrap();
    if !rustix::process::geteuid().is_root()
        || allowed.split_whitespace().any(|name| name == "cubic")
    {
        println!(
            "SKIPPED: needs root to become another user, and a system that keeps cubic from users"
        );
        return;
    }
    // The program where anybody may run it.
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("homa");
    std::fs::copy(env!("CARGO_BIN_EXE_homa"), &program).unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let run = |options: &[&str]| {
        StdCommand::new(&program)
            .args(["bench", "local", "latency", "--json", "--transport", "tcp"])
            .args(["--secs", "0.1", "--rounds", "1", "--size", "100"])
            .args(options)
            .current_dir(directory.path())
            .gid(65_534)
            .uid(65_534)
            .output()
            .unwrap()
    };
    let output = run(&[]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors.matches("`cubic` is not permitted").count(), 1, "{errors}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let used = report["machine"]["tcp_congestion"].as_str().unwrap();
    assert!(allowed.split_whitespace().any(|name| name == used), "{used} of {allowed}");
    assert!(!report["rows"].as_array().unwrap().is_empty());
    let refused = run(&["--cc", "cubic"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn the_help_of_bench_names_no_file_that_does_not_exist() {
    for command in [&["bench"][..], &["bench", "cluster"], &["bench", "plan"], &["bench", "local"]]
    {
        let output = homa().args(command).arg("--help").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let files = text.split(|c: char| c.is_whitespace() || "`()".contains(c));
        for file in files.filter(|word| word.starts_with("plans/") && word.ends_with(".toml")) {
            let path = format!("{}/../../{file}", env!("CARGO_MANIFEST_DIR"));
            assert!(std::path::Path::new(&path).exists(), "{command:?}: {file}");
        }
    }
}

#[test]
fn a_benchmark_compares_homa_with_tcp() {
    let report = bench(&["latency", "--size", "100"]);
    let ratios = report["ratios"].as_array().unwrap();
    for (wait, api) in [("sleep", "blocking"), ("busy", "blocking"), ("sleep", "tokio")] {
        let found = ratios.iter().find(|ratio| {
            ratio["wait"] == wait && ratio["api"] == api && ratio["metric"] == "p50_us"
        });
        let ratio = found.unwrap_or_else(|| panic!("no ratio for {wait} {api}"));
        assert!(ratio["homa_over_tcp"].as_f64().unwrap() > 0.0);
        assert!(ratio["better"].is_string(), "{ratio}");
    }
}

/// The comparison that users make, of few rounds.
fn compare(peers: &std::path::Path, options: &[&str]) -> serde_json::Value {
    let output = homa()
        .env("HOMA_BENCH_PEERS", peers)
        .args(["bench", "local", "compare", "--json", "--secs", "0.1", "--rounds", "1"])
        .args(options)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The transports and interfaces of the rows, in order.
fn contenders(report: &serde_json::Value) -> Vec<(&str, &str)> {
    let rows = report["rows"].as_array().unwrap().iter();
    rows.filter(|row| row["test"] == "compare")
        .map(|row| (row["transport"].as_str().unwrap(), row["api"].as_str().unwrap()))
        .collect()
}

#[test]
fn the_comparison_of_users_says_how_to_build_what_it_misses() {
    for (outstanding, tasks) in [("20", 20), ("100", 16)] {
        let options = ["--size", "100", "--outstanding", outstanding];
        let report = compare("/no/such/program".as_ref(), &options);
        let homa = [("homa-udp", "event"), ("homa-udp", "tokio")];
        let tcp = [("tcp", "tokio"), ("tcp", "event")];
        assert_eq!(contenders(&report), [homa, tcp].concat());
        assert_eq!(report["rows"][1]["tasks"], tasks);
        let reason = report["not_measured"].as_str().unwrap();
        assert!(reason.contains("cargo build --release --manifest-path peers/Cargo.toml"));
        let compared = report["compared"].as_array().unwrap();
        for api in ["tokio", "event"] {
            let found = compared.iter().find(|it| it["api"] == api && it["metric"] == "rpc_per_s");
            let ratio = found.unwrap_or_else(|| panic!("no ratio for {api}"));
            assert!(ratio["homa_over_other"].as_f64().unwrap() > 0.0 && ratio["with"] == "tcp");
        }
    }
}

#[test]
fn quic_and_grpc_are_compared_where_their_program_is_built() {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../peers/target/release/homa-bench-peers");
    let given = std::env::var_os("HOMA_BENCH_PEERS");
    let program = given.map_or_else(|| built.into(), std::path::PathBuf::from);
    if !program.exists() {
        println!(
            "SKIPPED: no {}; `cargo build --release --manifest-path peers/Cargo.toml` makes it",
            program.display()
        );
        return;
    }
    let report = compare(&program, &["--size", "100k", "--outstanding", "4"]);
    let all = contenders(&report);
    assert_eq!(all[all.len() - 2..], [("quic", "tokio"), ("grpc", "tokio")]);
    assert!(report.get("not_measured").is_none(), "{report}");
    for with in ["quic", "grpc"] {
        let compared = report["compared"].as_array().unwrap();
        let found = compared.iter().find(|it| it["with"] == with && it["metric"] == "gbit_per_s");
        assert!(found.is_some_and(|it| it["homa_over_other"].as_f64().unwrap() > 0.0), "{with}");
    }
}

#[test]
fn a_mixed_benchmark_with_a_file_of_sizes_draws_a_picture() {
    let directory = tempfile::tempdir().unwrap();
    let sizes = directory.path().join("sizes.csv");
    std::fs::write(&sizes, "length_bytes,cumulative_fraction\n50,0.5\n5000,1\n").unwrap();
    let output = homa()
        .args([
            "bench",
            "local",
            "mixed",
            "--transport",
            "tcp",
            "--secs",
            "0.1",
            "--rounds",
            "1",
            "--load",
            "0.3",
        ])
        .arg("--workload")
        .arg(&sizes)
        .arg("--out")
        .arg(directory.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("<= 5 kB"), "{text}");
    assert!(directory.path().join("slowdown.svg").exists());
}

#[test]
fn a_benchmark_against_a_given_server_uses_it() {
    let server = Server::start(&["--transport", "tcp"]);
    let report = bench(&["rate", "--transport", "tcp", "--server", &server.address]);
    assert!(report["rows"][0]["rpc_per_s"].as_f64().unwrap() > 0.0);
}

#[test]
fn an_interrupted_benchmark_prints_what_it_measured() {
    let directory = tempfile::tempdir().unwrap();
    let process = StdCommand::new(env!("CARGO_BIN_EXE_homa"))
        .args([
            "bench",
            "local",
            "latency",
            "--transport",
            "tcp",
            "--secs",
            "0.1",
            "--rounds",
            "1000",
            "--json",
            "--out",
        ])
        .arg(directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_secs(3));
    kill_process(Pid::from_child(&process), Signal::INT).unwrap();
    let output = process.wait_with_output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!report["rows"].as_array().unwrap().is_empty());
    assert_eq!(output.status.code(), Some(1));
}
