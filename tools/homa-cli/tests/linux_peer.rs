//! `homa call` and `homa serve` over raw IP against a host that behaves as the Linux kernel module
//! does.
//!
//! That host is a model in Python (`linux_peer/`), written from the descriptions of format and
//! behaviour without this workspace's code. It also watches what it is sent: every packet that a
//! Linux host would not have sent there and then is a violation, for instance data beyond a grant,
//! another segmentation in a retransmission, or a RESEND for bytes that were not lost.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const HOMA: &str = env!("CARGO_BIN_EXE_homa");

/// One after another: what is too early or too late is judged by milliseconds.
static TURN: Mutex<()> = Mutex::new(());

/// Server ports; raw IP has its own, so they are free in a new namespace.
const PORT: &str = "99";

const BOTH: [Family; 2] = [Family::V4, Family::V6];
const SIZES: [u32; 8] = [1, 100, 1_424, 1_425, 10_000, 60_000, 500_000, 1_000_000];

/// Timers of a slow Linux host, as in most recordings: it asks late, and does not give up under a
/// busy machine.
const PATIENT: &[&str] = &["--timers", "60", "60", "20", "2000"];
/// The default timers, but for the timeout.
const EAGER: &[&str] = &["--timers", "5", "5", "2", "2000"];

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn address(self, side: usize) -> String {
        match self {
            Family::V4 => format!("10.125.0.{}", side + 1),
            Family::V6 => format!("fd14::{}", side + 1),
        }
    }

    /// The server's address and port, as the command takes it.
    fn target(self, side: usize, port: &str) -> String {
        match self {
            Family::V4 => format!("{}:{port}", self.address(side)),
            Family::V6 => format!("[{}]:{port}", self.address(side)),
        }
    }
}

/// Two network namespaces joined by a link: 0 is the side of the command, 1 that of the Linux host.
struct Link {
    names: [String; 2],
    /// What the command uses; `ip-tcp` for packets in TCP form.
    carriage: &'static str,
    _turn: MutexGuard<'static, ()>,
}

impl Link {
    /// `None` where the tests cannot run.
    fn new(kind: &str, mtu: u32) -> Option<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = std::process::id();
        let names = [format!("hlp{pid}{kind}a"), format!("hlp{pid}{kind}b")];
        let link = Link { names, carriage: "ip", _turn: turn };
        let python = run(Command::new("python3").arg("--version"));
        if !python || !link.set_up(mtu) {
            let root = rustix::process::geteuid().is_root();
            assert!(std::env::var_os("CI").is_none() || !root, "python3 or namespaces are missing");
            println!("SKIPPED: the model of a Linux host needs root, python3 and the tool `ip`");
            return None;
        }
        Some(link)
    }

    fn set_up(&self, mtu: u32) -> bool {
        let [a, b] = &self.names;
        let mtu = mtu.to_string();
        let mut ready = ip(&["netns", "add", a]) && ip(&["netns", "add", b]);
        ready = ready
            && ip(&[
                "link", "add", "h0", "netns", a, "type", "veth", "peer", "name", "h0", "netns", b,
            ]);
        for (side, namespace) in self.names.iter().enumerate() {
            let v4 = format!("{}/24", Family::V4.address(side));
            let v6 = format!("{}/64", Family::V6.address(side));
            for arguments in [
                &["addr", "add", &v4, "dev", "h0"][..],
                &["addr", "add", &v6, "dev", "h0", "nodad"][..],
                &["link", "set", "h0", "mtu", &mtu, "up"][..],
            ] {
                ready = ready && ip(&[&["-n", namespace.as_str()][..], arguments].concat());
            }
        }
        // The first packets on a new link may be lost.
        ready && (0..100).any(|_| self.ping(&Family::V4) && self.ping(&Family::V6))
    }

    /// Whether the link carries packets; neighbours are known afterwards.
    fn ping(&self, family: &Family) -> bool {
        let script = "import socket, sys; socket.create_connection((sys.argv[1], 9), 0.2)";
        let output = self.command(0, "python3", &["-c", script, &family.address(1)]).output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stderr).contains("refused"))
    }

    fn command(&self, side: usize, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[side], program]).args(arguments);
        command
    }

    /// `homa call` against the Linux host.
    fn call(&self, family: Family, port: &str, arguments: &[&str]) -> Output {
        let target = family.target(1, port);
        let fixed = ["call", "--carriage", self.carriage, "--verify", "--json", &target];
        self.command(0, HOMA, &[&fixed, arguments].concat()).output().unwrap()
    }

    /// `homa serve` for both families.
    fn serve(&self, arguments: &[&str]) -> Process {
        self.serve_at("[::]:99", arguments)
    }

    fn serve_at(&self, address: &str, arguments: &[&str]) -> Process {
        let fixed = ["serve", "--carriage", self.carriage, address];
        Process::start(self.command(0, HOMA, &[&fixed, arguments].concat()), "serving")
    }

    fn linux(&self, role: &str, family: Family, arguments: &[&str]) -> Process {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/linux_peer/peer.py");
        let address = family.address(1);
        let fixed = ["-B", script.to_str().unwrap(), role, "--address", &address, "--port", PORT];
        Process::start(self.command(1, "python3", &[&fixed, arguments].concat()), "ready")
    }

    fn linux_server(&self, family: Family, arguments: &[&str]) -> Process {
        self.linux("serve", family, arguments)
    }

    /// Calls from the Linux host to `homa serve`, and what it says of them.
    fn linux_calls(&self, family: Family, arguments: &[&str]) -> Value {
        let server = family.address(0);
        self.linux("call", family, &[&["--server", &server], arguments].concat()).document()
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
    run(Command::new("ip").args(arguments))
}

fn run(command: &mut Command) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// A process that is ended with the value. Its standard error goes to a file.
struct Process {
    child: Child,
    errors: PathBuf,
    _directory: tempfile::TempDir,
}

impl Process {
    /// Starts it and waits until it says `word`.
    fn start(mut command: Command, word: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let errors = directory.path().join("stderr");
        let file = fs::File::create(&errors).unwrap();
        let child = command.stdout(Stdio::piped()).stderr(file).spawn().unwrap();
        let process = Process { child, errors, _directory: directory };
        let until = Instant::now() + Duration::from_secs(60);
        while !process.said().contains(word) {
            assert!(Instant::now() < until, "{command:?} does not start: {}", process.said());
            thread::sleep(Duration::from_millis(5));
        }
        process
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The Linux host ends and tells what it saw.
    fn stop(self) -> Value {
        self.signal(Signal::TERM);
        self.document()
    }

    fn document(mut self) -> Value {
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.said());
        serde_json::from_str(&text).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// Nothing was sent that a Linux host would not have sent, and nothing came that it has to drop.
fn is_right(seen: &Value) {
    assert_eq!(seen["violations"], serde_json::json!([]), "{seen:#}");
    for what in ["short_packets", "data_out_of_range", "data_overlap", "acked_too_early"] {
        assert_eq!(number(&seen["host"][what]), 0, "{what}: {seen:#}");
    }
}

/// Nothing was lost, so nobody had to send anything again unless this slow model asked for it.
fn is_clean(seen: &Value) {
    is_right(seen);
    let asked = number(&seen["host"]["sent_RESEND"]) + number(&seen["host"]["sent_RPC_UNKNOWN"]);
    if asked == 0 {
        assert_eq!(number(&seen["packets"]["retransmissions"]), 0, "{seen:#}");
        assert_eq!(number(&seen["host"]["data_duplicate"]), 0, "{seen:#}");
    }
}

fn all_verified(output: &Output, calls: u64) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((number(&document["ok"]), number(&document["wrong"])), (calls, 0), "{text}");
}

fn all_answered(seen: &Value, calls: u64) {
    assert_eq!(number(&seen["completed"]), calls, "{seen:#}");
    assert_eq!(number(&seen["wrong"]), 0, "{seen:#}");
    assert_eq!(number(&seen["rpcs_left"]), 0, "{seen:#}");
}

#[test]
fn the_model_notices_what_linux_would_not_send() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/linux_peer");
    let output = Command::new("python3").args(["-B", "self_test.py"]).current_dir(tests).output();
    let Ok(output) = output else {
        assert!(std::env::var_os("CI").is_none(), "python3 is missing");
        println!("SKIPPED: python3 is not installed");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Ids go on from run to run, as on a host that was not started anew in between.
fn ids_from(run: usize) -> String {
    (2 + 100_000 * run).to_string()
}

#[test]
fn calls_of_every_size_to_a_linux_server_complete() {
    let Some(link) = Link::new("s", 1_500) else { return };
    for family in BOTH {
        let server = link.linux_server(family, PATIENT);
        for size in SIZES {
            let call = ["--size", &size.to_string(), "--count", "3"];
            all_verified(&link.call(family, PORT, &call), 3);
        }
        let seen = server.stop();
        is_clean(&seen);
        assert_eq!(number(&seen["served"]), 3 * SIZES.len() as u64);
        assert_eq!(number(&seen["rpcs_left"]), 0, "{seen:#}");
    }
}

#[test]
fn calls_of_every_size_from_a_linux_client_complete() {
    let Some(link) = Link::new("c", 1_500) else { return };
    let _server = link.serve(&[]);
    for (run, (family, size)) in
        BOTH.into_iter().flat_map(|family| SIZES.map(|size| (family, size))).enumerate()
    {
        let call = ["--size", &size.to_string(), "--count", "3", "--first-id", &ids_from(run)];
        let seen = link.linux_calls(family, &[&call, PATIENT].concat());
        is_clean(&seen);
        all_answered(&seen, 3);
    }
}

#[test]
fn a_hundred_outstanding_calls_to_a_linux_server_complete() {
    let Some(link) = Link::new("sh", 1_500) else { return };
    for family in BOTH {
        let server = link.linux_server(family, PATIENT);
        for (size, count) in [(1, 300), (1_425, 300), (10_000, 200), (60_000, 100)] {
            let (size, calls) = (size.to_string(), count.to_string());
            let call = ["--size", &size, "--count", &calls, "--outstanding", "100"];
            all_verified(&link.call(family, PORT, &call), count);
        }
        is_right(&server.stop());
    }
}

#[test]
fn a_hundred_outstanding_calls_from_a_linux_client_complete() {
    let Some(link) = Link::new("ch", 1_500) else { return };
    let _server = link.serve(&[]);
    let runs = [(1, 300), (1_425, 300), (10_000, 200), (60_000, 100)];
    for (run, (family, (size, count))) in
        BOTH.into_iter().flat_map(|family| runs.map(|run| (family, run))).enumerate()
    {
        let (size, calls) = (size.to_string(), count.to_string());
        let call = [
            "--size",
            &size,
            "--count",
            &calls,
            "--outstanding",
            "100",
            "--first-id",
            &ids_from(run),
        ];
        let seen = link.linux_calls(family, &[&call, PATIENT].concat());
        is_clean(&seen);
        all_answered(&seen, count);
    }
}

/// The smallest MTU: on a busy machine a path that loses much could be taken for one that swallows
/// long packets.
const LOSSY_MTU: u32 = 1_280;
const LOSSY: &[&str] = &["--mtu", "1280"];

/// Probability of loss in each direction, bytes, calls, outstanding.
const LOSSES: [(&str, &str, u64, &str); 5] = [
    ("0.01", "1000000", 2, "2"),
    ("0.05", "100", 200, "20"),
    ("0.05", "60000", 20, "4"),
    ("0.10", "10000", 60, "10"),
    ("0.10", "500000", 2, "1"),
];

#[test]
fn calls_to_a_linux_server_complete_whatever_is_lost() {
    let Some(link) = Link::new("sl", LOSSY_MTU) else { return };
    for (run, (loss, size, count, outstanding)) in LOSSES.into_iter().enumerate() {
        for family in BOTH {
            let seed = run.to_string();
            let server = link
                .linux_server(family, &[EAGER, LOSSY, &["--loss", loss, "--seed", &seed]].concat());
            let calls = count.to_string();
            let call = ["--size", size, "--count", &calls, "--outstanding", outstanding];
            all_verified(&link.call(family, PORT, &call), count);
            let seen = server.stop();
            is_right(&seen);
            is_asked_at_intervals(&seen);
        }
    }
}

/// What is missing is asked for again after 5 ms or more. Some RESENDs are closer to each other,
/// where the first of them was decided on but left late; if each NEED_ACK brought one, nearly all
/// would be.
fn is_asked_at_intervals(seen: &Value) {
    let intervals = seen["resend_intervals_ms"].as_array().unwrap();
    let short = intervals.iter().filter(|ms| ms.as_f64().unwrap() < 4.0).count();
    assert!(short * 2 <= intervals.len(), "{seen:#}");
}

#[test]
fn what_linux_sends_again_of_finished_calls_brings_nothing() {
    let Some(link) = Link::new("d", 1_500) else { return };
    for family in BOTH {
        let server = link.linux_server(family, &[PATIENT, &["--twice"]].concat());
        let call = ["--size", "10000", "--count", "50", "--outstanding", "5"];
        all_verified(&link.call(family, PORT, &call), 50);
        let seen = server.stop();
        is_right(&seen);
        assert!(number(&seen["host"]["retransmitted"]) >= 50 * 8, "{seen:#}");
        assert_eq!(number(&seen["packets"]["got_RPC_UNKNOWN"]), 0, "{seen:#}");
        assert_eq!(number(&seen["rpcs_left"]), 0, "{seen:#}");
    }
}

#[test]
fn calls_from_a_linux_client_complete_whatever_is_lost() {
    let Some(link) = Link::new("cl", LOSSY_MTU) else { return };
    let _server = link.serve(&[]);
    for (run, (loss, size, count, outstanding)) in LOSSES.into_iter().enumerate() {
        for (side, family) in BOTH.into_iter().enumerate() {
            let (seed, calls, ids) = (run.to_string(), count.to_string(), ids_from(2 * run + side));
            let call = ["--size", size, "--count", &calls, "--outstanding", outstanding];
            let host = ["--loss", loss, "--seed", &seed, "--first-id", &ids];
            let seen = link.linux_calls(family, &[&call[..], &host, LOSSY, EAGER].concat());
            is_right(&seen);
            all_answered(&seen, count);
        }
    }
}

#[test]
fn large_packets_and_segments_of_another_size_from_linux_fit_together() {
    let Some(link) = Link::new("g", 1_500) else { return };
    for habit in [&["--segments", "13"][..], &["--ipv6-socket"], &["--no-gro"]] {
        let server = link.linux_server(Family::V4, &[habit, PATIENT].concat());
        for size in ["1425", "60000", "1000000"] {
            all_verified(&link.call(Family::V4, PORT, &["--size", size, "--count", "2"]), 2);
        }
        is_clean(&server.stop());
    }
    let _server = link.serve(&[]);
    for (run, habit) in
        [&["--segments", "13"][..], &["--ipv6-socket"], &["--no-gro"]].iter().enumerate()
    {
        let call = ["--size", "500000", "--count", "3", "--first-id", &ids_from(run)];
        let seen = link.linux_calls(Family::V4, &[&call, *habit, PATIENT].concat());
        is_clean(&seen);
        all_answered(&seen, 3);
    }
}

#[test]
fn jumbo_frames_are_exchanged_with_linux() {
    let Some(link) = Link::new("j", 9_000) else { return };
    let host = [&["--mtu", "9000"], PATIENT].concat();
    let serving = link.serve(&[]);
    for (run, family) in BOTH.into_iter().enumerate() {
        let call = ["--size", "500000", "--count", "3", "--first-id", &ids_from(run)];
        let seen = link.linux_calls(family, &[&call[..], &host].concat());
        is_clean(&seen);
        all_answered(&seen, 3);
    }
    drop(serving);
    for family in BOTH {
        let server = link.linux_server(family, &host);
        for size in ["8924", "60000", "1000000"] {
            all_verified(&link.call(family, PORT, &["--size", size, "--count", "2"]), 2);
        }
        is_clean(&server.stop());
    }
}

#[test]
fn a_slow_linux_host_is_not_asked_for_what_is_merely_late() {
    let Some(link) = Link::new("q", 1_500) else { return };
    let slow = [&["--slow-ms", "10"], PATIENT].concat();
    let server = link.linux_server(Family::V4, &slow);
    for (size, count, outstanding) in [("100", 50, "1"), ("20000", 100, "10")] {
        let calls = count.to_string();
        let call = ["--size", size, "--count", &calls, "--outstanding", outstanding];
        all_verified(&link.call(Family::V4, PORT, &call), count);
    }
    let seen = server.stop();
    is_clean(&seen);
    // Everything would be sent twice if each call were asked after 5 ms of silence.
    let again = number(&seen["host"]["retransmitted"]);
    assert!(again * 5 < number(&seen["host"]["sent_DATA"]), "{seen:#}");
}

#[test]
fn a_saturated_linux_host_is_given_the_time_that_it_takes() {
    let Some(link) = Link::new("z", 1_500) else { return };
    let slow = [&["--slow-ms", "200"], PATIENT].concat();
    let server = link.linux_server(Family::V4, &slow);
    let call = ["--size", "100", "--count", "400", "--outstanding", "20"];
    all_verified(&link.call(Family::V4, PORT, &call), 400);
    let seen = server.stop();
    is_right(&seen);
    // Nothing was lost: only before its slowness is known it is asked, and sends again.
    let again = number(&seen["host"]["retransmitted"]);
    assert!(again * 2 < 400, "{seen:#}");
}

#[test]
fn packets_in_tcp_form_are_exchanged_with_linux() {
    let Some(mut link) = Link::new("t", 1_500) else { return };
    link.carriage = "ip-tcp";
    let host = [&["--encapsulate"], PATIENT].concat();
    for family in BOTH {
        // Segments of large packets carry their offset in the sequence field alone.
        for habit in [&[][..], &["--segments", "13"]] {
            let server = link.linux_server(family, &[&host[..], habit].concat());
            for size in ["1", "1425", "60000", "1000000"] {
                let call = ["--size", size, "--count", "2", "--outstanding", "2"];
                all_verified(&link.call(family, PORT, &call), 2);
            }
            let seen = server.stop();
            is_clean(&seen);
            assert_eq!(number(&seen["packets"]["native"]), 0, "{seen:#}");
        }
    }
    let _server = link.serve(&[]);
    for (run, (family, loss)) in
        BOTH.into_iter().flat_map(|family| ["0", "0.05"].map(|loss| (family, loss))).enumerate()
    {
        let call = ["--size", "60000", "--count", "20", "--outstanding", "5", "--loss", loss];
        let ids = ids_from(run);
        let seen = link.linux_calls(family, &[&call[..], &["--first-id", &ids], &host].concat());
        is_right(&seen);
        all_answered(&seen, 20);
        assert_eq!(number(&seen["packets"]["native"]), 0, "{seen:#}");
    }
}

#[test]
fn a_linux_server_that_answers_late_is_waited_for() {
    let Some(link) = Link::new("w", 1_500) else { return };
    for family in BOTH {
        let server = link.linux_server(family, &[EAGER, &["--delay-ms", "400"]].concat());
        let call = ["--size", "2000", "--count", "4", "--outstanding", "4"];
        all_verified(&link.call(family, PORT, &call), 4);
        let seen = server.stop();
        is_clean(&seen);
        let busy = number(&seen["host"]["sent_BUSY"]);
        // RESENDs become rarer, at most one in a sixteenth of the timeout; on a busy machine the
        // answer takes longer.
        assert!((4..=4 * 30).contains(&busy), "{seen:#}");
    }
}

#[test]
fn a_linux_client_is_told_to_wait_for_a_late_answer() {
    let Some(link) = Link::new("v", 1_500) else { return };
    let _server = link.serve(&["--delay", "300ms"]);
    for (run, family) in BOTH.into_iter().enumerate() {
        let call =
            ["--size", "2000", "--count", "4", "--outstanding", "4", "--first-id", &ids_from(run)];
        let seen = link.linux_calls(family, &call);
        is_right(&seen);
        all_answered(&seen, 4);
        assert!(number(&seen["packets"]["got_BUSY"]) > 20, "{seen:#}");
    }
}

#[test]
fn a_closed_port_fails_calls_at_once_in_both_directions() {
    let Some(link) = Link::new("p", 1_500) else { return };
    let serving = link.serve(&[]);
    for (run, family) in BOTH.into_iter().enumerate() {
        let server = link.linux_server(family, PATIENT);
        let output =
            link.call(family, "55", &["--size", "100", "--count", "3", "--outstanding", "3"]);
        assert!(String::from_utf8_lossy(&output.stderr).contains("nobody serves"), "{output:?}");
        is_right(&server.stop());
        // The process that serves another port of the host speaks for this one.
        let address = family.address(0);
        let call = ["--server", &address, "--port", "55", "--count", "3", "--outstanding", "3"];
        let ids = ids_from(run);
        let call = [&call[..], &["--first-id", &ids], PATIENT].concat();
        let seen = link.linux("call", family, &call).document();
        assert_eq!(seen["failed"], serde_json::json!({ "ENOTCONN": 3 }), "{seen:#}");
        is_right(&seen);
    }
    drop(serving);
}

#[test]
fn a_linux_host_tells_its_cutoffs_once_for_all_of_its_sockets() {
    let Some(link) = Link::new("k", 1_500) else { return };
    let _server = link.serve(&[]);
    for (run, family) in BOTH.into_iter().enumerate() {
        let ids = ids_from(run);
        let call = ["--size", "100", "--count", "20", "--sockets", "10", "--first-id", &ids];
        let seen = link.linux_calls(family, &[&call, PATIENT].concat());
        is_clean(&seen);
        all_answered(&seen, 20);
        assert_eq!(number(&seen["host"]["sent_CUTOFFS"]), 1, "{seen:#}");
    }
}

#[test]
fn a_linux_client_is_told_where_a_port_is_not_served() {
    let Some(link) = Link::new("h", 1_500) else { return };
    let second = "10.125.0.7";
    assert!(ip(&["-n", &link.names[0], "addr", "add", &format!("{second}/24"), "dev", "h0"]));
    let v4 = Family::V4.address(0);
    let _server = link.serve_at(&Family::V4.target(0, PORT), &[]);
    for (run, (family, address)) in
        [(Family::V4, &*v4), (Family::V4, second), (Family::V4, &*v4), (Family::V6, "fd14::1")]
            .into_iter()
            .enumerate()
    {
        let ids = ids_from(run);
        let call = ["--server", address, "--count", "3", "--outstanding", "3"];
        let call = [&call[..], &["--first-id", &ids], PATIENT].concat();
        let seen = link.linux("call", family, &call).document();
        is_right(&seen);
        if address == v4 {
            all_answered(&seen, 3);
        } else {
            assert_eq!(seen["failed"], serde_json::json!({ "ENOTCONN": 3 }), "{seen:#}");
        }
    }
}

#[test]
fn the_state_of_a_linux_client_that_vanished_goes_away() {
    let Some(link) = Link::new("x", 1_500) else { return };
    let _server = link.serve(&[]);
    let vanish = |run: usize, size: &str, packets: &str, gone_ms: &str| {
        let call = ["--size", size, "--vanish-at-data", packets, "--vanish-for-ms", gone_ms];
        let host = ["--first-id", &ids_from(run)];
        let seen = link.linux_calls(Family::V4, &[&call[..], &host, PATIENT].concat());
        is_right(&seen);
        // Back again it asks, and the server knows nothing of the call.
        assert!(number(&seen["packets"]["got_RPC_UNKNOWN"]) > 0, "{seen:#}");
        seen
    };
    // In the middle of an answer. Linux does not begin such a call anew.
    let seen = vanish(0, "500000", "20", "10000");
    assert_eq!(seen["failed"], serde_json::json!({ "ETIMEDOUT": 1 }), "{seen:#}");
    // All of the answer was sent: NEED_ACKs become rarer and end; Linux asks every millisecond for
    // ever. It is gone for so long that the request, sent again, counts as a new one.
    let seen = vanish(1, "20000", "0", "15000");
    all_answered(&seen, 1);
    let questions = number(&seen["packets"]["got_NEED_ACK"]);
    assert!((5..25).contains(&questions), "{seen:#}");
}

#[test]
fn a_linux_server_that_forgets_everything_gets_the_requests_again() {
    let Some(link) = Link::new("r", 1_500) else { return };
    for family in BOTH {
        let server = link.linux_server(family, &[EAGER, &["--restart-at", "25"]].concat());
        let call = ["--size", "10000", "--count", "60", "--outstanding", "10"];
        all_verified(&link.call(family, PORT, &call), 60);
        is_right(&server.stop());
    }
}

#[test]
fn a_linux_server_that_closes_its_port_ends_the_calls() {
    let Some(link) = Link::new("o", 1_500) else { return };
    let server = link.linux_server(Family::V4, &[EAGER, &["--close-after", "20"]].concat());
    let call = ["--size", "10000", "--count", "50", "--outstanding", "10"];
    let output = link.call(Family::V4, PORT, &call);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("nobody serves"), "{text}");
    is_right(&server.stop());
}

#[test]
fn a_linux_client_goes_on_when_the_server_was_started_anew() {
    let Some(link) = Link::new("n", 1_500) else { return };
    let serving = link.serve(&["--delay", "100ms"]);
    let address = Family::V4.address(0);
    let call = ["--server", &address, "--size", "10000", "--count", "30", "--outstanding", "10"];
    let client = link.linux("call", Family::V4, &[&call[..], PATIENT].concat());
    thread::sleep(Duration::from_millis(150));
    drop(serving);
    let serving = link.serve(&[]);
    let seen = client.document();
    is_right(&seen);
    // Those that noticed got an ICMP error, the others were begun anew.
    let failed: u64 = seen["failed"].as_object().unwrap().values().map(number).sum();
    assert_eq!(number(&seen["completed"]) + failed, 30, "{seen:#}");
    assert_eq!(number(&seen["open"]), 0);
    // Another client of the same host finds the new server at once.
    let call =
        ["--size", "10000", "--count", "30", "--outstanding", "10", "--first-id", &ids_from(1)];
    let seen = link.linux_calls(Family::V4, &[&call, PATIENT].concat());
    is_right(&seen);
    all_answered(&seen, 30);
    drop(serving);
}
