//! `homa capture` as scripts see it, and live between two network namespaces.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command as StdCommand, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use assert_cmd::Command;
use predicates::{prelude::PredicateBooleanExt, str::contains};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const HOMA: &str = env!("CARGO_BIN_EXE_homa");

fn homa() -> Command {
    let mut command = Command::new(HOMA);
    command.timeout(Duration::from_secs(60));
    command
}

fn recording(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/captures").join(name)
}

fn document(arguments: &[&str], file: &Path) -> Value {
    let output = homa().args(["capture", "--json", "--read"]).arg(file).args(arguments).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_recording_is_explained_line_by_line_with_a_summary() {
    let file = recording("ip4-rpc-60000.pcap");
    homa().args(["capture", "--read"]).arg(&file).assert().success().stdout(
        contains("request 0..1424 of 60000, unscheduled to 40000")
            .and(contains("grant of request to 60000 (all) at level"))
            .and(contains("may the server forget the RPC?"))
            .and(contains("98 Homa packets: DATA 88 GRANT 8 NEED_ACK 1 ACK 1"))
            .and(contains("1 RPCs: 1 complete, 0 failed, 0 unfinished"))
            .and(contains("no violations")),
    );
}

#[test]
fn one_rpc_is_followed_by_either_form_of_its_id() {
    let file = recording("late-server-ip4-two-concurrent.pcap");
    let all = document(&[], &file);
    let id: u64 = all["rpcs"][1]["rpc"].as_str().unwrap().parse().unwrap();
    let packets = |arguments: &[&str]| {
        let found = document(arguments, &file);
        assert_eq!(found["rpcs"].as_array().unwrap().len(), 1);
        assert_eq!(found["rpcs"][0]["rpc"], id.to_string());
        found["packets"].as_array().unwrap().len()
    };
    let count = packets(&["--rpc", &id.to_string()]);
    assert!(count > 2 && count < all["packets"].as_array().unwrap().len());
    assert_eq!(packets(&["--rpc", &(id + 1).to_string()]), count);
    assert_eq!(packets(&["--rpc", &format!("{:#x}", id + 1)]), count);
}

#[test]
fn errors_of_the_network_are_joined_to_their_rpc() {
    let found = document(&[], &recording("no-server-port-ip4.pcap"));
    assert_eq!(found["rpcs"][0]["state"], "failed");
    assert_eq!(found["rpcs"][0]["failure"], "port unreachable");
    let icmp = &found["packets"][2];
    assert_eq!(icmp["kind"], "icmp");
    assert_eq!(icmp["icmp"]["rpc"], found["rpcs"][0]["rpc"]);
}

#[test]
fn what_cannot_be_read_is_refused_clearly() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let refused = |text: &'static str| {
        homa().args(["capture", "--read"]).arg(&file).assert().code(1).stderr(contains(text));
    };
    refused("No such file");
    fs::write(&file, "this is no recording").unwrap();
    refused("not a pcap or pcapng file");
    let whole = fs::read(recording("ip4-rpc-1400.pcap")).unwrap();
    fs::write(&file, &whole[..whole.len() - 10]).unwrap();
    refused("ends in the middle of packet 4");
    homa().args(["capture", "--read"]).arg(&file).assert().stdout(contains("3 Homa packets"));
}

#[test]
fn the_command_line_demands_a_source_and_a_valid_id() {
    homa().arg("capture").assert().code(2).stderr(contains("--iface"));
    let file = recording("ip4-rpc-1400.pcap");
    let mut command = homa();
    command.args(["capture", "--rpc", "x", "--read"]).arg(&file);
    command.assert().code(2).stderr(contains("not an RPC id"));
    homa()
        .args(["capture", "--iface", "none-such-0"])
        .assert()
        .code(2)
        .stderr(contains("no network interface"));
}

#[test]
fn without_the_right_to_capture_the_setcap_line_is_printed() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root can be another user");
        return;
    }
    let output = StdCommand::new("setpriv")
        .args(["--reuid", "65534", "--clear-groups", HOMA, "capture", "--iface", "lo"])
        .output();
    let Ok(output) = output else {
        println!("SKIPPED: setpriv is missing");
        return;
    };
    let text = String::from_utf8_lossy(&output.stderr);
    if text.contains("setpriv:") {
        println!("SKIPPED: another user cannot execute {HOMA}");
        return;
    }
    assert!(text.contains("setcap cap_net_raw+ep"), "{text}");
    assert_eq!(output.status.code(), Some(2));
}

/// Two network namespaces joined by a link; gone with the value.
struct Link {
    names: [String; 2],
    interface: String,
}

impl Link {
    /// `None` where namespaces cannot be made.
    fn new(kind: &str) -> Option<Self> {
        let pid = std::process::id();
        let names = [format!("hcap{pid}{kind}a"), format!("hcap{pid}{kind}b")];
        let interface = "hc0".to_owned();
        let link = Link { names, interface };
        let ready = link.set_up();
        if !ready {
            assert!(
                std::env::var_os("CI").is_none() || !rustix::process::geteuid().is_root(),
                "namespaces cannot be made"
            );
            println!("SKIPPED: network namespaces need root and the tool `ip`");
            return None;
        }
        Some(link)
    }

    fn set_up(&self) -> bool {
        let [a, b] = &self.names;
        let name = &self.interface;
        let mut ready = ip(&["netns", "add", a]) && ip(&["netns", "add", b]);
        ready = ready
            && ip(&[
                "link", "add", name, "netns", a, "type", "veth", "peer", "name", name, "netns", b,
            ]);
        for (namespace, last) in [(a, "1"), (b, "2")] {
            for arguments in [
                &["addr", "add", &format!("10.123.0.{last}/24"), "dev", name][..],
                &["addr", "add", &format!("fd12::{last}/64"), "dev", name, "nodad"][..],
                &["link", "set", name, "up"][..],
            ] {
                let all: Vec<&str> = ["-n", namespace.as_str()]
                    .into_iter()
                    .chain(arguments.iter().copied())
                    .collect();
                ready = ready && ip(&all);
            }
        }
        ready
    }

    /// A command in one of the namespaces.
    fn command(&self, side: usize, arguments: &[&str]) -> StdCommand {
        let mut command = StdCommand::new("ip");
        command.args(["netns", "exec", &self.names[side], HOMA]).args(arguments);
        command
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for name in &self.names {
            ip(&["netns", "del", name]);
        }
    }
}

fn ip(arguments: &[&str]) -> bool {
    let output = StdCommand::new("ip").args(arguments).stderr(Stdio::null()).status();
    output.is_ok_and(|status| status.success())
}

/// A process that is ended with the value.
struct Process(Child);

impl Process {
    /// Starts it and waits until it has written a line to standard error.
    fn start(mut command: StdCommand, log: &Path) -> Self {
        let errors = fs::File::create(log).unwrap();
        let child = command.stdout(Stdio::null()).stderr(errors).spawn().unwrap();
        let process = Process(child);
        let until = Instant::now() + Duration::from_secs(20);
        while !fs::read_to_string(log).unwrap().contains('\n') {
            assert!(Instant::now() < until, "{command:?} does not start");
            thread::sleep(Duration::from_millis(10));
        }
        process
    }

    /// Ctrl-C, and the end that follows.
    fn interrupt(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::INT).unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The first packets on a new link may be lost.
fn warm_up(link: &Link, call: &[&str]) {
    for _ in 0..5 {
        if link.command(0, call).output().unwrap().status.success() {
            break;
        }
    }
    // What belongs to these calls shall be over when the recording begins.
    thread::sleep(Duration::from_millis(300));
}

/// Records calls between two hosts on the client's side, and explains the file.
fn record(kind: &str, server: &str, options: &[&str], write_to: &Path) -> Option<Value> {
    let link = Link::new(kind)?;
    let directory = tempfile::tempdir().unwrap();
    let log = |name: &str| directory.path().join(name);
    let mut serve = vec!["serve", server];
    serve.extend(options);
    let server_process = Process::start(link.command(1, &serve), &log("serve"));
    let mut call = vec!["call", server, "--size", "100k", "--count", "3", "--verify"];
    call.extend(options);
    warm_up(&link, &call);
    let capture = ["capture", "--iface", "hc0", "--write", write_to.to_str().unwrap()];
    let capture = Process::start(link.command(0, &capture), &log("capture"));
    succeeded(&link.command(0, &call).output().unwrap());
    // The last acknowledgement is asked for later.
    thread::sleep(Duration::from_millis(300));
    capture.interrupt();
    server_process.interrupt();
    Some(document(&[], write_to))
}

/// All three calls are there, complete, and nothing is wrong with them.
fn check(found: &Value, carriage: &str) {
    assert_eq!(found["totals"]["violations"], serde_json::json!({}), "{}", found["totals"]);
    assert_eq!(found["totals"]["bad"], serde_json::json!({}));
    assert_eq!(found["totals"]["other_frames"], 0);
    // A NEED_ACK about an earlier call may be in the recording too.
    let rpcs = found["rpcs"].as_array().unwrap();
    let rpcs: Vec<_> = rpcs.iter().filter(|rpc| rpc["from_start"] == true).collect();
    assert_eq!(rpcs.len(), 3, "{rpcs:?}");
    for rpc in rpcs {
        assert_eq!(rpc["state"], "complete", "{rpc}");
        assert_eq!(rpc["carriage"], carriage);
        for message in [&rpc["request"], &rpc["response"]] {
            assert_eq!(message["recorded_bytes"], 100_000);
            // Segments of a train are packets of their own, as on the wire.
            assert!(message["data_packets"].as_u64().unwrap() >= 70, "{message}");
        }
    }
}

/// tshark reads as many packets of each type from the file.
fn check_with_tshark(found: &Value, file: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/wireshark/homa.lua");
    let output = StdCommand::new("tshark")
        .arg("-X")
        .arg(format!("lua_script:{}", script.display()))
        .arg("-r")
        .arg(file)
        .args(["-T", "fields", "-e", "homa.type", "-e", "homa.rpc", "-e", "homa.offset"])
        .args(["-e", "_ws.expert.severity"])
        .output();
    let Ok(output) = output else {
        assert!(std::env::var_os("CI").is_none(), "tshark is missing");
        println!("SKIPPED: tshark is not installed");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let packets = found["packets"].as_array().unwrap();
    // A datagram has several packets, and tshark a line for each datagram.
    let datagrams: Vec<_> =
        packets.chunk_by(|packet, next| packet["frame"] == next["frame"]).collect();
    assert_eq!(text.lines().count(), datagrams.len());
    let lines = text.lines().zip(datagrams);
    // The quotation in an ICMP error is dissected too.
    for (line, datagram) in lines.filter(|(_, datagram)| datagram[0]["kind"] == "packet") {
        let fields: Vec<&str> = line.split('\t').collect();
        let rpcs: Vec<_> = datagram.iter().map(|packet| packet["rpc"].as_str().unwrap()).collect();
        assert_eq!(fields[1], rpcs.join(","), "{line}");
        let offsets = datagram.iter().filter_map(|packet| packet["offset"].as_u64());
        let offsets: Vec<_> = offsets.map(|offset| offset.to_string()).collect();
        assert_eq!(fields[2], offsets.join(","), "{line}");
        // A note is 0x400000, a warning 0x600000.
        let severities = fields.get(3).copied().unwrap_or_default().split(',');
        let notes = severities.filter_map(|text| text.parse::<u64>().ok());
        assert!(notes.max().unwrap_or(0) < 0x60_0000, "{line}");
    }
}

#[test]
fn calls_over_udp_are_recorded_explained_and_read_by_tshark() {
    let directory = tempfile::tempdir().unwrap();
    for (kind, server) in [("4", "10.123.0.2:4000"), ("6", "[fd12::2]:4000")] {
        let file = directory.path().join(format!("udp{kind}.pcapng"));
        let Some(found) = record(kind, server, &[], &file) else {
            return;
        };
        check(&found, "udp");
        check_with_tshark(&found, &file);
    }
}

#[test]
fn calls_over_raw_ip_are_recorded_explained_and_read_by_tshark() {
    let directory = tempfile::tempdir().unwrap();
    for (kind, server) in [("i4", "10.123.0.2:400"), ("i6", "[fd12::2]:400")] {
        let file = directory.path().join(format!("ip{kind}.pcapng"));
        let Some(found) = record(kind, server, &["--carriage", "ip"], &file) else {
            return;
        };
        check(&found, "ip");
        check_with_tshark(&found, &file);
    }
}
