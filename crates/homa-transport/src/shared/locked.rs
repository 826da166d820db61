//! A shard behind its lock, with its driver and its clock.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::Ordering;

use homa_core::{Instant, Urgency};
use homa_io::Shard;
use homa_io::driver::{Driver, RxStatus};
use homa_io::shard::Turn;

use super::context::Context;
use super::core::{Core, Serve};
use super::ops::{self, Operation};
use super::registry::Registry;
use super::rooms::Rooms;
use super::wakes::Wakes;
use crate::clock::Clock;
use crate::drive::seat::{Due, Kick, NEVER_NS};
use crate::drive::sync::{Mutex, lock};
use crate::drive::wait::Turned;
use crate::{CallErrorKind, ClientStats, Stats};

/// The turn of a shard whose socket is gone: nothing is left to do.
const LAST_TURN: Turn = Turn {
    work: false,
    rx: RxStatus::Drained,
    next: None,
    reason: None,
    wait_writable: false,
    urgency: Urgency::Quiescent,
};

/// A shard on driver `D` that goes by clock `C`.
#[derive(Debug)]
pub(crate) struct LockedShard<D, C> {
    state: Mutex<State<D>>,
    clock: C,
}

/// State behind the lock.
#[derive(Debug)]
struct State<D> {
    shard: Shard<D>,
    registry: Registry,
    operations: VecDeque<Operation>,
}

impl<D, C> LockedShard<D, C> {
    pub(crate) fn new(shard: Shard<D>, clock: C) -> Self {
        let (registry, operations) = (Registry::default(), VecDeque::new());
        Self { state: Mutex::new(State { shard, registry, operations }), clock }
    }
}

impl<D: Driver + std::fmt::Debug + Send, C: Clock> Serve for LockedShard<D, C> {
    fn serve(&self, core: &Core, looks: u32, first: Option<Operation>) -> Turned {
        let mut wakes = Wakes::default();
        let mut state = lock(&self.state);
        let now_ns = self.clock.now_ns();
        let now = Instant::from_nanos(now_ns);
        let State { shard, registry, operations } = &mut *state;
        let mut context =
            Context { registry, wakes: &mut wakes, rooms: &core.rooms, facts: &core.facts };
        if let Some(operation) = first {
            ops::execute(operation, &mut shard.view(now), &mut context);
        } else {
            core.later_since_ns.store(0, Ordering::Relaxed);
            core.inbox.take(operations);
            while let Some(operation) = operations.pop_front() {
                ops::execute(operation, &mut shard.view(now), &mut context);
            }
        }
        if core.rooms.requests.look_at_ns() <= now_ns {
            context.refuse_overdue(&mut shard.view(now));
        }
        if context.registry.single.look_at_ns() <= now_ns {
            context.refuse_lone(&mut shard.view(now));
        }
        let mut turn = match looks {
            0 => Ok(shard.push(now, &mut context)),
            _ => look(core, looks, now, shard, &mut context),
        };
        context.hand_back();
        let closes = turn.is_ok() && close_if_due(core, now, shard);
        if closes {
            turn = Ok(shard.push(now, &mut context));
        }
        let turn = turn.unwrap_or_else(|error| {
            core.socket_failed(&error, context.wakes);
            context.fail_all(&CallErrorKind::Socket((&error).into()).into());
            LAST_TURN
        });
        context.hand_back();
        context.registry.sets.hand_over(&core.rooms.calls, context.wakes);
        let room_ns = core.rooms.expire(now_ns, &mut wakes);
        let next_ns = turn.next.map_or(NEVER_NS, Instant::as_nanos);
        let urgent = turn.urgency == Urgency::Active;
        let closing_ns = core.life.closing_until_ns().unwrap_or(NEVER_NS);
        let lone_ns = registry.single.look_at_ns();
        let deadline_ns = next_ns.min(room_ns).min(closing_ns).min(lone_ns);
        let kicked = core.seat.turned(Due { deadline_ns, urgent });
        drop(state);
        if closes {
            core.closed(&mut wakes);
        }
        if let Some(kicked) = kicked {
            kicked.kick();
        }
        let woke = wakes.len();
        wakes.wake();
        let more = next_ns <= now_ns || (looks > 0 && turn.rx == RxStatus::More);
        Turned { received: turn.work, woke, more }
    }

    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    fn stats(&self, rooms: &Rooms) -> Stats {
        let state = lock(&self.state);
        let driver = state.shard.driver();
        let capacity = driver.rx_capacity();
        let (calls, call_bytes) = rooms.calls.used();
        Stats {
            engine: state.shard.stats(),
            outstanding_calls: calls as u64,
            outstanding_bytes: call_bytes,
            unacknowledged_response_bytes: rooms.responses.used().1,
            requests_waiting: rooms.requests.len_with_aside() as u64,
            requests_overdue: rooms.requests.overdue(),
            requests_in_service: rooms.service.requests() as u64,
            dropped_by_system: driver.rx_dropped(),
            receive_capacity_bytes: capacity.bytes,
            receive_capacity_packets: capacity.packets,
        }
    }

    fn clients(&self, rooms: &Rooms) -> Vec<ClientStats> {
        let mut clients = BTreeMap::new();
        for rpc in lock(&self.state).shard.engine().rpcs().filter(|rpc| !rpc.is_client()) {
            let address = rpc.path.remote;
            let of = clients.entry(address).or_insert_with(|| ClientStats::new(address));
            if rpc.tx_length == 0 {
                of.requests += 1;
                of.request_bytes += u64::from(rpc.rx_received);
            } else {
                of.responses += 1;
                of.response_bytes += u64::from(rpc.tx_length);
            }
        }
        let with_waiting = |(client, of)| ClientStats {
            requests_waiting: rooms.requests.waiting_of(client) as u64,
            ..of
        };
        clients.into_iter().map(with_waiting).collect()
    }
}

/// Turns up to `looks` times, as long as there is nothing but packets to look for.
fn look<D: Driver>(
    core: &Core,
    looks: u32,
    now: Instant,
    shard: &mut Shard<D>,
    context: &mut Context<'_>,
) -> io::Result<Turn> {
    let mut turn = shard.turn(now, context)?;
    for _ in 1..looks {
        if turn.work || turn.rx == RxStatus::More || !core.inbox.is_idle() {
            break;
        }
        turn = shard.turn(now, context)?;
    }
    Ok(turn)
}

/// Closes the port when all accepted requests are answered and their responses through, or have had
/// their time. Clients that were refused may not have heard it: those have time to ask again.
fn close_if_due<D: Driver>(core: &Core, now: Instant, shard: &mut Shard<D>) -> bool {
    let Some(until_ns) = core.life.closing_until_ns() else { return false };
    let now_ns = now.as_nanos();
    if now_ns < until_ns {
        let is_idle = core.rooms.is_idle() && shard.engine().live_requests() == 0;
        let has_refused = || shard.engine().stats().dropped_draining > 0;
        if !is_idle || (has_refused() && !core.life.has_lingered(now_ns, core.facts.refusals_ns)) {
            shard.engine_mut().flush_acknowledgements(now);
            return false;
        }
    }
    shard.engine_mut().close_port(now, core.facts.address.port());
    true
}
