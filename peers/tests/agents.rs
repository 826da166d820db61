//! Hosts that speak each transport, told what to do as the controller of a comparison tells them.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use homa_bench::{
    settings::{self, LinkFacts},
    spec::{HostSpec, LoadOrder, LoadSummary, Order, Peer, Reply, Report, Status, Target},
    workload::Workload,
};

const MESSAGE_BYTES_MAX: u32 = 1_000_000;

/// A host as a process; dropping it ends it.
struct Host {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Host {
    fn start(host: u32, transport: &str, reply: Reply, service_us: u64) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_homa-bench-peers"))
            .arg("bench-host")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let link = LinkFacts { rate_mbps: 1_000, rtt_us: 100.0, timer_us: 50.0, mtu_bytes: 1_500 };
        let spec = HostSpec {
            host,
            listen: [127, 0, 0, 1].into(),
            port: 0,
            transport: transport.parse().unwrap(),
            homa: settings::derive(&link, &workload(), MESSAGE_BYTES_MAX),
            reply,
            message_bytes_max: MESSAGE_BYTES_MAX,
            service_us,
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut started = Host { child, input, output, address };
        started.say(&spec);
        match started.hear() {
            Report::Ready { address, .. } => started.address = address,
            other => panic!("{other:?}"),
        }
        started
    }

    fn say(&mut self, order: &impl serde::Serialize) {
        let mut line = serde_json::to_vec(order).unwrap();
        line.push(b'\n');
        self.input.write_all(&line).unwrap();
    }

    fn hear(&mut self) -> Report {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: `{line}`"))
    }

    fn connect(&mut self, peers: Vec<Peer>) {
        self.say(&Order::Connect { peers });
        assert_eq!(self.hear(), Report::Done);
    }

    /// What it noticed during the last load, and how each RPC ended: request bytes and status.
    fn loaded(&mut self) -> (LoadSummary, Vec<(u64, Status)>) {
        let summary = match self.hear() {
            Report::Loaded(summary) => summary,
            other => panic!("{other:?}"),
        };
        self.say(&Order::Collect);
        let mut rpcs = Vec::new();
        loop {
            match self.hear() {
                Report::Rpcs(rows) => rpcs.extend(rows.iter().map(|row| (row.1, row.4))),
                Report::Done => return (summary, rpcs),
                other => panic!("{other:?}"),
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Short and long messages.
fn workload() -> Workload {
    Workload::load("w4").unwrap().capped(u64::from(MESSAGE_BYTES_MAX))
}

fn load(servers: Vec<Target>, rpc_per_s: f64, seed: u64) -> Order {
    let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_millis(100);
    Order::Load(LoadOrder {
        servers,
        workload: workload(),
        rpc_per_s,
        client_max: 1_000,
        start_unix_ns: start.as_nanos() as u64,
        warm_up_s: 0.0,
        secs: 1.0,
        drain_s: 30.0,
        seed,
    })
}

/// Three hosts call each other; programs that are built for tests compare each byte of the answers.
fn all_call_each_other(transport: &str, reply: Reply) {
    let mut hosts: Vec<Host> = (0..3).map(|host| Host::start(host, transport, reply, 0)).collect();
    let peers: Vec<Peer> =
        hosts.iter().zip(0..).map(|(found, host)| Peer { host, address: found.address }).collect();
    for (number, host) in hosts.iter_mut().enumerate() {
        let mut others = peers.clone();
        others.remove(number);
        host.say(&Order::Connect { peers: others });
    }
    for host in &mut hosts {
        assert_eq!(host.hear(), Report::Done);
    }
    for (host, seed) in hosts.iter_mut().zip(0..) {
        let servers = (0..2).map(|index| Target { index, host: index as u32 }).collect();
        host.say(&load(servers, 100.0, seed));
    }
    for host in &mut hosts {
        let (_, rpcs) = host.loaded();
        assert!(rpcs.len() > 50, "{transport}: {} RPCs", rpcs.len());
        let bad: Vec<_> = rpcs.iter().filter(|rpc| rpc.1 != Status::Ok).collect();
        assert!(bad.is_empty(), "{transport}: {bad:?}");
        assert!(rpcs.iter().any(|rpc| rpc.0 > 100_000), "{transport}: no long message");
    }
}

#[test]
fn quic_echoes_all_messages_whole() {
    all_call_each_other("quic", Reply::Echo);
}

#[test]
fn quic_answers_with_the_length_wanted_over_several_connections() {
    all_call_each_other("quic-x3", Reply::Bytes(100));
}

#[test]
fn grpc_echoes_all_messages_whole() {
    all_call_each_other("grpc", Reply::Echo);
}

#[test]
fn grpc_answers_with_the_length_wanted_over_several_channels() {
    all_call_each_other("grpc-x3", Reply::Bytes(100));
}

#[test]
fn unloaded_times_grow_with_the_size_and_connections_are_kept() {
    for transport in ["quic", "grpc"] {
        let server = Host::start(0, transport, Reply::Echo, 0);
        let mut client = Host::start(1, transport, Reply::Echo, 0);
        let mut medians = Vec::new();
        for size in [1, 1_000_000] {
            client.connect(vec![Peer { host: 0, address: server.address }]);
            client.say(&Order::Unloaded { server: 0, sizes_bytes: vec![size], repeats: 10 });
            match client.hear() {
                Report::Unloaded(times) => medians.extend(times.iter().map(|time| time.p50_ns)),
                other => panic!("{other:?}"),
            }
        }
        assert!(medians[0] > 0 && medians[0] < medians[1], "{transport}: {medians:?}");
    }
}

#[test]
fn a_slow_server_serves_one_request_after_the_other() {
    for transport in ["quic", "grpc"] {
        let server = Host::start(0, transport, Reply::Bytes(1), 20_000);
        let mut client = Host::start(1, transport, Reply::Bytes(1), 0);
        client.connect(vec![Peer { host: 0, address: server.address }]);
        let begin = std::time::Instant::now();
        client.say(&load(vec![Target { index: 0, host: 0 }], 100.0, 1));
        let (_, rpcs) = client.loaded();
        assert!(rpcs.iter().all(|rpc| rpc.1 == Status::Ok));
        let least = Duration::from_millis(20) * rpcs.len() as u32;
        assert!(begin.elapsed() >= least, "{transport}: {} in {:?}", rpcs.len(), begin.elapsed());
    }
}

#[test]
fn calls_to_a_host_that_ended_fail_or_stay_unfinished_and_the_caller_goes_on() {
    for transport in ["quic", "grpc"] {
        let server = Host::start(0, transport, Reply::Echo, 0);
        let mut client = Host::start(1, transport, Reply::Echo, 0);
        client.connect(vec![Peer { host: 0, address: server.address }]);
        drop(server);
        let Order::Load(mut order) = load(vec![Target { index: 0, host: 0 }], 100.0, 1) else {
            unreachable!()
        };
        order.drain_s = 0.5;
        client.say(&Order::Load(order));
        let (_, rpcs) = client.loaded();
        assert!(rpcs.len() > 50 && rpcs.iter().all(|rpc| rpc.1 != Status::Ok), "{transport}");
    }
}

#[test]
fn a_transport_of_another_program_is_refused_with_its_name() {
    let input = {
        let link = LinkFacts { rate_mbps: 100, rtt_us: 100.0, timer_us: 50.0, mtu_bytes: 1_500 };
        let spec = HostSpec {
            host: 0,
            listen: [127, 0, 0, 1].into(),
            port: 0,
            transport: "tcp-cubic".parse().unwrap(),
            homa: settings::derive(&link, &workload(), 1_000),
            reply: Reply::Echo,
            message_bytes_max: 1_000,
            service_us: 0,
        };
        serde_json::to_vec(&spec).unwrap()
    };
    let mut output = Vec::new();
    let outcome = homa_bench::agent::run_with(
        homa_bench_peers::open,
        std::io::Cursor::new([input, b"\n".to_vec()].concat()),
        &mut output,
    );
    assert!(outcome.unwrap_err().to_string().contains("tcp-cubic"));
    let report = String::from_utf8(output).unwrap();
    assert!(report.contains("failed") && report.contains("homa bench-host"), "{report}");
}
