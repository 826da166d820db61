//! How long a server keeps a response before it asks whether the client has it. Acknowledgements mostly ride on the client's
//! next request, and a question with its answer costs two packets, so there is no hurry while little is kept.

use crate::config::Config;
use crate::engine::Engine;
use crate::engine::rpc::{NIL, Role, Rpc, State};
use crate::time::{Instant, nanos};

/// A response is asked about so many times at least before it is given up.
const QUESTIONS_MIN: u64 = 8;
/// From this share of what may be kept on, in 1/1000, the wait is the shortest.
const PRESSING_PERMILLE: u64 = 500;

impl Engine {
    /// Wait before the client is asked for an acknowledgement of a response that begins now, in ns: between
    /// [`Config::request_ack_interval_max`] when nothing is kept and [`Config::request_ack_interval`] when much is,
    /// or when the client was told to wait and so does not look for the response itself.
    pub(crate) fn first_ack_interval_ns(&self, rpc: &Rpc) -> u64 {
        let (min_ns, max_ns) = ack_intervals_ns(&self.config);
        if rpc.told_busy || self.in_hurry {
            return min_ns;
        }
        let rpcs = share_permille(self.serving as u64, u64::from(self.config.serving_max()));
        let bytes = share_permille(self.kept_bytes, self.config.kept_responses_bytes);
        let left = PRESSING_PERMILLE.saturating_sub(rpcs.max(bytes));
        let range_ns = max_ns.saturating_sub(min_ns);
        min_ns.saturating_add(range_ns.saturating_mul(left) / PRESSING_PERMILLE)
    }

    /// From now on acknowledgements are asked for as soon as when memory is short, those of responses that have been
    /// sent first: for a server that is about to stop and waits only for them.
    pub fn hurry_acknowledgements(&mut self, now: Instant) {
        self.tick(now);
        if core::mem::replace(&mut self.in_hurry, true) {
            return;
        }
        let (min_ns, _) = ack_intervals_ns(&self.config);
        for index in 0..u32::try_from(self.rpcs.capacity()).unwrap_or(NIL) {
            let Some(rpc) = self.rpcs.get_mut(index).filter(|rpc| rpc.role == Role::Server) else {
                continue;
            };
            if rpc.state == State::Outgoing {
                rpc.interval_ns = rpc.interval_ns.min(min_ns);
                self.arm(index, min_ns);
            }
        }
    }

    /// The client waits without asking from now on: it learns of a response that is lost by the server's question.
    pub(crate) fn hurry_acknowledgement(&mut self, index: u32) {
        let (min_ns, _) = ack_intervals_ns(&self.config);
        let Some(rpc) = self.rpcs.get_mut(index).filter(|rpc| rpc.role == Role::Server) else {
            return;
        };
        let first = !core::mem::replace(&mut rpc.told_busy, true);
        if first && rpc.state == State::Outgoing {
            rpc.interval_ns = rpc.interval_ns.min(min_ns);
            self.arm(index, min_ns);
        }
    }

    /// A response of `bytes` is kept from now on.
    pub(crate) fn keep_response(&mut self, bytes: u32) {
        self.kept_bytes = self.kept_bytes.saturating_add(u64::from(bytes));
    }

    /// The response of an RPC that ends is not kept any more.
    pub(crate) fn forget_response(&mut self, index: u32) {
        if let Some(rpc) = self.rpcs.get(index) {
            if rpc.role == Role::Server && rpc.state == State::Outgoing {
                self.kept_bytes = self.kept_bytes.saturating_sub(u64::from(rpc.tx.length));
            }
        }
    }
}

/// Shortest and longest wait, in ns.
fn ack_intervals_ns(config: &Config) -> (u64, u64) {
    let min_ns = nanos(config.request_ack_interval);
    let max_ns =
        nanos(config.request_ack_interval_max).min(nanos(config.response_silence) / QUESTIONS_MIN);
    (min_ns, max_ns.max(min_ns))
}

fn share_permille(part: u64, whole: u64) -> u64 {
    part.saturating_mul(1000).checked_div(whole).unwrap_or(u64::MAX)
}
