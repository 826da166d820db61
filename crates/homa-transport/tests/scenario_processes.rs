//! Scenarios that need a process or a network namespace of their own: C2, C8, C9, X17. The test
//! binary starts itself again in a role, for namespaces by `unshare`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::thread::JoinHandleExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use homa_transport::Endpoint;

const ROLE: &str = "HOMA_TEST_ROLE";

/// Makes a network namespace in which loopback is up, with two automatic ports, and runs what
/// follows in it.
const IN_NAMESPACE: &str = "ip link set lo up && \
    echo '40000 40001' > /proc/sys/net/ipv4/ip_local_port_range && exec \"$@\"";

/// A process in a role in a network namespace of its own; both end with the test.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// `None`, and a line that says so, where no namespaces can be made.
    fn start(role: &str) -> Option<Self> {
        if let Err(why) = namespaces_work() {
            let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
            assert!(!root || std::env::var_os("CI").is_none(), "no network namespaces: {why}");
            println!("SKIPPED: no network namespaces ({why})");
            return None;
        }
        let mut child = in_namespace(&std::env::current_exe().unwrap().display().to_string())
            .args(["--exact", "plays_its_role_if_it_has_one", "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Some(Self { child, input, output: BufReader::new(output) })
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// What follows `word` in the first line that has it.
    fn read(&mut self, word: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "it ended without {word}");
            if let Some((_, rest)) = line.split_once(word) {
                return rest.trim().to_owned();
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that runs `program` in a new network namespace. `exec` keeps it one process, so that
/// it can be killed.
fn in_namespace(program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "sh", "-c", IN_NAMESPACE, "sh", program]);
    command
}

fn namespaces_work() -> Result<(), String> {
    match in_namespace("true").stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("unshare: {error}")),
    }
}

#[test]
fn plays_its_role_if_it_has_one() {
    match std::env::var(ROLE).as_deref() {
        Ok("clients") => open_clients(),
        Ok("server") => serve_one_port(),
        _ => {}
    }
}

/// Opens clients until there is no port left, then another one after one has gone.
fn open_clients() {
    let mut clients = Vec::new();
    let error = loop {
        match Endpoint::client() {
            Ok(client) => clients.push(client),
            Err(error) => break error,
        }
        assert!(clients.len() < 10, "more clients than ports");
    };
    let mut ports: Vec<u16> = clients.iter().map(|client| client.local_addr().port()).collect();
    ports.sort_unstable();
    println!("ports {ports:?}");
    println!("error {error}");
    clients.pop();
    println!("again {}", Endpoint::client().is_ok());
}

// Scenario: C2
#[test]
fn when_all_ports_are_taken_a_client_is_refused_until_one_is_free() {
    let Some(mut process) = Process::start("clients") else { return };
    assert_eq!(process.read("ports "), "[40000, 40001]", "ports in use are skipped");
    let error = process.read("error ");
    assert!(error.contains("in use"), "{error}");
    assert_eq!(process.read("again "), "true");
}

/// Serves the same port in every namespace and answers with the number of this process; for every
/// line of input, calls that port and writes what came.
fn serve_one_port() {
    let server = Endpoint::bind("127.0.0.1:4000").unwrap();
    let address = server.local_addr();
    std::thread::spawn(move || {
        while let Ok(request) = server.accept().wait() {
            let _ = request.reply(std::process::id().to_string()).wait();
        }
    });
    let client = Endpoint::client().unwrap();
    println!("started");
    for line in std::io::stdin().lines() {
        let Ok(answer) =
            client.call(address, line.unwrap()).wait().map(|answer| answer.into_string())
        else {
            return println!("answer failed");
        };
        println!("answer {}", answer.unwrap());
    }
}

// Scenario: C8, C9
#[test]
fn the_same_port_in_two_namespaces_is_two_servers_and_one_outlives_the_other() {
    let Some(mut first) = Process::start("server") else { return };
    let Some(mut second) = Process::start("server") else { return };
    for process in [&mut first, &mut second] {
        process.read("started");
    }
    for _ in 0..10 {
        for process in [&mut first, &mut second] {
            process.tell("who are you?");
            assert_eq!(process.read("answer "), process.child.id().to_string());
        }
    }
    // Its namespace goes with it.
    drop(first);
    second.tell("still there?");
    assert_eq!(second.read("answer "), second.child.id().to_string());
}

static SIGNALS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_signal(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

// Scenario: X17
#[test]
fn signals_wake_nobody_for_nothing_and_cost_no_message() {
    let handler: extern "C" fn(libc::c_int) = count_signal;
    // SAFETY: the handler only adds to an atomic number, which is allowed in a signal handler;
    // SIGUSR1 is used by nothing else in this process.
    unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
    for spin in [Duration::ZERO, Duration::from_millis(200)] {
        let (before, start) = (SIGNALS.load(Ordering::Relaxed), Instant::now());
        let fifty_signals_came = move || SIGNALS.load(Ordering::Relaxed) >= before + 50;
        let server = Endpoint::builder().spin(spin).bind("127.0.0.1:0").unwrap();
        let address = server.local_addr();
        let serving = std::thread::spawn(move || {
            let request = server.accept().wait().unwrap();
            while !fifty_signals_came() {
                std::thread::sleep(Duration::from_millis(1));
            }
            let answer = request.body().clone();
            request.reply(answer).wait().unwrap();
            assert!(server.accept().wait_timeout(Duration::from_millis(50)).is_none());
        });
        let calling = std::thread::spawn(move || {
            let client = Endpoint::builder().spin(spin).client().unwrap();
            std::thread::sleep(Duration::from_millis(50));
            assert_eq!(client.call(address, "despite signals").wait().unwrap(), "despite signals");
        });
        while !(serving.is_finished() && calling.is_finished()) {
            for thread in [&serving, &calling] {
                // SAFETY: the thread has not been joined, so its id is valid.
                unsafe { libc::pthread_kill(thread.as_pthread_t(), libc::SIGUSR1) };
            }
            assert!(start.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(1));
        }
        serving.join().unwrap();
        calling.join().unwrap();
        assert!(fifty_signals_came(), "signals came while they waited");
        assert!(start.elapsed() >= Duration::from_millis(100), "nobody came back early");
    }
}
