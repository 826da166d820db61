//! Real processes: killed, stopped, forked. The test binary starts itself again in a role.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use common::{SOON, pattern};
use homa_transport::{
    AcceptError, Call, CallError, CallErrorKind, Config, Endpoint, ReplyError, Request,
};
use rustix::process::{Pid, Signal, kill_process};

const ROLE: &str = "HOMA_TEST_ROLE";

/// A process in a role, ended with the test.
struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<std::process::ChildStdout>,
}

impl Process {
    fn start(role: &str) -> Self {
        let module =
            module_path!().split_once("::").map_or(String::new(), |(_, m)| format!("{m}::"));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", &format!("{module}plays_its_role_if_it_has_one"), "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = match role {
            "client" => common::spawn_at_client(&mut command),
            _ => common::spawn_at_server(&mut command),
        };
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { input: child.stdin.take(), child, output }
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

    fn tell(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn pause(&self, duration: Duration) {
        self.signal(Signal::STOP);
        std::thread::sleep(duration);
        self.signal(Signal::CONT);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn plays_its_role_if_it_has_one() {
    match std::env::var(ROLE).as_deref() {
        Ok("echo") => serve(Duration::ZERO),
        Ok("slow") => serve(Duration::from_secs(20)),
        Ok("client") => call_for_ever(),
        Ok("forker") => fork_and_report(),
        _ => {}
    }
}

fn serve(delay: Duration) {
    let server = common::bind();
    println!("address {}", server.local_addr());
    while let Ok(request) = server.accept().wait() {
        println!("request {}", request.body().len());
        std::thread::sleep(delay);
        let answer = request.body().clone();
        let _ = request.reply(answer).wait();
    }
}

/// Calls the server named on standard input again and again, until a call fails or input ends.
fn call_for_ever() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let server: SocketAddr = line.trim().parse().unwrap();
    let client = common::client();
    let body = pattern(200_000);
    let until = Instant::now() + Duration::from_millis(1_500);
    let mut calls = 0;
    while Instant::now() < until {
        match client.call(server, body.clone()).wait() {
            Ok(answer) => assert!(answer == body),
            Err(error) => return println!("failed {error}"),
        }
        calls += 1;
        if calls == 1 {
            println!("started");
        }
    }
    println!("calls {calls}");
}

#[test]
fn a_killed_server_ends_the_call_with_an_error_that_names_it() {
    let mut server = Process::start("slow");
    let address: SocketAddr = server.read("address ").parse().unwrap();
    let client = common::client_with(|builder| builder.config(Config::default()));
    let call = client.call(address, "work").start();
    server.read("request ");
    server.signal(Signal::KILL);
    let start = Instant::now();
    let error = call.wait().unwrap_err();
    assert_eq!(error.server(), Some(address), "{error}");
    assert!(
        matches!(error.kind(), CallErrorKind::Timeout) || says_nobody_serves(&error),
        "{error}"
    );
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    let error = client.call(address, "again").wait().unwrap_err();
    assert_eq!(error.server(), Some(address), "{error}");
    assert!(says_nobody_serves(&error), "{error}");
}

/// Over raw IP a host without any endpoint is one that does not speak Homa.
fn says_nobody_serves(error: &CallError) -> bool {
    match error.kind() {
        CallErrorKind::NoService | CallErrorKind::ServiceGone => true,
        CallErrorKind::ProtocolUnreachable => common::is_raw(),
        _ => false,
    }
}

#[test]
fn a_server_stopped_for_a_while_fails_no_call() {
    let mut server = Process::start("echo");
    let address: SocketAddr = server.read("address ").parse().unwrap();
    let client = common::client();
    let body = pattern(500_000);
    assert!(client.call(address, body.clone()).wait().unwrap() == body);
    let calls: Vec<_> = (0..20).map(|_| client.call(address, body.clone()).start()).collect();
    server.pause(Duration::from_millis(300));
    for call in calls {
        assert!(call.wait().unwrap() == body);
    }
    assert!(client.call(address, body.clone()).wait().unwrap() == body);
}

#[test]
fn a_client_stopped_for_a_while_fails_no_call() {
    let server = common::echo_server(common::address());
    let mut client = Process::start("client");
    client.tell(&server.to_string());
    client.read("started");
    client.pause(Duration::from_millis(300));
    let calls: u32 = client.read("calls ").parse().unwrap();
    assert!(calls > 1);
}

#[test]
fn two_client_processes_of_one_host_do_not_get_in_each_others_way() {
    let address = common::echo_server(common::address());
    let mut clients = [Process::start("client"), Process::start("client")];
    for client in &mut clients {
        client.tell(&address.to_string());
        client.read("started");
    }
    // Each checks its responses, and says if a call fails.
    for client in &mut clients {
        let calls: u32 = client.read("calls ").parse().unwrap();
        assert!(calls > 1);
    }
}

/// Makes an endpoint, forks, and reports what the child found.
fn fork_and_report() {
    let server = common::bind();
    let client = common::client();
    let call = client.call(server.local_addr(), "before").start();
    let request = server.accept().wait().unwrap();
    // SAFETY: the child of this process, whose other threads only guard idle endpoints, uses the
    // allocator (which the C library makes usable after a fork) and the endpoints, which is what is
    // tested here; then it ends without running anything of the parent's.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = i32::from(!child_is_kept_out(&server, &client, call, request));
        // SAFETY: ends this process and touches no memory.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: `status` is a local value that the call fills; `child` is our own child.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    let kept_out = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
    request.reply("after").wait().unwrap();
    let answered = call.wait().unwrap() == "after";
    println!("child kept out {kept_out}, parent unharmed {answered}");
}

fn child_is_kept_out(server: &Endpoint, client: &Endpoint, call: Call, request: Request) -> bool {
    let address = server.local_addr();
    let forked = CallError::from(CallErrorKind::Forked);
    let kept_out = client.call(address, "x").wait().unwrap_err() == forked
        && client.call(address, "x").try_start().unwrap_err() == forked
        && server.accept().wait().unwrap_err() == AcceptError::Forked
        && request.reply("x").wait().unwrap_err() == ReplyError::Forked
        && call.wait().unwrap_err() == forked;
    server.close().wait();
    drop((server.clone(), client.clone()));
    // An endpoint of its own works.
    let own = common::bind();
    let own_address = own.local_addr();
    common::serve_echo(own);
    kept_out && common::client().call(own_address, "own").wait().unwrap() == "own"
}

#[test]
fn a_forked_child_is_kept_out_and_the_parent_goes_on() {
    let mut forker = Process::start("forker");
    assert_eq!(forker.read("child kept out "), "true, parent unharmed true");
}

#[test]
fn garbage_changes_nothing() {
    let server = common::bind();
    let address = server.local_addr();
    common::serve_echo(server.clone());
    let noise = pattern(70_000);
    for length in [0, 1, 27, 28, 29, 56, 60, 64, 100, 1_400, 9_000, 60_000] {
        for start in [0, 1, 77, 256] {
            common::send_garbage(address, &noise[start..start + length]);
        }
    }
    let client = common::client();
    assert_eq!(client.call(address, "still here?").wait().unwrap(), "still here?");
    let stats = server.stats();
    assert_eq!(stats.requests_waiting, 0);
    assert!(stats.engine.live_rpcs <= 1);
}
