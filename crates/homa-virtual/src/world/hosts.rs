//! Hosts that begin, take turns, and end.

use homa_core::{Engine, HostBudget, Instant, PortOptions, RpcInfo, RpcKey};
use homa_io::Shard;
use homa_io::driver::{Driver, RxStatus};
use homa_wire::RpcId;

use super::World;
use super::calendar::Happening;
use crate::app::{App, Handler};
use crate::dice::Dice;
use crate::driver::{Done, Packet};
use crate::host::driver_of;
use crate::ledger::CallEnd;
use crate::time::{engine_time, world_ns};

/// Bytes that one turn sends at most: its share, and one train more.
const TURN_BYTES_MAX: usize = (256 + 64) << 10;

impl World {
    pub(super) fn boot(&mut self, host: usize) {
        let seed = self.dice.roll();
        let now = engine_time(self.now_ns);
        let entry = &mut self.hosts[host];
        let plan = &entry.plan;
        let mut config = plan.config.clone();
        config.peers.discover &= !plan.returns_as_linux || entry.past.is_empty();
        let mut engine = Engine::new(config, HostBudget::local(), seed)
            .expect("a host's configuration is valid");
        let options = if plan.serves { PortOptions::SERVE } else { PortOptions::CLIENT };
        let options = match plan.stream_requests {
            true => options.with_streaming_requests(),
            false => options,
        };
        engine.bind_port(plan.address.port(), options).expect("a new engine has no ports");
        let driver = driver_of(plan, entry.refusals, seed ^ 1);
        // The first incarnation began long before the world did: nothing is on its way from
        // another.
        let born = if entry.past.is_empty() { Instant::ZERO } else { now };
        engine.handle_timeout(born, false);
        entry.app = App::new(plan.read_delay_ns, entry.past.len());
        entry.shard = Some(Shard::new(engine, driver));
        self.auditor.booted(host);
        self.wake(host, self.now_ns);
    }

    pub(super) fn stop(&mut self, host: usize) {
        let now_ns = self.now_ns;
        let entry = &mut self.hosts[host];
        let Some(shard) = entry.shard.take() else {
            return;
        };
        let within =
            |rpc: &RpcInfo| RpcId(rpc.id).is_server() && (1..rpc.tx_length).contains(&rpc.tx_sent);
        let interrupted = shard.engine().rpcs().any(|rpc| within(&rpc));
        self.rare.restarts_within_responses += u64::from(interrupted);
        entry.past.push(shard.stats());
        entry.rx_dropped_before += Driver::rx_dropped(shard.driver());
        let open: Vec<usize> = entry.app.open_calls().collect();
        for call in open {
            self.ledger.finish(call, CallEnd::HostGone, now_ns);
        }
    }

    pub(super) fn close_now(&mut self, host: usize) {
        let now = engine_time(self.now_ns);
        let entry = &mut self.hosts[host];
        if let Some(shard) = &mut entry.shard {
            let port = entry.plan.address.port();
            shard.view(now).engine_mut().close_port(now, port);
            self.wake(host, self.now_ns);
        }
    }

    pub(super) fn drain_now(&mut self, host: usize) {
        let now = engine_time(self.now_ns);
        let entry = &mut self.hosts[host];
        if let Some(shard) = &mut entry.shard {
            shard.view(now).drain_port(entry.plan.address.port());
        }
    }

    pub(super) fn wake(&mut self, host: usize, at_ns: u64) {
        let entry = &mut self.hosts[host];
        let at_ns = at_ns
            .max(entry.turned_ns + entry.plan.turn_gap_ns)
            .max(entry.paused_until_ns)
            .max(self.now_ns);
        if entry.wake_ns.is_none_or(|before| at_ns < before) {
            entry.wake_ns = Some(at_ns);
            self.schedule(at_ns, Happening::Wake(host));
        }
    }

    /// One turn of a host, and what follows from it.
    pub(super) fn turn(&mut self, host: usize) {
        let now = engine_time(self.now_ns);
        let entry = &mut self.hosts[host];
        entry.update_driver(self.now_ns);
        let Some(shard) = &mut entry.shard else {
            return;
        };
        if entry.paused_until_ns > self.now_ns {
            return self.wake(host, self.now_ns);
        }
        entry.turned_ns = self.now_ns;
        entry.turns += 1;
        if entry.plan.uplink_mbps.is_some() {
            shard.writable();
        }
        if self.expands {
            // Without the dice of the world, which must not notice.
            let turn = Dice::new(entry.turns).roll();
            let some = |rpc: RpcKey| turn.rotate_right(rpc.index) % 4 == 0;
            shard.engine_mut().expand_short_forms(|rpc| turn % 4 == 0 && some(rpc));
        }
        let mut handler = Handler {
            app: &mut entry.app,
            ledger: &mut self.ledger,
            addresses: &self.addresses,
            host,
        };
        let turn = shard.turn(now, &mut handler).expect("virtual drivers do not break");
        let done = shard.driver_mut().take_done();
        let sent = self.note(host, done);
        let sent_bytes: usize = sent.iter().map(|packet| packet.bytes.len()).sum();
        if sent_bytes > TURN_BYTES_MAX {
            self.ledger.violation(format!("{sent_bytes} B sent by host {host} in one turn"));
        }
        let more = turn.rx == RxStatus::More;
        let next_ns = if more { Some(self.now_ns) } else { turn.next.map(world_ns) };
        self.after(host, sent);
        if let Some(next_ns) = next_ns.filter(|next| *next < u64::MAX) {
            self.wake(host, next_ns);
        }
    }

    /// Puts what attached hosts sent on the network, and tells them the time.
    pub(super) fn attend(&mut self) {
        for host in 0..self.hosts.len() {
            let Some(attached) = &self.hosts[host].attached else {
                continue;
            };
            let done = attached.lock().take_done();
            let sent = self.note(host, done);
            self.after(host, sent);
            self.hosts[host].update_driver(self.now_ns);
        }
    }

    /// Notes what a driver refused and complains of, and returns what it sent.
    pub(super) fn note(&mut self, host: usize, done: Done) -> Vec<Packet> {
        if done.refused {
            self.auditor.refused(host);
        }
        for what in done.violations {
            self.ledger.violation(format!("{} ns: driver of host {host}: {what}", self.now_ns));
        }
        done.sent
    }

    /// Puts what a host sent on the network and its plans into the calendar.
    pub(super) fn after(&mut self, host: usize, sent: Vec<Packet>) {
        for packet in sent {
            self.send(host, packet);
        }
        let life = self.hosts[host].app.life;
        for (at_ns, task) in std::mem::take(&mut self.hosts[host].app.later) {
            self.schedule(at_ns, Happening::Perform { host, life, task });
        }
    }
}
