//! Facts about the machine that a figure needs to be understood.

use homa_bench::machine::{self, line};
use serde::Serialize;

use super::{distance::Distances, pin::Cores};

/// The machine a benchmark ran on; facts that could not be found are absent or null.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// What all benchmarks tell.
    #[serde(flatten)]
    machine: machine::Machine,
    /// Core of the client, if pinned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_core: Option<usize>,
    /// Core of the server, if pinned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_core: Option<usize>,
    /// How far apart they are, if pinned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores_distance: Option<Distances>,
    /// MTU of the loopback interface, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lo_mtu_bytes: Option<u64>,
    /// Largest receive buffer a socket may ask for, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rmem_max_bytes: Option<u64>,
    /// Receive buffer of a socket that asks for nothing, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rmem_default_bytes: Option<u64>,
    /// The system's default congestion control of TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_congestion_default: Option<String>,
    /// The congestion control used here.
    pub tcp_congestion: String,
    /// Mean number of runnable threads over the last minute, before the benchmark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loadavg: Option<f64>,
}

impl Machine {
    /// Looks at this machine.
    pub(crate) fn look(cores: Cores, congestion_control: &str) -> Self {
        let machine = machine::Machine::now();
        let loadavg = machine.load_average.as_ref().and_then(|text| text.parse().ok());
        Machine {
            machine,
            client_core: cores.client,
            server_core: cores.server,
            cores_distance: None,
            lo_mtu_bytes: number("/sys/class/net/lo/mtu"),
            rmem_max_bytes: number("/proc/sys/net/core/rmem_max"),
            rmem_default_bytes: number("/proc/sys/net/core/rmem_default"),
            tcp_congestion_default: line("/proc/sys/net/ipv4/tcp_congestion_control"),
            tcp_congestion: congestion_control.to_owned(),
            loadavg,
        }
    }

    /// The facts in two lines, and a third one on the distance of the cores.
    pub(crate) fn summary(&self) -> String {
        let text = |fact: &Option<String>| fact.clone().unwrap_or_else(|| "unknown".to_owned());
        let number =
            |fact: Option<u64>| fact.map_or("unknown".to_owned(), |value| value.to_string());
        let cores = match (self.client_core, self.server_core) {
            (Some(client), Some(server)) => {
                format!("client on core {client}, server on core {server}")
            }
            _ => "not pinned".to_owned(),
        };
        let distance = self.cores_distance.as_ref().and_then(Distances::text);
        let distance = distance.map_or(String::new(), |text| format!("{text}\n"));
        format!(
            "{}, {} cores ({cores}), Linux {}\nlo MTU {}, rmem default/max {}/{}, TCP {}, load average {}\n{distance}",
            text(&self.machine.cpu),
            self.machine.cores,
            text(&self.machine.kernel),
            number(self.lo_mtu_bytes),
            number(self.rmem_default_bytes),
            number(self.rmem_max_bytes),
            self.tcp_congestion,
            self.loadavg.map_or("unknown".to_owned(), |load| format!("{load:.2}")),
        )
    }
}

fn number(path: &str) -> Option<u64> {
    line(path)?.parse().ok()
}
