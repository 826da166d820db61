//! What a plan says of traffic.

use std::{path::Path, sync::Arc};

use homa_bench::{plan::PlanError, workload::Workload};
use serde::{Deserialize, Serialize};

use crate::{
    reproduce::sigcomm18::{MESSAGE_BYTES_MAX, Messages},
    traffic::{Arrivals, Background, Demand, Incast, Pattern, Trace, TrafficError},
};

/// What is sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrafficSpec {
    /// Sizes of messages: `sigcomm18/w1` to `w5`, `w1` to `w5` as the lab has them, `fixed:SIZE`,
    /// or a CSV file; `sigcomm18/w4` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sizes: Option<String>,
    /// Who sends to whom; all to all if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<PatternName>,
    /// Hosts that an incast comes from at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub senders: Option<u32>,
    /// Part of every host's link that messages from all to all use beside an incast.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub background: Option<f64>,
    /// Sizes of those; as of the incast if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub background_sizes: Option<String>,
    /// When hosts begin messages of their own; a Poisson process if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrivals: Option<ArrivalsName>,
    /// Standard deviation of the logarithm of log-normal intervals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigma: Option<f64>,
    /// Whether messages are requests; they are not if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<CallsName>,
    /// Sizes of responses; as of requests if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_sizes: Option<String>,
    /// A recording: a CSV file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

/// Who sends to whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PatternName {
    /// See [`Pattern::AllToAll`].
    #[default]
    AllToAll,
    /// See [`Pattern::Permutation`].
    Permutation,
    /// See [`Pattern::Incast`].
    Incast,
}

/// When hosts begin messages of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArrivalsName {
    /// See [`Arrivals::Poisson`].
    #[default]
    Poisson,
    /// See [`Arrivals::LogNormal`].
    LogNormal,
}

/// What messages are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallsName {
    /// Messages without an answer.
    #[default]
    OneWay,
    /// Requests, each with a response.
    RequestResponse,
}

/// Sizes of messages if none are given.
const SIZES: &str = "sigcomm18/w4";
/// Prefix of the names of the published workloads as the paper has them.
const SIGCOMM18: &str = "sigcomm18/";
/// What a plan sends.
pub(super) struct Sent {
    /// Sizes of the pattern's messages.
    pub(super) sizes: Workload,
    /// How they come.
    pub(super) demand: Demand,
    /// All messages, which settings follow.
    pub(super) all: Messages,
}

impl TrafficSpec {
    /// What so many hosts send at a load above 0; files are sought in `directory`.
    pub(super) fn read(&self, directory: &Path, hosts: u32, load: f64) -> Result<Sent, PlanError> {
        self.check_keys()?;
        let (messages, demand) = self.messages(directory, hosts)?;
        demand.check(hosts, load).map_err(|error| wrong(&error))?;
        let sizes = messages.sizes.clone();
        let all = match together(&sizes, &demand, hosts, load) {
            Some(all) => Messages::of(all),
            None => messages,
        };
        Ok(Sent { sizes, demand, all })
    }

    /// The messages that are meant, and how they come.
    fn messages(&self, directory: &Path, hosts: u32) -> Result<(Messages, Demand), PlanError> {
        if let Some(trace) = &self.trace {
            let trace = Trace::read(&directory.join(trace), hosts).map_err(|error| {
                PlanError::value("traffic.trace", format!("a recording that can be: {error}"))
            })?;
            let lengths = trace.messages().iter();
            let sizes = Workload::weighted(lengths.map(|line| (line.bytes.into(), 1.0)));
            let responses = self.responses(&sizes, directory)?;
            let pattern = Pattern::Recorded(Arc::new(trace));
            return Ok((Messages::of(sizes), Demand { pattern, responses, ..Demand::default() }));
        }
        let name = self.sizes.as_deref().unwrap_or(SIZES);
        let messages = messages("traffic.sizes", name, directory)?;
        let responses = self.responses(&messages.sizes, directory)?;
        let pattern = match self.pattern.unwrap_or_default() {
            PatternName::AllToAll => Pattern::AllToAll,
            PatternName::Permutation => Pattern::Permutation,
            PatternName::Incast => Pattern::Incast(self.incast(&messages.sizes, directory)?),
        };
        let arrivals = match self.arrivals.unwrap_or_default() {
            ArrivalsName::Poisson => Arrivals::Poisson,
            ArrivalsName::LogNormal => {
                let sigma = self.sigma.ok_or_else(|| {
                    let must_be = "the deviation of the logarithm of intervals";
                    PlanError::value("traffic.sigma", must_be)
                })?;
                Arrivals::LogNormal { sigma }
            }
        };
        Ok((messages, Demand { pattern, arrivals, responses }))
    }

    /// Checks that no key belongs to what others do not say.
    fn check_keys(&self) -> Result<(), PlanError> {
        let is_incast = self.pattern == Some(PatternName::Incast);
        let is_log_normal = self.arrivals == Some(ArrivalsName::LogNormal);
        let is_call = self.calls == Some(CallsName::RequestResponse);
        let recorded = "left out: `traffic.trace` says it";
        let incast = "left out: it belongs to the pattern incast";
        let is_trace = self.trace.is_some();
        let must_not = [
            ("sizes", self.sizes.is_some() && is_trace, recorded),
            ("pattern", self.pattern.is_some() && is_trace, recorded),
            ("arrivals", self.arrivals.is_some() && is_trace, recorded),
            ("senders", self.senders.is_some() && !is_incast, incast),
            ("background", self.background.is_some() && !is_incast, incast),
            (
                "background_sizes",
                self.background_sizes.is_some() && self.background.is_none(),
                "left out without `background`",
            ),
            (
                "arrivals",
                self.arrivals.is_some() && is_incast && self.background.is_none(),
                "left out: an incast comes at equal intervals, and there is no `background`",
            ),
            (
                "sigma",
                self.sigma.is_some() && !is_log_normal,
                "left out: it belongs to the arrivals log-normal",
            ),
            (
                "response_sizes",
                self.response_sizes.is_some() && !is_call,
                "left out: it belongs to the calls request-response",
            ),
        ];
        match must_not.into_iter().find(|(_, is_wrong, _)| *is_wrong) {
            Some((key, _, must_be)) => Err(PlanError::value(format!("traffic.{key}"), must_be)),
            None => Ok(()),
        }
    }

    fn incast(&self, sizes: &Workload, directory: &Path) -> Result<Incast, PlanError> {
        let senders = self.senders.ok_or_else(|| {
            PlanError::value("traffic.senders", "the number of hosts that send at a time")
        })?;
        let Some(background) = self.background else {
            return Ok(Incast { senders, background: None });
        };
        let sizes = match &self.background_sizes {
            Some(name) => messages("traffic.background_sizes", name, directory)?.sizes,
            None => sizes.clone(),
        };
        Ok(Incast { senders, background: Some(Background { load: background, sizes }) })
    }

    /// Sizes of responses, if messages are requests.
    fn responses(
        &self,
        requests: &Workload,
        directory: &Path,
    ) -> Result<Option<Workload>, PlanError> {
        if self.calls != Some(CallsName::RequestResponse) {
            return Ok(None);
        }
        Ok(Some(match &self.response_sizes {
            Some(name) => messages("traffic.response_sizes", name, directory)?.sizes,
            None => requests.clone(),
        }))
    }

    /// The same with all that is not given; of files the name alone.
    pub(super) fn resolved(&self) -> Self {
        let given = self.clone();
        let name = |name: &String| file_name(name, is_file(name));
        let is_trace = self.trace.is_some();
        let has_own =
            !is_trace && (self.pattern != Some(PatternName::Incast) || self.background.is_some());
        let sizes = given.sizes.or_else(|| (!is_trace).then(|| SIZES.to_owned()));
        Self {
            sizes: sizes.as_ref().map(name),
            pattern: given.pattern.or_else(|| (!is_trace).then(PatternName::default)),
            background_sizes: given.background_sizes.as_ref().map(name),
            arrivals: given.arrivals.or_else(|| has_own.then(ArrivalsName::default)),
            calls: Some(given.calls.unwrap_or_default()),
            response_sizes: given.response_sizes.as_ref().map(name),
            trace: given.trace.as_ref().map(|trace| file_name(trace, true)),
            ..given
        }
    }
}

/// The key of what cannot be, and what would be right.
fn wrong(error: &TrafficError) -> PlanError {
    let key = match error {
        TrafficError::Senders { .. } => "traffic.senders",
        TrafficError::Background => "traffic.background",
        TrafficError::Sigma => "traffic.sigma",
        TrafficError::Hosts { .. } => "traffic.trace",
    };
    PlanError::value(key, error.must_be())
}

/// Sizes of all messages, if they are of several distributions.
fn together(sizes: &Workload, demand: &Demand, hosts: u32, load: f64) -> Option<Workload> {
    let mut parts = vec![(sizes, 1.0)];
    if let Pattern::Incast(Incast { background: Some(background), .. }) = &demand.pattern {
        let rounds = load / sizes.mean_bytes();
        let own = f64::from(hosts) * background.load / background.sizes.mean_bytes();
        parts.push((&background.sizes, own / rounds));
    }
    if let Some(responses) = &demand.responses {
        parts.push((responses, parts.iter().map(|(_, weight)| weight).sum()));
    }
    let is_one = parts.len() == 1;
    let weighted = |(sizes, weight): (&'_ Workload, f64)| {
        sizes.shares().map(move |(length, share)| (length, share * weight)).collect::<Vec<_>>()
    };
    (!is_one).then(|| Workload::weighted(parts.into_iter().flat_map(weighted)))
}

/// Messages of the sizes that a key names.
fn messages(key: &str, name: &str, directory: &Path) -> Result<Messages, PlanError> {
    let messages = match name.strip_prefix(SIGCOMM18) {
        Some(paper) => Messages::published(paper).ok_or_else(|| {
            PlanError::value(key, "sigcomm18/w1 to sigcomm18/w5, w1 to w5, fixed:SIZE or a file")
        })?,
        None => {
            let sizes = if is_file(name) {
                Workload::exact_file(directory.join(name))
            } else {
                Workload::load(name)
            };
            let wrong = |error| PlanError::value(key, format!("sizes that can be: {error}"));
            Messages::of(sizes.map_err(wrong)?)
        }
    };
    match messages.sizes.quantile(1.0) <= MESSAGE_BYTES_MAX.into() {
        true => Ok(messages),
        false => Err(PlanError::value(key, format!("sizes of at most {MESSAGE_BYTES_MAX} bytes"))),
    }
}

/// Whether a name of sizes is that of a file.
fn is_file(name: &str) -> bool {
    !(name.starts_with(SIGCOMM18)
        || name.starts_with(homa_bench::workload::FIXED)
        || Workload::is_built_in(name))
}

/// The name without directories, if it is that of a file.
fn file_name(name: &str, is_file: bool) -> String {
    let last = Path::new(name).file_name().filter(|_| is_file);
    last.map_or(name.to_owned(), |last| last.to_string_lossy().into_owned())
}
