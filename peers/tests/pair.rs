//! A client and a server of each transport, as `homa bench local` starts them.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use homa_bench::{
    pair::{Closed, Job, Outcome, Side},
    settings::{self, LinkFacts},
    spec::{HostSpec, Reply},
    workload::Workload,
};

/// Ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a process and hears its line.
fn start<T: serde::de::DeserializeOwned>(job: &Job) -> (Process, Result<T, String>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_homa-bench-peers"))
        .arg("bench-pair")
        .arg(serde_json::to_string(job).unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let process = Process(child);
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    (process, serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: `{line}`")))
}

fn side(transport: &str, reply: Reply) -> Side {
    let link = LinkFacts { rate_mbps: 0, rtt_us: 50.0, timer_us: 50.0, mtu_bytes: 6_500 };
    let spec = HostSpec {
        host: 0,
        listen: [127, 0, 0, 1].into(),
        port: 0,
        transport: transport.parse().unwrap(),
        homa: settings::derive(&link, &Workload::load("w2").unwrap(), 1_000_000),
        reply,
        message_bytes_max: 1_000_000,
        service_us: 0,
    };
    Side { spec, cpu: None }
}

#[test]
fn tasks_of_a_client_call_a_server() {
    for transport in ["quic", "grpc", "grpc-x2"] {
        for (request_bytes, outstanding, reply, reply_bytes) in
            [(100, 100, Reply::Echo, 100), (1_000_000, 4, Reply::Bytes(16), 16)]
        {
            let side = side(transport, reply);
            let (_server, address) = start::<SocketAddr>(&Job::Serve(side.clone()));
            let load = Closed { request_bytes, outstanding, secs: 0.1 };
            let job = Job::Measure { side, server: address.unwrap(), load };
            let found = start::<Outcome>(&job).1.unwrap();
            assert!(found.calls > 0 && found.cpu_ns > 0, "{transport}: {found:?}");
            let each = request_bytes + reply_bytes;
            assert_eq!(found.payload_bytes, found.calls * each, "{transport}");
        }
    }
}

#[test]
fn a_server_that_cannot_be_reached_is_said() {
    let side = side("grpc", Reply::Echo);
    let load = Closed { request_bytes: 1, outstanding: 1, secs: 0.1 };
    let job = Job::Measure { side, server: ([127, 0, 0, 1], 1).into(), load };
    assert!(start::<Outcome>(&job).1.is_err());
    let (_server, address) = start::<SocketAddr>(&Job::Serve(self::side("tcp", Reply::Echo)));
    assert!(address.unwrap_err().contains("homa bench-host"));
}
