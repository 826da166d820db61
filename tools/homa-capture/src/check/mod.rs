//! The checker: what in a packet no correct peer would send, alone or after what was recorded
//! before.

mod format;
mod kind;
mod state;

use std::net::IpAddr;

use foldhash::HashMap;
use homa_wire::{Body, CUTOFF_LEVELS};

use crate::decode::{BadPacket, BadReason, Frame};
use crate::follow::{Follow, Rpc};

pub use kind::{Check, Finding, Severity};

/// Tables of cutoffs remembered at most; beyond, all are forgotten.
const CUTOFFS_MAX: usize = 16_384;

/// Who gave a table of cutoffs to whom, and its version.
type CutoffsKey = (IpAddr, IpAddr, u16);

/// Checks packets one by one, in the order of the recording.
#[derive(Debug, Default)]
pub struct Checker {
    /// `None`: two different tables under one version, as several programs on a host may have.
    cutoffs: HashMap<CutoffsKey, Option<[u32; CUTOFF_LEVELS]>>,
}

impl Checker {
    /// A checker that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Checks a packet, to be called before [`Follow::update`]. `rpc` is the one it belongs to.
    pub fn check(
        &mut self,
        frame: &Frame<'_>,
        rpc: Option<&Rpc>,
        follow: &Follow,
        findings: &mut Vec<Finding>,
    ) {
        format::check(frame, findings);
        if !frame.header_whole {
            return;
        }
        if let Some(rpc) = rpc {
            state::check(frame, rpc, follow, findings);
        }
        self.check_level(frame, findings);
        self.learn_cutoffs(frame);
    }

    /// The finding about bytes that are no packet; `None` if the recorder is to blame.
    pub fn check_bad(&self, bad: &BadPacket) -> Option<Finding> {
        let (check, detail) = match bad.reason {
            BadReason::TooShort { need, got } => {
                (Check::TooShort, format!("{got} of {need} bytes"))
            }
            BadReason::UnknownType(code) => (Check::UnknownType, format!("type {code:#04x}")),
            BadReason::LengthLies { announced, got } => {
                (Check::LengthLies, format!("{announced} bytes announced, {got} there"))
            }
            BadReason::Fragment(fragment) => {
                (Check::Fragment, format!("piece from byte {}", fragment.offset_bytes))
            }
            BadReason::Cut => return None,
        };
        Some(Finding::new(check, detail))
    }

    fn learn_cutoffs(&mut self, frame: &Frame<'_>) {
        let Body::Cutoffs(cutoffs) = &frame.header.body else {
            return;
        };
        if self.cutoffs.len() >= CUTOFFS_MAX {
            self.cutoffs.clear();
        }
        let key = (frame.source, frame.destination, cutoffs.version);
        let known = self.cutoffs.entry(key).or_insert(Some(cutoffs.levels));
        if *known != Some(cutoffs.levels) {
            *known = None;
        }
    }

    /// Unscheduled data uses the level that the receiver ordered (docs/spec/protocol.md §5).
    fn check_level(&self, frame: &Frame<'_>, findings: &mut Vec<Finding>) {
        let Body::Data(data) = &frame.header.body else {
            return;
        };
        let offset = data.offset(frame.header.common.sequence);
        // Level 0 everywhere: the sender marks nothing.
        if data.is_retransmission(&frame.header.common) || offset >= data.incoming || frame.tos == 0
        {
            return;
        }
        let key = (frame.destination, frame.source, data.cutoff_version);
        let Some(Some(levels)) = self.cutoffs.get(&key) else {
            return;
        };
        let expected = level_of(levels, data.message_length);
        if frame.level() != expected {
            let detail = format!(
                "level {} instead of {expected} for {} bytes",
                frame.level(),
                data.message_length
            );
            findings.push(Finding::new(Check::WrongLevel, detail));
        }
    }
}

/// The highest level whose cutoff admits the length; entry 0 admits all.
fn level_of(levels: &[u32; CUTOFF_LEVELS], length: u32) -> u8 {
    levels.iter().rposition(|longest| *longest >= length).unwrap_or(0) as u8
}
