//! `run.json`, as far as a report needs it. What is missing is taken as unknown: runs of other
//! versions stay readable.

use serde::Deserialize;
use serde_json::Value;

use crate::{
    format::percent,
    summary::{Looks, NotMeasured, TransportDocument},
};

/// A run without its RPCs and samples.
#[derive(Debug, Deserialize)]
pub(crate) struct Document {
    pub plan: Value,
    #[serde(default)]
    pub variant: String,
    #[serde(default)]
    pub command: Vec<String>,
    #[serde(default)]
    pub machine: Value,
    #[serde(default)]
    pub network: Value,
    #[serde(default)]
    pub derived: Value,
    /// What the network measured about itself.
    #[serde(default)]
    pub fidelity: Value,
    /// How the queues of the switch were looked at.
    #[serde(default)]
    pub queue_looks: Option<Looks>,
    #[serde(default)]
    pub interrupted: bool,
    /// When the run ended, in UTC.
    #[serde(default)]
    pub date: Option<String>,
    /// Name of the machine.
    #[serde(default)]
    pub host: Option<String>,
    /// The program that measured: its version and commit.
    #[serde(default)]
    pub homa: Value,
    pub transports: Vec<TransportDocument>,
    /// Transports of the plan without result.
    #[serde(default)]
    pub not_measured: Vec<NotMeasured>,
}

/// What differences of latency a run can tell apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Resolution {
    /// Smaller ones of tails, in microseconds, are not the transports'.
    pub us: f64,
    /// Smaller ones of medians.
    pub median_us: f64,
    /// Whether the network measured itself; else it is the spread of the shortest unloaded RPCs
    /// from P50 to P90.
    pub by_the_network: bool,
}

/// A workload as people call it: `W4`, `Messages of 500 kB`, the name of a file.
pub(crate) fn workload(name: &str) -> String {
    let published = name.strip_prefix('w').filter(|number| number.parse::<u8>().is_ok());
    match (published, name.strip_prefix("fixed:")) {
        (Some(number), _) => format!("W{number}"),
        (_, Some(bytes)) => match bytes.strip_suffix('k').or(bytes.strip_suffix("kB")) {
            Some(thousands) => format!("Messages of {thousands}\u{a0}kB"),
            None => format!("Messages of {bytes}\u{a0}bytes"),
        },
        _ => name.rsplit('/').next().unwrap_or(name).to_owned(),
    }
}

/// Where the sizes of a published workload were measured.
pub(crate) fn workload_origin(name: &str) -> Option<&'static str> {
    Some(match name {
        "w1" => "a memcached service at Facebook",
        "w2" => "a search application at Google",
        "w3" => "all applications of a data centre of Google",
        "w4" => "a Hadoop cluster at Facebook",
        "w5" => "a web search application",
        _ => return None,
    })
}

impl Document {
    /// Title of the plan and variant.
    pub(crate) fn heading(&self) -> String {
        let title = self.text("/title").filter(|title| *title != "Homa and TCP");
        let title = title.unwrap_or("Homa and TCP side by side");
        match self.variant.is_empty() {
            true => title.to_owned(),
            false => format!("{title}: {}", self.variant),
        }
    }

    /// What was offered to what, in one line: `W4 at 80 % load, 6 hosts, 100 Mbit/s`.
    pub(crate) fn conditions(&self) -> String {
        let mut parts = Vec::new();
        let load = self.number("/load/load").map(|load| format!("{} load", percent(load)));
        match (self.text("/load/workload").map(workload), load) {
            (Some(workload), Some(load)) => parts.push(format!("{workload} at {load}")),
            (workload, load) => parts.extend(workload.or(load)),
        }
        parts.extend(self.number("/network/hosts").map(|hosts| format!("{hosts}\u{a0}hosts")));
        parts.extend(self.rate_mbps().map(|rate| format!("{rate}\u{a0}Mbit/s")));
        parts.extend(
            (self.text("/load/pattern") == Some("incast")).then(|| "all to one host".to_owned()),
        );
        match parts.is_empty() {
            true => "This run".to_owned(),
            false => parts.join(", "),
        }
    }

    /// When, where and with what it was measured, as far as the run says so.
    pub(crate) fn provenance(&self) -> Option<String> {
        let machine = |key: &str| self.machine.get(key).and_then(Value::as_str);
        let homa = |key: &str| self.homa.get(key).and_then(Value::as_str);
        let mut parts = Vec::new();
        parts.extend(self.date.as_ref().map(|date| date.replace('T', " ").replace('Z', " UTC")));
        parts.extend(self.host.as_ref().map(|host| format!("on {host}")));
        parts.extend(machine("cpu").map(str::to_owned));
        let cores = self.machine.get("cores").and_then(Value::as_u64);
        parts.extend(cores.map(|cores| format!("{cores} processors")));
        parts.extend(machine("kernel").map(|kernel| format!("Linux {kernel}")));
        let commit = homa("commit").map_or(String::new(), |commit| format!(" (commit {commit})"));
        parts.extend(homa("version").map(|version| format!("homa {version}{commit}")));
        (!parts.is_empty()).then(|| format!("Measured {}.", parts.join(", ")))
    }

    /// A text of the plan.
    pub(crate) fn text(&self, pointer: &str) -> Option<&str> {
        self.plan.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
    }

    /// A number of the plan.
    pub(crate) fn number(&self, pointer: &str) -> Option<f64> {
        self.plan.pointer(pointer)?.as_f64()
    }

    /// Published figures, in words.
    pub(crate) fn published(&self) -> Vec<&str> {
        let list = self.plan.pointer("/published").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// What the network measured about itself, wherever the run keeps it.
    pub(crate) fn fidelity(&self) -> Option<&Value> {
        [Some(&self.fidelity), self.network.get("fidelity")]
            .into_iter()
            .flatten()
            .find(|value| value.is_object())
    }

    /// Which differences of latency are not the transports'; `None` if nobody measured anything of
    /// the kind.
    pub(crate) fn resolution(&self) -> Option<Resolution> {
        let measured = |key| Some(self.fidelity()?.get(key)?.as_f64()? / 1e3);
        if let Some(us) = measured("latency_resolution_ns") {
            let median_us = measured("median_resolution_ns").unwrap_or(us);
            return Some(Resolution { us, median_us, by_the_network: true });
        }
        let shortest = self.transports.iter().filter_map(|transport| transport.unloaded.first());
        let spread_ns = shortest.map(|time| time.p90_ns.saturating_sub(time.p50_ns)).max()?;
        let us = spread_ns as f64 / 1e3;
        (spread_ns > 0).then_some(Resolution { us, median_us: us, by_the_network: false })
    }

    /// Differences of throughput below this share are not the network's.
    pub(crate) fn rate_resolution(&self) -> Option<f64> {
        self.fidelity()?.get("rate_resolution")?.as_f64()
    }

    /// The shortest unloaded time of Homa, or of any transport, in microseconds: what slowdowns are
    /// relative to at least.
    pub(crate) fn shortest_us(&self) -> Option<f64> {
        let shortest = |homa: bool| {
            let documents = self.transports.iter().filter(move |one| one.is_homa() || !homa);
            documents.filter_map(|one| one.unloaded.first()).map(|time| time.p50_ns).min()
        };
        shortest(true).or_else(|| shortest(false)).map(|ns| ns as f64 / 1e3).filter(|us| *us > 0.0)
    }

    /// Rate of the links, in 10^6 bit/s.
    pub(crate) fn rate_mbps(&self) -> Option<f64> {
        self.derived.pointer("/link/rate_mbps")?.as_f64().filter(|rate| *rate > 0.0)
    }

    /// Begin and length of the load that counts, in seconds.
    pub(crate) fn window_s(&self) -> (f64, f64) {
        let at = |pointer| self.number(pointer).unwrap_or(0.0);
        (at("/load/warm_up"), at("/load/secs"))
    }
}
