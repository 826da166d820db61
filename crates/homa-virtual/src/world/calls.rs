//! Calls that begin, and what applications put off.

use std::time::Duration;

use homa_core::{Path, RequestOptions};

use super::World;
use super::calendar::Happening;
use crate::app::{Handler, Task, begun, request_body};
use crate::ledger::CallEnd;
use crate::pattern::Pattern;
use crate::time::engine_time;

/// A supplied request gets its next piece after this time.
const SUPPLY_GAP_NS: u64 = 10_000;

impl World {
    pub(super) fn start(&mut self, call: usize) {
        let plan = self.ledger.calls[call].plan;
        let entry = &mut self.hosts[plan.client];
        if entry.paused_until_ns > self.now_ns {
            let later = entry.paused_until_ns;
            return self.schedule(later, Happening::Start(call));
        }
        let Some(shard) = &mut entry.shard else {
            return self.ledger.finish(call, CallEnd::HostGone, self.now_ns);
        };
        let now = engine_time(self.now_ns);
        let path = Path {
            remote: self.addresses[plan.server],
            local_ip: None,
            local_port: entry.plan.address.port(),
            interface: 0,
            carriage: entry.plan.carriage,
        };
        let options = RequestOptions {
            deadline: plan.deadline_ns.map(|after| now + Duration::from_nanos(after)),
            streaming_response: plan.read_as_stream,
            framed: plan.framed,
            open: plan.open.is_some(),
            ..RequestOptions::default()
        };
        let mut view = shard.view(now);
        let pattern = Pattern::request(call as u32, plan.request_bytes);
        let begin = begun(pattern, &plan, call);
        let result = match plan.request_piece_bytes {
            _ if plan.open.is_some() => {
                let body = pattern.range(0, begin).into_iter().collect();
                view.send_request(path, body, call as u64, options)
            }
            None => view.send_request(path, request_body(call, &plan), call as u64, options),
            Some(_) => view.send_request_streaming(path, plan.request_bytes, call as u64, options),
        };
        let rpc = match result {
            Ok(rpc) => rpc,
            Err(error) => {
                return self.ledger.finish(call, CallEnd::NotSent(error), self.now_ns);
            }
        };
        let length = if plan.open.is_some() { begin + 1 } else { plan.request_bytes };
        entry.app.watch_call(rpc, call, length);
        if plan.open.is_some() {
            let write = Task::Write { rpc, call, pattern, from: begin };
            entry.app.later.push((self.now_ns, write));
        } else if let Some(piece_bytes) = plan.request_piece_bytes {
            let supply = Task::Supply { rpc, pattern, from: 0, piece_bytes, gap_ns: SUPPLY_GAP_NS };
            entry.app.later.push((self.now_ns, supply));
        }
        if let Some(after_ns) = plan.abort_after_ns {
            entry.app.later.push((self.now_ns + after_ns, Task::Abort { call }));
        }
        self.ledger.calls[call].rpc = Some(rpc);
        self.after(plan.client, Vec::new());
        self.wake(plan.client, self.now_ns);
    }

    pub(super) fn perform(&mut self, host: usize, life: usize, task: Task) {
        let entry = &mut self.hosts[host];
        let Some(shard) = entry.shard.as_mut().filter(|_| entry.app.life == life) else {
            return;
        };
        if entry.paused_until_ns > self.now_ns {
            let later = entry.paused_until_ns;
            return self.schedule(later, Happening::Perform { host, life, task });
        }
        if let Task::Abort { call } = task {
            let rpc = self.ledger.calls.get(call).and_then(|call| call.rpc);
            if let Some(rpc) = shard.engine().rpcs().find(|info| Some(info.rpc) == rpc) {
                let waits = rpc.tx_sent < rpc.tx_granted;
                self.rare.waiting_calls_aborted += u64::from(waits);
                self.rare.arriving_calls_aborted += u64::from(rpc.rx_received > 0);
            }
        }
        let mut handler = Handler {
            app: &mut entry.app,
            ledger: &mut self.ledger,
            addresses: &self.addresses,
            host,
        };
        handler.perform(task, &mut shard.view(engine_time(self.now_ns)));
        self.after(host, Vec::new());
        self.wake(host, self.now_ns);
    }
}
