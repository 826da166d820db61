//! The ledger: outcome of all calls.

use homa_core::{FailReason, RpcKey, SendError};

use crate::plan::CallPlan;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallEnd {
    /// The response came and had the right bytes.
    Answered,
    /// The engine reported an error.
    Failed(FailReason),
    /// The engine did not accept it.
    NotSent(SendError),
    /// The plan aborted it.
    Aborted,
    /// The client's host restarted or closed.
    HostGone,
}

/// One call and what happened to it.
#[derive(Clone, Debug)]
pub struct Call {
    /// The plan of the call.
    pub plan: CallPlan,
    /// Its key at the client while it is under way.
    pub rpc: Option<RpcKey>,
    /// How it ended.
    pub end: Option<CallEnd>,
    /// When it ended, in ns.
    pub ended_ns: u64,
    /// When the first byte of the response could be read, in ns; 0 = never.
    pub first_byte_ns: u64,
    /// How often its handler ran, for each incarnation of the server.
    pub executions: Vec<u32>,
}

/// All calls, and every broken promise.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// By number.
    pub calls: Vec<Call>,
    /// Violations: wrong bytes, events against the contract.
    pub violations: Vec<String>,
    /// Requests executed for an address that is not the call's client (forged packets).
    pub forged_executions: u64,
    /// Requests may come from a host of the world that did not make them.
    pub forgeries_expected: bool,
    /// Calls not ended yet.
    pub open: usize,
}

/// More violations are not recorded: the first ones tell the story.
const VIOLATIONS_MAX: usize = 20;

impl Ledger {
    /// How a call ended; panics if there is none of this number.
    pub fn end(&self, call: usize) -> Option<CallEnd> {
        self.calls[call].end
    }

    /// Calls that were answered.
    pub fn answered(&self) -> usize {
        let answered = |call: &&Call| call.end == Some(CallEnd::Answered);
        self.calls.iter().filter(answered).count()
    }

    /// Calls whose handler ran more than once within one incarnation of the server.
    pub fn executed_twice(&self) -> Vec<usize> {
        let twice = |call: &Call| call.executions.iter().any(|count| *count > 1);
        (0..self.calls.len()).filter(|index| twice(&self.calls[*index])).collect()
    }

    /// Calls of which their client and their server cannot both be right: answered but never
    /// executed, or executed although the client was told that it was not.
    pub fn contradictions(&self) -> Vec<String> {
        let contradicts = |call: &&Call| {
            let executed = call.executions.iter().any(|count| *count > 0);
            match call.end {
                Some(CallEnd::Answered) => !executed,
                Some(CallEnd::NotSent(_)) => executed,
                Some(CallEnd::Failed(FailReason::DeadlineExceeded { sent: false })) => executed,
                _ => false,
            }
        };
        let wrong = self.calls.iter().filter(contradicts);
        wrong.map(|call| format!("its ends do not agree: {call:?}")).collect()
    }

    pub(crate) fn add(&mut self, plan: CallPlan) -> usize {
        self.open += 1;
        self.calls.push(Call {
            plan,
            rpc: None,
            end: None,
            ended_ns: 0,
            first_byte_ns: 0,
            executions: Vec::new(),
        });
        self.calls.len() - 1
    }

    pub(crate) fn finish(&mut self, call: usize, end: CallEnd, now_ns: u64) {
        let Some(entry) = self.calls.get_mut(call) else {
            return self.violation(format!("call {call}, which nobody made, ended: {end:?}"));
        };
        match entry.end {
            None => {
                entry.end = Some(end);
                entry.ended_ns = now_ns;
                entry.rpc = None;
                self.open -= 1;
            }
            Some(before) => {
                self.violation(format!("call {call} ended twice: {before:?}, then {end:?}"));
            }
        }
    }

    pub(crate) fn executed(&mut self, call: usize, life: usize) {
        let Some(entry) = self.calls.get_mut(call) else {
            return;
        };
        if entry.executions.len() <= life {
            entry.executions.resize(life + 1, 0);
        }
        entry.executions[life] += 1;
    }

    pub(crate) fn violation(&mut self, what: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(what);
        }
    }
}
