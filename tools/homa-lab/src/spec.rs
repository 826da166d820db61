//! What a lab is to be like.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{LabError, switch::LinkConditions};

/// The most hosts a lab can have.
pub const HOSTS_MAX: u32 = 250;

/// The highest rate of a link, Mbit/s.
pub const PORT_MBPS_MAX: u32 = 100_000;

/// What emulates the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Backend {
    /// Whatever serves the specification on this machine; [`crate::Lab::backend`] tells which one
    /// it became.
    #[default]
    Auto,
    /// Routes of the kernel with HTB on every port: rates and priorities, byte-limited FIFOs.
    Kernel,
    /// The switch of this crate: exact buffers, ECN, delay, faults, queue lengths over time.
    Switch,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Kernel => "kernel",
            Self::Switch => "switch",
        })
    }
}

/// What [`LabSpec::buffer_bytes`] limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum BufferPolicy {
    /// Each level of each port.
    #[default]
    Level,
    /// All levels of a port together.
    Port,
    /// All ports together, by a dynamic threshold: a level's queue may hold `shared_alpha` times
    /// what is free.
    Shared,
}

/// What a lab is to be like. Rates and lengths count Ethernet frames without preamble and check
/// sequence: IP packet + 14 bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LabSpec {
    /// Name in `homa lab status`; letters, digits, `-` and `_`.
    pub name: String,
    /// Number of hosts, 2 to [`HOSTS_MAX`].
    pub hosts: u32,
    /// Rate of every link in both directions, Mbit/s.
    pub port_mbps: u32,
    /// What emulates the switch.
    pub backend: Backend,
    /// The longest IP packet of the links, in bytes.
    pub mtu: u32,
    /// What the switch may hold before it drops, in bytes of frames.
    pub buffer_bytes: u64,
    /// What `buffer_bytes` limits. The kernel's switch knows only [`BufferPolicy::Level`].
    pub buffer: BufferPolicy,
    /// Factor of the dynamic threshold of [`BufferPolicy::Shared`].
    pub shared_alpha: f64,
    /// Marks ECN-capable packets that find more than this many bytes in their level's queue. Own
    /// switch only.
    pub ecn_bytes: Option<u64>,
    /// Number of different priorities, 1, 2, 4 or 8: neighbouring levels are joined.
    pub priorities: u32,
    /// What the links do to frames from the hosts. Own switch only.
    pub up: LinkConditions,
    /// What the links do to frames towards the hosts. Own switch only.
    pub down: LinkConditions,
    /// Seed of losses and other random decisions.
    pub seed: u64,
    /// Time between two samples of the queue lengths in microseconds; zero records none. Own switch
    /// only.
    pub trace_interval_us: u64,
    /// The most samples kept; older ones are overwritten. One sample is 80 bytes.
    pub trace_samples: usize,
    /// What a host's own interface may hold before it drops, in bytes of frames.
    pub uplink_buffer_bytes: u64,
}

impl Default for LabSpec {
    fn default() -> Self {
        Self {
            name: "lab".to_owned(),
            hosts: 6,
            port_mbps: 100,
            backend: Backend::Auto,
            mtu: 1500,
            buffer_bytes: 500_000,
            buffer: BufferPolicy::Level,
            shared_alpha: 1.0,
            ecn_bytes: None,
            priorities: 8,
            up: LinkConditions::default(),
            down: LinkConditions::default(),
            seed: 1,
            trace_interval_us: 0,
            trace_samples: 1_000_000,
            uplink_buffer_bytes: 1_500_000,
        }
    }
}

impl LabSpec {
    /// Checks every number on its own and those that must fit together.
    ///
    /// # Errors
    /// [`LabError::Spec`] names the first field that makes no sense.
    pub fn validate(&self) -> Result<(), LabError> {
        let named = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        check(
            !self.name.is_empty() && self.name.len() <= 40 && self.name.chars().all(named),
            "name",
            "1 to 40 letters, digits, `-` or `_`",
        )?;
        check((2..=HOSTS_MAX).contains(&self.hosts), "hosts", "2 to 250")?;
        check((1..=PORT_MBPS_MAX).contains(&self.port_mbps), "port_mbps", "1 to 100,000 Mbit/s")?;
        check((1280..=9000).contains(&self.mtu), "mtu", "1,280 to 9,000 bytes")?;
        let frame = u64::from(self.frame_bytes());
        for (key, bytes) in
            [("buffer_bytes", self.buffer_bytes), ("uplink_buffer_bytes", self.uplink_buffer_bytes)]
        {
            check(
                (2 * frame..=1_000_000_000).contains(&bytes),
                key,
                "at least two frames, at most 1,000,000,000 bytes",
            )?;
        }
        check([1, 2, 4, 8].contains(&self.priorities), "priorities", "1, 2, 4 or 8")?;
        check(
            self.shared_alpha > 0.0 && self.shared_alpha <= 1024.0,
            "shared_alpha",
            "above 0, at most 1,024",
        )?;
        check(self.trace_samples <= 10_000_000, "trace_samples", "at most 10,000,000")?;
        check(
            self.trace_interval_us <= 1_000_000_000,
            "trace_interval_us",
            "at most 1,000,000,000",
        )?;
        self.up.validate("up")?;
        self.down.validate("down")
    }

    /// The first field that only the own switch can give, if there is one.
    pub fn needs_switch(&self) -> Option<&'static str> {
        let wanted = [
            ("buffer", self.buffer != BufferPolicy::Level),
            ("ecn_bytes", self.ecn_bytes.is_some()),
            ("up", !self.up.is_clean()),
            ("down", !self.down.is_clean()),
            ("trace_interval_us", self.trace_interval_us > 0),
        ];
        wanted.iter().find(|(_, needed)| *needed).map(|(key, _)| *key)
    }

    /// The longest Ethernet frame, in bytes.
    pub fn frame_bytes(&self) -> u32 {
        self.mtu + 14
    }

    /// Rate of a link in bytes per second.
    pub fn port_bytes_per_s(&self) -> u64 {
        u64::from(self.port_mbps) * 125_000
    }
}

pub(crate) fn check(fine: bool, key: &'static str, allowed: &str) -> Result<(), LabError> {
    match fine {
        true => Ok(()),
        false => Err(LabError::Spec { key, reason: format!("must be {allowed}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_make_no_sense_are_refused_by_name() {
        assert!(LabSpec::default().validate().is_ok());
        type Spoil = fn(&mut LabSpec);
        let cases: [(&str, Spoil); 9] = [
            ("name", |s| s.name = "a b".into()),
            ("hosts", |s| s.hosts = 1),
            ("port_mbps", |s| s.port_mbps = 0),
            ("mtu", |s| s.mtu = 100),
            ("buffer_bytes", |s| s.buffer_bytes = 1500),
            ("uplink_buffer_bytes", |s| s.uplink_buffer_bytes = 0),
            ("priorities", |s| s.priorities = 3),
            ("shared_alpha", |s| s.shared_alpha = f64::NAN),
            ("down", |s| s.down.loss = 2.0),
        ];
        for (expected, spoil) in cases {
            let mut spec = LabSpec::default();
            spoil(&mut spec);
            assert!(matches!(spec.validate(), Err(LabError::Spec { key, .. }) if key == expected));
        }
    }
}
