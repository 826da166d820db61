//! A point of a plan: what is simulated, checked, and its name by what goes into it.

use std::path::Path;

use homa_bench::{plan::PlanError, settings::named, workload::Workload};
use homa_core::Config;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use toml::{Table, Value};

use super::traffic::{Sent, TrafficSpec};
use crate::{
    fabric::Topology,
    network::Network,
    reproduce::sigcomm18::{self, Messages, Pacing, Profile},
    run::{Run, SetupError},
    traffic::{Demand, Pattern},
    transport::Choice,
};

/// What a plan says of a point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PointSpec {
    /// What hosts speak.
    pub transport: String,
    /// Settings of Homa before those of `homa`.
    pub profile: Profile,
    /// What keeps packets from waiting in the senders' NICs.
    pub pacing: Pacing,
    /// The network.
    pub network: Network,
    /// What is sent.
    pub traffic: TrafficSpec,
    /// Part of the links that is used, headers and control packets included, as the pattern says;
    /// 0.8 if not given. A recording has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// Messages of all hosts; so many that percentiles mean something if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<u32>,
    /// What everything that is left to chance follows.
    pub seed: u64,
    /// Settings of Homa, by their [names](homa_bench::settings::named).
    pub homa: Table,
}

impl Default for PointSpec {
    fn default() -> Self {
        Self {
            transport: "homa".to_owned(),
            profile: Profile::Paper,
            pacing: Pacing::Nic,
            network: Network::default(),
            traffic: TrafficSpec::default(),
            load: None,
            messages: None,
            seed: 1,
            homa: Table::new(),
        }
    }
}

impl PointSpec {
    /// Settings of Homa whose clock, if it is to pace, knows the links of the network.
    fn with_link(&self, config: Config, topology: &Topology) -> Config {
        let given = self.homa.get("output").and_then(|output| output.get("link_mbps"));
        match (self.pacing, given) {
            (Pacing::Clock, None) => config.with(|config| {
                config.output.link_mbps = Some(topology.host_rate.mbps());
            }),
            _ => config,
        }
    }

    /// The load and the number of messages. A recording has its own.
    fn amount(
        &self,
        messages: &Messages,
        demand: &Demand,
        topology: &Topology,
    ) -> Result<(f64, u32), PlanError> {
        if let Pattern::Recorded(trace) = &demand.pattern {
            for (key, is_given) in
                [("load", self.load.is_some()), ("messages", self.messages.is_some())]
            {
                if is_given {
                    return Err(PlanError::value(key, "left out: `traffic.trace` says it"));
                }
            }
            let load = trace.load(topology.host_rate, topology.hosts());
            return Ok((load, trace.messages().len() as u32));
        }
        let count = self.messages.unwrap_or_else(|| messages.count(PACKETS, MESSAGES));
        match (MESSAGES_MIN..=MESSAGES_MAX).contains(&count) {
            true => Ok((self.load.unwrap_or(LOAD), count)),
            false => {
                let range = format!("{MESSAGES_MIN} to {MESSAGES_MAX}");
                Err(PlanError::value("messages", range))
            }
        }
    }
}

/// What goes into a point: equal inputs give equal results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
    /// What simulates: version of the crate and digest of the sources, the engine's included.
    pub version: String,
    /// What hosts speak.
    pub transport: String,
    /// What paces senders.
    pub pacing: Pacing,
    /// The network.
    pub network: Network,
    /// What is sent; of files without their directories.
    pub traffic: TrafficSpec,
    /// Digest of all that files may say of it: sizes, and a recording.
    pub traffic_sha256: String,
    /// Part of the links that is used, as the pattern says. Of a recording without headers.
    pub load: f64,
    /// Messages of all hosts, responses excepted.
    pub messages: u32,
    /// What everything that is left to chance follows.
    pub seed: u64,
    /// All settings of Homa; none of other transports.
    pub homa: Table,
}

/// What simulates.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "+", env!("HOMA_SIM_SOURCES"));

/// A point, ready to run.
#[derive(Clone, Debug)]
pub struct Point {
    /// Its variant and its values of the axes.
    pub label: String,
    /// Its values of the axes.
    pub values: Vec<(String, Value)>,
    /// What is simulated.
    pub run: Run,
    /// What goes into it.
    pub inputs: Inputs,
    /// Name of the inputs: 32 hexadecimal digits.
    pub hash: String,
}

/// The load if none is given.
const LOAD: f64 = 0.8;
/// Packets of data that a point makes if the number of messages is not given, within bounds.
const PACKETS: f64 = 3e6;
const MESSAGES: std::ops::RangeInclusive<u32> = 4_000..=200_000;
/// Messages of a point at least: the first tenth does not count.
const MESSAGES_MIN: u32 = 100;
/// And at most.
const MESSAGES_MAX: u32 = 100_000_000;
/// Bytes of the digest in names.
const NAME_BYTES: usize = 16;

impl Point {
    /// The point that is described; files are sought in `directory`.
    ///
    /// # Errors
    /// [`PlanError::Value`]: what cannot be, and what would be right.
    pub fn new(
        label: String,
        values: Vec<(String, Value)>,
        spec: &PointSpec,
        directory: &Path,
    ) -> Result<Self, PlanError> {
        let topology = spec
            .network
            .topology()
            .map_err(|error| PlanError::value(format!("network.{}", error.key), error.must_be))?;
        let load = spec.load.unwrap_or(LOAD);
        if !(load > 0.0 && load < 1.0) {
            return Err(PlanError::value("load", "above 0 and below 1"));
        }
        let Sent { sizes, demand, all: messages } =
            spec.traffic.read(directory, topology.hosts(), load)?;
        let (load, count) = spec.amount(&messages, &demand, &topology)?;
        let wrong = |error: named::SettingError| {
            PlanError::value(format!("homa.{}", error.name), error.must_be)
        };
        let config = spec.profile.config_with(&messages, spec.pacing, &spec.homa).map_err(wrong)?;
        let config = spec.with_link(config, &topology);
        let homa = named::table(&config);
        let traffic_sha256 = traffic_digest(&sizes, &demand);
        let transport = messages.transport(&spec.transport, config).ok_or_else(|| {
            PlanError::value("transport", format!("one of {}", sigcomm18::TRANSPORTS.join(", ")))
        })?;
        let run = sigcomm18::run(sizes, transport, 1, load, count, spec.seed);
        let nic_pulls = run.topology.nic_pulls && spec.pacing != Pacing::Backlog;
        let run = Run { topology: Topology { nic_pulls, ..topology }, demand, ..run };
        run.check().map_err(|error| match error {
            SetupError::Traffic(error) => PlanError::value("traffic", error.to_string()),
            SetupError::Topology(error) => PlanError::value("network", error.to_string()),
            other => PlanError::value("homa", other.to_string()),
        })?;
        let inputs = Inputs {
            version: VERSION.to_owned(),
            transport: run.transport.name().to_owned(),
            pacing: spec.pacing,
            network: spec.network.clone(),
            traffic: spec.traffic.resolved(),
            traffic_sha256,
            load,
            messages: count,
            seed: spec.seed,
            homa: if matches!(run.transport, Choice::Homa(_)) { homa } else { Table::new() },
        };
        let hash = inputs.hash();
        Ok(Self { label, values, run, inputs, hash })
    }

    /// The point whose result has these inputs, which gives the same result again; files are sought
    /// in `directory`.
    ///
    /// # Errors
    /// See [`InputsError`].
    pub fn again(inputs: serde_json::Value, directory: &Path) -> Result<Self, InputsError> {
        // Inputs of other versions may have other names.
        let version = inputs.get("version").and_then(serde_json::Value::as_str);
        if version != Some(VERSION) {
            return Err(InputsError::Version(version.unwrap_or("?").to_owned()));
        }
        let inputs: Inputs = serde_json::from_value(inputs)?;
        let is_recorded = inputs.traffic.trace.is_some();
        let spec = PointSpec {
            transport: inputs.transport.clone(),
            // All settings are given.
            profile: Profile::Default,
            pacing: inputs.pacing,
            network: inputs.network.clone(),
            traffic: inputs.traffic.clone(),
            load: (!is_recorded).then_some(inputs.load),
            messages: (!is_recorded).then_some(inputs.messages),
            seed: inputs.seed,
            homa: inputs.homa.clone(),
        };
        let point = Self::new(String::new(), Vec::new(), &spec, directory)?;
        match point.inputs == inputs {
            true => Ok(point),
            false => Err(InputsError::Files),
        }
    }
}

/// Why inputs give no point.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputsError {
    /// Other sources would simulate something else: take their program, or simulate again.
    #[error(
        "it was made by version {0}, and this is {VERSION}: take the homa that made it, or \
         simulate it again"
    )]
    Version(String),
    /// What is there is no inputs: somebody changed it.
    #[error("its inputs cannot be read: {0}")]
    Format(#[from] serde_json::Error),
    /// What it describes cannot be, or a file that it names is not there: say where that is.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A file that it names is another than the one that went in: say where that is.
    #[error("the files that it names are not those that went in")]
    Files,
}

impl Inputs {
    /// Their name: 32 hexadecimal digits.
    pub fn hash(&self) -> String {
        digest(self, NAME_BYTES)
    }
}

/// Digest of what files may say of traffic.
fn traffic_digest(sizes: &Workload, demand: &Demand) -> String {
    let (background, trace) = match &demand.pattern {
        Pattern::Incast(incast) => {
            (incast.background.as_ref().map(|background| &background.sizes), None)
        }
        Pattern::Recorded(trace) => (None, Some(trace.sha256())),
        Pattern::AllToAll | Pattern::Permutation => (None, None),
    };
    digest(&(sizes, background, &demand.responses, trace), usize::MAX)
}

/// The first bytes of the digest of a value, in hexadecimal digits.
fn digest(value: &impl Serialize, bytes: usize) -> String {
    let text = serde_json::to_vec(value).expect("maps have names as keys");
    Sha256::digest(text).iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}
